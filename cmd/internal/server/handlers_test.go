package server

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func asStatus(err error) (*web.StatusError, bool) {
	var status *web.StatusError
	ok := errors.As(err, &status)
	return status, ok
}

// refused checks the status of a refusal and a word of its text.
func refused(t *testing.T, what string, err error, code int, word string) {
	t.Helper()
	if status, ok := asStatus(err); !ok || status.Code != code || !strings.Contains(status.Message, word) {
		t.Errorf("%s: %v, not %d %q", what, err, code, word)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	program := r.sys.Persons[ledgertest.Program].Software
	raw := coordtest.CertificateRequest(t, r.sys, "set", r.unix(), 3600)
	var accepted api.Accepted
	refused(t, "a request before the ceremony", r.post("server-1", api.PathRequest, raw, &accepted), http.StatusConflict, "no system yet")
	r.commission()

	other := ledgertest.New(t, func(g *ledger.Genesis) { g.Name = "Another" })
	b, err := envelope.Marshal(other.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	body, err := envelope.Marshal(api.System{Bundle: b})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "a system without this server's keys", r.send("server-1", api.PathSystem, body, &api.SystemTaken{}), http.StatusForbidden, "server-1")
	refused(t, "nonsense", r.send("server-1", api.PathRequest, []byte("nonsense"), &accepted), http.StatusBadRequest, "")
	stranger := coordtest.CertificateRequestBy(t, r.sys, ledgertest.Program, ledgertest.NewSigner(t, "stranger"), "set", r.unix(), 3600)
	refused(t, "a stranger's request", r.post("server-1", api.PathRequest, stranger, &accepted), http.StatusForbidden, "")
	late := coordtest.CertificateRequestBy(t, r.sys, ledgertest.Program, program, "set", r.unix()-7200, 3600)
	refused(t, "an expired request", r.post("server-1", api.PathRequest, late, &accepted), http.StatusConflict, "expired")
	left := func(seconds int64) []byte {
		return coordtest.CertificateRequestBy(t, r.sys, ledgertest.Program, program, "set", r.unix()-3600+seconds, 3600)
	}
	refused(t, "a request that nobody has time to approve", r.post("server-1", api.PathRequest, left(minLeft-1), &accepted), http.StatusConflict, "ask for 60 s at least (--expires)")
	if err := r.post("server-1", api.PathRequest, left(minLeft+30), &accepted); err != nil {
		t.Errorf("a request that has to be quick: %v", err)
	}
	refused(t, "an unknown path", r.send("server-1", "/v2", nil, &accepted), http.StatusNotFound, "")
	_, err = r.clients["server-1"].Poll(context.Background(), api.PathTracking, web.Poll{Inbox: envelope.Hash{9}.String()})
	refused(t, "an unknown request", err, http.StatusNotFound, "not known")
	_, err = r.clients["server-1"].Poll(context.Background(), api.PathInbox, web.Poll{Inbox: envelope.KeyID{9}.String()})
	refused(t, "a stranger's inbox", err, http.StatusForbidden, "")

	// Twice the same request is one.
	for range 2 {
		if err := r.post("server-1", api.PathRequest, raw, &accepted); err != nil {
			t.Fatal(err)
		}
	}
	// The trail names what was refused, and where it came from.
	trail, err := os.ReadFile(filepath.Join(r.dirs["server-1"], fileAudit))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"msg":"refused","peer":"127.0.0.1"`, `"type":"request"`, `"type":"offer.ask"`} {
		if !strings.Contains(string(trail), want) {
			t.Errorf("the audit log does not hold %s", want)
		}
	}
}

// TestFirewall: a source that fails too often is denied, and with changed rules
// it is not, without a restart.
func TestFirewall(t *testing.T) {
	r := newRig(t)
	r.commission()
	last := error(nil)
	for range web.DefaultRules.MaxFailures + 1 {
		last = r.send("server-1", api.PathRequest, []byte("nonsense"), &api.Accepted{})
	}
	refused(t, "after too many failures", last, http.StatusTooManyRequests, "too many")
	var status api.SystemStatus
	if err := r.send("server-2", api.PathStatus, nil, &status); err != nil {
		t.Errorf("the other site: %v", err)
	}
}

// TestRelay: a ceremony's frames go to the device once, however long it takes
// and however often they are posted; anything else does not go at all.
func TestRelay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	sockets, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	r := &rig{t: t, dirs: map[string]string{"s1": dir}, servers: map[string]*Server{}, rows: map[string]*ledger.Server{}, clients: map[string]*web.Client{}}
	if r.rows["s1"], err = Init(dir, Config{ID: "s1", Name: "Site", HTTPS: freeAddr(t), Links: []string{"unix:" + filepath.Join(sockets, "l")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, Config{ID: "s1", Name: "Site", HTTPS: freeAddr(t), Links: []string{"unix:/x"}}); !errors.Is(err, ErrExists) {
		t.Errorf("a second init: %v", err)
	}
	r.start("s1")
	desk := ledgertest.NewPair(t, "desk")
	deskID, _ := envelope.KeyIDOf(desk.Agree.PublicKey())
	seen := make(chan string, 10)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		link.Keep(ctx, "unix:"+filepath.Join(sockets, "l"), link.Options{ID: "d1"}, func(ctx context.Context, c *link.Conn) error {
			for {
				frame, err := c.Recv(ctx)
				if err != nil {
					return err
				}
				u, err := envelope.Parse(frame)
				if err != nil {
					return err
				}
				seen <- u.Header().Type
				raw, _ := envelope.Sign(rand.Reader, desk.Sign, envelope.Header{Type: ceremony.TypeIdentity, Version: 1, Re: u.Header().ID, To: []envelope.KeyID{deskID}, Created: 1, Expires: 2}, []byte{0xa0})
				sealed, _ := envelope.Seal(rand.Reader, raw, ecdhKeys(desk))
				if err := c.Send(ctx, sealed); err != nil {
					return err
				}
			}
		})
	}()
	frame := func(typ string) []byte {
		raw, err := envelope.Sign(rand.Reader, desk.Sign, envelope.Header{Type: typ, Version: 1, Created: 1, Expires: 2}, []byte{0xa0})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	post := func(device string, frame []byte) ([]byte, error) {
		body, err := envelope.Marshal(api.Relay{Device: device, Frame: frame})
		if err != nil {
			t.Fatal(err)
		}
		var out api.Relayed
		err = r.send("s1", api.PathRelay, body, &out)
		return out.Frame, err
	}
	hello := frame(ceremony.TypeHello)
	var first []byte
	for range 100 { // until the link is up
		if first, err = post("d1", hello); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	again, err2 := post("d1", hello)
	if err != nil || err2 != nil || len(first) == 0 || string(first) != string(again) {
		t.Fatalf("%v %v", err, err2)
	}
	if len(seen) != 1 {
		t.Errorf("the device saw the frame %d times", len(seen))
	}
	_, err = post("d1", frame(firmware.TypeTask))
	refused(t, "a task", err, http.StatusForbidden, "not relayed")
	_, err = post("d2", hello)
	refused(t, "a device without a link", err, http.StatusConflict, "no link")
}

// TestRules: the firewall's rules change while the server runs (A6); rules that
// cannot be read leave the old ones in force.
func TestRules(t *testing.T) {
	r := newRig(t)
	s := r.servers["server-1"]
	path := filepath.Join(r.dirs["server-1"], fileRules)
	if err := os.WriteFile(path, []byte(`{"MaxFailures": 3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reloadRules()
	if got := s.limiter.Rules().MaxFailures; got != 3 {
		t.Errorf("%d failures are allowed", got)
	}
	if err := os.WriteFile(path, []byte(`{"MaxFailure": 5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reloadRules()
	if got := s.limiter.Rules().MaxFailures; got != 3 {
		t.Errorf("after a misspelt rule %d failures are allowed", got)
	}
	// A server that starts with such rules says where they are.
	s.Close()
	for _, bad := range []string{`{"MaxFailure": 5}`, `{"MaxFailures": 0}`, `{"MaxFailures": `, ``} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Start(r.dirs["server-1"], Options{Now: r.clock})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "mend the file, or remove it") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestInboxSets: sets arrive in any order and twice; the latest stands, also
// after a restart. What is not of this site, or for nobody, is refused.
func TestInboxSets(t *testing.T) {
	r := newRig(t)
	r.commission()
	s := r.servers["server-1"]
	card, err := envelope.KeyIDOf(r.sys.Persons["officer-1a"].Card().Agree.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	set := func(revision uint64, items int) *inboxSet {
		x := &inboxSet{Coordinator: "server-2", Request: envelope.Hash{1}, Device: "device-1", Revision: revision, Expires: r.unix() + 3600, Message: []byte("m")}
		for range items {
			x.Items = append(x.Items, inboxEntry{Officer: card, Content: api.InboxItem{Device: "device-1"}})
		}
		return x
	}
	due := func(s *Server) int { keys, _, _ := s.inbox.due(card, 0, r.unix()); return len(keys) }
	for _, step := range []struct {
		set  *inboxSet
		want int
	}{{set(2, 1), 1}, {set(1, 0), 1}, {set(2, 1), 1}, {set(3, 0), 0}, {set(2, 1), 0}, {set(4, 1), 1}} {
		if err := s.takeSet(step.set); err != nil {
			t.Fatal(err)
		}
		if n := due(s); n != step.want {
			t.Errorf("after revision %d the officer has %d items, not %d", step.set.Revision, n, step.want)
		}
	}
	for what, change := range map[string]func(*inboxSet){
		"a device of another site": func(x *inboxSet) { x.Device = "device-4" },
		"an unknown server":        func(x *inboxSet) { x.Coordinator = "server-9" },
		"an unknown officer":       func(x *inboxSet) { x.Items[0].Officer = envelope.KeyID{7} },
	} {
		x := set(9, 1)
		change(x)
		if err := s.takeSet(x); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	s.Close()
	r.start("server-1")
	if n := due(r.servers["server-1"]); n != 1 {
		t.Errorf("after a restart the officer has %d items", n)
	}
}

// TestRegisterRefuses: certificates that are not the authority's do not reach
// devices.
func TestRegisterRefuses(t *testing.T) {
	r := newRig(t)
	r.commission()
	body, err := envelope.Marshal(api.Register{Certificates: [][]byte{r.sys.Keys[ledgertest.KeyCertificates].Ledger.Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "another authority's certificate", r.send("server-1", api.PathRegister, body, &api.Registered{}), http.StatusForbidden, "certificate of")
}

// TestDealingRelay: an invitation and a share come to a device of whatever
// site by whatever server, as its own server's messages, and what the device
// says comes back under its own signature. What it refuses is an error.
func TestDealingRelay(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	ask := func(server, path string, in any) (api.DeviceAnswer, error) {
		body, err := envelope.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out api.DeviceAnswer
		return out, r.send(server, path, body, &out)
	}
	for _, device := range []string{"device-1", "device-4"} {
		for _, typ := range []string{firmware.TypeInviteAsk, firmware.TypeDeal} {
			r.answer(device, typ, func(payload []byte) (string, any) {
				if typ == firmware.TypeInviteAsk {
					var in firmware.InviteAsk
					if err := envelope.Unmarshal(payload, &in); err != nil || in.Enterprise != 7 {
						t.Errorf("%+v, %v", in, err)
					}
					return firmware.TypeInvited, firmware.Invited{Invitation: []byte("invitation")}
				}
				var in firmware.Deal
				if err := envelope.Unmarshal(payload, &in); err != nil || string(in.Dealing) != "dealing" || string(in.Sealed) != "sealed" {
					t.Errorf("%+v, %v", in, err)
				}
				return firmware.TypeDealt, firmware.Dealt{Device: device}
			})
		}
		row, _ := r.sys.State.Device(device)
		key, err := envelope.ParseSigningKey(row.Sign)
		if err != nil {
			t.Fatal(err)
		}
		for path, in := range map[string]any{
			api.PathInvite:  api.Invite{Device: device, Enterprise: 7},
			api.PathInstall: api.Install{Device: device, Dealing: []byte("dealing"), Sealed: []byte("sealed")},
		} {
			out, err := ask("server-1", path, in)
			if err != nil {
				t.Fatal(err)
			}
			u, err := envelope.Parse(out.Answer)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.Verify(key); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := ask("server-1", api.PathInvite, api.Invite{Device: "device-9"})
	refused(t, "an unknown device", err, http.StatusConflict, "not in the ledger")
	r.answer("device-2", firmware.TypeInviteAsk, func([]byte) (string, any) {
		return firmware.TypeRefusal, firmware.Refusal{Device: "device-2", Code: firmware.CodeMessage, Text: "too many invitations"}
	})
	_, err = ask("server-2", api.PathInvite, api.Invite{Device: "device-2", Enterprise: 7})
	refused(t, "a device that refuses", err, http.StatusConflict, "device device-2: too many invitations")
	_, err = ask("server-1", api.PathInstall, api.Install{Device: "device-1", Sealed: make([]byte, maxDealing+1)})
	refused(t, "a share that is too large", err, http.StatusBadRequest, "at most")
	for range maxDealings {
		r.servers["server-1"].dealings <- struct{}{}
	}
	_, err = ask("server-1", api.PathInvite, api.Invite{Device: "device-1", Enterprise: 7})
	refused(t, "more than it takes at once", err, http.StatusServiceUnavailable, "too many")
}
