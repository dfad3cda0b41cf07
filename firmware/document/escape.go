package document

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes s safe and honest to show on an officer's terminal. What it
// returns holds only printable ASCII and letters that cannot be taken for
// ASCII ones. Everything else is written as \u{hex}, or \x{hex} for an octet
// that is not UTF-8, and a backslash is doubled so that nobody can write an
// escape by hand:
//
//   - control and format characters: escape sequences, bidirectional overrides
//     (CVE-2021-42574), zero-width characters;
//   - scripts written from right to left: they reorder their neighbours even
//     without a control character;
//   - combining marks, exotic spaces, non-ASCII punctuation and symbols;
//   - letters that look like ASCII letters, and every Greek or Cyrillic letter
//     in a text that also has Latin ones (UTS #39, mixed scripts);
//   - the second and later spaces of a run, and spaces at either end: padding
//     moves a forged line to where the terminal wraps.
func Escape(s string) string {
	hasLatin, hasOther := false, false
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', unicode.Is(unicode.Latin, r):
			hasLatin = true
		case unicode.In(r, unicode.Cyrillic, unicode.Greek):
			hasOther = true
		}
	}
	mixed := hasLatin && hasOther
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x{%02x}`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case r == ' ':
			if i == 0 || i+1 == len(s) || s[i-1] == ' ' {
				b.WriteString(`\u{20}`)
			} else {
				b.WriteByte(' ')
			}
		case showable(r, mixed):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		i += n
	}
	return b.String()
}

// showable is an allow-list: a character nobody thought of is escaped.
func showable(r rune, mixed bool) bool {
	switch {
	case '!' <= r && r <= '~':
		return true
	case r < 0xc0:
		return false
	case r <= 0x24f: // Latin-1, Latin Extended-A and -B
		return unicode.IsLetter(r) && !strings.ContainsRune(latinLookalikes, r) && !(0x1c0 <= r && r <= 0x1c3)
	case 0x1e00 <= r && r <= 0x1eff: // Latin Extended Additional
		return unicode.IsLetter(r)
	case unicode.In(r, unicode.Cyrillic, unicode.Greek):
		return unicode.IsLetter(r) && !mixed && !strings.ContainsRune(otherLookalikes, r) && r < 0x460
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
		return unicode.IsLetter(r) && r < 0xff00 && !strings.ContainsRune("一丨丶丿乙口ノ〇二三ロエニハヘへ", r) && !(0x2e80 <= r && r <= 0x303f)
	case 0xac00 <= r && r <= 0xd7a3: // Hangul syllables
		return true
	}
	return false
}

// Letters that most fonts draw like an ASCII letter or digit (UTS #39,
// confusables.txt, reduced to the blocks that showable lets through).
const (
	latinLookalikes = "ıĸſƅƖƗƘƚƟƦƨƧƼƽƿǀǁǂǃǝȜȝȢȣɑɡɩ"
	otherLookalikes = "АВЕЅІЈКМНОРСТУХҮаеѕіјорсухԁԛԝһӏЗзЬьгвкмнтпгѴѵғЁёЇїӀ" +
		"ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϒϜϹϲϳανγικορτυχωϱϛϝ"
)
