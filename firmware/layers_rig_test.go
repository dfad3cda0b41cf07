package firmware_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// world is five devices of a system, and all who speak to them.
type world struct {
	t *testing.T
	*ledgertest.System
	devices map[string]*firmwaretest.Device
	tasks   uint64
	said    map[string][][]byte // what devices answered, opened
	parts   *partMemory         // of all devices, which work one at a time
}

// partMemory is a device's memory for parts in use: there is room for one.
type partMemory struct {
	share.Memory
	t    *testing.T
	used int
}

func (m *partMemory) Alloc(n int) ([]byte, error) {
	if m.used++; m.used > 1 {
		m.t.Errorf("%d parts of shares are open at a time", m.used)
	}
	return m.Memory.Alloc(n)
}

func (m *partMemory) Free(b []byte) {
	m.used--
	m.Memory.Free(b)
}

func newWorld(t *testing.T, options ...ledgertest.Option) *world {
	t.Helper()
	return worldOf(t, ledgertest.New(t, append(options, firmwaretest.Unattended)...), firmwaretest.Commissioned)
}

// worldOf makes the devices of a system.
func worldOf(t *testing.T, s *ledgertest.System, commissioned func(testing.TB, *ledgertest.System, string, func() time.Time, ...firmwaretest.Option) *firmwaretest.Device) *world {
	t.Helper()
	w := &world{t: t, System: s, devices: map[string]*firmwaretest.Device{}, tasks: 1000, said: map[string][][]byte{}, parts: &partMemory{t: t}}
	for _, d := range s.Genesis.Devices {
		w.devices[d.ID] = commissioned(t, s, d.ID, func() time.Time { return time.Unix(w.Now, 0) }, func(c *firmware.Config) {
			w.parts.Memory = c.Memory
			c.Memory = w.parts
		})
	}
	t.Cleanup(func() {
		if w.parts.used != 0 {
			t.Errorf("%d parts of shares stayed open", w.parts.used)
		}
	})
	return w
}

// authority is one whose shares are in all devices and in force.
func (w *world) authority(code uint64) *ledgertest.Authority {
	w.t.Helper()
	a := w.Deal(w.t, ledgertest.SmallPlan(code))
	w.installAll(a)
	w.enter(a)
	return a
}

