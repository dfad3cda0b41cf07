package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/cmd/internal/soak"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// The authority that is measured: 3 of 5 calculators and one of 3 combiners.
const (
	calculators = 5
	combiners   = 3
	// redundant combinations let a combiner die.
	redundant = 5

	// minShare is what the authority has to reach of what its exponentiations
	// permit.
	minShare = 0.70

	// plain is how long plain exponentiations are measured, before and after.
	plain = 700 * time.Millisecond

	// alone is how many certificates are issued one after the other.
	alone = 10
)

// tolerantRun is one load on an authority in two layers.
type tolerantRun struct {
	Bits         int     `json:"bits"`
	What         string  `json:"what"`
	Certificates int     `json:"certificates"`
	Seconds      float64 `json:"seconds"`
	Rate         float64 `json:"per_second"`
	Halves       float64 `json:"half_length_powers"` // executed, for one certificate
	Fulls        float64 `json:"full_length_powers"`
	Permitted    float64 `json:"permitted_per_second"` // by these on all cores, and nothing else
	Share        float64 `json:"share"`                // of that reached
	Plain        float64 `json:"powers_cpu_ms"`        // processor time, for one certificate
	Devices      float64 `json:"devices_cpu_ms"`       // powers included
	Servers      float64 `json:"servers_cpu_ms"`
	People       float64 `json:"people_cpu_ms"` // who send approvals and fetch certificates
	P50          float64 `json:"alone_p50_ms"`
	P99          float64 `json:"alone_p99_ms"`
	Load         string  `json:"load"`
}

// conventional is a certificate authority with a whole key.
type conventional struct {
	Bits int     `json:"bits"`
	Rate float64 `json:"per_second"`
}

// plantAuthority is an authority that was dealt to a plant.
type plantAuthority struct {
	*plant
	key ledger.Key
}

// measureTolerant deals authorities of each size to one plant, and measures them
// with all machines, with a dead combiner, and with as many dead calculators as
// can be done without besides.
func measureTolerant(ctx context.Context, f *flags, r *report) error {
	return soak.Outside(func(t testing.TB) error {
		p, err := newPlant(ctx, t, f.device, f.server, f.sites, calculators+combiners)
		if err != nil {
			return err
		}
		var all []*plantAuthority
		for i, bits := range f.bits {
			f.tell("tolerant: dealing a key of %d bits", bits)
			a, err := p.deal(ctx, uint64(11+i), bits)
			if err != nil {
				return fmt.Errorf("%d bits: %w", bits, err)
			}
			all = append(all, a)
		}
		damage, err := all[0].damage()
		if err != nil {
			return err
		}
		for _, d := range damage {
			p.kill(d.kill...)
			for _, a := range all {
				f.tell("tolerant: %d bits, %s", a.key.Public.Bits(), d.what)
				one, err := a.run(ctx, f.certificates, d.what)
				if err != nil {
					return fmt.Errorf("%d bits, %s: %w\n%s", a.key.Public.Bits(), d.what, err, p.said())
				}
				r.addTolerant(one)
			}
		}
		for _, bits := range f.bits {
			c, err := signConventionally(bits)
			if err != nil {
				return err
			}
			r.Conventional = append(r.Conventional, *c)
		}
		return nil
	})
}

// said is the end of what the processes wrote.
func (p *plant) said() string {
	b := new(strings.Builder)
	for id, m := range p.logs {
		s := m.String()
		fmt.Fprintf(b, "%s: %s\n", id, s[max(0, len(s)-500):])
	}
	return b.String()
}

