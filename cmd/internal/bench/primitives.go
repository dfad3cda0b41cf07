package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io"

	circl "github.com/cloudflare/circl/tss/rsa"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
)

// Names of the operations, in the order in which they are measured and shown.
const (
	opLibcrypto    = "OpenSSL BN_mod_exp_mont_consttime"
	opHost         = "partial signature, in host"
	opToken        = "partial signature, in token"
	opProve        = "proof of a partial signature"
	opVerify       = "check of a proof"
	opCombine      = "combining three, and verifying"
	opWhole        = "whole crypto/rsa signature (CRT)"
	opCircl        = "circl tss/rsa partial, unblinded"
	opCirclBlinded = "circl tss/rsa partial, blinded"
)

var sizes = []int{2048, 3072, 4096}

// The split of all that is measured here: 3 of 5, as in the demo.
const devices, quorum = 5, 3

// primitives makes a fresh key of the given length, deals it, and returns what
// is to be measured with it. kek is for exponents in the token.
func primitives(bits int, token *hsm.Token, kek string) ([]*operation, error) {
	whole, err := threshold.GenerateKey(rand.Reader, bits, false, nil)
	if err != nil {
		return nil, err
	}
	defer whole.Wipe()
	pub := whole.Public()
	shares, com, err := threshold.Deal(rand.Reader, whole, threshold.Split{Scheme: threshold.Additive, T: quorum, N: devices})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("what is measured"))
	em, err := threshold.Encode(threshold.RS256, digest[:], nil, bits)
	if err != nil {
		return nil, err
	}
	subset, err := threshold.SubsetOf(1, 2, 3)
	if err != nil {
		return nil, err
	}
	d, ok := shares[0].Sub(subset)
	if !ok {
		return nil, fmt.Errorf("the dealt share lacks subset %v", subset)
	}

	ops := []*operation{
		{name: opLibcrypto, run: libcryptoExp(pub.N, em, d.Reveal())},
		// With the modulus' constants: a device makes them for each request.
		{name: opHost, run: func() error {
			e, err := threshold.NewHostExponentiator(pub, d)
			if err != nil {
				return err
			}
			_, err = threshold.Partial(pub, em, e)
			return err
		}},
	}
	inToken, err := tokenPartial(token, kek, pub, em, d)
	if err != nil {
		return nil, err
	}
	ops = append(ops, &operation{name: opToken, run: inToken})

	proof, err := proofs(pub, com, em, shares, subset, digest[:])
	if err != nil {
		return nil, err
	}
	ops = append(ops, proof...)
	layers, err := halfLength(whole, em)
	if err != nil {
		return nil, err
	}
	ops = append(ops, layers...)
	others, err := wholeKey(bits, digest[:], em)
	if err != nil {
		return nil, err
	}
	ops = append(ops, others...)
	for _, o := range ops {
		o.bits = bits
	}
	return ops, nil
}

// tokenPartial is a partial signature with the sub-share in the token. The
// sub-share is unwrapped once: that is the opening of a share, not its use.
func tokenPartial(token *hsm.Token, kek string, pub *threshold.PublicKey, em []byte, d threshold.Secret) (func() error, error) {
	wrapped, err := token.WrapExponent(kek, pub.N, d.Reveal())
	if err != nil {
		return nil, err
	}
	e, err := token.UnwrapExponent(kek, pub.N, wrapped)
	if err != nil {
		return nil, err
	}
	return func() error { _, err := threshold.Partial(pub, em, e); return err }, nil
}

func proofs(pub *threshold.PublicKey, com *threshold.Commitment, em []byte, shares []threshold.Share, subset threshold.Subset, digest []byte) ([]*operation, error) {
	var partials []threshold.PartialSignature
	for _, i := range subset.Indices() {
		d, _ := shares[i-1].Sub(subset)
		e, err := threshold.NewHostExponentiator(pub, d)
		if err != nil {
			return nil, err
		}
		y, err := threshold.Partial(pub, em, e)
		if err != nil {
			return nil, err
		}
		partials = append(partials, threshold.PartialSignature{Index: i, Share: "share", Subset: subset, Value: y})
	}
	d, _ := shares[0].Sub(subset)
	b := threshold.Binding{Key: "key", Epoch: 1, Share: "share", Subset: subset}
	b.System[0], b.Request[0] = 1, 1 // zero binds nothing
	y := partials[0].Value
	proof, err := threshold.Prove(rand.Reader, pub, com, b, 1, em, y, d)
	if err != nil {
		return nil, err
	}
	return []*operation{
		{name: opProve, run: func() error {
			_, err := threshold.Prove(rand.Reader, pub, com, b, 1, em, y, d)
			return err
		}},
		{name: opVerify, run: func() error { return threshold.VerifyProof(pub, com, b, 1, em, y, proof) }},
		{name: opCombine, run: func() error {
			_, err := threshold.CombineAdditiveVarTime(pub, threshold.RS256, digest, partials)
			return err
		}},
	}, nil
}

// wholeKey measures what others do, with a key of the same length.
func wholeKey(bits int, digest, em []byte) ([]*operation, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	shares, err := circl.Deal(rand.Reader, devices, quorum, key, true)
	if err != nil {
		return nil, err
	}
	circlPartial := func(blinding io.Reader) func() error {
		return func() error { _, err := shares[0].Sign(blinding, &key.PublicKey, em, false); return err }
	}
	return []*operation{
		{name: opWhole, run: func() error {
			_, err := rsa.SignPKCS1v15(nil, key, threshold.RS256.Hash(), digest)
			return err
		}},
		{name: opCircl, run: circlPartial(nil)},
		{name: opCirclBlinded, run: circlPartial(rand.Reader)},
	}, nil
}
