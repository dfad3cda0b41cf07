package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	ceremonydesk "github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newCeremony(a *app) *cobra.Command {
	return command.Group("ceremony", "Initialise a system from one reviewed file",
		newCeremonyCheck(a), newCeremonyRun(a), newCeremonyShow(a))
}

func newCeremonyCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a ceremony file and print what to review",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := ceremonydesk.ReadFile(args[0])
			if err != nil {
				return err
			}
			return a.result(p, func() { a.sayPlan(p) })
		},
	}
}

// sayPlan prints what people compare before a ceremony.
func (a *app) sayPlan(p *ceremony.Plan) {
	a.say("system          %s", p.Name)
	a.say("file (SHA-256)  %s", p.File)
	a.say("administrator   %s, for %d hours", p.Administrator, p.Hours)
	for _, w := range p.Witnesses {
		a.say("witness         %s", w)
	}
	for _, d := range p.Devices {
		note := ""
		if d.Unattended {
			note = ", UNATTENDED: the machine keeps its own PIN"
		}
		a.say("device          %s (%s), server %s, %d officers unlock it%s", d.ID, d.Name, d.Server, d.UnlockQuorum, note)
		for _, o := range p.Officers {
			if o.Device == d.ID {
				a.say("  officer       %s, card %d, %s", o.Person, o.Card, o.Class)
			}
		}
	}
	for _, k := range p.Keys {
		split := k.Split()
		a.say("key             %s: %s, RSA %d, any %d of %d devices (%v), %d officers at each; %d sub-shares a device",
			k.ID, k.Family, k.Bits, k.T, len(k.Devices), k.Scheme, k.Quorum, split.SubShares())
		if k.Family == ledger.FamilyLedger {
			a.say("  votes         a quorum of %d of %d tolerates %d lying devices (f = 2q−n−1)", k.T, len(k.Devices), k.AcknowledgedFaults())
		}
	}
	for _, x := range p.Sources {
		a.say("source          %s (%s), kind %s, server %s, operated by %s", x.ID, x.Name, x.Kind, x.Server, listOr(x.Operators, "nobody"))
	}
	beats := policiesPlanned(p)
	for _, d := range beats.devices {
		if d.Heartbeat == nil {
			continue
		}
		label := "heartbeat"
		for _, text := range ceremonydesk.PolicyLines(d.id, d.Heartbeat) {
			a.say("%-15s %s", label, text)
			label = ""
		}
	}
	for _, w := range beats.warnings() {
		a.say("WARNING         %s", w)
	}
	if p.Vault {
		a.say("VAULT           devices bring no manufacturer's certificates: protect them physically until the ceremony is over")
	}
}

