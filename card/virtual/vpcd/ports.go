package vpcd

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Ports are taken from below the range that the kernel gives to outgoing
// connections (32768 to 60999 by default), or one of those could be on a
// port of ours by chance.
const (
	firstPort = 20000
	lastPort  = 32000
)

// freePairs finds n pairs of neighbouring free TCP ports. vpcd binds them on
// all interfaces, so that is where they are tried.
func freePairs(n int) ([]int, error) {
	var bases []int
	used := make(map[int]bool)
	for try := 0; len(bases) < n; try++ {
		if try > 100*n {
			return nil, errPortTaken
		}
		var b [2]byte
		rand.Read(b[:])
		base := firstPort + 2*(int(binary.BigEndian.Uint16(b[:]))%((lastPort-firstPort)/2))
		if used[base] || !free(base) || !free(base+1) {
			continue
		}
		used[base] = true
		bases = append(bases, base)
	}
	return bases, nil
}

func free(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// listening says whether all the daemon's ports are listening sockets of its
// own process. It fails with errPortTaken if one is somebody else's.
func (d *Daemon) listening() (bool, error) {
	// First the sockets, then their owner: a socket of ours that is in the
	// table is in our list as well.
	inodes := listeners()
	own := make(map[string]bool)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.cmd.Process.Pid))
	if err != nil {
		return false, err
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	all := true
	for _, port := range d.ports {
		inode, ok := inodes[port]
		if ok && !own[inode] {
			return false, errPortTaken
		}
		all = all && ok
	}
	return all, nil
}

// listeners maps the ports that are listened on to their sockets' inodes.
func listeners() map[int]string {
	inodes := make(map[int]string)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // no IPv6
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			const stateListen = "0A"
			w := strings.Fields(s.Text())
			if len(w) < 10 || w[3] != stateListen {
				continue
			}
			_, hex, _ := strings.Cut(w[1], ":")
			if port, err := strconv.ParseInt(hex, 16, 32); err == nil {
				inodes[int(port)] = w[9]
			}
		}
		f.Close()
	}
	return inodes
}
