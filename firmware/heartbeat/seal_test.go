package heartbeat

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// rig is a system in which device-1 has a policy, and an instance of it.
type rig struct {
	*ledgertest.System
	instance *Instance
}

func newRig(t testing.TB, options ...ledgertest.Option) *rig {
	t.Helper()
	i, err := NewInstance(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := ledgertest.Policy()
	p.Sources = append(p.Sources, "device-2")
	options = append([]ledgertest.Option{ledgertest.WithHeartbeat(p, "device-1"), ledgertest.WithInstance("device-1", i.ID())}, options...)
	return &rig{ledgertest.New(t, options...), i}
}

// challenge is one that the instance has proved.
func (r *rig) challenge(t testing.TB) *Challenge {
	t.Helper()
	c := &Challenge{Device: "device-1", Counter: 1, Nonce: [32]byte{1}, Log: 3, LogHead: envelope.Hash{2}, Begin: []string{"message-1"}}
	if err := r.instance.Complete(rand.Reader, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) sealChallenge(t testing.TB, token *ecdsa.PrivateKey, to []string, c *Challenge) []byte {
	t.Helper()
	frame, err := SealChallenge(rand.Reader, token, r.State, to, c, r.Now)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// certify makes a beat key and its certificate.
func (r *rig) certify(t testing.TB, source, by string, epoch uint64) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key := ledgertest.NewSigner(t, fmt.Sprint("beat key ", source, by, epoch))
	cert, err := SignKey(rand.Reader, r.Sources[by].Sign, Key{Source: source, Epoch: epoch, Sign: ledgertest.SPKI(t, key.Public()), Created: r.Now})
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func (r *rig) sealBeat(t testing.TB, key *ecdsa.PrivateKey, b Beat) []byte {
	t.Helper()
	frame, err := SealBeat(rand.Reader, key, r.State, &Out{Beat: b, To: r.instance.Agree().PublicKey(), Re: [16]byte{7}}, r.Now)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func refused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("error %v, want one that says %q", err, why)
	}
}

func TestChallengeIsForItsSourcesAlone(t *testing.T) {
	r := newRig(t)
	c := r.challenge(t)
	to := []string{"message-1", "satellite-1", "device-2"}
	frame := r.sealChallenge(t, r.Devices["device-1"].Sign, to, c)
	for id, kx := range map[string]ecdh.KeyExchanger{
		"message-1": r.Sources["message-1"].Agree, "satellite-1": r.Sources["satellite-1"].Agree, "device-2": r.Devices["device-2"].Agree,
		"sequence-1": r.Sources["sequence-1"].Agree, "device-1": r.Devices["device-1"].Agree, "server-1": r.Servers["server-1"].Agree,
	} {
		v, err := OpenChallenge(r.State, frame, kx)
		if (err == nil) != slices.Contains(to, id) {
			t.Errorf("opened by %s: %v", id, err)
		}
		if err == nil && (v.Counter != c.Counter || v.Nonce != c.Nonce || v.Log != c.Log || v.Challenge.Instance() != r.instance.ID() ||
			!v.agree.Equal(r.instance.Agree().PublicKey())) {
			t.Errorf("%s reads %+v", id, v)
		}
	}
}

func TestChallengeForgery(t *testing.T) {
	r := newRig(t)
	other := newRig(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	kx := r.Sources["message-1"].Agree
	to := []string{"message-1"}
	token := r.Devices["device-1"].Sign

	// The boot key lies on the disk.
	_, err := OpenChallenge(r.State, r.sealChallenge(t, r.Devices["device-1"].Boot, to, r.challenge(t)), kx)
	if err == nil {
		t.Error("the boot key challenges")
	}
	// A person, or a source.
	for _, key := range []*ecdsa.PrivateKey{r.Persons["officer-1a"].Card().Sign, r.Sources["message-1"].Sign, ledgertest.NewSigner(t, "stranger")} {
		_, err = OpenChallenge(r.State, r.sealChallenge(t, key, to, r.challenge(t)), kx)
		refused(t, err, "no device")
	}
	_, err = OpenChallenge(r.State, r.sealChallenge(t, r.Devices["device-2"].Sign, to, r.challenge(t)), kx)
	refused(t, err, "in the name of")
	// A system's keys are the same here, the system is not.
	_, err = OpenChallenge(r.State, other.sealChallenge(t, token, to, r.challenge(t)), kx)
	refused(t, err, "of system")

	for name, change := range map[string]func(*Challenge){
		"counter": func(c *Challenge) { c.Counter++ },
		"nonce":   func(c *Challenge) { c.Nonce[0]++ },
		"log":     func(c *Challenge) { c.Log++ },
		"head":    func(c *Challenge) { c.LogHead[5]++ },
		"begin":   func(c *Challenge) { c.Begin = nil },
		"proof":   func(c *Challenge) { c.Proof[len(c.Proof)-1] ^= 1 },
		"sign":    func(c *Challenge) { c.Sign = other.challenge(t).Sign },
		"agree":   func(c *Challenge) { c.Agree = other.challenge(t).Agree },
	} {
		c := r.challenge(t)
		change(c)
		_, err := OpenChallenge(r.State, r.sealChallenge(t, token, to, c), kx)
		if err == nil || !strings.Contains(err.Error(), "proved") {
			t.Errorf("%s changed after the proof: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Challenge){
		"no point":   func(c *Challenge) { c.Agree[10] ^= 1 },
		"compressed": func(c *Challenge) { c.Sign = append([]byte{2}, c.Sign[1:33]...) },
		"short":      func(c *Challenge) { c.Agree = c.Agree[:64] },
		"none":       func(c *Challenge) { c.Sign = nil },
	} {
		c := r.challenge(t)
		change(c)
		if _, err := OpenChallenge(r.State, r.sealChallenge(t, token, to, c), kx); err == nil || !strings.Contains(err.Error(), "instance's") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Another message of the same device.
	frame, err := seal(rand.Reader, token, header(r.State, TypeBeat, r.Now), r.challenge(t), []*ecdh.PublicKey{kx.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenChallenge(r.State, frame, kx)
	refused(t, err, "of type")
	if _, err := SealChallenge(rand.Reader, token, r.State, []string{"nobody"}, r.challenge(t), r.Now); err == nil {
		t.Error("sealed to nobody")
	}
}

func TestBeat(t *testing.T) {
	r := newRig(t)
	key, cert := r.certify(t, "message-1", "message-1", 2)
	b := Beat{Source: "message-1", Device: "device-1", Instance: r.instance.ID(), Kind: KindMessage, Nonce: [32]byte{1}, Slot: 4}
	known := map[string]*VerifiedKey{}

	_, _, err := OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, key, b), known)
	refused(t, err, "not known yet")
	b.Key = cert
	frame := r.sealBeat(t, key, b)
	// Servers route by the device's own key, and it opens nothing.
	h, err := envelope.Peek(frame)
	if err != nil {
		t.Fatal(err)
	}
	long, err := envelope.KeyIDOf(r.Devices["device-1"].Agree.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if len(h.To) != 2 || h.To[1] != long || h.Re != [16]byte{7} {
		t.Fatalf("header %+v", h)
	}
	if _, err := envelope.Open(frame, r.Devices["device-1"].Agree); err == nil {
		t.Fatal("the device's long-lived key opens a beat")
	}
	got, v, err := OpenBeat(r.State, r.instance, "device-1", frame, known)
	if err != nil || got.Slot != 4 || v.Epoch != 2 {
		t.Fatalf("%+v, %+v, %v", got, v, err)
	}
	known["message-1"] = v
	b.Key = nil
	if _, _, err := OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, key, b), known); err != nil {
		t.Fatal(err)
	}
	// It goes on to a third key, and never back.
	third, cert3 := r.certify(t, "message-1", "message-1", 3)
	b.Key = cert3
	_, v, err = OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, third, b), known)
	if err != nil || v.Epoch != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	known["message-1"] = v
	_, _, err = OpenBeat(r.State, r.instance, "device-1", frame, known)
	refused(t, err, "has gone on to 3")
	b.Key = nil
	if _, _, err := OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, key, b), known); err == nil {
		t.Error("the key before is still good")
	}

	// A device answers with its token's key, and needs no certificate.
	answer := Beat{Source: "device-2", Device: "device-1", Instance: r.instance.ID(), Kind: KindAnswer, Nonce: [32]byte{1}}
	if _, _, err := OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, r.Devices["device-2"].Sign, answer), known); err != nil {
		t.Error(err)
	}
}

