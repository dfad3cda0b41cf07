package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// Whoever was away can come back, and the ceremony goes on; what is wrong stays
// wrong and gets no such advice.
func TestResumable(t *testing.T) {
	hint := func(err error) string {
		var h term.Hinter
		if errors.As(resumable(err), &h) {
			return h.Hint()
		}
		return ""
	}
	for _, err := range []error{
		fmt.Errorf("device d1 cannot be reached: %w", &client.UnreachableError{Server: "s1", Err: syscall.ECONNREFUSED}),
		fmt.Errorf("device d1 cannot be reached: %w", &client.RefusedError{Server: "s1", Text: "no link"}),
	} {
		if hint(err) != resumeHint {
			t.Errorf("%v: hint %q", err, hint(err))
		}
	}
	for _, err := range []error{
		errors.New("device d2 runs other firmware"),
		&client.UnreachableError{Server: "s1", Err: &pinned.WrongPinError{}},
	} {
		if hint(err) == resumeHint {
			t.Errorf("%v: going on is advised", err)
		}
	}
	if resumable(nil) != nil {
		t.Error("success became an error")
	}
}
