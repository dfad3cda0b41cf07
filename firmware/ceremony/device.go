package ceremony

import (
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Local is what a device knows of itself before any ceremony.
type Local struct {
	ID        string // permanent id
	Serial    string
	Model     string
	Sign      crypto.Signer // in the token, P-256
	Agree     *ecdh.PublicKey
	Boot      []byte   // SPKI of the boot key
	SignCert  [][]byte // DER, leaf first; empty where only vault ceremonies are possible
	AgreeCert [][]byte
	Firmware  envelope.Hash
	Instance  [16]byte
	InToken   bool // the token passed its self-test of partial exponentiation
}

// Token is what the ceremony asks of the token besides what shares need.
type Token interface {
	Shares(inToken bool) share.Token
	PutObject(name string, version uint64, data []byte) error
	DeleteObject(name string) error // ErrNoObject if there is none
}

// ErrNoObject is what a token answers for a data object that it does not hold.
var ErrNoObject = errors.New("no such object in the token")

// putAnew stores an object in place of what an earlier attempt, which came to
// nothing, may have left under its name.
func putAnew(t Token, name string, data []byte) error {
	if err := t.DeleteObject(name); err != nil && !errors.Is(err, ErrNoObject) {
		return err
	}
	return t.PutObject(name, 1, data)
}

// Inputs are what one step is given besides its message.
type Inputs struct {
	Now    int64 // unix seconds
	Rand   io.Reader
	Token  Token
	Memory share.Memory
}

// Answer is the outcome of a step: what leaves the device, and what has to be
// durable before it does.
type Answer struct {
	Type    string
	Payload any

	// Prepared is set by Prepare: from here on the device survives a restart.
	Prepared *Pending
	// Bundle is set by Commit: the verified genesis that is now in force.
	Bundle  *ledger.Bundle
	Genesis *ledger.VerifiedGenesis
	// Forget is set by Abort: whatever the attempt left behind has to go.
	Forget bool
}

// Pending is what a prepared device keeps until the genesis is committed.
type Pending struct {
	Genesis []byte        `cbor:"1,keyasint"` // exactly what this device signed
	Open    []byte        `cbor:"2,keyasint"` // raw, so that the same administrator may resume
	PIN     envelope.Hash `cbor:"3,keyasint"` // check value of the split PIN; zero if unattended
	Shares  []string      `cbor:"4,keyasint"` // share ids stored in the token
	Pieces  []SealedPiece `cbor:"5,keyasint"` // for its officers
}

// Session is a device's part in one attempt. It lives in memory only: a
// device that restarts before Prepare has forgotten the attempt, and the
// ceremony begins anew. It is not safe for concurrent use.
type Session struct {
	local  Local
	open   *VerifiedOpen
	roster *VerifiedRoster

	// oneTime opens the shares (and, at the lead, the seeds) of this attempt.
	// It is erased when the device prepares, aborts or restarts.
	oneTime *ecdh.PrivateKey

	seeds  map[string]threshold.Secret // the lead's, until the last key is dealt
	dealt  map[string]ledger.Key       // by key id, as the lead signed them
	held   map[string]*heldShare       // by key id, until Prepare
	stage  stage
	pieces []SealedPiece // of every share and of the PIN, for the officers
	signed []byte        // the genesis that this device signed
}

// stage says how far a session has come.
type stage int

// The stages of a session.
const (
	introduced stage = iota + 1 // sent its identity
	onRoster                    // accepted the roster, gave its seed
	ready                       // signed the genesis
	done                        // in a committed system
)

// heldShare is a share between its installation and Prepare, when every
// subset signs once. It is already stored under the officers' key.
type heldShare struct {
	holder ledger.Holder
	share  threshold.Share
	tested map[string]bool
}

func (h *heldShare) wipe() { h.share.Wipe() }

// Begin answers Hello: it verifies the opening and introduces the device.
// The caller decides whether the device is free for a new attempt.
func Begin(in Inputs, local Local, hello *envelope.Verified) (*Session, *Answer, error) {
	var h Hello
	if err := envelope.Decode(hello, TypeHello, MessageVersion, &h); err != nil {
		return nil, nil, err
	}
	o, err := VerifyOpen(h.Open, in.Now)
	if err != nil {
		return nil, nil, err
	}
	if id, err := envelope.KeyIDOf(o.desk); err != nil || id != hello.Signer() {
		return nil, nil, errors.New("ceremony: hello is not signed by the desk that the administrator named")
	}
	if o.Plan().device(local.ID) == nil {
		return nil, nil, fmt.Errorf("ceremony: device %s is not in the plan", local.ID)
	}
	oneTime, err := ecdh.P256().GenerateKey(in.Rand)
	if err != nil {
		return nil, nil, err
	}
	s := &Session{
		local: local, open: o, oneTime: oneTime, stage: introduced,
		dealt: map[string]ledger.Key{}, held: map[string]*heldShare{},
	}
	a, err := s.identity()
	return s, a, err
}

// Again answers a repeated Hello of the same opening with the same identity:
// the desk may have lost the first answer.
func (s *Session) Again(in Inputs, hello *envelope.Verified) (*Answer, error) {
	var h Hello
	if err := envelope.Decode(hello, TypeHello, MessageVersion, &h); err != nil {
		return nil, err
	}
	switch {
	case string(h.Open) != string(s.open.raw):
		return nil, ErrAttempt
	case s.stage < ready: // Leave is about a genesis, and this attempt has none
	case h.Leave:
		return nil, ErrAttempt
	default:
		return s.prepared(in)
	}
	return s.identity()
}

// Open is the opening in force.
func (s *Session) Open() *VerifiedOpen { return s.open }

// Adopt lets the new desk of the same administrator speak to a device that is
// prepared, for commit and abort. The caller has asked MayLeaveFor.
func (s *Session) Adopt(in Inputs, o *VerifiedOpen) (*Answer, error) {
	s.open = o
	return s.prepared(in)
}

// prepared says that the device signed a genesis. The desk may meet it for the
// first time, so its identity goes along, with a one-time key that opens
// nothing: no share comes any more.
func (s *Session) prepared(in Inputs) (*Answer, error) {
	unused, err := ecdh.P256().GenerateKey(in.Rand)
	if err != nil {
		return nil, err
	}
	id, err := s.identityOf(unused.PublicKey())
	if err != nil {
		return nil, err
	}
	body, err := envelope.Marshal(id)
	if err != nil {
		return nil, err
	}
	raw, err := envelope.Sign(in.Rand, s.local.Sign, envelope.Header{
		Type: TypeIdentity, Version: MessageVersion, Created: in.Now, Expires: max(s.open.open.NotAfter, in.Now+1),
	}, body)
	if err != nil {
		return nil, err
	}
	return &Answer{Type: TypeCommitted, Payload: Committed{Phase: "prepared", Identity: raw}}, nil
}

// MayLeaveFor says whether the device may drop this attempt for a new one: at
// the word of the same administrator's card, with a higher number. A device
// that signed a genesis drops it only so: its desk has asked every device
// before whether the genesis was committed anywhere.
func (s *Session) MayLeaveFor(o *VerifiedOpen) error {
	switch {
	case !s.open.admin.Equal(o.admin):
		return fmt.Errorf("%w, by another administrator; only 'privyseal-device reset' ends it", ErrAttempt)
	case o.Attempt() < s.open.Attempt() || o.Attempt() == s.open.Attempt() && o.digest != s.open.digest:
		return fmt.Errorf("%w: number %d; begin number %d", ErrAttempt, s.open.Attempt(), s.open.Attempt()+1)
	}
	return nil
}

// MayForget says whether a device that signed a genesis may forget it for an
// opening: only for one of a later attempt than that in which it signed. The
// word to leave, by which the attempt itself began, comes again whenever a
// message server repeats it.
func MayForget(p *Pending, o *VerifiedOpen) error {
	signed, err := reopen(p.Open)
	if err != nil {
		return err
	}
	if o.Attempt() <= signed.Attempt() {
		return fmt.Errorf("%w: number %d, in which the genesis was signed; begin number %d to leave it", ErrAttempt, signed.Attempt(), signed.Attempt()+1)
	}
	return nil
}

func (s *Session) identity() (*Answer, error) {
	id, err := s.identityOf(s.oneTime.PublicKey())
	if err != nil {
		return nil, err
	}
	return &Answer{Type: TypeIdentity, Payload: *id}, nil
}

func (s *Session) identityOf(oneTime *ecdh.PublicKey) (*Identity, error) {
	sign, err := x509.MarshalPKIXPublicKey(s.local.Sign.Public())
	if err != nil {
		return nil, err
	}
	agree, err := x509.MarshalPKIXPublicKey(s.local.Agree)
	if err != nil {
		return nil, err
	}
	return &Identity{
		Device: s.local.ID, Serial: s.local.Serial, Model: s.local.Model,
		Sign: sign, Agree: agree, Boot: s.local.Boot,
		SignCert: s.local.SignCert, AgreeCert: s.local.AgreeCert,
		Firmware: s.local.Firmware, Instance: s.local.Instance,
		OneTime: oneTime.Bytes(), InToken: s.local.InToken,
		Open: s.open.digest,
	}, nil
}

// Handle takes any message of the desk after Hello. v is verified under the
// desk's key. Errors leave the session as it was: the desk may send a
// conforming message instead (source A: "the protocol will fail to continue
// unless a conforming message is supplied").
func (s *Session) Handle(in Inputs, v *envelope.Verified) (*Answer, error) {
	typ := v.Header().Type
	if typ != TypeCommit && typ != TypeAbort { // what began in time may end late
		if err := s.open.Live(in.Now); err != nil {
			return nil, err
		}
	}
	switch typ {
	case TypeJoin:
		return step(v, typ, in, s.join)
	case TypeDeal:
		return step(v, typ, in, s.deal)
	case TypeInstall:
		return step(v, typ, in, s.install)
	case TypeTest:
		return step(v, typ, in, s.test)
	case TypePrepare:
		return step(v, typ, in, s.prepare)
	case TypeCommit:
		return step(v, typ, in, s.commit)
	case TypeAbort:
		return step(v, typ, in, s.abort)
	default:
		return nil, fmt.Errorf("ceremony: a device takes no message of type %q", typ)
	}
}

// step decodes the payload for the handler of its type.
func step[M any](v *envelope.Verified, typ string, in Inputs, do func(Inputs, M) (*Answer, error)) (*Answer, error) {
	var m M
	if err := envelope.Decode(v, typ, MessageVersion, &m); err != nil {
		return nil, err
	}
	return do(in, m)
}

// join is stage 2: the device checks everybody's keys and the firmware, and
// gives its seed to the lead.
func (s *Session) join(in Inputs, m Join) (*Answer, error) {
	if s.stage > onRoster {
		return nil, ErrOutOfOrder
	}
	r, err := VerifyRoster(s.open, m.Roster, in.Now)
	if err != nil {
		return nil, err
	}
	if s.roster != nil && s.roster.digest != r.digest {
		return nil, fmt.Errorf("%w: another roster is in force", ErrOutOfOrder)
	}
	own := r.Identity(s.local.ID)
	if string(own.OneTime) != string(s.oneTime.PublicKey().Bytes()) || own.Instance != s.local.Instance {
		return nil, &RosterError{Who: "device " + s.local.ID, Err: errors.New("has restarted since it introduced itself; begin a new attempt")}
	}
	// In a vault ceremony no manufacturer vouches for keys: then only the device
	// itself can tell that others' stand in its place.
	sign, err := x509.MarshalPKIXPublicKey(s.local.Sign.Public())
	if err != nil {
		return nil, err
	}
	agree, err := x509.MarshalPKIXPublicKey(s.local.Agree)
	if err != nil {
		return nil, err
	}
	if string(own.Sign) != string(sign) || string(own.Agree) != string(agree) || string(own.Boot) != string(s.local.Boot) {
		return nil, &RosterError{Who: "device " + s.local.ID, Err: errors.New("is listed with keys that are not its own; do not go on with this desk")}
	}
	if err := r.CompareFirmware(s.local.ID, s.local.Firmware); err != nil {
		return nil, err
	}
	value := make([]byte, SeedSize)
	if _, err := io.ReadFull(in.Rand, value); err != nil {
		return nil, err
	}
	defer clear(value)
	sealed, err := s.sealTo(in, r.oneTimeKey(r.Plan().Lead), TypeSeed,
		Seed{Roster: r.digest, Device: s.local.ID, Value: threshold.NewSecret(value)})
	if err != nil {
		return nil, err
	}
	s.roster, s.stage = r, onRoster
	return &Answer{Type: TypeJoined, Payload: Joined{Roster: r.digest, Seed: sealed}}, nil
}

// sealTo signs a message to another device and seals it to that device's
// one-time key: nothing that opens a share is ever sealed to a long-lived key.
func (s *Session) sealTo(in Inputs, to *ecdh.PublicKey, typ string, payload any) ([]byte, error) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	toID, err := envelope.KeyIDOf(to)
	if err != nil {
		return nil, err
	}
	raw, err := envelope.Sign(in.Rand, s.local.Sign, envelope.Header{
		Type: typ, Version: MessageVersion, To: []envelope.KeyID{toID},
		Created: in.Now, Expires: s.open.open.NotAfter,
	}, body)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return envelope.Seal(in.Rand, raw, []*ecdh.PublicKey{to})
}