func (w *world) enter(a *ledgertest.Authority) {
	w.t.Helper()
	w.Enter(w.t, a)
	for id := range w.devices {
		w.check(w.catchup(id, a.Entry))
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) catchup(device string, entries ...ledger.SignedEntry) error {
	w.t.Helper()
	var in firmware.Catchup
	for _, e := range entries {
		raw, err := envelope.Marshal(e)
		w.check(err)
		in.Entries = append(in.Entries, raw)
	}
	_, _, err := ask[firmware.Status](w, device, firmware.TypeCatchup, in, firmware.TypeStatus)
	return err
}

// machine is a device's state in an enterprise, or "" if it has none.
func (w *world) machine(device string, code uint64) string {
	w.t.Helper()
	st, _, err := ask[firmware.Status](w, device, firmware.TypeStatusAsk, firmware.StatusAsk{}, firmware.TypeStatus)
	w.check(err)
	var out []string
	for _, m := range st.Machines {
		if m.Enterprise == code {
			out = append(out, fmt.Sprintf("%s %d", m.State, m.Version))
		}
	}
	return strings.Join(out, ", ")
}

func (w *world) invite(device string, code uint64) *firmware.VerifiedInvitation {
	w.t.Helper()
	in, _, err := ask[firmware.Invited](w, device, firmware.TypeInviteAsk, firmware.InviteAsk{Enterprise: code}, firmware.TypeInvited)
	w.check(err)
	v, err := firmware.VerifyInvitation(w.State, in.Invitation, w.Now)
	w.check(err)
	return v
}

// dealt is what the distributor seals to a device.
func (w *world) dealt(a *ledgertest.Authority, device string) *firmware.DealtShare {
	w.t.Helper()
	digest, err := a.Dealing.Digest()
	w.check(err)
	for _, h := range a.Dealing.Key.Holders {
		if h.Device != device {
			continue
		}
		s := &firmware.DealtShare{Dealing: digest, Device: device, Share: h.Share, Version: h.Version, Layer: h.Layer, Number: h.Index}
		parts := a.Calculators[h.Index].Keys
		if h.Layer == ledger.LayerCombiner {
			parts = a.Combiners[h.Index].Parts
		}
		for _, p := range parts {
			s.Parts = append(s.Parts, p.Clone())
		}
		return s
	}
	w.t.Fatalf("%s is no machine", device)
	return nil
}

// deal is the message by which a device gets a share.
func (w *world) deal(a *ledgertest.Authority, v *firmware.VerifiedInvitation, s *firmware.DealtShare) firmware.Deal {
	w.t.Helper()
	raw, err := envelope.Marshal(&a.Dealing)
	w.check(err)
	sealed, err := v.Seal(s)
	w.check(err)
	return firmware.Deal{Dealing: raw, Sealed: sealed}
}

func (w *world) install(device string, in firmware.Deal) error {
	w.t.Helper()
	_, _, err := ask[firmware.Dealt](w, device, firmware.TypeDeal, in, firmware.TypeDealt)
	return err
}

// installIn invites a device and installs its share.
func (w *world) installIn(a *ledgertest.Authority, device string) error {
	w.t.Helper()
	return w.install(device, w.deal(a, w.invite(device, a.Dealing.Enterprise.Code), w.dealt(a, device)))
}

// installAll installs every share that a dealing deals.
func (w *world) installAll(a *ledgertest.Authority) {
	w.t.Helper()
	for _, h := range a.Dealing.Key.Holders {
		if row, ok := w.State.HolderOf(a.Dealing.Key.ID, h.Device); !ok || row.Version != h.Version {
			w.check(w.installIn(a, h.Device))
		}
	}
}

// request is one as its requester signed it.
type request struct {
	document.Request
	raw     []byte
	digest  envelope.Hash
	checked *document.Checked
}

// request asks for a certificate.
func (w *world) request(a *ledgertest.Authority, name string, alg threshold.Algorithm) *request {
	w.t.Helper()
	return w.asking(a, alg, func(key *ledger.Key, r *document.Request) {
		d := w.draft(key, name, alg, nil)
		r.Kind, r.Document, r.CSR = document.KindCertificate, d.Document, d.CSR
	})
}

// batch asks for n certificates at once, as an edit may change them.
func (w *world) batch(a *ledgertest.Authority, n int, alg threshold.Algorithm, edit func(i int, t *document.TBS)) *request {
	w.t.Helper()
	return w.asking(a, alg, func(key *ledger.Key, r *document.Request) {
		r.Kind = document.KindCertificates
		for i := range n {
			r.Batch = append(r.Batch, w.draft(key, fmt.Sprintf("server %d", i+1), alg, func(t *document.TBS) {
				if edit != nil {
					edit(i, t)
				}
			}))
		}
	})
}

// asking makes and signs a request for an authority.
func (w *world) asking(a *ledgertest.Authority, alg threshold.Algorithm, fill func(*ledger.Key, *document.Request)) *request {
	w.t.Helper()
	key, ok := w.State.Key(a.Dealing.Key.ID)
	if !ok {
		key = a.Dealing.Key
	}
	r := &request{Request: document.Request{
		Key: key.ID, Epoch: 1, Algorithm: alg,
		Route: document.RouteTo(&key, document.ApprovalsSet), Requester: ledgertest.Requester, Created: w.Now, Expires: w.Now + 24*3600,
	}}
	fill(&key, &r.Request)
	w.sign(r)
	if ok {
		var err error
		r.checked, err = document.CheckIn(w.State, &r.Request, w.Now)
		w.check(err)
	}
	return r
}

// draft is a certificate for a new key and the request that it answers.
func (w *world) draft(key *ledger.Key, name string, alg threshold.Algorithm, edit func(*document.TBS)) document.Draft {
	w.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, ledgertest.NewSigner(w.t, name))
	w.check(err)
	c, err := document.ParseCSR(csr)
	w.check(err)
	root, err := x509.ParseCertificate(key.Certificate)
	w.check(err)
	serial, err := document.NewSerial(rand.Reader)
	w.check(err)
	algorithm, err := document.AlgorithmIdentifier(alg)
	w.check(err)
	id, err := document.KeyIdentifier(c.PublicKeyInfo())
	w.check(err)
	tbs := &document.TBS{
		Serial: serial, Algorithm: algorithm, Issuer: root.RawSubject, Subject: c.Subject(), SPKI: c.PublicKeyInfo(),
		NotBefore: w.Now - 60, NotAfter: w.Now + 30*86400,
		Extensions: []document.Extension{
			document.EndEntity(), document.KeyUsage(document.KeyUsageDigitalSignature), document.SubjectKeyID(id), document.AuthorityKeyID(root.SubjectKeyId),
		},
	}
	if edit != nil {
		edit(tbs)
	}
	der, err := tbs.Marshal()
	w.check(err)
	return document.Draft{Document: der, CSR: csr}
}

