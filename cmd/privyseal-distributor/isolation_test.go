package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kernel makes a directory that looks like a machine's /sys and /proc.
func kernel(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// alone is a machine with interfaces that are down.
func alone() map[string]string {
	return map[string]string{
		"sys/class/net/lo/flags":         "0x9\n",
		"sys/class/net/eth0/flags":       "0x1002\n",
		"sys/class/net/wlan0/flags":      "0x1002\n",
		"sys/class/net/bonding_masters":  "\n",
		"proc/net/route":                 "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n",
		"proc/net/ipv6_route":            "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n",
		"proc/swaps":                     "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
		"sys/class/net/eth0/address":     "00:00:00:00:00:00\n",
		"sys/class/net/wlan0/operstate":  "down\n",
		"sys/class/net/eth0/queues/none": "",
	}
}

func TestNetworks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]string)
		want   []string // what is found, nil: nothing
	}{
		"alone":            {func(map[string]string) {}, nil},
		"no loopback":      {func(m map[string]string) { m["sys/class/net/lo/flags"] = "0x8\n" }, nil},
		"without IPv6":     {func(m map[string]string) { delete(m, "proc/net/ipv6_route") }, nil},
		"an interface up":  {func(m map[string]string) { m["sys/class/net/eth0/flags"] = "0x1003\n" }, []string{"interface eth0 is up"}},
		"up, no cable":     {func(m map[string]string) { m["sys/class/net/wlan0/flags"] = "0x1003\n" }, []string{"interface wlan0 is up"}},
		"a tunnel":         {func(m map[string]string) { m["sys/class/net/tun0/flags"] = "0x1091\n" }, []string{"interface tun0 is up"}},
		"flags unreadable": {func(m map[string]string) { m["sys/class/net/eth0/flags"] = "up\n" }, []string{"interface eth0 cannot be looked at"}},
		"a route": {func(m map[string]string) {
			m["proc/net/route"] += "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
		}, []string{"a route leads through eth0"}},
		"a forbidden route": {func(m map[string]string) {
			m["proc/net/route"] += "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n"
		}, nil},
		"a route of IPv6": {func(m map[string]string) {
			m["proc/net/ipv6_route"] += "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     usb0\n"
		}, []string{"a route leads through usb0"}},
		"routes of both": {func(m map[string]string) {
			m["proc/net/route"] += "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
			m["proc/net/ipv6_route"] += "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
		}, []string{"a route leads through eth0"}},
		"strange routes": {func(m map[string]string) { m["proc/net/route"] += "eth0 x\n" }, []string{"cannot be understood"}},
		"no /sys": {func(m map[string]string) {
			for name := range m {
				if strings.HasPrefix(name, "sys/") {
					delete(m, name)
				}
			}
		}, []string{"cannot be listed"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := alone()
			c.change(m)
			got := networks(kernel(t, m))
			if len(got) != len(c.want) || len(got) > 0 && !strings.Contains(got[0], c.want[0]) {
				t.Errorf("found %q, expected %q", got, c.want)
			}
		})
	}
	// The machine that runs this test: whatever it has, it can be looked at.
	for _, n := range networks("/") {
		if strings.Contains(n, "cannot") {
			t.Errorf("this machine: %s", n)
		}
	}
}

func TestSwaps(t *testing.T) {
	m := alone()
	if got, err := swaps(kernel(t, m)); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	m["proc/swaps"] += "/dev/sda2                               partition\t1048572\t0\t-2\n"
	if got, err := swaps(kernel(t, m)); err != nil || len(got) != 1 || got[0] != "/dev/sda2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := swaps(t.TempDir()); err == nil {
		t.Error("no /proc/swaps is no swap")
	}
}
