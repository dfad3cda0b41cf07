package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newCertify() *cobra.Command {
	var dir, caCert, caKey string
	var years int
	cmd := &cobra.Command{
		Use:   "certify --dir DIR --ca-cert FILE --ca-key FILE",
		Short: "Play the manufacturer: certify a device's keys (laboratories and CI)",
		Long: `Play the manufacturer of a device: sign a certificate for its signature key and
one for its agreement key, each with the device's serial number, by a CA whose
key lies in a file. A manufacturer proper does this in its own factory with its
own CA, and puts sign-cert.pem and agree-cert.pem (leaf first, without the root)
into the device's directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if years < 1 {
				return command.Usage("a certificate is valid for one year at least", "leave out --years for ten")
			}
			if err := certify(dir, caCert, caKey, years); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "the device's keys are certified for %d years: %s, %s\n",
				years, filepath.Join(dir, fileSignCert), filepath.Join(dir, fileAgreeCert))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the device's directory")
	f.StringVar(&caCert, "ca-cert", "", "the manufacturer's certificate, PEM")
	f.StringVar(&caKey, "ca-key", "", "its key, PKCS#8 PEM")
	f.IntVar(&years, "years", 10, "validity")
	for _, name := range []string{"dir", "ca-cert", "ca-key"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func certify(dir, caCert, caKey string, years int) error {
	_, id, err := load(dir)
	if err != nil {
		return err
	}
	for _, name := range []string{fileSignCert, fileAgreeCert} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return term.WithHint(fmt.Errorf("device %s is certified already: %s is there", id.ID, filepath.Join(dir, name)),
				"nothing is overwritten; to certify it anew, remove "+fileSignCert+" and "+fileAgreeCert+" first")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	chain, err := readChain(caCert)
	if err != nil {
		return err
	}
	if len(chain) == 0 {
		return term.WithHint(fmt.Errorf("there is no certificate in %s", caCert), "name the manufacturer's, in PEM, with --ca-cert")
	}
	if len(chain) > 1 {
		return fmt.Errorf("%s: %d certificates where the manufacturer's one is expected", caCert, len(chain))
	}
	ca, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("%s: %w", caCert, err)
	}
	data, err := os.ReadFile(caKey)
	if err != nil {
		return term.WithHint(err, "name the manufacturer's key, in PKCS#8 PEM, with --ca-key")
	}
	b, _ := pem.Decode(data)
	if b == nil {
		return term.WithHint(fmt.Errorf("%s: not PEM", caKey), "openssl pkcs8 -topk8 -nodes makes PKCS#8 PEM of other forms")
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return term.WithHint(fmt.Errorf("%s: %w", caKey, err), "openssl pkcs8 -topk8 -nodes makes PKCS#8 PEM of other forms")
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s: a %T cannot sign", caKey, k)
	}
	if fits, ok := ca.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !fits.Equal(signer.Public()) {
		return term.WithHint(fmt.Errorf("%s is not the key of the certificate %s", caKey, caCert), "name the two that belong together")
	}
	for _, c := range []struct {
		file  string
		key   []byte
		usage x509.KeyUsage
	}{
		{fileSignCert, id.Sign, x509.KeyUsageDigitalSignature},
		{fileAgreeCert, id.Agree, x509.KeyUsageKeyAgreement},
	} {
		pub, err := x509.ParsePKIXPublicKey(c.key)
		if err != nil {
			return err
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			return err
		}
		now := time.Now()
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial.Add(serial, big.NewInt(1)),
			Subject:      pkix.Name{CommonName: id.Model + " " + id.Serial, SerialNumber: id.Serial, OrganizationalUnit: []string{id.Model}},
			NotBefore:    now.Add(-time.Minute), NotAfter: now.AddDate(years, 0, 0),
			KeyUsage: c.usage, BasicConstraintsValid: true,
		}, ca, pub, signer)
		if err != nil {
			return err
		}
		out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := atomicfile.Create(filepath.Join(dir, c.file), out, 0o644); err != nil {
			return err
		}
	}
	return nil
}
