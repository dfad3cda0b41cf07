package medium

import (
	"errors"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/planfile"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// plan is the reviewed file. It holds no secrets. Nothing has a default that
// opens a gate: a quorum that is left out is an error, and so is a reserve of
// which nothing is said.
type plan struct {
	Enterprise   planEnterprise    `yaml:"enterprise"`
	Key          planKey           `yaml:"key"`
	Need         uint64            `yaml:"need"`
	SubKeys      uint64            `yaml:"sub_keys"`
	Resist       planResist        `yaml:"resist"`
	Spare        uint64            `yaml:"spare"`
	Redundant    uint64            `yaml:"redundant"`
	Calculators  []planMachine     `yaml:"calculators"`
	Combiners    []planMachine     `yaml:"combiners"`
	Quorum       uint64            `yaml:"quorum"`
	Pieces       uint64            `yaml:"pieces"`
	Officers     []planOfficer     `yaml:"officers"`
	OfficerDays  uint64            `yaml:"officer_days"`
	Distributors []planDistributor `yaml:"distributors"`
	Operator     string            `yaml:"operator"`
	Reserve      planReserve       `yaml:"reserve"`
}

type planEnterprise struct {
	Code uint64 `yaml:"code"`
	Name string `yaml:"name"`
}

type planKey struct {
	ID         string   `yaml:"id"`
	Name       string   `yaml:"name"`
	Bits       uint64   `yaml:"bits"`
	SafePrimes bool     `yaml:"safe_primes"`
	Algorithms []string `yaml:"algorithms"`
	MaxDays    uint64   `yaml:"max_days"`
	RootDays   uint64   `yaml:"root_days"`
}

type planResist struct {
	Combiners   uint64 `yaml:"combiners"`
	Calculators uint64 `yaml:"calculators"`
}

type planMachine struct {
	Number uint64 `yaml:"number"`
	Device string `yaml:"device"`
	Again  bool   `yaml:"again"`
}

type planOfficer struct {
	Person string `yaml:"person"`
	Device string `yaml:"device"`
	Card   uint32 `yaml:"card"`
	Class  string `yaml:"class"`
}

type planDistributor struct {
	Number uint64 `yaml:"number"`
	Server string `yaml:"server"`
}

// planReserve is "none", "keep" or who keeps it.
type planReserve struct {
	word    string
	Need    uint64       `yaml:"need"`
	Persons []planKeeper `yaml:"persons"`
}

type planKeeper struct {
	Person string `yaml:"person"`
	Card   uint32 `yaml:"card"`
}

// Word implements planfile.Worded.
func (r *planReserve) Word(s string) error {
	if s != "none" && s != "keep" {
		return fmt.Errorf("%q: write none, keep, or who keeps it: {need: 2, persons: [{person: ID}, …]}", s)
	}
	r.word = s
	return nil
}

// Plan is a plan with the lines it was written on.
type Plan struct {
	dealing.Plan
	lines planfile.Lines
}

// ParsePlan reads a plan strictly, and checks all that can be checked on paper.
// Errors name the line.
func ParsePlan(data []byte) (*Plan, error) {
	if len(data) > maxPlan {
		return nil, fmt.Errorf("a plan has at most %d bytes: people are to read it", maxPlan)
	}
	var f plan
	lines, err := planfile.Decode(data, &f, planfile.Options{})
	if err != nil {
		return nil, err
	}
	p := &Plan{lines: lines}
	p.Plan = f.plan()
	return p, p.Explain(p.Validate())
}

// Explain adds the line to an error of a plan.
func (p *Plan) Explain(err error) error {
	var e *dealing.PlanError
	if !errors.As(err, &e) {
		return err
	}
	for path := e.Path; ; {
		if line, ok := p.lines[path]; ok {
			return &planfile.LineError{Line: line, Err: err}
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return err
		}
		path = path[:i]
	}
}

func (f *plan) plan() dealing.Plan {
	p := dealing.Plan{
		Enterprise: ledger.Enterprise(f.Enterprise), Key: dealing.PlanKey(f.Key), Need: f.Need, SubKeys: f.SubKeys,
		Resist: dealing.Resist(f.Resist), Spare: f.Spare, Redundant: f.Redundant, Quorum: f.Quorum, Pieces: f.Pieces, OfficerDays: f.OfficerDays,
		Operator: f.Operator, NoReserve: f.Reserve.word == "none", KeepReserve: f.Reserve.word == "keep",
	}
	for _, m := range f.Calculators {
		p.Calculators = append(p.Calculators, dealing.Machine(m))
	}
	for _, m := range f.Combiners {
		p.Combiners = append(p.Combiners, dealing.Machine(m))
	}
	for _, o := range f.Officers {
		p.Officers = append(p.Officers, dealing.Officer{Person: o.Person, Card: o.Card, Device: o.Device, Class: o.Class})
	}
	for _, d := range f.Distributors {
		p.Distributors = append(p.Distributors, ledger.Distributor(d))
	}
	if r := &f.Reserve; r.word == "" && (r.Need > 0 || len(r.Persons) > 0) {
		p.Reserve = &dealing.Keepers{Need: r.Need}
		for _, k := range r.Persons {
			p.Reserve.Persons = append(p.Reserve.Persons, dealing.Keeper(k))
		}
	}
	return p
}
