package server

import (
	"crypto/rand"
	"net/http"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// TestRevokeAll: what people run silences all sources of a device at both
// sites, and has the word of each.
func TestRevokeAll(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	b.satellite("device-4")
	p := b.pulse()
	eventually(t, "all beats", func() bool { return p.count("source-1") > 0 && p.count("source-2") > 0 && p.count("device-4") > 0 })
	out, err := client.Revoke(t.Context(), rand.Reader, b.sys.State, nil, b.sys.Persons["officer-1b"].Card().Sign, "device-1", nil, "stolen", b.unix())
	if err != nil || len(out) != 3 {
		t.Fatalf("%+v %v", out, err)
	}
	for _, r := range out {
		if !r.Confirmed {
			t.Errorf("%s: %v", r.Source, r.Err)
		}
	}
	eventually(t, "refusals of all", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.refused) == 3 })
}

// TestRevokeRefused: what is no revocation, for somebody else, or by nobody, is
// not brought to a source; a source without a link, and one that does not
// confirm, are named.
func TestRevokeRefused(t *testing.T) {
	b := newBeatRig(t)
	var out api.SourceSent
	refused(t, "before the ceremony", b.sendSource("server-1", "source-1", []byte("x"), &out), http.StatusConflict, "no system yet")
	b.commission()
	b.waitStatus()
	reply := b.keys["source-3"].Agree.PublicKey().Bytes()
	revocation := func(source, person string) []byte {
		frame, _, err := heartbeat.SealRevoke(rand.Reader, b.sys.Persons[person].Card().Sign, b.sys.State, &heartbeat.Revoke{
			Device: "device-1", Source: source, Reply: reply, Created: b.unix(), Expires: b.unix() + 60,
		})
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	for what, x := range map[string]struct {
		source string
		frame  []byte
		word   string
	}{
		"to nobody":        {"nobody", revocation("source-1", "officer-1a"), "neither a source nor a device"},
		"to another":       {"source-2", revocation("source-1", "officer-1a"), "not sealed to source-2"},
		"another type":     {"device-1", b.report("device-1", firmware.Status{}), `"status" is not brought to sources`},
		"without a header": {"source-1", []byte("nonsense"), ""},
		"too large":        {"source-1", make([]byte, maxBeat+1), errSize.reason},
	} {
		refused(t, what, b.sendSource("server-2", x.source, x.frame, &out), http.StatusForbidden, x.word)
	}
	time.Sleep(linkGrace) // servers give a source that long after their start
	refused(t, "without a link", b.revoke("server-1", "source-1", "officer-1a"), http.StatusConflict, "source source-1 has no link")
	refused(t, "without a link elsewhere", b.revoke("server-2", "source-1", "officer-1a"), http.StatusConflict, "source source-1 has no link")

	// One that is deaf, and one that may not be silenced by just anybody.
	s := b.source("source-1")
	eventually(t, "the system", func() bool { systems, _ := s.told(); return systems == 1 })
	s.mu.Lock()
	frame := revocation("source-1", "officer-1a")
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- b.sendSource("server-1", "source-1", frame, &api.SourceSent{}) }()
	}
	refused(t, "twice at once", <-errs, http.StatusConflict, "on its way already")
	s.mu.Unlock()
	if err := <-errs; err != nil {
		t.Error(err)
	}
	if err := b.revoke("server-1", "source-1", "officer-1a"); err != nil {
		t.Error(err)
	}
	if n := len(b.servers["server-1"].beats.asked); n != 0 {
		t.Errorf("%d revocations are still waited for", n)
	}
}
