package client

import (
	"context"
	"fmt"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Issued is what an independent output interface saw signed, verified.
type Issued struct {
	*api.Issued
	Signed *Signed // the request, as of when it was made
	// Results are what the requester gets for each document: made here, of the
	// request and the signatures.
	Results [][]byte
}

// Issued asks the server, as independent output interface, for what it saw signed
// for a request, and verifies all of it: that the message is the request, that
// its requester signed it, and that the signatures are those of its documents.
// Who combined, and what the distributor said, is the server's word.
func (c *Conn) Issued(ctx context.Context, s ledger.State, request envelope.Hash) (*Issued, error) {
	out := &Issued{Issued: new(api.Issued)}
	if err := c.ask(ctx, api.PathIssued, &api.IssuedAsk{Request: request}, out.Issued); err != nil {
		return nil, err
	}
	r := &Signed{Server: c.name, Raw: out.Message}
	v, _, err := verifyRequest(s, out.Message, &r.Request)
	if err != nil {
		return nil, fmt.Errorf("answer of message server %s: %w", c.name, err)
	}
	if r.Digest = v.Digest(); r.Digest != request || out.Request != request {
		return nil, fmt.Errorf("message server %s answers for request %s, asked for %s", c.name, r.Digest, request)
	}
	if r.Checked, err = document.CheckIn(s, &r.Request, r.Request.Created); err != nil {
		return nil, fmt.Errorf("answer of message server %s: %w", c.name, err)
	}
	if out.Results, err = r.Checked.AssembleAll(out.Signatures); err != nil {
		return nil, fmt.Errorf("message server %s hands out a wrong signature: %w", c.name, err)
	}
	out.Signed, out.Server = r, c.name
	return out, nil
}
