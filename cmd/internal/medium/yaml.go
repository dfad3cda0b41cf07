package medium

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// worded is a mapping for which a word may stand.
type worded interface{ scalar(string) error }

// decode reads a YAML tree into a struct of structs, slices, strings, numbers
// and booleans, and notes the line of every value. Unlike package yaml it refuses
// unknown and repeated fields in words that help, values left empty, aliases and
// numbers in quotes.
func decode(n *yaml.Node, into any, lines map[string]int) error {
	return (&decoder{lines}).value(n, reflect.ValueOf(into).Elem(), "")
}

type decoder struct{ lines map[string]int }

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) error {
	d.lines[path] = n.Line
	bad := func(format string, args ...any) error {
		what := fmt.Sprintf(format, args...)
		if path != "" {
			what = path + ": " + what
		}
		return &LineError{n.Line, fmt.Errorf("%s", what)}
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return bad("anchors and aliases are not for a file that people review: write it out")
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return bad("is empty: give it a value, or leave the field out")
	}
	if w, ok := v.Addr().Interface().(worded); ok && n.Kind == yaml.ScalarNode {
		if err := w.scalar(n.Value); err != nil {
			return bad("%v", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			return bad("expected fields: %s", strings.Join(fields(v.Type()), ", "))
		}
		return d.mapping(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return bad("expected a list")
		}
		for i, item := range n.Content {
			x := reflect.New(v.Type().Elem()).Elem()
			if err := d.value(item, x, join(path, strconv.Itoa(i))); err != nil {
				return err
			}
			v.Set(reflect.Append(v, x))
		}
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return bad("expected one value")
	}
	switch v.Kind() {
	case reflect.String:
		// Ids that look like numbers are ids.
		if n.Tag != "!!str" && n.Tag != "!!int" {
			return bad("expected text; put it in quotes")
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Tag != "!!bool" || err != nil {
			return bad("%q is neither true nor false", n.Value)
		}
		v.SetBool(b)
	case reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
		if n.Tag != "!!int" || err != nil {
			return bad("%q is no whole number from 0 on", n.Value)
		}
		v.SetUint(u)
	default:
		panic("medium: a plan has no " + v.Kind().String())
	}
	return nil
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) error {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := &LineError{Line: key.Line}
		field := -1
		for j := range v.NumField() {
			if name := v.Type().Field(j).Tag.Get("yaml"); name != "" && name == key.Value {
				field = j
			}
		}
		switch first, ok := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || field < 0:
			at.Err = fmt.Errorf("%s: there is no such field here; known are %s", join(path, key.Value), strings.Join(fields(v.Type()), ", "))
			return at
		case ok:
			at.Err = fmt.Errorf("%s: is there twice, first on line %d", join(path, key.Value), first)
			return at
		}
		seen[key.Value] = key.Line
		if err := d.value(value, v.Field(field), join(path, key.Value)); err != nil {
			return err
		}
	}
	return nil
}

func fields(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
