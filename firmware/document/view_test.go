package document

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"www.example.com":            "www.example.com",
		"Prøve & Sønner Ångström":    `Prøve & Sønner Ångström`,
		"a\x1b[2Jb":                  `a\u{1b}[2Jb`,
		"a\x1b]0;title\x07":          `a\u{1b}]0;title\u{7}`,
		"a\u009b2J":                  `a\u{9b}2J`,
		"a\r\nsubject: b":            `a\u{d}\u{a}subject: b`,
		"a\u202egnp.exe":             `a\u{202e}gnp.exe`,
		"a\u2066b\u2069":             `a\u{2066}b\u{2069}`,
		"a\u200bb\ufeff":             `a\u{200b}b\u{feff}`,
		"a\u00a0b\u2003c":            `a\u{a0}b\u{2003}c`,
		"pаypal.com":                 `p\u{430}ypal.com`,                    // Cyrillic а among Latin
		"аррӏе":                      `\u{430}\u{440}\u{440}\u{4cf}\u{435}`, // Cyrillic only, each a lookalike
		"Жюли":                       "Жюли",
		"ｇｏｏｇｌｅ":                     `\u{ff47}\u{ff4f}\u{ff4f}\u{ff47}\u{ff4c}\u{ff45}`,
		"goog\u0131e":                `goog\u{131}e`,
		"1\u20442":                   `1\u{2044}2`,
		"e\u0301":                    `e\u{301}`,
		"שלום":                       `\u{5e9}\u{5dc}\u{5d5}\u{5dd}`,
		"東京都":                        "東京都",
		"\xff\xfe":                   `\x{ff}\x{fe}`,
		`\u{41}`:                     `\\u{41}`,
		"a   b":                      `a \u{20}\u{20}b`,
		" a ":                        `\u{20}a\u{20}`,
		"\U0001d400\U000e0041\ue000": `\u{1d400}\u{e0041}\u{e000}`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestEscapeSafe: whatever goes in, nothing comes out that a terminal acts
// upon or that reorders text, and different inputs stay different.
func TestEscapeSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if s := rapid.SliceOf(rapid.Byte()).Draw(t, "octets"); len(s)%2 == 0 {
			a = string(s)
		}
		checkSafe(t, Escape(a))
		if a != b && Escape(a) == Escape(b) {
			t.Fatalf("%q and %q look alike: %s", a, b, Escape(a))
		}
	})
}

func checkSafe(t interface{ Fatalf(string, ...any) }, s string) {
	for _, r := range s {
		if r < ' ' || 0x7f <= r && r < 0xc0 || !unicode.IsPrint(r) || unicode.In(r, unicode.Cf, unicode.M, unicode.Hebrew, unicode.Arabic) {
			t.Fatalf("%U passed in %q", r, s)
		}
	}
	if strings.Contains(s, "  ") || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		t.Fatalf("padding passed in %q", s)
	}
}

// TestViewInjection: a subject, names and a comment made to forge the screen
// come out as what they are, in text and in JSON.
func TestViewInjection(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	ca := certificateKey(t, k, threshold.RS256)
	evil := "good.example\x1b[1A\x1b[2K\rlength 1 days\n  \u202emoc.live" + strings.Repeat(" ", 70) + "issuer"
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{evil}, CommonName: "x, organization=Trusted"}, DNSNames: []string{"www.example.com"},
	}, private)
	if err != nil {
		t.Fatal(err)
	}
	r := certificateRequest(t, ca, csr, leaf(t, ca, csr, threshold.RS256), threshold.RS256)
	r.Comment = "urgent\x1b[31m\n\nWARNING: all is well\x00"
	c, err := Check(r, ca, now)
	if err != nil {
		t.Fatal(err)
	}
	v := c.View()
	for _, width := range []int{0, 60, 80, 200} {
		for _, line := range v.Lines(width) {
			for _, r := range line {
				if r != ' ' && !unicode.IsGraphic(r) || r == 0x202e || r == 0x1b {
					t.Fatalf("%U passed in %q", r, line)
				}
			}
			if n := len([]rune(line)); n > max(width, 60) {
				t.Errorf("a line of %d columns for a screen of %d: %q", n, width, line)
			}
		}
	}
	text := v.String()
	if !strings.Contains(text, `\u{1b}[1A`) || !strings.Contains(text, `x\, organization\=Trusted`) {
		t.Errorf("view:\n%s", text)
	}
	if strings.Count(text, "\n  length") != 1 {
		t.Errorf("a forged line stands at the start of a line:\n%s", text)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range string(raw) {
		if r < ' ' || r == 0x202e {
			t.Fatalf("%U passed into JSON", r)
		}
	}
	var back View
	if err := json.Unmarshal(raw, &back); err != nil || back.String() != text {
		t.Errorf("JSON does not round-trip: %v", err)
	}
}

