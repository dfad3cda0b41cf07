package main

import (
	"context"
	"fmt"

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
the message servers tell it, and the illegal ones: those that no operator
confirmed in time, or that are not what they say. Illegal tasks are kept for two
days. A task is named by its enterprise, its distributor and its number.`,
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
	conn, _, err := a.dial(ctx, s, a.server)
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

func (a *app) printTasks(sites []siteTasksJSON, illegal bool) {
	name := func(enterprise, distributor, task uint64) string {
		return fmt.Sprintf("%d/%d/%d", enterprise, distributor, task)
	}
	for _, x := range sites {
		switch {
		case x.Silent != "":
			a.say("%s is silent: %s", x.Server, x.Silent)
			continue
		case len(x.Illegal) == 0 && illegal:
			a.say("%s: no illegal tasks", x.Server)
			continue
		case len(x.Illegal)+len(x.Open) == 0:
			a.say("%s: no tasks", x.Server)
			continue
		}
		a.say("%s", x.Server)
		for _, t := range x.Open {
			a.say("  %-14s request %s, key %s, until %s: %s", name(t.Enterprise, t.Distributor, t.Task), short(t.Request), t.Key, timeText(t.Expires), t.State)
			a.say("  %-14s acknowledged by %s", "", listOr(t.Devices, "nobody here"))
		}
		for _, t := range x.Illegal {
			who := ""
			if t.Device != "" {
				who = ", asked of " + t.Device
			}
			a.say("  %-14s ILLEGAL, request %s%s, seen %s: %s", name(t.Enterprise, t.Distributor, t.Task), short(t.Request), who, timeText(t.Seen), t.Why)
		}
	}
}
