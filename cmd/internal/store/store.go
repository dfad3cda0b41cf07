// Package store keeps a message server's queues in one file, over bbolt.
//
// A message is identified by its digest. Putting it twice, or again after it
// was acknowledged, changes nothing until it expires: whoever is unsure
// whether a message arrived sends it again. What Put acknowledged survives a
// killed process and a power cut; what was acknowledged by Ack does not come
// back. Each sender has its own limits, so that a flood drowns only itself.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrLocked means that another process has the file open.
	ErrLocked = errors.New("store: in use by another process")
	// ErrExpired refuses a message whose end has come.
	ErrExpired = errors.New("store: the message has expired")
	// ErrTooLong refuses an expiry beyond Limits.MaxLife.
	ErrTooLong = errors.New("store: the message expires too far in the future")
	// ErrTooLarge refuses a message above Limits.MaxMessage.
	ErrTooLarge = errors.New("store: the message is too large")
	// ErrNotFound means that no such message is queued.
	ErrNotFound = errors.New("store: no such message is queued")
)

// A FullError refuses a message because a limit is reached. Later, after
// acknowledgements or expiry, the same message may be taken.
type FullError struct {
	Queue  string
	Sender string // empty when the queue itself is full
}

func (e *FullError) Error() string {
	if e.Sender == "" {
		return fmt.Sprintf("store: queue %q is full", e.Queue)
	}
	return fmt.Sprintf("store: sender %q has too much waiting in queue %q", e.Sender, e.Queue)
}

// An ID identifies a message: a digest of it. It prints as hex.
type ID [sha256.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A Message is what Put takes.
type Message struct {
	ID      ID     // zero: SHA-256 of Body
	From    string // whose limits it counts against; may be empty
	To      string // receiver, for the caller's use; may be empty
	Body    []byte
	Expires int64 // Unix seconds
}

// An Item is a queued message.
type Item struct {
	Message
	Seq   uint64 // rises by arrival within a queue, never used twice
	Added int64  // Unix seconds
}

// A Count says what a queue holds.
type Count struct {
	Messages int64 // waiting
	Octets   int64 // of their bodies
	Done     int64 // acknowledged ones still remembered by identity
}

// Options of a Store.
type Options struct {
	Limits Limits
	Now    func() time.Time // nil: time.Now
}

// A Store may be used from any goroutine.
type Store struct {
	db     *bolt.DB
	limits Limits
	now    func() time.Time

	mu       sync.Mutex
	watchers map[string]map[chan struct{}]struct{}
}

// Buckets inside a queue's bucket.
var (
	bItems  = []byte("items")  // seq -> item
	bIDs    = []byte("ids")    // identity -> state, seq
	bExpiry = []byte("expiry") // expiry, identity -> nothing
	bTally  = []byte("tally")  // keys below -> tally
)

// Keys of bTally: 's' and a sender, or the queue's own.
var (
	tallyQueue = []byte("q")
	tallyDone  = []byte("d")
)

func tallySender(from string) []byte { return append([]byte("s"), from...) }

// Open opens the store at path, or makes it, with mode 0600.
func Open(path string, o Options) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	s := &Store{db: db, limits: o.Limits.withDefaults(), now: o.Now, watchers: make(map[string]map[chan struct{}]struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Close closes the file. Nothing acknowledged depends on it.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Watch returns a channel that gets a value after a Put into the queue, and a
// function that ends that. Several Puts may give one value: look at the queue,
// then wait.
func (s *Store) Watch(queue string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[queue] == nil {
		s.watchers[queue] = make(map[chan struct{}]struct{})
	}
	s.watchers[queue][ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers[queue], ch)
		if len(s.watchers[queue]) == 0 {
			delete(s.watchers, queue)
		}
	}
}

func (s *Store) wake(queue string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.watchers[queue] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// queue is a queue's buckets inside a transaction.
type queue struct{ items, ids, expiry, tally *bolt.Bucket }

// openQueue returns nil, nil when the queue does not exist and the transaction
// only reads.
func openQueue(tx *bolt.Tx, name string) (*queue, error) {
	if name == "" || len(name) > maxName {
		return nil, fmt.Errorf("store: the name of a queue has 1 to %d octets, not %d", maxName, len(name))
	}
	if !tx.Writable() {
		b := tx.Bucket([]byte(name))
		if b == nil {
			return nil, nil
		}
		return &queue{b.Bucket(bItems), b.Bucket(bIDs), b.Bucket(bExpiry), b.Bucket(bTally)}, nil
	}
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return nil, err
	}
	var sub [4]*bolt.Bucket
	for i, n := range [][]byte{bItems, bIDs, bExpiry, bTally} {
		if sub[i], err = b.CreateBucketIfNotExists(n); err != nil {
			return nil, err
		}
	}
	return &queue{sub[0], sub[1], sub[2], sub[3]}, nil
}

// add changes a tally; an empty one leaves the file.
func (q *queue) add(key []byte, messages, octets int64) error {
	t := decodeTally(q.tally.Get(key))
	t.messages += messages
	t.octets += octets
	if t.messages <= 0 {
		return q.tally.Delete(key)
	}
	return q.tally.Put(key, encodeTally(t))
}
