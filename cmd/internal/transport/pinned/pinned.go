// Package pinned makes TLS 1.3 configurations for parties that know each
// other by the hash of a public key and by nothing else.
//
// No name, date or certification authority takes part: the ledger records the
// SHA-256 of each server's SubjectPublicKeyInfo (the same hash as an envelope
// key id), and a connection is good when the peer proved possession of a key
// with that hash. The self-signed certificate around the key is only the
// wrapping that TLS asks for.
package pinned

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
)

// A Pin is the SHA-256 of a SubjectPublicKeyInfo in DER. It prints as hex.
type Pin [sha256.Size]byte

// ErrNoPeerKey means that the peer showed no certificate at all.
var ErrNoPeerKey = errors.New("pinned: the peer presented no key")

// A WrongPinError means that the peer proved possession of a key that nobody
// named for this connection.
type WrongPinError struct{ Got Pin }

func (e *WrongPinError) Error() string {
	return fmt.Sprintf("pinned: the peer's key %v is not one that is expected here; compare it with the ledger", e.Got)
}

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// PinOfIdentity returns the pin that peers of this identity must know.
func PinOfIdentity(id tls.Certificate) (Pin, error) {
	if id.Leaf != nil {
		return PinOf(id.Leaf), nil
	}
	if len(id.Certificate) == 0 {
		return Pin{}, errors.New("pinned: identity without a certificate")
	}
	leaf, err := x509.ParseCertificate(id.Certificate[0])
	if err != nil {
		return Pin{}, fmt.Errorf("pinned: identity: %w", err)
	}
	return PinOf(leaf), nil
}

// ParsePin reads 64 hex digits.
func ParsePin(s string) (Pin, error) {
	var p Pin
	if len(s) != hex.EncodedLen(len(p)) {
		return Pin{}, fmt.Errorf("pinned: a pin has %d hex digits, not %d characters", hex.EncodedLen(len(p)), len(s))
	}
	if _, err := hex.Decode(p[:], []byte(s)); err != nil {
		return Pin{}, fmt.Errorf("pinned: pin: %w", err)
	}
	return p, nil
}

func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// IsZero reports whether p is unset. The zero pin never matches a peer.
func (p Pin) IsZero() bool { return p == Pin{} }

// MarshalText implements [encoding.TextMarshaler].
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Pin) UnmarshalText(b []byte) error {
	q, err := ParsePin(string(b))
	if err == nil {
		*p = q
	}
	return err
}

// NewIdentity makes a fresh P-256 key with its certificate.
func NewIdentity() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: %w", err)
	}
	return IdentityOf(key)
}

// IdentityOf wraps a signer, which may live in hardware, in a self-signed
// certificate. Wrapping a key twice gives two certificates with one pin.
func IdentityOf(signer crypto.Signer) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "privyseal transport"},
		// The pin is the trust, so there is nothing to expire. RFC 5280,
		// section 4.1.2.5 names this date for "no well-defined expiration".
		NotBefore:   time.Unix(0, 0),
		NotAfter:    time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer, Leaf: leaf}, nil
}

// LoadIdentity reads a PKCS#8 private key in PEM, or makes one when the file
// does not exist. A file that others may read is refused: such a key is
// already in strange hands. A crash while the file is made leaves either no
// file or the whole one.
func LoadIdentity(path string) (tls.Certificate, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return tls.Certificate{}, err
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return tls.Certificate{}, fmt.Errorf("pinned: %s has mode %04o and others may read it: make a new key, or chmod 0600 if nobody could", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		return tls.Certificate{}, fmt.Errorf("pinned: %s is not one PKCS#8 private key in PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pinned: %s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return tls.Certificate{}, fmt.Errorf("pinned: %s holds a %T, want an ECDSA key on P-256", path, key)
	}
	return IdentityOf(ec)
}

func createKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	err = atomicfile.Create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was first: its key is the one
	}
	return err
}

// Server returns a configuration for the accepting side. With allow nil the
// peer stays anonymous and is not asked for a key; else it must hold a key for
// whose pin allow says true.
func Server(id tls.Certificate, allow func(Pin) bool) *tls.Config {
	c := base()
	c.Certificates = []tls.Certificate{id}
	if allow != nil {
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = verify(allow)
	}
	return c
}

// Client returns a configuration for the dialling side: the peer must hold a
// key with one of the pins. id may be nil where the server asks for no key.
func Client(id *tls.Certificate, pins ...Pin) *tls.Config {
	c := base()
	if id != nil {
		c.Certificates = []tls.Certificate{*id}
	}
	c.InsecureSkipVerify = true // names and chains mean nothing here: verify does it all
	c.VerifyConnection = verify(Among(pins...))
	return c
}

// Mutual returns one configuration for both roles, for meshes whose members
// dial and accept with the same settings.
func Mutual(id tls.Certificate, allow func(Pin) bool) *tls.Config {
	if allow == nil {
		allow = Among() // nobody
	}
	c := Server(id, allow)
	c.InsecureSkipVerify = true // as in Client
	return c
}

// Among returns a predicate that is true for the given pins. With none it is
// always false.
func Among(pins ...Pin) func(Pin) bool {
	pins = append([]Pin(nil), pins...)
	return func(got Pin) bool {
		ok := 0
		for _, p := range pins {
			if !p.IsZero() {
				ok |= subtle.ConstantTimeCompare(p[:], got[:])
			}
		}
		return ok == 1
	}
}

func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would outlive a pin that was withdrawn.
		SessionTicketsDisabled: true,
	}
}

// verify runs after every handshake, with the peer's possession of the leaf's
// key proved by TLS itself.
func verify(allow func(Pin) bool) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return ErrNoPeerKey
		}
		if got := PinOf(cs.PeerCertificates[0]); !allow(got) {
			return &WrongPinError{Got: got}
		}
		return nil
	}
}
