// Package softhsmconfig holds the template of the SoftHSM2 configuration that
// a signing device is given in laboratories, in CI and in the demonstration.
package softhsmconfig

import (
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"
)

//go:embed softhsm2.conf
var template string

// Render returns the configuration file for a token directory. The directory
// must be an absolute path without line breaks, leading or trailing space:
// SoftHSM2's parser reads a line as "key = value", has no quoting, and trims.
func Render(dir string) ([]byte, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("softhsmconfig: token directory %q is not an absolute path", dir)
	}
	if strings.ContainsAny(dir, "\r\n\x00#") || strings.TrimSpace(dir) != dir {
		return nil, fmt.Errorf("softhsmconfig: token directory %q cannot be written in a SoftHSM2 configuration; choose a plain path", dir)
	}
	return []byte(strings.ReplaceAll(template, "{{DIR}}", dir)), nil
}
