package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// ledgerCommand is a command of the ledger before it has its place there.
type ledgerCommand struct {
	kind string
	body any
}

func newRequestEntry(a *app) *cobra.Command {
	return command.Group("entry", "Ask for a command of the ledger, which the system-wide authority signs", newEntryNotice(a), newEntryBackup(a), newEntryDealing(a))
}

const entryLong = `

The command takes the next place in the ledger. It is in force when enough
devices have signed it and it was handed to the message servers: that is done by
--wait, here or of privyseal request status. If another command takes the place
meanwhile, ask again.`

func newEntryNotice(a *app) *cobra.Command {
	var q asking
	var n ledger.Notice
	var from, until string
	c := &cobra.Command{
		Use:   "notice --until TIME --text TEXT",
		Short: "Announce maintenance, which suspends the destruction of shares",
		Long: `Announce maintenance of a device, or of all. Meanwhile a device that hears no
beats falls silent as ever, but destroys nothing.

TIME is a day (2026-01-31), a moment (2026-01-31T18:00Z), or a time from now
(+12h).` + entryLong,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if n.From, err = a.parseTime("--from", from); err != nil {
				return err
			}
			if n.Until, err = a.parseTime("--until", until); err != nil {
				return err
			}
			if err := a.checkNotice(n); err != nil {
				return err
			}
			q.Kind, q.command = document.KindEntry, &ledgerCommand{ledger.KindNotice, n}
			return a.request(c.Context(), &q)
		},
	}
	f := c.Flags()
	f.StringVar(&n.Text, "text", "", "what is done, for everybody to read")
	f.StringVar(&from, "from", "+0s", "when it begins (default: now)")
	f.Lookup("from").DefValue = ""
	f.StringVar(&until, "until", "", "when it is over")
	f.StringVar(&n.Device, "device", "", "id of the device concerned (default: all)")
	q.flags(c, outOfEntry)
	_ = c.MarkFlagRequired("text")
	_ = c.MarkFlagRequired("until")
	return c
}

// checkNotice refuses what nobody would sign, in the words it was typed in.
func (a *app) checkNotice(n ledger.Notice) error {
	switch {
	case strings.TrimSpace(n.Text) == "":
		return usage("--text is empty", "say what is done, for everybody to read")
	case n.Until <= a.now().Unix():
		return usage("--until is over already: "+timeText(n.Until), "")
	case n.Until <= n.From:
		return usage("--until is not after --from: "+timeText(n.Until), "")
	case n.Device == "":
		return nil
	}
	s, err := a.system()
	if err != nil {
		return err
	}
	if _, ok := s.State().Device(n.Device); !ok {
		return usage(fmt.Sprintf("there is no device %q", n.Device), "privyseal system show lists them")
	}
	return nil
}

func newEntryBackup(a *app) *cobra.Command {
	var q asking
	var b ledger.Backup
	var tested string
	c := &cobra.Command{
		Use:   "backup DEVICE --share SHARE --place TEXT --tested TIME",
		Short: "Put a tested off-line backup of a share on record",
		Long: `Put on record that there is an off-line backup of a share and that its
restoration was tried. When there is one of each share of a device, the device
may destroy them as its heartbeat policy says: the officers are asked for no
less than that. Nothing here can look at the backup.

TIME is a day (2026-01-31) or a moment (2026-01-31T18:00Z).` + entryLong,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if b.Tested, err = a.parseTime("--tested", tested); err != nil {
				return err
			}
			b.Device = args[0]
			if err := a.checkShare(b.Device, b.Share); err != nil {
				return err
			}
			q.Kind, q.command = document.KindEntry, &ledgerCommand{ledger.KindBackup, b}
			return a.request(c.Context(), &q)
		},
	}
	f := c.Flags()
	f.StringVar(&b.Share, "share", "", "id of the share")
	f.StringVar(&b.Place, "place", "", "where the backup is, for people")
	f.StringVar(&tested, "tested", "", "when its restoration was tried last")
	q.flags(c, outOfEntry)
	for _, name := range []string{"share", "place", "tested"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

func newEntryDealing(a *app) *cobra.Command {
	var q asking
	var incomplete bool
	c := &cobra.Command{
		Use:   "dealing FILE",
		Short: "Put a certificate authority in two layers into force, or a new revision of one",
		Long: `Put a dealing of the off-line distributor into force: the certificate authority
of an enterprise, or a revision of one that gained or lost machines. FILE is
dealing.cbor of the medium, or the medium. Its shares should be installed
before: privyseal authority install.` + entryLong,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := readDealing(args[0])
			if err != nil {
				return err
			}
			s, err := a.system()
			if err != nil {
				return err
			}
			if err := alreadyDealt(s.State(), d); err != nil {
				return err
			}
			a.tell("%s\n", strings.Join(medium.ViewDealing(s.State(), d, nil).Lines(), "\n"))
			if err := a.allInstalled(c.Context(), s, d, incomplete); err != nil {
				return err
			}
			q.Kind, q.command = document.KindEntry, &ledgerCommand{ledger.KindDealing, d}
			return a.request(c.Context(), &q)
		},
	}
	c.Flags().BoolVar(&incomplete, "incomplete", false, "go on although a device has not installed its share: it stays without until it is dealt again")
	q.flags(c, outOfEntry)
	return c
}

