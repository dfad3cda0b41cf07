package systemtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestAuthority is a system of three sites and ten devices with the
// authorities of two enterprises, 3 of 5 calculators and 3 combiners each, on
// the same devices. Devices die, a site lies, packets get lost, the
// distributor is killed and machines come and go; what was asked is signed.
func TestAuthority(t *testing.T) {
	o := GoOnline(t, 3, 10, "a1", "a2", "b1", "b2")
	o.OnDuty("o1", "o2", "a1", "a2", "b1", "b2")
	a := o.Deal(AuthorityPlan(11, 5, 3, 3, []string{"a1", "a2"}, "s1", "s2"))
	o.Deal(AuthorityPlan(12, 5, 3, 3, []string{"b1", "b2"}, "s2"))
	for _, part := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"certificate", o.testCertificate},
		{"batch", o.testBatch},
		{"distributors", o.testDistributors},
		{"enterprises", o.testEnterprises},
		{"officers of another", o.testOtherOfficers},
		{"packets of another", o.testOtherPackets},
		{"lost packets", o.testLostPackets},
		{"calculators die", func(t *testing.T) { o.testDeath(t, "d1", "d2") }},
		{"combiner dies", func(t *testing.T) { o.testDeath(t, "d6") }},
		{"distributor dies", o.testDistributorDies},
		{"illegal task", o.testIllegal},
		{"growth", func(t *testing.T) { o.testGrowth(t, a) }},
	} {
		o.Part(t, part.name, part.f)
	}
}

func (o *Online) testCertificate(t *testing.T) {
	began := time.Now()
	der, tr := o.Issue("ca-11", "www.example", "s1")
	t.Logf("issued after %v", time.Since(began))
	dir := t.TempDir()
	key := o.Key("ca-11")
	write(t, dir, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Certificate}))
	write(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if out := openssl(t, dir, "verify", "-CAfile", "root.pem", "-verify_hostname", "www.example", "cert.pem"); !strings.Contains(out, "OK") {
		t.Error(out)
	}
	// A home that has never heard of the authority learns of it from any server.
	old, err := client.Verify(o.Home.ID(), "s3", o.Home.Bundle(), nil)
	o.check(err)
	if _, _, err := client.VerifyCertificate(old.State(), der, time.Now().Unix()); !errors.Is(err, client.ErrIssuer) {
		t.Errorf("a home that is behind: %v", err)
	}
	o.check(old.Refresh(t.Context(), o.Conn("s3")))
	if k, _, err := client.VerifyCertificate(old.State(), der, time.Now().Unix()); err != nil || k.ID != "ca-11" {
		t.Errorf("key %s: %v", k.ID, err)
	}
	if tr.Enterprise != 11 || tr.Distributor != 1 || tr.Task == 0 || len(tr.Liars) != 0 {
		t.Errorf("%+v", tr)
	}
}

// testBatch: ten certificates with one request. An officer signs once at each
// machine, for all of them, and OpenSSL verifies each for its own host.
func (o *Online) testBatch(t *testing.T) {
	o.Say(func(i *client.Item) string {
		for n, l := range i.Lint(false) {
			if l.Err != nil {
				t.Errorf("certificate %d: %v", n+1, l.Err)
			}
		}
		if n := len(i.Checked.Parts()); n != 10 && i.Checked.Kind() == document.KindCertificates {
			t.Errorf("an officer sees %d certificates", n)
		}
		return approval.Approve
	}, "a1", "a2")
	defer o.Say(nil, "a1", "a2")
	var hosts []string
	for i := range 10 {
		hosts = append(hosts, fmt.Sprintf("host-%d.example", i+1))
	}
	began := time.Now()
	r, err := o.AskAll("ca-11", hosts, "s1")
	o.check(err)
	ders, tr, err := o.AwaitAll(r)
	if err != nil {
		t.Fatalf("%v: %+v", err, tr)
	}
	t.Logf("issued after %v", time.Since(began))
	dir, key := t.TempDir(), o.Key("ca-11")
	write(t, dir, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Certificate}))
	for i, host := range hosts {
		write(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ders[i]}))
		if out := openssl(t, dir, "verify", "-x509_strict", "-CAfile", "root.pem", "-verify_hostname", host, "cert.pem"); !strings.Contains(out, "OK") {
			t.Error(out)
		}
	}
	if len(ders) != 10 || len(tr.Liars) > 0 {
		t.Errorf("%d certificates, liars %v", len(ders), tr.Liars)
	}
	if complete := len(slices.DeleteFunc(slices.Clone(tr.Devices), func(d api.DeviceTracking) bool { return len(d.Approved) != 2 })); complete < 4 {
		t.Errorf("three calculators and a combiner at least: %+v", tr.Devices)
	}
}

