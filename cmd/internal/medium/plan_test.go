package medium_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/dealing"
)

const plan = `# reviewed
enterprise:
  code: 7
  name: Example Bank
key: {id: bank-ca, name: Example Bank CA, bits: 3072, safe_primes: true, algorithms: [PS256, RS256], max_days: 398, root_days: 3650}
need: 2
sub_keys: 2
resist: {combiners: 2, calculators: 1}
spare: 1
calculators:
  - {number: 1, device: d1}
  - {number: 2, device: d2}
  - number: 3
    device: "3" # an id that looks like a number
combiners:
  - {number: 1, device: 4}
  - {number: 2, device: d5}
quorum: 2
pieces: 2
officers:
  - {person: anna, device: d1, card: 11, class: administrator}
  - {person: bert, device: d1}
  - {person: anna, device: d2}
  - {person: bert, device: d2}
  - {person: anna, device: 3}
  - {person: bert, device: 3}
  - {person: anna, device: 4}
  - {person: bert, device: 4}
  - {person: anna, device: d5}
  - {person: bert, device: d5}
officer_days: 365
distributors:
  - {number: 12, server: s1}
operator: olga
reserve: {need: 2, persons: [{person: anna, card: 11}, {person: bert}]}
`

func TestParsePlan(t *testing.T) {
	p, err := medium.ParsePlan([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case p.Enterprise.Code != 7, p.Enterprise.Name != "Example Bank", p.Key.Bits != 3072, !p.Key.SafePrimes, p.Key.Algorithms[1] != "RS256",
		p.Need != 2, p.SubKeys != 2, p.Resist != (dealing.Resist{Combiners: 2, Calculators: 1}), p.Spare != 1,
		p.Calculators[2] != (dealing.Machine{Number: 3, Device: "3"}), p.Combiners[0].Device != "4",
		p.Officers[0] != (dealing.Officer{Person: "anna", Device: "d1", Card: 11, Class: "administrator"}), p.OfficerDays != 365,
		p.Distributors[0].Number != 12, p.Operator != "olga", p.Reserve.Need != 2, p.Reserve.Persons[0].Card != 11, p.NoReserve, p.KeepReserve:
		t.Errorf("%+v", p.Plan)
	}
	for word, is := range map[string]func(*medium.Plan) bool{
		"none": func(p *medium.Plan) bool { return p.NoReserve && !p.KeepReserve && p.Reserve == nil },
		"keep": func(p *medium.Plan) bool { return p.KeepReserve && !p.NoReserve && p.Reserve == nil },
	} {
		i := strings.Index(plan, "reserve:")
		if p, err := medium.ParsePlan([]byte(plan[:i] + "reserve: " + word + "\n")); err != nil || !is(p) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// TestParsePlanRefuses changes one thing at a time. The line and the remedy are
// part of the promise.
func TestParsePlanRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":      {"need: 2\n", "need: 2\ntreshold: 2\n", "line 7: treshold: there is no such field here; known are enterprise, key, need, sub_keys"},
		"unknown inner":      {"code: 7", "code: 7\n  codes: 8", "line 4: enterprise.codes: there is no such field here; known are code, name"},
		"unknown in a list":  {"device: d1}", "device: d1, quorum: 3}", "line 11: calculators.0.quorum: there is no such field here; known are number, device, again"},
		"twice":              {"quorum: 2\n", "quorum: 2\nquorum: 1\n", "line 19: quorum: is there twice, first on line 18"},
		"no number":          {"need: 2\n", "need: many\n", `line 6: need: "many" is no whole number from 0 on`},
		"negative":           {"need: 2\n", "need: -2\n", `line 6: need: "-2" is no whole number from 0 on`},
		"fraction":           {"need: 2\n", "need: 2.0\n", "line 6: need"},
		"hexadecimal":        {"need: 2\n", "need: 0x2\n", "line 6: need"},
		"quoted number":      {"need: 2\n", "need: \"2\"\n", "line 6: need"},
		"huge":               {"need: 2\n", "need: 99999999999999999999\n", "line 6: need"},
		"card beyond 32 bit": {"card: 11, class", "card: 4294967296, class", "line 21: officers.0.card"},
		"left empty":         {"operator: olga", "operator:", "line 34: operator: is empty: give it a value, or leave the field out"},
		"list for a value":   {"operator: olga", "operator: [olga]", "line 34: operator: expected one value"},
		"value for a list":   {"algorithms: [PS256, RS256]", "algorithms: PS256", "line 5: key.algorithms: expected a list"},
		"value for fields":   {"distributors:\n  - {number: 12, server: s1}", "distributors:\n  - s1", "line 33: distributors.0: expected fields: number, server"},
		"no boolean":         {"safe_primes: true", "safe_primes: 1", "line 5: key.safe_primes"},
		"yes is text":        {"safe_primes: true", "safe_primes: yes", "line 5: key.safe_primes"},
		"boolean for text":   {"operator: olga", "operator: true", "line 34: operator: expected text; put it in quotes"},
		"alias":              {"operator: olga", "operator: &x olga", "line 34: operator: anchors and aliases"},
		"unknown word":       {"reserve: {need: 2, persons: [{person: anna, card: 11}, {person: bert}]}", "reserve: nobody", "line 35: reserve: \"nobody\": write none, keep, or who keeps it"},
		"two documents":      {"operator: olga", "operator: olga\n---\nneed: 1", "more than one document"},
		"no YAML":            {"enterprise:", "enterprise", "yaml"},
		"on paper":           {"pieces: 2", "pieces: 3", "line 19: plan: pieces: 3 pieces open a share"},
		"deep on paper":      {"- {number: 2, device: d2}", "- {number: 2, device: d1}", "line 12: plan: calculators.1.device: d1 is calculator 1 already"},
		"missing on paper":   {"quorum: 2\n", "", "plan: quorum: 0 officers: at least 2"},
		"missing in a row":   {"- {person: bert, device: d1}", "- {device: d1}", "line 22: plan: officers.1.person: is missing"},
	} {
		text := strings.Replace(plan, c.old, c.new, 1)
		if text == plan {
			t.Fatalf("%s: %q is not in the plan", name, c.old)
		}
		if _, err := medium.ParsePlan([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nexpected %q", name, err, c.want)
		}
	}
	for name, text := range map[string]string{"empty": "", "a comment": "# nothing\n", "a list": "- 1\n", "a word": "plan\n", "null": "~\n", "too long": strings.Repeat("#", 300<<10)} {
		if _, err := medium.ParsePlan([]byte(text)); err == nil {
			t.Errorf("%s is a plan", name)
		}
	}
	// An error that is none of a plan stays as it is.
	p, err := medium.ParsePlan([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	other := errors.New("other")
	if p.Explain(other) != other || p.Explain(nil) != nil {
		t.Error("explained")
	}
	if err := p.Explain(&dealing.PlanError{Path: "officers.3.card", What: "x"}); !strings.HasPrefix(err.Error(), "line 24: ") {
		t.Errorf("%v", err)
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(plan))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {}\n: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := medium.ParsePlan(data)
		if err == nil {
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