// alreadyDealt refuses what this home knows to be in force, or overtaken.
func alreadyDealt(s ledger.State, d *ledger.Dealing) error {
	now, ok := s.Enterprise(d.Enterprise.Code)
	if !ok || d.Revision > now.Revision {
		return nil
	}
	mine, err := d.Digest()
	if err != nil {
		return err
	}
	theirs, err := now.Digest()
	if err != nil {
		return err
	}
	if mine == theirs {
		return term.WithHint(fmt.Errorf("this dealing is in force already: revision %d of enterprise %d", now.Revision, d.Enterprise.Code),
			"see: privyseal authority show "+now.Key.ID)
	}
	return term.WithHint(fmt.Errorf("revision %d of enterprise %d is overtaken: revision %d is in force", d.Revision, d.Enterprise.Code, now.Revision),
		"invite and deal again, from the ledger as it is")
}

// readDealing reads a dealing from its file or its medium.
func readDealing(path string) (*ledger.Dealing, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		x, err := medium.ReadDealt(path)
		if err != nil {
			return nil, err
		}
		return &x.Dealing, nil
	}
	raw, err := readSmall(path, ledger.MaxEntry)
	if err != nil {
		return nil, err
	}
	d, err := ledger.DecodeDealing(raw)
	if err != nil {
		return nil, term.WithHint(fmt.Errorf("%s is no dealing: %w", path, err), "name the medium, or dealing.cbor on it")
	}
	return d, nil
}

// checkShare names the shares of a device to whoever names another one.
func (a *app) checkShare(device, share string) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	if _, ok := s.State().Device(device); !ok {
		return usage(fmt.Sprintf("there is no device %q", device), "privyseal system show lists them")
	}
	var held []string
	for _, k := range s.State().Keys() {
		if h, ok := s.State().HolderOf(k.ID, device); ok {
			held = append(held, h.Share)
		}
	}
	if slices.Contains(held, share) {
		return nil
	}
	return usage(fmt.Sprintf("device %s holds no share %q", device, share), "it holds "+listOr(held, "none"))
}

// parseTime reads a time as people write it.
func (a *app) parseTime(flag, text string) (int64, error) {
	if after, ok := strings.CutPrefix(text, "+"); ok {
		if d, err := time.ParseDuration(after); err == nil && d >= 0 {
			return a.now().Add(d).Unix(), nil
		}
	}
	for _, form := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(form, text); err == nil {
			return t.Unix(), nil
		}
	}
	return 0, usage(fmt.Sprintf("%s %q is no time", flag, text), "write 2026-01-31, 2026-01-31T18:00Z or +12h")
}

// newEntry drafts the entry that follows the ledger, checks it as devices will,
// and signs the request for it.
func (q *asking) newEntry(rand io.Reader, s ledger.State, signer crypto.Signer, server ledger.Server, now int64) (*client.Signed, error) {
	who, err := client.Requester(s, signer.Public(), "")
	if err != nil {
		return nil, err
	}
	key, _, err := q.keyOf(s)
	if err != nil {
		return nil, err
	}
	r := document.Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: q.Algorithm, Kind: document.KindEntry, Route: document.RouteTo(&key, q.Approvals),
		Requester: who.Owner, Created: now, Expires: now + q.Lifetime, Comment: q.Comment,
	}
	if len(q.Devices) > 0 {
		r.Route.Devices = slices.Clone(q.Devices)
	}
	if r.Document, err = ledger.NewEntry(s, q.command.kind, q.command.body, now); err != nil {
		return nil, err
	}
	if r.Nonce, err = envelope.NewID(rand); err != nil {
		return nil, err
	}
	out := &client.Signed{Request: r, Server: server.ID}
	if out.Checked, err = document.CheckIn(s, &r, now); err != nil {
		return nil, err
	}
	payload, err := envelope.Marshal(&r)
	if err != nil {
		return nil, err
	}
	if out.Raw, err = envelope.Sign(rand, signer, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.System(),
		Key: r.Key, Epoch: r.Epoch, LedgerHead: s.Head(), Created: r.Created, Expires: r.Expires,
	}, payload); err != nil {
		return nil, err
	}
	u, err := envelope.Parse(out.Raw)
	if err != nil {
		return nil, err
	}
	out.Digest = u.UnverifiedDigest() // of what was just signed
	return out, nil
}

