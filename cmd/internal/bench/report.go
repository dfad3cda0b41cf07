package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What is promised.
const (
	maxOverLibcrypto = 1.15            // in-host partial over the exponentiation in it
	maxDeviceMemory  = 40_000_000      // bytes, at rest
	maxServerMemory  = 60_000_000      // bytes, at rest
	maxStart         = 1 * time.Second // until a device can be unlocked
)

// report is all that one run found out. Times are in milliseconds.
type report struct {
	CPU          string           `json:"cpu"`
	CPUs         int              `json:"cpus"`
	Load         string           `json:"load"` // of the machine when it began
	Go           string           `json:"go"`
	OpenSSL      string           `json:"openssl"`
	Rounds       int              `json:"rounds,omitempty"`
	Primitives   []primitiveTimes `json:"primitives,omitempty"`
	Groupings    []groupingTime   `json:"groupings,omitempty"`
	Tolerant     []tolerantRun    `json:"tolerant,omitempty"`
	Conventional []conventional   `json:"conventional,omitempty"`
	Starts       []startTimes     `json:"starts,omitempty"`
	LockDowns    *lockDowns       `json:"lock_downs,omitempty"`
	Beats        *beatCost        `json:"beats,omitempty"`
	Memory       []memory         `json:"memory,omitempty"`
	Signatures   []signatures     `json:"signatures,omitempty"`
	Targets      []target         `json:"targets"`
}

type primitiveTimes struct {
	Operation   string  `json:"operation"`
	Bits        int     `json:"bits"`
	Median      float64 `json:"median_ms"`    // by the clock
	Best        float64 `json:"best_cpu_ms"`  // processor time
	MedianRatio float64 `json:"median_ratio"` // to libcrypto, of each round's processor times
	BestRatio   float64 `json:"best_ratio"`   // to libcrypto, of best processor times
}

type startTimes struct {
	What   string  `json:"what"`
	Times  int     `json:"times"`
	Median float64 `json:"median_ms"`
	Worst  float64 `json:"worst_ms"`
	Memory int64   `json:"memory_bytes"` // median, at rest
}

type memory struct {
	Process string `json:"process"`
	Rest    int64  `json:"rest_bytes"`  // before the signatures below
	After   int64  `json:"after_bytes"` // after them
	Peak    int64  `json:"peak_bytes"`  // since its start
}

type signatures struct {
	What     string  `json:"what"`
	Requests int     `json:"requests"` // one after the other, and as many at once
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Rate     float64 `json:"per_second"`  // at once
	Approval float64 `json:"approval_ms"` // median of an officer's approval: card, piece, server
}

type target struct {
	Name     string  `json:"name"`
	Measured float64 `json:"measured"`
	Limit    float64 `json:"limit"`
	Unit     string  `json:"unit"`
	OK       bool    `json:"ok"`
	Least    bool    `json:"least,omitempty"` // it has to be at least the limit
}

func newReport() *report {
	r := &report{CPU: cpuModel(), CPUs: runtime.NumCPU(), Load: loadAverage(), Go: runtime.Version(), OpenSSL: libcryptoVersion()}
	return r
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *report) addTarget(name string, measured, limit float64, unit string) {
	r.Targets = append(r.Targets, target{name, measured, limit, unit, measured <= limit, false})
}

// addLeast is addTarget for what should be as much as possible.
func (r *report) addLeast(name string, measured, limit float64, unit string) {
	r.Targets = append(r.Targets, target{name, measured, limit, unit, measured >= limit, true})
}

func (r *report) addPrimitives(rounds int, ops []*operation) {
	r.Rounds = rounds
	base := map[int]*operation{}
	for _, o := range ops {
		if o.name == opLibcrypto {
			base[o.bits] = o
		}
	}
	for _, o := range ops {
		p := primitiveTimes{Operation: o.name, Bits: o.bits, Median: ms(quantile(o.wall, 0.5)), Best: ms(slices.Min(o.cpu))}
		p.MedianRatio, p.BestRatio = o.over(base[o.bits])
		r.Primitives = append(r.Primitives, p)
		if o.name == opHost {
			r.addTarget(fmt.Sprintf("in-host partial / OpenSSL's exponentiation, %d bits", o.bits), p.BestRatio, maxOverLibcrypto, "x")
		}
	}
	r.addHalfLength(ops)
}

// addStarts takes several starts of one kind.
func (r *report) addStarts(s []started) {
	var ready []time.Duration
	var rss []int64
	for _, x := range s {
		ready, rss = append(ready, x.ready), append(rss, x.rss)
	}
	t := startTimes{What: s[0].name, Times: len(s), Median: ms(quantile(ready, 0.5)), Worst: ms(slices.Max(ready)), Memory: quantile(rss, 0.5)}
	r.Starts = append(r.Starts, t)
	r.addTarget("start until ready to be unlocked: "+t.What, t.Median/1e3, maxStart.Seconds(), "s")
	r.addTarget("memory at rest: "+t.What, float64(t.Memory)/1e6, maxDeviceMemory/1e6, "MB")
}

