package ledger

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

func (t *tables) checkModels() error {
	seen := make(map[[3]string]bool)
	for _, m := range t.genesis.Models {
		where := fmt.Sprintf("model %.64q", m.Model)
		if m.Kind != ModelCard && m.Kind != ModelDevice {
			return invalid(where, "kind %.32q is neither %q nor %q", m.Kind, ModelCard, ModelDevice)
		}
		for _, f := range [][2]string{{"manufacturer", m.Manufacturer}, {"model", m.Model}} {
			if err := checkName(f[0], f[1], maxName); err != nil {
				return invalid(where, "%v", err)
			}
		}
		if m.Standard != "" {
			if err := checkName("standard", m.Standard, maxText); err != nil {
				return invalid(where, "%v", err)
			}
		}
		// A model may have several roots: makers renew them.
		if id := [3]string{m.Kind, m.Model, string(m.Root)}; seen[id] {
			return invalid(where, "is listed twice with the same root")
		} else {
			seen[id] = true
		}
		if _, err := x509.ParseCertificate(m.Root); err != nil {
			return invalid(where, "root: %v", err)
		}
	}
	return nil
}

// checkDeviceCertificates follows the manufacturer's certificates of a device's token keys to a root of its model (row A8).
func (t *tables) checkDeviceCertificates(d *Device) error {
	if t.genesis.Ceremony.Vault && len(d.SignCert) == 0 && len(d.AgreeCert) == 0 {
		return nil // compared by hand, and recorded as such
	}
	if err := t.checkChain(ModelDevice, d.Model, d.Sign, d.SignCert); err != nil {
		return fmt.Errorf("certificate of the signature key: %w", err)
	}
	if err := t.checkChain(ModelDevice, d.Model, d.Agree, d.AgreeCert); err != nil {
		return fmt.Errorf("certificate of the agreement key: %w", err)
	}
	return nil
}

// checkCardAttestation follows the statements of a card that its keys were made in it to a root of its model (rows A7, A17, A18).
func (t *tables) checkCardAttestation(c *Card) error {
	if t.genesis.UnattestedCards && len(c.AttestSign) == 0 && len(c.AttestAgree) == 0 && len(c.Intermediate) == 0 {
		return nil
	}
	if err := t.checkChain(ModelCard, c.Model, c.Sign, [][]byte{c.AttestSign, c.Intermediate}); err != nil {
		return fmt.Errorf("attestation of the signature key: %w", err)
	}
	if err := t.checkChain(ModelCard, c.Model, c.Agree, [][]byte{c.AttestAgree, c.Intermediate}); err != nil {
		return fmt.Errorf("attestation of the agreement key: %w", err)
	}
	return nil
}

// checkChain accepts a chain, leaf first, whose leaf certifies the key and whose last certificate is signed by an approved root of
// the model. Signatures alone are followed: attestation certificates bear no reliable dates, constraints or usages (those of PIV
// cards live as long as the card and do not expire with it), which is also why package card does not use x509.Verify for them.
func (t *tables) checkChain(kind, model string, spki []byte, chain [][]byte) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("chain of %d certificates where 1 to %d are possible", len(chain), maxChain)
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		if len(der) == 0 {
			return fmt.Errorf("certificate %d is missing", i)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
		certs[i] = c
	}
	if !bytes.Equal(certs[0].RawSubjectPublicKeyInfo, spki) {
		return fmt.Errorf("is of another key")
	}
	for i := range len(certs) - 1 {
		// A token's own key must not be able to certify another. For cards the length of the chain sees to that.
		if kind == ModelDevice && !(certs[i+1].BasicConstraintsValid && certs[i+1].IsCA) {
			return fmt.Errorf("certificate %d is not an authority's", i+1)
		}
		if err := signedBy(certs[i], certs[i+1]); err != nil {
			return fmt.Errorf("certificate %d is not signed by certificate %d: %w", i, i+1, err)
		}
	}
	found := false
	for _, m := range t.genesis.Models {
		if m.Kind != kind || m.Model != model {
			continue
		}
		found = true
		root, err := x509.ParseCertificate(m.Root)
		if err == nil && signedBy(certs[len(certs)-1], root) == nil {
			return nil
		}
	}
	if !found {
		return fmt.Errorf("no approved %s model %q", kind, model)
	}
	return fmt.Errorf("does not lead to an approved root of model %q", model)
}

func signedBy(c, parent *x509.Certificate) error {
	return parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
}
