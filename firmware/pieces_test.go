package firmware_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// kinds are those of a device's records from the n-th on.
func (w *world) kinds(device string, n int) (kinds []string) {
	w.t.Helper()
	for _, raw := range w.devices[device].Journal[n:] {
		var r firmware.Record
		w.check(envelope.Unmarshal(raw, &r))
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// between has do called between two pieces of a device's work, with how many are
// done, until it is called again with nil.
func (w *world) between(device string, do func(done int)) {
	done := 0
	w.devices[device].Between = func() {
		done++
		if do != nil {
			do(done)
		}
	}
}

// TestBatchKeepsLeases: while a device works for several leases on a batch it keeps
// its own and those of the others, who all live on its answers; it says how it is;
// and what it records meanwhile stays recorded.
func TestBatchKeepsLeases(t *testing.T) {
	t.Parallel()
	l := newLiving(t)
	a := l.authority(1)
	const n = 6
	r := l.batch(a, n, threshold.RS256, nil)
	x := l.beginWith(a, r, "device-1", "device-2", "device-4")
	during := func(device string, pieces int, work func() error) {
		t.Helper()
		last := 0
		l.between(device, func(done int) {
			last = done
			l.pass(livingLease / 2) // that long the piece took
			st, err := interject[firmware.Status](l.world, device, firmware.TypeStatusAsk, firmware.StatusAsk{}, firmware.TypeStatus)
			if err != nil || st.Phase != firmware.PhaseReady || st.Partials != 0 {
				t.Errorf("%s after piece %d: %+v, %v", device, done, st, err)
			}
			for _, id := range allMachines {
				if l.left(id) <= 0 {
					t.Fatalf("%s had no lease any more when %s had done piece %d: %v", id, device, done, l.devices[id].Notes)
				}
			}
			if device == "device-4" && done == pieces-1 {
				l.silence(device, "device-3")
			}
		})
		records := len(l.devices[device].Journal)
		l.check(work())
		if last != pieces-1 {
			t.Errorf("%s did %d pieces, not %d", device, last+1, pieces)
		}
		want := map[string][]string{"device-1": {"powers"}, "device-4": {"silenced", "combined"}}[device]
		if got := l.kinds(device, records); !slices.Equal(got, want) {
			t.Errorf("%s recorded %q, not %q", device, got, want)
		}
	}
	raws := l.mustPowers(x, "device-2")
	during("device-1", n*2, func() error {
		_, raw, err := l.powers("device-1", x.powers("device-1"))
		raws = append(raws, raw)
		return err
	})
	during("device-4", n, func() error {
		c, _, err := l.combine("device-4", x.combine("device-4", raws...))
		if err == nil {
			_, err = r.checked.AssembleAll(c.Signatures)
		}
		return err
	})
	for _, id := range []string{"device-1", "device-4"} {
		l.devices[id].Restart(t) // the records fit together
	}
}

// TestBatchWithoutLease: a lease that ends in the middle of a batch ends the work.
// The share is erased when the device finds out, which may be by the next piece.
func TestBatchWithoutLease(t *testing.T) {
	t.Parallel()
	for name, tick := range map[string]bool{"found by a tick": true, "found by a piece": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLiving(t)
			a := l.authority(1)
			x := l.beginWith(a, l.batch(a, 4, threshold.RS256, nil), "device-1", "device-2", "device-4")
			l.devices["device-1"].BeforeRelease = func() { t.Error("something was about to leave") }
			l.between("device-1", func(done int) {
				switch {
				case done != 3:
				case tick:
					l.cut = func(to string) bool { return to == "device-1" }
					l.pass(2 * livingLease)
					if l.parts.used != 0 {
						t.Error("the share is still open after the lease")
					}
				default:
					l.boot += int64(2 * livingLease)
				}
				if want := map[bool]int{true: 1}[done < 3]; done <= 3 && !(done == 3 && !tick) && l.parts.used != want {
					t.Errorf("%d parts are open after piece %d, not %d", l.parts.used, done, want)
				}
			})
			records := len(l.devices["device-1"].Journal)
			_, _, err := l.powers("device-1", x.powers("device-1"))
			l.want("no lease", err, firmware.CodePhase, "device device-1 is locked")
			if got := l.kinds("device-1", records); !slices.Equal(got, []string{"locked", "refused"}) {
				t.Errorf("recorded %q", got)
			}
			if l.parts.used != 0 {
				t.Error("the share is still open")
			}
		})
	}
}

