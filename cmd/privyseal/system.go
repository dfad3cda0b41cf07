package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	ceremonydesk "github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newSystem(a *app) *cobra.Command {
	return command.Group("system", "The system's tables, as verified at home", newSystemShow(a), newSystemExport(a))
}

func newSystemShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show ids, fingerprints, keys, devices and officers",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.systemShow() },
	}
}

// The JSON form of the tables. Fingerprints are SHA-256 of public keys.
type tablesJSON struct {
	System   envelope.Hash `json:"system"`
	Name     string        `json:"name"`
	Height   uint64        `json:"height"`
	Head     envelope.Hash `json:"head"`
	Created  int64         `json:"created"`
	Firmware envelope.Hash `json:"firmware"`
	Ceremony ceremonyJSON  `json:"ceremony"`
	Servers  []serverJSON  `json:"servers"`
	Devices  []tokenJSON   `json:"devices"`
	Sources  []sourceJSON  `json:"sources"`
	Keys     []keyJSON     `json:"keys"`
	Persons  []personJSON  `json:"persons"`
	Warnings []string      `json:"warnings"`
}

type ceremonyJSON struct {
	File          envelope.Hash `json:"file"`
	Attempt       uint64        `json:"attempt"`
	Administrator string        `json:"administrator"`
	Witnesses     []string      `json:"witnesses"`
	Vault         bool          `json:"vault"`
}

type serverJSON struct {
	ID   string         `json:"id"`
	Name string         `json:"name"`
	URL  string         `json:"url"`
	Pin  envelope.Hash  `json:"pin"`
	Sign envelope.KeyID `json:"sign"`
}

type tokenJSON struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Serial       string         `json:"serial"`
	Model        string         `json:"model"`
	Server       string         `json:"server"`
	Sign         envelope.KeyID `json:"sign"`
	Agree        envelope.KeyID `json:"agree"`
	InToken      bool           `json:"in_token"`
	Unattended   bool           `json:"unattended"`
	UnlockQuorum uint64         `json:"unlock_quorum"`
	Officers     []officerJSON  `json:"officers"`
	Heartbeat    *policyJSON    `json:"heartbeat,omitempty"` // absent: it needs no beats
}

// policyJSON is a device's heartbeat policy; sources are ids of sources or of
// devices that answer as satellites.
type policyJSON struct {
	Sources []string `json:"sources"`
	Needed  uint64   `json:"needed"`
	Period  uint64   `json:"period_ms"`
	Lease   uint64   `json:"lease_ms"`
	Minimum uint64   `json:"minimum"`
	Loss    uint64   `json:"loss"`
	Destroy uint64   `json:"destroy_s"`
	// Armed says that its shares may be destroyed: Unsaved are those of which no
	// backup is on record.
	Armed   bool     `json:"armed"`
	Unsaved []string `json:"shares_without_backup"`
}

type sourceJSON struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Kind      string         `json:"kind"`
	Server    string         `json:"server"`
	Sign      envelope.KeyID `json:"sign"`
	Agree     envelope.KeyID `json:"agree"`
	Operators []string       `json:"operators"`
}

type officerJSON struct {
	Person  string   `json:"person"`
	Name    string   `json:"name"`
	Card    uint32   `json:"card"`
	Class   string   `json:"class"`
	Keys    []string `json:"keys"`
	Expires int64    `json:"expires"`
}

type keyJSON struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	Family     string       `json:"family"`
	Mode       string       `json:"mode"`
	T          uint64       `json:"t"`
	N          uint64       `json:"n"`
	Bits       int          `json:"bits"`
	Epoch      uint64       `json:"epoch"`
	Algorithms []string     `json:"algorithms"`
	Digests    bool         `json:"digests"`
	SPKI       string       `json:"spki_sha256"`
	Holders    []holderJSON `json:"holders"`
}

