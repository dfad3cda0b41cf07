// Package tolerant carries the tasks of certificate authorities in two layers
// between message servers (B [0042]–[0052], [0106]–[0116]): the packets of the
// three broadcast channels, and the [Desk] at which the calculators and
// combiners of one site work.
//
// A task distributor (package coordinator) broadcasts a task on channel B1 and
// knows of no machine whether it works. Each site's desk asks its own devices
// and acknowledges for those that take the task. When a device's operators have
// confirmed it, the distributor says so; then a calculator's powers go out on
// B2, and what a combiner makes of them on B3, where the output interface, which
// is part of the distributor, verifies it. An [Output] is one that is not: it
// listens, at whatever site, and keeps what was signed.
//
// Packets are not signed, and any may be lost, doubled, late, out of order or
// made up by another site: what counts in them is signed by those who answer
// for it, and is verified here and by the devices again. Whoever forges the rest
// can delay, as whoever cuts the network can.
//
// A desk holds no secret, and all of it but the illegal tasks is memory: after a
// restart the distributor's repetitions bring everything back.
package tolerant
