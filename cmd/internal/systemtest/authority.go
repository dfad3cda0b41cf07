package systemtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

// Authority is an enterprise's, dealt by the off-line distributor.
type Authority struct {
	Plan    *dealing.Plan
	Reserve []byte
}

// AuthorityPlan is an authority of k calculators, of which t sign with one of m
// combiners: the devices d1, d2, … in this order. Its officers serve all of
// them, and keep the reserve.
func AuthorityPlan(code uint64, k, t, m int, officers []string, distributors ...string) *dealing.Plan {
	p := &dealing.Plan{
		Enterprise: ledger.Enterprise{Code: code, Name: fmt.Sprintf("Enterprise %d", code)},
		Key:        dealing.PlanKey{ID: fmt.Sprintf("ca-%d", code), Name: fmt.Sprintf("Root %d", code), Bits: 2048, Algorithms: []string{"RS256"}, MaxDays: 400, RootDays: 3650},
		Need:       uint64(t), Quorum: 2, Pieces: 2, OfficerDays: 365, Operator: Requester,
		Reserve: &dealing.Keepers{Need: 2},
	}
	for i := range k {
		p.Calculators = append(p.Calculators, dealing.Machine{Number: uint64(i + 1), Device: fmt.Sprintf("d%d", i+1)})
	}
	for i := range m {
		p.Combiners = append(p.Combiners, dealing.Machine{Number: uint64(i + 1), Device: fmt.Sprintf("d%d", k+i+1)})
	}
	for _, who := range officers {
		p.Reserve.Persons = append(p.Reserve.Persons, dealing.Keeper{Person: who})
	}
	for i, id := range distributors {
		p.Distributors = append(p.Distributors, ledger.Distributor{Number: uint64(i + 1), Server: id})
	}
	staff(p, officers)
	return p
}

// staff registers officers at all machines of a plan.
func staff(p *dealing.Plan, officers []string) {
	p.Officers = nil
	for _, device := range p.Devices() {
		for _, who := range officers {
			p.Officers = append(p.Officers, dealing.Officer{Person: who, Device: device})
		}
	}
}

// Deal is all of a dealing: invitations over one site, the off-line
// distributor, shares installed over another, and the entry.
func (o *Online) Deal(p *dealing.Plan) *Authority {
	o.t.Helper()
	a := &Authority{Plan: p}
	o.deal(a, func(in dealing.Inputs, s ledger.State, d *dealing.Prepared) (*dealing.Result, error) {
		return d.Deal(in, nil)
	})
	return a
}

// Extend changes an authority to what its plan says now.
func (o *Online) Extend(a *Authority) {
	o.t.Helper()
	o.deal(a, func(in dealing.Inputs, s ledger.State, d *dealing.Prepared) (*dealing.Result, error) {
		if !d.NeedsReserve() {
			return d.Extend(in, nil, nil, nil)
		}
		r, err := dealing.ParseReserve(a.Reserve)
		if err != nil {
			return nil, err
		}
		var pieces []share.Piece
		for i, x := range r.Pieces {
			piece, err := r.OpenPiece(i, o.People[x.Person][0].Exchange)
			if err != nil {
				return nil, err
			}
			pieces = append(pieces, piece)
		}
		return d.Extend(in, a.Reserve, pieces, nil)
	})
}

func (o *Online) deal(a *Authority, deal func(dealing.Inputs, ledger.State, *dealing.Prepared) (*dealing.Result, error)) {
	o.t.Helper()
	s, ctx := o.Tables(), o.t.Context()
	in := dealing.Inputs{Now: time.Now().Unix(), Rand: rand.Reader, Isolated: true}
	draft, err := dealing.Draft(in, s, a.Plan, nil)
	o.check(err)
	// Any server reaches any device.
	out, back := o.Conn("s1"), o.Conn(fmt.Sprintf("s%d", len(o.sites)))
	var invitations [][]byte
	for _, device := range a.Plan.Devices() {
		if draft.Fresh(device) {
			raw, err := out.Invite(ctx, s, device, a.Plan.Enterprise.Code)
			o.check(err)
			invitations = append(invitations, raw)
		}
	}
	prepared, err := dealing.Prepare(in, s, a.Plan, invitations, nil)
	o.check(err)
	r, err := deal(in, s, prepared)
	o.check(err)
	o.check(r.Confirm(rand.Reader, in.Now, s, o.People[a.Plan.Operator][0]))
	body, err := envelope.Marshal(&r.Dealing)
	o.check(err)
	for device, sealed := range r.Sealed {
		_, err := back.InstallDealing(ctx, s, device, body, sealed)
		o.check(err)
	}
	if r.Reserve != nil {
		a.Reserve = slices.Clone(r.Reserve)
	}
	r.Wipe()
	o.Put(ledger.KindDealing, &r.Dealing)
}

// NewCSR is a certificate request in DER.
func (o *Online) NewCSR(host string) []byte {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.check(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, key)
	o.check(err)
	return der
}

// Ask sends a request for a certificate by an authority to a server.
func (o *Online) Ask(key, host, site string) (*client.Signed, error) {
	o.t.Helper()
	p, err := profile.Find("server")
	o.check(err)
	s := o.Tables()
	row, _ := s.Server(site)
	r, err := client.NewRequest(rand.Reader, s, o.Robot, client.Wish{
		Key: key, Kind: document.KindCertificate, CSR: o.NewCSR(host), Profile: p, Days: 30, Lifetime: 3600,
	}, row, time.Now().Unix())
	o.check(err)
	return r, o.Conn(site).Send(o.t.Context(), rand.Reader, s, r)
}

// AskAll sends a request for a batch of certificates to a server.
func (o *Online) AskAll(key string, hosts []string, site string) (*client.Signed, error) {
	o.t.Helper()
	p, err := profile.Find("server")
	o.check(err)
	w := client.Wish{Key: key, Kind: document.KindCertificates, Profile: p, Days: 30, Lifetime: 3600}
	for _, host := range hosts {
		w.CSRs = append(w.CSRs, o.NewCSR(host))
	}
	s := o.Tables()
	row, _ := s.Server(site)
	r, err := client.NewRequest(rand.Reader, s, o.Robot, w, row, time.Now().Unix())
	o.check(err)
	return r, o.Conn(site).Send(o.t.Context(), rand.Reader, s, r)
}

// Await waits for a request's certificate, in DER, verified.
func (o *Online) Await(r *client.Signed) ([]byte, *api.Tracking, error) {
	o.t.Helper()
	all, t, err := o.AwaitAll(r)
	if err != nil {
		return nil, t, err
	}
	return all[0], t, nil
}

// AwaitAll is Await for a batch.
func (o *Online) AwaitAll(r *client.Signed) ([][]byte, *api.Tracking, error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	t, err := o.Conn(r.Server).Follow(ctx, r.Digest, nil)
	if err != nil {
		return nil, t, err
	}
	all, err := r.Results(t)
	for i := 0; err == nil && i < len(all); i++ {
		_, _, err = client.VerifyCertificate(o.Tables(), all[i], time.Now().Unix())
	}
	return all, t, err
}

// Issue is Ask and Await for what should succeed.
func (o *Online) Issue(key, host, site string) ([]byte, *api.Tracking) {
	o.t.Helper()
	r, err := o.Ask(key, host, site)
	o.check(err)
	der, t, err := o.Await(r)
	if err != nil {
		o.t.Fatalf("%s: %v\n%+v", host, err, t)
	}
	return der, t
}
