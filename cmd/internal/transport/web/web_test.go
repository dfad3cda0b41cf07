package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

type fixture struct {
	*Server
	client *Client
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, rules Rules, now func() time.Time, routes map[string]Handler, polls map[string]PollHandler) *fixture {
	t.Helper()
	before := runtime.NumGoroutine()
	id, err := pinned.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pin, _ := pinned.PinOfIdentity(id)
	lb := &lockedBuffer{}
	log := slog.New(slog.NewTextHandler(lb, nil))
	s, err := Listen(Config{Listen: "127.0.0.1:0", Identity: id, Routes: routes, Polls: polls, Limiter: NewLimiter(rules, log, now), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(s.URL(), pin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
		for end := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("goroutines: %d before, %d after", before, runtime.NumGoroutine())
				return
			}
		}
	})
	return &fixture{s, c, lb}
}

func echo(_ context.Context, _ string, b []byte) ([]byte, error) { return b, nil }

func status(t *testing.T, err error, code int) *StatusError {
	t.Helper()
	var se *StatusError
	if !errors.As(err, &se) || se.Code != code {
		t.Fatalf("%v, want status %d", err, code)
	}
	return se
}

func TestPost(t *testing.T) {
	f := start(t, DefaultRules, nil, map[string]Handler{
		"/echo":  echo,
		"/panic": func(context.Context, string, []byte) ([]byte, error) { panic("hostile") },
		"/late":  func(context.Context, string, []byte) ([]byte, error) { return nil, Refused(errors.New("expired")) },
		"/inner": func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("password is x") },
		"/from":  func(_ context.Context, source string, _ []byte) ([]byte, error) { return []byte(source), nil },
	}, nil)
	for _, n := range []int{0, 1, MaxBody} {
		b, err := f.client.Post(t.Context(), "/echo", bytes.Repeat([]byte("x"), n))
		if err != nil || len(b) != n {
			t.Fatal(len(b), err)
		}
	}
	if b, err := f.client.Post(t.Context(), "/from", nil); err != nil || string(b) != "127.0.0.1" {
		t.Fatal(string(b), err)
	}
	status(t, second(f.client.Post(t.Context(), "/panic", nil)), 500)
	if se := status(t, second(f.client.Post(t.Context(), "/late", nil)), 409); se.Message != "expired" {
		t.Error(se)
	}
	if se := status(t, second(f.client.Post(t.Context(), "/inner", nil)), 500); strings.Contains(se.Message, "password") {
		t.Error("internal text went out:", se)
	}
	status(t, second(f.client.Post(t.Context(), "/nowhere", nil)), 404)
	if !strings.Contains(f.log.String(), "handler panicked") {
		t.Error("no trace of the panic")
	}
}

func second[T any](_ T, err error) error { return err }

// rawClient speaks HTTP without our client's own checks.
func rawClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func TestHostileRequests(t *testing.T) {
	rules := DefaultRules
	rules.MaxFailures = 1000
	f := start(t, rules, nil, map[string]Handler{"/echo": echo}, map[string]PollHandler{
		"/inbox": func(context.Context, string, Poll) (Batch, error) { return nil, nil },
	})
	raw := rawClient()
	for name, c := range map[string]struct {
		method, path string
		body         io.Reader
		header       string
		want         int
	}{
		"GET of a route":     {"GET", "/echo", nil, "", 405},
		"POST of a poll":     {"POST", "/inbox", nil, "", 405},
		"path with dots":     {"POST", "/x/../echo", nil, "", 404},
		"above the limit":    {"POST", "/echo", io.LimitReader(zeros{}, MaxBody+1), "", 413},
		"no query":           {"GET", "/inbox", nil, "", 400},
		"unknown parameter":  {"GET", "/inbox?inbox=a&since=0&wait=0&x=1", nil, "", 400},
		"parameter twice":    {"GET", "/inbox?inbox=a&inbox=b&since=0&wait=0", nil, "", 400},
		"negative cursor":    {"GET", "/inbox?inbox=a&since=-1&wait=0", nil, "", 400},
		"foreign credential": {"GET", "/inbox?inbox=a&since=0&wait=0", nil, "Basic eA==", 400},
		"poll with a body":   {"GET", "/inbox?inbox=a&since=0&wait=0", strings.NewReader("x"), "", 400},
		"good poll":          {"GET", "/inbox?inbox=a&since=0&wait=0", nil, "", 200},
	} {
		r, err := http.NewRequest(c.method, f.URL()+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		resp, err := raw.Do(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, c.want)
		}
	}
	conn, err := tls.Dial("tcp", f.Addr(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.2 let in")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestWrongPin(t *testing.T) {
	f := start(t, DefaultRules, nil, map[string]Handler{"/echo": echo}, nil)
	c, err := NewClient(f.URL(), pinned.Pin{1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wrong *pinned.WrongPinError
	if _, err := c.Post(t.Context(), "/echo", []byte("secret")); !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	for _, base := range []string{"http://x:1", "https://", "https://u@x:1", "https://x:1/path", "x"} {
		if _, err := NewClient(base, pinned.Pin{1}); err == nil {
			t.Errorf("%q taken", base)
		}
	}
}

// A source that fails too often is denied for a while and the log says which
// and why; rules change while the server runs.
func TestDenied(t *testing.T) {
	var now atomic.Int64
	now.Store(1_800_000_000)
	rules := DefaultRules
	rules.MaxFailures, rules.Window, rules.Deny = 3, Duration(time.Minute), Duration(10*time.Minute)
	f := start(t, rules, func() time.Time { return time.Unix(now.Load(), 0) }, map[string]Handler{
		"/echo": echo,
		"/bad": func(context.Context, string, []byte) ([]byte, error) {
			return nil, Denied(errors.New("unknown signer"))
		},
	}, nil)
	bad := func() error { return second(f.client.Post(t.Context(), "/bad", nil)) }
	good := func() error { return second(f.client.Post(t.Context(), "/echo", nil)) }
	status(t, bad(), 403)
	status(t, bad(), 403)
	now.Add(61) // the window passes, and a success in between clears nothing
	status(t, bad(), 403)
	if err := good(); err != nil {
		t.Fatal(err)
	}
	status(t, bad(), 403)
	status(t, bad(), 403)
	if se := status(t, good(), 429); !se.Denied {
		t.Fatal(se)
	}
	if log := f.log.String(); !strings.Contains(log, "source denied") || !strings.Contains(log, "127.0.0.1") || !strings.Contains(log, "unknown signer") {
		t.Fatal(log)
	}
	now.Add(601)
	if err := good(); err != nil {
		t.Fatal(err)
	}
	rules.MaxFailures = 1
	if err := f.Limiter().SetRules(rules); err != nil {
		t.Fatal(err)
	}
	status(t, bad(), 403)
	status(t, good(), 429)
	if err := f.Limiter().SetRules(Rules{}); err == nil {
		t.Fatal("rules of zero were taken")
	}
}

// Above its limits the server says so at once, to whom and until when, and
// works on.
func TestSaturated(t *testing.T) {
	rules := DefaultRules
	rules.MaxRequests, rules.MaxPolls = 2, 1
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	f := start(t, rules, nil, map[string]Handler{
		"/slow": func(context.Context, string, []byte) ([]byte, error) {
			entered <- struct{}{}
			<-release
			return nil, nil
		},
	}, map[string]PollHandler{
		"/inbox": func(ctx context.Context, _ string, _ Poll) (Batch, error) {
			entered <- struct{}{}
			<-release
			return nil, nil
		},
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := f.client.Post(t.Context(), "/slow", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := f.client.Poll(t.Context(), "/inbox", Poll{Inbox: "a"}); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		<-entered
	}
	for range 20 {
		se := status(t, second(f.client.Post(t.Context(), "/slow", make([]byte, 100000))), 503)
		if se.RetryAfter != 2*time.Second || !se.Temporary() {
			t.Fatal(se)
		}
	}
	status(t, second(f.client.Poll(t.Context(), "/inbox", Poll{Inbox: "a"})), 503)
	close(release)
	wg.Wait()
	if _, err := f.client.Post(t.Context(), "/slow", nil); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionLimit(t *testing.T) {
	rules := DefaultRules
	rules.MaxConnectionsPerSource = 3
	f := start(t, rules, nil, map[string]Handler{"/echo": echo}, nil)
	var held []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", f.Addr())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for {
		f.mu.Lock()
		n := f.conns
		f.mu.Unlock()
		if n == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := second(f.client.Post(t.Context(), "/echo", nil)); err == nil {
		t.Fatal("a fourth connection")
	}
	for _, c := range held {
		c.Close()
	}
	for end := time.Now().Add(5 * time.Second); second(f.client.Post(t.Context(), "/echo", nil)) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("room never came back")
		}
	}
}

func TestPoll(t *testing.T) {
	var mu sync.Mutex
	var box Batch
	arrived := make(chan struct{}, 1)
	f := start(t, DefaultRules, nil, nil, map[string]PollHandler{
		"/inbox": func(ctx context.Context, _ string, p Poll) (Batch, error) {
			if string(p.Proof) != "proof of "+p.Inbox {
				return nil, Denied(errors.New("no proof"))
			}
			ctx, cancel := context.WithTimeout(ctx, p.Wait)
			defer cancel()
			for {
				mu.Lock()
				var out Batch
				for _, m := range box {
					if m.Cursor > p.Since {
						out = append(out, m)
					}
				}
				mu.Unlock()
				if len(out) > 0 {
					return out, nil
				}
				select {
				case <-arrived:
				case <-ctx.Done():
					return nil, nil
				}
			}
		},
	})
	p := Poll{Inbox: "alice", Proof: []byte("proof of alice")}
	if b, err := f.client.Poll(t.Context(), "/inbox", p); err != nil || len(b) != 0 {
		t.Fatal(b, err)
	}
	status(t, second(f.client.Poll(t.Context(), "/inbox", Poll{Inbox: "bob", Proof: p.Proof})), 403)
	put := func(m Message) {
		mu.Lock()
		box = append(box, m)
		mu.Unlock()
		select {
		case arrived <- struct{}{}:
		default:
		}
	}
	// A poll that waits is answered when something comes.
	got := make(chan Batch)
	go func() {
		p := p
		p.Wait = 20 * time.Second
		b, err := f.client.Poll(context.Background(), "/inbox", p)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	put(Message{7, []byte("first")})
	if b := <-got; len(b) != 1 || b[0].Cursor != 7 || string(b[0].Body) != "first" {
		t.Fatal(b)
	}
	// More than fits into one answer comes in several.
	for i := range 4 {
		put(Message{uint64(10 + i), make([]byte, MaxBody/2-100)})
	}
	p.Since = 7
	var cursors []uint64
	for len(cursors) < 4 {
		b, err := f.client.Poll(t.Context(), "/inbox", p)
		if err != nil || len(b) == 0 {
			t.Fatal(b, err)
		}
		for _, m := range b {
			cursors = append(cursors, m.Cursor)
			p.Since = m.Cursor
		}
	}
	if fmt.Sprint(cursors) != "[10 11 12 13]" {
		t.Fatal(cursors)
	}
}

// Close does not wait for polls to end by themselves.
func TestCloseEndsPolls(t *testing.T) {
	entered := make(chan struct{})
	f := start(t, DefaultRules, nil, nil, map[string]PollHandler{
		"/inbox": func(ctx context.Context, _ string, p Poll) (Batch, error) {
			close(entered)
			<-ctx.Done()
			return nil, nil
		},
	})
	go f.client.Poll(context.Background(), "/inbox", Poll{Inbox: "a", Wait: MaxWait})
	<-entered
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLimiterForgets(t *testing.T) {
	rules := DefaultRules
	rules.MaxSources, rules.MaxFailures = 10, 2
	l := NewLimiter(rules, nil, nil)
	l.Fail("denied", errors.New("x"))
	l.Fail("denied", errors.New("x"))
	for i := range 1000 {
		l.Fail(fmt.Sprint(i), errors.New("x"))
	}
	if len(l.sources) > 10 {
		t.Error(len(l.sources), "sources in memory")
	}
	if l.Allow("denied") == nil {
		t.Error("a flood of sources freed one that was denied")
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:55":                     "192.0.2.7",
		"[::ffff:192.0.2.7]:55":            "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:55":        "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff:ffff:1:1]:443": "2001:db8:1:2::/64",
		"[::1]:1":                          "::1",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := SourceOf(a); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestParseRules(t *testing.T) {
	r, err := ParseRules([]byte(`{"MaxFailures": 5, "Deny": "1h"}`))
	if err != nil || r.MaxFailures != 5 || r.Deny != Duration(time.Hour) || r.Window != DefaultRules.Window {
		t.Fatal(r, err)
	}
	for _, bad := range []string{`{"MaxFailure": 5}`, `{"Deny": 5}`, `{"MaxFailures": 0}`, `{} {}`, ``} {
		if _, err := ParseRules([]byte(bad)); err == nil {
			t.Errorf("%s taken", bad)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	b, _ := encodeBatch(Batch{{1, []byte("a")}, {5, nil}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		batch, err := decodeBatch(data, 0)
		if err != nil {
			return
		}
		again, err := encodeBatch(batch)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("% x encoded again as % x, %v", data, again, err)
		}
	})
}
