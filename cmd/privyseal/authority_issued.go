package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
)

func newAuthorityIssued(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "issued REQUEST [--server ID] [--out DIR]",
		Short: "Fetch what an independent output interface saw signed, whatever the distributor says",
		Long: `Fetch the certificates of a request from a message server that listens to the
combiners of the authority itself (server.json, "outputs"). The task distributor
need not know of it, nor agree. Without --server all are asked, one after the
other. All is verified here: the request under its requester's key, and each
certificate under the authority's.

REQUEST is a request's digest; of one that this home made its first digits do.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.issued(c.Context(), args[0], out) },
	}
	c.Flags().StringVar(&out, "out", "", "write the certificates into this directory, which is made")
	return c
}

// issuedJSON is what was signed.
type issuedJSON struct {
	Request     envelope.Hash `json:"request"`
	Server      string        `json:"server"`
	Enterprise  uint64        `json:"enterprise"`
	Distributor uint64        `json:"distributor"`
	Task        uint64        `json:"task"`
	Seen        int64         `json:"seen"`
	Done        int64         `json:"done,omitempty"`   // when the distributor said so
	Silent      int64         `json:"silent,omitempty"` // when it was told that he did not
	Combiners   []string      `json:"combiners"`
	Wrong       []string      `json:"wrong"`
	Results     []resultJSON  `json:"results"`
}

func (a *app) issued(ctx context.Context, name, out string) error {
	name = strings.ToLower(name)
	s, err := a.system()
	if err != nil {
		return err
	}
	if err := checkNew(out); err != nil {
		return err
	}
	own, err := s.Kept(name)
	digest := envelope.Hash{}
	switch {
	case err == nil:
		digest = own.Digest
	case errors.Is(err, fs.ErrNotExist):
		if digest, err = envelope.ParseHash(name); err != nil {
			return usage(fmt.Sprintf("this home made no request %q", name), "for another's request give all 64 digits")
		}
	default:
		return err
	}
	x, err := a.findIssued(ctx, s, digest)
	if err != nil {
		return err
	}
	if own != nil {
		x.Signed.Names = own.Names
	}
	return a.showIssued(x, out)
}

// findIssued asks the server that --server names, and without it all of them, the
// home's own first.
func (a *app) findIssued(ctx context.Context, s *client.System, digest envelope.Hash) (*client.Issued, error) {
	ask := func(id string) (*client.Issued, error) {
		conn, _, err := a.dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.Issued(ctx, s.State(), digest)
	}
	const listen = "servers listen that have the enterprise in \"outputs\" of their server.json"
	if a.server != "" {
		x, err := ask(a.server)
		if client.NotFound(err) {
			err = term.WithHint(err, listen+"; without --server all are asked")
		}
		return x, err
	}
	first, err := s.Server("")
	if err != nil {
		return nil, err
	}
	ids := []string{first.ID}
	for _, srv := range s.State().Servers() {
		if srv.ID != first.ID {
			ids = append(ids, srv.ID)
		}
	}
	for _, id := range ids {
		x, err := ask(id)
		switch {
		case err == nil:
			return x, nil
		case ctx.Err() != nil:
			return nil, err
		case !client.NotFound(err):
			a.warn(err) // away, or a liar: another one may know
		}
	}
	return nil, term.WithHint(fmt.Errorf("no message server that answers saw request %s signed", short(digest)), listen)
}

func (a *app) showIssued(x *client.Issued, out string) error {
	j := issuedJSON{
		Request: x.Request, Server: x.Server, Enterprise: x.Enterprise, Distributor: x.Distributor, Task: x.Task,
		Seen: x.Seen, Done: x.Done, Silent: x.Silent, Combiners: x.Combiners, Wrong: x.Wrong,
	}
	for i, der := range x.Results {
		r := resultJSON{Name: nameInBatch(x.Signed, i), Result: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
		if out != "" {
			r.File = filepath.Join(out, r.Name)
		}
		j.Results = append(j.Results, r)
	}
	if out != "" {
		if err := writeNewDir(out, j.Results); err != nil {
			return err
		}
	}
	return a.result(j, func() {
		if out == "" {
			for _, r := range j.Results {
				fmt.Fprintf(a.out, "%s", r.Result)
			}
		}
		a.tell("server %s saw it signed %s, task %d/%d/%d, combined by %s", x.Server, timeText(x.Seen), x.Enterprise, x.Distributor, x.Task, listOr(x.Combiners, "nobody that it heard"))
		for _, d := range x.Wrong {
			a.tell("warning: combiner %s sent a wrong signature", d)
		}
		switch {
		case x.Done == 0 && x.Silent == 0:
			a.tell("the distributor has not said so yet")
		case x.Done == 0:
			a.tell("warning: the distributor was silent about it")
		}
		if out != "" {
			a.say("%s written to %s", certificatesOf(len(j.Results)), out)
		}
	})
}
