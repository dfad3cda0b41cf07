package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps the process's keys from core dumps and from debuggers of the
// same user. They are not kept from the swap: they lie on the disk beside it.
func harden() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err == nil {
		err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("cannot protect this process's memory: %w", err)
	}
	return nil
}