// testDistributors: a server that gives out no tasks of an enterprise says who
// does, and a home finds it by itself.
func (o *Online) testDistributors(t *testing.T) {
	_, err := o.Ask("ca-11", "www.example", "s3")
	var refused *client.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "hand the request to s1 or s2") {
		t.Errorf("%v", err)
	}
	for key, want := range map[string]string{"ca-11": "s1", "ca-12": "s2", SWA: "s1"} {
		if row, err := o.Home.ServerFor(key, ""); err != nil || row.ID != want {
			t.Errorf("key %s: %s, %v", key, row.ID, err)
		}
	}
	if _, err := o.Home.ServerFor("ca-12", "s1"); err == nil || !strings.Contains(err.Error(), "s2") {
		t.Error(err)
	}
}

// testEnterprises: two at once, each under its own root.
func (o *Online) testEnterprises(t *testing.T) {
	var asked []*client.Signed
	for i := range 4 {
		r, err := o.Ask(fmt.Sprintf("ca-%d", 11+i%2), fmt.Sprintf("host-%d.example", i), "s2")
		o.check(err)
		asked = append(asked, r)
	}
	for _, r := range asked {
		der, tr, err := o.Await(r)
		o.check(err)
		key, _, err := client.VerifyCertificate(o.Tables(), der, time.Now().Unix())
		if err != nil || key.ID != r.Request.Key || fmt.Sprintf("ca-%d", tr.Enterprise) != key.ID {
			t.Errorf("%s: key %s, enterprise %d, %v", r.Request.Key, key.ID, tr.Enterprise, err)
		}
	}
}

// testOtherOfficers: an officer of one enterprise finds nothing of another's in
// his inbox, and cannot confirm its tasks, though he serves the same devices.
func (o *Online) testOtherOfficers(t *testing.T) {
	items := make(chan *client.Item, 64)
	o.Say(func(i *client.Item) string { items <- i; return "" }, "a1", "a2")
	strange := make(chan *client.Item, 64)
	o.Say(func(i *client.Item) string { strange <- i; return approval.Approve }, "b1", "b2")
	defer o.Say(nil, "b1", "b2")
	r, err := o.Ask("ca-11", "www.example", "s1")
	o.check(err)
	var item *client.Item
	for item == nil || item.Digest != r.Digest {
		item = <-items
	}
	now := time.Now().Unix()
	raw, err := approval.NewApproval(rand.Reader, o.People["b1"][0], o.Tables(), approval.Approval{
		Request: item.Digest, Key: item.Request.Key, Epoch: 1, Device: item.Device.ID, Share: item.Holder.Share,
		Decision: approval.Approve, Created: now, Expires: now + 3600,
		Pieces: []approval.SealedPiece{{Offer: envelope.Hash{1}, Device: item.Device.ID, Piece: "piece", Sealed: make([]byte, 100)}},
	}, [16]byte{})
	o.check(err)
	row, _ := o.Tables().Server(item.Server)
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{agreeKey(t, row.Agree)})
	o.check(err)
	_, err = o.Conn(item.Server).Say(t.Context(), sealed)
	var refused *client.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "b1") {
		t.Errorf("the approval of another enterprise's officer: %v", err)
	}
	o.Say(nil, "a1", "a2")
	_, _, err = o.Await(r)
	o.check(err)
	for len(strange) > 0 {
		if i := <-strange; i.Request.Key == "ca-11" {
			t.Errorf("an officer of enterprise 12 is asked about %s", i.Request.Key)
		}
	}
}

