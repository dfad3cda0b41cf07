// Package client is what the programs of people do with the message servers:
// keep a system's tables at home, make requests, look over what officers are
// asked, and say their word.
//
// A message server is believed nothing. The system is known by its id, the
// hash of its genesis; everything that counts in an answer is signed by
// somebody whom the tables name, and is verified here: requests by their
// requester's key, offers by the device's token, chains of approvals by the
// officers before, a final signature by the public key. What only a server
// says (how many approvals are there, how a device is) is shown as such and
// decides nothing.
//
// Nothing here opens a card: keys come in as crypto.Signer (slot 9C) and
// ecdh.KeyExchanger (slot 9D).
package client
