package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds a source to what it may be made of: its one link, and of
// the firmware what beats need. No database, no card reader, no token, no web.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	own := map[string]bool{
		"cmd/privyseal-heartbeat":       true,
		"cmd/internal/source":           true,
		"cmd/internal/bootclock":        true,
		"cmd/internal/store/atomicfile": true,
		"cmd/internal/command":          true,
		"cmd/internal/term":             true,
		"cmd/internal/transport/link":   true,
		"cmd/internal/transport/pinned": true,
		"firmware/approval":             true,
		"firmware/envelope":             true,
		"firmware/heartbeat":            true,
		"firmware/ledger":               true,
		"firmware/share":                true, // Shamir's pieces
	}
	modules := []string{ // all that is not ours
		"github.com/spf13/cobra", "github.com/spf13/pflag", // the command line
		"github.com/fxamacker/cbor/v2", "github.com/x448/float16", "github.com/veraison/go-cose", // messages
		"golang.org/x/",
	}
	for _, p := range strings.Fields(string(out)) {
		switch first, _, _ := strings.Cut(p, "/"); {
		case p == "net/http":
			t.Error("the source links net/http")
		case !strings.Contains(first, "."): // the standard library
		case strings.HasPrefix(p, "github.com/privyseal/privyseal/"):
			rel := strings.TrimPrefix(p, "github.com/privyseal/privyseal/")
			if !own[rel] && !strings.HasPrefix(rel, "firmware/threshold") {
				t.Errorf("the source links %s", rel)
			}
		default:
			ok := false
			for _, m := range modules {
				ok = ok || strings.HasPrefix(p, m)
			}
			if !ok {
				t.Errorf("the source links %s", p)
			}
		}
	}
}
