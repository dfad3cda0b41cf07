package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/firmware/envelope"
)

func newAuthorityTasks(a *app) *cobra.Command {
	var illegal bool
	c := &cobra.Command{
		Use:   "tasks [--illegal]",
		Short: "Show the tasks that calculators and combiners work on, and those that nobody confirmed",
		Long: `Show the tasks that the sites' calculators and combiners are asked to work on, as
the message servers tell it: each once, with the machines under what they did or
wait for. Illegal tasks are shown, too: those that no operator confirmed in time,
or that are not what they say. They are kept for two days. A task is named by its
enterprise, its distributor and its number.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.tasks(c.Context(), illegal) },
	}
	c.Flags().BoolVar(&illegal, "illegal", false, "only illegal tasks; exit with 1 if there are any")
	return c
}

// The JSON form of tasks.
type siteTasksJSON struct {
	Server  string            `json:"server"`
	Silent  string            `json:"silent,omitempty"` // why
	Open    []taskJSON        `json:"open"`
	Illegal []illegalTaskJSON `json:"illegal"`
}

type taskJSON struct {
	Enterprise  uint64        `json:"enterprise"`
	Distributor uint64        `json:"distributor"`
	Task        uint64        `json:"task"`
	Request     envelope.Hash `json:"request"`
	Key         string        `json:"key"`
	Created     int64         `json:"created"`
	Expires     int64         `json:"expires"`
	Devices     []string      `json:"devices"`
	State       string        `json:"state"`
}

type illegalTaskJSON struct {
	Enterprise  uint64        `json:"enterprise"`
	Distributor uint64        `json:"distributor"`
	Task        uint64        `json:"task"`
	Request     envelope.Hash `json:"request"`
	Device      string        `json:"device,omitempty"`
	Why         string        `json:"why"`
	Seen        int64         `json:"seen"`
	Forget      int64         `json:"forget"`
}

func (a *app) tasks(ctx context.Context, illegal bool) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	conn, _, err := a.dialFirst(ctx, s, s.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := conn.Tasks(ctx)
	if err != nil {
		return err
	}
	sites, bad := []siteTasksJSON{}, 0
	for _, x := range got.Sites {
		j := siteTasksJSON{Server: x.Server, Silent: x.Text, Open: []taskJSON{}, Illegal: []illegalTaskJSON{}}
		for _, t := range x.Open {
			if !illegal {
				j.Open = append(j.Open, taskJSON(t))
			}
		}
		for _, t := range x.Illegal {
			j.Illegal = append(j.Illegal, illegalTaskJSON{
				Enterprise: t.Enterprise, Distributor: t.Distributor, Task: t.Task, Request: t.Request, Device: t.Device, Why: t.Why, Seen: t.Seen, Forget: t.Forget,
			})
			bad++
		}
		sites = append(sites, j)
	}
	if err := a.result(sites, func() { a.printTasks(sites, illegal) }); err != nil {
		return err
	}
	if illegal && bad > 0 {
		return command.Reported(fmt.Errorf("%d illegal tasks", bad))
	}
	return nil
}

// taskName is how people name a task.
func taskName(enterprise, distributor, task uint64) string {
	return fmt.Sprintf("%d/%d/%d", enterprise, distributor, task)
}

// printTasks prints each task once, and under it what its machines, of whatever
// sites, wait for or did.
func (a *app) printTasks(sites []siteTasksJSON, illegal bool) {
	open, bad := mergeTasks(sites)
	for _, t := range open {
		a.say("%-10s request %s, key %s, until %s", t.name, short(t.Request), t.Key, timeText(t.Expires))
		for _, state := range slices.Sorted(maps.Keys(t.machines)) {
			slices.SortFunc(t.machines[state], byMachine)
			for i, line := range wrapList(t.machines[state], max(a.width, 60)-15) {
				if i == 0 {
					line = state + ": " + line
				}
				a.say("%*s%s", 11+min(i, 1)*4, "", line)
			}
		}
	}
	for _, t := range bad {
		who := ""
		if t.Device != "" {
			who = ", asked of " + t.Device
		}
		a.say("%-10s ILLEGAL, request %s%s, seen %s by %s: %s", t.name, short(t.Request), who, timeText(t.Seen), strings.Join(t.sites, ", "), t.Why)
	}
	silent := 0
	for _, x := range sites {
		if x.Silent != "" {
			silent++
			a.say("%s is silent: %s", x.Server, x.Silent)
		}
	}
	if len(open)+len(bad) == 0 && silent < len(sites) {
		what, where := "tasks", ""
		if illegal {
			what = "illegal tasks"
		}
		if silent > 0 {
			where = " at the other sites"
		}
		a.say("no %s%s", what, where)
	}
}

// openTask is a task as all sites tell it.
type openTask struct {
	taskJSON
	name     string
	machines map[string][]string // by what they do
}

type badTask struct {
	illegalTaskJSON
	name  string
	sites []string // that saw it
}

// mergeTasks has each task once, in the order of their numbers.
func mergeTasks(sites []siteTasksJSON) (open []*openTask, bad []*badTask) {
	for _, x := range sites {
		for _, t := range x.Open {
			i := slices.IndexFunc(open, func(o *openTask) bool {
				return o.Enterprise == t.Enterprise && o.Distributor == t.Distributor && o.Task == t.Task && o.Request == t.Request
			})
			if i < 0 {
				i, open = len(open), append(open, &openTask{t, taskName(t.Enterprise, t.Distributor, t.Task), map[string][]string{}})
			}
			for _, text := range strings.Split(t.State, "; ") {
				m := machineState.FindStringSubmatch(text)
				if m == nil { // of another version: its own words
					m = []string{"", "at " + x.Server, text}
				}
				open[i].machines[m[2]] = append(open[i].machines[m[2]], m[1])
			}
		}
		for _, t := range x.Illegal {
			i := slices.IndexFunc(bad, func(b *badTask) bool {
				return b.Enterprise == t.Enterprise && b.Distributor == t.Distributor && b.Task == t.Task && b.Request == t.Request && b.Device == t.Device && b.Why == t.Why
			})
			if i < 0 {
				i, bad = len(bad), append(bad, &badTask{illegalTaskJSON: t, name: taskName(t.Enterprise, t.Distributor, t.Task)})
			}
			bad[i].Seen, bad[i].sites = min(bad[i].Seen, t.Seen), append(bad[i].sites, x.Server)
		}
	}
	slices.SortStableFunc(open, func(x, y *openTask) int {
		return cmp.Or(cmp.Compare(x.Enterprise, y.Enterprise), cmp.Compare(x.Distributor, y.Distributor), cmp.Compare(x.Task, y.Task))
	})
	slices.SortStableFunc(bad, func(x, y *badTask) int {
		return cmp.Or(cmp.Compare(x.Enterprise, y.Enterprise), cmp.Compare(x.Distributor, y.Distributor), cmp.Compare(x.Task, y.Task))
	})
	return open, bad
}

// machineState is how a site tells what one of its machines does.
var machineState = regexp.MustCompile(`^((?:calculator|combiner) [0-9]+ \([^()]*\)) (.+)$`)

// byMachine orders calculators before combiners, and both by their numbers.
func byMachine(x, y string) int {
	number := func(s string) (layer string, n uint64) {
		_, _ = fmt.Sscanf(s, "%s %d", &layer, &n)
		return layer, n
	}
	lx, nx := number(x)
	ly, ny := number(y)
	return cmp.Or(cmp.Compare(lx, ly), cmp.Compare(nx, ny), cmp.Compare(x, y))
}