func TestBeatForgery(t *testing.T) {
	r := newRig(t)
	key, cert := r.certify(t, "message-1", "message-1", 1)
	good := Beat{Source: "message-1", Device: "device-1", Instance: r.instance.ID(), Kind: KindMessage, Nonce: [32]byte{1}, Slot: 4, Key: cert}
	change := func(f func(*Beat)) Beat {
		b := good
		f(&b)
		return b
	}
	_, byOther := r.certify(t, "message-1", "satellite-1", 1)
	_, ofOther := r.certify(t, "satellite-1", "satellite-1", 1)
	_, zero := r.certify(t, "message-1", "message-1", 0)
	for name, c := range map[string]struct {
		key  *ecdsa.PrivateKey
		beat Beat
	}{
		"by a stranger":              {ledgertest.NewSigner(t, "stranger"), good},
		"by the device":              {r.Devices["device-1"].Sign, good},
		"by the identity key":        {r.Sources["message-1"].Sign, good},
		"of no source":               {key, change(func(b *Beat) { b.Source = "nobody" })},
		"of another source":          {key, change(func(b *Beat) { b.Source = "satellite-1" })},
		"of a device":                {key, change(func(b *Beat) { b.Source = "device-2" })},
		"of a device, by its boot":   {r.Devices["device-2"].Boot, change(func(b *Beat) { b.Source, b.Key = "device-2", nil })},
		"for another device":         {key, change(func(b *Beat) { b.Device = "device-2" })},
		"for another instance":       {key, change(func(b *Beat) { b.Instance[3]++ })},
		"certified by another":       {key, change(func(b *Beat) { b.Key = byOther })},
		"with another's certificate": {key, change(func(b *Beat) { b.Key = ofOther })},
		"with no epoch":              {key, change(func(b *Beat) { b.Key = zero })},
		"with half a certificate":    {key, change(func(b *Beat) { b.Key = cert[:len(cert)/2] })},
	} {
		if b, _, err := OpenBeat(r.State, r.instance, "device-1", r.sealBeat(t, c.key, c.beat), nil); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
	// To another instance of the same device; of another system.
	again := newRig(t)
	if _, _, err := OpenBeat(r.State, again.instance, "device-1", r.sealBeat(t, key, good), nil); err == nil {
		t.Error("another instance opens it")
	}
	other := &rig{newRig(t, func(g *ledger.Genesis) { g.Name = "Another system" }).System, r.instance}
	_, _, err := OpenBeat(r.State, r.instance, "device-1", other.sealBeat(t, key, good), nil)
	refused(t, err, "of system")
	// Each bit counts.
	frame := r.sealBeat(t, key, good)
	for i := range frame {
		broken := slices.Clone(frame)
		broken[i] ^= 1 << (i % 8)
		if _, _, err := OpenBeat(r.State, r.instance, "device-1", broken, nil); err == nil {
			t.Fatalf("bit %d of octet %d does not count", i%8, i)
		}
	}
}

func TestVerifyKey(t *testing.T) {
	r := newRig(t)
	src, _ := r.State.Source("message-1")
	key, cert := r.certify(t, "message-1", "message-1", 5)
	k, err := VerifyKey(src, cert)
	if err != nil || k.Epoch != 5 || k.Source != "message-1" || !k.Public.Equal(key.Public()) {
		t.Fatalf("%+v, %v", k, err)
	}
	otherSrc, _ := r.State.Source("satellite-1")
	if _, err := VerifyKey(otherSrc, cert); err == nil {
		t.Error("another source's certificate is taken")
	}
	_, wrong := r.certify(t, "satellite-1", "message-1", 5)
	_, err = VerifyKey(src, wrong)
	refused(t, err, "where one of message-1")
	for i := range cert {
		broken := slices.Clone(cert)
		broken[i] ^= 0x10
		if _, err := VerifyKey(src, broken); err == nil {
			t.Fatalf("octet %d does not count", i)
		}
	}
	raw, err := SignKey(rand.Reader, r.Sources["message-1"].Sign, Key{Source: "message-1", Epoch: 1, Sign: []byte("no key"), Created: r.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyKey(src, raw); err == nil {
		t.Error("what is no key is certified")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	i, err := NewInstance(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := i.sign.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	cfg := StationConfig{ID: "sequence-1", Secret: secret}
	r := newRig(t)
	st, err := NewStation(cfg, r.State, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.runs["device-1"] = &run{begun: []*begun{{chain: []envelope.Hash{envelope.Hash(secret)}}}}
	var hidden []string
	for _, b := range [][]byte{d, i.Agree().Bytes(), secret} {
		for _, verb := range []string{"%s", "%x", "%X", "%v", "%q", "%#v"} {
			hidden = append(hidden, strings.Trim(fmt.Sprintf(verb, b), "[]\""))
		}
		j, _ := json.Marshal(b)
		hidden = append(hidden, strings.Trim(string(j), `"`))
	}
	hidden = append(hidden, i.sign.D.String(), fmt.Sprintf("%x", i.sign.D))
	for _, x := range []any{i, *i, struct{ I *Instance }{i}, cfg, &cfg, struct{ C StationConfig }{cfg}, st, map[string]*Station{"a": st}, []any{i, cfg, st}} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%t", "%T"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		j, err := json.Marshal(x)
		fmt.Fprintf(&out, "%s %v\n", j, err)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "x", x)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "x", x)
		for _, h := range hidden {
			if strings.Contains(out.String(), h) {
				t.Errorf("%T prints %q", x, h)
			}
		}
	}
}
