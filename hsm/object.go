package hsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// application marks this product's data objects (CKA_APPLICATION).
const application = "privyseal"

// frameMagic starts the value of a data object; the layout is
// magic[4] version[8] name-length[2] name data sha256[32].
// The checksum tells a copy that a crash tore from a whole one. It protects
// against accidents only: what is stored must bring its own authentication.
var frameMagic = []byte("PSO1")

const frameHead = 4 + 8 + 2

func frame(name string, version uint64, data []byte) []byte {
	b := make([]byte, 0, frameHead+len(name)+len(data)+sha256.Size)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint64(b, version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	b = append(b, data...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func parseFrame(name string, b []byte) (version uint64, data []byte, err error) {
	if len(b) < frameHead+len(name)+sha256.Size || !bytes.HasPrefix(b, frameMagic) {
		return 0, nil, fmt.Errorf("%w: %q", ErrCorrupt, name)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return 0, nil, fmt.Errorf("%w: %q: checksum", ErrCorrupt, name)
	}
	version = binary.BigEndian.Uint64(body[4:])
	rest := body[frameHead:]
	if int(binary.BigEndian.Uint16(body[12:])) != len(name) || !bytes.HasPrefix(rest, []byte(name)) {
		return 0, nil, fmt.Errorf("%w: %q holds another object's value", ErrCorrupt, name)
	}
	return version, rest[len(name):], nil
}

// dataObject is one copy of a data object.
type dataObject struct {
	handle  object
	private bool // needs the login even to be found
	version uint64
	data    []byte
	err     error // ErrCorrupt
}

// objectNamed selects all copies of a data object, private ones only while the
// token is unlocked.
func objectNamed(name string) []*attribute {
	return []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_APPLICATION, application),
		attr(pkcs11.CKA_LABEL, name),
	}
}

// copies reads all copies of a data object, the newest whole one first. It
// needs the store to itself.
func (s *session) copies(name string) ([]dataObject, error) {
	found, err := s.find(objectNamed(name))
	if err != nil {
		return nil, err
	}
	out := make([]dataObject, len(found))
	for i, h := range found {
		if err := s.open(); err != nil {
			return nil, err
		}
		out[i].handle = h
		v, err := s.t.c.attributes(s.h, h, pkcs11.CKA_VALUE, pkcs11.CKA_PRIVATE)
		if err != nil {
			return nil, err
		}
		out[i].private = isTrue(v[1])
		out[i].version, out[i].data, out[i].err = parseFrame(name, v[0])
	}
	slices.SortFunc(out, func(a, b dataObject) int {
		switch {
		case (a.err == nil) != (b.err == nil):
			if a.err == nil {
				return -1
			}
			return 1
		case a.version > b.version:
			return -1
		case a.version < b.version:
			return 1
		}
		return 0
	})
	return out, nil
}

// PutObject stores a private data object. A data object's value cannot be
// changed, so the new version is written first and the older ones destroyed
// then; a crash in between leaves both, and GetObject returns the newer. The
// version must rise: an equal or lower one gives ErrStaleVersion, but for the
// same version with the same data, so that a writer may repeat itself. SoftHSM2
// does not force its files to disk: a power cut may cost the last versions.
//
// Public copies of the name do not count: whoever reaches the token, without
// the PIN, may have put them there. They are destroyed.
func (t *Token) PutObject(name string, version uint64, data []byte) error {
	return t.put(name, version, data, true)
}

// PutPublicObject is PutObject for an object that can be found, read, and
// destroyed without the PIN: see [Token.DestroyPublicObjects]. It can be
// replaced without the PIN too. So it is for what is sealed by keys that are
// not in the token, such as shares: to them the PIN adds nothing, and it does
// not protect their existence either, since whoever reaches the token without
// it may delete the token's directory. A private copy of the name counts as an
// older version and is replaced.
func (t *Token) PutPublicObject(name string, version uint64, data []byte) error {
	return t.put(name, version, data, false)
}

func (t *Token) put(name string, version uint64, data []byte, private bool) error {
	if err := t.checkObject(name); err != nil {
		return err
	}
	if len(data) > maxData {
		return fmt.Errorf("%w: data object %q of %d bytes, at most %d", ErrArgument, name, len(data), maxData)
	}
	template := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, private),
		attr(pkcs11.CKA_MODIFIABLE, false),
		attr(pkcs11.CKA_APPLICATION, application),
		attr(pkcs11.CKA_LABEL, name),
		attr(pkcs11.CKA_VALUE, frame(name, version, data)),
	}
	return t.do(func(s *session) error {
		return s.alone(func() error {
			old, err := s.copies(name)
			if err != nil {
				return err
			}
			// The newest that counts.
			i := slices.IndexFunc(old, func(o dataObject) bool { return o.private || !private })
			if i >= 0 && old[i].err == nil && old[i].version >= version {
				if old[i].version > version || !bytes.Equal(old[i].data, data) {
					return fmt.Errorf("%w: %q is at %d, %d was to be written", ErrStaleVersion, name, old[i].version, version)
				}
				if old[i].private == private {
					return s.destroyAll(slices.Delete(old, i, i+1))
				}
			}
			if err := s.open(); err != nil {
				return err
			}
			if _, err := t.c.create(s.h, template); err != nil {
				return err
			}
			// A crash here leaves two versions, and so does Lock.
			return s.destroyAll(old)
		})
	})
}

