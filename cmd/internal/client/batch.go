package client

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/lint"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// build makes a certificate for a CSR.
func (w *Wish) build(rand io.Reader, key *ledger.Key, algorithm threshold.Algorithm, csr []byte, now int64) (*profile.Built, error) {
	if key.Family != ledger.FamilyCertificate {
		return nil, fmt.Errorf("key %q signs documents of family %q, not certificates", key.ID, key.Family)
	}
	return profile.Build(csr, w.Profile, key.Certificate, profile.Options{
		Days: w.Days, MaxDays: key.MaxDays, Algorithm: algorithm, Now: unix(now), Random: rand,
	})
}

// names are what the requester calls the certificates of a batch.
func (w *Wish) names() ([]string, error) {
	return slices.Clone(w.Names), checkNames(w.Names, len(w.CSRs))
}

// checkNames refuses names that cannot be those of files in one directory.
func checkNames(names []string, n int) error {
	if len(names) != 0 && len(names) != n {
		return fmt.Errorf("%d names for %d certificates", len(names), n)
	}
	for i, name := range names {
		if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
			return fmt.Errorf("%q is no name of a file", document.Escape(name))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("two certificates would be called %q", document.Escape(name))
		}
	}
	return nil
}

// nameOf is how errors name a certificate of a batch.
func (w *Wish) nameOf(i int) string {
	name := fmt.Sprintf("certificate %d of %d", i+1, len(w.CSRs))
	if len(w.Names) > 0 {
		name = document.Escape(w.Names[i]) + ": " + name
	}
	return name
}

// culprit adds to what package document says of one certificate of a batch the
// name that its requester gave it.
func (w *Wish) culprit(err error) error {
	for i := range w.Names {
		if strings.HasPrefix(err.Error(), fmt.Sprintf("certificate %d of %d: ", i+1, len(w.CSRs))) {
			return fmt.Errorf("%s: %w", document.Escape(w.Names[i]), err)
		}
	}
	return err
}

// Linted is what is found in one certificate.
type Linted struct {
	Findings []lint.Finding
	Err      error // why it could not be examined
}

// Lint looks the certificates of an item over, each, in their order; nil for
// what is none. public adds the rules for certificates that browsers trust.
func (i *Item) Lint(public bool) []Linted {
	switch i.Checked.Kind() {
	case document.KindCertificate, document.KindCertificates, document.KindIdentity:
	default:
		return nil
	}
	var out []Linted
	for _, part := range i.Checked.Parts() {
		var l Linted
		l.Findings, l.Err = lint.TBS(part.ToBeSigned(), public)
		out = append(out, l)
	}
	return out
}
