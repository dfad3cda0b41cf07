package coordinator_test

import (
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
)

var modes = []struct {
	name      string
	file      bool
	approvals string
}{
	{"parallel set", false, "set"}, {"parallel chain", false, "chain"},
	{"sequential set", true, "set"}, {"sequential chain", true, "chain"},
}

func (s *sim) request(file bool, approvals string, devices ...string) []byte {
	s.t.Helper()
	if file {
		return s.file(approvals, devices...)
	}
	return s.certificate(approvals, devices...)
}

func TestSigns(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.start(s.request(m.file, m.approvals))
			s.signed(s.settle())
		})
	}
}

var _ = coordtest.Good
