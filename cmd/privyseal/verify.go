package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func newVerify(a *app) *cobra.Command {
	return command.Group("verify", "Verify what the system signed, by the keys in its genesis", newVerifyFile(a), newVerifyCertificate(a))
}

func newVerifyFile(a *app) *cobra.Command {
	var signature, key, algorithm string
	c := &cobra.Command{
		Use:   "file FILE --signature FILE --key KEY",
		Short: "Verify a signature on a file, and print how OpenSSL does the same",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.verifyFile(args[0], signature, key, threshold.Algorithm(algorithm))
		},
	}
	f := c.Flags()
	f.StringVar(&signature, "signature", "", "the signature (default: FILE.sig)")
	f.StringVar(&key, "key", "", "id of the key (default: the only one for files)")
	f.StringVar(&algorithm, "algorithm", "", "RS256 and so on (default: whichever fits)")
	return c
}

func (a *app) verifyFile(path, signature, key string, alg threshold.Algorithm) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	q := asking{Wish: client.Wish{Key: key, Kind: document.KindFile}}
	k, _, err := q.keyOf(s.State())
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	named := signature != ""
	if !named {
		signature = path + ".sig"
	}
	sig, err := readSmall(signature, 64<<10)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return term.WithHint(err, "name the signature with --signature FILE")
	}
	if err != nil {
		return err
	}
	if alg, err = client.VerifyFile(s.State(), k.ID, alg, f, sig); err != nil {
		return err
	}
	commands := opensslFile(k, alg, path, signature)
	return a.result(struct {
		File      string   `json:"file"`
		Valid     bool     `json:"valid"`
		Key       string   `json:"key"`
		Algorithm string   `json:"algorithm"`
		OpenSSL   []string `json:"openssl"`
	}{path, true, k.ID, string(alg), commands}, func() {
		a.say("%s: good signature (%s) by key %s (%s) of system %q", path, alg, k.ID, k.Name, s.State().Name())
		a.say("\nOpenSSL does the same:\n  %s", strings.Join(commands, "\n  "))
	})
}

// opensslFile is how anybody verifies a signature without this program.
func opensslFile(k ledger.Key, alg threshold.Algorithm, path, signature string) []string {
	pem := shellQuote(k.ID + ".pem")
	check := fmt.Sprintf("openssl dgst -sha%d -verify %s -signature %s", alg.Hash().Size()*8, pem, shellQuote(signature))
	if alg.PSS() {
		check += fmt.Sprintf(" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:%d", alg.SaltLen())
	}
	return []string{
		fmt.Sprintf("privyseal system export %s --public --out %s", shellQuote(k.ID), pem),
		check + " " + shellQuote(path),
	}
}

func newVerifyCertificate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "certificate FILE",
		Short: "Verify a certificate under the roots in the genesis and the ledger, or all that a file holds",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return a.verifyCertificates(c.Context(), args[0]) },
	}
}

// verifiedJSON is a good certificate.
type verifiedJSON struct {
	File      string   `json:"file"`
	Valid     bool     `json:"valid"`
	Key       string   `json:"key"`
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	Serial    string   `json:"serial"`
	Names     []string `json:"names"`
	NotBefore int64    `json:"not_before"`
	NotAfter  int64    `json:"not_after"`
	OpenSSL   []string `json:"openssl,omitempty"`

	key ledger.Key
}

// verifyCertificates verifies all certificates in a file: one after the other is
// how a batch without --out is printed. One that is bad makes the file so.
func (a *app) verifyCertificates(ctx context.Context, path string) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	data, err := readSmall(path, document.MaxFile)
	if err != nil {
		return err
	}
	ders, err := client.ReadCertificates(data)
	if err != nil {
		return err
	}
	var all []verifiedJSON
	for i, der := range ders {
		x, err := a.verifyCertificate(ctx, s, der)
		if err != nil && len(ders) > 1 {
			err = fmt.Errorf("certificate %d of %d: %w", i+1, len(ders), err)
		}
		if err != nil {
			return err
		}
		x.File = path
		all = append(all, *x)
	}
	show := func(x *verifiedJSON, name string) {
		a.say("%s: good certificate under key %s (%s) of system %q", name, x.key.ID, x.key.Name, s.State().Name())
		a.say("  subject   %s", x.Subject)
		a.say("  names     %s", listOr(x.Names, "none"))
		a.say("  issuer    %s", x.Issuer)
		a.say("  serial    %s", x.Serial)
		a.say("  validity  %s to %s", timeText(x.NotBefore), timeText(x.NotAfter))
	}
	if len(all) > 1 {
		return a.result(struct {
			File         string         `json:"file"`
			Valid        bool           `json:"valid"`
			Certificates []verifiedJSON `json:"certificates"`
		}{path, true, all}, func() {
			for i := range all {
				show(&all[i], fmt.Sprintf("%s, %d of %d", path, i+1, len(all)))
			}
		})
	}
	x := &all[0]
	pem := shellQuote(x.Key + ".pem")
	x.OpenSSL = []string{
		fmt.Sprintf("privyseal system export %s --out %s", shellQuote(x.Key), pem),
		fmt.Sprintf("openssl verify -CAfile %s %s", pem, shellQuote(path)),
	}
	return a.result(x, func() {
		show(x, path)
		a.say("\nOpenSSL does the same:\n  %s", strings.Join(x.OpenSSL, "\n  "))
	})
}

func (a *app) verifyCertificate(ctx context.Context, s *client.System, der []byte) (*verifiedJSON, error) {
	k, cert, err := client.VerifyCertificate(s.State(), der, a.now().Unix())
	if errors.Is(err, client.ErrIssuer) {
		// An authority may be younger than what this home knows of the ledger. If no
		// server answers, what is known has to do.
		if conn, _, away := a.dial(ctx, s, a.server); away == nil {
			conn.Close()
			k, cert, err = client.VerifyCertificate(s.State(), der, a.now().Unix())
		}
	}
	if err != nil {
		return nil, err
	}
	return &verifiedJSON{
		Valid: true, Key: k.ID, Subject: document.Escape(cert.Subject.String()), Issuer: document.Escape(cert.Issuer.String()),
		Serial: hex.EncodeToString(cert.SerialNumber.Bytes()), Names: namesOf(cert), NotBefore: cert.NotBefore.Unix(), NotAfter: cert.NotAfter.Unix(), key: k,
	}, nil
}

func namesOf(c *x509.Certificate) []string {
	out := []string{}
	add := func(list []string) {
		for _, n := range list {
			out = append(out, document.Escape(n))
		}
	}
	add(c.DNSNames)
	add(c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	for _, u := range c.URIs {
		out = append(out, document.Escape(u.String()))
	}
	return out
}

// pemOf is a DER object as other programs read it.
func pemOf(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}
