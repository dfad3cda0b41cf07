package term

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress shows that something goes on: nothing for the first two seconds,
// then one line that is rewritten on a terminal, or a plain line every 15
// seconds elsewhere.
type Progress struct {
	w        io.Writer
	terminal bool
	label    string
	began    time.Time

	mu    sync.Mutex // guards the rest and w
	state string
	shown bool
	last  time.Time

	stop chan struct{}
	done chan struct{}
	once sync.Once
}

// StartProgress begins. w is standard error; terminal says whether it is a
// terminal. The label names what goes on: "making safe primes". Done must be
// called.
func StartProgress(w io.Writer, terminal bool, label string) *Progress {
	p := &Progress{
		w: w, terminal: terminal, label: Clean(label), began: time.Now(),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go p.run()
	return p
}

// Set says how far it is: "12 of 64". It may be called from any goroutine.
func (p *Progress) Set(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = Clean(state)
}

// Done ends it. The line vanishes from a terminal; elsewhere, if anything was
// shown, a last line says how long it took. It may be called more than once.
func (p *Progress) Done() {
	p.once.Do(func() {
		close(p.stop)
		<-p.done
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case !p.shown:
		case p.terminal:
			io.WriteString(p.w, "\r\x1b[K")
		default:
			fmt.Fprintf(p.w, "%s: done after %v\n", p.label, p.elapsed())
		}
	})
}

func (p *Progress) run() {
	defer close(p.done)
	select {
	case <-p.stop:
		return
	case <-time.After(progressDelay):
	}
	tick := time.NewTicker(progressRefresh)
	defer tick.Stop()
	for {
		p.show()
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
	}
}

func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.label
	if p.state != "" {
		text += ": " + p.state
	}
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s (%v)", text, p.elapsed())
	case !p.shown || time.Since(p.last) >= progressLine:
		fmt.Fprintf(p.w, "%s (%v)\n", text, p.elapsed())
		p.last = time.Now()
	}
	p.shown = true
}

func (p *Progress) elapsed() time.Duration { return time.Since(p.began).Truncate(time.Second) }
