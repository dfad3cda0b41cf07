package client

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Revocation is what became of silencing one source for a device.
type Revocation struct {
	Source string
	// Confirmed says that the source itself signed that it has it on its disk:
	// from then on it does not beat for the device.
	Confirmed bool
	At        int64 // when, by the source's clock, unix seconds
	// Err says why it is not confirmed. The source may be silenced all the same.
	Err error
}

// SendSource has a server bring a sealed message to a source, or to a device
// that answers as one, and returns the answer. Who asked knows how to open it.
func (c *Conn) SendSource(ctx context.Context, source string, frame []byte) ([]byte, error) {
	var out api.SourceSent
	err := c.ask(ctx, api.PathSourceSend, &api.SourceSend{Source: source, Frame: frame}, &out)
	return out.Frame, err
}

// Revoke silences sources for a device, all of its policy if none are named:
// the device is without a lease one lease later, and only its officers bring it
// back. card is slot 9C of an operator of the sources or an officer of the
// device; it signs once for each source.
//
// Each source's own server is asked first; via, which may be nil, where that
// one cannot be reached. The order of the result is that of the sources. The
// error says that nothing was tried.
func Revoke(ctx context.Context, rand io.Reader, s ledger.State, via *Conn, card crypto.Signer, device string, sources []string, reason string, now int64) ([]Revocation, error) {
	d, ok := s.Device(device)
	if !ok {
		return nil, fmt.Errorf("there is no device %q", device)
	}
	if len(sources) == 0 {
		if d.Heartbeat == nil {
			return nil, fmt.Errorf("device %s needs no heartbeat: nothing would stop it; lock it at its machine", device)
		}
		sources = d.Heartbeat.Sources
	}
	key, err := envelope.KeyIDOf(card.Public())
	if err != nil {
		return nil, err
	}
	who, ok := s.Identity(key)
	if !ok || who.Kind != ledger.OwnerPerson || who.Use != ledger.UseSign {
		return nil, fmt.Errorf("the key %s is not the signature key of anybody's card in system %q", key, s.Name())
	}
	out := make([]Revocation, len(sources))
	var wg sync.WaitGroup
	for i, id := range sources {
		out[i].Source = id
		if slices.Contains(sources[:i], id) {
			out[i].Err = errors.New("it is named twice")
			continue
		}
		r, err := newRevoking(rand, s, card, who.Owner, device, id, reason, now)
		if err != nil {
			out[i].Err = err
			continue
		}
		// On its way while the card signs the next one.
		wg.Go(func() { out[i] = r.send(ctx, s, via) })
	}
	wg.Wait()
	return out, nil
}

// revoking is a revocation on its way.
type revoking struct {
	source string
	server string
	frame  []byte
	digest envelope.Hash
	reply  *ecdh.PrivateKey // what the source's word is sealed to
}

func newRevoking(rand io.Reader, s ledger.State, card crypto.Signer, person, device, source, reason string, now int64) (*revoking, error) {
	r := &revoking{source: source}
	if x, ok := s.Source(source); ok {
		r.server = x.Server
	} else if x, ok := s.Device(source); ok {
		r.server = x.Server
	} else {
		return nil, fmt.Errorf("there is no source or device %q", source)
	}
	if !s.MaySilence(source, device, person, now) {
		return nil, fmt.Errorf("%s may not silence %s for device %s: its operators and the device's officers may", person, source, device)
	}
	var err error
	if r.reply, err = ecdh.P256().GenerateKey(rand); err != nil {
		return nil, err
	}
	r.frame, r.digest, err = heartbeat.SealRevoke(rand, card, s, &heartbeat.Revoke{
		Device: device, Source: source, Reason: reason, Reply: r.reply.PublicKey().Bytes(), Created: now, Expires: now + revokeLife,
	})
	return r, err
}

// send brings it to the source and verifies its word. The same message may
// reach a source twice: it confirms it twice and carries it out once.
func (r *revoking) send(ctx context.Context, s ledger.State, via *Conn) Revocation {
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	out := Revocation{Source: r.source}
	answer, err := r.ask(ctx, s, via)
	if err != nil {
		out.Err = err
		return out
	}
	said, err := heartbeat.OpenRevoked(s, r.source, answer, r.reply, r.digest)
	if err != nil {
		out.Err = fmt.Errorf("the confirmation of %s is not acceptable: %w", r.source, err)
		return out
	}
	out.Confirmed, out.At = true, said.At
	return out
}

func (r *revoking) ask(ctx context.Context, s ledger.State, via *Conn) ([]byte, error) {
	row, ok := s.Server(r.server)
	if !ok {
		return nil, fmt.Errorf("there is no message server %q", r.server)
	}
	own, err := Dial(row)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	first, cancel := ctx, context.CancelFunc(func() {})
	if via != nil { // a site that is a black hole must not take all the time
		first, cancel = context.WithTimeout(ctx, revokeWait/2)
	}
	answer, err := own.SendSource(first, r.source, r.frame)
	cancel()
	var away *UnreachableError
	if via != nil && errors.As(err, &away) {
		return via.SendSource(ctx, r.source, r.frame)
	}
	return answer, err
}