func (w *world) sign(r *request) {
	w.t.Helper()
	rand.Read(r.Nonce[:])
	body, err := envelope.Marshal(r.Request)
	w.check(err)
	r.raw, err = envelope.Sign(rand.Reader, w.Persons[r.Requester].Card().Sign, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: w.State.System(), LedgerHead: w.State.Head(),
		Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
	}, body)
	w.check(err)
	u, err := envelope.Parse(r.raw)
	w.check(err)
	r.digest = u.UnverifiedDigest()
}

type sealedPiece = ceremony.SealedPiece

// offer is a device's one-time key with its officers' sealed pieces.
type offer struct {
	*approval.VerifiedOffer
	raw    []byte
	pieces []ceremony.SealedPiece
}

func (w *world) offer(device string, r *request) (*offer, error) {
	w.t.Helper()
	o, _, err := ask[firmware.Offered](w, device, firmware.TypeOfferAsk, firmware.OfferAsk{Request: r.raw}, firmware.TypeOffered)
	if err != nil {
		return nil, err
	}
	v, err := approval.VerifyOffer(w.State, o.Offer, w.Now)
	w.check(err)
	w.check(v.For(r.digest))
	return &offer{v, o.Offer, o.Pieces}, nil
}

// approve has the enterprise's officers of a device approve.
func (w *world) approve(r *request, o *offer) [][]byte {
	w.t.Helper()
	of := o.Offer()
	var out [][]byte
	for _, row := range w.State.OfficersFor(r.Key, of.Device, w.Now) {
		out = append(out, w.approveBy(row.Person, r, o))
	}
	return out
}

func (w *world) approveBy(person string, r *request, o *offer) []byte {
	w.t.Helper()
	card, of := w.Persons[person].Card(), o.Offer()
	i := slices.IndexFunc(o.pieces, func(p ceremony.SealedPiece) bool { return p.Person == person })
	if i < 0 {
		w.t.Fatalf("no piece for %s among %d", person, len(o.pieces))
	}
	p := o.pieces[i]
	piece, err := share.OpenPieceFromCard(card.Agree, share.PieceContext{ID: p.ID, Purpose: p.Purpose, Device: p.Device, Share: p.Share, Card: p.Card}, p.Sealed)
	w.check(err)
	return w.approveWith(person, r, o, p.ID, piece, of)
}

func (w *world) approveWith(person string, r *request, o *offer, id string, piece share.Piece, of approval.Offer) []byte {
	w.t.Helper()
	card := w.Persons[person].Card()
	about := firmware.PieceContext(r.digest, o.Digest(), of.Device, of.Share, id, ledgertest.KeyID(w.t, card.Sign))
	sealed, err := share.SealPieceForOffer(o.Public(), about, piece)
	w.check(err)
	raw, err := approval.NewApproval(rand.Reader, card.Sign, w.State, approval.Approval{
		Request: r.digest, Key: of.Key, Epoch: of.Epoch, Device: of.Device, Share: of.Share, Decision: approval.Approve,
		Pieces:  []approval.SealedPiece{{Offer: o.Digest(), Device: of.Device, Piece: id, Sealed: sealed}},
		Created: w.Now, Expires: w.Now + 3600,
	}, [16]byte{})
	w.check(err)
	return raw
}

// distribution is a task packet of the first distributor, as a test may change
// it.
func (w *world) distribution(a *ledgertest.Authority, r *request, changes ...func(*firmware.Distribution, *envelope.Header)) []byte {
	w.t.Helper()
	w.tasks++
	return w.distributionBy("server-1", firmware.Distribution{
		Enterprise: a.Dealing.Enterprise.Code, Distributor: 1, Task: w.tasks, Request: r.digest, Hash: r.checked.Digest(),
		Documents: uint64(len(r.checked.Parts())), Created: w.Now, Expires: w.Now + 3600,
	}, r.Key, changes...)
}

