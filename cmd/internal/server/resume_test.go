package server

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestResumeMany: a server that was down has every request again, and sets aside
// those that cannot be read.
func TestResumeMany(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	const many = 24
	var all []envelope.Hash
	for range many {
		all = append(all, r.request("server-1", coordtest.FileRequest(t, r.sys, "set", r.unix(), 3600)))
	}
	r.servers["server-1"].Close()
	file := func(i int, suffix string) string {
		return filepath.Join(r.dirs["server-1"], dirRequests, hex.EncodeToString(all[i][:])+suffix)
	}
	for i, x := range map[int]string{3: suffixRequest, 7: suffixState, 11: suffixState} {
		if err := os.WriteFile(file(i, x), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file(5, suffixState)); err != nil { // a crash between the two files
		t.Fatal(err)
	}
	r.start("server-1")
	s := r.servers["server-1"]
	if n := len(s.everyRequest()); n != many-3 {
		t.Errorf("%d of %d requests are here", n, many-3)
	}
	for i, digest := range all {
		_, bad := os.Stat(file(i, suffixRequest+".bad"))
		if damaged := i == 3 || i == 7 || i == 11; damaged != (bad == nil) || damaged != (s.find(digest) == nil) {
			t.Errorf("request %d: set aside: %v, here: %v", i, bad == nil, s.find(digest) != nil)
		}
	}
	if out := r.tracking("server-1", all[0], 0, time.Second); out == nil || out.State != api.StateOpen {
		t.Errorf("%+v", out)
	}
	// That one cannot be set aside is no reason to forget it.
	s.Close()
	if err := os.WriteFile(file(2, suffixRequest), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file(2, suffixRequest+".bad"), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(r.dirs["server-1"], Options{Now: r.clock}); err == nil {
		s.Close()
		t.Error("it starts with a request that is neither here nor set aside")
	}
}
