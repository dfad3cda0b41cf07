// Package coordinator brings one request to its signature: it collects offers
// and approvals, chooses devices, asks them for partial signatures, combines,
// finds out who was wrong, and completes the signature with others.
//
// A coordinator holds no secret and is trusted with nothing: devices check
// every approval themselves, and whatever it releases verifies under the
// public key. It can only delay.
//
// For the key of an authority in two layers it is the task distributor and the
// output interface (B [0097]): it chooses nobody, broadcasts the task and the
// operators' confirmations, verifies what combiners send, and judges who is
// accused (package tolerant has the other side).
//
// [Request] is a pure state machine: no clock, no network, no goroutine. What
// happens comes in through its methods, what is to be done goes out as
// [Effects]. A record that an effect carries has to be durable before its
// actions are carried out; a machine that is resumed from its last record asks
// again for whatever was under way. Partial signatures of a parallel attempt
// are never stored: devices compute them again (design §5).
package coordinator
