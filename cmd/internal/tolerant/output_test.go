package tolerant

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// listener is an output interface with what it had done: its disk, and what it
// said.
type listener struct {
	*site
	out    *Output
	disk   map[envelope.Hash]api.Issued
	full   bool // nothing can be kept
	alarms []api.Alarm
	asked  []Fetch
}

func newListener(t testing.TB, enterprises ...uint64) *listener {
	l := &listener{site: newSite(t), disk: map[envelope.Hash]api.Issued{}}
	if len(enterprises) == 0 {
		enterprises = []uint64{1, 2}
	}
	l.begin(enterprises...)
	return l
}

// begin starts it, with what is on the disk.
func (l *listener) begin(enterprises ...uint64) {
	l.out = NewOutput(OutputConfig{State: l.sys.State, Site: "server-3", Enterprises: enterprises})
	for _, x := range l.disk {
		l.do(l.out.Resume(l.now, x))
	}
}

func (l *listener) do(e OutputEffects) {
	l.t.Helper()
	for _, k := range e.Keep {
		if l.full {
			continue
		}
		l.disk[k.Issued.Request] = k.Issued
		l.do(l.out.Kept(l.now, k.Issued.Request, k.Version))
	}
	for _, r := range e.Forget {
		delete(l.disk, r)
	}
	l.alarms = append(l.alarms, e.Alarms...)
	l.asked = append(l.asked, e.Fetch...)
}

func (l *listener) hear(packets ...Packet) {
	l.t.Helper()
	for _, p := range packets {
		l.do(l.out.Packet(l.now, p))
	}
}

// told are the alarms since it was asked last: device and text.
func (l *listener) told() string {
	var out []string
	for _, a := range l.alarms {
		out = append(out, a.Device+": "+a.Text)
	}
	l.alarms = nil
	return strings.Join(out, "\n")
}

// combined is what a combiner makes of a task. spoil changes its signatures.
func (s *site) combined(a *ledgertest.Authority, p Packet, device string, spoil ...func(*firmware.Combined)) Packet {
	s.t.Helper()
	signatures := s.signatures(a, p)
	h, ok := s.sys.State.HolderOf(a.Dealing.Key.ID, device)
	if !ok {
		s.t.Fatalf("%s is no machine of the key", device)
	}
	c := firmware.Combined{
		Enterprise: p.Enterprise, Distributor: p.Distributor, Task: p.Task, Request: p.Request, Key: a.Dealing.Key.ID, Device: device,
		Share: h.Share, Number: h.Index, Signatures: signatures, Wrong: []uint64{}, Officers: []string{}, Made: s.now,
	}
	for range signatures {
		c.Combinations = append(c.Combinations, make(grouping.Combination, a.Dealing.Key.T))
		for i := range c.Combinations[len(c.Combinations)-1] {
			c.Combinations[len(c.Combinations)-1][i] = grouping.Term{Calculator: uint64(i + 1), Key: 1}
		}
	}
	for _, f := range spoil {
		f(&c)
	}
	body, err := envelope.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, s.sys.Devices[device].Sign, envelope.Header{
		Type: firmware.TypeCombined, Version: firmware.MessageVersion, System: s.sys.State.System(), Key: a.Dealing.Key.ID, Epoch: 1,
		LedgerHead: s.sys.State.Head(), Created: s.now, Expires: s.now + 3600,
	}, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return Packet{
		Kind: KindCombined, Site: "server-1", Enterprise: p.Enterprise, Distributor: p.Distributor, Task: p.Task, Request: p.Request, Device: device, Message: raw,
	}
}

// signatures are the right ones, of the whole key.
func (s *site) signatures(a *ledgertest.Authority, p Packet) [][]byte {
	s.t.Helper()
	u, err := envelope.Parse(p.Message)
	if err != nil {
		s.t.Fatal(err)
	}
	var req document.Request
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &req); err != nil {
		s.t.Fatal(err)
	}
	checked, err := document.CheckIn(s.sys.State, &req, req.Created)
	if err != nil {
		s.t.Fatal(err)
	}
	x, err := checked.EncodedMessages(u.UnverifiedDigest())
	if err != nil {
		s.t.Fatal(err)
	}
	var out [][]byte
	for _, em := range x {
		y := new(big.Int).Exp(new(big.Int).SetBytes(em), a.Whole.D, a.Whole.N)
		out = append(out, y.FillBytes(make([]byte, len(a.Dealing.Key.Public.N))))
	}
	return out
}

