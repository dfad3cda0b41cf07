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
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
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

	// alone is how many requests are carried out one after the other.
	alone = 10
)

// load is what an authority is given to do.
type load struct{ requests, batch int }

// certificates are those of all requests.
func (l load) certificates() int { return l.requests * l.batch }

func (l load) String() string {
	if l.batch == 1 {
		return "one a request"
	}
	return fmt.Sprintf("%d a request", l.batch)
}

// tolerantRun is one load on an authority in two layers.
type tolerantRun struct {
	Bits         int     `json:"bits"`
	What         string  `json:"what"`
	Batch        int     `json:"batch"` // certificates of a request
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
				for _, l := range a.loads(f) {
					f.tell("tolerant: %d bits, %s, %s", a.key.Public.Bits(), d.what, l)
					one, err := a.run(ctx, l, d.what)
					if err != nil {
						return fmt.Errorf("%d bits, %s, %s: %w\n%s", a.key.Public.Bits(), d.what, l, err, p.said())
					}
					r.addTolerant(one)
				}
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

// loads are certificates one by one, and in batches as large as they may be.
func (a *plantAuthority) loads(f *flags) []load {
	out := []load{{f.certificates, 1}}
	if batch := min(f.batch, document.MaxBatch(&a.key)); batch > 1 {
		out = append(out, load{f.batches, batch})
	}
	return out
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

// alive are the machines that are.
func (a *plantAuthority) alive() []string {
	return slices.DeleteFunc(slices.Clone(a.devices), func(id string) bool { return a.running[id] == nil })
}

// prepare makes and sends requests for certificates, and has all their
// approvals made.
func (a *plantAuthority) prepare(ctx context.Context, l load) ([]*asked, error) {
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
	wish := client.Wish{Key: a.key.ID, Kind: document.KindCertificate, CSR: csr, Profile: pr, Days: 30, Lifetime: lifetime}
	if l.batch > 1 {
		wish.Kind, wish.CSR, wish.CSRs = document.KindCertificates, nil, slices.Repeat([][]byte{csr}, l.batch)
	}
	var out []*asked
	for range l.requests {
		r, err := client.NewRequest(rand.Reader, s, a.cards[plantAsker], wish, site, time.Now().Unix())
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
	ders, err := r.Results(t)
	if err != nil {
		return err
	}
	for _, der := range ders {
		if _, _, err := client.VerifyCertificate(a.home.State(), der, time.Now().Unix()); err != nil {
			return err
		}
	}
	return nil
}

// run carries out requests one after the other, and then a load at once.
func (a *plantAuthority) run(ctx context.Context, l load, what string) (*tolerantRun, error) {
	// What an earlier load left to be done is not this one's.
	if err := a.quiet(ctx); err != nil {
		return nil, err
	}
	one := &tolerantRun{Bits: a.key.Public.Bits(), What: what, Batch: l.batch, Certificates: l.certificates(), Load: loadAverage()}
	requests, err := a.prepare(ctx, load{max(1, alone/l.batch), l.batch})
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

	if requests, err = a.prepare(ctx, l); err != nil {
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
	n := float64(l.certificates())
	one.fill(took, float64(halves)/n, float64(fulls)/n, before.mean(again), work)
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
	left := g.Calculators[calculators-quorum:]
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
