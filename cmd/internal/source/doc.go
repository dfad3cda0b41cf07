// Package source is the inside of privyseal-heartbeat: a heartbeat source or
// satellite, a process in another room than the signing devices that live by
// its beats (source A, "Cryptographic heartbeat"; rows A24 to A27).
//
// What a source decides is decided by [heartbeat.Station], which is pure. Here
// are the files and the link around it, and three rules:
//
//   - What the station learned is on the disk before the answer leaves. A
//     source that cannot write ends, and its devices with it, unless others
//     beat for them.
//   - Before every single beat the source looks whether somebody at its machine
//     has silenced it for that device, and whether its beat key was changed.
//   - A source that was stopped or suspended skips the beats that it missed.
//     Its clock is the boot-time clock; what the wall clock says changes no
//     beat.
//
// The directory of a source, 0700, its files 0600:
//
//	source.json    configuration; last to be written, it makes the directory a source's
//	identity.yaml  what the ceremony's file says of the source
//	identity.key   identity key: certifies beat keys, confirms revocations
//	agree.key      challenges and revocations are sealed to it
//	sequence.key   the secret of a sequence
//	beat/EPOCH     the beat key of an epoch, with its certificate
//	system         id of the system that the source serves, once it is fixed
//	ledger         the system as the message server last gave it; proves itself
//	table          what the source knows of each device
//	revoked/ID     somebody here silenced the source for device ID
//	lock           held while the source runs
//	live.json      what a running source shows; not durable
//
// Keys are files. Keys in a PKCS#11 token are not supported: what a source's
// key can do is to keep a device of the ledger's choice alive for the time of
// a lease, and the room around it is its protection.
package source
