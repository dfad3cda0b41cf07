package heartbeat

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A fault is a change of one line or so that breaks a rule. What the change
// replaces is in the file exactly once, so that a fault that no longer fits the
// code is noticed.
type fault struct {
	name     string
	file     string
	old, new string
}

// faults are planted one at a time, and each has to be found by TestModel.
var faults = []fault{
	// What a device believes.
	{"a lease counts from the answer's arrival", "monitor.go",
		"s.until = max(s.until, x.at+m.lease)\n\t\treturn nil", "s.until = max(s.until, boot+m.lease)\n\t\treturn nil"},
	{"a source's clock is trusted to be no faster than the device's", "monitor.go",
		"r.anchor+d-d/drift, boot)", "r.anchor+d, boot)"},
	{"a slot may lie in the future", "monitor.go",
		"return min(r.anchor+d-d/drift, boot)", "return r.anchor + d - d/drift"},
	{"a message counts twice", "monitor.go",
		"slices.Contains(r.taken, b.Slot) || at+m.lease <= boot", "at+m.lease <= boot"},
	{"messages that are too old count", "monitor.go",
		"slices.Contains(r.taken, b.Slot) || at+m.lease <= boot", "slices.Contains(r.taken, b.Slot)"},
	{"one message less is enough", "monitor.go",
		"if n := int(m.policy.Minimum); len(s.times) >= n {", "if n := max(1, int(m.policy.Minimum)-1); len(s.times) >= n {"},
	{"one source less is enough", "monitor.go",
		"n := len(ends) - int(m.policy.Needed); n >= 0", "n := min(len(ends)-1, len(ends)-int(m.policy.Needed)+1); n >= 0"},
	{"a lease that is over goes on with the next beat", "monitor.go",
		"if m.Over(boot) {\n\t\treturn ErrOver", "if false {\n\t\treturn ErrOver"},
	{"the end of a lease is one nanosecond late", "monitor.go",
		"m.over = m.over || boot >= m.Lock()", "m.over = m.over || boot > m.Lock()"},
	{"a lease that ends before it begins locks the device", "monitor.go",
		"if end := m.quorum(); end > boot {", "if end := m.quorum(); end > 0 {"},
	{"a source answers a challenge twice", "monitor.go",
		"if s.kind == ledger.SourceSatellite {\n\t\tx.answered = append(x.answered, s.id)", "if s.kind == ledger.SourceSatellite {"},
	{"an answer to an older challenge takes the place of a newer series", "monitor.go",
		"if s.series != nil && x.at <= s.series.anchor {", "if false {"},
	{"a series never ends", "monitor.go",
		"if b.Slot == 0 || b.Slot > r.slots {", "if b.Slot == 0 {"},
	{"beats of another series are taken", "monitor.go",
		"if r == nil || r.nonce != b.Nonce {", "if r == nil {"},
	{"a series is not renewed before it ends", "monitor.go",
		"boot-s.series.anchor >= int64(s.series.slots)*m.period/4*3 ||", "boot-s.series.anchor >= int64(s.series.slots)*m.period*2 ||"},
	{"a sequence that broke off is waited for", "monitor.go", "s.series = nil // none of the rest", "_ = s // none of the rest"},
	// Sequences.
	{"an old value is taken again", "chain.go", "case slot <= c.slot:", "case slot < c.slot:"},
	{"one value more may be lost", "chain.go", "case slot-c.slot-1 > loss:", "case slot-c.slot-1 > loss+1:"},
	{"values are not verified", "chain.go", "if w != c.last {", "if false {"},
	// For whom a source beats.
	{"a challenge is answered twice", "station.go", "c.Counter <= r.counter {", "c.Counter < r.counter {"},
	{"a silenced source goes on for its device", "station.go", "case s.Revoked != 0:", "case false:"},
	{"a shorter log is accepted", "station.go", "behind := c.Log < s.Log ||", "behind :="},
	{"how the log grows is not remembered", "station.go", "s.Log, s.Head = c.Log, c.LogHead\n", ""},
	{"officers' word from the second of a revocation counts", "station.go", "case e.At <= s.Revoked:", "case e.At < s.Revoked:"},
	{"officers' word for an earlier instance counts", "station.go", "case e.At < s.Enrolled:", "case false:"},
	{"a superseded instance comes back", "station.go", "case slices.Contains(s.Past, e.Instance):", "case false:"},
	{"an instance is enrolled by another's officers' word", "station.go", "case e.Instance != c.Instance():", "case false:"},
	{"officers take an older disk back without knowing", "station.go", "case !e.Restored && (behind ||", "case false && (behind ||"},
	{"an older disk is accepted when it has grown", "station.go", "e.Log < s.Log || e.Log == s.Log && s.Log > 0 && e.LogHead != s.Head)", "false)"},
	{"officers cannot take an older disk back", "station.go", "case !e.Restored && (behind ||", "case (behind ||"},
	{"a log shorter than the officers saw is accepted", "station.go", "case c.Log < e.Log:", "case false:"},
	{"slots of a pause are made up for", "station.go", "b.slot = k\n", "k = b.slot + 1\n\t\t\tb.slot = k\n"},
	{"a slot's beat is made ahead of its time", "station.go", "max(0, boot-b.at) / b.every)", "max(0, boot-b.at+b.every/2) / b.every)"},
	{"a revocation is carried out twice", "station.go", "return x.Digest == v.digest }); i >= 0 {", "return x.Digest == v.digest }); i >= 0 && false {"},
	{"a revocation is confirmed before it is on disk", "station.go", "if err == nil && stored == nil {", "if false {"},
	{"a clock that was set back lets an old word count", "station.go", "max(s.Revoked, in.Now, s.Enrolled, 1)", "max(s.Revoked, in.Now, 1)"},
	{"a restored source knows the ceremony's instances", "table.go", "if !st.table.Restored {", "if true {"},
	// Seals.
	{"the boot key makes challenges", "seal.go", "v, err := u.Verify(sign)\n\tif err != nil {\n\t\treturn nil, err\n\t}\n\treturn VerifyChallenge(d.ID, v)",
		"v, err := u.Verify(sign)\n\tif err != nil {\n\t\tboot, _ := envelope.ParseSigningKey(d.Boot)\n\t\tif v, err = u.Verify(boot); err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t}\n\treturn VerifyChallenge(d.ID, v)"},
	{"a device challenges in the name of another", "seal.go", "if out.Device != device {", "if false {"},
	{"an instance need not prove itself", "instance.go", "if !ecdsa.VerifyASN1(sign, digest[:], c.Proof) {", "if false && !ecdsa.VerifyASN1(sign, digest[:], c.Proof) {"},
	{"beats for another instance are opened", "seal.go", "if b.Device != device || b.Instance != i.id {", "if b.Device != device {"},
	{"a beat key of an earlier epoch is taken", "seal.go", "if known != nil && k.Epoch < known.Epoch {", "if false {"},
}

