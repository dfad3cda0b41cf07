package web

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Poll asks for what is in an inbox after a cursor.
type Poll struct {
	Inbox string
	Since uint64        // cursor of the last message seen; 0 for all
	Wait  time.Duration // how long to wait when there is none; at most MaxWait
	// Proof is what shows the right to read this inbox: a signed message, made
	// anew for each poll. The transport does not look into it.
	Proof []byte
}

// A Batch answers a poll. Messages are in order, each with a cursor above the
// one before. An empty batch means that none came in time: poll again.
type Batch []Message

// A Message is one of an inbox.
type Message struct {
	Cursor uint64
	Body   []byte
}

// ErrBadBatch means that an answer to a poll is malformed.
var ErrBadBatch = errors.New("web: the answer to a poll is malformed")

// proofScheme names the proof in the Authorization header.
const proofScheme = "Privyseal "

// query encodes p's visible part; the proof goes into a header so that it does
// not stand in anybody's log of addresses.
func (p Poll) query() string {
	return url.Values{
		"inbox": {p.Inbox},
		"since": {strconv.FormatUint(p.Since, 10)},
		"wait":  {strconv.FormatInt(p.Wait.Milliseconds(), 10)},
	}.Encode()
}

func parsePoll(r *http.Request) (Poll, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Poll{}, fmt.Errorf("query: %w", err)
	}
	for k, v := range q {
		if len(v) != 1 || k != "inbox" && k != "since" && k != "wait" {
			return Poll{}, fmt.Errorf("query: parameter %q is unknown or given twice", k)
		}
	}
	var p Poll
	if p.Inbox = q.Get("inbox"); p.Inbox == "" || len(p.Inbox) > 128 {
		return Poll{}, errors.New("query: an inbox has a name of 1 to 128 octets")
	}
	if p.Since, err = strconv.ParseUint(q.Get("since"), 10, 64); err != nil {
		return Poll{}, errors.New("query: since is not a number")
	}
	ms, err := strconv.ParseUint(q.Get("wait"), 10, 31)
	if err != nil {
		return Poll{}, errors.New("query: wait is not a number of milliseconds")
	}
	p.Wait = min(time.Duration(ms)*time.Millisecond, MaxWait)
	if h := r.Header.Get("Authorization"); h != "" {
		if len(h) <= len(proofScheme) || h[:len(proofScheme)] != proofScheme {
			return Poll{}, errors.New("the Authorization header is not of this system")
		}
		p.Proof, err = base64.RawURLEncoding.Strict().DecodeString(h[len(proofScheme):])
		if err != nil || len(p.Proof) > maxProof {
			return Poll{}, errors.New("the Authorization header is malformed or too long")
		}
	}
	return p, nil
}

// A batch on the wire: for each message its cursor (8 octets), its length (4)
// and itself.
const batchHeader = 12

// encodeBatch takes as many messages as fit into MaxBody, at least one: the
// next poll brings the rest.
func encodeBatch(batch Batch) ([]byte, error) {
	var b []byte
	for _, m := range batch {
		if len(b)+batchHeader+len(m.Body) > MaxBody {
			if len(b) == 0 {
				return nil, fmt.Errorf("web: message %d has %d octets and fits no answer", m.Cursor, len(m.Body))
			}
			break
		}
		b = binary.BigEndian.AppendUint64(b, m.Cursor)
		b = binary.BigEndian.AppendUint32(b, uint32(len(m.Body)))
		b = append(b, m.Body...)
	}
	return b, nil
}

func decodeBatch(b []byte, since uint64) (Batch, error) {
	var batch Batch
	for len(b) > 0 {
		if len(b) < batchHeader {
			return nil, ErrBadBatch
		}
		m := Message{Cursor: binary.BigEndian.Uint64(b)}
		n := uint64(binary.BigEndian.Uint32(b[8:]))
		if b = b[batchHeader:]; n > uint64(len(b)) {
			return nil, ErrBadBatch
		}
		if m.Cursor <= since {
			// A server that sends us back could make us read for ever.
			return nil, fmt.Errorf("%w: cursors do not rise", ErrBadBatch)
		}
		since = m.Cursor
		m.Body = bytes.Clone(b[:n])
		b = b[n:]
		batch = append(batch, m)
	}
	return batch, nil
}
