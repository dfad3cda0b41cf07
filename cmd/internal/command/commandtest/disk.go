package commandtest

import "syscall"

// FullDisk is a file on a disk that takes Room more octets and then none.
type FullDisk struct{ Room int }

func (d *FullDisk) Write(p []byte) (int, error) {
	if n := min(d.Room, len(p)); n < len(p) {
		d.Room -= n
		return n, syscall.ENOSPC
	}
	d.Room -= len(p)
	return len(p), nil
}
