// Package ittc shares an RSA key by groups, as the Intrusion Tolerance via
// Threshold Cryptography project did: Wu, Malkin and Boneh, "Building Intrusion
// Tolerant Applications" (8th USENIX Security Symposium, 1999); B [0020] to
// [0025].
//
// # The sharing
//
// For each of a few groups g the private exponent is divided afresh into t parts,
//
//	d = d_g1 + … + d_gt mod φ(N),
//
// and each device holds one part of every group; several devices may hold the
// same. A set of t devices signs by a group of which they hold all parts. Which
// device holds which part is a [Family], chosen so that there is such a group for
// every set of t devices: a perfect hash family (Mehlhorn 1982). B's table for
// four servers and t = 3 ([0023]) is none: its servers 1, 3 and 4 cannot sign.
//
// This is the split by sets of package threshold with far fewer parts: 3 instead
// of 6 for 3 of 5, 12 instead of 70 for 5 of 9.
//
// # Why t − 1 devices learn nothing
//
// t − 1 devices hold at most t − 1 of the t parts of a group, since each holds one.
// The parts of a group are uniform in Z/φ(N) subject to their sum; any t − 1 of
// them are therefore uniform and independent of d, whatever d is, and different
// groups are divided by independent randomness. So all that t − 1 devices hold
// has one distribution for all d: exactly, not up to a distance. (What the size
// of the parts tells about φ(N) is next to nothing: see [threshold.Deal].)
//
// Two devices that hold the same part know no more than one. But the more
// devices hold a part, the more of them can lose it, and one that is copied out
// of any of them is gone: the threshold counts devices, not copies.
//
// # What it costs
//
// A device makes one exponentiation, but not before it knows which group is used,
// and so who else signs: if one of these fails, the others begin anew with
// another group, unless the new set can use the same. A device that joins gets a
// part of every group, and for the sets that have no group then, new groups are
// dealt to everybody ([Family.Grow], B [0025]).
package ittc
