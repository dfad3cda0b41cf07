package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds the device to what it may be made of: no network library
// beyond its one link, no database, no card reader, no server.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	own := map[string]bool{ // what of cmd/internal a device may use: the standard library alone stands behind it
		"cmd/internal/bootclock":        true, // and the kernel's clock, by golang.org/x/sys
		"cmd/internal/store/atomicfile": true,
		"cmd/internal/store/journal":    true,
		"cmd/internal/command":          true,
		"cmd/internal/term":             true,
		"cmd/internal/transport/link":   true,
		"cmd/internal/transport/pinned": true,
	}
	modules := []string{ // all that is not ours
		"github.com/spf13/cobra", "github.com/spf13/pflag", // the command line
		"github.com/miekg/pkcs11",                                                                // the token
		"github.com/fxamacker/cbor/v2", "github.com/x448/float16", "github.com/veraison/go-cose", // messages
		"golang.org/x/",
	}
	for _, p := range strings.Fields(string(out)) {
		switch first, _, _ := strings.Cut(p, "/"); {
		case p == "net/http":
			t.Error("the device links net/http")
		case !strings.Contains(first, "."): // the standard library
		case strings.HasPrefix(p, "github.com/privyseal/privyseal/"):
			rel := strings.TrimPrefix(p, "github.com/privyseal/privyseal/")
			ok := own[rel] || rel == "cmd/privyseal-device" || rel == "softhsm-config" ||
				strings.HasPrefix(rel, "firmware") || strings.HasPrefix(rel, "hsm")
			if !ok {
				t.Errorf("the device links %s", rel)
			}
		default:
			ok := false
			for _, m := range modules {
				ok = ok || strings.HasPrefix(p, m)
			}
			if !ok {
				t.Errorf("the device links %s", p)
			}
		}
	}
}