func newCeremonyRun(a *app) *cobra.Command {
	var dir string
	var attempt uint64
	c := &cobra.Command{
		Use:   "run FILE --dir DIR",
		Short: "Conduct the ceremony, or go on with one that was interrupted",
		Long: `Conduct the ceremony that FILE describes: keys of devices and officers, temporary
certificates by the administrator's card, generation and splitting of the keys,
the genesis that every device signs, and certificates of the system-wide
authority for devices and officers.

DIR keeps the transcript. After an interruption run the same command again: a
genesis that all have signed is put into force; anything before that begins
anew with the next attempt.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return resumable(a.conduct(c.Context(), args[0], dir, attempt))
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of this ceremony")
	c.Flags().Uint64Var(&attempt, "attempt", 0, "number of the attempt, where DIR of an earlier one was lost")
	_ = c.MarkFlagRequired("dir")
	return c
}

const resumeHint = "start what is away, unlock what is locked, and run the same command again: it goes on, or begins the next attempt"

// resumable says of what only was away that the ceremony goes on.
func resumable(err error) error {
	if errors.As(err, new(*pinned.WrongPinError)) {
		return err
	}
	if errors.As(err, new(*client.UnreachableError)) || errors.As(err, new(*client.RefusedError)) {
		return term.WithHint(err, resumeHint)
	}
	return err
}

func (a *app) conduct(ctx context.Context, file, dir string, attempt uint64) error {
	p, err := ceremonydesk.ReadFile(file)
	if err != nil {
		return err
	}
	done, err := ceremonydesk.Finished(dir)
	if err != nil {
		return err
	}
	if done {
		return term.WithHint(errors.New("this ceremony is over"), "see 'privyseal ceremony show "+filepath.Join(dir, ceremonydesk.FileRecord)+"'")
	}
	entry, closeEntry := a.pinEntry()
	defer closeEntry()
	for _, w := range policiesPlanned(p).warnings() {
		a.tell("WARNING: %s", w)
	}
	r := &room{app: a, plan: p, entry: entry}
	sites, err := a.dialPlan(p)
	if err != nil {
		return err
	}
	defer sites.close()
	cfg := ceremonydesk.Config{
		Plan: *p, Attempt: attempt, Dir: dir, Sites: sites, Cards: r, Rand: a.rand, Now: a.now,
		Say: func(format string, args ...any) { a.tell(format, args...) },
	}
	res, err := ceremonydesk.Run(ctx, cfg)
	if err != nil {
		return err
	}
	home, err := a.settle(ctx, sites, res, dir)
	if err != nil {
		return err
	}
	a.tell("stages 4 and 5: certificates of the system-wide authority for devices and officers")
	certs, err := a.recertify(ctx, r, res.State)
	if err != nil {
		return err
	}
	if err := ceremonydesk.Finish(ctx, cfg, res, certs); err != nil {
		return err
	}
	return a.result(struct {
		System       envelope.Hash `json:"system"`
		Record       string        `json:"record"`
		Home         string        `json:"home"`
		Certificates int           `json:"certificates"`
	}{res.State.System(), filepath.Join(dir, ceremonydesk.FileRecord), home, len(certs)}, func() {
		a.say("system   %s", res.State.System())
		a.say("record   %s", filepath.Join(dir, ceremonydesk.FileRecord))
		a.say("tables   %s", home)
		a.say("certified by the system-wide authority: %d devices and officers", len(certs))
	})
}

// settle gives the system to every server and to this home, and writes the
// keys' root certificates.
func (a *app) settle(ctx context.Context, sites *planSites, res *ceremonydesk.Result, dir string) (string, error) {
	bundle, err := envelope.Marshal(res.Bundle)
	if err != nil {
		return "", err
	}
	for _, s := range res.State.Servers() {
		if err := sites.conns[s.ID].Commission(ctx, bundle, nil); err != nil {
			return "", err
		}
	}
	for _, k := range res.State.Keys() {
		if len(k.Certificate) == 0 {
			continue
		}
		path := filepath.Join(dir, k.ID+"-root.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate}), 0o644); err != nil {
			return "", err
		}
	}
	home, err := a.homeDir()
	if err != nil {
		return "", err
	}
	server := a.server
	if server == "" {
		server = res.State.Servers()[0].ID
	}
	s, err := client.Verify(res.State.System(), server, bundle, nil)
	if err != nil {
		return "", err
	}
	return home, s.Save(home)
}

// planSites speaks with the servers of a plan, before there is a system.
type planSites struct {
	app   *app
	plan  *ceremony.Plan
	conns map[string]*client.Conn
}

// relayPatience is how long a device may take for one message: the lead makes
// safe primes of 2048 bits in some minutes.
const relayPatience = 15 * time.Minute

func (a *app) dialPlan(p *ceremony.Plan) (*planSites, error) {
	s := &planSites{app: a, plan: p, conns: map[string]*client.Conn{}}
	for _, srv := range p.Servers {
		c, err := client.Dial(srv)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns[srv.ID] = c
	}
	return s, nil
}

func (s *planSites) close() {
	for _, c := range s.conns {
		c.Close()
	}
}

// Relay implements ceremonydesk.Sites.
func (s *planSites) Relay(ctx context.Context, device string, frame []byte) ([]byte, error) {
	for _, d := range s.plan.Devices {
		if d.ID == device {
			ctx, cancel := context.WithTimeout(ctx, relayPatience)
			defer cancel()
			busy := term.StartProgress(s.app.err, s.app.terminal, "device "+device+" works")
			defer busy.Done()
			return s.conns[d.Server].Relay(ctx, device, frame)
		}
	}
	return nil, fmt.Errorf("device %q is not in the plan", device)
}

func newCeremonyShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show RECORD",
		Short: "Verify and print a ceremony record",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			raw, err := readSmall(args[0], envelope.MaxMessage)
			if err != nil {
				return err
			}
			r, err := ceremonydesk.ReadRecord(raw)
			if err != nil {
				return fmt.Errorf("%s is no ceremony record that verifies: %w", args[0], err)
			}
			return a.result(r.Record, func() {
				a.sayPlan(&r.Plan)
				a.say("attempt         %d", r.Attempt)
				a.say("system          %s", r.System)
				a.say("firmware        %s", r.State.Firmware())
				for _, k := range r.State.Keys() {
					a.say("modulus of %s: %X", k.ID, k.Public.N) // as openssl x509 -modulus prints it
				}
				a.say("test signatures %d, one for each subset of devices", len(r.Tests))
				a.say("certificates    %d", len(r.Certificates))
				a.say("finished        %s", timeText(r.Finished))
				a.say("signed by the administrator's card and, in the genesis, by every device")
			})
		},
	}
}
