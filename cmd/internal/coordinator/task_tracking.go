package coordinator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

// computed counts the calculators whose powers are here, as far as they count.
func (r *Request) computed() uint64 {
	n := uint64(0)
	for _, d := range r.devices {
		if d.calculates() && !d.wrong && d.machine.result != nil {
			n++
		}
	}
	return min(n, r.key.T)
}

// signing is the place in the history of the attempt that gave the signatures, -1 if
// there is none.
func (r *Request) signing() int {
	return slices.IndexFunc(r.history, func(h api.Attempt) bool { return h.Outcome == outcomeSigned })
}

// signers are the devices that made the signature, as far as their work was seen
// here, the combiner last.
func (r *Request) signers() []string {
	i := r.signing()
	if i < 0 {
		return nil
	}
	return r.history[i].Devices
}

func (r *Request) summaryTask() string {
	who := r.signers()
	if len(who) == 0 {
		return "signed"
	}
	n := len(who) - 1
	line := "signed by " + strings.Join(who[:n], ", ") + ", combined by " + who[n]
	if n == 0 {
		line = "signed, combined by " + who[0]
	}
	if len(r.task.claimed) > 0 {
		line += ", which says that it used " + strings.Join(r.task.claimed, ", ") + " as well, of whom nothing came here"
	}
	if len(r.task.accusations) > 0 {
		line += "; finding out whose powers were wrong"
	}
	return line
}

// waitingTask says what is missing, by name.
func (r *Request) waitingTask() string {
	if r.task.packet == nil && r.task.text != "" {
		return r.task.text
	}
	combiners := 0
	var who []string
	for _, d := range r.devices {
		name := fmt.Sprintf("%s %d (%s)", layerName(d), d.holder.Index, d.id)
		if d.gone && d.holder.Layer == 0 {
			name = d.id
		}
		why := d.text
		switch {
		case d.wrong: // the text has its name
			who = append(who, why)
		case d.gone:
			who = append(who, name+" was taken away from the authority")
		case len(d.rejected) > 0:
			who = append(who, fmt.Sprintf("%s is out (rejected by %s: %s)", name, d.rejected[0].Name, d.rejected[0].Reason))
		case d.machine.result != nil:
		case d.offer == nil:
			if why == "" {
				why = "no answer yet"
			}
			who = append(who, fmt.Sprintf("%s is not ready (%s)", name, why))
		case !d.complete():
			missing := "and nobody is left who may approve there"
			if names := r.missing(d); len(names) > 0 {
				missing = "missing " + strings.Join(names, ", ")
			}
			who = append(who, fmt.Sprintf("%s has %d of %d approvals, %s", name, len(d.approvals), d.holder.Quorum, missing))
		case why != "":
			who = append(who, fmt.Sprintf("%s: %s", name, why))
		case !d.calculates():
			combiners++
		}
	}
	line := fmt.Sprintf("%d of %d calculators have computed, %d combiners are confirmed", r.computed(), r.key.T, combiners)
	if len(who) > 0 {
		line += ": " + strings.Join(who, "; ")
	}
	return line
}
