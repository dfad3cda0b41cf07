package planfile

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

type word struct {
	said string
	Need uint64 `yaml:"need"`
}

func (w *word) Word(s string) error {
	if s != "none" {
		return errors.New("write none")
	}
	w.said = s
	return nil
}

type row struct {
	ID   string        `yaml:"id"`
	Key  []byte        `yaml:"key"`
	Hash envelope.Hash `yaml:"hash"`
}

type whole struct {
	Name  string   `yaml:"name"`
	Rows  []row    `yaml:"rows"`
	One   *row     `yaml:"one"`
	Cards []uint32 `yaml:"cards"`
	Yes   bool     `yaml:"yes"`
	Any   any      `yaml:"any"`
	Who   word     `yaml:"who"`
}

const zeros = "00000000000000000000000000000000000000000000000000000000000000"

func TestDecode(t *testing.T) {
	var x whole
	lines, err := Decode([]byte("name: 12\nrows:\n  - {id: \"no\", key: AQI=, hash: "+zeros+"01}\n  - {id: b}\none: {id: c}\ncards: [1, 2]\nyes: true\nany: 5s\nwho: none\n"), &x, Options{})
	want := whole{
		Name: "12", Rows: []row{{ID: "no", Key: []byte{1, 2}, Hash: envelope.Hash{31: 1}}, {ID: "b"}}, One: &row{ID: "c"},
		Cards: []uint32{1, 2}, Yes: true, Any: "5s", Who: word{said: "none"},
	}
	if err != nil || !reflect.DeepEqual(x, want) {
		t.Errorf("%v, %+v", err, x)
	}
	for path, line := range map[string]int{"name": 1, "rows.1.id": 4, "one": 5, "cards.1": 6, "who": 9} {
		if lines[path] != line {
			t.Errorf("%s is on line %d", path, lines[path])
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "the file is empty"},
		{"name: a\n---\nname: b\n", "more than one document"},
		{"-----BEGIN CERTIFICATE-----\nMII=\n", "line 1: expected fields: name, rows, one, cards, yes, any, who"},
		{"- 1\n", "line 1: expected fields: name"},
		{"~\n", "line 1: is empty"},
		{"name: a\nnames: b\n", "line 2: names: there is no such field here; known are name, rows, one"},
		{"rows:\n  - {id: a}\n  - id: b\n    keys: c\n", "line 4: rows.1.keys: there is no such field here; known are id, key, hash"},
		{"one: {ids: 1}", "line 1: one.ids: there is no such field here; known are id, key, hash"},
		{"one: x", "line 1: one: expected fields: id, key, hash"},
		{"name: a\nname: b\n", "line 2: name: is there twice, first on line 1"},
		{"NAME: a\n", "line 1: NAME: there is no such field"},
		{"name:\n", "line 1: name: is empty"},
		{"name: &x a\n", "line 1: name: anchors and aliases"},
		{"rows: [{id: a}, &x {id: b}]\n", "line 1: rows.1: anchors and aliases"},
		{"one: {<<: {id: a}}\n", "line 1: one.<<: there is no such field"},
		{"one: {key: AQI}\n", "line 1: one.key: is not base64"},
		{"one: {key: [1]}\n", "line 1: one.key: expected one value"},
		{"one: {hash: 12}\n", "line 1: one.hash: "},
		{"one: {hash: {}}\n", "line 1: one.hash: expected one value"},
		{"cards: [1, a]\n", `line 1: cards.1: "a" is no whole number from 0 on`},
		{"cards: [010]\n", `line 1: cards.0: "010" is no whole number`},
		{"cards: [4294967296]\n", "line 1: cards.0"},
		{"who: all\n", "line 1: who: write none"},
		{"name: true\n", "line 1: name: expected text"},
		{"? {}\n: x\n", "line 1"},
	} {
		if _, err := Decode([]byte(c.text), new(whole), Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v\nexpected %q", c.text, err, c.want)
		}
	}
}

// TestOptions: fields in any case are one field, and an empty one is none.
func TestOptions(t *testing.T) {
	var x whole
	lines, err := Decode([]byte("NAME: a\nrows: [{\"ID\": \"b\", \"Key\": \"AQI=\"}]\none:\nany: ~\n"), &x, Options{AnyCase: true, Empty: true})
	if err != nil || !reflect.DeepEqual(x, whole{Name: "a", Rows: []row{{ID: "b", Key: []byte{1, 2}}}}) || lines["rows.0.id"] != 2 {
		t.Errorf("%v, %+v, %v", err, x, lines)
	}
	for text, want := range map[string]string{
		"name: a\nName: b\n": "line 2: name: is there twice, first on line 1", "names: a\n": "there is no such field here", "~\n": "is empty",
	} {
		if _, err := Decode([]byte(text), new(whole), Options{AnyCase: true, Empty: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzDecode: every error of a field has its line, and nothing panics.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a\nrows: [{id: b}]\n", "a: &a [*a]\n", "? {}\n: x\n", "any: {a: !!binary x}\n", "any: &x [*x]\n"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, loose bool) {
		var x whole
		lines, err := Decode(data, &x, Options{AnyCase: loose, Empty: loose})
		var at *LineError
		if errors.As(err, &at) && (at.Line < 1 || at.Line > 1+len(data)) || err == nil && lines[""] < 1 {
			t.Errorf("%v, %v", err, lines)
		}
	})
}
