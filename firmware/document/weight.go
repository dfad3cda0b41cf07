package document

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"
	"math/bits"
)

// Every device of a route checks a batch before anybody has approved it, and so do
// servers. What that takes is, but for the proofs that requesters have their private
// keys, little; and a proof takes as long as its requester's kind of key makes it: a
// hundred with P-521 took devices twenty times as long as a hundred with P-256. A
// request for one certificate may have any key that may be certified.

// maxBatchWeight bounds the proofs in a batch: as many as of a full batch (maxBatch)
// of keys with 4096 bits, 60 ms of a core where a proof with P-256 takes 0.2 ms.
const maxBatchWeight = 3 * maxBatch

// What a proof takes, in proofs with P-256 or Ed25519, as crypto/x509 verifies them.
// P-256 has assembly; P-384 takes 0.75 ms and P-521 4 ms.
const (
	weightP384 = 4
	weightP521 = 20
)

// weight is what it takes to verify a signature of a key, in those with P-256.
func (k subjectKey) weight() int {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P384():
			return weightP384
		case elliptic.P521():
			return weightP521
		}
	case *rsa.PublicKey:
		return weightRSA(p.N, p.E)
	}
	return 1
}

// weightRSA counts multiplications modulo N: one for each bit of the exponent, and
// one more for each that is set. Their time grows with the square of N's length; one
// proof with P-256 takes as long as 32 of them at 2048 bits. 4096 bits weigh 3 and
// 8192 bits 10 with the usual exponent, and up to 31 with others: 6 ms.
func weightRSA(n *big.Int, e int) int {
	length := n.BitLen()
	steps := bits.Len(uint(e)) + bits.OnesCount(uint(e))
	return (steps*length*length + 32*2048*2048 - 1) / (32 * 2048 * 2048)
}

// Weight is what it takes to verify the proofs of a request, in those with P-256: of
// keys that cannot be read nothing. The request need not be verified. Of a batch that
// is too long no more is read than a batch may have: none of its proofs is verified.
func (r *Request) Weight() int {
	sum := 0
	for _, d := range append([]Draft{{r.Document, r.CSR}}, r.Batch[:min(len(r.Batch), maxBatch)]...) {
		if key, err := csrKey(d.CSR); err == nil {
			sum += key.weight()
		}
	}
	return sum
}

// checkWeight refuses a batch whose proofs would take too long, before any of them
// is verified.
func checkWeight(batch []Draft) error {
	sum, most, of := 0, 0, 0
	for i := range batch {
		key, err := csrKey(batch[i].CSR)
		if err != nil {
			return fmt.Errorf("certificate %d of %d: %w", i+1, len(batch), err)
		}
		w := key.weight()
		if sum += w; w > most {
			most, of = w, i
		}
	}
	if sum <= maxBatchWeight {
		return nil
	}
	key, err := csrKey(batch[of].CSR)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: every device would verify proofs of these keys as long as %d with P-256, %d at once at most, and one for %s counts as %d: make several requests",
		ErrBatch, sum, maxBatchWeight, key.describe(), most)
}
