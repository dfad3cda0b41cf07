package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestSilence leaves a mark while the source runs: not one beat leaves after
// it, and only officers who speak later bring the device back.
func TestSilence(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t, kind)
		var log strings.Builder
		s, l, err := w.start(realDisk(), &log)
		must(t, err)
		must(t, s.handle(context.Background(), w.system()))
		want(t, "before", w.ask(s, l, w.dev), answer)
		early := w.dev.unlocked(w.now, false)
		must(t, Silence(w.dir, device, "stolen", w.now))
		w.boot += period
		must(t, s.due(context.Background()))
		if n := len(l.take()); n != 0 {
			t.Fatalf("%s: %d beats after the mark", kind, n)
		}
		w.now += 5
		want(t, "after", w.ask(s, l, w.dev), refusedRevoked)
		want(t, "opened before the mark", w.ask(s, l, early), refusedRevoked)
		if entries, _ := os.ReadDir(filepath.Join(w.dir, dirRevoked)); len(entries) != 0 {
			t.Error("the mark lies there yet: it would silence the device for ever")
		}
		if !strings.Contains(log.String(), "stolen") {
			t.Error("nobody was told why")
		}
		want(t, "opened", w.ask(s, l, w.dev.unlocked(w.now, false)), answer)
	}
}

// TestSilenceStopped leaves the mark while nothing runs.
func TestSilenceStopped(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, l := w.running()
	want(t, "before", w.ask(s, l, w.dev), answer)
	must(t, s.Close())
	must(t, Silence(w.dir, device, "", w.now))
	if st, err := ReadStatus(w.dir); err != nil || st.Devices[0].Revoked != w.now {
		t.Errorf("status %+v, %v", st, err)
	}
	later := w.dev.unlocked(w.now+60, false) // before the source is started
	w.now += 3600
	s, l, err := w.start(realDisk(), nil)
	must(t, err)
	want(t, "after", w.ask(s, l, w.dev), refusedRevoked)
	want(t, "opened after the mark", w.ask(s, l, later), answer)
}

// TestSilenceBeforeSystem: the mark waits until there is somebody to silence.
func TestSilenceBeforeSystem(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	must(t, Silence(w.dir, device, "", w.now))
	s, l := w.running()
	want(t, "first", w.ask(s, l, w.dev), refusedRevoked)
}

// TestSilenceMeanwhile leaves the mark at the last moment, when the answer is
// decided and its table is being written.
func TestSilenceMeanwhile(t *testing.T) {
	w := newWorld(t, ledger.SourceMessage)
	d := realDisk()
	write, marked := d.write, false
	d.write = func(p string, b []byte, m os.FileMode) error {
		if filepath.Base(p) == fileTable && w.dev.log > 0 && !marked {
			marked = true
			must(t, Silence(w.dir, device, "", w.now))
		}
		return write(p, b, m)
	}
	s, l, err := w.start(d, nil)
	must(t, err)
	must(t, s.handle(context.Background(), w.system()))
	w.dev.log = 1
	want(t, "decided before, sent after", w.ask(s, l, w.dev), "")
	if !marked {
		t.Fatal("the table was not written")
	}
	w.boot += period
	must(t, s.due(context.Background()))
	if n := len(l.take()); n != 0 {
		t.Errorf("%d beats after the mark", n)
	}
}

// TestMarks: a mark counts because it is there.
func TestMarks(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, l := w.running()
	for what, content := range map[string]string{"empty": "", "garbage": "{", "future": `{"at":99999999999}`, "unknown field": `{"at":1,"x":2}`} {
		w.now += 100
		dev := w.dev.unlocked(w.now, false)
		want(t, what+" before", w.ask(s, l, dev), answer)
		w.dev = dev
		w.now += 100
		must(t, os.WriteFile(filepath.Join(w.dir, dirRevoked, device), []byte(content), 0o600))
		want(t, what, w.ask(s, l, dev), refusedRevoked)
		if k := s.known(device); k.Revoked != w.now {
			t.Errorf("%s: revoked at %d, not %d", what, k.Revoked, w.now)
		}
	}
	// Who cannot look is silent.
	must(t, os.RemoveAll(filepath.Join(w.dir, dirRevoked)))
	must(t, os.WriteFile(filepath.Join(w.dir, dirRevoked), nil, 0o600))
	dev := w.dev.unlocked(w.now+1, false)
	want(t, "no directory of marks", w.ask(s, l, dev), "")
	if s.dead == nil {
		t.Error("the source goes on")
	}
}

func TestSilenceRefuses(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	w.running()
	for _, id := range []string{"", "device-9", "../table", ".", "a/b", "..", "x\n"} {
		if err := Silence(w.dir, id, "", w.now); err == nil {
			t.Errorf("%q: taken", id)
		}
	}
	if err := Silence(w.dir, device, strings.Repeat("x", maxReason+1), w.now); err == nil {
		t.Error("a long reason was taken")
	}
	if err := Silence(t.TempDir(), device, "", w.now); err == nil {
		t.Error("silenced a source that is none")
	}
}

// TestLostTable: a source that forgot whom it had silenced and superseded is
// silent for all.
func TestLostTable(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, l := w.running()
	want(t, "before", w.ask(s, l, w.dev), answer)
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(w.dir, fileTable)))
	early := w.dev.unlocked(w.now, false)
	s, l, err := w.start(realDisk(), nil)
	must(t, err)
	want(t, "the ceremony's instance", w.ask(s, l, w.dev), refusedInstance)
	want(t, "opened before", w.ask(s, l, early), refusedRevoked)
	must(t, s.Close())
	w.now += 100
	s, l, err = w.start(realDisk(), nil)
	must(t, err)
	want(t, "at the next start", w.ask(s, l, early), refusedRevoked)
	want(t, "opened since", w.ask(s, l, w.dev.unlocked(w.now, false)), answer)
}

// TestDamage: a file that was altered is no reason to guess.
func TestDamage(t *testing.T) {
	for _, name := range []string{fileTable, fileLedger, fileSystem, fileIdentityKey, fileAgreeKey, fileConfig, filepath.Join(dirBeat, "1")} {
		w := newWorld(t, ledger.SourceSequence)
		s, l := w.running()
		want(t, "before", w.ask(s, l, w.dev), answer)
		must(t, s.Close())
		path := filepath.Join(w.dir, name)
		data, err := os.ReadFile(path)
		must(t, err)
		if len(data) > 20 {
			data = data[:len(data)-9]
		} else {
			data = append(data, 1)
		}
		must(t, os.WriteFile(path, data, 0o600))
		if _, _, err := w.start(realDisk(), nil); err == nil {
			t.Errorf("%s: started over an altered file", name)
		}
	}
	w := newWorld(t, ledger.SourceSequence)
	must(t, os.Chmod(filepath.Join(w.dir, fileSequence), 0o644))
	if _, _, err := w.start(realDisk(), nil); err == nil || !strings.Contains(err.Error(), "others may read") {
		t.Errorf("a secret for everybody: %v", err)
	}
	var zero envelope.Hash
	if id, err := fixedSystem(t.TempDir()); err != nil || id != zero {
		t.Errorf("%v, %v", id, err)
	}
}
