// Package virtual is a PIV smart card in software: the card side of NIST
// SP 800-73-4 Part 2 with the YubiKey's extensions, written as a function from
// command APDU to response APDU.
//
// It exists so that programs which use PIV cards can be tested against the
// unmodified PC/SC stack: package [github.com/privyseal/privyseal/card/virtual/vpcd]
// puts a card behind the real pcscd, and the program privyseal-virtualcard does
// the same from a shell. Nothing here protects a key: private keys, PIN and PUK
// are kept in clear in the card's state. A virtual card must never be trusted
// in production, and cannot be by accident: it attests with a root of its own
// ([Root]), never with a vendor's.
//
// The pieces:
//
//   - [Root] is the manufacturer. It certifies each card's attestation key and
//     makes factory-fresh cards ([Root.Manufacture]).
//   - [State] is all that a card remembers without power. It marshals to JSON;
//     [Dir] keeps a root and many states in a directory, each written
//     atomically and synced before the card answers.
//   - [Card] is the applet: [Card.Transmit] takes a command and returns the
//     response, status word included. It touches no clock, network or disk
//     except through its [Config].
//   - [Slot] is the place a card is plugged into. It can be pulled out, swapped
//     or made to misbehave at a chosen instruction ([Fault]).
//
// Two profiles are offered: [Profile54] (3DES management key, RSA to 2048,
// P-256, P-384) and [Profile57] (AES-192 management key, also RSA 3072 and
// 4096, Ed25519 and X25519).
package virtual