// foundIn is how the model says that it found something. A panic, a time-out or
// a fault that does not compile is not that.
var foundIn = regexp.MustCompile(`model: divergence after (\d+) steps of seed \d+, run \d+, after (\d+) steps before it`)

// TestFaults plants each fault and has the model find it; and runs the model as
// the code is, for a million steps without a divergence. The binary is made
// without the race detector, which makes no difference to what has no threads.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the model once for each planted fault")
	}
	overlay, err := plant(t.TempDir(), faults)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "model.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(number, steps int, more ...string) ([]byte, error) {
		c := exec.Command(bin, append([]string{"-test.run", "^TestModel$", "-test.v", "-test.timeout", "7m", "-model.steps", fmt.Sprint(steps)}, more...)...)
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", plantedVar, number))
		return c.CombinedOutput()
	}
	// Subtests, so that one of them can be run alone. They share the machine as
	// go test -parallel says; so the million is in two halves.
	for half := range 2 {
		t.Run(fmt.Sprintf("none, half %d", half+1), func(t *testing.T) {
			t.Parallel()
			out, err := run(0, 500_000, "-model.seed", fmt.Sprint(*modelSeed+uint64(half)))
			if err != nil || !strings.Contains(string(out), "without a divergence") {
				t.Fatalf("without a fault: %v\n%s", err, out)
			}
			t.Logf("%s", bytes.TrimSpace(out[bytes.Index(out, []byte("model: ")):bytes.Index(out, []byte("--- PASS"))]))
		})
	}
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(i+1, 250_000)
			m := foundIn.FindSubmatch(out)
			if err == nil || m == nil {
				t.Fatalf("not found: %v\n%s", err, out)
			}
			in, _ := strconv.Atoi(string(m[1]))
			before, _ := strconv.Atoi(string(m[2]))
			t.Logf("found after %d steps, in %s", before+in, f.file)
		})
	}
}
