package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// watchPace is the time between two looks.
const watchPace = time.Second

// watchBeats looks every second until it is interrupted. A server that is away
// for a while is waited for.
func (a *app) watchBeats(ctx context.Context, conn *client.Conn, s ledger.State, devices []string) error {
	seen := &changes{last: map[string]string{}}
	tick := time.NewTicker(watchPace)
	defer tick.Stop()
	for {
		b, err := a.beats(ctx, conn, s, devices)
		if ctx.Err() != nil {
			return nil // interrupted, which is how it ends
		}
		a.showChange(seen, b, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showChange shows what was seen, or why nothing was.
func (a *app) showChange(seen *changes, b *beatsJSON, err error) {
	if a.screen && !a.json {
		repaint(a.out, a.now(), b, err)
		return
	}
	lines := seen.of(b, err)
	if len(lines) == 0 {
		return
	}
	if a.json && b != nil {
		data, err := json.Marshal(b) // a line, for programs
		if err == nil {
			fmt.Fprintf(a.out, "%s\n", data)
		}
		return
	}
	for _, line := range lines {
		if b == nil {
			a.tell("%s  %s", timeText(a.now().Unix()), line)
			continue
		}
		a.say("%s  %s", timeText(a.now().Unix()), line)
	}
}

// repaint writes over what is on the terminal, line by line: a screen that is
// cleared first flickers.
func repaint(w io.Writer, now time.Time, b *beatsJSON, err error) {
	lines := []string{timeText(now.Unix()), ""}
	if err != nil {
		lines = append(lines, "no news: "+err.Error())
	} else {
		lines = append(lines, b.lines()...)
	}
	const home, toLineEnd, toScreenEnd = "\x1b[H", "\x1b[K", "\x1b[J"
	var out strings.Builder
	out.WriteString(home)
	for _, line := range lines {
		out.WriteString(term.Clean(line) + toLineEnd + "\n")
	}
	out.WriteString(toScreenEnd)
	io.WriteString(w, out.String())
}

// changes tells what is new since the last look.
type changes struct{ last map[string]string }

// of gives a line for each change. Numbers that always change are none.
func (c *changes) of(b *beatsJSON, err error) []string {
	var out []string
	change := func(what, now string) {
		if c.last[what] != now {
			c.last[what] = now
			out = append(out, now)
		}
	}
	if err != nil {
		change("", "no news: "+err.Error())
		return out
	}
	c.last[""] = ""
	for _, d := range b.Devices {
		change("device "+d.Device, d.Device+": "+d.brief())
	}
	for _, s := range b.Sources {
		change("source "+s.ID, "source "+s.ID+": "+s.text())
	}
	for _, x := range b.Alarms {
		change("alarm "+x.Server+x.text(), "alarm "+x.text())
	}
	return out
}

// brief is a device in one line, with the sources that do not speak.
func (d *deviceBeats) brief() string {
	out := d.summary(false)
	if d.Lease == nil {
		return out
	}
	for _, s := range d.Lease.Sources {
		if s.State != heartbeat.StateSpeaks {
			out += "; " + strings.TrimSuffix(s.Source+" "+s.State+": "+s.Text, ": ")
		}
	}
	if l := d.Lease; l.Destroy > 0 && l.Armed && l.Maintained {
		out += "; its second limit is suspended"
	}
	return out
}
