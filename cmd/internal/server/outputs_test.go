package server

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// newOutputRig is an authority rig of which one site is an independent output
// interface of enterprise 7.
func newOutputRig(t *testing.T, site string) (*rig, *ledgertest.Authority) {
	t.Helper()
	r := newRig(t)
	r.servers[site].Close()
	path := filepath.Join(r.dirs[site], fileConfig)
	cfg, err := LoadConfig(r.dirs[site])
	if err != nil {
		t.Fatal(err)
	}
	cfg.Outputs = []uint64{7}
	if err := writeJSON(path, cfg); err != nil {
		t.Fatal(err)
	}
	r.start(site)
	a := r.sys.Authority(t, ledgertest.SmallPlan(7))
	for _, h := range a.Dealing.Key.Holders {
		r.devices[h.Device].Join(a)
	}
	r.commission()
	r.waitStatus()
	r.told(a.Entry)
	return r, a
}

// issued asks the output interface until it has what it should.
func (r *rig) issued(site string, request envelope.Hash, so func(api.Issued) bool) api.Issued {
	r.t.Helper()
	body, err := envelope.Marshal(api.IssuedAsk{Request: request})
	if err != nil {
		r.t.Fatal(err)
	}
	var last error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var x api.Issued
		if last = r.send(site, api.PathIssued, body, &x); last == nil && so(x) {
			return x
		}
	}
	r.t.Fatalf("never: %v", last)
	return api.Issued{}
}

func (r *rig) verified(a *ledgertest.Authority, x api.Issued, n int) {
	r.t.Helper()
	root, err := x509.ParseCertificate(a.Dealing.Key.Certificate)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(x.Documents) != n {
		r.t.Fatalf("%d documents", len(x.Documents))
	}
	for _, der := range x.Documents {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			err = cert.CheckSignatureFrom(root)
		}
		if err != nil {
			r.t.Error(err)
		}
	}
}

