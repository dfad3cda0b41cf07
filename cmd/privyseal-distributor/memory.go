package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// secureHeap is libcrypto's locked heap in bytes: as for a signing device.
const secureHeap = 1 << 20

// harden keeps the process's memory from core dumps, from debuggers of the same
// user and from the swap. A whole key is made here with math/big, which leaves
// copies behind: not only some pages are locked but all there will ever be. On a
// machine that has no swap it does not matter that they cannot be.
func harden(root string) error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot switch off core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot keep debuggers away: %w", err)
	}
	// ONFAULT: pages are locked as they come into use, not a Go heap's whole
	// address space.
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if err == nil {
		return modexp.LockHeap(secureHeap)
	}
	if swap, swapErr := swaps(root); swapErr != nil || len(swap) > 0 {
		return term.WithHint(fmt.Errorf("this machine may write memory to its swap, and that cannot be prevented: %w", err),
			"switch the swap off (swapoff -a), or let the program lock its memory (ulimit -l unlimited)")
	}
	return nil
}

// swaps lists the swap areas in use.
func swaps(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err != nil {
		return nil, err
	}
	var out []string
	for i, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 {
			out = append(out, f[0])
		}
	}
	return out, nil
}
