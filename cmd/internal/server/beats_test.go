package server

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestBeats: a device at one site lives on a source there, on one at another
// site, and on a device there; people silence them through whatever server, and
// its lease is over.
func TestBeats(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	b.satellite("device-4")
	p := b.pulse()
	for _, id := range []string{"source-1", "source-2", "device-4"} {
		eventually(t, "beats of "+id, func() bool { return p.count(id) > 3 })
	}
	eventually(t, "a lease", p.alive)
	// All but one silenced, by an operator, and by an officer of the device; a
	// source of another site, and a device.
	for _, x := range []struct{ server, source, person string }{
		{"server-1", "source-2", ledgertest.Requester}, {"server-2", "device-4", "officer-1a"},
	} {
		if err := b.revoke(x.server, x.source, x.person); err != nil {
			t.Fatalf("%s: %v", x.source, err)
		}
	}
	p.mu.Lock()
	p.mortal = true
	p.mu.Unlock()
	was := p.count("source-2")
	end := time.Now()
	eventually(t, "the end of the lease", func() bool { return !p.alive() })
	if took := time.Since(end); took > 4*testLease {
		t.Errorf("the lease ended after %v", took)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard["source-2"] > was+1 || p.heard["source-1"] == 0 {
		t.Errorf("beats: %v", p.heard)
	}
	if p.refused["source-2"] != heartbeat.CodeRevoked || p.refused["device-4"] != heartbeat.CodeRevoked {
		t.Errorf("refusals: %v", p.refused)
	}
	// Nothing of this is a line for each beat.
	trail, err := os.ReadFile(filepath.Join(b.dirs["server-1"], fileAudit))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(trail), `"type":"beat"`) + strings.Count(string(trail), `"type":"beat.challenge"`); n != 0 {
		t.Errorf("%d lines for beats", n)
	}
	b.servers["server-1"].Close()
	trail, _ = os.ReadFile(filepath.Join(b.dirs["server-1"], fileAudit))
	if !strings.Contains(string(trail), `"msg":"beats","peer":"source-1"`) {
		t.Error("the counts of source-1 are not written down")
	}
}

// TestBeatsPassTasks: beats do not wait for a task that is under way, however
// long the device takes over it.
func TestBeatsPassTasks(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	p := b.pulse()
	eventually(t, "a lease", p.alive)
	b.devices["device-1"].SetFault(coordtest.Silent)
	b.request("server-1", coordtest.CertificateRequest(t, b.sys, "set", b.unix(), 3600))
	s := b.servers["server-1"]
	eventually(t, "an ask under way", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ports["device-1"].work.answer != nil
	})
	was := p.count("source-2")
	eventually(t, "beats meanwhile", func() bool { return p.count("source-2") > was+10 })
	eventually(t, "a lease", p.alive)
}

// TestSourceLinks: a source that dialled before the ceremony is told of the
// system when there is one, and of each entry; it finds its server again; who
// is of no site loses his link.
func TestSourceLinks(t *testing.T) {
	b := newBeatRig(t)
	s := b.source("source-1")
	eventually(t, "a link before the ceremony", func() bool { _, links := s.told(); return links == 1 })
	cfg, err := LoadConfig(b.dirs["server-1"])
	if err != nil {
		t.Fatal(err)
	}
	// Of the other site, and of none: let in while nobody knows better.
	var strangers []*link.Conn
	for _, id := range []string{"source-2", "nobody"} {
		c, err := link.Dial(t.Context(), cfg.Links[0], link.Options{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		strangers = append(strangers, c)
	}
	eventually(t, "their links", func() bool {
		return b.servers["server-1"].isLinked("nobody") && b.servers["server-1"].isLinked("source-2")
	})
	b.commission()
	eventually(t, "the system", func() bool { systems, links := s.told(); return systems == 1 && links == 1 })
	for _, c := range strangers {
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%s keeps its link", c.Peer())
		}
	}
	for _, id := range []string{"source-2", "nobody"} {
		if _, err := link.Dial(t.Context(), cfg.Links[0], link.Options{ID: id}); err == nil || !strings.Contains(err.Error(), "no device or source of this site") {
			t.Errorf("%s: %v", id, err)
		}
	}
	b.devices["device-2"].SetFault(coordtest.Locked)
	b.grow()
	eventually(t, "the entry at every device, the locked one too", func() bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(b.devices)), func(d *coordtest.Device) bool { return d.Ledger().Height() != 1 })
	})
	eventually(t, "the entry", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.systems == 2 && s.state.Height() == 1 })
	b.servers["server-1"].Close()
	b.start("server-1")
	eventually(t, "the system again", func() bool { systems, links := s.told(); return systems == 3 && links >= 2 })
}

