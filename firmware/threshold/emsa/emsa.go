// Package emsa encodes digests for RSA signatures: EMSA-PKCS1-v1_5 and
// EMSA-PSS of RFC 8017. crypto/rsa has both, but applies them only together
// with a whole private key.
package emsa

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// ErrLength is returned for a digest that is not as long as the hash, and for an
// encoded message that is too short for its parts.
var ErrLength = errors.New("emsa: length refused")

// digestInfo holds the DER of DigestInfo up to the digest (RFC 8017 §9.2 note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// EncodePKCS1v15 returns the EMSA-PKCS1-v1_5 encoding of a digest as emLen
// bytes, where emLen is the length of the modulus (RFC 8017 §9.2):
//
//	EM = 0x00 || 0x01 || 0xff … 0xff || 0x00 || DigestInfo || digest
func EncodePKCS1v15(h crypto.Hash, digest []byte, emLen int) ([]byte, error) {
	prefix, ok := digestInfo[h]
	if !ok {
		return nil, fmt.Errorf("emsa: hash %v is not SHA-256, SHA-384 or SHA-512", h)
	}
	if len(digest) != h.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes for %v", ErrLength, len(digest), h)
	}
	tLen := len(prefix) + len(digest)
	if emLen < tLen+11 {
		return nil, fmt.Errorf("%w: encoded message of %d bytes is too short for %v", ErrLength, emLen, h)
	}
	em := make([]byte, emLen)
	em[1] = 0x01
	for i := 2; i < emLen-tLen-1; i++ {
		em[i] = 0xff
	}
	copy(em[emLen-tLen:], prefix)
	copy(em[emLen-len(digest):], digest)
	return em, nil
}

// EncodePSS returns the EMSA-PSS encoding of a digest as ⌈emBits/8⌉ bytes,
// where emBits is one less than the length of the modulus in bits (RFC 8017
// §9.1.1). MGF1 uses the same hash. The steps are those of the RFC:
//
//	H  = Hash(0x00 × 8 || digest || salt)
//	DB = 0x00 … 0x00 || 0x01 || salt
//	EM = DB ⊕ MGF1(H) || H || 0xbc
func EncodePSS(h crypto.Hash, digest, salt []byte, emBits int) ([]byte, error) {
	if _, ok := digestInfo[h]; !ok {
		return nil, fmt.Errorf("emsa: hash %v is not SHA-256, SHA-384 or SHA-512", h)
	}
	hLen, sLen, emLen := h.Size(), len(salt), (emBits+7)/8
	if len(digest) != hLen {
		return nil, fmt.Errorf("%w: digest of %d bytes for %v", ErrLength, len(digest), h)
	}
	if emLen < hLen+sLen+2 { // step 3
		return nil, fmt.Errorf("%w: encoded message of %d bytes is too short for %v and a salt of %d bytes", ErrLength, emLen, h, sLen)
	}
	em := make([]byte, emLen)
	dbLen := emLen - hLen - 1
	db, mPrimeHash := em[:dbLen], em[dbLen:emLen-1]

	f := h.New() // steps 5 and 6
	f.Write(make([]byte, 8))
	f.Write(digest)
	f.Write(salt)
	f.Sum(mPrimeHash[:0])

	db[dbLen-sLen-1] = 0x01 // steps 7 and 8
	copy(db[dbLen-sLen:], salt)
	mgf1XOR(db, f, mPrimeHash)          // steps 9 and 10
	db[0] &= 0xff >> (8*emLen - emBits) // step 11
	em[emLen-1] = 0xbc                  // step 12
	return em, nil
}

// mgf1XOR xors dst with the mask that MGF1 makes of seed (RFC 8017 §B.2.1).
func mgf1XOR(dst []byte, f hash.Hash, seed []byte) {
	var counter [4]byte
	for i := uint32(0); len(dst) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		f.Reset()
		f.Write(seed)
		f.Write(counter[:])
		dst = dst[subtle.XORBytes(dst, dst, f.Sum(nil)):]
	}
}
