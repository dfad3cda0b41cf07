package soak

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// Outside gives f what a test has, where there is none: scripts/bench makes
// its fleets with the helpers of tests. A fatal failure is the error. f calls
// Fatal from its own goroutine only, as in tests.
func Outside(f func(t testing.TB) error) (err error) {
	t := &outside{}
	defer func() {
		for _, c := range slices.Backward(t.cleanups) {
			c()
		}
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			panic(r)
		}
	}()
	return f(t)
}

type failure struct{ error }

// outside is a testing.TB of which only what helpers use is there.
type outside struct {
	testing.TB
	cleanups []func()
}

func (*outside) Helper()                           {}
func (*outside) Log(...any)                        {}
func (*outside) Logf(string, ...any)               {}
func (t *outside) Cleanup(f func())                { t.cleanups = append(t.cleanups, f) }
func (*outside) Fatal(args ...any)                 { panic(failure{fmt.Errorf("%s", fmt.Sprint(args...))}) }
func (*outside) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (t *outside) TempDir() string {
	dir, err := os.MkdirTemp("", "privyseal-soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