func (s *site) over(a *ledgertest.Authority, p Packet) Packet {
	return Packet{Kind: KindDone, Site: "server-2", Enterprise: p.Enterprise, Distributor: p.Distributor, Task: p.Task, Request: p.Request, Signatures: s.signatures(a, p)}
}

func spoilt(n int) func(*firmware.Combined) {
	return func(c *firmware.Combined) { c.Signatures[n][7] ^= 1 }
}

// certificates checks what is on the disk under the authority's root.
func (l *listener) certificates(a *ledgertest.Authority, request envelope.Hash, n int) api.Issued {
	l.t.Helper()
	x, ok := l.disk[request]
	if !ok || len(x.Documents) != n || len(x.Signatures) != n {
		l.t.Fatalf("kept: %v, %d documents", ok, len(x.Documents))
	}
	root, err := x509.ParseCertificate(a.Dealing.Key.Certificate)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, der := range x.Documents {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			err = cert.CheckSignatureFrom(root)
		}
		if err != nil {
			l.t.Error(err)
		}
	}
	return x
}

// TestOutput: signatures are verified and the certificates kept once, of one
// request and of a batch; who sent wrong ones is named; and the distributor's
// word ends it.
func TestOutput(t *testing.T) {
	for _, n := range []int{1, 5} {
		for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS256} {
			if n == 1 && alg == threshold.PS256 {
				continue
			}
			t.Run(fmt.Sprintf("%d documents, %s", n, alg), func(t *testing.T) {
				l := newListener(t)
				raw := l.request(l.a)
				if n > 1 {
					if !slices.Contains(l.a.Dealing.Key.Algorithms, string(alg)) {
						t.Skip("the key does not sign with it")
					}
					raw = coordtest.BatchRequest(t, l.sys, l.a, n, alg, l.now, 3600)
				}
				p := l.task(l.a, 1, raw)
				l.hear(p, p, l.combined(l.a, p, "device-4", spoilt(n-1)))
				if told := l.told(); !strings.HasPrefix(told, "device-4: ") || !strings.Contains(told, "combiner 1 (device-4) of enterprise 1 sent a signature that does not verify, in task 1 of distributor 2") || strings.Contains(told, "\n") {
					t.Errorf("%q", told)
				}
				if len(l.disk) != 0 {
					t.Fatal("a wrong signature is kept")
				}
				good := l.combined(l.a, p, "device-5")
				l.hear(l.combined(l.a, p, "device-4", spoilt(0)), good, good)
				x := l.certificates(l.a, p.Request, n)
				if !slices.Equal(x.Combiners, []string{"device-5"}) || !slices.Equal(x.Wrong, []string{"device-4"}) || !bytes.Equal(x.Message, raw) || x.Done != 0 || x.Seen != l.now || x.Server != "server-3" {
					t.Errorf("%+v", x)
				}
				l.now += 3
				l.hear(l.over(l.a, p), l.over(l.a, p))
				if x = l.certificates(l.a, p.Request, n); x.Done != l.now || x.Silent != 0 {
					t.Errorf("done %d, silent %d", x.Done, x.Silent)
				}
				l.now += 2 * patience
				l.do(l.out.Tick(l.now))
				if told := l.told(); told != "" {
					t.Errorf("told: %s", told)
				}
				if l.out.issued[p.Request].record != nil || len(l.out.open)+l.out.load[1].tasks+l.out.load[1].octets+l.out.shelf(l.out.issued[p.Request]).fresh.octets != 0 {
					t.Error("what is settled and durable is in memory still")
				}
				// Later, too, a combiner that lies is named; it is another one's now.
				l.hear(l.combined(l.a, p, "device-4", spoilt(0)), l.combined(l.a, p, "device-5", spoilt(0)))
				if told := l.told(); !strings.Contains(told, "device-5") || strings.Contains(told, "\n") {
					t.Errorf("%q", told)
				}
			})
		}
	}
}

