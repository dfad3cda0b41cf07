package source

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// keys are a source's private keys, but for the beat key, which changes.
type keys struct {
	identity *ecdsa.PrivateKey
	agree    *ecdh.PrivateKey
	sequence []byte // 32 bytes, kind sequence only
	sign     []byte // SPKI of identity
	agreeDER []byte // SPKI of agree
}

func ensureKey(d *disk, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	data, err := encodeKey(key)
	if err != nil {
		return err
	}
	defer clear(data)
	return ensure(d, path, data)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, errors.New("not PEM")
	}
	defer clear(b.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key")
	}
	return key, nil
}

func loadKeys(dir, kind string) (*keys, error) {
	k := new(keys)
	var err error
	if k.identity, err = loadKey(filepath.Join(dir, fileIdentityKey)); err != nil {
		return nil, err
	}
	a, err := loadKey(filepath.Join(dir, fileAgreeKey))
	if err != nil {
		return nil, err
	}
	if k.agree, err = a.ECDH(); err != nil {
		return nil, err
	}
	if kind == ledger.SourceSequence {
		path := filepath.Join(dir, fileSequence)
		if k.sequence, err = readSecret(path); err != nil {
			return nil, err
		}
		if len(k.sequence) != 32 {
			return nil, fmt.Errorf("%s has %d bytes, not 32", path, len(k.sequence))
		}
	}
	if k.sign, err = x509.MarshalPKIXPublicKey(k.identity.Public()); err != nil {
		return nil, err
	}
	k.agreeDER, err = x509.MarshalPKIXPublicKey(k.agree.PublicKey())
	return k, err
}
