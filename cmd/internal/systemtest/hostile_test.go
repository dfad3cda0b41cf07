package systemtest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestHostilePayloads sends devices what no message server would: every payload
// empty, and tasks and checks with each field askew. Each gets a refusal, and
// the device goes on.
func TestHostilePayloads(t *testing.T) {
	s := Shared(t)
	files, certs := s.File(Files, []byte("x")), s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	refused := func(what, typ string, payload any) {
		t.Helper()
		_, err := s.Send("d4", typ, payload)
		var r *RefusedError
		if !errors.As(err, &r) {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
	for typ, payload := range map[string]any{
		firmware.TypeOfferAsk: firmware.OfferAsk{}, firmware.TypeTask: firmware.Task{}, firmware.TypeClose: firmware.Close{},
		firmware.TypeCheckAsk: firmware.CheckAsk{}, firmware.TypeCheckOpen: firmware.CheckOpen{}, firmware.TypeLock: firmware.Lock{},
		firmware.TypeUnlockAsk: firmware.UnlockAsk{}, firmware.TypeUnlock: firmware.Unlock{}, firmware.TypeRecertify: firmware.Recertify{},
		firmware.TypePartial: firmware.Partial{}, "nonsense": firmware.StatusAsk{},
		firmware.TypeRegister: firmware.Register{Certificates: [][]byte{nil}},
		firmware.TypeCatchup:  firmware.Catchup{Entries: [][]byte{{0xa0}}},
	} {
		refused("empty "+typ, typ, payload)
	}
	for _, r := range []*Request{files, certs} {
		offer := s.MustOffer("d4", r)
		good := r.Task(offer, s.Approvals(r, offer, nil), order(4, 1, 2), 0)
		tasks := map[string]func(*firmware.Task){
			"no order":       func(x *firmware.Task) { x.Order = nil },
			"index 0":        func(x *firmware.Task) { x.Order = order(4, 0, 1) },
			"index 6":        func(x *firmware.Task) { x.Order = order(4, 6, 1) },
			"index 17":       func(x *firmware.Task) { x.Order = order(4, 17, 1) },
			"index huge":     func(x *firmware.Task) { x.Order = order(4, math.MaxUint64, 1) },
			"index twice":    func(x *firmware.Task) { x.Order = order(4, 4, 1) },
			"too many":       func(x *firmware.Task) { x.Order = order(4, 1, 2, 3) },
			"position huge":  func(x *firmware.Task) { x.Position = math.MaxUint64 },
			"position 3":     func(x *firmware.Task) { x.Position = 3 },
			"empty prior":    func(x *firmware.Task) { x.Prior = [][]byte{nil} },
			"many priors":    func(x *firmware.Task) { x.Prior = slices.Repeat([][]byte{{0xd2, 0x84}}, 99) },
			"middle, none":   func(x *firmware.Task) { x.Order, x.Position = order(1, 4, 2), 1 },
			"no approvals":   func(x *firmware.Task) { x.Approvals = nil },
			"empty approval": func(x *firmware.Task) { x.Approvals = [][]byte{nil, nil} },
			"many approvals": func(x *firmware.Task) { x.Approvals = slices.Repeat(x.Approvals, 500) },
			"request cut":    func(x *firmware.Task) { x.Request = x.Request[:len(x.Request)-1] },
		}
		if r == certs {
			delete(tasks, "middle, none") // in parallel signing every place is the first
		}
		for what, change := range tasks {
			task := good
			change(&task)
			refused(what, firmware.TypeTask, task)
			refused("check, "+what, firmware.TypeCheckAsk, firmware.CheckAsk{Task: task, Challenge: threshold.Challenge{W: []byte{2}}})
		}
		n := s.Key(r.Key).Public.N
		for i, w := range [][]byte{nil, {2}, make([]byte, len(n)), n, slices.Concat(n, []byte{1})} {
			refused(fmt.Sprint("challenge ", i), firmware.TypeCheckAsk, firmware.CheckAsk{Task: good, Challenge: threshold.Challenge{W: w}})
		}
	}
	if s.Status("d4").Phase != firmware.PhaseReady {
		t.Error("the device is not ready any more")
	}
}
