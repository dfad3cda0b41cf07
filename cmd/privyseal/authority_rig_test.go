package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
)

// bank is a plan for the five devices of the test system.
const bank = `enterprise: {code: 7, name: Example Bank}
key: {id: bank-ca, name: Example Bank CA, bits: 2048, safe_primes: false, algorithms: [RS256], max_days: 398, root_days: 3650}
need: 2
quorum: 2
pieces: 2
officer_days: 365
operator: requester
reserve: none
distributors:
  - {number: 1, server: server-2}
calculators:
  - {number: 1, device: device-1}
  - {number: 2, device: device-2}
  - {number: 3, device: device-3}
combiners:
  - {number: 1, device: device-4}
  - {number: 2, device: device-5}
officers:
  - {person: officer-1a, device: device-1, card: 11}
  - {person: officer-1b, device: device-1}
  - {person: officer-2a, device: device-2}
  - {person: officer-2b, device: device-2}
  - {person: officer-3a, device: device-3}
  - {person: officer-3b, device: device-3}
  - {person: officer-4a, device: device-4}
  - {person: officer-4b, device: device-4}
  - {person: officer-5a, device: device-5}
  - {person: officer-5b, device: device-5}
`

// invitees are the system's devices, who give one-time keys and take shares.
type invitees struct {
	*shelf
	mu      sync.Mutex
	oneTime map[string]*ecdh.PrivateKey
	invited map[string]envelope.Hash
	sick    string // a device that refuses
	tasks   api.Tasks
	status  api.SystemStatus
	got     map[string]firmware.DealtShare
}

func newInvitees(t *testing.T) *invitees {
	v := &invitees{oneTime: map[string]*ecdh.PrivateKey{}, invited: map[string]envelope.Hash{}, got: map[string]firmware.DealtShare{}}
	v.shelf = newShelf(t, func(*shelf) map[string]web.Handler {
		answer := func(f func(body []byte) (device, typ string, payload any, err error)) web.Handler {
			return func(_ context.Context, _ string, body []byte) ([]byte, error) {
				v.mu.Lock()
				defer v.mu.Unlock()
				device, typ, payload, err := f(body)
				if err != nil {
					return nil, err
				}
				return envelope.Marshal(api.DeviceAnswer{Answer: v.sign(device, typ, payload, v.Now+300)})
			}
		}
		return map[string]web.Handler{
			api.PathInvite: answer(v.invite), api.PathInstall: answer(v.install),
			api.PathTasks:  func(context.Context, string, []byte) ([]byte, error) { return envelope.Marshal(v.tasks) },
			api.PathStatus: func(context.Context, string, []byte) ([]byte, error) { return envelope.Marshal(v.status) },
		}
	})
	return v
}

func (v *invitees) sign(device, typ string, payload any, expires int64) []byte {
	body, err := envelope.Marshal(payload)
	if err != nil {
		v.t.Error(err)
	}
	raw, err := envelope.Sign(rand.Reader, v.Devices[device].Sign, envelope.Header{
		Type: typ, Version: firmware.MessageVersion, System: v.State.System(), LedgerHead: v.State.Head(), Created: v.Now, Expires: expires,
	}, body)
	if err != nil {
		v.t.Error(err)
	}
	return raw
}

func (v *invitees) invite(body []byte) (string, string, any, error) {
	var in api.Invite
	if err := envelope.Unmarshal(body, &in); err != nil {
		return "", "", nil, web.Malformed(err)
	}
	if in.Device == v.sick {
		return "", "", nil, web.Refused(errors.New("it is locked"))
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", nil, err
	}
	i := firmware.Invitation{
		Enterprise: in.Enterprise, Device: in.Device, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: v.Now, Expires: v.Now + 3600,
	}
	raw := v.sign(in.Device, firmware.TypeInvitation, &i, i.Expires)
	u, err := envelope.Parse(raw)
	if err != nil {
		return "", "", nil, err
	}
	v.oneTime[in.Device], v.invited[in.Device] = key, u.UnverifiedDigest()
	return in.Device, firmware.TypeInvited, firmware.Invited{Invitation: raw}, nil
}

