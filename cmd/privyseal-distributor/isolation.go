package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

// Flags of an interface (netdevice(7)) and of a route (linux/route.h).
const (
	flagUp       = 0x1
	flagLoopback = 0x8
	flagReject   = 0x200
)

// networks lists what connects this machine to others, as the kernel under root
// tells it: interfaces but loopback that are up, and routes through them. What
// it cannot read counts as connected.
func networks(root string) (out []string) {
	interfaces, err := os.ReadDir(filepath.Join(root, "sys/class/net"))
	if err != nil {
		out = append(out, fmt.Sprintf("its interfaces cannot be listed (%v)", err))
	}
	for _, i := range interfaces {
		text, err := os.ReadFile(filepath.Join(root, "sys/class/net", i.Name(), "flags"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue // bonding_masters is a file among them
		}
		flags, perr := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 32)
		switch {
		case err != nil || perr != nil:
			out = append(out, fmt.Sprintf("interface %s cannot be looked at", i.Name()))
		case flags&flagUp != 0 && flags&flagLoopback == 0:
			out = append(out, fmt.Sprintf("interface %s is up", i.Name()))
		}
	}
	// /proc/net/route: interface, destination, gateway, flags, …;
	// /proc/net/ipv6_route: ten columns, flags and interface are the last.
	for _, r := range append(routes(root, "proc/net/route", 1, 0, 3), routes(root, "proc/net/ipv6_route", 0, 9, 8)...) {
		if !slices.Contains(out, r) { // an interface may have routes of both protocols
			out = append(out, r)
		}
	}
	return out
}

// routes lists interfaces but loopback that routes lead through.
func routes(root, file string, header, name, flags int) (out []string) {
	data, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without this protocol
	}
	if err != nil {
		return []string{fmt.Sprintf("its routes cannot be read (%v)", err)}
	}
	seen := map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if i < header || len(f) == 0 {
			continue
		}
		if len(f) <= max(name, flags) {
			return append(out, "/"+file+" cannot be understood")
		}
		bits, err := strconv.ParseUint(f[flags], 16, 64)
		if err == nil && bits&flagReject != 0 || f[name] == "lo" || seen[f[name]] {
			continue
		}
		seen[f[name]] = true
		out = append(out, "a route leads through "+f[name])
	}
	return out
}

// isolated refuses to go on where there is a network, unless it was told to.
func (a *app) isolated() error {
	if a.notIsolated {
		return nil
	}
	if n := networks(a.root); len(n) > 0 {
		return term.WithHint(fmt.Errorf("this machine has a network: %s", strings.Join(n, "; ")),
			"pull its cables and take its interfaces down (ip link set NAME down); --not-isolated deals nevertheless, and the ledger will say so for ever")
	}
	return nil
}