// TestBatchEnds: whatever takes from a device, in the middle of a batch, what allowed
// it to work erases the open share at once and has the task refused as it would be
// from the beginning. Nothing is recorded of the work, and nothing leaves.
func TestBatchEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	r := w.batch(a, 3, threshold.RS256, func(_ int, x *document.TBS) { x.NotAfter = w.Now + 7200 })
	whole := w.beginWith(a, r, allMachines...)
	c, _, err := w.combine("device-4", whole.combine("device-4", w.mustPowers(whole, "device-1", "device-2")...))
	w.check(err)
	final := c.Signatures

	word := func(device, typ string, body any, reply string) {
		t.Helper()
		if _, err := interject[firmware.Status](w, device, typ, body, reply); err != nil {
			t.Error(err)
		}
	}
	reopen := func(device string) { w.devices[device].Restart(t) }
	for _, tc := range []struct {
		name       string
		end        func(device string)
		later      bool // the share is erased by the next piece
		code, text string
		records    []string
		after      func(device string)
	}{
		{"the word to lock", func(id string) {
			word(id, firmware.TypeLock, firmware.Lock{Device: id, Reason: "test"}, firmware.TypeStatus)
		}, false, firmware.CodePhase, "is locked", []string{"locked", "refused"}, reopen},
		{"LockDown", func(id string) { w.check(w.devices[id].Machine().LockDown()) },
			false, firmware.CodePhase, "is locked", []string{"refused"}, reopen},
		{"the watchdog locks the token", func(id string) { w.check(w.devices[id].Token.Lock()) },
			true, firmware.CodePhase, "is locked", []string{"refused"}, reopen},
		{"the signatures are there", func(id string) {
			if _, err := interject[firmware.Closed](w, id, firmware.TypeClose, firmware.Close{Request: r.raw, Signatures: final}, firmware.TypeClosed); err != nil {
				t.Error(err)
			}
		}, false, firmware.CodeClosed, "it has its signature", []string{"closed", "refused"}, nil},
	} {
		for _, id := range []string{"device-1", "device-5"} {
			name := tc.name + ", " + id
			d := w.devices[id]
			w.agree(whole, id)
			d.BeforeRelease = func() { t.Errorf("%s: something was about to leave", name) }
			pieces := 0
			w.between(id, func(done int) {
				if pieces = done; done != 2 {
					return
				}
				if w.parts.used != 1 {
					t.Errorf("%s: %d parts are open", name, w.parts.used)
				}
				tc.end(id)
				if w.parts.used != 0 && !tc.later {
					t.Errorf("%s: the share is still open", name)
				}
			})
			records := len(d.Journal)
			var err error
			if id == "device-1" {
				_, _, err = w.powers(id, whole.powers(id))
			} else {
				_, _, err = w.combine(id, whole.combine(id, w.mustPowers(whole, "device-2", "device-3")...))
			}
			w.want(name, err, tc.code, tc.text)
			if pieces != 2 {
				t.Errorf("%s: %d pieces were done", name, pieces)
			}
			if got := w.kinds(id, records); !slices.Equal(got, tc.records) {
				t.Errorf("%s: recorded %q", name, got)
			}
			if w.parts.used != 0 {
				t.Errorf("%s: the share stays open", name)
			}
			d.BeforeRelease, d.Between = nil, nil
			if tc.after != nil {
				tc.after(id)
			}
		}
	}
}

