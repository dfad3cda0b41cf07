// Package medium is what people carry between a system and the key distributor
// of an authority in two layers: a directory on a stick, and in which order it
// is written. Row B2.
//
//	plan.yaml          the reviewed plan
//	system.cbor        the genesis, and where the ledger ends
//	ledger/0001.cbor … the ledger, page by page; both prove themselves
//	invitations/       a one-time key of each device that gets a share
//	abandoned/         dealings that were given out and never entered, if any
//	INVITED.sha256     written last by "privyseal authority invite"
//	dealing.cbor       what the ledger is to take in, confirmed by the operator
//	root.pem           the authority's root certificate
//	shares/            each device's share, sealed to its one-time key
//	reserve.cbor       the reserve, if there is one
//	DEALT.sha256       written last by "privyseal-distributor"
//
// Lists of checksums have the form of sha256sum(1). They find accidents, and
// what was half written; forgery is found by what the files are signed with.
// Nothing on a medium is secret to whoever has neither the devices nor the
// keepers' cards. Nothing existing is overwritten.
package medium
