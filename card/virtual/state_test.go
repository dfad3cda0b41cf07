package virtual

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cards")
	d, err := OpenDir(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serial, err := d.Create(Profile57(), 0, func(s *State) error {
		if err := s.SetPUK("abcdefgh"); err != nil {
			return err
		}
		return s.SetPIN("246802")
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(Profile54(), serial, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same serial number again: %v", err)
	}
	if _, err := d.Create(Profile54(), 7, func(s *State) error { return s.SetPIN("short") }); err == nil {
		t.Error("a PIN of five characters was accepted")
	}
	if _, err := d.Create(Profile54(), 7, nil); err != nil {
		t.Error(err)
	}
	c, err := d.Card(serial)
	if err != nil {
		t.Fatal(err)
	}
	h := host{t, c}
	h.ok("00A4040005A000000308")
	h.expect(verify123456, 0x63C2)
	h.manage()
	public := h.generate(slotCardAuthentication, P256, 0, 0)

	// Another process, later.
	d, err = OpenDir(path, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if serials, err := d.Serials(); err != nil || len(serials) != 2 || serials[0] != 7 || serials[1] != serial {
		t.Errorf("serials %d, %v", serials, err)
	}
	if c, err = d.Card(serial); err != nil {
		t.Fatal(err)
	}
	h = host{t, c}
	h.ok("00A4040005A000000308")
	h.expect("00200080", 0x63C2)
	h.expect("00200080 08 323436383032FFFF", swOK)
	meta := h.ok("00F7009E 00")
	if !bytes.Contains(meta, public) {
		t.Error("the key did not survive")
	}
	if _, err := d.Card(99); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a card that is not there: %v", err)
	}
	for name, mode := range map[string]fs.FileMode{"root.pem": 0o644, "root.key": 0o600, fmt.Sprintf("cards/%d.json", serial): 0o600} {
		if fi, err := os.Stat(filepath.Join(path, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(path, "*", ".tmp-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDecodeStateRefuses(t *testing.T) {
	good, err := json.Marshal(testState(t, Profile54()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeState(good); err != nil {
		t.Fatal(err)
	}
	edit := func(f func(map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"trailing data":     append(bytes.Clone(good), "{}"...),
		"too long":          append(bytes.Clone(good), bytes.Repeat([]byte{' '}, maxStateFile)...),
		"unknown field":     edit(func(m map[string]any) { m["more"] = 1 }),
		"another format":    edit(func(m map[string]any) { m["format"] = 2 }),
		"unknown profile":   edit(func(m map[string]any) { m["profile"] = "4.3" }),
		"no PIN":            edit(func(m map[string]any) { delete(m, "pin") }),
		"too many tries":    edit(func(m map[string]any) { m["pin"].(map[string]any)["tries"] = 4 }),
		"negative tries":    edit(func(m map[string]any) { m["puk"].(map[string]any)["tries"] = -1 }),
		"short mgmt key":    edit(func(m map[string]any) { m["management"].(map[string]any)["value"] = "AAAA" }),
		"no keys":           edit(func(m map[string]any) { delete(m, "keys") }),
		"null key":          edit(func(m map[string]any) { m["keys"].(map[string]any)["9c"] = nil }),
		"key in no slot":    edit(func(m map[string]any) { k := m["keys"].(map[string]any); k["F9"] = k["f9"] }),
		"unknown policy":    edit(func(m map[string]any) { m["keys"].(map[string]any)["f9"].(map[string]any)["pin"] = 4 }),
		"unknown origin":    edit(func(m map[string]any) { m["keys"].(map[string]any)["f9"].(map[string]any)["origin"] = 0 }),
		"object nowhere":    edit(func(m map[string]any) { m["objects"].(map[string]any)["7e"] = "AAAA" }),
		"empty object":      edit(func(m map[string]any) { m["objects"].(map[string]any)["5fc105"] = "" }),
		"key not PKCS#8":    edit(func(m map[string]any) { m["keys"].(map[string]any)["f9"].(map[string]any)["private"] = "AAAA" }),
		"key of other kind": edit(func(m map[string]any) { m["keys"].(map[string]any)["f9"].(map[string]any)["algorithm"] = int(P384) }),
		"key of a later profile": edit(func(m map[string]any) {
			m["keys"].(map[string]any)["f9"].(map[string]any)["algorithm"] = int(Ed25519)
		}),
	} {
		if _, err := DecodeState(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRedaction(t *testing.T) {
	s := testState(t, Profile54())
	if err := s.SetPIN("qwertzui"); err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte("qwertzui"), s.Management.Value, s.Keys["f9"].Private[len(s.Keys["f9"].Private)-40:]}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "s", s, "v", *s, "pin", s.PIN, "mgm", s.Management, "key", s.Keys["f9"], "keyv", *s.Keys["f9"])
	}
	printed := []string{log.String()}
	for _, v := range []any{s, *s, s.PIN, &s.PIN, s.Management, &s.Management, s.Keys["f9"], *s.Keys["f9"], s.Keys, []any{*s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c"} {
			printed = append(printed, fmt.Sprintf(verb, v))
		}
	}
	for _, p := range printed {
		for _, secret := range secrets {
			decimal := strings.Trim(fmt.Sprint(secret), "[]")
			for _, form := range []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), decimal} {
				if strings.Contains(p, form) {
					t.Fatalf("%q shows a secret", p)
				}
			}
		}
	}
}

func TestParseRoot(t *testing.T) {
	root, err := sharedRoot()
	if err != nil {
		t.Fatal(err)
	}
	key, err := root.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseRoot(root.CertificatePEM(), key)
	if err != nil || !again.Certificate.Equal(root.Certificate) {
		t.Fatalf("round trip: %v", err)
	}
	other, err := NewRoot(bytes.NewReader(bytes.Repeat([]byte{7}, 1000)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRoot(other.CertificatePEM(), key); err == nil {
		t.Error("a key of another root was accepted")
	}
	if _, err := ParseRoot(nil, key); err == nil {
		t.Error("no certificate was accepted")
	}
}
