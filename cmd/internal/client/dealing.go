package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Bundle is the genesis with its signatures, a ledger.Bundle, and Entries are
// the ledger's entries, each a ledger.SignedEntry: what somebody without a
// network needs to verify the system himself.
func (s *System) Bundle() []byte { return bytes.Clone(s.file.Bundle) }

// Entries: see Bundle.
func (s *System) Entries() [][]byte {
	out := [][]byte{}
	for _, e := range s.file.Entries {
		out = append(out, bytes.Clone(e))
	}
	return out
}

// ServerFor is the server that takes requests for a key: that named by id, and
// without a name the home's. Of an authority in two layers only its task
// distributors take them: without a name it is the first of them, if the
// home's is none.
func (s *System) ServerFor(key, id string) (ledger.Server, error) {
	e, ok := s.state.EnterpriseOf(key)
	if !ok {
		return s.Server(id)
	}
	var ids []string
	for _, d := range e.Distributors {
		ids = append(ids, d.Server)
	}
	switch {
	case id == "" && (slices.Contains(ids, s.file.Server) || len(ids) == 0):
		return s.Server("")
	case id == "":
		return s.Server(ids[0])
	case !slices.Contains(ids, id):
		return ledger.Server{}, fmt.Errorf("message server %q gives out no tasks for enterprise %d (%s): name one of %s",
			document.Escape(id), e.Enterprise.Code, e.Enterprise.Name, strings.Join(ids, ", "))
	}
	return s.Server(id)
}

// Invite has a device, of whatever site, make a one-time key to which the
// distributor of an enterprise may seal a share: the message
// "dealing.invitation", which the distributor verifies.
func (c *Conn) Invite(ctx context.Context, s ledger.State, device string, enterprise uint64) ([]byte, error) {
	var out firmware.Invited
	if err := c.askDevice(ctx, s, api.PathInvite, &api.Invite{Device: device, Enterprise: enterprise}, device, firmware.TypeInvited, &out); err != nil {
		return nil, err
	}
	return out.Invitation, nil
}

// InstallDealing hands a device, of whatever site, its share of a dealing:
// ledger.Dealing, encoded, and the sealed firmware.DealtShare. The answer is
// the device's own word.
func (c *Conn) InstallDealing(ctx context.Context, s ledger.State, device string, dealing, sealed []byte) (*firmware.Dealt, error) {
	out := new(firmware.Dealt)
	if err := c.askDevice(ctx, s, api.PathInstall, &api.Install{Device: device, Dealing: dealing, Sealed: sealed}, device, firmware.TypeDealt, out); err != nil {
		return nil, err
	}
	if out.Device != device {
		return nil, fmt.Errorf("device %s answers for device %q", device, document.Escape(out.Device))
	}
	return out, nil
}

// Tasks asks what calculators and combiners of all sites are asked to do, and
// what they were asked that no operator confirmed, as the servers tell it.
func (c *Conn) Tasks(ctx context.Context) (*api.Tasks, error) {
	out := new(api.Tasks)
	return out, c.ask(ctx, api.PathTasks, nil, out)
}

// askDevice asks a device by way of the server and verifies its answer.
func (c *Conn) askDevice(ctx context.Context, s ledger.State, path string, in any, device, want string, into any) error {
	d, ok := s.Device(device)
	if !ok {
		return fmt.Errorf("there is no device %q", document.Escape(device))
	}
	var out api.DeviceAnswer
	if err := c.ask(ctx, path, in, &out); err != nil {
		return err
	}
	key, err := envelope.ParseSigningKey(d.Sign)
	if err != nil {
		return err
	}
	u, err := envelope.Parse(out.Answer)
	if err != nil {
		return fmt.Errorf("answer of device %s: %w", device, err)
	}
	v, err := u.Verify(key)
	if err != nil {
		return fmt.Errorf("answer of device %s: %w", device, err)
	}
	if v.Header().System != s.System() {
		return errors.New("the answer is of another system")
	}
	if err := envelope.Decode(v, want, firmware.MessageVersion, into); err != nil {
		return fmt.Errorf("answer of device %s: %w", device, err)
	}
	return nil
}
