package vpcd

import "os"

// Own runs something in a process whose only readers are n of a daemon of its
// own, as tests do. libpcsclite reads where its daemon is once, at the first call:
// the process must not have asked for readers before.
func Own(n int, run func(*Daemon) (code int, err error)) (code int, err error) {
	dir, err := os.MkdirTemp("", "pv") // a short one: a socket's path has 107 octets at most
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	d, err := StartDaemon(dir, n)
	if err != nil {
		return 1, err
	}
	defer d.Close()
	if err := os.Setenv("PCSCLITE_CSOCK_NAME", d.Socket); err != nil {
		return 1, err
	}
	return run(d)
}
