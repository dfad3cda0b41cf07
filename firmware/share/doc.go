// Package share keeps a device's share of a signing key at rest, and puts it
// to use for the time of one partial signature.
//
// At rest a share is
//
//	AES-256-GCM(officers' key, AES-KWP(token's KEK, PKCS#8 of the sub-share))
//
// once for each sub-share. The token takes off the inner layer; the outer one
// needs the officers' key, 32 random bytes that exist only as pieces: Shamir's
// l of m, one for each officer, sealed to the agreement key (slot 9D) of his
// card. An approval carries the officer's piece, sealed to a one-time key that
// the device made in memory for that request. So a thief of disk, token and PIN
// lacks the outer layer, a corrupt quorum without the token lacks the inner one,
// and recorded messages open nothing once the one-time key is gone.
//
// (Source A, figures 22 and 23: "the plaintext SWA key share exists only
// transiently during the time that it is being used".)
//
// A share of a key in two layers has many parts. There the token wraps one key,
// and that key seals the parts: see [SealParts].
//
// A sub-share is used in the token ([InToken]), which then never shows it to
// the host, or in the host ([InHost]), in memory that the caller provides and
// locks.
//
// The token's PIN is split among the officers in the same way.
package share
