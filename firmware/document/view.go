package document

import (
	"fmt"
	"strings"
	"time"
)

// View is a document as officers see it before they approve (P6). Every string
// in it went through Escape and is safe to print; it also encodes to JSON.
type View struct {
	Title    string    `json:"title"`
	Warnings []string  `json:"warnings,omitempty"`
	Sections []Section `json:"sections"`
}

// Section groups fields under a heading.
type Section struct {
	Title  string  `json:"title"`
	Fields []Field `json:"fields"`
}

// Field is a label with one or more lines of value.
type Field struct {
	Label  string   `json:"label"`
	Values []string `json:"values"`
}

func (v *View) section(title string) { v.Sections = append(v.Sections, Section{Title: title}) }

// raw adds a field whose values are safe already.
func (v *View) raw(label string, values ...string) {
	s := &v.Sections[len(v.Sections)-1]
	s.Fields = append(s.Fields, Field{label, values})
}

// text adds a field whose values come from outside.
func (v *View) text(label string, values ...string) {
	safe := make([]string, len(values))
	for i, s := range values {
		safe[i] = Escape(s)
	}
	v.raw(label, safe...)
}

func (v *View) warn(format string, args ...any) {
	v.Warnings = append(v.Warnings, fmt.Sprintf(format, args...))
}

// View returns what officers see.
func (c *Checked) View() *View {
	v := new(View)
	c.content.view(v)
	if c.header != nil {
		c.header(v)
	}
	return v
}

// labelWidth is the column in which values begin: the labels of certificates fit
// before it, also "basic constraints, critical".
const labelWidth = 28

// Lines lays the view out for a terminal of the given width (at least 60
// columns are used). Values are broken here and continued behind "| ", so that
// padding cannot move a forged line to where the terminal would wrap.
func (v *View) Lines(width int) []string {
	width = max(width, 60)
	out := fold("", v.Title, width)
	for _, w := range v.Warnings {
		out = append(out, fold("  WARNING: ", w, width)...)
	}
	for _, s := range v.Sections {
		out = append(out, "", s.Title)
		for _, f := range s.Fields {
			label := f.Label
			if Columns(label) >= labelWidth { // of an extension that few have: its value is where all are
				out = append(out, fold("  ", label, width)...)
				label = ""
			}
			for _, value := range f.Values {
				pad := labelWidth - Columns(label)
				out = append(out, fold("  "+label+strings.Repeat(" ", pad), value, width)...)
				label = ""
			}
		}
	}
	return out
}

// String is Lines for a terminal of 100 columns.
func (v *View) String() string { return strings.Join(v.Lines(100), "\n") + "\n" }

// Columns is the room that text takes on a terminal: wide characters count as two.
func Columns(text string) int {
	n := 0
	for _, r := range text {
		n++
		if r >= 0x1100 && !(0x1e00 <= r && r <= 0x1fff) {
			n++
		}
	}
	return n
}

// fold breaks a value into lines.
func fold(prefix, value string, width int) []string {
	indent := Columns(prefix)
	var out []string
	line, used := prefix, indent
	for _, r := range value {
		w := Columns(string(r))
		if used+w > width {
			out = append(out, line)
			line, used = strings.Repeat(" ", indent)+"| ", indent+2
		}
		line += string(r)
		used += w
	}
	return append(out, line)
}

func formatTime(unix int64) string {
	return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

// days writes a length of time in seconds as days, exact to a tenth.
func days(seconds int64) string {
	if seconds%day == 0 {
		return fmt.Sprintf("%d days", seconds/day)
	}
	return fmt.Sprintf("%.1f days", float64(seconds)/day)
}
