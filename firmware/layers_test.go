package firmware_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// TestAuthority: shares are dealt, installed and entered; any two calculators
// with any combiner make certificates.
func TestAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.Deal(t, ledgertest.SmallPlan(1))
	w.installAll(a)
	for id := range w.devices {
		if got := w.machine(id, 1); got != "pending 1" {
			t.Errorf("%s before the entry: %q", id, got)
		}
	}
	w.enter(a)
	for id := range w.devices {
		if got := w.machine(id, 1); got != "ready 1" {
			t.Errorf("%s after the entry: %q", id, got)
		}
	}
	released := map[string]int{}
	for id, d := range w.devices {
		d.BeforeRelease = func() { released[id]++ }
	}
	key, _ := w.State.Key(a.Dealing.Key.ID)
	for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS384} {
		r := w.request(a, "www.example.org", alg)
		x := &task{r: r, distribution: w.distribution(a, r), offers: map[string]*offer{}, approvals: map[string][][]byte{}}
		for id := range w.devices {
			w.agree(x, id)
		}
		packet, err := firmware.VerifyDistribution(w.State, x.distribution, w.Now)
		w.check(err)
		var raws [][]byte
		for i := range 3 {
			id := fmt.Sprintf("device-%d", i+1)
			p, raw, err := w.powers(id, x.powers(id))
			w.check(err)
			if _, err := firmware.VerifyPowers(w.State, &key, packet, raw); err != nil {
				t.Error(err)
			}
			if p.Number != uint64(i+1) || len(p.Y) != 2 || p.Proofs != nil || len(p.Officers) != 2 {
				t.Errorf("%s: %+v", id, p)
			}
			// Asked again, it computes the same again; with proofs, if that is asked.
			again := x.powers(id)
			again.Prove = true
			q, _, err := w.powers(id, again)
			w.check(err)
			em, err := r.checked.EncodedMessage(r.digest)
			w.check(err)
			for n := range p.Y {
				if !bytes.Equal(p.Y[n], q.Y[n]) {
					t.Errorf("%s: power %d is another the second time", id, n+1)
				}
				b := firmware.PowersBinding(w.State, &key, r.digest, p.Share)
				term := grouping.Term{Calculator: p.Number, Key: uint64(n + 1)}
				if err := twolayer.VerifyProof(&key.Public, key.Layers, b, term, em, q.Y[n], q.Proofs[n]); err != nil {
					t.Error(err)
				}
			}
			raws = append(raws, raw)
		}
		root, err := x509.ParseCertificate(key.Certificate)
		w.check(err)
		for _, id := range []string{"device-4", "device-5"} {
			for _, set := range [][][]byte{{raws[0], raws[1]}, {raws[2], raws[0]}, {raws[1], raws[2]}, raws} {
				c, raw, err := w.combine(id, x.combine(id, set...))
				w.check(err)
				if _, err := firmware.VerifyCombined(w.State, &key, packet, raw); err != nil {
					t.Error(err)
				}
				if len(c.Wrong)+len(c.Suspects) != 0 {
					t.Errorf("%s accuses %v, suspects %v", id, c.Wrong, c.Suspects)
				}
				der, err := r.checked.Assemble(c.Signatures[0])
				w.check(err)
				cert, err := x509.ParseCertificate(der)
				w.check(err)
				if err := cert.CheckSignatureFrom(root); err != nil {
					t.Error(err)
				}
			}
		}
	}
	// Each answer went through the release gate: per algorithm two from each
	// calculator, four from each combiner.
	for id := range w.devices {
		if want := map[bool]int{true: 8, false: 4}[id > "device-3"]; released[id] != want {
			t.Errorf("%s released %d answers, not %d", id, released[id], want)
		}
	}
	w.nothingLeaked(a)
}

// nothingLeaked looks for sub-keys and parts in all that is on the devices'
// disks and all that they said.
func (w *world) nothingLeaked(a *ledgertest.Authority) {
	w.t.Helper()
	for id, d := range w.devices {
		disk := append([][]byte{[]byte(strings.Join(d.Notes, "\n"))}, d.Journal...)
		_, stored, err := d.Token.GetObject(slot(0))
		w.check(err)
		disk = append(append(disk, stored), w.said[id]...)
		for _, part := range w.dealt(a, id).Parts {
			p := part.Reveal()
			for _, needle := range [][]byte{p[:16], p[len(p)/2 : len(p)/2+16], p[len(p)-16:]} {
				for _, b := range disk {
					if bytes.Contains(b, needle) {
						w.t.Errorf("%s: a part of its share lies open", id)
					}
				}
			}
		}
	}
}
