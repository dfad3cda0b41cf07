package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// lockedMemory gives pages that are never swapped and left out of core dumps,
// for shares in use in the host.
type lockedMemory struct{}

func (lockedMemory) Alloc(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if err := unix.Mlock(b); err != nil {
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("mlock %d bytes (raise RLIMIT_MEMLOCK): %w", n, err)
	}
	if err := unix.Madvise(b, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("madvise: %w", err)
	}
	return b, nil
}

func (lockedMemory) Free(b []byte) {
	clear(b)
	_ = unix.Munmap(b) // unlocks too; fails only for what is not a mapping
}

// secureHeap is libcrypto's locked heap in bytes: an exponent of 4096 bits, its
// copies and the tables of one exponentiation take less than a tenth of it.
const secureHeap = 1 << 20

// harden keeps the process's memory from core dumps and from debuggers of the
// same user, and libcrypto's copies of shares from the swap.
func harden() error {
	if err := modexp.LockHeap(secureHeap); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
