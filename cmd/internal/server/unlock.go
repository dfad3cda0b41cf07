package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// unlocks are approvals that are collected for locked devices of this site, in
// memory: they are worth something only while the device's one-time key lives,
// and officers stand in front of it.
type unlocks struct {
	mu sync.Mutex
	m  map[string]*unlocking
}

type unlocking struct {
	offer    []byte // raw
	digest   envelope.Hash
	raws     [][]byte
	officers []string // person ids
	restored []string // names of those who take back a device with a shorter log
}

// askUnlock is POST /v1/unlock/ask.
func (s *Server) askUnlock(ctx context.Context, source string, body []byte) ([]byte, error) {
	if _, err := s.must(); err != nil {
		return nil, err
	}
	var in api.UnlockAsk
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	out, err := s.unlockOffer(ctx, in.Device)
	if err != nil {
		s.audit.refused(source, firmware.TypeUnlockAsk, err)
		return nil, web.Refused(err)
	}
	return envelope.Marshal(out)
}

func (s *Server) unlockOffer(ctx context.Context, device string) (*firmware.UnlockOffered, error) {
	var out firmware.UnlockOffered
	if err := s.inquire(ctx, device, firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: device}, firmware.TypeUnlockOffered, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// takeUnlock is POST /v1/unlock: one officer's word. The device's own site
// collects them.
func (s *Server) takeUnlock(ctx context.Context, source string, body []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	u, err := s.unseal(body)
	if err != nil {
		s.audit.refused(source, approval.TypeUnlockApproval, err)
		return nil, web.Malformed(err)
	}
	v, err := s.byCard(sys, u)
	if err != nil {
		s.audit.refused(source, approval.TypeUnlockApproval, err)
		return nil, web.Denied(err)
	}
	s.audit.message("in", source, v.Header(), v.Digest())
	var a approval.UnlockApproval
	if err := envelope.Decode(v, approval.TypeUnlockApproval, approval.Version, &a); err != nil {
		return nil, web.Malformed(err)
	}
	d, ok := sys.state.Device(a.Device)
	if !ok {
		return nil, web.Refused(fmt.Errorf("device %s is not in the ledger", a.Device))
	}
	var out []byte
	if d.Server == s.cfg.ID {
		out, err = s.collectUnlock(ctx, d, v.Raw())
	} else {
		out, err = s.askSite(ctx, d.Server, v.Raw(), "unlock")
	}
	if err != nil {
		s.audit.refused(source, approval.TypeUnlockApproval, err)
		return nil, web.Refused(err)
	}
	return out, nil
}

// serveUnlock takes an unlock approval from another site.
func (s *Server) serveUnlock(ctx context.Context, msg []byte) ([]byte, error) {
	u, err := envelope.Parse(msg)
	if err != nil {
		return nil, err
	}
	var a approval.UnlockApproval
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil {
		return nil, err
	}
	d, ok := s.system().state.Device(a.Device)
	if !ok || d.Server != s.cfg.ID {
		return nil, fmt.Errorf("device %s is not of this site", a.Device)
	}
	return s.collectUnlock(ctx, d, msg)
}

// collectUnlock adds an approval; the one that completes the quorum opens the
// device.
func (s *Server) collectUnlock(ctx context.Context, d ledger.Device, raw []byte) ([]byte, error) {
	s.unlocks.mu.Lock()
	defer s.unlocks.mu.Unlock()
	sys := s.system()
	l, err := s.unlocking(ctx, d)
	if err != nil {
		return nil, err
	}
	a, err := approval.VerifyUnlock(sys.state, d.ID, l.digest, raw, s.unix())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(l.officers, a.Person) {
		l.officers, l.raws = append(l.officers, a.Person), append(l.raws, raw)
		if a.Restored {
			l.restored = append(l.restored, a.Name)
		}
	}
	out := api.Unlocked{Have: uint64(len(l.raws)), Need: d.UnlockQuorum, Missing: []string{}, Restored: append([]string{}, l.restored...)}
	if out.Have < out.Need {
		for _, o := range sys.state.OfficersOf(d.ID, s.unix()) {
			if p, ok := sys.state.Person(o.Person); ok && !slices.Contains(l.officers, o.Person) {
				out.Missing = append(out.Missing, p.Name)
			}
		}
		return envelope.Marshal(out)
	}
	// Whatever comes of it, these approvals are spent: a device that refuses them
	// would refuse them again.
	delete(s.unlocks.m, d.ID)
	var status firmware.Status
	if err := s.inquire(ctx, d.ID, firmware.TypeUnlock, firmware.Unlock{Offer: l.offer, Approvals: l.raws}, firmware.TypeStatus, &status); err != nil {
		return nil, err
	}
	out.Status = &status
	s.audit.log.Info("unlocked", "device", d.ID, "officers", l.officers, "restored", l.restored)
	s.awake(d.ID)
	return envelope.Marshal(out)
}

// unlocking is the collection for a device's present offer, which the device
// repeats for as long as it stands; another one makes what was collected
// worthless.
func (s *Server) unlocking(ctx context.Context, d ledger.Device) (*unlocking, error) {
	offered, err := s.unlockOffer(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(offered.Offer)
	if err != nil {
		return nil, err
	}
	if s.unlocks.m == nil {
		s.unlocks.m = map[string]*unlocking{}
	}
	l := s.unlocks.m[d.ID]
	if l == nil || l.digest != u.UnverifiedDigest() {
		l = &unlocking{offer: offered.Offer, digest: u.UnverifiedDigest()}
		s.unlocks.m[d.ID] = l
	}
	return l, nil
}