// TestOutputSilence: a distributor that has a certificate signed and says nothing
// of it is told of, once, and the certificate is there. Nobody but he and the
// combiners need have sent anything.
func TestOutputSilence(t *testing.T) {
	l := newListener(t)
	p := l.task(l.a, 1, l.request(l.a))
	l.hear(p, l.combined(l.a, p, "device-4"))
	l.now += patience - 1
	l.do(l.out.Tick(l.now))
	if told := l.told(); told != "" {
		t.Errorf("too early: %s", told)
	}
	l.now++
	l.do(l.out.Tick(l.now))
	if told := l.told(); !strings.Contains(told, "distributor 2 of enterprise 1 is silent about request "+p.Request.String()) {
		t.Errorf("%q", told)
	}
	if x := l.certificates(l.a, p.Request, 1); x.Silent != l.now || x.Done != 0 {
		t.Errorf("%+v", x)
	}
	l.now++
	l.do(l.out.Tick(l.now))
	l.begin(1)
	l.now += patience
	l.do(l.out.Tick(l.now))
	if told := l.told(); told != "" {
		t.Errorf("told again: %s", told)
	}
	// A word that is not of these signatures is none.
	q := l.task(l.a, 2, l.request(l.a))
	not := l.over(l.a, q)
	not.Signatures[0][3] ^= 1
	l.hear(q, not, l.combined(l.a, q, "device-5"), not)
	l.now += patience
	l.do(l.out.Tick(l.now))
	if told := l.told(); !strings.Contains(told, "silent") {
		t.Errorf("%q", told)
	}
}

// TestOutputMissed: what was made of a task that did not come is asked for at the
// combiner's site, which has copies even if the distributor said at once that it
// is over; forged packets ask nobody for anything.
func TestOutputMissed(t *testing.T) {
	l := newListener(t)
	p := l.task(l.a, 1, l.request(l.a))
	made := l.combined(l.a, p, "device-4")
	forged := made
	forged.Message = bytes.Clone(made.Message)
	forged.Message[len(forged.Message)-1] ^= 1
	other := made
	other.Task = 2
	stranger := made
	stranger.Message = p.Message
	old := l.combined(l.a, p, "device-4", func(c *firmware.Combined) { c.Made = l.now - firmware.TaskPeriod })
	l.hear(forged, other, stranger, old)
	if len(l.asked) != 0 {
		t.Fatalf("asked for %+v", l.asked)
	}
	l.hear(made, made)
	want := Fetch{"server-1", TaskName{1, 2, 1, p.Request}}
	if row, _ := l.sys.State.Device("device-4"); row.Server != want.Site {
		want.Site = row.Server
	}
	if !slices.Equal(l.asked, []Fetch{want}) {
		t.Fatalf("%+v", l.asked)
	}
	l.now += copyAgain
	l.hear(made)
	if len(l.asked) != 2 {
		t.Errorf("asked %d times", len(l.asked))
	}
	data, err := MarshalCopies([]Packet{p, made})
	if err != nil {
		t.Fatal(err)
	}
	copies, err := UnmarshalCopies(data, want.TaskName)
	if err != nil || len(copies) != 2 {
		t.Fatal(err)
	}
	if _, err := UnmarshalCopies(data, TaskName{1, 2, 3, p.Request}); err == nil {
		t.Error("copies of another task")
	}
	l.hear(copies...)
	l.certificates(l.a, p.Request, 1)
	l.now += copyAgain
	l.hear(made)
	if len(l.asked) != 2 {
		t.Error("asked for what is here")
	}

	// A site's word: only what is not here is asked for.
	e := l.out.Combined(l.now, "server-1", []TaskName{want.TaskName, {1, 2, 9, envelope.Hash{9}}, {7, 2, 9, envelope.Hash{9}}})
	if len(e.Fetch) != 1 || e.Fetch[0].Task != 9 {
		t.Errorf("%+v", e.Fetch)
	}
	if e := l.out.Combined(l.now, "server-1", make([]TaskName, maxCombined+9)); len(e.Fetch) > maxCombined {
		t.Errorf("%d", len(e.Fetch))
	}
	// Of many that are missing some are asked for.
	l.asked = nil
	l.now += copyAgain
	l.do(l.out.Tick(l.now))
	for i := range uint64(maxCopying + 20) {
		l.hear(l.combined(l.a, p, "device-4", func(c *firmware.Combined) { c.Task, c.Request = i, envelope.Hash{1} }).of(i, envelope.Hash{1}))
	}
	if len(l.asked) != maxCopying {
		t.Errorf("%d copies are asked for at once", len(l.asked))
	}
}

func (p Packet) of(task uint64, request envelope.Hash) Packet {
	p.Task, p.Request = task, request
	return p
}

