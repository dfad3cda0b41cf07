// Package ledger holds the system's tables: who and what exists, which keys are split over which devices, and whose approval counts.
//
// The first state of the tables is the [Genesis] that the ceremony makes. Everything that changes them afterwards is an [Entry],
// signed by the system-wide authority (SWA), itself a split key of the system (row A16). Entries form a hash chain that begins at
// the genesis, and the tables are a pure fold over it:
//
//	VerifyGenesis(bundle)            → *VerifiedGenesis
//	New(*VerifiedGenesis)            → State
//	VerifyEntry(State, SignedEntry)  → *VerifiedEntry
//	ApplyVerified(State, *VerifiedEntry) → State
//
// A [State] never changes; applying an entry gives a new one. Only verification makes a *VerifiedGenesis or a *VerifiedEntry, so
// what was not verified cannot be applied. Any device is brought up to date by handing it the chain ([Catchup]).
//
// What is refused is refused by name: unknown versions, kinds and fields, gaps, replays, and forks, which are proof that the SWA
// was made to sign twice for one position. That it is not made to is the business of the vote that precedes signing (design §4);
// the vote's certificates are no part of an entry, since they convince devices before there is a signature, and nobody after.
//
// Enterprises' certificate authorities in two layers are entered as a [Dealing], by revisions: each has a key, officers and distributors of
// its own on the same devices, and what belongs to one says nothing about another. Nobody can prove that a machine forgot what it was
// dealt: numbers, shares and devices of machines that are gone never come back, and all that was ever dealt counts when the tables ask who
// learns the key.
//
// The package does no I/O and asks no clock.
package ledger