// TestBatchEndsByTime: what a request, its documents and its offer live for ends in
// the middle of a batch too; and so does the ledger under which the work began.
func TestBatchEndsByTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	r := w.batch(a, 3, threshold.RS256, func(i int, x *document.TBS) {
		if i == 1 {
			x.NotAfter = w.Now + 1000
		}
	})
	x := w.beginWith(a, r, "device-1", "device-2", "device-4")
	raws := w.mustPowers(x, "device-1", "device-2")
	try := func(name, code, text string, end func(device string)) {
		t.Helper()
		now := w.Now
		for _, id := range []string{"device-1", "device-4"} {
			w.Now = now
			w.between(id, func(done int) {
				if done == 2 {
					end(id)
				}
			})
			records := len(w.devices[id].Journal)
			var err error
			if id == "device-1" {
				_, _, err = w.powers(id, x.powers(id))
			} else {
				_, _, err = w.combine(id, x.combine(id, raws...))
			}
			w.want(name+", "+id, err, code, text)
			if got := w.kinds(id, records); got[len(got)-1] != "refused" || slices.Contains(got, "powers") || slices.Contains(got, "combined") || w.parts.used != 0 {
				t.Errorf("%s, %s: recorded %q, %d parts are open", name, id, got, w.parts.used)
			}
			w.between(id, nil)
		}
	}
	b := w.Deal(t, ledgertest.SmallPlan(2))
	w.installAll(b)
	w.Enter(t, b)
	try("the ledger grew", firmware.CodeLedger, "the ledger grew to", func(id string) {
		raw, err := envelope.Marshal(b.Entry)
		w.check(err)
		_, err = interject[firmware.Status](w, id, firmware.TypeCatchup, firmware.Catchup{Entries: [][]byte{raw}}, firmware.TypeStatus)
		w.check(err)
	})
	w.check(w.catchup("device-2", b.Entry))
	// Asked again, as its server does, it works.
	_, _, err := w.combine("device-4", x.combine("device-4", w.mustPowers(x, "device-1", "device-2")...))
	w.check(err)
	w.Now += 999
	w.mustPowers(x, "device-2")
	try("a certificate ended", firmware.CodeExpired, "ended while device", func(string) { w.Now++ })
}

// TestOneTaskAtATime: while a task is under way no other message opens a share,
// whoever hands it over, and the task comes to its end.
func TestOneTaskAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.beginWith(a, w.batch(a, 3, threshold.RS256, nil), "device-1", "device-2", "device-4")
	y := w.beginWith(a, w.batch(a, 2, threshold.RS256, nil), "device-1", "device-2", "device-4")
	raws := w.mustPowers(x, "device-2")
	b := w.Deal(t, ledgertest.SmallPlan(2))
	deal := w.deal(b, w.invite("device-1", 2), w.dealt(b, "device-1"))
	classic := firmware.Task{Request: x.r.raw}
	w.between("device-1", func(done int) {
		for typ, body := range map[string]any{
			firmware.TypePowersTask: y.powers("device-1"), firmware.TypeCombineTask: y.combine("device-1"), firmware.TypeTask: classic,
			firmware.TypeCheckAsk: firmware.CheckAsk{Task: classic}, firmware.TypeDeal: deal,
		} {
			_, err := interject[firmware.Powers](w, "device-1", typ, body, firmware.TypePowers)
			w.want(typ, err, firmware.CodeBusy, "works for request "+x.r.digest.String())
		}
		_, err := interject[firmware.Powers](w, "device-1", firmware.TypePowersTask, x.powers("device-1"), firmware.TypePowers)
		w.want("the same again", err, firmware.CodeBusy, "ask again")
		// Another request may be made ready, and closed.
		if done == 2 {
			_, err := interject[firmware.Offered](w, "device-1", firmware.TypeOfferAsk, firmware.OfferAsk{Request: y.r.raw}, firmware.TypeOffered)
			w.check(err)
		}
	})
	_, raw, err := w.powers("device-1", x.powers("device-1"))
	w.check(err)
	w.devices["device-1"].Between = nil
	c, _, err := w.combine("device-4", x.combine("device-4", append(raws, raw)...))
	w.check(err)
	_, err = x.r.checked.AssembleAll(c.Signatures)
	w.check(err)
	w.mustPowers(y, "device-1")
	w.check(w.install("device-1", deal))
}

