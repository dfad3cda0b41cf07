package systemtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/dealing"
)

// testLostPackets: every third packet of every site is lost.
func (o *Online) testLostPackets(t *testing.T) {
	o.Lose(3)
	defer o.Lose(0)
	began := time.Now()
	var asked []*client.Signed
	for i := range 2 {
		r, err := o.Ask("ca-11", fmt.Sprintf("host-%d.example", i), "s1")
		o.check(err)
		asked = append(asked, r)
	}
	for _, r := range asked {
		_, tr, err := o.Await(r)
		o.check(err)
		if len(tr.Liars) > 0 {
			t.Errorf("blamed: %v", tr.Liars)
		}
	}
	t.Logf("issued after %v", time.Since(began))
}

// testDeath: devices die when they hold their one-time keys and nobody has
// confirmed yet. Others do their work.
func (o *Online) testDeath(t *testing.T, devices ...string) {
	o.Say(Silent, "a1", "a2")
	r, err := o.Ask("ca-11", "www.example", "s1")
	o.check(err)
	o.eventually("offers", func() error {
		tr, err := o.Conn("s1").Tracking(t.Context(), r.Digest)
		if err != nil {
			return err
		}
		for _, d := range tr.Devices {
			if !d.Offered && slices.Contains(devices, d.Device) {
				return fmt.Errorf("%s: %s", d.Device, d.Text)
			}
		}
		return nil
	})
	for _, id := range devices {
		o.Kill(id)
	}
	began := time.Now()
	o.Say(nil, "a1", "a2")
	_, tr, err := o.Await(r)
	if err != nil {
		t.Fatalf("%v: %+v", err, tr)
	}
	t.Logf("issued after %v", time.Since(began))
	for _, d := range tr.Devices {
		if d.Signed && slices.Contains(devices, d.Device) {
			t.Errorf("%s is dead and signed", d.Device)
		}
	}
	for _, id := range devices {
		o.Revive(id)
	}
}

// testDistributorDies: SIGKILL between two approvals. What was acknowledged
// stands, and no number is used again.
func (o *Online) testDistributorDies(t *testing.T) {
	_, tr := o.Issue("ca-11", "before.example", "s1")
	last := tr.Task
	o.StartProcess("s1")
	o.Say(Silent, "a2")
	r, err := o.Ask("ca-11", "www.example", "s1")
	o.check(err)
	o.eventually("approvals", func() error {
		if tr, err = o.Conn("s1").Tracking(t.Context(), r.Digest); err != nil {
			return err
		}
		for _, d := range tr.Devices {
			if len(d.Approved) > 0 {
				return nil
			}
		}
		return errors.New("there is none")
	})
	if tr.Task <= last {
		t.Errorf("task %d after %d", tr.Task, last)
	}
	last = tr.Task
	o.KillSite("s1")
	o.Say(nil, "a2")
	o.StartProcess("s1")
	began := time.Now()
	_, tr, err = o.Await(r)
	if err != nil {
		t.Fatalf("%v: %+v", err, tr)
	}
	t.Logf("issued after %v", time.Since(began))
	o.KillSite("s1")
	o.StartSite("s1")
	if _, tr = o.Issue("ca-11", "after.example", "s1"); tr.Task <= last {
		t.Errorf("task %d after %d", tr.Task, last)
	}
}

// testIllegal: a task that an operator rejects is kept as illegal, told of, and
// survives the site.
func (o *Online) testIllegal(t *testing.T) {
	// The others wait for it: they could be done before d2 has asked anybody.
	o.Say(func(i *client.Item) string {
		if i.Device.ID == "d2" {
			return approval.Reject
		}
		return ""
	}, "a1", "a2")
	defer o.Say(nil, "a1", "a2")
	r, err := o.Ask("ca-11", "www.example", "s1")
	o.check(err)
	var tr *api.Tracking
	find := func() error {
		tasks, err := o.Conn("s1").Tasks(t.Context())
		if err == nil {
			tr, err = o.Conn("s1").Tracking(t.Context(), r.Digest)
		}
		if err != nil {
			return err
		}
		for _, s := range tasks.Sites {
			for _, x := range s.Illegal {
				if s.Server == "s2" && x.Device == "d2" && x.Task == tr.Task && x.Enterprise == 11 && x.Request == tr.Request {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", tasks)
	}
	o.eventually("the task is shown as illegal", find)
	// It is told of when it is on the disk, which is after it is shown.
	o.eventually("somebody is told", func() error {
		status, err := o.Conn("s1").Status(t.Context())
		if err != nil {
			return err
		}
		for _, s := range status.Servers {
			for _, x := range s.Alarms {
				if x.Device == "d2" && strings.Contains(x.Text, fmt.Sprintf("illegal task %d of distributor 1 of enterprise 11", tr.Task)) {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", status.Servers)
	})
	o.Say(nil, "a1", "a2")
	_, tr, err = o.Await(r)
	if err != nil {
		t.Fatalf("%v: %+v", err, tr)
	}
	for _, d := range tr.Devices {
		if d.Device == "d2" && (d.Signed || len(d.Rejected) == 0) {
			t.Errorf("what was rejected works: %+v", d)
		}
	}
	o.StopSite("s2")
	o.StartSite("s2")
	o.eventually("it is shown after a restart", find)
}

// testGrowth: under load a calculator and a combiner are added, and a
// calculator is taken away. No task fails.
func (o *Online) testGrowth(t *testing.T, a *Authority) {
	stop := make(chan struct{})
	var load sync.WaitGroup
	var mu sync.Mutex
	issued, by := 0, map[string]int{}
	for w := range 2 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := o.Ask("ca-11", fmt.Sprintf("load-%d-%d.example", w, n), fmt.Sprintf("s%d", w+1))
				if err != nil {
					t.Errorf("asking: %v", err)
					return
				}
				_, tr, err := o.Await(r)
				if err != nil {
					t.Errorf("a task failed: %v\n%+v", err, tr)
					return
				}
				mu.Lock()
				issued++
				for _, d := range tr.Devices {
					if d.Signed {
						by[d.Device]++
					}
				}
				mu.Unlock()
			}
		})
	}
	// Also when a part fails: nobody speaks of a test that is over.
	over := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer over()
	began := time.Now()
	step := func(what string) { t.Logf("%v %s", time.Since(began), what) }
	after := func(n int) {
		defer step(fmt.Sprint("after ", n))
		mu.Lock()
		from := issued
		mu.Unlock()
		o.eventually(fmt.Sprintf("%d more certificates", n), func() error {
			mu.Lock()
			defer mu.Unlock()
			if issued < from+n && !t.Failed() {
				return fmt.Errorf("%d", issued-from)
			}
			return nil
		})
	}
	after(2)
	p := a.Plan
	p.Calculators = append(p.Calculators, dealing.Machine{Number: 6, Device: "d9"})
	p.Combiners = append(p.Combiners, dealing.Machine{Number: 4, Device: "d10"})
	staff(p, []string{"a1", "a2"})
	o.Extend(a)
	step("extended")
	after(3)
	// Without most of the old machines the new ones have to work.
	p.Calculators = p.Calculators[1:]
	p.Reserve, p.KeepReserve = nil, true
	staff(p, []string{"a1", "a2"})
	o.Extend(a)
	step("extended")
	after(2)
	for _, id := range []string{"d2", "d3", "d6", "d7", "d8"} {
		o.Kill(id)
	}
	after(2)
	over()
	step("over")
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d issued, by %v", issued, by)
	if by["d9"] < 2 || by["d10"] < 2 {
		t.Errorf("the new machines did not work: %v", by)
	}
}
