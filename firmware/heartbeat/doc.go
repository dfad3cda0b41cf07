// Package heartbeat holds both ends of a heartbeat: what a signing device
// believes of the beats that reach it ([Monitor]), and what a beat source, a
// satellite or an associated device decides before it beats ([Station]).
//
// A beat grants a lease. Source A, "Cryptographic heartbeat", describes three
// kinds, all of them here: encrypted messages of which a minimum number has to
// come in a period, a synchronised pseudo-random sequence, and answers of
// satellites to a device's query. All three travel through message servers
// that may hold, drop, double, reorder and record what they carry. What that
// can do to a lease is to shorten it, and nothing else:
//
//   - An answer counts from the moment when the device sent the challenge that
//     it answers, by the device's own boot-time clock. Kept back for an hour it
//     is an hour old.
//   - Messages and values of a sequence belong to time slots, counted from the
//     moment when the device sent the challenge that began their series. The
//     source made slot k no earlier than that moment plus k periods, so what a
//     slot grants ends no later than one lease after the beat was made.
//   - A beat is sealed to the key pair of one instance of the device: what was
//     made at its start, or after its last lock-down, and exists in its memory
//     alone. A copy of the device has other keys, and sources beat for a new
//     instance only when the device's officers have opened it with their cards.
//
// The package does no input or output and reads no clock: the boot-time clock
// is an argument, in nanoseconds, and entropy is an io.Reader.
package heartbeat