// deal is all of a dealing: invitations, shares and the entry of the ledger.
func (p *plant) deal(ctx context.Context, code uint64, bits int) (*plantAuthority, error) {
	s, conn := p.home.State(), p.conns[p.sites[0].ID]
	plan := &dealing.Plan{
		Enterprise: ledger.Enterprise{Code: code, Name: fmt.Sprintf("Enterprise %d", code)},
		Key: dealing.PlanKey{
			ID: fmt.Sprintf("ca-%d", bits), Name: fmt.Sprintf("Root %d", bits), Bits: uint64(bits), Algorithms: []string{"RS256"}, MaxDays: 400, RootDays: 3650,
		},
		Need: quorum, Redundant: redundant, Quorum: 2, Pieces: 2, OfficerDays: 20, Operator: plantAsker, NoReserve: true,
		Distributors: []ledger.Distributor{{Number: 1, Server: p.sites[0].ID}},
	}
	for i, id := range p.devices {
		if i < calculators {
			plan.Calculators = append(plan.Calculators, dealing.Machine{Number: uint64(i + 1), Device: id})
		} else {
			plan.Combiners = append(plan.Combiners, dealing.Machine{Number: uint64(i + 1 - calculators), Device: id})
		}
		for _, who := range plantOfficers {
			plan.Officers = append(plan.Officers, dealing.Officer{Person: who, Device: id})
		}
	}
	in := dealing.Inputs{Now: time.Now().Unix(), Rand: rand.Reader, Isolated: true}
	var invitations [][]byte
	for _, id := range p.devices {
		raw, err := conn.Invite(ctx, s, id, code)
		if err != nil {
			return nil, err
		}
		invitations = append(invitations, raw)
	}
	result, err := dealing.Deal(in, s, plan, invitations, nil)
	if err != nil {
		return nil, err
	}
	defer result.Wipe()
	if err := result.Confirm(rand.Reader, in.Now, s, p.cards[plantAsker]); err != nil {
		return nil, err
	}
	body, err := envelope.Marshal(&result.Dealing)
	if err != nil {
		return nil, err
	}
	for id, sealed := range result.Sealed {
		if _, err := conn.InstallDealing(ctx, s, id, body, sealed); err != nil {
			return nil, err
		}
	}
	if err := p.enter(ctx, ledger.KindDealing, &result.Dealing); err != nil {
		return nil, err
	}
	key, _ := p.home.State().Key(plan.Key.ID)
	return &plantAuthority{plant: p, key: key}, nil
}

// enter has the system-wide authority sign a command of the ledger.
func (p *plant) enter(ctx context.Context, kind string, body any) error {
	s, now := p.home.State(), time.Now().Unix()
	entry, err := ledger.NewEntry(s, kind, body, now)
	if err != nil {
		return err
	}
	key, _ := s.LedgerKey()
	r := document.Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: threshold.RS256, Kind: document.KindEntry, Document: entry, Route: document.RouteTo(&key, document.ApprovalsSet),
		Requester: plantAsker, Created: now, Expires: now + lifetime,
	}
	if r.Nonce, err = envelope.NewID(rand.Reader); err != nil {
		return err
	}
	payload, err := envelope.Marshal(r)
	if err != nil {
		return err
	}
	raw, err := envelope.Sign(rand.Reader, p.cards[plantAsker], envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.System(), LedgerHead: s.Head(),
		Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
	}, payload)
	if err != nil {
		return err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return err
	}
	conn := p.conns[p.sites[0].ID]
	one := &asked{Signed: &client.Signed{Request: r, Digest: u.UnverifiedDigest(), Raw: raw, Server: p.sites[0].ID}}
	if err := conn.Send(ctx, rand.Reader, s, one.Signed); err != nil {
		return err
	}
	if err := p.approve(ctx, []*asked{one}, r.Route.Devices); err != nil {
		return err
	}
	if err := post(ctx, []*asked{one}); err != nil {
		return err
	}
	t, err := conn.Follow(ctx, one.Digest, nil)
	if err != nil {
		return err
	}
	if t.State != api.StateDone || len(t.Signatures) != 1 {
		return fmt.Errorf("entry %s: %s, %s", kind, t.State, t.Text)
	}
	signed, err := envelope.Marshal(ledger.SignedEntry{Entry: entry, Algorithm: string(threshold.RS256), Signature: t.Signatures[0]})
	if err != nil {
		return err
	}
	for _, c := range p.conns {
		if err := c.Commission(ctx, p.home.Bundle(), append(p.home.Entries(), signed)); err != nil {
			return err
		}
	}
	return p.home.Refresh(ctx, conn)
}

// asked is a request that was sent, with the approvals that officers gave and
// nobody has posted.
type asked struct {
	*client.Signed
	words []word
}

