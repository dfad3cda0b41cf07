package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestRotate changes the beat key under a source that runs: each beat can be
// verified by a device that hears all, and by one that hears none before.
func TestRotate(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t, kind)
		ctx := context.Background()
		s, l := w.running()
		want(t, "before", w.ask(s, l, w.dev), answer)
		if e := w.dev.keys[w.id].Epoch; e != 1 {
			t.Fatalf("epoch %d", e)
		}
		old, err := os.ReadFile(beatPath(w.dir, 1))
		must(t, err)
		n, err := Rotate(w.dir, 0, w.now)
		must(t, err)
		if n != 2 {
			t.Fatalf("epoch %d", n)
		}
		if _, err := os.Stat(beatPath(w.dir, 1)); !os.IsNotExist(err) {
			t.Errorf("the old key is there: %v", err)
		}
		if kind != ledger.SourceSatellite {
			w.boot += period
			must(t, s.due(ctx))
			frames := l.take()
			if len(frames) != 1 {
				t.Fatalf("%d beats", len(frames))
			}
			if b := w.dev.open(frames[0]); b.Key == nil {
				t.Error("the beat brings no certificate")
			}
		} else {
			want(t, "after", w.ask(s, l, w.dev), answer)
		}
		if e := w.dev.keys[w.id].Epoch; e != 2 {
			t.Errorf("%s: epoch %d after the rotation", kind, e)
		}
		// Who stole the old key is not heard.
		must(t, os.WriteFile(beatPath(w.dir, 1), old, 0o600))
		src := s.row
		k, err := loadBeatKey(w.dir, src, 1)
		must(t, err)
		s.beat = k
		if _, err := s.station.Revoke("device-2", s.inputs()); err != nil {
			t.Fatal(err)
		}
		s.station.SetCertificate(k.certificate)
		l.take()
		out, _, err := s.station.Answer(s.inputs(), w.opened(w.dev))
		must(t, err)
		must(t, s.send(ctx, out))
		if _, err := w.dev.tryOpen(l.take()[0]); err == nil || !strings.Contains(err.Error(), "has gone on to 2") {
			t.Errorf("%s: a beat of the old key: %v", kind, err)
		}
	}
}

func TestRotateEpoch(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	if n, err := Rotate(w.dir, 40, w.now); err != nil || n != 40 {
		t.Fatalf("%d, %v", n, err)
	}
	for _, n := range []uint64{1, 40, maxEpoch + 1} {
		if _, err := Rotate(w.dir, n, w.now); err == nil {
			t.Errorf("epoch %d after 40 was taken", n)
		}
	}
	if n, err := Rotate(w.dir, 0, w.now); err != nil || n != 41 {
		t.Fatalf("%d, %v", n, err)
	}
}

// TestRotateTogether: of many at once each makes its own epoch or none, and
// one key is left.
func TestRotateTogether(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, l := w.running()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				Rotate(w.dir, 0, w.now)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for n := 0; ; n++ {
		want(t, "meanwhile", w.ask(s, l, w.dev), answer)
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	want(t, "after", w.ask(s, l, w.dev), answer)
	last, err := lastEpoch(w.dir)
	must(t, err)
	if e := w.dev.keys[w.id].Epoch; e != last || last < 6 {
		t.Errorf("the device heard epoch %d of %d", e, last)
	}
}

// TestDestroyOverwrites looks at the old key's bytes through a second name.
func TestDestroyOverwrites(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	kept := w.dir + "-kept"
	must(t, os.Link(beatPath(w.dir, 1), kept))
	before, err := os.ReadFile(kept)
	must(t, err)
	_, err = Rotate(w.dir, 0, w.now)
	must(t, err)
	after, err := os.ReadFile(kept)
	must(t, err)
	if len(before) == 0 || !bytes.Equal(after, make([]byte, len(before))) {
		t.Error("the old key's bytes are on the disk yet")
	}
}

// TestRedacted prints what holds secrets in every way.
func TestRedacted(t *testing.T) {
	w := newWorld(t, ledger.SourceSequence)
	k, err := loadKeys(w.dir, ledger.SourceSequence)
	must(t, err)
	b, err := newest(w.dir, w.cfg().source(k))
	must(t, err)
	scalar, err := k.identity.Bytes()
	must(t, err)
	x := secrets{Identity: scalar, Agree: k.agree.Bytes(), Sequence: k.sequence}
	file := beatFile{Key: scalar}
	for _, v := range []any{k, *k, b, *b, x, &x, file, &file} {
		all := []string{fmt.Sprint(v)}
		for _, verb := range []string{"%+v", "%#v", "%x", "%d", "%s", "%q"} {
			all = append(all, fmt.Sprintf(verb, v))
		}
		var text, object bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&object, nil)).Info("x", "v", v)
		all = append(all, text.String(), object.String())
		if _, is := v.(interface{ MarshalJSON() ([]byte, error) }); is {
			data, err := json.Marshal(v)
			must(t, err)
			all = append(all, string(data))
		}
		for _, s := range all {
			if !strings.Contains(s, redacted) || strings.Contains(s, fmt.Sprintf("%x", scalar)) {
				t.Errorf("%T prints %.200s", v, s)
			}
		}
	}
}

func (w *world) cfg() *Config {
	c, err := LoadConfig(w.dir)
	must(w.t, err)
	return c
}