// openFrom opens a message that another device sealed to this session's
// one-time key, and verifies that device's signature.
func (s *Session) openFrom(device, typ string, sealed []byte, into any) error {
	raw, err := envelope.Open(sealed, s.oneTime)
	if err != nil {
		return err
	}
	defer clear(raw)
	return s.verifyFrom(device, typ, raw, into)
}

// verifyFrom verifies a message by a device of the roster.
func (s *Session) verifyFrom(device, typ string, raw []byte, into any) error {
	_, err := s.roster.verifyFrom(device, typ, raw, into)
	return err
}

func (r *VerifiedRoster) verifyFrom(device, typ string, raw []byte, into any) (*envelope.Verified, error) {
	id := r.Identity(device)
	if id == nil {
		return nil, fmt.Errorf("ceremony: device %q is not on the roster", device)
	}
	pub, err := envelope.ParseSigningKey(id.Sign)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(pub)
	if err != nil {
		return nil, fmt.Errorf("ceremony: message of device %s: %w", device, err)
	}
	return v, envelope.Decode(v, typ, MessageVersion, into)
}

// abort forgets the attempt. A device that has signed a genesis forgets it
// only at the word of the same administrator's desk: the desk first asks
// every device whether the genesis was committed anywhere.
func (s *Session) abort(Inputs, Abort) (*Answer, error) {
	if s.stage == done {
		return nil, ErrOutOfOrder
	}
	s.Wipe()
	return &Answer{Type: TypeCommitted, Payload: Committed{Phase: "fresh"}, Forget: true}, nil
}

// Wipe erases every secret of the session.
func (s *Session) Wipe() {
	for _, h := range s.held {
		h.wipe()
	}
	for _, v := range s.seeds {
		v.Wipe()
	}
	s.held, s.seeds, s.oneTime, s.stage = nil, nil, nil, 0
}