type holderJSON struct {
	Index  uint64 `json:"index"`
	Share  string `json:"share"`
	Device string `json:"device"`
	Quorum uint64 `json:"quorum"`
	// Layer is "calculator" or "combiner" in a key of two layers, where Index is
	// the machine's number in its layer, and Version that of its share.
	Layer   string `json:"layer,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

type personJSON struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Title    string   `json:"title,omitempty"`
	Cards    []uint32 `json:"cards"`
	Software string   `json:"software_key,omitempty"` // id of a key that asks and never approves
}

func tablesOf(s ledger.State, now int64) (tablesJSON, error) {
	c := s.Ceremony()
	out := tablesJSON{
		System: s.System(), Name: s.Name(), Height: s.Height(), Head: s.Head(), Created: s.Genesis().Created, Firmware: s.Firmware(),
		Ceremony: ceremonyJSON{c.File, c.Attempt, c.Administrator, c.Witnesses, c.Vault},
		Sources:  []sourceJSON{}, Warnings: []string{},
	}
	if c.Vault {
		out.Warnings = append(out.Warnings, "devices were compared by hand, without certificates of their manufacturer")
	}
	if s.Genesis().UnattestedCards {
		out.Warnings = append(out.Warnings, "cards without a manufacturer's attestation were admitted")
	}
	for _, x := range s.Servers() {
		out.Servers = append(out.Servers, serverJSON{x.ID, x.Name, x.URL, x.TLS, envelope.KeyIDOfSPKI(x.Sign)})
	}
	for _, d := range s.Devices() {
		j := tokenJSON{
			d.ID, d.Name, d.Serial, d.Model, d.Server, envelope.KeyIDOfSPKI(d.Sign), envelope.KeyIDOfSPKI(d.Agree),
			d.InToken, d.Unattended, d.UnlockQuorum, []officerJSON{}, nil,
		}
		if h := d.Heartbeat; h != nil {
			j.Heartbeat = &policyJSON{
				h.Sources, h.Needed, h.Period, h.Lease, h.Minimum, h.Loss, h.Destroy, s.MayDestroy(d.ID), append([]string{}, s.MissingBackups(d.ID)...),
			}
		}
		if d.Unattended {
			out.Warnings = append(out.Warnings, fmt.Sprintf("device %s is unattended: it unlocks itself", d.ID))
		}
		for _, o := range s.OfficersOf(d.ID, now) {
			p, _ := s.Person(o.Person)
			j.Officers = append(j.Officers, officerJSON{p.ID, p.Name, o.Card, o.Class, o.Keys, o.Expires})
		}
		out.Devices = append(out.Devices, j)
	}
	for _, x := range s.Sources() {
		out.Sources = append(out.Sources, sourceJSON{
			x.ID, x.Name, x.Kind, x.Server, envelope.KeyIDOfSPKI(x.Sign), envelope.KeyIDOfSPKI(x.Agree), x.Operators,
		})
	}
	out.Warnings = append(out.Warnings, policiesOf(s).warnings()...)
	for _, k := range s.Keys() {
		spki, err := document.SPKI(&k.Public)
		if err != nil {
			return out, fmt.Errorf("key %s: %w", k.ID, err)
		}
		j := keyJSON{
			ID: k.ID, Name: k.Name, Family: k.Family, Mode: document.ModeOf(&k), T: k.T, N: k.N, Bits: k.Public.Bits(), Epoch: k.Epoch,
			Algorithms: k.Algorithms, Digests: k.AllowDigest, SPKI: envelope.KeyIDOfSPKI(spki).String(),
		}
		if k.Layers != nil {
			j.Mode = "two-layer"
		}
		for _, h := range k.Holders {
			x := holderJSON{Index: h.Index, Share: h.Share, Device: h.Device, Quorum: h.Quorum, Version: h.Version}
			if h.Layer != 0 {
				x.Layer = medium.Layer(h.Layer)
			}
			j.Holders = append(j.Holders, x)
		}
		out.Keys = append(out.Keys, j)
	}
	for _, p := range s.Persons() {
		j := personJSON{ID: p.ID, Name: p.Name, Title: p.Title, Cards: []uint32{}}
		for _, c := range p.Cards {
			j.Cards = append(j.Cards, c.Serial)
		}
		if len(p.Software) > 0 {
			j.Software = envelope.KeyIDOfSPKI(p.Software).String()
		}
		out.Persons = append(out.Persons, j)
	}
	return out, nil
}

func (a *app) systemShow() error {
	s, err := a.system()
	if err != nil {
		return err
	}
	t, err := tablesOf(s.State(), a.now().Unix())
	if err != nil {
		return err
	}
	return a.result(t, func() { a.printTables(t, s.State()) })
}

func (a *app) printTables(t tablesJSON, s ledger.State) {
	a.say("system     %s", t.Name)
	a.say("id         %s", t.System)
	a.say("ledger     position %d, head %s", t.Height, t.Head)
	a.say("firmware   %s", t.Firmware)
	a.say("ceremony   %s, attempt %d, administrator %s, witnesses %s", timeText(t.Created), t.Ceremony.Attempt, t.Ceremony.Administrator,
		listOr(t.Ceremony.Witnesses, "none"))
	a.say("           reviewed file %s", t.Ceremony.File)
	for _, w := range t.Warnings {
		a.say("WARNING    %s", w)
	}
	a.say("\nKeys")
	for _, k := range t.Keys {
		devices := "devices"
		if k.Mode == "two-layer" {
			devices = "calculators with one combiner"
		}
		a.say("  %-12s %s: family %s, RSA %d, %d of %d %s, %s, %s", k.ID, k.Name, k.Family, k.Bits, k.T, k.N, devices, k.Mode, strings.Join(k.Algorithms, " "))
		a.say("  %-12s SHA-256 of the public key %s", "", k.SPKI)
		var holders []string
		for _, h := range k.Holders {
			name := h.Device
			if h.Layer != "" {
				name = fmt.Sprintf("%s %d: %s", h.Layer, h.Index, h.Device)
			}
			holders = append(holders, fmt.Sprintf("%s (%d officers)", name, h.Quorum))
		}
		for n, line := range wrapList(holders, min(a.width, 120)-23) {
			a.say("  %-12s %-7s %s", "", []string{"held by", ""}[min(n, 1)], line)
		}
		if k.Mode == "two-layer" {
			a.say("  %-12s more: privyseal authority show %s", "", k.ID)
		}
	}
	a.say("\nDevices")
	for _, d := range t.Devices {
		use := "shares used in the host"
		if d.InToken {
			use = "shares used in the token"
		}
		if d.Unattended {
			use += ", UNATTENDED"
		}
		a.say("  %-12s %s, %s %s, at %s, %s", d.ID, d.Name, d.Model, d.Serial, d.Server, use)
		a.say("  %-12s signature key %s", "", d.Sign)
		a.say("  %-12s agreement key %s", "", d.Agree)
		for _, o := range d.Officers {
			a.say("  %-12s officer %s (%s), card %d, until %s", "", o.Name, o.Person, o.Card, dateText(o.Expires))
		}
		if h := d.Heartbeat; h != nil {
			row, _ := s.Device(d.ID)
			for _, line := range ceremonydesk.PolicyLines(d.ID, row.Heartbeat) {
				a.say("  %-12s %s", "", line)
			}
			switch {
			case h.Destroy == 0:
			case h.Armed:
				a.say("  %-12s backups of all of them are on record: they may be destroyed", "")
			default:
				a.say("  %-12s nothing is destroyed yet: no backup is on record of %s", "", listOr(h.Unsaved, "a share, and it holds none"))
			}
		}
	}
	if len(t.Sources) > 0 {
		a.say("\nHeartbeat sources")
	}
	for _, x := range t.Sources {
		a.say("  %-12s %s, kind %s, at %s, operated by %s", x.ID, x.Name, x.Kind, x.Server, listOr(x.Operators, "nobody"))
		a.say("  %-12s signature key %s", "", x.Sign)
		a.say("  %-12s agreement key %s", "", x.Agree)
	}
	a.say("\nMessage servers")
	for _, x := range t.Servers {
		a.say("  %-12s %s, %s", x.ID, x.Name, x.URL)
		a.say("  %-12s pin %s", "", x.Pin)
	}
	a.say("\nPersons")
	for _, p := range t.Persons {
		var cards []string
		for _, c := range p.Cards {
			cards = append(cards, fmt.Sprint(c))
		}
		line := fmt.Sprintf("  %-12s %s", p.ID, p.Name)
		if p.Title != "" {
			line += ", " + p.Title
		}
		if cards != nil {
			line += ", cards " + strings.Join(cards, ", ")
		}
		if p.Software != "" {
			line += ", software key " + p.Software
		}
		a.say("%s", line)
	}
}

// refresh takes newer entries of the ledger, and reports whether a server
// answered: a key may be younger than what this home knows.
func (a *app) refresh(ctx context.Context, s *client.System) bool {
	conn, _, err := a.dial(ctx, s, a.server)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func newSystemExport(a *app) *cobra.Command {
	var public bool
	var out string
	c := &cobra.Command{
		Use:   "export KEY",
		Short: "Write a key's root certificate or public key in PEM, for other programs",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return a.systemExport(c.Context(), args[0], public, out) },
	}
	c.Flags().BoolVar(&public, "public", false, "the public key, not the certificate")
	c.Flags().StringVar(&out, "out", "", "file; nothing is overwritten (default: standard output)")
	return c
}

func (a *app) systemExport(ctx context.Context, key string, public bool, out string) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	k, ok := s.State().Key(key)
	if !ok && a.refresh(ctx, s) {
		k, ok = s.State().Key(key)
	}
	if !ok {
		return usage(fmt.Sprintf("there is no key %q", key), "privyseal system show lists the keys")
	}
	label, der := "CERTIFICATE", k.Certificate
	if public {
		label = "PUBLIC KEY"
		if der, err = document.SPKI(&k.Public); err != nil {
			return err
		}
	}
	if len(der) == 0 {
		return usage(fmt.Sprintf("key %s signs %ss and has no certificate", k.ID, k.Family), "export its public key with --public")
	}
	text := pemOf(label, der)
	if out != "" {
		if err := writeNew(out, text, 0o644); err != nil {
			return err
		}
	}
	return a.result(struct {
		Key  string `json:"key"`
		File string `json:"file,omitempty"`
		PEM  string `json:"pem"`
	}{k.ID, out, string(text)}, func() {
		if out == "" {
			fmt.Fprintf(a.out, "%s", text)
			return
		}
		a.say("%s written to %s", strings.ToLower(label), out)
	})
}