// TestOutputTwoTasks: a number that stands for two requests is told of once, and
// both are watched: or a distributor could hide one behind the other.
func TestOutputTwoTasks(t *testing.T) {
	l := newListener(t)
	p, q, r := l.task(l.a, 1, l.request(l.a)), l.task(l.a, 1, l.request(l.a)), l.task(l.b, 1, l.request(l.b))
	l.hear(p, p, r)
	if told := l.told(); told != "" {
		t.Errorf("told: %s", told)
	}
	l.hear(q, q, p, l.task(l.a, 1, l.request(l.a)))
	if told := l.told(); !strings.Contains(told, "distributor 2 of enterprise 1 gave number 1 to two requests, "+p.Request.String()+" and "+q.Request.String()) || strings.Contains(told, "\n") {
		t.Errorf("%q", told)
	}
	l.hear(l.combined(l.a, q, "device-4"), l.combined(l.a, p, "device-5"))
	l.certificates(l.a, p.Request, 1)
	l.certificates(l.a, q.Request, 1)
	if told := l.told(); told != "" {
		t.Errorf("told: %s", told)
	}
	// What is not as the distributor says.
	bad := l.task(l.a, 3, l.request(l.a), func(d *firmware.Distribution) { d.Hash[0] ^= 1 })
	l.hear(bad, bad, l.combined(l.a, bad, "device-4"))
	if told := l.told(); !strings.Contains(told, "illegal task 3 of distributor 2") || strings.Contains(told, "\n") {
		t.Errorf("%q", told)
	}
	if _, ok := l.disk[bad.Request]; ok {
		t.Error("an illegal task was finished")
	}
	// The same request under another number, before and after it was signed.
	raw := l.request(l.a)
	p, q = l.task(l.a, 4, raw), l.task(l.a, 5, raw)
	l.hear(p, q, l.combined(l.a, q, "device-4"))
	if x := l.certificates(l.a, p.Request, 1); x.Task != 5 || slices.ContainsFunc(l.out.open, func(t *task) bool { return t.about.Digest == p.Request }) {
		t.Errorf("task %d, or it waits still", x.Task)
	}
	l.hear(l.combined(l.a, p, "device-5", spoilt(0)))
	if told := l.told(); !strings.Contains(told, "device-5") {
		t.Errorf("%q", told)
	}
}

// TestOutputNotConcerned: packets that anybody may have made up change nothing.
func TestOutputNotConcerned(t *testing.T) {
	l := newListener(t, 1)
	for name, spoil := range map[string]func(*Packet){
		"another signer":  func(p *Packet) { p.Distribution[len(p.Distribution)-1] ^= 1 },
		"another number":  func(p *Packet) { p.Task = 77 },
		"another request": func(p *Packet) { p.Message = l.request(l.a) },
		"another name":    func(p *Packet) { p.Request[0] ^= 1 },
		"distributor":     func(p *Packet) { p.Distributor = 1 },
		"malformed":       func(p *Packet) { p.Text = "hello" },
		"forged request":  func(p *Packet) { p.Message[len(p.Message)-1] ^= 1 },
	} {
		p := l.task(l.a, 5, l.request(l.a))
		spoil(&p)
		l.hear(p)
		if len(l.out.tasks)+len(l.out.open)+len(l.alarms) > 0 {
			t.Fatalf("%s: %d tasks, %v", name, len(l.out.tasks), l.alarms)
		}
	}
	r := l.task(l.b, 1, l.request(l.b)) // of an enterprise that it does not listen to
	l.hear(r, l.combined(l.b, r, "device-4"))
	p := l.task(l.a, 5, l.request(l.a))
	l.hear(p)
	for name, spoil := range map[string]func(*firmware.Combined){
		"task":       func(c *firmware.Combined) { c.Task = 6 },
		"request":    func(c *firmware.Combined) { c.Request[0] ^= 1 },
		"enterprise": func(c *firmware.Combined) { c.Enterprise = 2 },
		"number":     func(c *firmware.Combined) { c.Number = 2 },
		"count": func(c *firmware.Combined) {
			c.Signatures, c.Combinations = append(c.Signatures, c.Signatures[0]), append(c.Combinations, c.Combinations[0])
		},
	} {
		x := l.combined(l.a, p, "device-4", spoil)
		l.hear(x)
		if len(l.disk)+len(l.alarms)+len(l.asked) > 0 {
			t.Fatalf("%s: %d kept, %v, %v", name, len(l.disk), l.alarms, l.asked)
		}
	}
	l.hear(l.combined(l.a, p, "device-4"))
	l.certificates(l.a, p.Request, 1)
}

func holderOf(t *testing.T, s *site, device string) ledger.Holder {
	t.Helper()
	h, ok := s.sys.State.HolderOf(s.a.Dealing.Key.ID, device)
	if !ok {
		t.Fatal("no holder")
	}
	return h
}