// enact puts a signed entry into force: one message server takes it, and the
// others take what that one has.
func (a *app) enact(ctx context.Context, s *client.System, r *client.Signed, t *tracking, signature []byte, out string) error {
	x := ledger.SignedEntry{Entry: r.Request.Document, Algorithm: string(r.Request.Algorithm), Signature: signature}
	raw, err := envelope.Marshal(&x)
	if err != nil {
		return err
	}
	e, err := ledger.DecodeEntry(x.Entry)
	if err != nil {
		return err
	}
	if out != "" {
		if err := writeNew(out, raw, 0o644); err != nil {
			return err
		}
	}
	a.tell("signed by %s", strings.Join(signers(t), ", "))
	var failed []error
	for _, srv := range s.State().Servers() {
		if err := a.append(ctx, s, srv, e.Position, x, raw); err != nil {
			failed = append(failed, err)
			continue
		}
		return a.spread(ctx, s, e.Position, out)
	}
	return term.WithHint(fmt.Errorf("the command is signed, and no message server took it: %w", errors.Join(failed...)),
		fmt.Sprintf("try again: privyseal request status %s --wait", short(r.Digest)))
}

// append gives one server the ledger with an entry more, and takes it home.
// Where it is known already, that is enough.
func (a *app) append(ctx context.Context, s *client.System, srv ledger.Server, position uint64, x ledger.SignedEntry, raw []byte) error {
	conn, err := client.Dial(srv)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := conn.System(ctx, position-1, false)
	if err != nil {
		return err
	}
	if got.Height == position-1 {
		if err := conn.Extend(ctx, got.Height, [][]byte{raw}); err != nil {
			return err
		}
	}
	if err := a.fetch(ctx, s, conn); err != nil {
		return err
	}
	hash, ok := s.State().HashAt(position)
	switch {
	case !ok:
		return fmt.Errorf("message server %s has %d commands of the ledger, this is number %d: it lacks those between", srv.ID, got.Height, position)
	case hash != ledger.EntryHash(x.Entry):
		return takenError(position)
	}
	return nil
}

func takenError(position uint64) error {
	return term.WithHint(fmt.Errorf("another command took place %d of the ledger meanwhile", position), "ask for this one again")
}

// enacted is a command that is in force.
type enacted struct {
	Position uint64        `json:"position"`
	Hash     envelope.Hash `json:"hash"`
	File     string        `json:"file,omitempty"`
	Servers  []string      `json:"servers"`
	Away     []string      `json:"away"`           // servers that have it not yet
	Behind   []string      `json:"devices_behind"` // that answer and do not know it yet
}

// spread gives every message server the ledger as this home knows it, with the
// command at a position. Servers bring their devices and sources up to date.
func (a *app) spread(ctx context.Context, s *client.System, position uint64, out string) error {
	hash, _ := s.State().HashAt(position)
	done := enacted{Position: position, Hash: hash, File: out, Servers: []string{}, Away: []string{}, Behind: []string{}}
	for _, srv := range s.State().Servers() {
		if err := a.bring(ctx, s, srv); err != nil {
			a.warn(err)
			done.Away = append(done.Away, srv.ID)
			continue
		}
		done.Servers = append(done.Servers, srv.ID)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done.Behind = append(done.Behind, a.devicesBehind(ctx, s)...)
	return a.result(done, func() {
		a.say("command %d of the ledger is in force at %s", position, listOr(done.Servers, "no message server that can be reached"))
		if len(done.Away) > 0 {
			a.tell("not yet at %s: repeat privyseal request status DIGEST --wait when they are back", strings.Join(done.Away, ", "))
		}
		if len(done.Behind) > 0 {
			a.tell("not yet known to %s: see privyseal status", strings.Join(done.Behind, ", "))
		}
	})
}

// devicesBehind are the devices whose ledger is shorter than the home's, as
// far as a server can tell.
func (a *app) devicesBehind(ctx context.Context, s *client.System) []string {
	conn, err := a.dialAny(ctx, s)
	if err != nil || conn == nil {
		return nil
	}
	defer conn.Close()
	got, err := conn.Status(ctx)
	if err != nil {
		return nil
	}
	var out []string
	for _, x := range got.Servers {
		for _, d := range x.Devices {
			if d.Status != nil && d.Status.Height < s.State().Height() {
				out = append(out, d.Device)
			}
		}
	}
	return out
}

// bring gives a server what it lacks of the ledger as this home has it.
func (a *app) bring(ctx context.Context, s *client.System, srv ledger.Server) error {
	conn, err := client.Dial(srv)
	if err != nil {
		return err
	}
	defer conn.Close()
	height := s.State().Height()
	got, err := conn.System(ctx, height, false)
	if err != nil || got.Height >= height {
		return err
	}
	return conn.Extend(ctx, got.Height, s.Entries()[got.Height:])
}
