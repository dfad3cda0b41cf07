// Package soak runs a fleet of real device processes, each in front of its own
// SoftHSM2 token, under load, and cuts their heartbeats at random moments. It is
// for tests and for scripts/bench, and no part of the product.
//
// The one process here is everything else: the desk of a real ceremony, the
// message server at the other end of every device's link, the heartbeat sources
// (heartbeat.Station), the officers with their cards, and those who ask for
// signatures. All processes are on one machine and have one boot-time clock,
// which is what makes lateness something that can be proved: see [Cuts].
package soak
