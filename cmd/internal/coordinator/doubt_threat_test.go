package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestDoubtNeedsCombiner: proofs take calculators several times the work. No site
// can ask for them without a combiner of the task that answers for it.
func TestDoubtNeedsCombiner(t *testing.T) {
	w, a := small(t)
	w.fault(coordtest.Silent, device(4)) // one combiner is left
	proofs := 0
	w.answer = func(_, _ string, out any) any {
		if p, ok := out.(firmware.Powers); ok && len(p.Proofs) > 0 {
			proofs++
		}
		return out
	}
	// Nothing reaches the combiner, so that calculators stay at work.
	w.cut = func(p tolerant.Packet, site string) bool { return p.Kind == tolerant.KindPowers && site == "server-5" }
	g := w.start("server-1", w.request(a))
	w.pass(2)
	var confirmed []tolerant.Packet
	for _, p := range w.seen {
		if p.Kind == tolerant.KindConfirmed && p.Device < device(4) {
			confirmed = append(confirmed, p)
		}
	}
	if len(confirmed) == 0 || !g.r.Open() {
		t.Fatalf("%d confirmations: %s", len(confirmed), g.r.Tracking().Text)
	}
	doubt := func(raw []byte) {
		w.t.Helper()
		for _, p := range confirmed {
			p.Site, p.Doubt = "server-3", raw
			w.broadcast("server-3", p)
		}
		w.settle()
	}
	refusal := firmware.Refusal{Request: g.r.Digest(), Device: device(5), Code: firmware.CodePartial, Text: "no signature", Type: firmware.TypeCombineTask}
	says := func(d string, change func(*firmware.Refusal)) []byte {
		f := refusal
		f.Device = d
		change(&f)
		return w.devices[d].Sign(firmware.TypeRefusal, f, [16]byte{9})
	}
	w.fault(coordtest.Stranger, device(3))
	for name, raw := range map[string][]byte{
		"nonsense":        []byte("no message"),
		"a calculator":    says(device(1), func(*firmware.Refusal) {}),
		"a stranger":      says(device(3), func(*firmware.Refusal) {}),
		"another request": says(device(5), func(f *firmware.Refusal) { f.Request = envelope.Hash{1} }),
		"another reason":  says(device(5), func(f *firmware.Refusal) { f.Code = firmware.CodeOffer }),
		"another task":    says(device(5), func(f *firmware.Refusal) { f.Type = firmware.TypeOfferAsk }),
		"an approval":     confirmed[0].Approvals[0],
		"an offer":        confirmed[0].Offer,
	} {
		if doubt(raw); proofs != 0 {
			t.Errorf("%s makes calculators prove", name)
			proofs = 0
		}
	}
	w.fault(coordtest.Good, device(3))
	doubt(says(device(5), func(*firmware.Refusal) {}))
	if proofs != 3 {
		t.Errorf("%d of 3 calculators prove for the word of a combiner", proofs)
	}
	if doubt(says(device(5), func(f *firmware.Refusal) { f.Text = "again" })); proofs != 3 {
		t.Errorf("calculators prove twice: %d times", proofs)
	}
	w.cut = nil
	w.pass(60)
	g.signed()

	// Signatures that doubt nobody are no reason, nor are those against another.
	w, a = small(t)
	w.fault(coordtest.Random, device(1))
	g = w.start("server-1", w.request(a))
	w.pass(60)
	g.signed(device(1))
	asked := 0
	for _, p := range w.seen {
		if len(p.Doubt) > 0 {
			asked++
		}
	}
	if asked == 0 {
		t.Error("nobody was asked to prove")
	}
	for _, d := range []string{device(2), device(3)} {
		for _, p := range w.seen {
			if p.Kind == tolerant.KindConfirmed && p.Device == d && len(p.Doubt) > 0 {
				u, err := envelope.Parse(p.Doubt)
				if err != nil {
					t.Fatal(err)
				}
				var c firmware.Combined
				if err := envelope.Unmarshal(u.UnverifiedPayload(), &c); err == nil && !slices.Contains(append(c.Wrong, c.Suspects...), uint64(d[len(d)-1]-'0')) {
					t.Errorf("%s was asked to prove for the word against %v, %v", d, c.Wrong, c.Suspects)
				}
			}
		}
	}
}

// TestHelplessSeen: a combiner that finds no signature in powers that are proved
// right is to be seen. It is not named: nobody knows what it was given.
func TestHelplessSeen(t *testing.T) {
	const text = "found no signature, and all powers that were sent are proved right"
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for _, liar := range []bool{false, true} {
		w := newWorldOf(t, sys, a)
		w.fault(coordtest.Silent, device(7), device(8))
		w.fault(coordtest.Helpless, device(6))
		if liar {
			w.fault(coordtest.Random, device(2))
		}
		g := w.start("server-1", raw)
		w.pass(90)
		out := g.r.Tracking()
		if out.State != api.StateOpen || slices.Contains(out.Wrong, device(6)) || slices.Contains(out.Wrong, device(2)) != liar {
			t.Fatalf("%s: %v: %s", out.State, out.Wrong, out.Text)
		}
		if seen := out.Devices[5].Text == text && strings.Contains(out.Text, "combiner 1 (device-6): "+text); seen == liar {
			t.Errorf("liar %v: %q: %s", liar, out.Devices[5].Text, out.Text)
		}
		w.fault(coordtest.Good, device(7))
		w.pass(700)
		if liar {
			g.signed(device(2))
		} else {
			g.signed()
		}
	}
}
