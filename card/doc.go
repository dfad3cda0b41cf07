// Package card is a PIV smart card as Go sees it: an officer's card in a
// reader of the workstation, reached through PC/SC.
//
// An officer's card holds two P-256 keys. Slot 9C signs, and asks for the PIN
// before each signature. Slot 9D agrees on secrets (ECDH), and asks for the PIN
// once. Slot F9 holds the manufacturer's key, which attests that the other two
// were made in the card and cannot leave it (package attest).
//
// Open holds a card exclusively until Close, and Close resets it: no other
// program finds a card whose PIN is still verified. One Card may be used from
// several goroutines; they take turns.
//
// # What PC/SC does not promise
//
// No call of PC/SC has a time limit, so each runs apart from its caller and is
// abandoned at the deadline; the Card is then dead (ErrTimeout) and the reader
// is freed when the call comes back. A card exchanged within the 400 ms at
// which pcscd looks at a reader goes unnoticed, so the serial number is read
// again before a PIN leaves this process, and a signature that does not verify
// is ErrSwapped, never a result.
//
// # PINs
//
// A PIN comes from a PINSource, is sent once and wiped. A wrong PIN is never
// tried again, not even when the source returns the same one: a card blocks
// itself after a few. piv-go takes the PIN as a string, a copy that Go cannot
// wipe; it is garbage when the call returns.
package card
