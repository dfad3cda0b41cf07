package systemtest

import (
	"testing"
	"time"
)

func TestAuthority(t *testing.T) {
	o := GoOnline(t, 3, 10, "a1", "a2", "b1", "b2")
	o.OnDuty("o1", "o2", "a1", "a2", "b1", "b2")
	began := time.Now()
	a := o.Deal(AuthorityPlan(11, 5, 3, 3, []string{"a1", "a2"}, "s1", "s2"))
	t.Logf("dealt after %v", time.Since(began))
	began = time.Now()
	o.Deal(AuthorityPlan(12, 5, 3, 3, []string{"b1", "b2"}, "s2"))
	t.Logf("dealt after %v", time.Since(began))
	_ = a
}
