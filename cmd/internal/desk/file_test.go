package desk

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestFileErrors: a ceremony file with a typing error is refused with its name, the
// line, the field and what there is; so is what is no ceremony file.
func TestFileErrors(t *testing.T) {
	good := string(heartbeatFile(t, "", goodPolicy))
	path := filepath.Join(t.TempDir(), "c1.yaml")
	line := func(sub string) int { return 1 + strings.Count(good[:strings.Index(good, sub)], "\n") }
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{strings.Replace(good, "unlock_quorum", "unlock_qorum", 1), line("- {id: d1"), "devices.0.unlock_qorum: there is no such field here; known are id, name, server, model, serial, unattended, use, unlock_quorum, heartbeat"},
		{strings.Replace(good, "hours: 4", "hour: 4", 1), 3, "hour: there is no such field here; known are system, lead, hours, officer_days"},
		{strings.Replace(good, "hours: 4", "hours: four", 1), 3, `hours: "four" is no whole number from 0 on`},
		{strings.Replace(good, "witnesses: [Wilma]", "witnesses: Wilma", 1), line("witnesses"), "witnesses: expected a list"},
		{strings.Replace(good, "safe_primes", "quorum", 1) + "keys: []\n", 1 + strings.Count(good, "\n"), "keys: is there twice, first on line"},
		{"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", 1, "expected fields: system, lead, hours"},
		{"- system: x\n", 1, "expected fields: system, lead, hours"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadFile(path)
		if want := path + ": line "; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), c.want) ||
			!strings.HasPrefix(strings.TrimPrefix(err.Error(), want), strconv.Itoa(c.line)+": ") {
			t.Errorf("%v\nexpected line %d, %q", err, c.line, c.want)
		}
	}
	if _, err := ParseFile(nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Error(err)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestServersAsPrinted: what 'privyseal-server init' prints is part of the file as it
// is, and a field that is left empty is one that is left out.
func TestServersAsPrinted(t *testing.T) {
	text := string(heartbeatFile(t, "", "sources: [d2, d3], needed: 1, period: 500ms, lease: 5s"))
	want, err := ParseFile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	printed := text[:strings.Index(text, "servers:")] + "servers:\n"
	for i := range want.Servers {
		printed += "  - " + jsonOf(t, &want.Servers[i]) + "\n"
	}
	printed += "sources:\n" + text[strings.Index(text, "devices:"):]
	if !strings.Contains(printed, `"TLS":"`) {
		t.Fatal(printed)
	}
	got, err := ParseFile([]byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	got.File = want.File
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nexpected %+v", got, want)
	}
}
