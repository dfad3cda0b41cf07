package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
)

func do(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = command.Run(t.Context(), command.Streams{In: strings.NewReader(""), Out: &o, Err: &e}, args, func(command.Streams) *cobra.Command { return newCommand() })
	return code, o.String(), e.String()
}

// What is asked wrongly, or could never run, makes nothing.
func TestMisuse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	init := []string{"init", "--dir", dir, "--id", "s1", "--name", "Site 1", "--https", "localhost:1"}
	init = slices.Clip(init)
	link := slices.Clip(append(init, "--link"))
	for want, args := range map[string][]string{
		`unknown command "rnu" for "privyseal-server"`: {"rnu"},
		"hint: see: privyseal-server --help":           {"rnu2"},
		`required flag(s) "link" not set`:              init,
		"unknown flag: --lnk":                          append(init, "--lnk"),
		`"x" is one argument too many`:                 append(link, "unix:a", "x"),
		`"bogus" is neither unix:PATH nor`:             append(link, "bogus"),
		`"unix:" is neither unix:PATH nor`:             append(link, "unix:a,unix:"),
		"has at most 106 octets":                       append(link, "unix:/"+strings.Repeat("x", 106)),
		"missing port":                                 append(link, "tls:host"),
		"a pin has 64 hex digits":                      append(link, "unix:a", "--device-pin", "x"),
		`--output "x" is not whole numbers`:            append(link, "unix:a", "--output", "x"),
	} {
		code, out, errs := do(t, args...)
		if code != command.ExitUsage || !strings.Contains(errs, want) || !strings.Contains(errs, "\nhint: ") || out != "" {
			t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	if code, out, errs := do(t, append(link, "unix:"+filepath.Join(dir, "link"))...); code != command.ExitOK || !strings.HasPrefix(out, "{") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ := do(t, "--version"); code != command.ExitOK || !strings.HasPrefix(out, "privyseal-server version ") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