// destroyAll destroys copies that a newer one makes useless, until Lock comes.
func (s *session) destroyAll(objects []dataObject) error {
	var failed []error
	for _, o := range objects {
		if err := s.open(); err != nil {
			return err
		}
		if err := s.t.c.destroy(s.h, o.handle); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// GetObject returns the highest whole version of a data object, private or
// public. Copies that a crash damaged are passed over; ErrCorrupt means that
// there is no other. Errors: ErrNotFound, ErrCorrupt, ErrLocked.
func (t *Token) GetObject(name string) (version uint64, data []byte, err error) {
	return t.get(name, false)
}

// GetPrivateObject is GetObject for what only a holder of the PIN can have
// stored: it does not see public copies.
func (t *Token) GetPrivateObject(name string) (version uint64, data []byte, err error) {
	return t.get(name, true)
}

func (t *Token) get(name string, private bool) (version uint64, data []byte, err error) {
	if err := t.checkObject(name); err != nil {
		return 0, nil, err
	}
	err = t.do(func(s *session) error {
		return s.alone(func() error {
			all, err := s.copies(name)
			if err != nil {
				return err
			}
			if private {
				all = slices.DeleteFunc(all, func(o dataObject) bool { return !o.private })
			}
			if len(all) == 0 {
				return fmt.Errorf("%w: data object %q", ErrNotFound, name)
			}
			version, data, err = all[0].version, all[0].data, all[0].err
			return err
		})
	})
	if err != nil {
		return 0, nil, err
	}
	return version, data, nil
}

// DeleteObject destroys all copies of a data object, or returns ErrNotFound.
func (t *Token) DeleteObject(name string) error {
	if err := t.checkObject(name); err != nil {
		return err
	}
	return t.do(func(s *session) error {
		return s.alone(func() error {
			found, err := s.find(objectNamed(name))
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("%w: data object %q", ErrNotFound, name)
			}
			// Lock waits for all copies, of which a crash leaves two or three:
			// stopping in between could bring an old version back.
			var failed []error
			for _, h := range found {
				if err := t.c.destroy(s.h, h); err != nil {
					failed = append(failed, err)
				}
			}
			return errors.Join(failed...)
		})
	})
}

// ListObjects returns the sorted names of the data objects that begin with
// prefix, damaged and public ones too.
func (t *Token) ListObjects(prefix string) ([]string, error) {
	if t.vendor.noDataObjects {
		return nil, fmt.Errorf("%w: %s has no data objects", ErrUnsupported, t.vendor.label)
	}
	var names []string
	err := t.do(func(s *session) error {
		return s.alone(func() error {
			found, err := s.find([]*attribute{
				attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
				attr(pkcs11.CKA_TOKEN, true),
				attr(pkcs11.CKA_APPLICATION, application),
			})
			if err != nil {
				return err
			}
			for _, h := range found {
				if err := s.open(); err != nil {
					return err
				}
				v, err := t.c.attributes(s.h, h, pkcs11.CKA_LABEL)
				if err != nil {
					return err
				}
				if name := string(v[0]); strings.HasPrefix(name, prefix) {
					names = append(names, name)
				}
			}
			if len(found) == 0 {
				_, err = t.health() // a deleted token seems empty
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (t *Token) checkObject(name string) error {
	if t.vendor.noDataObjects {
		return fmt.Errorf("%w: %s has no data objects; keep %q in a file", ErrUnsupported, t.vendor.label, name)
	}
	return checkName("data object", name)
}
