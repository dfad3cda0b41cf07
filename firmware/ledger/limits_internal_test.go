package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// The limits that no test system is large enough for.
func TestEnterpriseLimits(t *testing.T) {
	first := func(s State) error {
		x := &dealt{Dealing: &Dealing{Enterprise: Enterprise{Code: 999, Name: "one more"}, Revision: 1}, s: s, t: s.tables()}
		return x.checkEnterprise()
	}
	row := func(code, revision uint64) *authority {
		return &authority{dealing: Dealing{
			Enterprise: Enterprise{Code: code, Name: fmt.Sprint("enterprise ", code)}, Revision: revision,
			Key: Key{ID: fmt.Sprint("ca-", code), Holders: []Holder{{Device: "device-1"}}},
		}}
	}
	s := State{t: &tables{}}
	for code := uint64(1); code < MaxEnterprises; code++ {
		s.authorities = append(s.authorities, row(code, 1))
	}
	if err := first(s); err != nil {
		t.Error(err)
	}
	full := s
	full.authorities = append(full.authorities, row(MaxEnterprises, 1))
	if err := first(full); err == nil || !strings.Contains(err.Error(), "there are 32 enterprises already") {
		t.Error(err)
	}
	s.t = &tables{genesis: Genesis{Keys: make([]Key, maxKeys-MaxEnterprises+1)}}
	if err := first(s); err == nil || !strings.Contains(err.Error(), "there are 64 keys already") {
		t.Error(err)
	}
	// A device counts what it holds of others.
	x := &dealt{Dealing: &Dealing{}, s: full, t: full.tables(), prev: full.authorities[4]}
	if n := x.sharesAt("device-1"); n != MaxEnterprises-1 {
		t.Error(n)
	}
	old := row(7, MaxRevisions)
	x = &dealt{Dealing: &Dealing{Enterprise: old.dealing.Enterprise, Revision: MaxRevisions + 1}, s: s, t: s.tables(), prev: old}
	if err := x.checkEnterprise(); err == nil || !strings.Contains(err.Error(), "at most 9999: deal a new authority") {
		t.Error(err)
	}
	// One that holds more than a token takes is refused before anything is computed.
	g := grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{{Number: 1}}}
	x = &dealt{Dealing: &Dealing{Key: Key{Layers: &twolayer.Public{Grouping: g}}}, grows: true}
	g.Combiners[0].Combinations = make([]grouping.Combination, MaxParts+1)
	if err := x.checkGrouping(); err == nil || !strings.Contains(err.Error(), "combiner 1 has 127 combinations, at most 126") {
		t.Error(err)
	}
	g.Combiners[0].Combinations = g.Combiners[0].Combinations[1:]
	if err := x.checkGrouping(); err == nil || !strings.Contains(err.Error(), "serve 1 of the 3 sets") {
		t.Error(err)
	}
}
