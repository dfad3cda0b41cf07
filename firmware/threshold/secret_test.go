package threshold_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// leaks reports in which of the usual spellings text shows the secret.
func leaks(text string, secret []byte) string {
	n := new(big.Int).SetBytes(secret)
	for spelling, s := range map[string]string{
		"raw": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret),
		"spaced hex": fmt.Sprintf("% x", secret), "decimal bytes": strings.Trim(fmt.Sprint(secret), "[]"),
		"quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`), "go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"),
		"number": n.String(), "octal": strings.Trim(fmt.Sprintf("%o", secret), "[]"), "binary": strings.Trim(fmt.Sprintf("%b", secret), "[]"),
	} {
		if strings.Contains(text, s) {
			return spelling
		}
	}
	return ""
}

// TestRedaction prints every secret type in every verb, by value and pointer,
// alone and inside exported and unexported fields, in JSON, XML and slog.
func TestRedaction(t *testing.T) {
	k := testKey(2048, true)
	p, q := k.Primes()
	value := bytes.Repeat([]byte{0xa7, 0x31, 0x5c, 0xee}, 8)
	secret := threshold.NewSecret(bytes.Clone(value))
	seed := threshold.Seed{ID: "device", Value: threshold.NewSecret(bytes.Clone(value))}
	reader, err := threshold.NewSeedReader("label", []threshold.Seed{seed})
	if err != nil {
		t.Fatal(err)
	}
	share := threshold.Share{Index: 1, Subs: []threshold.SubShare{{Subset: 1, Value: secret}}}
	s := deal(t, 2048, threshold.Additive, 1, 1)
	_, em := message(t, threshold.RS256, "document", 2048)
	b := s.binding(1)
	b.Share = "s"
	ch, opening, _ := threshold.NewChallenge(rand.Reader, s.pub, s.com, em)
	_, held, err := threshold.CommitAnswer(rand.Reader, s.pub, b, 1, ch, inToken(t, s, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := s.shares[0].Sub(1)
	z, err := inToken(t, s, 1, 1).Exp(ch.W)
	if err != nil {
		t.Fatal(err)
	}
	_ = opening

	type exported struct{ V any }
	type hidden struct{ v any }
	type hiddenSecret struct{ s threshold.Secret }
	type hiddenShare struct{ s threshold.Share }
	host := inToken(t, s, 1, 1)
	for name, v := range map[string]any{
		"Secret": secret, "*Secret": &secret, "Share": share, "*Share": &share, "[]Share": s.shares,
		"Seed": seed, "*Seed": &seed, "[]Seed": []threshold.Seed{seed}, "SeedReader": reader, "*WholeKey": k, "WholeKey": *k,
		"*HeldAnswer": held, "exported Secret": exported{secret}, "exported key": exported{k}, "exported held": exported{held},
		"hidden Secret": hiddenSecret{secret}, "hidden Share": hiddenShare{share}, "hidden any": hidden{secret}, "map": map[string]any{"k": secret},
		"hidden key": hidden{k}, "hidden key value": hidden{*k}, "hidden reader": hidden{reader}, "hidden held": hidden{*held},
		"host exponentiator": host, "hidden exponentiator": hidden{host},
	} {
		var texts []string
		for _, verb := range strings.Split("v +v #v s q x X # x d o b c U t e f g p T T", " ") {
			texts = append(texts, fmt.Sprintf("%"+verb, v))
		}
		texts = append(texts, fmt.Sprint(v), fmt.Sprintln(v))
		if s, ok := v.(fmt.Stringer); ok {
			texts = append(texts, s.String())
		}
		if s, ok := v.(fmt.GoStringer); ok {
			texts = append(texts, s.GoString())
		}
		if j, err := json.Marshal(v); err == nil {
			texts = append(texts, string(j))
		}
		if x, err := xml.Marshal(v); err == nil {
			texts = append(texts, string(x))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "value", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "value", v)
		texts = append(texts, log.String(), fmt.Errorf("wrapped: %v", v).Error())
		for _, text := range texts {
			for what, bytes := range map[string][]byte{"value": value, "p": p, "q": q, "d": d.Reveal(), "z": z} {
				if spelling := leaks(text, bytes); spelling != "" {
					t.Errorf("%s shows %s (%s): %.80s", name, what, spelling, text)
				}
			}
		}
	}
	if leaks(fmt.Sprintf("%x", value), value) == "" || leaks(fmt.Sprint(value), value) == "" {
		t.Error("this test cannot see a leak")
	}
}

func TestSecret(t *testing.T) {
	raw := []byte{1, 2, 3}
	s := threshold.NewSecret(raw)
	copied, clone := s, s.Clone()
	data, err := cbor.Marshal(s)
	if err != nil || !bytes.Equal(data, []byte{0x43, 1, 2, 3}) {
		t.Errorf("CBOR: %x, %v", data, err)
	}
	var back threshold.Secret
	if err := cbor.Unmarshal(data, &back); err != nil || !back.Equal(s) {
		t.Errorf("back from CBOR: %v", err)
	}
	if err := cbor.Unmarshal([]byte{0x63, 'a', 'b', 'c'}, &back); err == nil {
		t.Error("a text was taken for a secret")
	}
	s.Wipe()
	if !bytes.Equal(raw, []byte{0, 0, 0}) || copied.Len() != 0 || copied.Reveal() != nil {
		t.Error("wiping a copy should wipe all")
	}
	if !bytes.Equal(clone.Reveal(), []byte{1, 2, 3}) || clone.Equal(s) {
		t.Error("a clone is independent")
	}
	if _, err := cbor.Marshal(s); err == nil {
		t.Error("wiped secret encoded")
	}
	var zero threshold.Secret
	zero.Wipe()
	if zero.Len() != 0 {
		t.Error("zero secret")
	}
}
