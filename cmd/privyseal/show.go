package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newShow(a *app, serial *string) *cobra.Command {
	var public bool
	var wait time.Duration
	c := &cobra.Command{
		Use:   "show DIGEST...",
		Short: "Show what you are asked to approve, decoded and checked",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := a.sit(c.Context(), *serial)
			if err != nil {
				return err
			}
			defer d.close()
			if d.hopeless(c.Context(), args) {
				wait = 0
			}
			return d.explained(c.Context(), d.inbox(c.Context(), wait, "show a request", named(args, ""), func(_ client.Keys, items []*client.Item, bad []refused) error {
				d.printRefused(bad)
				chosen, err := pick(items, args, false, "")
				if err != nil {
					return err
				}
				return d.show(chosen, public)
			}))
		},
	}
	publicFlag(c, &public)
	waitFlag(c, &wait)
	return c
}

func publicFlag(c *cobra.Command, public *bool) {
	c.Flags().BoolVar(public, "public", false, "also apply the rules for certificates that browsers trust")
}

// shown is an item in full.
type shown struct {
	itemJSON
	View     *document.View `json:"view"`
	Lint     []finding      `json:"lint"`
	LintFail string         `json:"lint_error,omitempty"`
	// Certificates are those of a batch.
	Certificates []certificateJSON `json:"certificates,omitempty"`
	Need         uint64            `json:"need"`
	Approved     []string          `json:"approved"`          // verified, in a chain
	Claimed      []string          `json:"claimed"`           // as the message server tells it
	Follows      string            `json:"follows,omitempty"` // device whose partial signature is covered
	Others       []string          `json:"others"`            // who may approve here besides, and has not
}

func (d *desk) describe(i *client.Item, public bool) shown {
	out := shown{
		itemJSON: d.itemOf(i), View: i.View(), Lint: []finding{}, Need: i.Holder.Quorum,
		Approved: i.Approved, Claimed: i.Claimed, Follows: i.Signed,
	}
	linted := i.Lint(public)
	if i.Checked.Kind() == document.KindCertificates {
		out.batch(i, linted)
	} else {
		for _, l := range linted {
			if l.Err != nil {
				out.LintFail = l.Err.Error()
			}
			for _, f := range l.Findings {
				out.Lint = append(out.Lint, finding{Finding: f})
			}
		}
	}
	s := d.sys.State()
	for _, o := range s.OfficersFor(i.Request.Key, i.Device.ID, d.now().Unix()) {
		if o.Person == d.officer.Person.ID || o.Person == i.Requester.Owner {
			continue
		}
		if p, ok := s.Person(o.Person); ok && (slices.Contains(i.Approved, p.Name) || slices.Contains(i.Claimed, p.Name)) {
			continue // did so already
		}
		out.Others = append(out.Others, d.personName(o.Person))
	}
	return out
}

func (d *desk) show(items []*client.Item, public bool) error {
	var all []shown
	for _, i := range items {
		all = append(all, d.describe(i, public))
	}
	return d.result(all, func() { d.print(items, all) })
}

// print shows items on a terminal. What one officer is asked for several devices
// is shown once.
func (d *desk) print(items []*client.Item, all []shown) {
	seen := map[envelope.Hash]bool{}
	for n, i := range items {
		if n > 0 {
			d.say("")
		}
		d.say("%s", strings.Repeat("=", min(d.width, 100)))
		d.say("request %s", i.Digest)
		if !seen[i.Digest] {
			d.printDocument(i, all[n])
		} else {
			d.say("the one above, for another device")
		}
		seen[i.Digest] = true
		d.printWord(i, all[n])
	}
}

// printDocument shows what would be signed.
func (d *desk) printDocument(i *client.Item, x shown) {
	if i.Checked.Kind() == document.KindCertificates {
		for _, line := range x.batchLines(i, min(d.width, 120)) {
			d.say("%s", line)
		}
		return
	}
	width := min(d.width, 120)
	for _, line := range x.View.Lines(width) {
		d.say("%s", line)
	}
	if i.Checked.Kind() == document.KindCertificate || i.Checked.Kind() == document.KindIdentity {
		d.say("\nFindings")
		switch {
		case x.LintFail != "":
			d.say("  the certificate could not be examined: %s", x.LintFail)
		case len(x.Lint) == 0:
			d.say("  none")
		}
		for _, f := range x.Lint {
			for _, line := range indented(f.String(), 2, max(width, 60)) {
				d.say("%s", line)
			}
		}
	}
}

// printWord shows what the officer's word is about.
func (d *desk) printWord(i *client.Item, x shown) {
	word := document.Section{Title: "Your word"}
	field := func(label string, values ...string) {
		word.Fields = append(word.Fields, document.Field{Label: label, Values: values})
	}
	requester := []string{d.personName(i.Requester.Owner) + ", signature verified"}
	if x.Own {
		requester = append(requester, "THIS IS YOUR OWN REQUEST: others must approve it")
	}
	field("requester", requester...)
	if n := len(x.Certificates); n > 0 {
		field("certificates", fmt.Sprintf("%d, all of them or none; remarks on %s", n, x.remarked()))
	}
	field("device", deviceName(i.Device)+", its one-time key verified")
	field("needs", fmt.Sprintf("%d officers of this device", x.Need))
	have := len(i.Approved)
	switch {
	case i.Request.Route.Approvals == document.ApprovalsChain:
		field("approved before you", listOr(i.Approved, "nobody"))
	default:
		have = len(i.Claimed)
		field("approved so far", listOr(i.Claimed, "nobody")+" (as the message server tells it)")
	}
	if x.Follows != "" {
		field("follows", "the partial signature of "+x.Follows)
	}
	field("still needed", fmt.Sprint(max(int(x.Need)-have, 0)))
	field("others who may", listOr(x.Others, "nobody"))
	v := document.View{Sections: []document.Section{word}}
	for _, line := range v.Lines(min(d.width, 120))[1:] { // it has no title
		d.say("%s", line)
	}
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// personName is a person or device as people know it.
func (d *desk) personName(id string) string { return personName(d.sys.State(), id) }

func personName(s ledger.State, id string) string {
	if p, ok := s.Person(id); ok {
		return fmt.Sprintf("%s (%s)", p.Name, p.ID)
	}
	if dev, ok := s.Device(id); ok {
		return "device " + deviceName(dev)
	}
	return id
}

// deviceName is a device with what everybody who trusts it should know.
func deviceName(d ledger.Device) string {
	name := fmt.Sprintf("%s (%s)", d.ID, d.Name)
	if d.Unattended {
		name += " UNATTENDED"
	}
	return name
}
