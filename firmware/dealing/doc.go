// Package dealing is the key distributor of a certificate authority in two
// layers (B [0062], [0098] to [0104]): what it does off line, as pure functions.
// Row B2.
//
// A reviewed [Plan], the system's ledger and the devices' invitations come in on
// a medium. [Prepare] checks them and groups the combinations, so that people
// see the grouping and its collusion table before a key exists;
// [Prepared.Deal] makes the key and its root certificate, shares it in two
// layers, has every machine set sign a test with every combiner that serves it,
// and seals each device its share, for the one-time key of its invitation. The
// operator's card confirms the dealing ([Result.Confirm]), which then goes back
// on line as a ledger entry, with the sealed shares.
//
// Everything secret is wiped before these functions return. What they return is
// public or sealed. A distributor may leave a reserve ([Reserve]): all secrets
// of a dealing under a key that officers' cards hold in pieces, with which
// [Prepared.Extend] deals to machines that come later. Without one nothing can
// be added, ever.
package dealing
