package command

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// Group is a command that only has others below it.
func Group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			hint := "see: " + c.CommandPath() + " --help"
			if len(args) > 0 {
				return Usage("there is no command \""+c.CommandPath()+" "+args[0]+"\"", hint)
			}
			return Usage("say what to do with \""+c.CommandPath()+"\"", hint)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.AddCommand(sub...)
	return c
}

// watch marks when a command begins, and names arguments as the command's help
// does.
func watch(c *cobra.Command, started *bool) {
	if check := c.Args; check != nil && len(c.Commands()) == 0 {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			return argsError(c, args)
		}
	}
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*started = true
			return do(c, args)
		}
	}
	for _, sub := range c.Commands() {
		watch(sub, started)
	}
}

// argsError says which argument is missing or too many, by the command's Use, in
// which arguments come before flags.
func argsError(c *cobra.Command, args []string) error {
	hint := "usage: " + c.UseLine()
	var names []string
	for _, word := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(strings.TrimLeft(word, "[("), "-") {
			break
		}
		names = append(names, word)
	}
	switch {
	case len(args) < len(names) && !strings.HasPrefix(names[len(args)], "["):
		return Usage(strings.TrimSuffix(names[len(args)], "...")+" is missing", hint)
	case len(args) == 0:
		return Usage("an argument is missing", hint)
	}
	return Usage(fmt.Sprintf("%q is one argument too many", args[min(len(names), len(args)-1)]), hint)
}

// flagError says in plain words what a flag's value should be.
func flagError(c *cobra.Command, err error) error {
	m := invalidValue.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	value, name := m[1], m[2]
	f := c.Flags().Lookup(name)
	if f == nil {
		return err
	}
	want := map[string]string{
		"uint": "a whole number", "uint32": "a whole number", "uint64": "a whole number", "int": "a whole number",
		"uintSlice": "whole numbers with commas between them", "duration": "a time such as 30s, 10m or 12h", "bool": "true or false",
	}[f.Value.Type()]
	if want == "" {
		return err
	}
	return Usage(fmt.Sprintf("--%s %q is not %s", name, value, want), "see: "+c.CommandPath()+" --help")
}

// invalidValue is how the flag package says that a value will not do.
var invalidValue = regexp.MustCompile(`^invalid argument "(.*)" for "(?:-., )?--([a-z-]+)" flag: `)
