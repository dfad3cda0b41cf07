package clienttest

import (
	"errors"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// OutputSite is the server that is the independent output interface of all
// enterprises.
const OutputSite = "server-5"

// hearOutput brings a packet to the output interface.
func (s *Sites) hearOutput(p tolerant.Packet) {
	if s.output == nil {
		var codes []uint64
		for _, e := range s.State.Enterprises() {
			codes = append(codes, e.Enterprise.Code)
		}
		s.output = tolerant.NewOutput(tolerant.OutputConfig{State: s.State, Site: OutputSite, Enterprises: codes})
	}
	e := s.output.Packet(s.now.Load(), p)
	for _, k := range e.Keep {
		s.issued[k.Issued.Request] = k.Issued
	}
	for _, a := range e.Alarms {
		s.t.Errorf("%s: %s", OutputSite, a.Text)
	}
}

func (s *Sites) showIssued(site string, body []byte) (any, error) {
	var ask api.IssuedAsk
	if err := envelope.Unmarshal(body, &ask); err != nil {
		return nil, web.Malformed(err)
	}
	x, ok := s.issued[ask.Request]
	if site != OutputSite || !ok {
		return nil, web.NotFound(errors.New("nothing was seen signed for that request"))
	}
	if s.Answer != nil {
		s.Answer(&x)
	}
	return x, nil
}