// testOtherPackets: a site that belongs to somebody else now sends the packets
// of one enterprise as another's. They count for nothing, and blame nobody.
func (o *Online) testOtherPackets(t *testing.T) {
	var mu sync.Mutex
	var seen []tolerant.Packet
	o.TapPackets(func(_ string, p tolerant.Packet) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, p)
	})
	defer o.TapPackets(nil)
	o.Issue("ca-11", "www.example", "s1")
	o.eventually("all kinds of packets", func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, kind := range []string{tolerant.KindAck, tolerant.KindConfirmed, tolerant.KindPowers, tolerant.KindCombined, tolerant.KindDone} {
			if !slices.ContainsFunc(seen, func(p tolerant.Packet) bool { return p.Kind == kind && p.Enterprise == 11 }) {
				return errors.New(kind)
			}
		}
		return nil
	})
	o.StopSite("s3")
	defer o.StartSite("s3")
	x := o.sites["s3"]
	id, err := pinned.LoadIdentity(filepath.Join(x.dir, "tls.key"))
	o.check(err)
	system := o.Tables().System()
	cfg := bus.Config{Site: "s3", Cluster: fmt.Sprintf("privyseal-%x", system[:8]), Identity: id, Listen: x.row.Route}
	for _, row := range o.Tables().Servers() {
		if row.ID != "s3" {
			cfg.Peers = append(cfg.Peers, bus.Peer{Site: row.ID, Route: row.Route, Pin: pinned.Pin(row.TLS)})
		}
	}
	evil, err := bus.Open(cfg)
	o.check(err)
	defer evil.Close()

	o.Say(Silent, "b1", "b2")
	defer o.Say(nil, "b1", "b2")
	r, err := o.Ask("ca-12", "www.example", "s2")
	o.check(err)
	var tr *api.Tracking
	o.eventually("offers", func() error {
		if tr, err = o.Conn("s2").Tracking(t.Context(), r.Digest); err != nil {
			return err
		}
		n := 0
		for _, d := range tr.Devices {
			if d.Offered {
				n++
			}
		}
		if n < 5 { // the devices of s1 and s2
			return fmt.Errorf("%d offers", n)
		}
		return nil
	})
	mu.Lock()
	packets := slices.Clone(seen)
	mu.Unlock()
	sent := map[string]int{}
	for range 2 {
		for _, p := range packets {
			if p.Enterprise != 11 {
				continue
			}
			for _, task := range []uint64{p.Task, tr.Task} {
				for _, request := range []envelope.Hash{p.Request, r.Digest} {
					p.Site, p.Enterprise, p.Distributor, p.Task, p.Request = "s3", 12, tr.Distributor, task, request
					msg, err := tolerant.Marshal(p)
					o.check(err)
					o.check(evil.Publish(t.Context(), tolerant.Subject(12, p.Channel()), msg))
					sent[p.Kind]++
				}
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, kind := range []string{tolerant.KindAck, tolerant.KindConfirmed, tolerant.KindPowers, tolerant.KindCombined, tolerant.KindDone} {
		if sent[kind] == 0 {
			t.Errorf("no packet %q was repeated", kind)
		}
	}
	tr, err = o.Conn("s2").Tracking(t.Context(), r.Digest)
	o.check(err)
	for _, d := range tr.Devices {
		if d.Signed || d.Wrong || len(d.Approved) > 0 {
			t.Errorf("another enterprise's packets count: %+v", d)
		}
	}
	if tr.State != api.StateOpen || len(tr.Liars) > 0 {
		t.Errorf("%s, liars %v", tr.State, tr.Liars)
	}
	o.Say(nil, "b1", "b2")
	_, tr, err = o.Await(r)
	o.check(err)
	if len(tr.Liars) > 0 {
		t.Errorf("blamed: %v", tr.Liars)
	}
}

// TestAuthorityOfOneSite: without a bus, the channels are within the server.
func TestAuthorityOfOneSite(t *testing.T) {
	o := GoOnline(t, 1, 5, "a1", "a2")
	o.OnDuty("o1", "o2", "a1", "a2")
	o.Deal(AuthorityPlan(11, 3, 2, 2, []string{"a1", "a2"}, "s1"))
	o.Kill("d5")
	o.Issue("ca-11", "www.example", "s1")
}
