package heartbeat

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// plantedVar is the environment variable with the number of the fault that is in
// force, from 1.
const plantedVar = "HEARTBEAT_FAULT"

// plant writes the package's files with all faults in them and returns an overlay
// for the go command. To build the package once for each would take minutes. So
// a function that has faults is there several times: as it is, and once with each
// of them; who calls it comes to the one that the environment asks for.
func plant(dir string, faults []fault) (overlay string, err error) {
	replace := map[string]string{}
	put := func(file, text string) error {
		here, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		replace[here] = filepath.Join(dir, file)
		return os.WriteFile(replace[here], []byte(text), 0o600)
	}
	var files []string
	for _, f := range faults {
		if !slices.Contains(files, f.file) {
			files = append(files, f.file)
		}
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text, err := plantFile(file, string(src), faults)
		if err != nil {
			return "", err
		}
		if err := put(file, text); err != nil {
			return "", err
		}
	}
	if err := put("planted.go", fmt.Sprintf("package heartbeat\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar planted, _ = strconv.Atoi(os.Getenv(%q))\n", plantedVar)); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// plantFile returns a file's text with its faults.
func plantFile(file, src string, faults []fault) (string, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, src, 0)
	if err != nil {
		return "", err
	}
	at := func(p token.Pos) int { return set.Position(p).Offset }
	var more strings.Builder           // copies
	calls := map[*ast.FuncDecl][]int{} // by function: its faults
	for i, f := range faults {
		if f.file != file {
			continue
		}
		if n := strings.Count(src, f.old); n != 1 {
			return "", fmt.Errorf("%s holds %q %d times, not once", file, f.old, n)
		}
		from := strings.Index(src, f.old)
		d := slices.IndexFunc(tree.Decls, func(d ast.Decl) bool {
			fn, ok := d.(*ast.FuncDecl)
			return ok && fn.Body != nil && at(fn.Body.Pos()) < from && from+len(f.old) <= at(fn.End())
		})
		if d < 0 {
			return "", fmt.Errorf("%s: %q is in no function", file, f.old)
		}
		fn := tree.Decls[d].(*ast.FuncDecl)
		fmt.Fprintf(&more, "\n%sFault%d%s%s%s\n", src[at(fn.Pos()):at(fn.Name.End())], i+1,
			src[at(fn.Name.End()):from], f.new, src[from+len(f.old):at(fn.End())])
		calls[fn] = append(calls[fn], i+1)
	}
	var out strings.Builder
	done := 0
	for _, d := range tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || calls[fn] == nil {
			continue
		}
		out.WriteString(src[done:at(fn.Name.End())] + "Sound")
		done = at(fn.Name.End())
		call, err := callOf(fn)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		verb := ""
		if fn.Type.Results != nil {
			verb = "return "
		}
		fmt.Fprintf(&more, "\n%s{\n\tswitch planted {\n", src[at(fn.Pos()):at(fn.Body.Pos())])
		for _, number := range calls[fn] {
			fmt.Fprintf(&more, "\tcase %d:\n\t\t%s%s\n", number, verb, fmt.Sprintf(call, fmt.Sprint("Fault", number)))
		}
		fmt.Fprintf(&more, "\tdefault:\n\t\t%s%s\n\t}\n}\n", verb, fmt.Sprintf(call, "Sound"))
	}
	out.WriteString(src[done:])
	return out.String() + more.String(), nil
}

// callOf is a call of a function with its own receiver and arguments, with %s
// behind its name.
func callOf(fn *ast.FuncDecl) (string, error) {
	call := fn.Name.Name + "%s"
	if fn.Recv != nil {
		if len(fn.Recv.List[0].Names) == 0 {
			return "", fmt.Errorf("%s has no name for its receiver", fn.Name)
		}
		call = fn.Recv.List[0].Names[0].Name + "." + call
	}
	var args []string
	for _, p := range fn.Type.Params.List {
		for _, name := range p.Names {
			if name.Name == "_" {
				return "", fmt.Errorf("%s has an argument without a name", fn.Name)
			}
			arg := name.Name
			if _, ok := p.Type.(*ast.Ellipsis); ok {
				arg += "..."
			}
			args = append(args, arg)
		}
		if len(p.Names) == 0 {
			return "", fmt.Errorf("%s has an argument without a name", fn.Name)
		}
	}
	return call + "(" + strings.Join(args, ", ") + ")", nil
}
