// Package envelope makes and checks the messages that devices, officers,
// servers and requesters exchange.
//
// A message is a COSE_Sign1 (RFC 9052 section 4.2, tagged 18) signed with
// ES256 over deterministic CBOR (RFC 8949 section 4.2.1). Everything a receiver
// decides by stands in the protected header, so the signature covers it:
//
//	     1  alg           int   -7 (ES256), nothing else
//	     2  crit          [int] every label below -70000 that is present, in this order
//	     3  content type  tstr  "application/vnd.privyseal." + Type + "+cbor"
//	     4  kid           bstr  .size 32, KeyID of the signer
//	-70001  version       uint  version of the payload's type, at least 1
//	-70002  id            bstr  .size 16, random, not zero
//	-70003  re            bstr  .size 16, id of the message this answers    (absent: none)
//	-70004  system        bstr  .size 32, hash of the genesis               (absent: before commissioning)
//	-70005  to            [bstr .size 32], recipients' agreement key ids    (absent: not addressed)
//	-70006  key           tstr  id of the split key concerned               (absent: none)
//	-70007  epoch         uint  epoch of that key                           (absent: 0)
//	-70008  ledger head   bstr  .size 32, head known to the signer          (absent: none)
//	-70009  created       uint  seconds since 1970                          (absent: 0)
//	-70010  expires       uint  seconds since 1970, later than created
//
// The labels are from COSE's range for private use (below -65536). A zero value
// is left out, never written: there is one encoding of a header. The
// unprotected header is always empty.
//
// A chain (each signer covering everything before him) is a message whose
// payload has a field that holds the raw bytes of the message before. The
// field is a byte string, so nesting costs no CBOR depth; MaxChain limits it.
//
// Verification is strict: unknown labels, other algorithms, a non-empty
// unprotected header, encodings that are not deterministic, trailing bytes and
// signatures with s > n/2 are refused, each by name. ECDSA signatures are
// malleable and randomised, so a message's identity is [Verified.Digest], the
// hash of what was signed, and not the hash of its bytes.
//
// For transport a message is sealed (see [Seal]): encrypted once under a fresh
// content key, which is sealed with HPKE (RFC 9180) to each recipient's P-256
// key, whose private half may live in a token or a card.
package envelope
