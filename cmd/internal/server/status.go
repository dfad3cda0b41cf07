package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// showStatus is POST /v1/status: every site and device is asked just now, and
// whoever does not answer in time is shown as silent.
func (s *Server) showStatus(ctx context.Context, _ string, _ []byte) ([]byte, error) {
	sys := s.system()
	out := api.SystemStatus{Server: s.cfg.ID, Now: s.unix()}
	if sys == nil {
		own := api.ServerStatus{ID: s.cfg.ID, Name: s.cfg.Name, Version: Version, Devices: []api.DeviceStatus{}}
		linked := s.linked()
		slices.Sort(linked)
		for _, id := range linked {
			own.Devices = append(own.Devices, api.DeviceStatus{Device: id, Linked: true})
		}
		out.Servers = []api.ServerStatus{own}
		return envelope.Marshal(out)
	}
	out.System, out.Name, out.Height, out.Head = sys.state.System(), sys.state.Name(), sys.state.Height(), sys.state.Head()
	servers := sys.state.Servers()
	out.Servers = make([]api.ServerStatus, len(servers))
	var wg sync.WaitGroup
	for i, row := range servers {
		wg.Go(func() { out.Servers[i] = s.siteStatus(ctx, sys, row) })
	}
	wg.Wait()
	return envelope.Marshal(out)
}

func (s *Server) siteStatus(ctx context.Context, sys *system, row ledger.Server) api.ServerStatus {
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	if row.ID == s.cfg.ID {
		return s.ownStatus(ctx, sys)
	}
	silent := api.ServerStatus{ID: row.ID, Name: row.Name, Silent: true, Devices: []api.DeviceStatus{}, Sources: silentSources(sys, row.ID)}
	answer, err := s.askSite(ctx, row.ID, nil, "status")
	if err == nil {
		var out api.ServerStatus
		if err = envelope.Unmarshal(answer, &out); err == nil && out.ID == row.ID {
			return out
		}
	}
	silent.Text = "it answers for another site"
	if err != nil {
		silent.Text = bare(theSite(row.ID), err.Error())
	}
	for _, d := range sys.state.Devices() {
		if d.Server == row.ID {
			silent.Devices = append(silent.Devices, api.DeviceStatus{Device: d.ID, Name: d.Name, Silent: true, Text: "its message server is silent"})
		}
	}
	return silent
}

// serveStatus answers another site.
func (s *Server) serveStatus(ctx context.Context, _ []byte) ([]byte, error) {
	return envelope.Marshal(s.ownStatus(ctx, s.system()))
}

func (s *Server) ownStatus(ctx context.Context, sys *system) api.ServerStatus {
	out := api.ServerStatus{ID: s.cfg.ID, Name: s.cfg.Name, Version: Version, Devices: []api.DeviceStatus{}}
	for _, q := range s.everyRequest() {
		q.mu.Lock()
		if q.r.Open() {
			out.Open++
		}
		q.mu.Unlock()
	}
	for _, d := range sys.state.Devices() {
		if d.Server == s.cfg.ID {
			out.Devices = append(out.Devices, api.DeviceStatus{Device: d.ID, Name: d.Name, Linked: s.isLinked(d.ID)})
		}
	}
	out.Sources, out.Alarms = s.sourceStatus(sys), s.alarms.all()
	askAll(out.Devices, func(d *api.DeviceStatus) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		var status firmware.Status
		fill(d, s.inquire(ctx, d.Device, firmware.TypeStatusAsk, firmware.StatusAsk{}, firmware.TypeStatus, &status), &status)
	})
	return out
}

func askAll(devices []api.DeviceStatus, ask func(*api.DeviceStatus)) {
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() { ask(&devices[i]) })
	}
	wg.Wait()
}

func fill(d *api.DeviceStatus, err error, status *firmware.Status) {
	var refused *RefusedError
	switch {
	case err == nil:
		d.Status = status
	case errors.As(err, &refused):
		d.Text = bare(theDevice(d.Device), refused.Text)
	default:
		d.Silent, d.Text = true, bare(theDevice(d.Device), err.Error())
	}
}

// register is POST /v1/register: certificates for all devices, which verify
// them.
func (s *Server) register(ctx context.Context, source string, body []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	var in api.Register
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	if err := bySWA(sys, in.Certificates); err != nil {
		s.audit.refused(source, "certificates", err)
		return nil, web.Denied(err)
	}
	out := api.Registered{Devices: []api.DeviceStatus{}}
	for _, d := range sys.state.Devices() {
		out.Devices = append(out.Devices, api.DeviceStatus{Device: d.ID, Name: d.Name, Linked: d.Server == s.cfg.ID && s.isLinked(d.ID)})
	}
	askAll(out.Devices, func(d *api.DeviceStatus) {
		var status firmware.Status
		fill(d, s.inquire(ctx, d.Device, firmware.TypeRegister, firmware.Register{Certificates: in.Certificates}, firmware.TypeStatus, &status), &status)
	})
	return envelope.Marshal(out)
}

// bySWA refuses certificates that are not the system-wide authority's, before
// devices are bothered with them.
func bySWA(sys *system, certificates [][]byte) error {
	k, _ := sys.state.LedgerKey()
	root, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return err
	}
	for _, der := range certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if err := c.CheckSignatureFrom(root); err != nil {
			return fmt.Errorf("certificate of %s: %w", c.Subject.CommonName, err)
		}
	}
	return nil
}

// recertify is POST /v1/recertify.
func (s *Server) recertify(ctx context.Context, _ string, body []byte) ([]byte, error) {
	if _, err := s.must(); err != nil {
		return nil, err
	}
	var in api.Recertify
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	var out firmware.Requests
	if err := s.inquire(ctx, in.Device, firmware.TypeRecertify, firmware.Recertify{Expires: in.Expires}, firmware.TypeRequests, &out); err != nil {
		return nil, web.Refused(err)
	}
	return envelope.Marshal(out)
}