// TestViewWarnings: officers are told where request and certificate differ.
func TestViewWarnings(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	ca := certificateKey(t, k, threshold.RS256)
	csr := opensslCSR(t, newEC, "-addext", "subjectAltName=DNS:a.example.com,DNS:b.example.com")
	tbs := leaf(t, ca, csr, threshold.RS256)
	subject, err := Name{CommonName: "Someone else"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	tbs.Subject = subject
	replaceExtension(tbs, Extension{OIDSubjectAltName, false, append([]byte{0x30, 0x0f, 0x82, 0x0d}, "*.example.com"...)})
	tbs.Extensions = append(tbs.Extensions, Extension{mustOID("1.3.6.1.4.1.99999.1"), false, []byte{0xde, 0xad}})
	c, err := Check(certificateRequest(t, ca, csr, tbs, threshold.RS256), ca, now)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(c.View().Warnings, "\n")
	for _, want := range []string{"another subject", "does not ask for the name DNS: *.example.com", "every host", "asks for the name DNS: a.example.com", "1.3.6.1.4.1.99999.1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no warning of %q:\n%s", want, text)
		}
	}
	if all := c.View().String(); !strings.Contains(all, "2 octets: dead") {
		t.Errorf("the unknown extension is not shown:\n%s", all)
	}
}

// TestColumns: all values begin in one column, behind whatever label, and nothing
// is cut.
func TestColumns(t *testing.T) {
	ca := certificateKey(t, rsaKey(t, "ca", 2048), threshold.RS256)
	csr := opensslCSR(t, newEC, "-addext", "subjectAltName=DNS:a.example.com,DNS:b.example.com")
	tbs := leaf(t, ca, csr, threshold.RS256)
	tbs.Extensions = append(tbs.Extensions,
		Extension{mustOID("1.3.6.1.4.1.311.25.2"), false, []byte{4, 1, 7}}, // "Microsoft security identifier": 29
		Extension{mustOID("1.3.6.1.4.1.99999.4294967295.4294967295"), false, []byte{4, 1, 8}})
	c, err := Check(certificateRequest(t, ca, csr, tbs, threshold.RS256), ca, now)
	if err != nil {
		t.Fatal(err)
	}
	v := c.View()
	for _, width := range []int{60, 80, 120} {
		lines := v.Lines(width)
		text := strings.Join(lines, "\n") + "\n"
		if strings.Count(text, "\n  basic constraints, critical not a certificate authority\n") != 1 {
			t.Errorf("%d columns:\n%s", width, text)
		}
		for _, line := range lines {
			if Columns(line) > width {
				t.Errorf("%d columns: %q", width, line)
			}
		}
		for _, s := range v.Sections {
			at := slices.Index(lines, s.Title) + 1
			for _, f := range s.Fields {
				head := "  " + f.Label
				if len(f.Label) >= labelWidth {
					if lines[at] != head {
						t.Errorf("%d columns: %q has no line of its own: %q", width, f.Label, lines[at])
					}
					at, head = at+1, ""
				}
				for _, value := range f.Values {
					if got := strings.TrimRight(lines[at][:2+labelWidth], " "); got != head {
						t.Errorf("%d columns: %q is left of a value of %q", width, got, f.Label)
					}
					got := lines[at][2+labelWidth:]
					for at++; at < len(lines) && strings.HasPrefix(lines[at], strings.Repeat(" ", 2+labelWidth)+"| "); at++ {
						got += lines[at][2+labelWidth+2:]
					}
					if got != value {
						t.Errorf("%d columns: %s: %q, expected %q", width, f.Label, got, value)
					}
					head = ""
				}
			}
		}
	}
}

func TestFileView(t *testing.T) {
	key, _ := fileKey(t)
	for data, want := range map[string][]string{
		"hello\nworld\x1b[2J":       {"text", "hello", `world\u{1b}[2J`, "content", "15 octets"},
		"%PDF-1.7\n\xff\xfe\x00":    {"a PDF document", "25 50 44 46", "compare its SHA-256"},
		"#!/bin/sh\nrm -rf build\n": {"a script", "rm -rf build"},
	} {
		r := fileRequest(key, []byte(data))
		r.Algorithm = threshold.PS512
		c, err := Check(r, key, now)
		if err != nil {
			t.Fatal(err)
		}
		text := c.View().String()
		for _, w := range append(want, "SHA-512", "release.tar") {
			if !strings.Contains(text, w) {
				t.Errorf("the view of %q lacks %q:\n%s", data, w, text)
			}
		}
	}
}
