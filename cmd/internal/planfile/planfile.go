// Package planfile reads the YAML files that people review before they act by
// them: the ceremony's, and the plan of an authority in two layers. Errors name the
// line, the field, and the fields that there are.
package planfile

import (
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A LineError is a file's error with its line.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Worded is a mapping for which a word may stand.
type Worded interface {
	// Word takes the word, or says which there are.
	Word(string) error
}

// Lines are the lines that values were written on, by path: "officers.3.card".
type Lines map[string]int

// Options are what one kind of file has and others have not.
type Options struct {
	// AnyCase takes the names of fields in any case, as encoding/json does: what
	// another program printed as JSON is part of the file.
	AnyCase bool
	// Empty takes a field that is left empty as one that is left out.
	Empty bool
}

// Decode reads a file of one document into a struct of structs, pointers to them,
// slices, strings, numbers, booleans, octets in base64, what reads itself as text,
// and interfaces, which get what YAML has there. The names of fields are in their
// tags, yaml:"name". Unlike package yaml it refuses unknown and repeated fields in
// words that help, aliases, numbers in quotes, and values left empty.
func Decode(data []byte, into any, o Options) (Lines, error) {
	y := yaml.NewDecoder(strings.NewReader(string(data)))
	var tree yaml.Node
	if err := y.Decode(&tree); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	} else if err != nil {
		return nil, err
	}
	if err := y.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document in the file")
	}
	d := &decoder{Options: o, lines: Lines{}}
	if err := d.value(tree.Content[0], reflect.ValueOf(into).Elem(), ""); err != nil {
		return nil, err
	}
	return d.lines, nil
}

type decoder struct {
	Options
	lines Lines
}

// value reads a node into v, which path leads to.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) error {
	d.lines[path] = n.Line
	err := d.read(n, v, path)
	var inner *LineError
	if err == nil || errors.As(err, &inner) {
		return err
	}
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return &LineError{n.Line, err}
}

var errOne = errors.New("expected one value")

func (d *decoder) read(n *yaml.Node, v reflect.Value, path string) error {
	scalar := n.Kind == yaml.ScalarNode
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return errors.New("anchors and aliases are not for a file that people review: write it out")
	case scalar && n.Tag == "!!null" && d.Empty && path != "":
		return nil
	case scalar && n.Tag == "!!null":
		return errors.New("is empty: give it a value, or leave the field out")
	}
	switch x := v.Addr().Interface().(type) {
	case Worded:
		if scalar {
			return x.Word(n.Value)
		}
	case encoding.TextUnmarshaler:
		if !scalar {
			return errOne
		}
		return x.UnmarshalText([]byte(n.Value))
	case *[]byte:
		if !scalar {
			return errOne
		}
		var err error
		if *x, err = base64.StdEncoding.DecodeString(n.Value); err != nil {
			return fmt.Errorf("is not base64: %w", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Interface:
		return n.Decode(v.Addr().Interface())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.read(n, v.Elem(), path)
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			return fmt.Errorf("expected fields: %s", strings.Join(fields(v.Type()), ", "))
		}
		return d.mapping(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return errors.New("expected a list")
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
	if !scalar {
		return errOne
	}
	return readScalar(n, v)
}

func readScalar(n *yaml.Node, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		// Ids that look like numbers are ids.
		if n.Tag != "!!str" && n.Tag != "!!int" {
			return errors.New("expected text; put it in quotes")
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Tag != "!!bool" || err != nil {
			return fmt.Errorf("%q is neither true nor false", n.Value)
		}
		v.SetBool(b)
	case reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
		// 010 is eight to YAML and ten to people.
		if n.Tag != "!!int" || err != nil || n.Value != strconv.FormatUint(u, 10) {
			return fmt.Errorf("%q is no whole number from 0 on", n.Value)
		}
		v.SetUint(u)
	default:
		panic("planfile: a file has no " + v.Kind().String())
	}
	return nil
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) error {
	names, seen := fields(v.Type()), map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(names, func(name string) bool {
			return name == key.Value || d.AnyCase && strings.EqualFold(name, key.Value)
		})
		if key.Kind != yaml.ScalarNode || at < 0 {
			return &LineError{key.Line, fmt.Errorf("%s: there is no such field here; known are %s", join(path, key.Value), strings.Join(names, ", "))}
		}
		inner := join(path, names[at])
		if first, ok := seen[names[at]]; ok {
			return &LineError{key.Line, fmt.Errorf("%s: is there twice, first on line %d", inner, first)}
		}
		seen[names[at]] = key.Line
		if err := d.value(value, fieldOf(v, names[at]), inner); err != nil {
			return err
		}
	}
	return nil
}

// fields are the names of a struct's fields in a file.
func fields(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func fieldOf(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i)
		}
	}
	panic("planfile: " + v.Type().String() + " has no field " + name)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
