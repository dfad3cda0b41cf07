package client_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// guarded makes device-1 live on two sources and on device-2.
func guarded(t *testing.T) ledgertest.Option {
	return func(g *ledger.Genesis) {
		ids := []string{"source-1", "source-2"}
		for i, id := range ids {
			k := ledgertest.NewPair(t, id)
			g.Sources = append(g.Sources, ledger.Source{
				ID: id, Name: "Room", Kind: ledger.SourceSatellite, Server: g.Servers[i+2].ID, Sign: ledgertest.SPKI(t, k.Sign.Public()),
				Agree: ledgertest.SPKI(t, k.Agree.Public()), Operators: []string{ledgertest.Requester},
			})
		}
		g.Devices[0].Heartbeat = &ledger.Heartbeat{Sources: append(ids, "device-2"), Needed: 2, Period: 1000, Lease: 5000}
		g.Devices[0].Instance = [16]byte{1}
	}
}

func (w *world) revoke(person, device string, sources ...string) []client.Revocation {
	w.t.Helper()
	out, err := client.Revoke(w.t.Context(), rand.Reader, w.State, w.dial(""), w.Persons[person].Card().Sign, device, sources, "gone", w.unix())
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestRevoke: an officer silences all sources of his device, each by its own
// server, and has the word of each for it.
func TestRevoke(t *testing.T) {
	w := newWorld(t, guarded(t))
	var sources []string
	for _, id := range []string{"source-1", "source-2", "device-2"} {
		w.AddSource(id)
	}
	for _, r := range w.revoke("officer-1a", "device-1") {
		if !r.Confirmed || r.Err != nil || r.At != w.unix() {
			t.Errorf("%+v", r)
		}
		sources = append(sources, r.Source)
	}
	if !slices.Equal(sources, []string{"source-1", "source-2", "device-2"}) {
		t.Errorf("sources: %v", sources)
	}
	for id, site := range map[string]string{"source-1": "server-3", "source-2": "server-4", "device-2": "server-2"} {
		x := w.Sources[id]
		if !slices.Equal(x.Revoked, []string{"device-1 by officer-1a: gone"}) || !slices.Equal(x.Sites, []string{site}) {
			t.Errorf("%s: %v by %v", id, x.Revoked, x.Sites)
		}
		for _, d := range x.Station.Devices() {
			if d.Device == "device-1" && d.Revoked == 0 {
				t.Errorf("%s goes on", id)
			}
		}
	}
}

// TestRevokeThroughAnother: where a source's own server is away, the home's is
// asked.
func TestRevokeThroughAnother(t *testing.T) {
	w := newWorld(t, guarded(t))
	w.AddSource("source-1")
	w.Stop("server-3")
	out := w.revoke(ledgertest.Requester, "device-1", "source-1") // its operator
	if len(out) != 1 || !out[0].Confirmed || !slices.Equal(w.Sources["source-1"].Sites, []string{"server-1"}) {
		t.Errorf("%+v", out)
	}
	out, err := client.Revoke(t.Context(), rand.Reader, w.State, nil, w.Persons["officer-1a"].Card().Sign, "device-1", []string{"source-1"}, "", w.unix())
	if err != nil || out[0].Confirmed || !strings.Contains(out[0].Err.Error(), "cannot be reached") {
		t.Errorf("%+v %v", out, err)
	}
}

// TestRevokeRefused: one source that fails is named, and the others are
// silenced all the same; who may not is told before his card signs.
func TestRevokeRefused(t *testing.T) {
	w := newWorld(t, guarded(t))
	w.AddSource("source-1")
	check := func(what string, r client.Revocation, word string) {
		t.Helper()
		if r.Confirmed || r.Err == nil || !strings.Contains(r.Err.Error(), word) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	out := w.revoke("officer-1a", "device-1", "source-1", "source-2", "nobody", "source-1", "device-1")
	if !out[0].Confirmed {
		t.Errorf("%+v", out[0])
	}
	check("without a link", out[1], "has no link")
	check("no source", out[2], `no source or device "nobody"`)
	check("twice", out[3], "twice")
	check("the device itself", out[4], "may not silence")
	check("another device's officer", w.revoke("officer-3a", "device-1", "source-1")[0], "may not silence")

	x := w.Sources["source-1"]
	x.Says = func(r *heartbeat.Revoked) { r.Revocation = envelope.Hash{1} }
	check("the word for another", w.revoke("officer-1a", "device-1", "source-1")[0], "not acceptable")
	x.Says, x.Signer = nil, ledgertest.NewSigner(t, "stranger")
	check("a stranger's word", w.revoke("officer-1a", "device-1", "source-1")[0], "not acceptable")

	for what, c := range map[string]struct {
		person, device, word string
	}{
		"an unknown device": {"officer-1a", "device-9", "there is no device"},
		"without beats":     {"officer-2a", "device-2", "needs no heartbeat"},
	} {
		_, err := client.Revoke(t.Context(), rand.Reader, w.State, nil, w.Persons[c.person].Card().Sign, c.device, nil, "", w.unix())
		if err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := client.Revoke(t.Context(), rand.Reader, w.State, nil, w.Persons[ledgertest.Program].Software, "device-1", nil, "", w.unix()); err == nil {
		t.Error("a key in software silences")
	}
}

// TestTakeBack: an officer sees the length of the log that he takes back, and
// his word says that he does.
func TestTakeBack(t *testing.T) {
	w := newWorld(t)
	o, k, conn := w.officer("officer-3a")
	offered, err := conn.UnlockAsk(t.Context(), "device-3")
	if err != nil {
		t.Fatal(err)
	}
	for _, restored := range []bool{false, true} {
		l, err := client.VerifyUnlockOffer(w.State, o, "device-3", offered, w.unix())
		if err != nil {
			t.Fatal(err)
		}
		if l.Log != 7 || l.LogHead != (envelope.Hash{7}) {
			t.Errorf("log %d, head %v", l.Log, l.LogHead)
		}
		l.Restored = restored
		sealed, err := l.Approve(rand.Reader, w.State, k, "server-3", w.unix())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Open(sealed, w.Servers["server-3"].Agree)
		if err != nil {
			t.Fatal(err)
		}
		u, err := envelope.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var a approval.UnlockApproval
		if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil || a.Restored != restored {
			t.Errorf("restored %t: %+v %v", restored, a, err)
		}
	}
}
