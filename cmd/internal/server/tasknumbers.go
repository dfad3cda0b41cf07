package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
)

// taskNumbers gives out the numbers of tasks. A calculator refuses one that it
// has seen for another request within two days (B [0107]); this server never
// gives one twice, however it was killed.
//
// The file holds the end of a block of numbers: it is durable before the first
// of them is used, so that a crash loses numbers and repeats none. A server
// that was brought back from a backup has an old file: numbers are not below
// the clock's milliseconds either.
type taskNumbers struct {
	mu   sync.Mutex
	path string
	next uint64 // of the block; end: none left
	end  uint64 // as the file has it
}

func openTaskNumbers(dir string) (*taskNumbers, error) {
	x := &taskNumbers{path: filepath.Join(dir, fileTaskNumbers)}
	data, err := os.ReadFile(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	if x.end, err = strconv.ParseUint(strings.TrimSuffix(string(data), "\n"), 10, 63); err != nil {
		return nil, fmt.Errorf("%s holds no task number; if nothing else of this server's directory was lost, remove it: numbers go on from the clock", x.path)
	}
	x.next = x.end // what the last run left of its block is gone
	return x, nil
}

// take returns a number that was never given before. now is in Unix seconds.
func (x *taskNumbers) take(now int64) (uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next == x.end {
		first := max(x.end, uint64(max(now, 0))*1000, 1)
		// A crash before the write leaves the old end, after it the new one: in
		// either case nothing of this block was given out.
		if err := atomicfile.Write(x.path, fmt.Appendf(nil, "%d\n", first+taskBlock), 0o600); err != nil {
			return 0, err
		}
		x.next, x.end = first, first+taskBlock
	}
	n := x.next
	x.next++
	return n, nil
}
