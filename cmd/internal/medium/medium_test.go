package medium_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func invited(t *testing.T, s *ledgertest.System) *medium.Invited {
	t.Helper()
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	return &medium.Invited{
		Plan: []byte("plan"), System: systemOf(t, bundle, nil),
		Invitations: map[string][]byte{"device-1": []byte("one"), "device:2@x": []byte("two")},
	}
}

func systemOf(t *testing.T, bundle []byte, entries [][]byte) medium.System {
	t.Helper()
	s, err := medium.SystemOf(bundle, entries)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path string, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMedium goes there and back again.
func TestMedium(t *testing.T) {
	s := ledgertest.New(t)
	dir := filepath.Join(t.TempDir(), "m")
	at := func(want medium.Stage) {
		t.Helper()
		if got, err := medium.StageOf(dir); err != nil || got != want {
			t.Errorf("stage %q, %v; expected %q", got, err, want)
		}
	}
	x := invited(t, s)
	if err := medium.WriteInvited(dir, x, nil); err != nil {
		t.Fatal(err)
	}
	at(medium.StageInvited)
	if err := medium.WriteInvited(dir, x, nil); err == nil {
		t.Error("overwritten")
	}
	y, err := medium.ReadInvited(dir)
	if err != nil || string(y.Plan) != "plan" || !maps.EqualFunc(x.Invitations, y.Invitations, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Fatalf("%v, %+v", err, y)
	}
	if state, err := y.System.State(s.State.System(), nil); err != nil || state.System() != s.State.System() {
		t.Errorf("%v", err)
	}
	if _, err := y.System.State(envelope.Hash{1}, nil); err == nil {
		t.Error("another system")
	}
	if _, err := medium.ReadDealt(dir); !errors.Is(err, medium.ErrNotDealt) {
		t.Errorf("%v", err)
	}
	a := s.Deal(t, ledgertest.SmallPlan(1))
	d := &medium.Dealt{Dealing: a.Dealing, Shares: map[string][]byte{"device-1": []byte("share")}, Reserve: []byte("reserve")}
	if err := medium.WriteDealt(t.TempDir(), d); !errors.Is(err, medium.ErrEmpty) {
		t.Errorf("dealt to an empty directory: %v", err)
	}
	if err := medium.WriteDealt(dir, d); err != nil {
		t.Fatal(err)
	}
	at(medium.StageDealt)
	if err := medium.WriteDealt(dir, d); !errors.Is(err, medium.ErrDealt) {
		t.Errorf("%v", err)
	}
	back, err := medium.ReadDealt(dir)
	if err != nil || string(back.Shares["device-1"]) != "share" || string(back.Reserve) != "reserve" {
		t.Fatalf("%v, %+v", err, back)
	}
	want, _ := a.Dealing.Digest()
	if got, err := back.Dealing.Digest(); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := medium.ReadInvited(dir); err != nil {
		t.Errorf("what was carried there is gone: %v", err)
	}
	for _, path := range []string{dir, filepath.Join(dir, medium.FileReserve)} {
		if r, err := medium.ReadReserve(path); err != nil || string(r) != "reserve" {
			t.Errorf("%s: %q, %v", path, r, err)
		}
	}
	// The reserve belongs elsewhere; the rest of the medium is as good without it.
	if err := os.Remove(filepath.Join(dir, medium.FileReserve)); err != nil {
		t.Fatal(err)
	}
	if x, err := medium.ReadDealt(dir); err != nil || x.Reserve != nil || x.Shares["device-1"] == nil {
		t.Errorf("%v, %+v", err, x)
	}
	if _, err := medium.ReadReserve(dir); err == nil {
		t.Error("a reserve that is not there")
	}
}

// TestAbandonedOnMedium: dealings that are to be counted go there, in order, and
// are found again on that medium, with its own.
func TestAbandonedOnMedium(t *testing.T) {
	s := ledgertest.New(t)
	dir := filepath.Join(t.TempDir(), "m")
	x := invited(t, s)
	own := s.Deal(t, ledgertest.SmallPlan(1)).Dealing
	want := map[envelope.Hash]bool{}
	digest := func(d *ledger.Dealing) envelope.Hash {
		h, err := d.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for i := range 16 { // as many as a distributor counts
		d := own
		d.Revision = uint64(i + 2)
		x.Abandoned = append(x.Abandoned, d)
		want[digest(&d)] = true
	}
	for i := range 28 {
		x.Invitations[fmt.Sprintf("more-%d", i)] = []byte("three")
	}
	if err := medium.WriteInvited(dir, x, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := medium.ReadAbandoned(dir); !errors.Is(err, medium.ErrNotDealt) {
		t.Errorf("a medium that was not dealt to gave nothing out: %v", err)
	}
	y, err := medium.ReadInvited(dir)
	if err != nil || len(y.Abandoned) != 16 || len(y.Invitations) != 30 {
		t.Fatalf("%v, %d abandoned, %d invitations", err, len(y.Abandoned), len(y.Invitations))
	}
	for i := range y.Abandoned {
		if y.Abandoned[i].Revision != uint64(i+2) {
			t.Errorf("place %d: revision %d", i, y.Abandoned[i].Revision)
		}
	}
	if err := medium.WriteDealt(dir, &medium.Dealt{Dealing: own, Shares: map[string][]byte{"device-1": []byte("share")}}); err != nil {
		t.Fatal(err)
	}
	want[digest(&own)] = true
	got, err := medium.ReadAbandoned(dir)
	if err != nil || len(got) != 17 {
		t.Fatalf("%v, %d", err, len(got))
	}
	for i := range got {
		delete(want, digest(&got[i]))
	}
	if len(want) > 0 {
		t.Errorf("%d are missing", len(want))
	}
	one, err := medium.ReadAbandoned(filepath.Join(dir, medium.FileDealing))
	if err != nil || len(one) != 1 || digest(&one[0]) != digest(&own) {
		t.Errorf("by its file: %v, %d", err, len(one))
	}
	// Refused: what is no dealing, is too long, or is no plain file.
	outside := t.TempDir()
	long, link := filepath.Join(outside, "long"), filepath.Join(outside, "link")
	write(t, long, strings.Repeat("x", ledger.MaxEntry+1))
	if err := os.Symlink(filepath.Join(dir, medium.FileDealing), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{long, link, filepath.Join(dir, medium.FilePlan), filepath.Join(outside, "nothing"), outside} {
		if _, err := medium.ReadAbandoned(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// TestHalfWritten: whatever was made before the list is no medium.
func TestHalfWritten(t *testing.T) {
	s := ledgertest.New(t)
	for _, name := range []string{medium.FilePlan, "system.cbor", "invitations", "abandoned", "ledger", "INVITED.sha256.part"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), "x")
		var half *medium.HalfWrittenError
		if _, err := medium.StageOf(dir); !errors.As(err, &half) || !strings.Contains(half.Error(), name) || half.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := medium.WriteInvited(dir, invited(t, s), nil); !errors.As(err, &half) {
			t.Errorf("%s: written over: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := medium.WriteInvited(dir, invited(t, s), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{medium.FileDealing, medium.FileRoot, medium.FileReserve, "shares", "DEALT.sha256.part"} {
		path := filepath.Join(dir, name)
		write(t, path, "x")
		var half *medium.HalfWrittenError
		if _, err := medium.StageOf(dir); !errors.As(err, &half) || !strings.Contains(half.Hint(), "no key is left") {
			t.Errorf("%s: %v", name, err)
		}
		if err := medium.WriteDealt(dir, &medium.Dealt{}); !errors.As(err, &half) {
			t.Errorf("%s: written over: %v", name, err)
		}
		if _, err := medium.ReadInvited(dir); err != nil {
			t.Errorf("%s: the plan cannot be read any more: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHostileMedium: names lead nowhere else, and lists say nothing that is not
// so.
func TestHostileMedium(t *testing.T) {
	s := ledgertest.New(t)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "plan")
	list := func(dir string) string { return filepath.Join(dir, "INVITED.sha256") }
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"a link out": func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, medium.FilePlan))
			if err := os.Symlink(outside, filepath.Join(dir, medium.FilePlan)); err != nil {
				t.Fatal(err)
			}
		},
		"a list that is a link": func(t *testing.T, dir string) {
			data, _ := os.ReadFile(list(dir))
			write(t, outside+".list", string(data))
			os.Remove(list(dir))
			if err := os.Symlink(outside+".list", list(dir)); err != nil {
				t.Fatal(err)
			}
		},
		"a name above": func(t *testing.T, dir string) {
			data, _ := os.ReadFile(list(dir))
			write(t, list(dir), string(data)+strings.Repeat("0", 64)+"  ../outside\n")
		},
		"no sum":      func(t *testing.T, dir string) { write(t, list(dir), "plan.yaml\n") },
		"a short sum": func(t *testing.T, dir string) { write(t, list(dir), "00  plan.yaml\n") },
		"no plan": func(t *testing.T, dir string) {
			data, _ := os.ReadFile(list(dir))
			var rest []string
			for line := range strings.Lines(string(data)) {
				if !strings.HasSuffix(line, "plan.yaml\n") {
					rest = append(rest, line)
				}
			}
			write(t, list(dir), strings.Join(rest, ""))
		},
		"a file twice": func(t *testing.T, dir string) {
			data, _ := os.ReadFile(list(dir))
			write(t, list(dir), string(data)+string(data))
		},
		"an empty list": func(t *testing.T, dir string) { write(t, list(dir), "") },
		"a directory": func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, medium.FilePlan))
			if err := os.Mkdir(filepath.Join(dir, medium.FilePlan), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if err := medium.WriteInvited(dir, invited(t, s), nil); err != nil {
				t.Fatal(err)
			}
			spoil(t, dir)
			if _, err := medium.ReadInvited(dir); err == nil {
				t.Error("read")
			}
		})
	}
	// A directory of shares that leads elsewhere is not written through.
	dir := filepath.Join(t.TempDir(), "m")
	if err := medium.WriteInvited(dir, invited(t, s), nil); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "shares")); err != nil {
		t.Fatal(err)
	}
	if err := medium.WriteDealt(dir, &medium.Dealt{Dealing: ledger.Dealing{}, Shares: map[string][]byte{"d": {1}}}); err == nil {
		t.Error("written")
	}
	if names, _ := os.ReadDir(elsewhere); len(names) > 0 {
		t.Error("written elsewhere")
	}
}

// TestView: people are told what they should worry about.
func TestView(t *testing.T) {
	s := ledgertest.New(t)
	a := s.Deal(t, ledgertest.SmallPlan(2))
	a.Dealing.Isolated, a.Dealing.Reserve = false, nil
	v := medium.ViewDealing(s.State, &a.Dealing, nil)
	text := strings.Join(v.Lines(), "\n")
	for _, want := range []string{
		"a machine that had a network", "none can be added, ever", "ordinary primes", "combiner   2    device-5", "any 2 calculators sign", "learned at most by",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if len(v.Collusion.Weak) == 0 || len(v.Collusion.Cells) != 6 {
		t.Errorf("%+v", v.Collusion)
	}
	// Weak coalitions that somebody finds in one room.
	g := s.Genesis
	for i := range g.Devices {
		g.Devices[i].Server = "server-1"
	}
	one := ledgertest.New(t, func(h *ledger.Genesis) { h.Devices = g.Devices })
	if text := strings.Join(medium.ViewDealing(one.State, &a.Dealing, nil).Lines(), "\n"); !strings.Contains(text, "all of them stand at one site, server-1") {
		t.Error(text)
	}
	// A forged medium may have a dealing of anything.
	if v := medium.ViewDealing(s.State, &ledger.Dealing{}, nil); len(v.Lines()) == 0 {
		t.Error("nothing to show")
	}
}
