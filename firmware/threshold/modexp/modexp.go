package modexp

/*
#cgo pkg-config: libcrypto
#cgo modexp_portable CFLAGS: -DPRIVYSEAL_LANES=0
#cgo modexp_model CFLAGS: -DPRIVYSEAL_LANES=2
#cgo noescape privyseal_modulus_new
#cgo nocallback privyseal_modulus_new
#cgo noescape privyseal_exp_consttime
#cgo nocallback privyseal_exp_consttime
#cgo noescape privyseal_exp_vartime
#cgo nocallback privyseal_exp_vartime
#cgo noescape privyseal_exp2_vartime
#cgo nocallback privyseal_exp2_vartime
#include "modexp.h"
#include "lanes.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

var (
	// ErrModulus is returned for a modulus that is even, too short or too
	// long, or not written in its shortest form.
	ErrModulus = errors.New("modexp: modulus must be odd, greater than 1, without leading zero bytes and of at most 4096 bits")

	// ErrOperand is returned for a base that is not exactly as long as the
	// modulus or not below it, and for an exponent that is empty or too long.
	ErrOperand = errors.New("modexp: operand out of range")

	// ErrLibcrypto is returned when libcrypto itself fails, which means that
	// memory (or the locked heap, see LockHeap) is exhausted.
	ErrLibcrypto = errors.New("modexp: libcrypto failed, most likely for want of (locked) memory")

	// ErrSelfTest is returned by New, always from then on, if the processor's
	// vector code and libcrypto do not agree on some known powers.
	ErrSelfTest = errors.New("modexp: self-test failed: the vector code of this processor and libcrypto disagree; take this machine out of service, or build with the tag modexp_portable")
)

// Modulus is an odd modulus N with its Montgomery constants, which are
// computed once. It holds nothing secret, is immutable, and may be used by any
// number of goroutines at once.
type Modulus struct {
	c     *C.privyseal_modulus
	width int
}

// New returns the modulus whose big-endian bytes are n. It returns ErrModulus
// if n is even, less than 3, longer than MaxModulusLen, or has leading zeros,
// ErrSelfTest if this machine computes wrongly.
func New(n []byte) (*Modulus, error) {
	if err := selfTest(); err != nil {
		return nil, err
	}
	return newModulus(n, 0)
}

// The two limits are one.
var _ [MaxModulusLen]struct{} = [C.MAX_MODULUS_LEN]struct{}{}

func newModulus(n []byte, portable int) (*Modulus, error) {
	if len(n) == 0 || len(n) > MaxModulusLen || n[0] == 0 || n[len(n)-1]&1 == 0 || (len(n) == 1 && n[0] == 1) {
		return nil, ErrModulus
	}
	c := C.privyseal_modulus_new(ptr(n), C.size_t(len(n)), C.int(portable))
	if c == nil {
		return nil, ErrLibcrypto
	}
	m := &Modulus{c: c, width: len(n)}
	runtime.AddCleanup(m, func(c *C.privyseal_modulus) { C.privyseal_modulus_free(c) }, c)
	return m, nil
}

// vectors returns how many vectors a number modulo m has in the vector code, 0 if
// libcrypto does everything.
func (m *Modulus) vectors() int {
	defer runtime.KeepAlive(m)
	return int(C.privyseal_modulus_vectors(m.c))
}

// lanes is PRIVYSEAL_LANES: what the vector code is compiled for.
const lanes = C.PRIVYSEAL_LANES

// Len returns the length of the modulus in bytes, which is the length of every
// base and every result.
func (m *Modulus) Len() int { return m.width }

// Exp returns xᵈ mod N as exactly Len bytes, big-endian, in time that depends
// on the lengths of d and N only. x must be exactly Len bytes and below N; d
// is any number of bytes up to MaxExponentLen, leading zeros included: write
// all the shares of a kind at the same width.
//
// The caller keeps d and wipes it; no copy outlives the call.
func (m *Modulus) Exp(x, d []byte) ([]byte, error) {
	if err := m.check(x, d); err != nil {
		return nil, err
	}
	out := make([]byte, m.width)
	ok := C.privyseal_exp_consttime(m.c, ptr(out), ptr(x), ptr(d), C.size_t(len(d)))
	runtime.KeepAlive(m)
	return result(out, ok)
}

// ExpVarTime returns xᵉ mod N as exactly Len bytes for a public exponent e. It
// takes less time for a shorter or sparser e.
func (m *Modulus) ExpVarTime(x, e []byte) ([]byte, error) {
	if err := m.check(x, e); err != nil {
		return nil, err
	}
	out := make([]byte, m.width)
	ok := C.privyseal_exp_vartime(m.c, ptr(out), ptr(x), ptr(e), C.size_t(len(e)))
	runtime.KeepAlive(m)
	return result(out, ok)
}

// Exp2VarTime returns xᵃ·yᵇ mod N for public exponents a and b; x and y must not
// be 0. The squarings are shared (Shamir's trick), so that it costs little more
// than the longer of the two powers.
func (m *Modulus) Exp2VarTime(x, a, y, b []byte) ([]byte, error) {
	if err := errors.Join(m.check(x, a), m.check(y, b)); err != nil {
		return nil, err
	}
	out := make([]byte, m.width)
	ok := C.privyseal_exp2_vartime(m.c, ptr(out), ptr(x), ptr(a), C.size_t(len(a)), ptr(y), ptr(b), C.size_t(len(b)))
	runtime.KeepAlive(m)
	return result(out, ok)
}

// LockHeap gives libcrypto a heap of the given number of bytes (a power of
// two, at least 64 KiB) that is locked in memory, left out of core dumps and fenced by guard
// pages, and from which all secret numbers of this package are then taken.
// 1 MiB serves some dozens of exponentiations at once. A program calls it once,
// before its first use of libcrypto. It is an error if the pages cannot be
// locked (raise RLIMIT_MEMLOCK) or a heap exists already.
func LockHeap(size int) error {
	if size < 1<<16 || size > 1<<30 || size&(size-1) != 0 { // libcrypto would abort the process
		return fmt.Errorf("modexp: secure heap of %d bytes: need a power of two from 64 KiB to 1 GiB", size)
	}
	switch C.privyseal_lock_heap(C.size_t(size)) {
	case 1:
		return nil
	case 2:
		return errors.New("modexp: secure heap made, but its pages cannot be locked: raise RLIMIT_MEMLOCK")
	default:
		return errors.New("modexp: cannot make a secure heap: there is one already, or memory is short")
	}
}

func (m *Modulus) check(x, exponent []byte) error {
	if len(x) != m.width {
		return fmt.Errorf("%w: base has %d bytes, not %d", ErrOperand, len(x), m.width)
	}
	if len(exponent) == 0 || len(exponent) > MaxExponentLen {
		return fmt.Errorf("%w: exponent has %d bytes, not 1 to %d", ErrOperand, len(exponent), MaxExponentLen)
	}
	return nil
}

func result(out []byte, code C.int) ([]byte, error) {
	switch code {
	case 1:
		return out, nil
	case 0:
		return nil, fmt.Errorf("%w: base is not below the modulus, or 0 where that is refused", ErrOperand)
	default:
		return nil, ErrLibcrypto
	}
}

// ptr gives C the bytes of b, which is never empty here. cgo pins them for the
// call; none of the C functions keeps a pointer.
func ptr(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }
