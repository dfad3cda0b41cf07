package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/lint"
	"github.com/privyseal/privyseal/firmware/document"
)

// A batch has up to a hundred certificates, and a terminal no pages. Nothing of
// them is left out: what is the same in all of them is shown once, then what each
// has of its own. The table comes last, next to the question, with every warning
// under the certificate that it is about.

// finding is what a linter found, with the number of the certificate if it is
// one of a batch.
type finding struct {
	lint.Finding
	Certificate int `json:"certificate,omitempty"`
}

// certificateJSON is one certificate of a batch, as the table has it. All text is
// safe to print.
type certificateJSON struct {
	Number    int            `json:"number"`
	Subject   string         `json:"subject"`
	Names     []string       `json:"names"`
	Key       string         `json:"key"`
	NotBefore string         `json:"not_before"`
	NotAfter  string         `json:"not_after"`
	Warnings  []string       `json:"warnings"`
	Lint      []lint.Finding `json:"lint"`
	LintFail  string         `json:"lint_error,omitempty"`
}

// batch describes each certificate.
func (x *shown) batch(i *client.Item, linted []client.Linted) {
	var failed []string
	for n, part := range i.Checked.Parts() {
		v := part.View()
		c := certificateJSON{
			Number: n + 1, Subject: briefly(v), Names: fieldOf(v, "Subject", "alternative names"),
			Key:       strings.Join(fieldOf(v, "Public key", "type"), ", "),
			NotBefore: strings.Join(fieldOf(v, "Validity", "not before"), ""), NotAfter: strings.Join(fieldOf(v, "Validity", "not after"), ""),
			Warnings: append([]string{}, v.Warnings...), Lint: append([]lint.Finding{}, linted[n].Findings...),
		}
		for _, f := range c.Lint {
			x.Lint = append(x.Lint, finding{f, c.Number})
		}
		if err := linted[n].Err; err != nil {
			c.LintFail = err.Error()
			failed = append(failed, fmt.Sprintf("certificate %d: %s", c.Number, c.LintFail))
		}
		x.Certificates = append(x.Certificates, c)
	}
	x.LintFail = strings.Join(failed, "; ")
}

// remarks are all that should be noticed of a certificate.
func (c *certificateJSON) remarks() []string {
	var out []string
	for _, w := range c.Warnings {
		out = append(out, "WARNING: "+w)
	}
	if c.LintFail != "" {
		out = append(out, "ERROR: it could not be examined: "+c.LintFail)
	}
	for _, f := range c.Lint {
		out = append(out, f.String())
	}
	return out
}

// alike are the remarks that all certificates have.
func (x *shown) alike() []string {
	if len(x.Certificates) < 2 {
		return nil
	}
	return slices.DeleteFunc(x.Certificates[0].remarks(), func(r string) bool {
		return slices.ContainsFunc(x.Certificates, func(c certificateJSON) bool { return !slices.Contains(c.remarks(), r) })
	})
}

// remarked says which certificates have remarks.
func (x *shown) remarked() string {
	alike := x.alike()
	own := func(c certificateJSON) bool {
		return slices.ContainsFunc(c.remarks(), func(r string) bool { return !slices.Contains(alike, r) })
	}
	var with []string
	for first := 0; first < len(x.Certificates); first++ {
		last := first
		for last < len(x.Certificates) && own(x.Certificates[last]) {
			last++
		}
		switch last - first {
		case 0:
			continue
		case 1:
			with = append(with, fmt.Sprint(first+1))
		default:
			with = append(with, fmt.Sprintf("%d to %d", first+1, last))
		}
		first = last
	}
	if len(alike) > 0 {
		return "all, and more on " + listOr(with, "none")
	}
	return listOr(with, "none")
}

func subjectOf(v *document.View) string { return strings.TrimPrefix(v.Title, "Certificate for ") }

// briefly is the subject without the word "common name" where it is nothing else.
func briefly(v *document.View) string {
	subject := subjectOf(v)
	if name, ok := strings.CutPrefix(subject, "common name="); ok && !strings.ContainsAny(name, "=,") {
		return name
	}
	return subject
}

// fieldOf is the value of a field of a decoded certificate.
func fieldOf(v *document.View, section, label string) []string {
	for _, s := range v.Sections {
		for _, f := range s.Fields {
			if s.Title == section && f.Label == label {
				return f.Values
			}
		}
	}
	return []string{}
}

func certificatesOf(n int) string {
	if n == 1 {
		return "1 certificate"
	}
	return fmt.Sprintf("%d certificates", n)
}

// shortTitle is an item's title, cut so that a line of the inbox holds it.
func shortTitle(i *client.Item, width int) string {
	if i.Checked.Kind() != document.KindCertificates {
		return i.View().Title
	}
	parts := i.Checked.Parts()
	title, sep := fmt.Sprintf("Batch of %s: ", certificatesOf(len(parts))), ""
	for n, part := range parts {
		name := sep + briefly(part.View())
		more := fmt.Sprintf(", … and %d more", len(parts)-n)
		if n > 0 && document.Columns(title+name+more) > width && (n < len(parts)-1 || document.Columns(title+name) > width) {
			return title + more
		}
		title, sep = title+name, ", "
	}
	return title
}

// batchLines shows all of a batch.
func (x *shown) batchLines(i *client.Item, width int) []string {
	var views []*document.View
	for _, part := range i.Checked.Parts() {
		views = append(views, part.View())
	}
	n := len(views)
	out := document.View{Title: "Batch of " + certificatesOf(n), Sections: common(views)}
	for k, v := range views {
		s := document.Section{Title: fmt.Sprintf("Certificate %d of %d", k+1, n), Fields: []document.Field{{Label: "for", Values: []string{subjectOf(v)}}}}
		for _, part := range v.Sections {
			for _, f := range part.Fields {
				if n == 1 || !everywhere(views, part.Title, f) {
					s.Fields = append(s.Fields, f)
				}
			}
		}
		out.Sections = append(out.Sections, s)
	}
	for _, s := range x.View.Sections {
		if s.Title == "Request" {
			out.Sections = append(out.Sections, s)
		}
	}
	return slices.Concat(out.Lines(width), []string{"", fmt.Sprintf("All %d, and what is to be noticed", n)}, x.table(width))
}

// common are the fields that all certificates have alike.
func common(views []*document.View) []document.Section {
	var out []document.Section
	for _, s := range views[0].Sections {
		same := document.Section{Title: fmt.Sprintf("%s, the same in all %d", s.Title, len(views))}
		for _, f := range s.Fields {
			if len(views) > 1 && everywhere(views, s.Title, f) {
				same.Fields = append(same.Fields, f)
			}
		}
		if len(same.Fields) > 0 {
			out = append(out, same)
		}
	}
	return out
}

// everywhere reports whether all views have a field in this section.
func everywhere(views []*document.View, section string, f document.Field) bool {
	for _, v := range views {
		if !slices.ContainsFunc(v.Sections, func(s document.Section) bool {
			return s.Title == section && slices.ContainsFunc(s.Fields, func(g document.Field) bool { return f.Label == g.Label && slices.Equal(f.Values, g.Values) })
		}) {
			return false
		}
	}
	return true
}

// table has a row for each certificate, and under it what is to be noticed of
// it. What is to be noticed of all of them alike is said once, at the end.
func (x *shown) table(width int) []string {
	all := x.Certificates
	alike := x.alike()
	rows := [][][]string{{{"no."}, {"subject"}, {"names"}, {"key"}, {"until"}}}
	for _, c := range all {
		until, _, _ := strings.Cut(c.NotAfter, " ")
		// The usual exponent is not worth a column: it is above, with each key.
		key := strings.TrimSuffix(c.Key, ", exponent 65537")
		rows = append(rows, [][]string{{fmt.Sprint(c.Number)}, {c.Subject}, c.Names, {key}, {until}})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for k, cell := range row {
			for _, line := range cell {
				widths[k] = max(widths[k], document.Columns(line))
			}
		}
	}
	// What is short has the room it needs; subject and names share the rest.
	widths[3] = min(widths[3], 16)
	rest := max(width-2-widths[0]-widths[3]-widths[4]-4*2, 24)
	widths[1] = min(widths[1], max(rest/2, rest-widths[2]))
	widths[2] = min(widths[2], rest-widths[1])
	var out []string
	for n, row := range rows {
		for k := range row {
			var broken []string
			for _, line := range row[k] {
				broken = append(broken, cut(line, widths[k])...)
			}
			row[k] = broken
		}
		for line := range slices.Max([]int{1, len(row[1]), len(row[2]), len(row[3])}) {
			text := " "
			for k, cell := range row {
				value := ""
				if line < len(cell) {
					value = cell[line]
				}
				text += " " + value + strings.Repeat(" ", max(0, widths[k]-document.Columns(value))+1)
			}
			out = append(out, strings.TrimRight(text, " "))
		}
		if n == 0 {
			continue
		}
		for _, r := range all[n-1].remarks() {
			if !slices.Contains(alike, r) {
				out = append(out, indented(r, widths[0]+4, width)...)
			}
		}
	}
	for _, r := range alike {
		out = append(out, indented(fmt.Sprintf("all %d: %s", len(all), r), 2, width)...)
	}
	return out
}

// indented breaks text into lines that do not look like rows.
func indented(text string, indent, width int) []string {
	lines := cut(text, width-indent)
	for k := range lines {
		lines[k] = strings.Repeat(" ", indent) + lines[k]
	}
	return lines
}

// cut breaks text into lines. Those after the first begin with a bar: what is one
// name is not read as two, nor as one of the certificate below.
func cut(text string, width int) []string {
	if document.Columns(text) <= width {
		return []string{text}
	}
	lines := chop(text, width-2)
	for k := range lines[1:] {
		lines[k+1] = "| " + lines[k+1]
	}
	return lines
}

// chop breaks text after so many columns.
func chop(text string, width int) []string {
	var out []string
	line, used := "", 0
	for _, r := range text {
		w := document.Columns(string(r))
		if used+w > width && line != "" {
			out, line, used = append(out, line), "", 0
		}
		line, used = line+string(r), used+w
	}
	return append(out, line)
}
