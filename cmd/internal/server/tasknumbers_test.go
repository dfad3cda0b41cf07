package server

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// giveNumbers is the process that TestTaskNumbersKill kills: it writes down
// each number that it was given.
func giveNumbers(dir string) error {
	x, err := openTaskNumbers(dir)
	if err != nil {
		return err
	}
	for {
		n, err := x.take(0)
		if err != nil {
			return err
		}
		fmt.Println(n)
		if n%3 == 0 { // the rest of the block is lost as if it had been given
			x.next = x.end
		}
	}
}

// TestTaskNumbersKill kills a server (SIGKILL) again and again while it takes
// numbers: none is given twice, and they ascend.
func TestTaskNumbersKill(t *testing.T) {
	dir := t.TempDir()
	last, all := uint64(0), 0
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PRIVYSEAL_TEST_NUMBERS="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, after := bufio.NewScanner(out), rand.IntN(40)
		for n := 0; lines.Scan(); n++ {
			if n == after {
				time.AfterFunc(time.Duration(rand.IntN(int(3*time.Millisecond))), func() { cmd.Process.Kill() })
			}
			got, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				break // cut off
			}
			if got <= last {
				t.Fatalf("number %d after %d", got, last)
			}
			last = got
			all++
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	if all < 12 {
		t.Errorf("only %d numbers", all)
	}
}

// TestTaskNumbersBackup: a server that lost its file, or got an old one back,
// repeats no number of the last days.
func TestTaskNumbersBackup(t *testing.T) {
	dir := t.TempDir()
	x, err := openTaskNumbers(dir)
	if err != nil {
		t.Fatal(err)
	}
	const now = 1_800_000_000
	last := uint64(0)
	for range 3 * taskBlock {
		n, err := x.take(now)
		if err != nil || n <= last {
			t.Fatal(n, last, err)
		}
		last = n
	}
	if err := os.Remove(filepath.Join(dir, fileTaskNumbers)); err != nil {
		t.Fatal(err)
	}
	if x, err = openTaskNumbers(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := x.take(now + 10); err != nil || n <= last {
		t.Error(n, last, err)
	}
	// A clock that goes back changes nothing.
	if n, err := x.take(0); err != nil || n <= last {
		t.Error(n, last, err)
	}
	if x, err = openTaskNumbers(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := x.take(0); err != nil || n < last {
		t.Error(n, last, err)
	}
}

func TestTaskNumbersDamaged(t *testing.T) {
	for _, content := range []string{"", "-1\n", "12x\n", "99999999999999999999\n", "\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileTaskNumbers), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openTaskNumbers(dir); err == nil || !strings.Contains(err.Error(), fileTaskNumbers) {
			t.Errorf("%q: %v", content, err)
		}
	}
}