// TestCloseOfAnotherBetween: what is recorded between two pieces stays, and the
// record of the work comes after it.
func TestCloseOfAnotherBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	done := w.begin(a, "www.example.org", "device-1", "device-2", "device-4")
	c, _, err := w.combine("device-4", done.combine("device-4", w.mustPowers(done, "device-1", "device-2")...))
	w.check(err)
	x := w.beginWith(a, w.batch(a, 3, threshold.RS256, nil), "device-1", "device-2", "device-4")
	raws := w.mustPowers(x, "device-1", "device-2")
	for _, id := range []string{"device-1", "device-4"} {
		w.between(id, func(n int) {
			if n == 1 {
				_, err := interject[firmware.Closed](w, id, firmware.TypeClose, firmware.Close{Request: done.r.raw, Signatures: c.Signatures}, firmware.TypeClosed)
				w.check(err)
			}
		})
		records := len(w.devices[id].Journal)
		want := "powers"
		if id == "device-1" {
			p, _, err := w.powers(id, x.powers(id))
			w.check(err)
			if head := envelope.HashOf("privyseal device record", w.devices[id].Journal[records+1]); p.LogHead != head {
				t.Error("the answer names another log")
			}
		} else {
			want = "combined"
			_, _, err := w.combine(id, x.combine(id, raws...))
			w.check(err)
		}
		if got := w.kinds(id, records); !slices.Equal(got, []string{"closed", want}) {
			t.Errorf("%s recorded %q", id, got)
		}
		w.devices[id].Restart(t)
		_, err = w.offer(id, done.r)
		w.want("closed between two pieces, after a restart", err, firmware.CodeClosed, "has its signature")
	}
}

// TestCrashBetween: a device dies between two pieces. Its disk is as it was, the
// number is not taken, and with new approvals it makes the same again.
func TestCrashBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.beginWith(a, w.batch(a, 3, threshold.RS256, nil), "device-1", "device-2", "device-4")
	want, _, err := w.powers("device-1", x.powers("device-1"))
	w.check(err)
	x.distribution = w.distribution(a, x.r)
	number := w.tasks
	d := w.devices["device-1"]
	records := len(d.Journal)
	w.between("device-1", func(done int) {
		if done == 4 {
			d.Kill()
		}
	})
	if _, _, err := w.powers("device-1", x.powers("device-1")); err == nil {
		t.Fatal("a dead device answers")
	}
	d.Between = nil
	w.check(d.Machine().LockDown()) // its memory goes with the process
	d.Restart(t)
	if got := w.kinds("device-1", records); len(got) != 0 {
		t.Errorf("recorded %q", got)
	}
	_, _, err = w.powers("device-1", x.powers("device-1"))
	w.want("restarted", err, firmware.CodeOffer, "no one-time key")
	y := w.beginWith(a, w.batch(a, 2, threshold.RS256, nil), "device-1")
	y.distribution = w.distribution(a, y.r, func(p *firmware.Distribution, _ *envelope.Header) { p.Task = number })
	_, _, err = w.powers("device-1", y.powers("device-1"))
	w.check(err)
	w.agree(x, "device-1")
	x.distribution = w.distribution(a, x.r)
	got, _, err := w.powers("device-1", x.powers("device-1"))
	w.check(err)
	if !slices.EqualFunc(got.Y, want.Y, bytes.Equal) {
		t.Error("other powers")
	}
}

// TestPiecesOfALiar: a combination that fails is a piece of its own: a device is not
// kept at one document by whoever sends it wrong powers.
func TestPiecesOfALiar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.beginWith(a, w.batch(a, 3, threshold.RS256, nil), allMachines...)
	raws := w.mustPowers(x, "device-1", "device-2", "device-3")
	lie := w.lie(raws[0], "device-1", func(p *firmware.Powers) { p.Y[0], p.Y[1] = p.Y[1], p.Y[0] })
	pieces := func(powers ...[]byte) (n int, err error) {
		w.between("device-4", func(done int) { n = done })
		_, _, err = w.combine("device-4", x.combine("device-4", powers...))
		return n + 1, err
	}
	if n, err := pieces(raws...); n != 3 || err != nil {
		t.Errorf("%d pieces, %v", n, err)
	}
	if n, err := pieces(lie, raws[1], raws[2]); n != 4 || err != nil {
		t.Errorf("with a liar %d pieces, %v", n, err)
	}
	n, err := pieces(lie, raws[1])
	w.want("a lie and nobody else", err, firmware.CodePartial, "one or more of calculators [1 2] are wrong")
	if n != 2 { // the combination, and that there is no other
		t.Errorf("%d pieces", n)
	}
}
