package desk

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// fileSource is what 'privyseal-heartbeat init' prints.
type fileSource struct {
	ID        string   `yaml:"id"`
	Name      string   `yaml:"name"`
	Kind      string   `yaml:"kind"` // message, sequence or satellite
	Server    string   `yaml:"server"`
	Sign      []byte   `yaml:"sign"`
	Agree     []byte   `yaml:"agree"`
	Operators []string `yaml:"operators"`
}

// fileHeartbeat is a device's policy. Times are durations with a unit, as in
// "5s" or "720h": a policy of five hours for one of five seconds is not to
// hinge on what somebody remembers of this file.
type fileHeartbeat struct {
	Sources []string `yaml:"sources"`
	Needed  uint64   `yaml:"needed"`
	Period  any      `yaml:"period"`
	Lease   any      `yaml:"lease"`
	Minimum uint64   `yaml:"minimum"`
	Loss    uint64   `yaml:"loss"`
	Destroy any      `yaml:"destroy"` // left out or "never": never
}

func (d *fileDevice) plan() (ceremony.PlanDevice, error) {
	out := ceremony.PlanDevice{
		ID: d.ID, Name: d.Name, Server: d.Server, Model: d.Model, Serial: d.Serial,
		Unattended: d.Unattended, Use: d.Use, UnlockQuorum: d.UnlockQuorum,
	}
	if d.Heartbeat == nil {
		return out, nil
	}
	var err error
	if out.Heartbeat, err = d.Heartbeat.plan(); err != nil {
		return out, fmt.Errorf("device %s: heartbeat: %w", d.ID, err)
	}
	return out, nil
}

func (h *fileHeartbeat) plan() (*ledger.Heartbeat, error) {
	out := &ledger.Heartbeat{Sources: h.Sources, Needed: h.Needed, Minimum: h.Minimum, Loss: h.Loss}
	var err error
	if out.Period, err = duration(h.Period, time.Millisecond); err != nil {
		return nil, fmt.Errorf("period: %w", err)
	}
	if out.Lease, err = duration(h.Lease, time.Millisecond); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	if h.Destroy == nil || h.Destroy == "never" {
		return out, nil
	}
	if out.Destroy, err = duration(h.Destroy, time.Second); err != nil {
		return nil, fmt.Errorf("destroy: %w", err)
	}
	return out, nil
}

// duration reads a positive duration that is a multiple of unit, and counts it
// in that unit.
func duration(v any, unit time.Duration) (uint64, error) {
	s, ok := v.(string)
	switch {
	case v == nil:
		return 0, errors.New(`missing; write a duration with its unit, like "5s"`)
	case !ok:
		return 0, fmt.Errorf(`%v is no duration; write it with its unit, like "5s"`, v)
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && strings.ContainsAny(s, "dwy"):
		return 0, fmt.Errorf(`%q is no duration; the longest unit is the hour: 30 days are "720h"`, s)
	case err != nil:
		return 0, fmt.Errorf(`%q is no duration; write it with its unit, like "500ms", "5s" or "720h"`, s)
	case d <= 0:
		return 0, fmt.Errorf("%q is not a positive duration", s)
	case d%unit != 0:
		return 0, fmt.Errorf("%q is no multiple of %v", s, unit)
	}
	return uint64(d / unit), nil
}
