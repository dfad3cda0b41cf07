package hsm_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
)

// TestExponentInNSS runs the exponentiation in a second, unrelated token: that
// a Diffie-Hellman derivation is plain modular exponentiation, whatever the
// modulus, must not be a peculiarity of SoftHSM2. Mozilla's softokn (Debian's
// libnss3) is used without a database.
func TestExponentInNSS(t *testing.T) {
	found, err := filepath.Glob("/usr/lib/*/libsoftokn3.so")
	if err != nil || len(found) == 0 {
		t.Fatalf("no libsoftokn3.so; install libnss3 (%v)", err)
	}
	ctx := pkcs11.New(found[0])
	if ctx == nil {
		t.Fatalf("cannot load %s", found[0])
	}
	// softokn takes its parameters where others have pReserved.
	params := []byte("configdir='' certPrefix='' keyPrefix='' secmod='' flags=readOnly,noCertDB,noModDB,forceOpen,optimizeSpace\x00")
	if err := ctx.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(&params[0]))); err != nil {
		t.Fatal(err)
	}
	defer ctx.Finalize()
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(slots, func(s uint) bool {
		info, err := ctx.GetTokenInfo(s)
		return err == nil && strings.HasPrefix(info.Label, "NSS Generic Crypto")
	})
	if i < 0 {
		t.Fatal("softokn has no generic token")
	}
	// It has no data objects; the probe must find that out without the table.
	if yes, err := hsm.LockedDestroyOf(ctx, slots[i]); yes || err != nil {
		t.Errorf("softokn destroys public data objects: %v, %v", yes, err)
	}
	small := func(size int, v byte) []byte { return slices.Concat(make([]byte, size-1), []byte{v}) }
	for _, bits := range []int{1024, 2048, 3072} {
		n, x := testModulus(bits), testModulus(bits)
		x[0] &= 0x7f
		even := testModulus(bits)
		even[len(even)-1] &^= 1
		for name, d := range map[string][]byte{"odd": testModulus(bits), "even": even, "short": {1, 0, 1}, "two": {2}} {
			e, err := hsm.Import(ctx, slots[i], n, d)
			if err != nil {
				t.Fatalf("%d bits, %s exponent: %v", bits, name, err)
			}
			for _, x := range [][]byte{x, small(bits/8, 3)} {
				if y, err := e.Exp(x); err != nil || !bytes.Equal(y, exp(x, d, n)) {
					t.Errorf("%d bits, %s exponent: %x, %v; math/big says %x", bits, name, y, err, exp(x, d, n))
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
