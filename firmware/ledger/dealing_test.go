package ledger_test

import (
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func TestAuthority(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	s.Authority(t, ledgertest.PrintedPlan(2))
	s.Authority(t, ledgertest.SmallPlan(1))
	if n := len(s.State.Enterprises()); n != 2 {
		t.Fatal(n)
	}
}
