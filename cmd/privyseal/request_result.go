package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/spf13/cobra"
)

func newRequestStatus(a *app) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   "status DIGEST",
		Short: "Show where a request stands, or fetch its result",
		Long: `Show where a request stands. With --out, write the result of a request that this
home made, after verifying it under the public key.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.requestStatus(c.Context(), args[0], w) },
	}
	w.flags(c, outOfAny)
	return c
}

func (a *app) requestStatus(ctx context.Context, name string, w waiting) error {
	name = strings.ToLower(name)
	s, err := a.system()
	if err != nil {
		return err
	}
	r, err := s.Kept(name)
	server := a.server
	var before *ledger.ReplayError
	var taken *ledger.ForkError
	switch {
	case errors.As(err, &before):
		// A command that is in force, but perhaps not everywhere yet.
		return a.spread(ctx, s, before.Position, "")
	case errors.As(err, &taken):
		return takenError(taken.Position)
	case err == nil:
		if server == "" {
			server = r.Server
		}
	case errors.Is(err, fs.ErrNotExist):
		// Somebody else's: its state can be seen, its result not verified.
		digest, perr := envelope.ParseHash(name)
		if perr != nil {
			return usage(fmt.Sprintf("this home made no request %q", name), "for another's request give all 64 digits")
		}
		if w.out != "" {
			return usage("the result can be verified only where the request was made", "leave out --out")
		}
		r = &client.Signed{Digest: digest}
	default:
		return err
	}
	if err := checkNew(w.out); err != nil {
		return err
	}
	conn, _, err := a.dial(ctx, s, server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if w.wait && r.Checked != nil {
		return a.await(ctx, conn, s, r, w)
	}
	t, err := conn.Tracking(ctx, r.Digest)
	if err != nil {
		return err
	}
	if w.wait {
		if t, err = conn.Follow(ctx, r.Digest, a.progress()); err != nil {
			return err
		}
	}
	if w.out != "" {
		return a.deliver(ctx, s, r, t, w.out)
	}
	return a.result(trackingOf(t, r), func() {
		a.showTracking(t, r)
		if ids := breathless(s.State(), t); len(ids) > 0 && t.State != api.StateDone {
			a.tell("hint: they sign while they have a lease; %s", beatsHint(ids))
		}
		if t.State == api.StateDone && r.Checked != nil && r.Checked.Kind() == document.KindEntry {
			a.tell("hint: signed, and not yet in force: privyseal request status %s --wait hands it to the message servers", short(r.Digest))
		}
	})
}

// await follows a request to its end and delivers the result.
func (a *app) await(ctx context.Context, conn *client.Conn, s *client.System, r *client.Signed, w waiting) error {
	// A server that is away for ever must not keep us longer than the request
	// lives.
	limit := time.Unix(r.Request.Expires, 0).Add(30 * time.Second).Sub(a.now())
	if w.timeout > 0 {
		limit = min(limit, w.timeout)
	}
	limit = max(limit, 5*time.Second)
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t, err := conn.Follow(within, r.Digest, a.progress())
	if err != nil {
		hint := fmt.Sprintf("the request goes on; ask again: privyseal request status %s --wait%s", short(r.Digest), w.outFlag())
		if t != nil && errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no signature within %s: %w", limit.Round(time.Second), &unfinishedError{t})
			if ids := breathless(s.State(), t); len(ids) > 0 {
				hint += "; " + beatsHint(ids)
			}
		}
		return term.WithHint(err, hint)
	}
	return a.deliver(ctx, s, r, t, w.out)
}

// deliver verifies a result and writes it. An entry is put into force.
func (a *app) deliver(ctx context.Context, s *client.System, r *client.Signed, t *tracking, out string) error {
	if t.State != api.StateDone {
		return &unfinishedError{t}
	}
	if r.Checked.Kind() == document.KindCertificates {
		return a.deliverBatch(r, t, out)
	}
	data, err := r.Result(t)
	if err != nil {
		return err
	}
	if r.Checked.Kind() == document.KindEntry {
		return a.enact(ctx, s, r, t, data, out)
	}
	kind := "signature"
	if r.Checked.Kind() == document.KindCertificate {
		kind = "certificate"
		data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: data})
	}
	if out != "" {
		if err := writeNew(out, data, 0o644); err != nil {
			return err
		}
	}
	done := doneOf(r, t, kind, out)
	done.Result = data
	return a.result(done, func() {
		if out == "" && kind == "certificate" {
			fmt.Fprintf(a.out, "%s", data)
		}
		a.signedBy(t)
		switch {
		case out != "":
			a.say("%s written to %s", kind, out)
		case kind == "signature":
			a.tell("the signature is good; write it to a file with --out FILE")
		}
	})
}

// delivered is a request with its result, or those of a batch, in the order of
// its certificates.
type delivered struct {
	Request envelope.Hash `json:"request"`
	State   string        `json:"state"`
	Kind    string        `json:"kind"`
	File    string        `json:"file,omitempty"`
	Result  []byte        `json:"result,omitempty"`
	Results []resultJSON  `json:"results,omitempty"`
	Devices []string      `json:"devices"`
	Wrong   []string      `json:"wrong"`
}

func doneOf(r *client.Signed, t *tracking, kind, out string) delivered {
	return delivered{Request: r.Digest, State: t.State, Kind: kind, File: out, Devices: signers(t), Wrong: t.Wrong}
}

// signedBy tells who made a signature.
func (a *app) signedBy(t *tracking) {
	a.tell("signed by %s", strings.Join(signers(t), ", "))
	for _, d := range t.Wrong {
		a.tell("warning: device %s made a wrong partial signature", d)
	}
}
