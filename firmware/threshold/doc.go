// Package threshold is the mathematics of splitting an RSA private key among
// devices and of signing with the parts.
//
// A key (N, e, d) is split into shares for n devices so that any t of them
// sign together, fewer learn nothing, and the signature is an ordinary RSA
// signature. Two schemes are offered, both of Sudia and Freund's multi-step
// signing system:
//
//   - [Additive]: d = Σ dⱼ mod φ(N). Each device raises the encoded message to
//     its share, independently of the others; anyone multiplies the results
//     ([CombineAdditiveVarTime]). Such a signature is made in parallel.
//   - [Multiplicative]: d = Π dⱼ mod φ(N). Each device raises the result of the
//     one before to its share; the last result is the signature
//     ([FinishSequentialVarTime]). Such a signature is made in sequence, in any
//     order, and each device after the first demands proof that what it
//     advances belongs to the document ([VerifySequence]).
//
// To have t of n and not n of n, d is split afresh for every set of t devices:
// see [Deal].
//
// # Vocabulary
//
// A share is all that one device holds of a key; it consists of sub-shares, one
// for each subset of t devices to which the device belongs. A partial signature
// is a power of an encoded message (the integer of |N| bytes that RFC 8017
// calls EM) by a sub-share. The lead makes the whole key, deals it and forgets
// it. The coordinator combines and holds no secret.
//
// Indices count from 1. All integers modulo N travel as exactly |N| bytes,
// big-endian.
//
// # Signs
//
// x and N − x have the same square, and proofs can speak only of squares
// (see [Prove]). Hence partial signatures travel as min(y, N − y), all
// checks are blind to the sign, and whoever finishes a signature S releases S or
// N − S, whichever verifies.
//
// # Time
//
// Whatever touches a share runs in constant time, in package modexp or, for
// the few additions of a proof, here. Functions whose name ends in VarTime, and
// all checks, handle public values only and say so. Generating and dealing a key
// uses math/big, which is neither constant-time nor able to erase all its
// copies; that happens once, in the lead, under the eyes of witnesses:
// see [GenerateKey] and [WholeKey.Wipe].
//
// # Purity
//
// Functions take entropy as an argument and do no input or output.
package threshold
