package envelope

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.TagsMd = cbor.TagsForbidden
		o.NilContainers = cbor.NilContainerAsEmpty // nil and empty have one encoding
		o.ByteArray = cbor.ByteArrayToByteSlice
		m, err := o.EncMode()
		if err != nil {
			panic(err) // constant options
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			IndefLength:       cbor.IndefLengthForbidden,
			TagsMd:            cbor.TagsForbidden,
			MaxNestedLevels:   MaxDepth + 1,
			FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
			UTF8:              cbor.UTF8RejectInvalid,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		}.DecMode()
		if err != nil {
			panic(err) // constant options
		}
		return m
	}()
)

// Marshal encodes v in RFC 8949 core deterministic encoding. A nil slice or
// map is encoded as an empty one. What Unmarshal would refuse (floats, tags,
// too deep, too large) is refused here already.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("envelope: encode %T: %w", v, err)
	}
	if err := checkDeterministic(b); err != nil {
		return nil, fmt.Errorf("envelope: encode %T: %w", v, err)
	}
	return b, nil
}

// Unmarshal decodes exactly one item into v, a non-nil pointer, and accepts
// only the bytes that Marshal(v) gives: besides everything that is not
// deterministic, unknown and missing fields are refused. v is zeroed first, and
// left zero on error, so half a message can never be used.
//
// For the check v is encoded again into memory that is wiped afterwards.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("envelope: decode into %T: not a non-nil pointer", v)
	}
	p.Elem().SetZero()
	if err := checkDeterministic(data); err != nil {
		return err
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		p.Elem().SetZero()
		return fmt.Errorf("envelope: decode %T: %w", v, err)
	}
	again, err := encMode.Marshal(v)
	defer clear(again)
	if err != nil {
		p.Elem().SetZero()
		return fmt.Errorf("envelope: decode %T: %w", v, err)
	}
	if !bytes.Equal(again, data) {
		p.Elem().SetZero()
		return &EncodingError{Offset: firstDifference(again, data),
			Fault: fmt.Sprintf("not the deterministic encoding of %T: a field is missing, empty where it must be left out, or of a wrong length", v)}
	}
	return nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
