package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// urgentPatience is how long an urgent command waits for the newer tables of one
// server before it turns to the next. All others take them as they come: a long
// ledger over a slow line takes minutes, once.
const urgentPatience = 10 * time.Second

func newJoin(a *app) *cobra.Command {
	var url, pin, id string
	c := &cobra.Command{
		Use:   "join --url URL --pin PIN --system ID",
		Short: "Fetch a system's tables and keep them at home",
		Long: `Fetch a system's genesis from a message server, verify it against the system's
id, and keep it in the home directory. The id and the server's pin are what the
ceremony printed: take them from somebody who was there, not from the server.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.join(c.Context(), url, pin, id) },
	}
	f := c.Flags()
	f.StringVar(&url, "url", "", "address of a message server: https://HOST:PORT")
	f.StringVar(&pin, "pin", "", "SHA-256 of the server's TLS key, 64 hex digits")
	f.StringVar(&id, "system", "", "id of the system, 64 hex digits")
	for _, name := range []string{"url", "pin", "system"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

func (a *app) join(ctx context.Context, url, pin, id string) error {
	dir, err := a.homeDir()
	if err != nil {
		return err
	}
	tls, err := envelope.ParseHash(pin)
	if err != nil {
		return usage(fmt.Sprintf("--pin %q is not 64 hex digits", pin), "it is in identity.json of the server, as TLS")
	}
	system, err := envelope.ParseHash(id)
	if err != nil {
		return usage(fmt.Sprintf("--system %q is not 64 hex digits", id), "it is what the ceremony printed")
	}
	conn, err := client.DialURL(url, tls)
	if err != nil {
		return command.Misused(term.WithHint(err, "write --url as the ceremony file has it"))
	}
	defer conn.Close()
	got, err := conn.System(ctx, 0, true)
	if errors.As(err, new(*client.UnreachableError)) {
		return term.WithHint(err, "compare --url and --pin with the ceremony file, or join through another server")
	}
	if err != nil {
		return err
	}
	server, err := serverWithPin(system, got.System.Bundle, tls)
	var other *ledger.SystemError
	if errors.As(err, &other) {
		return term.WithHint(fmt.Errorf("message server %s belongs to system %s, not to %s", url, other.Got, system),
			"compare --system with what the ceremony printed")
	}
	if err != nil {
		return err
	}
	s, err := client.Verify(system, server, got.System.Bundle, got.System.Entries)
	if err != nil {
		return term.WithHint(err, "ask somebody who was at the ceremony for the system's id")
	}
	// From here on this is a home, with what an interrupted attempt has fetched.
	if err := s.Save(dir); err != nil {
		return err
	}
	if err := a.fetch(ctx, s, conn); err != nil {
		return term.WithHint(err, "what has come is kept: join again, and it goes on there")
	}
	return a.result(struct {
		System envelope.Hash `json:"system"`
		Name   string        `json:"name"`
		Server string        `json:"server"`
		Home   string        `json:"home"`
	}{s.ID(), s.State().Name(), server, dir}, func() {
		a.say("joined system %q (%s) through message server %s", s.State().Name(), s.ID(), server)
		a.say("tables are kept in %s", dir)
	})
}

// serverWithPin finds the server that was spoken to in the genesis.
func serverWithPin(system envelope.Hash, bundle []byte, pin envelope.Hash) (string, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(bundle, &b); err != nil {
		return "", fmt.Errorf("genesis: %w", err)
	}
	v, err := ledger.VerifyGenesisOf(system, b)
	if err != nil {
		return "", err
	}
	for _, s := range v.Genesis().Servers {
		if s.TLS == pin {
			return s.ID, nil
		}
	}
	return "", errors.New("the server belongs to another system: its genesis does not list the key it answers with")
}

// system reads the home.
func (a *app) system() (*client.System, error) {
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	return client.Open(dir)
}

// dialFirst connects to the server that --server names, and to no other; without
// it to the home's own or, if that is away, to the first other one that answers.
// serves says which server an id stands for, and which do not serve.
func (a *app) dialFirst(ctx context.Context, s *client.System, serves func(id string) (ledger.Server, error)) (*client.Conn, ledger.Server, error) {
	first, err := serves(a.server)
	if err != nil {
		return nil, first, command.Misused(err)
	}
	conn, srv, away := a.dial(ctx, s, first.ID)
	for _, other := range s.State().Servers() {
		if a.server != "" || !errors.As(away, new(*client.UnreachableError)) || ctx.Err() != nil {
			break
		}
		if _, err := serves(other.ID); err != nil || other.ID == first.ID {
			continue
		}
		var err error
		if conn, srv, err = a.dial(ctx, s, other.ID); err == nil {
			a.warn(fmt.Errorf("%v: message server %s is asked", away, other.ID))
			return conn, srv, nil
		}
	}
	return conn, srv, away
}

// dial connects to the home's server, or the one named by --server, and takes
// newer entries of the ledger.
func (a *app) dial(ctx context.Context, s *client.System, id string) (*client.Conn, ledger.Server, error) {
	srv, err := s.Server(id)
	if err != nil {
		return nil, srv, command.Misused(err)
	}
	conn, err := client.Dial(srv)
	if err != nil {
		return nil, srv, err
	}
	if err := a.fetch(ctx, s, conn); err != nil {
		conn.Close()
		return nil, srv, err
	}
	return conn, srv, nil
}

// fetch takes newer entries of the ledger. Whoever waits for many sees it.
func (a *app) fetch(ctx context.Context, s *client.System, conn *client.Conn) error {
	bar := term.StartProgress(a.err, a.terminal, "fetching the ledger")
	defer bar.Done()
	return s.RefreshTelling(ctx, conn, bar.Set)
}
