package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// idDigits is how many hexadecimal digits of the system's id are asked for: 80
// bits, for which nobody makes another system.
const idDigits = 20

// brought is what came on the medium, verified.
type brought struct {
	dir         string
	sum         [sha256.Size]byte // of the plan's file, which people reviewed
	plan        *medium.Plan
	state       ledger.State
	invitations [][]byte
	abandoned   []ledger.Dealing
}

// read reads the medium. That its system is the right one only a person can
// say, who has seen its id elsewhere.
func (a *app) read(dir string, sure bool) (*brought, error) {
	x, err := medium.ReadInvited(dir)
	if err != nil {
		return nil, err
	}
	id, err := a.systemID(&x.System, sure)
	if err != nil {
		return nil, err
	}
	b := &brought{dir: dir, sum: sha256.Sum256(x.Plan), abandoned: x.Abandoned}
	if b.state, err = a.verify(&x.System, id); err != nil {
		return nil, fmt.Errorf("the system on the medium: %w", err)
	}
	if b.plan, err = medium.ParsePlan(x.Plan); err != nil {
		return nil, fmt.Errorf("%s: %w", medium.FilePlan, err)
	}
	for _, device := range slices.Sorted(maps.Keys(x.Invitations)) {
		b.invitations = append(b.invitations, x.Invitations[device])
	}
	return b, nil
}

// verify verifies the system with its ledger, which may have taken years to grow.
func (a *app) verify(s *medium.System, id envelope.Hash) (ledger.State, error) {
	p := term.StartProgress(a.err, a.terminal, "verifying the ledger")
	defer p.Done()
	return s.State(id, p.Set)
}

// systemID is the id by which the medium's system is verified.
func (a *app) systemID(s *medium.System, sure bool) (envelope.Hash, error) {
	if a.system != "" {
		id, err := envelope.ParseHash(a.system)
		if err != nil {
			return id, fmt.Errorf("--system: %w", err)
		}
		return id, nil
	}
	var b ledger.Bundle
	if err := envelope.Unmarshal(s.Bundle, &b); err != nil {
		return envelope.Hash{}, fmt.Errorf("the system on the medium: genesis: %w", err)
	}
	v, err := ledger.VerifyGenesis(b)
	if err != nil {
		return envelope.Hash{}, fmt.Errorf("the system on the medium: %w", err)
	}
	id := v.System()
	if !sure {
		return id, nil
	}
	// Whoever wrote the medium could have put another system on it, with devices of
	// his own.
	a.tell("The medium says which system this is for; the record of its ceremony says it, too.")
	err = term.ConfirmHeard(a.in, a.err, fmt.Sprintf("first %d digits of the system's id, from that record", idDigits), id.String()[:idDigits])
	if errors.Is(err, term.ErrNotConfirmed) {
		err = term.WithHint(err, "the medium may carry another system, whose devices would get the key: do not deal before you know")
	}
	return id, err
}

// prepare checks all that came and groups the combinations.
func (a *app) prepare(b *brought) (*dealing.Prepared, error) {
	p := term.StartProgress(a.err, a.terminal, "preparing")
	defer p.Done()
	in := a.inputs()
	in.Abandoned = b.abandoned
	d, err := dealing.Prepare(in, b.state, &b.plan.Plan, b.invitations, p.Set)
	return d, b.explain(err)
}

func (a *app) inputs() dealing.Inputs {
	return dealing.Inputs{Now: a.now().Unix(), Rand: a.rand, Isolated: !a.notIsolated}
}

// explain adds the plan's line to an error.
func (b *brought) explain(err error) error {
	if err == nil {
		return nil
	}
	if line := b.plan.Explain(err); line != err {
		return fmt.Errorf("%s: %w", medium.FilePlan, line)
	}
	return err
}

// print shows an authority with the system it is for.
func (a *app) print(w io.Writer, b *brought, v *medium.View) {
	s := b.state
	line := func(format string, args ...any) { fmt.Fprintln(w, term.Clean(fmt.Sprintf(format, args...))) }
	line("system       %s, %s", s.Name(), s.System())
	line("             ledger position %d, head %s", s.Height(), s.Head())
	line("plan         SHA-256 of the file %x", b.sum)
	line("clock        %s, by this machine", a.now().UTC().Format("2006-01-02 15:04:05 UTC"))
	line("%s", strings.Join(v.Lines(), "\n"))
}