func (w *world) distributionBy(server string, p firmware.Distribution, key string, changes ...func(*firmware.Distribution, *envelope.Header)) []byte {
	w.t.Helper()
	h := envelope.Header{
		Type: firmware.TypeDistribution, Version: firmware.MessageVersion, System: w.State.System(), LedgerHead: w.State.Head(),
		Key: key, Epoch: 1, Created: p.Created, Expires: p.Expires,
	}
	for _, c := range changes {
		c(&p, &h)
	}
	body, err := envelope.Marshal(p)
	w.check(err)
	raw, err := envelope.Sign(rand.Reader, w.Servers[server].Sign, h, body)
	w.check(err)
	return raw
}

// task is a request that a device was asked for, with its officers' word.
type task struct {
	r            *request
	distribution []byte
	offers       map[string]*offer
	approvals    map[string][][]byte
}

// begin has devices offer and their officers approve.
func (w *world) begin(a *ledgertest.Authority, name string, devices ...string) *task {
	w.t.Helper()
	return w.beginWith(a, w.request(a, name, threshold.RS256), devices...)
}

func (w *world) beginWith(a *ledgertest.Authority, r *request, devices ...string) *task {
	w.t.Helper()
	x := &task{r: r, distribution: w.distribution(a, r), offers: map[string]*offer{}, approvals: map[string][][]byte{}}
	for _, id := range devices {
		w.agree(x, id)
	}
	return x
}

func (w *world) agree(x *task, device string) {
	w.t.Helper()
	o, err := w.offer(device, x.r)
	w.check(err)
	x.offers[device], x.approvals[device] = o, w.approve(x.r, o)
}

func (x *task) powers(device string) firmware.PowersTask {
	in := firmware.PowersTask{Distribution: x.distribution, Request: x.r.raw, Approvals: x.approvals[device]}
	if o := x.offers[device]; o != nil {
		in.Offer = o.raw
	}
	return in
}

func (x *task) combine(device string, powers ...[]byte) firmware.CombineTask {
	p := x.powers(device)
	return firmware.CombineTask{Distribution: p.Distribution, Request: p.Request, Offer: p.Offer, Approvals: p.Approvals, Powers: powers}
}

func (w *world) powers(device string, in firmware.PowersTask) (*firmware.Powers, []byte, error) {
	w.t.Helper()
	return ask[firmware.Powers](w, device, firmware.TypePowersTask, in, firmware.TypePowers)
}

func (w *world) close(device string, r *request, signatures [][]byte) error {
	w.t.Helper()
	_, _, err := ask[firmware.Closed](w, device, firmware.TypeClose, firmware.Close{Request: r.raw, Signatures: signatures}, firmware.TypeClosed)
	return err
}

func (w *world) combine(device string, in firmware.CombineTask) (*firmware.Combined, []byte, error) {
	w.t.Helper()
	return ask[firmware.Combined](w, device, firmware.TypeCombineTask, in, firmware.TypeCombined)
}

// mustPowers has some calculators work.
func (w *world) mustPowers(x *task, devices ...string) (raws [][]byte) {
	w.t.Helper()
	for _, id := range devices {
		_, raw, err := w.powers(id, x.powers(id))
		w.check(err)
		raws = append(raws, raw)
	}
	return raws
}

// mustSign has two calculators and a combiner make the certificate.
func (w *world) mustSign(a *ledgertest.Authority, name string, calculators [2]string, combiner string) {
	w.t.Helper()
	x := w.begin(a, name, calculators[0], calculators[1], combiner)
	c, _, err := w.combine(combiner, x.combine(combiner, w.mustPowers(x, calculators[:]...)...))
	w.check(err)
	_, err = x.r.checked.Assemble(c.Signatures[0])
	w.check(err)
}

func keysOf(t testing.TB, agree []byte) []*ecdh.PublicKey {
	t.Helper()
	k, err := envelope.ParseAgreementKey(agree)
	if err != nil {
		t.Fatal(err)
	}
	return []*ecdh.PublicKey{k}
}

func documentRequest(k *ledger.Key, now int64) document.Request {
	return document.Request{
		Key: k.ID, Epoch: 1, Algorithm: threshold.RS256, Kind: document.KindFile, Document: []byte("x"), Name: "x.txt", Size: 1,
		Route: document.RouteTo(k, document.ApprovalsSet), Requester: ledgertest.Requester, Created: now, Expires: now + 24*3600,
	}
}