// word is an officer's approval at a device.
type word struct {
	from   string // officer and device
	to     *client.Conn
	sealed []byte
}

// post posts the approvals of requests: every officer those for a device, in
// the order of the requests, and all of them at the same time. The server
// refuses what comes when others have signed already: how a request ended is
// seen elsewhere.
func post(ctx context.Context, requests []*asked) error {
	streams := map[string][]word{}
	for _, r := range requests {
		for _, w := range r.words {
			streams[w.from] = append(streams[w.from], w)
		}
	}
	return each(slices.Collect(maps.Values(streams)), func(words []word) error {
		for _, w := range words {
			_, err := w.to.Say(ctx, w.sealed)
			var refused *client.RefusedError
			if err != nil && !errors.As(err, &refused) {
				return err
			}
		}
		return nil
	})
}

// approve has the officers of the devices, which have to be alive, approve all
// requests.
func (p *plant) approve(ctx context.Context, requests []*asked, devices []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("not all requests came to the inbox in time"))
	defer cancel()
	s := p.home.State()
	want := map[envelope.Hash]*asked{}
	for _, r := range requests {
		want[r.Digest] = r
	}
	for _, who := range plantOfficers {
		card := p.cards[who]
		officer, err := client.FindOfficer(s, card.Describe().Serial, time.Now().Unix())
		if err != nil {
			return err
		}
		for _, site := range p.sites {
			conn := p.conns[site.ID]
			missing := 0
			for _, id := range devices {
				if p.at[id] == site.ID {
					missing += len(requests)
				}
			}
			done := map[string]bool{}
			for since := uint64(0); len(done) < missing; {
				items, next, err := conn.InboxSince(ctx, officer, since, time.Second)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					return err
				}
				since = next
				for _, sealed := range items {
					now := time.Now().Unix()
					item, err := client.OpenItem(s, officer, card.Exchange, sealed, now)
					if err != nil {
						return err
					}
					name := item.Digest.String() + item.Device.ID
					r := want[item.Digest]
					if r == nil || done[name] || !slices.Contains(devices, item.Device.ID) {
						continue
					}
					raw, err := item.Approve(rand.Reader, s, client.Keys{Sign: card, Agree: card.Exchange}, now)
					if err != nil {
						return err
					}
					done[name] = true
					r.words = append(r.words, word{who + " " + item.Device.ID, conn, raw})
				}
			}
		}
	}
	return nil
}

// alive are the machines that are.
func (a *plantAuthority) alive() []string {
	return slices.DeleteFunc(slices.Clone(a.devices), func(id string) bool { return a.running[id] == nil })
}

// prepare makes and sends requests for certificates, and has all their
// approvals made.
func (a *plantAuthority) prepare(ctx context.Context, n int) ([]*asked, error) {
	s, site := a.home.State(), a.sites[0]
	conn := a.conns[site.ID]
	pr, err := profile.Find("server")
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "bench.example"}, DNSNames: []string{"bench.example"},
	}, key)
	if err != nil {
		return nil, err
	}
	var out []*asked
	for range n {
		r, err := client.NewRequest(rand.Reader, s, a.cards[plantAsker], client.Wish{
			Key: a.key.ID, Kind: document.KindCertificate, CSR: csr, Profile: pr, Days: 30, Lifetime: lifetime,
		}, site, time.Now().Unix())
		if err != nil {
			return nil, err
		}
		if err := conn.Send(ctx, rand.Reader, s, r); err != nil {
			return nil, err
		}
		out = append(out, &asked{Signed: r})
	}
	return out, a.approve(ctx, out, a.alive())
}

// issue posts the approvals of requests and waits for all certificates, which
// are verified.
func (a *plantAuthority) issue(ctx context.Context, requests []*asked) error {
	posted := make(chan error, 1)
	go func() { posted <- post(ctx, requests) }()
	err := each(requests, func(r *asked) error { return a.await(ctx, r) })
	return errors.Join(err, <-posted)
}

