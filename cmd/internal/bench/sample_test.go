package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []int64
	for i := range int64(100) {
		hundred = append(hundred, 100-i)
	}
	for _, c := range []struct {
		values []int64
		q      float64
		want   int64
	}{
		{[]int64{7}, 0.5, 7}, {[]int64{7}, 0.99, 7}, {[]int64{7}, 0, 7},
		{[]int64{3, 1, 2}, 0.5, 2}, {[]int64{4, 3, 2, 1}, 0.5, 2},
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100},
	} {
		before := slices.Clone(c.values)
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", c.values, c.q, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Error("the values were put in another order")
		}
	}
}

func TestOver(t *testing.T) {
	base := &operation{cpu: []time.Duration{10, 20, 40}}
	o := &operation{cpu: []time.Duration{20, 20, 160}}
	if median, best := o.over(base); median != 2 || best != 2 {
		t.Errorf("median %v, best %v; want 2 and 2", median, best)
	}
}

// TestInterleave: every operation is measured once a round, neighbours stay
// neighbours, and an error names the operation.
func TestInterleave(t *testing.T) {
	var order []string
	op := func(name string) *operation {
		return &operation{name: name, run: func() error {
			if len(order) == 0 || order[len(order)-1] != name {
				order = append(order, name)
			}
			time.Sleep(time.Millisecond)
			return nil
		}}
	}
	ops := []*operation{op("a"), op("b"), op("c")}
	if err := interleave(ops, 2); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abc"+"abc"+"ba" { // warming up, forwards, backwards
		t.Errorf("order %s", got)
	}
	for _, o := range ops {
		if len(o.wall) != 2 || len(o.cpu) != 2 || o.wall[0] < time.Millisecond || o.cpu[0] > o.wall[0] {
			t.Errorf("%s: %v, %v", o.name, o.wall, o.cpu)
		}
	}
	broken := errors.New("broken")
	bad := &operation{name: "bad", bits: 2048, run: func() error { return broken }}
	if err := interleave([]*operation{bad}, 1); !errors.Is(err, broken) || !strings.Contains(err.Error(), "bad, 2048") {
		t.Error(err)
	}
}
