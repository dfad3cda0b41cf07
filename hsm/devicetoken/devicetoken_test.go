package devicetoken_test

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// TestReplacedKEK puts a key that lets exponents out in the place of the one
// that confines them, as somebody with the PIN could.
func TestReplacedKEK(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	for label, use := range map[string]hsm.Use{devicetoken.LabelKEKToken: hsm.InToken, devicetoken.LabelKEKHost: hsm.InHost} {
		if err := tok.GenerateKEK(label, use); err != nil {
			t.Fatal(err)
		}
	}
	d := devicetoken.New(tok.Token)
	relock := func() {
		t.Helper()
		if err := tok.Lock(); err != nil {
			t.Fatal(err)
		}
	}
	relock()
	if err := d.Unlock([]byte(hsmtest.PIN)); err != nil || d.Locked() {
		t.Fatalf("its own keys: %v", err)
	}
	if err := tok.Destroy(devicetoken.LabelKEKToken); err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK(devicetoken.LabelKEKToken, hsm.InHost); err != nil {
		t.Fatal(err)
	}
	relock()
	d = devicetoken.New(tok.Token)
	if err := d.Unlock([]byte(hsmtest.PIN)); err == nil || !strings.Contains(err.Error(), "replaced") || !d.Locked() {
		t.Fatalf("a replaced key: %v, locked %v", err, d.Locked())
	}
	if _, err := tok.ListObjects(""); err == nil {
		t.Error("the token stayed open")
	}
}
