package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errRecord means that the database holds what this package did not write.
var errRecord = errors.New("store: a record is damaged: restore the file, or delete it and let the messages be asked for again")

// An item's record: version 1, identity (32 octets), expiry and time of
// arrival (8 each), lengths of from and to (1 each), from, to, body.
const (
	recordVersion = 1
	recordFixed   = 1 + 32 + 8 + 8 + 1 + 1
)

func encodeItem(it Item) []byte {
	b := make([]byte, 0, recordFixed+len(it.From)+len(it.To)+len(it.Body))
	b = append(b, recordVersion)
	b = append(b, it.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(it.Expires))
	b = binary.BigEndian.AppendUint64(b, uint64(it.Added))
	b = append(b, byte(len(it.From)), byte(len(it.To)))
	b = append(b, it.From...)
	b = append(b, it.To...)
	return append(b, it.Body...)
}

// decodeHead reads all but the body, and copies it: the database's memory is
// valid only inside a transaction.
func decodeHead(seq uint64, b []byte) (Item, error) {
	if len(b) < recordFixed || b[0] != recordVersion {
		return Item{}, fmt.Errorf("%w: item %d", errRecord, seq)
	}
	it := Item{Seq: seq}
	copy(it.ID[:], b[1:33])
	it.Expires = int64(binary.BigEndian.Uint64(b[33:41]))
	it.Added = int64(binary.BigEndian.Uint64(b[41:49]))
	from, to, rest := int(b[49]), int(b[50]), b[recordFixed:]
	if len(rest) < from+to {
		return Item{}, fmt.Errorf("%w: item %d", errRecord, seq)
	}
	it.From, it.To = string(rest[:from]), string(rest[from:from+to])
	return it, nil
}

// bodyOf copies the body from the record that it was read from.
func bodyOf(it Item, b []byte) []byte {
	return append([]byte{}, b[recordFixed+len(it.From)+len(it.To):]...)
}

// An identity's record: a state octet and, while the message is queued, its
// sequence number.
const (
	stateQueued = 1
	stateDone   = 2
)

func encodeState(state byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{state}, seq)
}

func decodeState(b []byte) (state byte, seq uint64, err error) {
	if len(b) != 9 || b[0] != stateQueued && b[0] != stateDone {
		return 0, 0, fmt.Errorf("%w: identity", errRecord)
	}
	return b[0], binary.BigEndian.Uint64(b[1:]), nil
}

// A tally's record: messages and octets.
func encodeTally(t tally) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.messages))
	return binary.BigEndian.AppendUint64(b, uint64(t.octets))
}

func decodeTally(b []byte) tally {
	if len(b) != 16 {
		return tally{}
	}
	return tally{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
}

type tally struct{ messages, octets int64 }

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// expiryKey sorts by time. The identity makes it unique.
func expiryKey(expires int64, id ID) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(expires)), id[:]...)
}
