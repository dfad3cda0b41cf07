package vpcd

import "syscall"

// PID is pcscd's process.
func PID(d *Daemon) int { return d.cmd.Process.Pid }

// Private says whether pcscd has a mount namespace of its own.
func Private(d *Daemon) bool { return d.cmd.SysProcAttr.Unshareflags&syscall.CLONE_NEWNS != 0 }
