package source

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// beatKey is the key that signs beats, and the identity key's word for it.
type beatKey struct {
	epoch       uint64
	key         *ecdsa.PrivateKey
	certificate []byte
}

// beatFile is a beat key's file: key and certificate become durable together.
type beatFile struct {
	Epoch       uint64 `json:"epoch"`
	Key         []byte `json:"key"`         // PKCS #8, PEM
	Certificate []byte `json:"certificate"` // COSE_Sign1, heartbeat.TypeKey
}

func beatPath(dir string, epoch uint64) string {
	return filepath.Join(dir, dirBeat, strconv.FormatUint(epoch, 10))
}

// newBeatKey makes a key for an epoch, certified by the identity key, and
// creates its file.
func newBeatKey(d *disk, dir string, src *ledger.Source, k *keys, epoch uint64, now int64) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	f := beatFile{Epoch: epoch}
	f.Certificate, err = heartbeat.SignKey(rand.Reader, k.identity, heartbeat.Key{Source: src.ID, Epoch: epoch, Sign: spki, Created: now})
	if err != nil {
		return err
	}
	if f.Key, err = encodeKey(key); err != nil {
		return err
	}
	defer clear(f.Key)
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	defer clear(data)
	return d.create(beatPath(dir, epoch), data, 0o600)
}

// ensureBeatKey makes the first beat key, unless an interrupted attempt made
// one.
func ensureBeatKey(d *disk, dir string, src *ledger.Source, k *keys, epoch uint64, now int64) error {
	have, err := lastEpoch(dir)
	if err != nil {
		return err
	}
	if have != 0 {
		_, err := loadBeatKey(dir, src, have)
		return err
	}
	return newBeatKey(d, dir, src, k, epoch, now)
}

// epochs are the epochs whose keys are in the directory, in no order.
func epochs(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, dirBeat))
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		// Anything else is a temporary file of a crash.
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && strconv.FormatUint(n, 10) == e.Name() {
			out = append(out, n)
		}
	}
	return out, nil
}

// lastEpoch is the highest one, 0 if there is none.
func lastEpoch(dir string) (uint64, error) {
	all, err := epochs(dir)
	var last uint64
	for _, n := range all {
		last = max(last, n)
	}
	return last, err
}

func loadBeatKey(dir string, src *ledger.Source, epoch uint64) (*beatKey, error) {
	path := beatPath(dir, epoch)
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	fail := func(err error) (*beatKey, error) { return nil, fmt.Errorf("%s: %w", path, err) }
	var f beatFile
	if err := decodeJSON(data, &f); err != nil {
		return fail(err)
	}
	defer clear(f.Key)
	key, err := decodeKey(f.Key)
	if err != nil {
		return fail(err)
	}
	v, err := heartbeat.VerifyKey(*src, f.Certificate)
	if err != nil {
		return fail(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fail(err)
	}
	if f.Epoch != epoch || v.Epoch != epoch || !bytes.Equal(v.Sign, spki) {
		return fail(errors.New("key, certificate and name of the file do not belong together"))
	}
	return &beatKey{epoch: epoch, key: key, certificate: f.Certificate}, nil
}

// newest loads the beat key of the highest epoch. A rotation at the same time
// may take it away between finding and reading it; then there is a newer one.
func newest(dir string, src *ledger.Source) (*beatKey, error) {
	var err error
	for range reloads {
		var epoch uint64
		if epoch, err = lastEpoch(dir); err != nil {
			return nil, err
		}
		if epoch == 0 {
			return nil, fmt.Errorf("%s holds no beat key", filepath.Join(dir, dirBeat))
		}
		var k *beatKey
		if k, err = loadBeatKey(dir, src, epoch); err == nil {
			return k, nil
		}
	}
	return nil, err
}

// destroyOld destroys the beat keys before an epoch.
func destroyOld(d *disk, dir string, epoch uint64) error {
	all, err := epochs(dir)
	if err != nil {
		return err
	}
	for _, n := range all {
		if n < epoch {
			if err := d.destroy(beatPath(dir, n)); err != nil {
				return fmt.Errorf("the beat key of epoch %d could not be destroyed: %w", n, err)
			}
		}
	}
	return nil
}

// Rotate makes the next beat key and destroys the one before, and returns the
// new epoch. A running source takes the new key over before its next beat, and
// devices with it: they go back to no earlier epoch. epoch, if not 0, is the
// epoch to go on to, for a source whose devices have seen a later one than its
// own.
func Rotate(dir string, epoch uint64, now int64) (uint64, error) {
	return rotate(realDisk(), dir, epoch, now)
}

func rotate(d *disk, dir string, epoch uint64, now int64) (uint64, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return 0, err
	}
	k, err := loadKeys(dir, c.Kind)
	if err != nil {
		return 0, err
	}
	last, err := lastEpoch(dir)
	if err != nil {
		return 0, err
	}
	if epoch == 0 {
		epoch = last + 1
	}
	if epoch <= last || epoch > maxEpoch {
		return 0, fmt.Errorf("epoch %d does not come after epoch %d, which is in force", epoch, last)
	}
	if err := newBeatKey(d, dir, c.source(k), k, epoch, now); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return 0, term.WithHint(errors.New("somebody else is rotating this source's beat key"), "look at 'privyseal-heartbeat status --dir "+dir+"'")
		}
		return 0, err
	}
	// The new key is durable. A crash before the next line leaves both, and the
	// next start or rotation destroys the old one.
	return epoch, destroyOld(d, dir, epoch)
}
