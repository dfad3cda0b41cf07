package firmware

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// What the messages of an authority in two layers have to be for anybody to
// believe them: devices, servers and the distributor ask here.

// VerifiedInvitation is a one-time key that a device's token signed. Only
// VerifyInvitation makes one.
type VerifiedInvitation struct {
	invitation Invitation
	public     *ecdh.PublicKey
	digest     envelope.Hash
}

// Invitation is the payload.
func (v *VerifiedInvitation) Invitation() Invitation { return v.invitation }

// Device is the id of the device that made it.
func (v *VerifiedInvitation) Device() string { return v.invitation.Device }

// Digest is the digest of the message.
func (v *VerifiedInvitation) Digest() envelope.Hash { return v.digest }

// VerifyInvitation checks an invitation, raw COSE_Sign1, at now (unix seconds).
// s has to be as new as the device's ledger was: carry a copy of it along with
// the invitations.
func VerifyInvitation(s ledger.State, raw []byte, now int64) (*VerifiedInvitation, error) {
	var in Invitation
	v, d, err := fromDevice(s, "invitation", TypeInvitation, raw, &in)
	if err != nil {
		return nil, err
	}
	from := "invitation by device " + d.ID
	if err := checkTimes(from, v.Header(), in.Created, in.Expires, InvitationLife); err != nil {
		return nil, err
	}
	if err := v.CheckFresh(now, requestSkew); err != nil {
		return nil, fmt.Errorf("%s: %w: ask the device for another", from, err)
	}
	if _, ok := s.Knows(v.Header().LedgerHead); !ok {
		return nil, fmt.Errorf("%s: made under ledger head %s, which is not in this copy of the ledger: bring a newer one", from, v.Header().LedgerHead)
	}
	switch {
	case in.Device != d.ID:
		err = fmt.Errorf("names device %.64q", in.Device)
	case in.Enterprise < 1 || in.Enterprise > ledger.MaxEnterpriseCode:
		err = fmt.Errorf("is for enterprise %d", in.Enterprise)
	case in.Instance == [16]byte{}:
		err = errors.New("instance id is zero")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	pub, err := ecdh.P256().NewPublicKey(in.Public)
	if err != nil {
		return nil, fmt.Errorf("%s: one-time key is not a point on P-256", from)
	}
	return &VerifiedInvitation{invitation: in, public: pub, digest: v.Digest()}, nil
}

// Seal seals a share to the device that made the invitation, for its one use
// with one dealing.
func (v *VerifiedInvitation) Seal(d *DealtShare) ([]byte, error) {
	if d.Device != v.invitation.Device || d.Dealing.IsZero() {
		return nil, fmt.Errorf("share %.130q of device %.64q is not for the invitation of device %s", d.Share, d.Device, v.invitation.Device)
	}
	plain, err := envelope.Marshal(d)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return envelope.SealTo(v.public, dealtInfo(v.digest, d.Dealing), nil, plain)
}

// dealtInfo binds a sealed share to the invitation and to the dealing.
func dealtInfo(invitation, dealing envelope.Hash) []byte {
	h := envelope.HashOf("privyseal dealt share v1", invitation[:], dealing[:])
	return h[:]
}

// VerifyDistribution checks a task packet, raw COSE_Sign1, at now: that a task
// distributor of its enterprise made it, for the enterprise's key. Whether its
// number is a fresh one is for each machine to say.
func VerifyDistribution(s ledger.State, raw []byte, now int64) (*Distribution, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("task packet: %w", err)
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerServer || id.Use != ledger.UseSign {
		return nil, fmt.Errorf("task packet: signed by key %s, which is no message server's", u.Header().Signer)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, fmt.Errorf("task packet of server %s: %w", id.Owner, err)
	}
	var p Distribution
	if err := envelope.Decode(v, TypeDistribution, MessageVersion, &p); err != nil {
		return nil, fmt.Errorf("task packet of server %s: %w", id.Owner, err)
	}
	from := fmt.Sprintf("task %d of enterprise %d by server %s", p.Task, p.Enterprise, id.Owner)
	h := v.Header()
	if err := checkTimes(from, h, p.Created, p.Expires, TaskPeriod); err != nil {
		return nil, err
	}
	e, ok := s.Enterprise(p.Enterprise)
	if !ok {
		return nil, fmt.Errorf("%s: the ledger knows no such enterprise", from)
	}
	server, ok := e.ServerOf(p.Distributor)
	switch {
	case !ok:
		err = fmt.Errorf("enterprise %d has no distributor %d", p.Enterprise, p.Distributor)
	case server != id.Owner:
		err = fmt.Errorf("distributor %d is server %s", p.Distributor, server)
	case h.System != s.System():
		err = fmt.Errorf("is of another system (%s)", h.System)
	case h.Key != e.Key.ID || h.Epoch != e.Key.Epoch:
		err = fmt.Errorf("is for key %.64q, epoch %d; the enterprise's is %s, epoch %d", h.Key, h.Epoch, e.Key.ID, e.Key.Epoch)
	case p.Task == 0 || p.Request.IsZero() || len(p.Hash) == 0 || len(p.Hash) > maxHash:
		err = errors.New("names no task, no request or no hash")
	case p.Documents == 0 || p.Documents > uint64(max(1, document.MaxBatch(&e.Key))):
		err = fmt.Errorf("is about %d documents, at most %d", p.Documents, max(1, document.MaxBatch(&e.Key)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	if err := v.CheckFresh(now, requestSkew); err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &p, nil
}

// VerifyPowers verifies a message of powers as one that a calculator of k made
// for the task d. It does not look at the powers themselves, but for their
// number and length.
func VerifyPowers(s ledger.State, k *ledger.Key, d *Distribution, raw []byte) (*Powers, error) {
	var p Powers
	// A power, and a proof of less than two.
	if err := checkLength(k, raw, d.documents()*maxSubKeys(k)*3*len(k.Public.N)); err != nil {
		return nil, fmt.Errorf("powers: %w", err)
	}
	from, h, err := fromMachine(s, k, ledger.LayerCalculator, TypePowers, raw, &p)
	if err != nil {
		return nil, err
	}
	switch {
	case p.Enterprise != d.Enterprise || p.Distributor != d.Distributor || p.Task != d.Task:
		err = fmt.Errorf("is for task %d of distributor %d of enterprise %d", p.Task, p.Distributor, p.Enterprise)
	case p.Request != d.Request:
		err = errors.New("is for another request")
	case !bytes.Equal(p.Hash, d.Hash):
		err = errors.New("is for another hash")
	case p.Key != k.ID || p.Device != h.Device || p.Share != h.Share || p.Number != h.Index:
		err = errors.New("names another key, device or share")
	case uint64(len(p.Y)) != d.Documents*k.Layers.Grouping.L:
		err = fmt.Errorf("has %d powers of %d documents, calculators have %d sub-keys", len(p.Y), d.Documents, k.Layers.Grouping.L)
	case len(p.Proofs) != 0 && len(p.Proofs) != len(p.Y):
		err = fmt.Errorf("has %d proofs of %d powers", len(p.Proofs), len(p.Y))
	}
	for _, y := range p.Y {
		if err == nil && len(y) != len(k.Public.N) {
			err = fmt.Errorf("has a power of %d bytes", len(y))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &p, nil
}

// VerifyCombined verifies a message as one that a combiner of k made for the
// task d. It does not verify the signature in it.
func VerifyCombined(s ledger.State, k *ledger.Key, d *Distribution, raw []byte) (*Combined, error) {
	var c Combined
	if err := checkLength(k, raw, d.documents()*(len(k.Public.N)+maxCombination)); err != nil {
		return nil, fmt.Errorf("combined: %w", err)
	}
	from, h, err := fromMachine(s, k, ledger.LayerCombiner, TypeCombined, raw, &c)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Enterprise != d.Enterprise || c.Distributor != d.Distributor || c.Task != d.Task:
		err = fmt.Errorf("is for task %d of distributor %d of enterprise %d", c.Task, c.Distributor, c.Enterprise)
	case c.Request != d.Request:
		err = errors.New("is for another request")
	case c.Key != k.ID || c.Device != h.Device || c.Share != h.Share || c.Number != h.Index:
		err = errors.New("names another key, device or share")
	case len(c.Signatures) != d.documents() || len(c.Combinations) != len(c.Signatures):
		err = fmt.Errorf("has %d signatures by %d combinations of %d documents", len(c.Signatures), len(c.Combinations), d.Documents)
	case len(c.Given) != len(c.Wrong):
		err = fmt.Errorf("calls %d calculators wrong, and says of %d what they sent", len(c.Wrong), len(c.Given))
	}
	for i := range c.Signatures {
		switch {
		case err != nil:
		case uint64(len(c.Combinations[i])) != k.T:
			err = fmt.Errorf("names a combination of %d terms, not %d", len(c.Combinations[i]), k.T)
		case len(c.Signatures[i]) != len(k.Public.N):
			err = fmt.Errorf("has a signature of %d bytes", len(c.Signatures[i]))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &c, nil
}

// documents is the number of documents, which VerifyDistribution has bounded.
func (d *Distribution) documents() int { return int(d.Documents) }

// PowersHash is what names a calculator's powers of one task.
func PowersHash(y [][]byte) envelope.Hash { return envelope.HashOf("privyseal powers", y...) }

// PowersBinding is what the proofs of a calculator's powers are bound to; each
// is also bound to the sub-key it is of (twolayer.Prove).
func PowersBinding(s ledger.State, k *ledger.Key, request envelope.Hash, shareID string) threshold.Binding {
	return threshold.Binding{System: s.System(), Key: k.ID, Epoch: k.Epoch, Share: shareID, Request: request}
}

// checkLength bounds a message of a machine by what an honest one can need for
// its numbers. One that lies could otherwise send so much that a combiner is
// never handed the powers of the others: they go to it in one message.
func checkLength(k *ledger.Key, raw []byte, numbers int) error {
	if most := numbers + maxMachineText; len(raw) > most {
		return fmt.Errorf("a message of %d bytes for key %s, at most %d", len(raw), k.ID, most)
	}
	return nil
}

func maxSubKeys(k *ledger.Key) int {
	if k.Layers == nil {
		return 0
	}
	return int(k.Layers.Grouping.L)
}

// fromMachine verifies a message of a machine of k in a layer.
func fromMachine(s ledger.State, k *ledger.Key, layer uint64, typ string, raw []byte, into any) (from string, h ledger.Holder, err error) {
	if k.Layers == nil {
		return "", h, fmt.Errorf("key %s is not shared in two layers", k.ID)
	}
	_, d, err := fromDevice(s, typ, typ, raw, into)
	if err != nil {
		return "", h, err
	}
	from = fmt.Sprintf("%s of device %s", typ, d.ID)
	for _, h := range k.Holders {
		if h.Device == d.ID && h.Layer == layer {
			return from, h, nil
		}
	}
	return "", h, fmt.Errorf("%s: it is no %s of key %s", from, layerName(layer), k.ID)
}

// fromDevice verifies a message that a device's token signed.
func fromDevice(s ledger.State, what, typ string, raw []byte, into any) (*envelope.Verified, ledger.Device, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, ledger.Device{}, fmt.Errorf("%s: %w", what, err)
	}
	// The boot key lies on the device's disk.
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerDevice || id.Use != ledger.UseSign {
		return nil, ledger.Device{}, fmt.Errorf("%s: signed by key %s, which is no device's token", what, u.Header().Signer)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, ledger.Device{}, fmt.Errorf("%s of device %s: %w", what, id.Owner, err)
	}
	if err := envelope.Decode(v, typ, MessageVersion, into); err != nil {
		return nil, ledger.Device{}, fmt.Errorf("%s of device %s: %w", what, id.Owner, err)
	}
	if v.Header().System != s.System() {
		return nil, ledger.Device{}, fmt.Errorf("%s of device %s: is of another system (%s)", what, id.Owner, v.Header().System)
	}
	d, ok := s.Device(id.Owner)
	if !ok {
		return nil, ledger.Device{}, fmt.Errorf("%s: device %s is not in the ledger", what, id.Owner)
	}
	return v, d, nil
}

// checkTimes holds header and payload to each other, and a message to its life.
func checkTimes(from string, h envelope.Header, created, expires, life int64) error {
	switch {
	case h.Created != created || h.Expires != expires:
		return fmt.Errorf("%s: header and payload name different times", from)
	case expires <= created || expires-created > life:
		return fmt.Errorf("%s: lives from %d to %d, at most %d s", from, created, expires, life)
	}
	return nil
}

// layerName names what a device is in a layer.
func layerName(layer uint64) string {
	if layer == ledger.LayerCombiner {
		return "combiner"
	}
	return "calculator"
}
