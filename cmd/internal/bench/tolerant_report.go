package main

import (
	"fmt"
	"strings"
)

func (o *tolerantRun) name() string {
	return fmt.Sprintf("%d bits, %s, %s", o.Bits, o.What, load{batch: o.Batch})
}

func (r *report) addTolerant(o *tolerantRun) {
	r.Tolerant = append(r.Tolerant, *o)
	if o.What != r.Tolerant[0].What || o.Batch == 1 {
		return
	}
	r.addLeast(fmt.Sprintf("rate of an authority in two layers, %d certificates a request / what its exponentiations permit, %d bits", o.Batch, o.Bits), o.Share, minShare, "x")
}

func (r *report) printTolerant(b *strings.Builder) {
	if len(r.Tolerant) == 0 {
		return
	}
	fmt.Fprintf(b, `
A certificate authority in two layers, %d of %d calculators and one of %d combiners,
each a process before a SoftHSM2 token of its own, all on this machine. Officers
have approved everything before the clock starts; then all approvals, two for each
machine, are posted at once, until all certificates are there and verified. powers:
exponentiations really executed for a certificate, of half and of full length.
permitted: what these alone permit on all cores, measured before and after. alone:
one request after the other, from posting its approvals to its verification.
`, quorum, calculators, combiners)
	rows := [][]string{{"", "certificates", "a second", "powers", "permitted", "share", "alone: p50", "p99", "load"}}
	for _, o := range r.Tolerant {
		rows = append(rows, []string{
			o.name(), fmt.Sprint(o.Certificates), fmt.Sprintf("%.1f", o.Rate), fmt.Sprintf("%.1f + %.1f", o.Halves, o.Fulls),
			fmt.Sprintf("%.1f", o.Permitted), fmt.Sprintf("%.0f %%", 100*o.Share), fmt.Sprintf("%.0f ms", o.P50), fmt.Sprintf("%.0f ms", o.P99), o.Load,
		})
	}
	table(b, rows)
	b.WriteString(`
Its processor time for a certificate, in ms: of these exponentiations alone, of all
devices with them, of the message servers, and of those who post the approvals and
fetch the certificates.
`)
	rows = [][]string{{"", "powers", "devices", "servers", "people", "powers / devices and servers"}}
	for _, o := range r.Tolerant {
		rows = append(rows, []string{
			o.name(), fmt.Sprintf("%.1f", o.Plain), fmt.Sprintf("%.1f", o.Devices), fmt.Sprintf("%.1f", o.Servers),
			fmt.Sprintf("%.1f", o.People), fmt.Sprintf("%.0f %%", 100*o.Plain/(o.Devices+o.Servers)),
		})
	}
	table(b, rows)
	b.WriteString(`
Beside it a conventional authority: nothing but crypto/rsa signatures with a whole
key on all cores. Approvals, messages and records cost it nothing here, nor does it
do what they are for.
`)
	rows = [][]string{{"", "signatures a second"}}
	for _, c := range r.Conventional {
		rows = append(rows, []string{fmt.Sprintf("%d bits", c.Bits), fmt.Sprintf("%.0f", c.Rate)})
	}
	table(b, rows)
}
