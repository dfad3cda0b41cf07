package api

import "github.com/privyseal/privyseal/firmware/envelope"

// PathIssued asks an independent output interface for what it saw signed
// ([IssuedAsk], answered by [Issued]).
const PathIssued = "/v1/issued"

// IssuedAsk names a request.
type IssuedAsk struct {
	Request envelope.Hash `cbor:"1,keyasint"` // digest of the request message
}

// Issued is what a machine that listens to the channels of an authority in two
// layers saw signed, whatever the task distributor says of it. Whoever has it can
// verify it: the message names its signer, and the signatures are of the documents
// in it.
type Issued struct {
	Server      string        `cbor:"1,keyasint"` // id of the server that listens
	Enterprise  uint64        `cbor:"2,keyasint"` // code
	Distributor uint64        `cbor:"3,keyasint"` // number
	Task        uint64        `cbor:"4,keyasint"` // number
	Request     envelope.Hash `cbor:"5,keyasint"`
	Message     []byte        `cbor:"6,keyasint"` // the request message, raw
	// One for each document, in the order of the request.
	Signatures [][]byte `cbor:"7,keyasint"` // bare RSA signatures, |N| octets
	Documents  [][]byte `cbor:"8,keyasint"` // what the requester gets: certificate DER, or the signature
	// Combiners are the devices that sent these signatures, in the order in which
	// they were heard; none: only the distributor did.
	Combiners []string `cbor:"9,keyasint"`
	// Wrong are those that sent others, and so lied.
	Wrong  []string `cbor:"10,keyasint"`
	Seen   int64    `cbor:"11,keyasint"` // when the signatures were seen first, unix seconds
	Done   int64    `cbor:"12,keyasint"` // when the distributor said so, 0: it did not
	Silent int64    `cbor:"13,keyasint"` // when a warning was given that it did not, 0: none was
}
