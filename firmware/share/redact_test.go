package share_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestNothingPrints: every verb of fmt, JSON and slog, on the secret, in a
// struct, behind a pointer, in a slice, in an unexported field and in an error.
func TestNothingPrints(t *testing.T) {
	k, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	n := k.Public().N
	value := append([]byte{0}, bytes.Repeat([]byte{0xd7, 0x4a, 0x91}, 85)...)
	secret := threshold.NewSecret(bytes.Clone(value))
	e, err := share.NewHostExponent(newMemory(t), n, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p := share.Piece{Index: 3, Value: secret}
	type wrap struct {
		Piece    share.Piece
		Exponent share.Exponent
		hidden   share.Exponent
		piece    share.Piece
		secret   threshold.Secret
	}
	w := wrap{p, e, e, p, secret}
	run := value[1:10]
	needles := []string{
		string(run), fmt.Sprintf("%x", run), fmt.Sprintf("%X", run), strings.Trim(fmt.Sprintf("%d", run), "[]"),
		strings.Trim(fmt.Sprintf("%o", run), "[]"), strings.Trim(fmt.Sprintf("%b", run), "[]"), strings.Trim(fmt.Sprintf("%#x", run), "[]")[2:],
		fmt.Sprintf("% x", run), strings.Trim(fmt.Sprintf("%#v", run), "[]byte{}"), base64.StdEncoding.EncodeToString(run),
		base64.StdEncoding.EncodeToString(value[2:11])[:8], base64.StdEncoding.EncodeToString(value[3:12])[:8],
		new(big.Int).SetBytes(value).String()[:20], strings.Trim(fmt.Sprintf("%q", run), `"`), strings.Trim(fmt.Sprintf("%U", run), "[]"),
	}
	check := func(how, text string) {
		t.Helper()
		for _, s := range needles {
			if strings.Contains(text, s) {
				t.Errorf("%s shows the secret: %.120s", how, text)
				return
			}
		}
	}
	caught := 0
	for _, s := range needles {
		if strings.Contains(fmt.Sprintf("%v %x %s", value, value, value), s) {
			caught++
		}
	}
	if caught < 3 {
		t.Fatal("the needles would not be found in a leak")
	}
	for name, v := range map[string]any{
		"secret": secret, "piece": p, "*piece": &p, "pieces": []share.Piece{p}, "exponent": e, "struct": w, "*struct": &w,
		"map": map[string]any{"x": p, "y": e}, "error": fmt.Errorf("context: %v %v", p, e),
	} {
		for _, verb := range "vsqxXdoObcUeEfFgGtpTw" {
			for _, flag := range []string{"", "+", "#", " ", "-20", "0300", ".200"} {
				f := "%" + flag + string(verb)
				check(name+" "+f, fmt.Sprintf(f, v))
			}
		}
		if j, err := json.Marshal(v); err == nil {
			check(name+" json", string(j))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		check(name+" slog", log.String())
	}
}
