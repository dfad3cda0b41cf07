package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"
)

// Put adds a message to a queue. When it returns nil the message is durable,
// or it was there already, or it was acknowledged before: fresh is true only
// in the first case. Errors: ErrExpired, ErrTooLong, ErrTooLarge, *FullError.
func (s *Store) Put(name string, m Message) (fresh bool, err error) {
	if m.ID == (ID{}) {
		m.ID = sha256.Sum256(m.Body)
	}
	if len(m.From) > maxName || len(m.To) > maxName {
		return false, fmt.Errorf("store: the name of a sender or receiver has at most %d octets", maxName)
	}
	if len(m.Body) > s.limits.MaxMessage {
		return false, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, len(m.Body), s.limits.MaxMessage)
	}
	now := s.now()
	if m.Expires <= now.Unix() {
		return false, ErrExpired
	}
	if m.Expires > now.Add(s.limits.MaxLife).Unix() {
		return false, ErrTooLong
	}
	// A message sent again is common and must not cost an fsync.
	if known, err := s.known(name, m.ID); err != nil || known {
		return false, err
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil {
			return err
		}
		if q.ids.Get(m.ID[:]) != nil {
			return nil // another goroutine was first
		}
		if err := s.room(q, name, m); err != nil {
			return err
		}
		seq, err := q.items.NextSequence()
		if err != nil {
			return err
		}
		fresh = true
		n := int64(len(m.Body))
		return firstError(
			q.items.Put(seqKey(seq), encodeItem(Item{Message: m, Added: now.Unix()})),
			q.ids.Put(m.ID[:], encodeState(stateQueued, seq)),
			q.expiry.Put(expiryKey(m.Expires, m.ID), []byte{}),
			q.add(tallyQueue, 1, n),
			q.add(tallySender(m.From), 1, n),
		)
	})
	if err != nil {
		return false, err
	}
	if fresh {
		s.wake(name)
	}
	return fresh, nil
}

func (s *Store) known(name string, id ID) (known bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if q != nil {
			known = q.ids.Get(id[:]) != nil
		}
		return err
	})
	return known, err
}

func (s *Store) room(q *queue, name string, m Message) error {
	n := int64(len(m.Body))
	if t := decodeTally(q.tally.Get(tallySender(m.From))); t.messages >= int64(s.limits.SenderMessages) || t.octets+n > s.limits.SenderOctets {
		return &FullError{Queue: name, Sender: m.From}
	}
	if t := decodeTally(q.tally.Get(tallyQueue)); t.messages >= int64(s.limits.QueueMessages) || t.octets+n > s.limits.QueueOctets {
		return &FullError{Queue: name}
	}
	return nil
}

// Next returns the oldest message that has not expired, without removing it.
func (s *Store) Next(name string) (Item, bool, error) {
	items, err := s.List(name, 0, 1)
	if err != nil || len(items) == 0 {
		return Item{}, false, err
	}
	return items[0], true, nil
}

// List returns up to limit messages with a sequence number above after, oldest
// first, that have not expired; fewer when they are large. It is empty only if
// there are none.
func (s *Store) List(name string, after uint64, limit int) ([]Item, error) {
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	now := s.now().Unix()
	var items []Item
	octets := 0
	err := s.scan(name, after, func(seq uint64, v []byte) (bool, error) {
		it, err := decodeHead(seq, v)
		if err != nil {
			return false, err
		}
		if it.Expires > now {
			it.Body = bodyOf(it, v)
			items = append(items, it)
			octets += len(it.Body)
		}
		return len(items) < limit && octets < maxListOctets, nil
	})
	return items, err
}

// heads is List without bodies, and with what has expired but was not swept.
func (s *Store) heads(name string, after uint64, limit int) ([]Item, error) {
	var items []Item
	err := s.scan(name, after, func(seq uint64, v []byte) (bool, error) {
		it, err := decodeHead(seq, v)
		items = append(items, it)
		return len(items) < limit, err
	})
	return items, err
}