func (v *invitees) install(body []byte) (string, string, any, error) {
	var in api.Install
	if err := envelope.Unmarshal(body, &in); err != nil {
		return "", "", nil, web.Malformed(err)
	}
	if in.Device == v.sick {
		return "", "", nil, web.Refused(errors.New("it has no such one-time key"))
	}
	d, err := ledger.DecodeDealing(in.Dealing)
	if err != nil {
		return "", "", nil, web.Malformed(err)
	}
	digest, err := d.Digest()
	if err != nil {
		return "", "", nil, err
	}
	invitation := v.invited[in.Device]
	info := envelope.HashOf("privyseal dealt share v1", invitation[:], digest[:])
	plain, err := envelope.OpenWith(v.oneTime[in.Device], info[:], nil, in.Sealed)
	if err != nil {
		return "", "", nil, web.Refused(err)
	}
	var s firmware.DealtShare
	if err := envelope.Unmarshal(plain, &s); err != nil {
		return "", "", nil, web.Refused(err)
	}
	v.got[in.Device] = s
	return in.Device, firmware.TypeDealt, firmware.Dealt{Dealing: digest, Device: in.Device, Share: s.Share, Version: s.Version}, nil
}

// distribute does off line what privyseal-distributor does.
func distribute(t *testing.T, s ledger.State, operator *ledgertest.Person, dir string, now int64) *dealing.Result {
	t.Helper()
	x, err := medium.ReadInvited(dir)
	if err != nil {
		t.Fatal(err)
	}
	state, err := x.System.State(s.System(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := medium.ParsePlan(x.Plan)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, raw := range x.Invitations {
		all = append(all, raw)
	}
	out, err := dealing.Deal(dealing.Inputs{Now: now, Rand: rand.Reader, Isolated: true}, state, &p.Plan, all, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Confirm(rand.Reader, now, state, operator.Card().Sign); err != nil {
		t.Fatal(err)
	}
	if err := medium.WriteDealt(dir, &medium.Dealt{Dealing: out.Dealing, Shares: out.Sealed, Reserve: out.Reserve}); err != nil {
		t.Fatal(err)
	}
	return out
}

// home is where a person keeps the system.
func (v *invitees) home(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	bundle, err := envelope.Marshal(v.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	sys, err := client.Verify(v.State.System(), "server-1", bundle, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.Save(home); err != nil {
		t.Fatal(err)
	}
	return home
}

// run carries out a command in a home, for somebody who types what is given.
func (v *invitees) run(t *testing.T, home, typed string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(typed), out: &out, err: &errs, getenv: func(string) string { return "" }, rand: rand.Reader, width: 100,
		now: func() time.Time { return time.Unix(v.Now, 0) },
	}
	code := a.run(t.Context(), append([]string{"--home", home}, args...))
	return ran{code, out.String(), errs.String()}
}

// grow does off line what privyseal-distributor extend does.
func grow(t *testing.T, v *invitees, dir string, raw []byte) *dealing.Result {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	x, err := medium.ReadInvited(dir)
	check(err)
	state, err := x.System.State(v.State.System(), nil)
	check(err)
	p, err := medium.ParsePlan(x.Plan)
	check(err)
	in := dealing.Inputs{Now: v.Now, Rand: rand.Reader, Isolated: true, Abandoned: x.Abandoned}
	d, err := dealing.Prepare(in, state, &p.Plan, slices.Collect(maps.Values(x.Invitations)), nil)
	check(err)
	reserve, err := dealing.ParseReserve(raw)
	check(err)
	var pieces []share.Piece
	for i, k := range reserve.Pieces {
		piece, err := reserve.OpenPiece(i, v.Persons[k.Person].Card().Agree)
		check(err)
		pieces = append(pieces, piece)
	}
	out, err := d.Extend(in, raw, pieces, nil)
	check(err)
	check(out.Confirm(rand.Reader, v.Now, state, v.Persons["requester"].Card().Sign))
	check(medium.WriteDealt(dir, &medium.Dealt{Dealing: out.Dealing, Shares: out.Sealed, Reserve: out.Reserve}))
	return out
}