// TestIndependentOutput: an output interface at another site than the
// distributor's keeps what combiners made, batches too, and names who lied; it
// hands out what is durable, also after a restart, and asks for what it missed.
func TestIndependentOutput(t *testing.T) {
	r, a := newOutputRig(t, "server-1")
	one := r.request("server-2", coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
	body, err := envelope.Marshal(api.IssuedAsk{Request: one})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "before it is signed", r.send("server-1", api.PathIssued, body, &api.Issued{}), http.StatusNotFound, "saw nothing signed")
	refused(t, "of another server", r.send("server-2", api.PathIssued, body, &api.Issued{}), http.StatusNotFound, "no independent output interface")
	refused(t, "nonsense", r.send("server-1", api.PathIssued, []byte("nonsense"), &api.Issued{}), http.StatusBadRequest, "")
	out := r.work("server-2", one, nil)
	x := r.issued("server-1", one, func(x api.Issued) bool { return x.Done != 0 })
	r.verified(a, x, 1)
	if x.Server != "server-1" || x.Enterprise != 7 || x.Distributor != 2 || x.Task != out.Task || x.Silent != 0 || len(x.Combiners) == 0 || !bytes.Equal(x.Documents[0], out.Documents[0]) {
		t.Errorf("%+v", x)
	}

	// A combiner that lies in one document of a batch.
	r.devices["device-4"].SetFaultIn(coordtest.Forger, 2)
	r.devices["device-5"].SetFault(coordtest.Silent) // or it may be first
	many := r.request("server-2", coordtest.BatchRequest(t, r.sys, a, 3, threshold.RS256, r.unix(), 3600))
	r.approveUntil("the combiner is named", func() bool {
		for _, al := range r.servers["server-1"].alarms.all() {
			if al.Device == "device-4" && strings.Contains(al.Text, "output interface: combiner 1 (device-4) of enterprise 7 sent a signature that does not verify") {
				return true
			}
		}
		return false
	})
	r.devices["device-4"].SetFault(coordtest.Good)
	r.devices["device-5"].SetFault(coordtest.Good)
	r.mu.Lock()
	r.conns["device-5"].Close()
	r.mu.Unlock()
	r.work("server-2", many, nil)
	if x := r.issued("server-1", many, func(api.Issued) bool { return true }); !slices.Equal(x.Combiners, []string{"device-5"}) || !slices.Equal(x.Wrong, []string{"device-4"}) {
		t.Errorf("combined by %v, wrong %v", x.Combiners, x.Wrong)
	} else {
		r.verified(a, x, 3)
	}

	// What cannot be kept is not given out; after a crash it is asked for anew.
	full := errors.New("no space left on device")
	x2 := r.servers["server-1"].outputs
	x2.disk.Lock()
	x2.write = func(string, []byte) error { return full }
	x2.disk.Unlock()
	lost := r.request("server-2", coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
	r.work("server-2", lost, nil)
	r.approveUntil("the full disk is told of", func() bool { return r.alarmed("", "cannot be kept", full.Error()) })
	if body, err = envelope.Marshal(api.IssuedAsk{Request: lost}); err != nil {
		t.Fatal(err)
	}
	refused(t, "what is not durable", r.send("server-1", api.PathIssued, body, &api.Issued{}), http.StatusNotFound, "")
	r.servers["server-1"].Close()
	r.start("server-1")
	r.verified(a, r.issued("server-1", one, func(api.Issued) bool { return true }), 1)
	r.verified(a, r.issued("server-1", lost, func(api.Issued) bool { return true }), 1)

	// A damaged file is said, not passed over; a stray temporary one is nothing.
	s := r.servers["server-1"]
	s.Close()
	if err := os.WriteFile(filepath.Join(s.dir, dirIssued, ".stray.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.issuedFile(one), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(s.dir, Options{Now: r.clock}); err == nil || !strings.Contains(err.Error(), one.String()) {
		if s != nil {
			s.Close()
		}
		t.Errorf("%v", err)
	}
}

// TestDistributorCannotKeepASecret: a distributor that gives its task to others
// than the output interface, and says nothing to it when it is signed, cannot keep
// the certificate to himself.
func TestDistributorCannotKeepASecret(t *testing.T) {
	for _, x := range []struct{ output, distributor string }{{"server-2", "server-1"}, {"server-1", "server-2"}} {
		t.Run("output interface at "+x.output, func(t *testing.T) {
			r, a := newOutputRig(t, x.output)
			s := r.servers[x.output]
			// His packets reach the machines at all sites, and not the output interface.
			deaf := func(to func(p tolerant.Packet) bool) {
				s.outputs.mu.Lock()
				defer s.outputs.mu.Unlock()
				s.outputs.deaf = to
			}
			deaf(func(p tolerant.Packet) bool { return p.Channel() == tolerant.B1 })
			digest := r.request(x.distributor, coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
			if out := r.work(x.distributor, digest, nil); out.State != api.StateDone {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			got := r.issued(x.output, digest, func(api.Issued) bool { return true })
			r.verified(a, got, 1)
			if got.Done != 0 || len(got.Combiners) == 0 {
				t.Errorf("%+v", got)
			}
			// Nor if nothing of B3 came either: a survey finds it.
			deaf(func(tolerant.Packet) bool { return true })
			digest = r.request(x.distributor, coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
			if out := r.work(x.distributor, digest, nil); out.State != api.StateDone {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			for _, row := range r.sys.State.Servers() {
				if !s.surveySite(row) {
					t.Errorf("%s does not answer", row.ID)
				}
			}
			r.verified(a, r.issued(x.output, digest, func(api.Issued) bool { return true }), 1)
		})
	}
}

// TestOutputsConfig: codes that cannot be are refused by name.
func TestOutputsConfig(t *testing.T) {
	good := Config{ID: "s", Name: "S", HTTPS: "h:1", Links: []string{"unix:/x"}}
	for want, outputs := range map[string][]uint64{
		"":        {1, 999_999},
		"code 0":  {0},
		"code 7":  {7, 8, 7},
		"1000000": {1_000_000},
		"at most": slices.Repeat([]uint64{1}, 33),
	} {
		c := good
		c.Outputs = outputs
		err := c.validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v", outputs, err)
		}
	}
	raw, err := json.Marshal(good)
	if err != nil || strings.Contains(string(raw), "outputs") {
		t.Errorf("%s, %v", raw, err)
	}
}
