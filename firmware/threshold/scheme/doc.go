// Package scheme is the family of ways to share an RSA private key, behind one
// small interface: to choose from, to compare and to test by the same tests. The
// mathematics is in packages threshold, ittc, shoup, integer, half and twolayer; here
// are adapters, and for each scheme the facts that can be computed of it.
//
// Any t of n devices sign together, fewer learn nothing, and the signature is an
// ordinary one. A dealing is shown as one value here; in a system each of its
// devices is a machine, and only package threshold's own schemes and two layers
// have keys in the ledger.
package scheme
