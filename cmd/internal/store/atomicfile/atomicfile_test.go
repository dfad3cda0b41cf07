package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	for _, c := range []string{"one", "", "three"} {
		if err := Write(p, []byte(c), 0o640); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(p); string(b) != c {
			t.Fatalf("%q", b)
		}
	}
	if info, _ := os.Stat(p); info.Mode().Perm() != 0o640 {
		t.Error(info.Mode())
	}
	onlyFile(t, dir, "f")
}

// A reader during a thousand writes never sees a mixture.
func TestReaderSeesWholeFiles(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	a, b := bytes.Repeat([]byte("a"), 100000), bytes.Repeat([]byte("b"), 50000)
	if err := Write(p, a, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			Write(p, [][]byte{a, b}[i%2], 0o600)
		}
	}()
	for {
		got, err := os.ReadFile(p)
		if err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Fatalf("read %d octets, %v", len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := Create(p, bytes.Repeat([]byte{byte('0' + i)}, 1000), 0o600)
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Fatalf("%d made it", made.Load())
	}
	b, _ := os.ReadFile(p)
	if len(b) != 1000 || bytes.Count(b, b[:1]) != 1000 {
		t.Fatal("mixed content")
	}
	onlyFile(t, dir, "f")
	dangling := filepath.Join(dir, "dangling")
	os.Symlink(filepath.Join(dir, "nowhere"), dangling)
	if err := Create(dangling, nil, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := Create(filepath.Join(dir, "no", "such"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