// grow adds an entry to the ledger and hands it to both servers.
func (b *beatRig) grow() {
	b.t.Helper()
	e := b.sys.Entry(b.t, b.sys.State, "notice", notice(b.unix()), b.unix())
	raw, err := envelope.Marshal(e)
	if err != nil {
		b.t.Fatal(err)
	}
	bundle, err := envelope.Marshal(b.sys.Bundle)
	if err != nil {
		b.t.Fatal(err)
	}
	body, err := envelope.Marshal(api.System{Bundle: bundle, Entries: [][]byte{raw}})
	if err != nil {
		b.t.Fatal(err)
	}
	for id := range b.dirs {
		if err := b.send(id, api.PathSystem, body, &api.SystemTaken{}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestHostilePeers: each says only what its role says, only for those whose
// policies know it, and under its own name. What is refused is counted, told
// once, and harms nobody.
func TestHostilePeers(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	b.source("source-3")
	p := b.pulse()
	eventually(t, "a lease", p.alive)
	p.mu.Lock()
	beat, ask := p.last, p.ask
	p.mu.Unlock()
	own, _ := b.sys.State.Device("device-2")
	theirs, _ := b.sys.State.Device("device-1")
	seal := func(typ string, signer ledgertest.Pair, to ...[]byte) []byte {
		h := envelope.Header{Type: typ, Version: 1, System: b.sys.State.System(), Created: b.unix(), Expires: b.unix() + 60}
		var keys []*ecdh.PublicKey
		for _, spki := range to {
			key, err := envelope.ParseAgreementKey(spki)
			if err != nil {
				t.Fatal(err)
			}
			id, _ := envelope.KeyIDOf(key)
			h.To, keys = append(h.To, id), append(keys, key)
		}
		raw, err := envelope.Sign(rand.Reader, signer.Sign, h, []byte{0xa0})
		if err != nil {
			t.Fatal(err)
		}
		frame, err := envelope.Seal(rand.Reader, raw, keys)
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	server := b.rows["server-1"].Agree
	for what, x := range map[string]struct {
		from   string
		frame  []byte
		reason *droppedError
	}{
		"a source's challenge":           {"source-3", ask, errRole},
		"a source's report":              {"source-3", seal(firmware.TypeStatus, b.keys["source-3"], server), errRole},
		"a source's revocation":          {"source-3", seal(heartbeat.TypeRevoke, b.keys["source-3"], own.Agree), errRole},
		"a source's system":              {"source-3", seal(heartbeat.TypeSystem, b.keys["source-3"], own.Agree), errRole},
		"a beat for another's device":    {"source-3", seal(heartbeat.TypeBeat, b.keys["source-3"], theirs.Agree), errNobody},
		"a beat to a server":             {"source-3", seal(heartbeat.TypeBeat, b.keys["source-3"], server), errNobody},
		"a beat that is none":            {"source-3", []byte("nonsense"), errMalformed},
		"a huge beat":                    {"source-3", append(seal(heartbeat.TypeBeat, b.keys["source-3"], own.Agree), make([]byte, maxChallenge)...), errSize},
		"a word that nobody waits for":   {"source-3", seal(heartbeat.TypeRevoked, b.keys["source-3"], server), errNoWaiter},
		"another device's challenge":     {"device-2", ask, errForged},
		"another device's beat":          {"device-2", seal(heartbeat.TypeBeat, b.sys.Devices["device-3"].Pair, theirs.Agree), errForged},
		"a beat by no satellite":         {"device-2", seal(heartbeat.TypeBeat, b.sys.Devices["device-2"].Pair, theirs.Agree), errNobody},
		"a challenge to no source of it": {"device-3", seal(heartbeat.TypeChallenge, b.sys.Devices["device-3"].Pair, b.addr("source-1"), b.addr("source-2")), errNobody},
		"another device's report":        {"device-2", b.report("device-3", firmware.Status{Phase: firmware.PhaseLocked}), errReport},
		"a report that is none":          {"device-2", seal(firmware.TypeStatus, b.sys.Devices["device-2"].Pair, server), errReport},
		"a task":                         {"device-2", seal(firmware.TypeTask, b.sys.Devices["device-2"].Pair, own.Agree), errRole},
	} {
		before := b.droppedFor("server-1", x.from)[x.reason.reason]
		b.say(x.from, x.frame)
		eventually(t, what+" to be refused as "+x.reason.reason, func() bool { return b.droppedFor("server-1", x.from)[x.reason.reason] > before })
	}
	// A beat that was recorded is passed on by the link of its source, and only
	// there; what it is worth, the device knows.
	before := p.count("source-3")
	b.say("source-3", beat)
	if p.count("source-3") != before {
		t.Error("a stranger beats")
	}
	if why := b.servers["server-1"].reports.asleep(); why["device-3"] != "" {
		t.Errorf("believed of device-3: %s", why["device-3"])
	}
}

func (b *beatRig) addr(id string) []byte { return ledgertest.SPKI(b.t, b.keys[id].Agree.Public()) }

// TestFlood: a source that sends ten thousand frames as fast as it can costs
// neither the others' beats nor lines in the log.
func TestFlood(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	p := b.pulse()
	eventually(t, "a lease", p.alive)
	p.mu.Lock()
	beat := p.last
	p.mu.Unlock()
	cfg, err := LoadConfig(b.dirs["server-1"])
	if err != nil {
		t.Fatal(err)
	}
	c, err := link.Dial(t.Context(), cfg.Links[0], link.Options{ID: "source-3"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if c.Send(ctx, beat) != nil {
				break
			}
		}
		done <- n
	}()
	eventually(t, "the flood to be noticed", func() bool { return b.droppedFor("server-1", "source-3")[errFlood.reason] > 20 })
	was := p.count("source-2")
	eventually(t, "beats in the flood", func() bool { return p.count("source-2") > was+20 })
	cancel()
	if n := <-done; n < 100 {
		t.Errorf("a flood of %d frames", n)
	}
	eventually(t, "a lease", p.alive)
	trail, err := os.ReadFile(filepath.Join(b.dirs["server-1"], fileAudit))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(trail), errFlood.reason); n != 1 {
		t.Errorf("%d lines about the flood", n)
	}
}

// TestOtherSite: what comes from another site is of that site's peers, goes to
// links of this one, and to no site again: nothing runs in a circle.
func TestOtherSite(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.source("source-1")
	b.source("source-2")
	p := b.pulse()
	eventually(t, "a lease", p.alive)
	p.mu.Lock()
	beat, ask := p.last, p.ask
	p.mu.Unlock()
	two := b.servers["server-2"]
	tell := func(from string, frame []byte) error {
		t.Helper()
		msg, err := envelope.Marshal(siteBeat{from, frame})
		if err != nil {
			t.Fatal(err)
		}
		_, err = two.theBus().Request(t.Context(), bus.Subject("server-1", "beat", "server-2"), msg)
		return err
	}
	for what, x := range map[string]struct {
		from  string
		frame []byte
		word  string
	}{
		"a peer of the receiver":     {"source-1", beat, errImpersonate.reason},
		"a device of the receiver":   {"device-1", ask, errImpersonate.reason},
		"nobody":                     {"nobody", beat, errImpersonate.reason},
		"a challenge by a source":    {"source-2", ask, errRole.reason},
		"a report":                   {"device-4", b.report("device-4", firmware.Status{Phase: firmware.PhaseLocked}), errRole.reason},
		"nonsense":                   {"source-2", []byte("nonsense"), errMalformed.reason},
		"what would go back":         {"device-4", challengeBy4(b), errLoop.reason},
		"a beat for another's needs": {"device-5", beat, errForged.reason},
	} {
		if err := tell(x.from, x.frame); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A site that floods: its peer's rate holds.
	for n := 0; ; n++ { // it may have saved up some seconds
		if err := tell("source-2", beat); err != nil {
			if !strings.Contains(err.Error(), errFlood.reason) || b.droppedFor("server-1", "source-2")[errFlood.reason] == 0 {
				t.Errorf("a flood of another site: %v", err)
			}
			break
		}
		if n == 100_000 {
			t.Fatal("a flood of another site passes")
		}
	}
	was := p.count("source-1")
	eventually(t, "beats after all that", func() bool { return p.count("source-1") > was+3 })
}

// challengeBy4 is a challenge of device-4 to the source of its own site.
func challengeBy4(b *beatRig) []byte {
	b.t.Helper()
	d := b.sys.Devices["device-4"]
	key := b.keys["source-2"].Agree.PublicKey()
	id, _ := envelope.KeyIDOf(key)
	raw, err := envelope.Sign(rand.Reader, d.Sign, envelope.Header{
		Type: heartbeat.TypeChallenge, Version: 1, System: b.sys.State.System(), To: []envelope.KeyID{id}, Created: b.unix(), Expires: b.unix() + 60,
	}, []byte{0xa0})
	if err != nil {
		b.t.Fatal(err)
	}
	frame, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{key})
	if err != nil {
		b.t.Fatal(err)
	}
	return frame
}