// await waits for one.
func (a *plantAuthority) await(ctx context.Context, r *asked) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no certificate in time"))
	defer cancel()
	t, err := a.conns[r.Server].Follow(ctx, r.Digest, nil)
	switch {
	case err != nil:
		return err
	case t.State != api.StateDone:
		return fmt.Errorf("request %s: %s, %s", r.Digest, t.State, t.Text)
	case len(t.Liars) > 0:
		return fmt.Errorf("request %s: %v are said to lie", r.Digest, t.Liars)
	}
	der, err := r.Result(t)
	if err != nil {
		return err
	}
	_, _, err = client.VerifyCertificate(a.home.State(), der, time.Now().Unix())
	return err
}

// run issues certificates one after the other, and n at once.
func (a *plantAuthority) run(ctx context.Context, n int, what string) (*tolerantRun, error) {
	// What an earlier load left to be done is not this one's.
	if err := a.quiet(ctx); err != nil {
		return nil, err
	}
	one := &tolerantRun{Bits: a.key.Public.Bits(), What: what, Certificates: n, Load: loadAverage()}
	requests, err := a.prepare(ctx, alone)
	if err != nil {
		return nil, err
	}
	var latency []time.Duration
	for _, r := range requests {
		t := time.Now()
		if err := a.issue(ctx, []*asked{r}); err != nil {
			return nil, err
		}
		latency = append(latency, time.Since(t))
	}
	one.P50, one.P99 = ms(quantile(latency, 0.5)), ms(quantile(latency, 0.99))

	if requests, err = a.prepare(ctx, n); err != nil {
		return nil, err
	}
	if err := a.quiet(ctx); err != nil {
		return nil, err
	}
	before, err := a.powers()
	if err != nil {
		return nil, err
	}
	made, err := a.partials(ctx)
	if err != nil {
		return nil, err
	}
	work, err := a.worked()
	if err != nil {
		return nil, err
	}
	t := time.Now()
	if err := a.issue(ctx, requests); err != nil {
		return nil, err
	}
	took := time.Since(t)
	// Some still work on what has its certificate: it counts on both sides.
	now, err := a.worked()
	if err != nil {
		return nil, err
	}
	work = now.since(work)
	after, err := a.partials(ctx)
	if err != nil {
		return nil, err
	}
	again, err := a.powers()
	if err != nil {
		return nil, err
	}
	halves, fulls := uint64(0), uint64(0)
	for id, count := range after {
		h, _ := a.home.State().HolderOf(a.key.ID, id)
		if count -= made[id]; h.Layer == ledger.LayerCalculator {
			halves += count * a.key.Layers.Grouping.L
		} else {
			fulls += count
		}
	}
	one.fill(took, float64(halves)/float64(n), float64(fulls)/float64(n), before.mean(again), work)
	return one, nil
}

// quiet waits until no process of the plant has anything to do.
func (a *plantAuthority) quiet(ctx context.Context) error {
	const rest = 300 * time.Millisecond
	return a.until(ctx, "the system comes to rest", func() error {
		b, err := a.worked()
		if err != nil {
			return err
		}
		time.Sleep(rest)
		w, err := a.worked()
		if err != nil {
			return err
		}
		if w = w.since(b); w.devices+w.servers > rest/10 {
			return fmt.Errorf("it worked for %v in %v", w.devices+w.servers, rest)
		}
		return nil
	})
}

// power is what a plain exponentiation takes while all cores do the same.
type powerTimes struct{ halfWall, halfCPU, fullWall, fullCPU time.Duration }

func (x powerTimes) mean(y powerTimes) powerTimes {
	return powerTimes{(x.halfWall + y.halfWall) / 2, (x.halfCPU + y.halfCPU) / 2, (x.fullWall + y.fullWall) / 2, (x.fullCPU + y.fullCPU) / 2}
}

// powers measures plain exponentiations of both lengths on all cores.
func (a *plantAuthority) powers() (x powerTimes, err error) {
	pub := &a.key.Public
	em := make([]byte, len(pub.N))
	_, _ = rand.Read(em[1:]) // never fails
	power := func(size int) func() error {
		raw := make([]byte, size)
		_, _ = rand.Read(raw[1:])
		d := threshold.NewSecret(raw)
		return func() error {
			e, err := twolayer.NewExponentiator(pub, d)
			if err != nil {
				return err
			}
			_, err = e.Exp(em)
			return err
		}
	}
	cores := runtime.NumCPU()
	if x.halfWall, x.halfCPU, err = onAllCores(cores, plain, power(twolayer.SubKeyLen(pub.Bits()))); err != nil {
		return x, err
	}
	x.fullWall, x.fullCPU, err = onAllCores(cores, plain, power(len(pub.N)))
	return x, err
}

