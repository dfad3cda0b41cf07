package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// maxPlanFile bounds a plan, which people are to read.
const maxPlanFile = 256 << 10

func newAuthority(a *app) *cobra.Command {
	return command.Group("authority", "Certificate authorities in two layers, dealt by an off-line distributor",
		newAuthorityCheck(a), newAuthorityInvite(a), newAuthorityInstall(a), newAuthorityShow(a), newAuthorityTasks(a), newAuthorityIssued(a))
}

// planned is a plan that was read and drafted against the home's ledger.
type planned struct {
	file  string
	raw   []byte
	plan  *medium.Plan
	draft *dealing.Prepared
	// abandoned are dealings to be counted: given out and never entered.
	abandoned []ledger.Dealing
}

// readPlan reads a plan. Errors name the line.
func readPlan(file string) (*planned, error) {
	raw, err := readSmall(file, maxPlanFile)
	if err != nil {
		return nil, term.WithHint(err, "name the reviewed plan of the authority, a file in YAML")
	}
	p := &planned{file: file, raw: raw}
	if p.plan, err = medium.ParsePlan(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// prepare drafts the dealing: it finds the grouping, or says why it cannot be
// had.
func (a *app) prepare(p *planned, s ledger.State) (err error) {
	bar := term.StartProgress(a.err, a.terminal, "looking for a grouping")
	defer bar.Done()
	p.draft, err = dealing.Draft(dealing.Inputs{Now: a.now().Unix(), Rand: a.rand, Abandoned: p.abandoned}, s, &p.plan.Plan, bar.Set)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, p.plan.Explain(err))
	}
	return nil
}

func newAuthorityCheck(a *app) *cobra.Command {
	var abandoned []string
	c := &cobra.Command{
		Use:   "check PLAN",
		Short: "Check a plan and print what to review: who gets what, and who learns what together",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			s, err := a.system()
			if err != nil {
				return err
			}
			if err := p.count(abandoned); err != nil {
				return err
			}
			if err := a.prepare(p, s.State()); err != nil {
				return err
			}
			v := medium.ViewPrepared(s.State(), p.draft)
			sum := sha256.Sum256(p.raw)
			return a.result(struct {
				File envelope.Hash `json:"file_sha256"`
				*medium.View
			}{sum, v}, func() {
				a.say("plan         SHA-256 of the file %x", sum)
				a.say("%s", strings.Join(v.Lines(), "\n"))
			})
		},
	}
	c.Flags().StringArrayVar(&abandoned, "abandoned", nil, abandonedUsage)
	return c
}

func newAuthorityShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [CODE|KEY]",
		Short: "Show an authority: its machines, officers, distributors, and who learns what together",
		Long: `Show the authorities in two layers of this system, as verified at home: machines
and their officers, task distributors, the combinations of each combiner, what
coalitions of machines learn together, whether the distributor had a network, and
whether there is a reserve. CODE is an enterprise's, KEY the id of its key.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.system()
			if err != nil {
				return err
			}
			all := s.State().Enterprises()
			if len(all) == 0 && a.refresh(c.Context(), s) {
				all = s.State().Enterprises()
			}
			if len(args) == 1 {
				d, ok := authority(s, args[0])
				if !ok && a.refresh(c.Context(), s) {
					d, ok = authority(s, args[0])
				}
				if !ok {
					return usage(fmt.Sprintf("there is no authority %q", args[0]), "privyseal authority show lists them")
				}
				all = []ledger.Dealing{d}
			}
			views := []*medium.View{}
			for i := range all {
				views = append(views, medium.ViewDealing(s.State(), &all[i], nil))
			}
			return a.result(views, func() {
				if len(views) == 0 {
					a.say("no authority in two layers is in the ledger")
				}
				for i, v := range views {
					if i > 0 {
						a.say("%s", strings.Repeat("=", min(a.width, 100)))
					}
					a.say("%s", strings.Join(v.Lines(), "\n"))
				}
			})
		},
	}
}

// authority is that of an enterprise's code or of a key.
func authority(s *client.System, name string) (ledger.Dealing, bool) {
	if d, ok := s.State().EnterpriseOf(name); ok {
		return d, true
	}
	code, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return ledger.Dealing{}, false
	}
	return s.State().Enterprise(code)
}

// freeMedium refuses a directory that is a medium already, before devices are
// asked for anything.
func freeMedium(dir string) error {
	const hint = "nothing is overwritten: name another directory with --out"
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return term.WithHint(fmt.Errorf("%s is no directory", dir), hint)
	}
	stage, err := medium.StageOf(dir)
	if err == nil && stage != medium.StageEmpty {
		err = term.WithHint(fmt.Errorf("%s is a medium already", dir), hint)
	}
	return err
}