func (r *report) addMemory(all []memory) {
	r.Memory = append(r.Memory, all...)
	for _, x := range []struct {
		program string
		limit   int64
	}{{"privyseal-device", maxDeviceMemory}, {"privyseal-server", maxServerMemory}} {
		var worst memory
		for _, m := range all {
			if strings.HasPrefix(m.Process, x.program+" ") && m.Rest > worst.Rest {
				worst = m
			}
		}
		if worst.Rest > 0 {
			r.addTarget("memory at rest, the largest: "+worst.Process, float64(worst.Rest)/1e6, float64(x.limit)/1e6, "MB")
		}
	}
	slices.SortStableFunc(r.Memory, func(a, b memory) int { return cmp.Compare(a.Process, b.Process) })
}

func (r *report) print(w io.Writer) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "%s, %d CPUs, load %s\n%s, %s\n", r.CPU, r.CPUs, r.Load, r.Go, r.OpenSSL)
	r.printPrimitives(b)
	r.printGroupings(b)
	r.printTolerant(b)
	r.printSignatures(b)
	r.printProcesses(b)
	r.printLockDowns(b)
	r.printBeats(b)
	if len(r.Targets) > 0 {
		b.WriteString("\nTargets\n")
		rows := [][]string{{"", "measured", "limit", ""}}
		for _, x := range r.Targets {
			verdict, bound := "ok", "≤"
			if x.Least {
				bound = "≥"
			}
			if !x.OK {
				verdict = "MISSED"
			}
			rows = append(rows, []string{x.Name, fmt.Sprintf("%.2f", x.Measured), fmt.Sprintf("%s %g %s", bound, x.Limit, x.Unit), verdict})
		}
		table(b, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) printPrimitives(b *strings.Builder) {
	if len(r.Primitives) == 0 {
		return
	}
	fmt.Fprintf(b, `
Primitives on one thread, %d interleaved rounds. ms: median by the clock. x:
processor time over that of OpenSSL's exponentiation, median of the rounds and
(best over best).
`, r.Rounds)
	rows := [][]string{{""}}
	for _, bits := range sizes {
		rows[0] = append(rows[0], fmt.Sprintf("%d: ms", bits), "x", "(best)")
	}
	at := map[string]int{}
	for _, p := range r.Primitives { // each operation's sizes come in order
		if at[p.Operation] == 0 {
			at[p.Operation] = len(rows)
			rows = append(rows, []string{p.Operation})
		}
		row := &rows[at[p.Operation]]
		*row = append(*row, fmt.Sprintf("%.2f", p.Median), fmt.Sprintf("%.2f", p.MedianRatio), fmt.Sprintf("(%.2f)", p.BestRatio))
	}
	table(b, rows)
}

func (r *report) printSignatures(b *strings.Builder) {
	if len(r.Signatures) == 0 {
		return
	}
	b.WriteString(`
Signatures of a running system, all of it on this one machine, with all approvals
but the last posted beforehand. p50, p99: from posting the last approval until the
requester holds the verified result, one after the other. a second: as many, their
last approvals posted at once. approval: what one takes an officer's workstation,
card and server, without the person (median).
`)
	rows := [][]string{{"", "requests", "p50", "p99", "a second", "approval"}}
	for _, s := range r.Signatures {
		rows = append(rows, []string{s.What, fmt.Sprint(s.Requests), fmt.Sprintf("%.0f ms", s.P50), fmt.Sprintf("%.0f ms", s.P99),
			fmt.Sprintf("%.1f", s.Rate), fmt.Sprintf("%.0f ms", s.Approval)})
	}
	table(b, rows)
}

func (r *report) printProcesses(b *strings.Builder) {
	if len(r.Starts) > 0 {
		fmt.Fprintf(b, "\nA device's start, from exec until it can be unlocked, and its memory %v later\n", settle)
		rows := [][]string{{"", "starts", "median", "worst", "memory"}}
		for _, s := range r.Starts {
			rows = append(rows, []string{s.What, fmt.Sprint(s.Times), fmt.Sprintf("%.0f ms", s.Median), fmt.Sprintf("%.0f ms", s.Worst), megabytes(s.Memory) + " MB"})
		}
		table(b, rows)
	}
	if len(r.Memory) > 0 {
		b.WriteString("\nResident memory in MB, shared pages included. at rest: before the signatures.\n")
		rows := [][]string{{"", "at rest", "after the signatures", "peak"}}
		for _, m := range r.Memory {
			rows = append(rows, []string{m.Process, megabytes(m.Rest), megabytes(m.After), megabytes(m.Peak)})
		}
		table(b, rows)
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

// table writes rows with the first column to the left and the others to the
// right.
func table(b *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		fmt.Fprintf(b, "  %-*s", width[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(b, "  %*s", width[i+1], cell)
		}
		b.WriteByte('\n')
	}
}