// scan calls f for each item above after, oldest first, while it says true.
func (s *Store) scan(name string, after uint64, f func(seq uint64, v []byte) (bool, error)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil || q == nil || after == math.MaxUint64 {
			return err
		}
		c := q.items.Cursor()
		for k, v := c.Seek(seqKey(after + 1)); k != nil; k, v = c.Next() {
			if more, err := f(binary.BigEndian.Uint64(k), v); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// Get returns a queued message by its identity, or ErrNotFound.
func (s *Store) Get(name string, id ID) (it Item, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil {
			return err
		}
		if q == nil {
			return ErrNotFound
		}
		it, err = q.find(id)
		if err == nil && it.Expires <= s.now().Unix() {
			err = ErrNotFound
		}
		return err
	})
	return it, err
}

func (q *queue) find(id ID) (Item, error) {
	v := q.ids.Get(id[:])
	if v == nil {
		return Item{}, ErrNotFound
	}
	state, seq, err := decodeState(v)
	if err != nil {
		return Item{}, err
	}
	if state == stateDone {
		return Item{}, ErrNotFound
	}
	v = q.items.Get(seqKey(seq))
	if v == nil {
		return Item{}, fmt.Errorf("%w: item %d is missing", errRecord, seq)
	}
	it, err := decodeHead(seq, v)
	if err == nil {
		it.Body = bodyOf(it, v)
	}
	return it, err
}

// Ack removes a message and remembers its identity until it would have
// expired. Acknowledging again, or what never was there, is no error.
func (s *Store) Ack(name string, id ID) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil {
			return err
		}
		it, err := q.find(id)
		if err == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		return firstError(
			q.take(it),
			q.ids.Put(id[:], encodeState(stateDone, it.Seq)),
			q.add(tallyDone, 1, 0),
		)
	})
}

// take removes a queued item's content and its part in the tallies.
func (q *queue) take(it Item) error {
	n := int64(len(it.Body))
	return firstError(
		q.items.Delete(seqKey(it.Seq)),
		q.add(tallyQueue, -1, -n),
		q.add(tallySender(it.From), -1, -n),
	)
}

// Sweep removes what has expired in the named queues, or in all if none is
// named, and returns how many messages were never acknowledged. A crash in
// the middle leaves the rest to the next sweep.
func (s *Store) Sweep(names ...string) (expired int, err error) {
	if len(names) == 0 {
		if names, err = s.Queues(); err != nil {
			return 0, err
		}
	}
	for _, name := range names {
		for more := true; more; {
			var n int
			if n, more, err = s.sweep(name); err != nil {
				return expired, err
			}
			expired += n
		}
	}
	return expired, nil
}

func (s *Store) sweep(name string) (expired int, more bool, err error) {
	// An identity whose message has expired may go: Put refuses it as expired.
	end := binary.BigEndian.AppendUint64(nil, uint64(s.now().Unix()+1))
	var due [][]byte
	err = s.db.View(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil || q == nil {
			return err
		}
		c := q.expiry.Cursor()
		for k, _ := c.First(); k != nil && bytes.Compare(k, end) < 0 && len(due) < sweepBatch; k, _ = c.Next() {
			due = append(due, bytes.Clone(k))
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return 0, false, err
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil {
			return err
		}
		for _, k := range due {
			if q.expiry.Get(k) == nil {
				continue // another sweep was first
			}
			var id ID
			copy(id[:], k[8:])
			it, err := q.find(id)
			switch err {
			case nil:
				expired++
				err = q.take(it)
			case ErrNotFound:
				err = q.add(tallyDone, -1, 0)
			}
			if err := firstError(err, q.ids.Delete(id[:]), q.expiry.Delete(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	return expired, len(due) == sweepBatch, nil
}

// Queues returns the names of all queues.
func (s *Store) Queues() (names []string, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			names = append(names, string(name))
			return nil
		})
	})
	return names, err
}

// Count says what a queue holds, with what has expired but was not swept.
func (s *Store) Count(name string) (c Count, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		q, err := openQueue(tx, name)
		if err != nil || q == nil {
			return err
		}
		t := decodeTally(q.tally.Get(tallyQueue))
		c = Count{t.messages, t.octets, decodeTally(q.tally.Get(tallyDone)).messages}
		return nil
	})
	return c, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