// fill computes what a load came to.
func (o *tolerantRun) fill(took time.Duration, halves, fulls float64, p powerTimes, work worked) {
	n := float64(o.Certificates)
	o.Seconds, o.Rate, o.Halves, o.Fulls = took.Seconds(), n/took.Seconds(), halves, fulls
	o.Permitted = 1 / (halves*p.halfWall.Seconds() + fulls*p.fullWall.Seconds())
	o.Share = o.Rate / o.Permitted
	o.Plain = halves*ms(p.halfCPU) + fulls*ms(p.fullCPU)
	o.Devices, o.Servers, o.People = ms(work.devices)/n, ms(work.servers)/n, ms(work.here)/n
}

// damaged is what is killed before a load.
type damaged struct {
	what string
	kill []string
}

// damage chooses machines that can be done without, whose loss costs most: one
// more combiner, and k−t calculators.
func (a *plantAuthority) damage() ([]damaged, error) {
	g := &a.key.Layers.Grouping
	machine := func(layer, number uint64) string { h, _ := a.key.Machine(layer, number); return h.Device }
	var left []uint64
	for _, j := range g.Calculators[calculators-quorum:] {
		left = append(left, j)
	}
	for i := range g.Combiners {
		m := g.Combiners[i].Number
		if !served(g, m, left) {
			continue
		}
		kill := []string{}
		for _, j := range g.Calculators[:calculators-quorum] {
			kill = append(kill, machine(ledger.LayerCalculator, j))
		}
		return []damaged{
			{"all machines", nil},
			{"a combiner dead", []string{machine(ledger.LayerCombiner, m)}},
			{fmt.Sprintf("and %d calculators dead", calculators-quorum), kill},
		}, nil
	}
	return nil, errors.New("no combiner can be done without")
}

// served reports whether some calculators have a combiner besides one.
func served(g *grouping.Grouping, without uint64, have []uint64) bool {
	return slices.ContainsFunc(g.Combiners, func(c grouping.Group) bool { return c.Number != without && len(g.Match(c.Number, have)) > 0 })
}

// signConventionally measures what an authority with a whole key does with its
// processors: nothing but the signature.
func signConventionally(bits int) (*conventional, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("what is measured"))
	wall, _, err := onAllCores(runtime.NumCPU(), plain, func() error {
		_, err := rsa.SignPKCS1v15(nil, key, threshold.RS256.Hash(), digest[:])
		return err
	})
	return &conventional{Bits: bits, Rate: 1 / wall.Seconds()}, err
}

func loadAverage() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(load))[:3], " ")
}

func (r *report) addTolerant(o *tolerantRun) {
	r.Tolerant = append(r.Tolerant, *o)
	if o.What != r.Tolerant[0].What {
		return
	}
	r.addLeast(fmt.Sprintf("rate of an authority in two layers / what its exponentiations permit, %d bits", o.Bits), o.Share, minShare, "x")
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
one certificate after the other, from posting its approvals to its verification.
`, quorum, calculators, combiners)
	rows := [][]string{{"", "certificates", "a second", "powers", "permitted", "share", "alone: p50", "p99", "load"}}
	for _, o := range r.Tolerant {
		rows = append(rows, []string{
			fmt.Sprintf("%d bits, %s", o.Bits, o.What), fmt.Sprint(o.Certificates), fmt.Sprintf("%.1f", o.Rate), fmt.Sprintf("%.1f + %.1f", o.Halves, o.Fulls),
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
			fmt.Sprintf("%d bits, %s", o.Bits, o.What), fmt.Sprintf("%.1f", o.Plain), fmt.Sprintf("%.1f", o.Devices), fmt.Sprintf("%.1f", o.Servers),
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
