// Package lint looks a certificate over before officers approve it. Findings
// are advice for people, shown beside the decoded certificate; what a device
// refuses is in firmware/document.
package lint

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zl "github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/firmware/document"
)

// Severity of a finding.
type Severity int

// Severities, the worst last.
const (
	Notice Severity = iota + 1
	Warning
	Error
	Fatal // the certificate could not be examined for this rule
)

func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Error:
		return "error"
	case Fatal:
		return "fatal"
	}
	return fmt.Sprintf("severity %d", int(s))
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one rule that a certificate breaks. All text is safe to print.
type Finding struct {
	Severity    Severity `json:"severity"`
	Name        string   `json:"name"`
	Source      string   `json:"source"` // who made the rule: "RFC5280", "CABF_BR", …
	Description string   `json:"description"`
	Citation    string   `json:"citation"`
	Details     string   `json:"details,omitempty"`
}

// String is one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s [%s, %s]", f.Severity, f.Description, f.Name, f.Citation)
	if f.Details != "" {
		s += ": " + f.Details
	}
	return s
}

// ErrUnreadable: the rules could not be applied at all.
var ErrUnreadable = errors.New("the certificate cannot be examined")

// publicOnly are rules for certificates that browsers trust: they demand what a
// private authority does not have, such as revocation services.
var publicOnly = zl.SourceList{
	zl.CABFBaselineRequirements, zl.CABFCSBaselineRequirements, zl.CABFEVGuidelines, zl.CABFSMIMEBaselineRequirements,
	zl.MozillaRootStorePolicy, zl.AppleRootStorePolicy, zl.ChromeRootStorePolicy, zl.EtsiEsi,
}

// TBS examines a TBSCertificate in DER by the rules of the RFCs and the
// community, and, when public is set, by those for publicly trusted
// certificates too. Findings come worst first, then by name.
func TBS(tbs []byte, public bool) ([]Finding, error) {
	der, err := wrap(tbs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return certificate(der, public)
}

func certificate(der []byte, public bool) (findings []Finding, err error) {
	// zlint is a large body of code that looks at hostile input; it must not take
	// the workstation down.
	defer func() {
		if r := recover(); r != nil {
			findings, err = nil, fmt.Errorf("%w: the linter failed: %.200v", ErrUnreadable, r)
		}
	}()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	options := zl.FilterOptions{}
	if !public {
		options.ExcludeSources = publicOnly
	}
	registry, err := zl.GlobalRegistry().Filter(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	for name, result := range zlint.LintCertificateEx(cert, registry).Results {
		var severity Severity
		switch result.Status {
		case zl.Notice:
			severity = Notice
		case zl.Warn:
			severity = Warning
		case zl.Error:
			severity = Error
		case zl.Fatal:
			severity = Fatal
		default:
			continue
		}
		meta := result.LintMetadata
		findings = append(findings, Finding{
			Severity: severity, Name: document.Escape(name), Source: document.Escape(string(meta.Source)),
			Description: document.Escape(strings.TrimSpace(meta.Description)), Citation: document.Escape(meta.Citation),
			Details: document.Escape(result.Details),
		})
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Name, b.Name))
	})
	return findings, nil
}

// wrap makes a certificate with a dummy signature: linters read certificates
// only. The signature's algorithm is the one inside the TBSCertificate.
func wrap(tbs []byte) ([]byte, error) {
	t, err := document.ParseTBS(tbs)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(t.Algorithm)
		b.AddASN1BitString(bytes.Repeat([]byte{0x55}, 256))
	})
	return b.Bytes()
}
