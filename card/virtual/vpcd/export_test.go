package vpcd

// PID is pcscd's process.
func PID(d *Daemon) int { return d.cmd.Process.Pid }
