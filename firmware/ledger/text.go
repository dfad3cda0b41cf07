package ledger

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkID accepts 1..max bytes of ASCII letters, digits and - _ . : @ # +, beginning with a letter or digit: printable, without
// spaces, and without what is special in a path, a NATS subject wildcard or a shell.
func checkID(s string, max int) error {
	switch {
	case s == "":
		return fmt.Errorf("id is empty")
	case len(s) > max:
		return fmt.Errorf("id has %d bytes, at most %d", len(s), max)
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte("-_.:@#+", c) < 0) {
			return fmt.Errorf("id %.64q: letters, digits and -_.:@#+ only, beginning with a letter or digit", s)
		}
	}
	return nil
}

// checkName accepts 1..max bytes of printable UTF-8 without leading or trailing space. Control and format characters (such as those
// that turn the direction of text) could make a name look like another on an officer's screen.
func checkName(what, s string, max int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > max:
		return fmt.Errorf("%s has %d bytes, at most %d", what, len(s), max)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not UTF-8", what)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%s %q begins or ends with a space", what, s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%s %q holds an unprintable character %U", what, s, r)
		}
	}
	return nil
}

// checkASCII accepts 1..max bytes of ASCII without spaces and quotes, for addresses.
func checkASCII(what, s string, max int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > max:
		return fmt.Errorf("%s has %d bytes, at most %d", what, len(s), max)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte("\"'`<>\\", s[i]) >= 0 {
			return fmt.Errorf("%s %q holds a character that no address has", what, s)
		}
	}
	return nil
}

// checkTime accepts 1 .. year 9999.
func checkTime(what string, t int64) error {
	if t <= 0 || t > maxTime {
		return fmt.Errorf("%s %d is not a time after 1970 and before 10000", what, t)
	}
	return nil
}
