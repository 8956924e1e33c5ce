package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The limits of docs/architecture.md. A reason that a reviewer accepts lifts
// one: "//house:allow why" in the comment of the function or type, behind an
// import, or before the package clause for a whole file.
const (
	maxFunction  = 80  // lines
	maxFile      = 600 // lines
	maxInterface = 7   // methods
	minReason    = 15  // letters of the reason
)

// vague are names that say nothing about what is in a package.
var vague = []string{"pkg", "util", "utils", "common", "types", "models", "model", "service", "services", "controller", "manager", "helper", "helpers", "misc", "shared", "base", "core", "lib"}

// clockless packages take now as an argument.
var clockless = layers[rules]

// sourceFile is a parsed Go file of the module.
type sourceFile struct {
	path      string // below the root, with slashes
	text      string
	ast       *ast.File
	fset      *token.FileSet
	test      bool // _test.go, or in a package for tests, such as storetest
	generated bool
}

func (f sourceFile) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(p).Line)
}

// skipped are folders with files that are not ours to judge.
func skipped(name string) bool {
	return name == "node_modules" || name == "testdata" || name == "vendored" || name != "." && name != ".ci" && strings.HasPrefix(name, ".")
}

// walk calls visit with every file of the tree.
func walk(t *testing.T, root string, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && skipped(d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".sh", ".yaml", ".yml", ".ts", ".js", ".py", ".html", ".templ", ".sql", ".txtar", ".json", ".css", "":
		default:
			return nil
		}
		if info, err := d.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > 4<<20 {
			return err
		}
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel), string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// parse reads one file.
func parse(path, text string) (sourceFile, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return sourceFile{}, err
	}
	return sourceFile{
		path: path, text: text, ast: file, fset: fset,
		test:      strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") || strings.HasSuffix(filepath.Dir(path), "test"),
		generated: ast.IsGenerated(file),
	}, nil
}

// goFiles returns the module's own Go files.
func goFiles(t *testing.T) (files []sourceFile) {
	t.Helper()
	walk(t, "..", func(path, text string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		f, err := parse(path, text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		files = append(files, f)
	})
	return files
}

// allowed reports whether a comment gives a reason.
func allowed(group *ast.CommentGroup) bool {
	if group == nil {
		return false
	}
	for _, c := range group.List {
		if reason, ok := strings.CutPrefix(c.Text, "//house:allow "); ok && len(strings.TrimSpace(reason)) >= minReason {
			return true
		}
	}
	return false
}

// tooLarge lists what in a file passes a limit without a reason.
func tooLarge(f sourceFile) (found []string) {
	whole := false
	for _, group := range f.ast.Comments {
		whole = whole || group.Pos() < f.ast.Package && allowed(group)
	}
	if n := strings.Count(f.text, "\n"); n > maxFile && !whole {
		found = append(found, fmt.Sprintf("%s: %d lines, more than %d: two reasons to change?", f.path, n, maxFile))
	}
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if n := f.fset.Position(d.End()).Line - f.fset.Position(d.Pos()).Line + 1; n > maxFunction && !allowed(d.Doc) {
				found = append(found, fmt.Sprintf("%s: %s has %d lines, more than %d", f.at(d.Pos()), d.Name.Name, n, maxFunction))
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if n := ownMethods(typ.Type); n > maxInterface && !allowed(d.Doc) && !allowed(typ.Doc) {
					found = append(found, fmt.Sprintf("%s: interface %s has %d methods, more than %d", f.at(typ.Pos()), typ.Name.Name, n, maxInterface))
				}
			}
		}
	}
	return found
}

// ownMethods counts the methods that an interface adds. One that joins small
// interfaces of others, for the wiring, is as large as what it adds.
func ownMethods(typ ast.Expr) (n int) {
	in, ok := typ.(*ast.InterfaceType)
	if !ok {
		return 0
	}
	for _, field := range in.Methods.List {
		n += len(field.Names)
	}
	return n
}

// imports returns the path and the local name of each import.
func imports(f sourceFile) map[string]string {
	names := map[string]string{}
	for _, spec := range f.ast.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[path] = name
	}
	return names
}

// misused lists calls and imports that the house forbids in a file that is no
// test.
func misused(f sourceFile) (found []string) {
	names := imports(f)
	for _, spec := range f.ast.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if (path == "math/rand" || path == "math/rand/v2") && !allowed(spec.Comment) && !allowed(spec.Doc) {
			found = append(found, f.at(spec.Pos())+": imports "+path+": randomness comes from crypto/rand, through secret")
		}
	}
	pure := slices.ContainsFunc(clockless, func(dir string) bool { return strings.HasPrefix(f.path, dir+"/") })
	ast.Inspect(f.ast, func(n ast.Node) bool {
		_, simple := n.(*ast.BinaryExpr)
		if at := takenForRefusal(n, names); at != nil && strings.HasPrefix(f.path, "internal/") && (simple || strings.HasPrefix(f.path, "internal/portal/")) {
			found = append(found, f.at(at.Pos())+": a passing fault of ours is a problem, too: ask problem.Refusal whether it says something of what was asked")
		}
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch {
		case names["time"] != "" && pkg.Name == names["time"] && slices.Contains([]string{"Now", "Since", "Until"}, sel.Sel.Name) && pure:
			found = append(found, f.at(sel.Pos())+": a rule reads the clock: take now as an argument")
		case names["net/http"] != "" && pkg.Name == names["net/http"] && slices.Contains([]string{"DefaultClient", "DefaultServeMux", "Get", "Post", "PostForm", "Head"}, sel.Sel.Name):
			found = append(found, f.at(sel.Pos())+": http."+sel.Sel.Name+" has no limits: use a client of your own")
		}
		return true
	})
	return found
}

// takenForRefusal is a condition that any problem meets: problem.From(err) != nil, or p != nil
// where p was made so by the same if or switch, which only pages may not say: what renders errors
// takes them all alike. nil: there is none in n.
func takenForRefusal(n ast.Node, names map[string]string) ast.Node {
	// of is the name that init gives to a problem.
	of := func(init ast.Stmt) string {
		a, ok := init.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != 1 || len(a.Rhs) != 1 || !isProblem(a.Rhs[0], names) {
			return ""
		}
		name, _ := a.Lhs[0].(*ast.Ident)
		return name.Name
	}
	bare := func(cond ast.Expr, name string) bool {
		b, ok := cond.(*ast.BinaryExpr)
		if !ok || b.Op != token.NEQ || name == "" {
			return false
		}
		x, ok := b.X.(*ast.Ident)
		return ok && x.Name == name
	}
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if isProblem(n.X, names) {
			return n
		}
	case *ast.IfStmt:
		if bare(n.Cond, of(n.Init)) {
			return n
		}
	case *ast.SwitchStmt:
		for _, c := range n.Body.List {
			for _, cond := range c.(*ast.CaseClause).List {
				if bare(cond, of(n.Init)) {
					return cond
				}
			}
		}
	}
	return nil
}

// isProblem reports whether x is a call of problem.From.
func isProblem(x ast.Expr, names map[string]string) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "From" {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == names["github.com/countersign-dev/countersign/internal/problem"]
}

func TestNothingIsTooLarge(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.generated {
			continue
		}
		for _, what := range tooLarge(f) {
			t.Error(what)
		}
	}
}

func TestForbiddenCalls(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.generated {
			continue
		}
		for _, what := range misused(f) {
			t.Error(what)
		}
	}
}

func TestPackagesAreNamedAndExplained(t *testing.T) {
	explained := map[string]bool{}
	where := map[string]string{}
	for _, f := range goFiles(t) {
		dir := filepath.ToSlash(filepath.Dir(f.path))
		if slices.Contains(vague, f.ast.Name.Name) || slices.Contains(vague, filepath.Base(dir)) {
			t.Errorf("%s: the name of package %s says nothing about what is in it", f.path, f.ast.Name.Name)
		}
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		where[dir] = f.path
		if f.ast.Doc != nil && len(strings.Fields(f.ast.Doc.Text())) >= 5 {
			explained[dir] = true
		}
	}
	for dir, file := range where {
		if !explained[dir] {
			t.Errorf("%s: package %s has no comment that says what it owns", file, dir)
		}
	}
}

// Written apart, so that this file does not find itself.
var (
	unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	machine    = regexp.MustCompile(`(^|[^A-Za-z0-9_.~-])/(wo` + `rk|fa` + `rm|ro` + `ot|ho` + `me/[a-z]|Us` + `ers/[a-z])[a-z0-9_-]*/`)
)

func TestNothingIsUnfinished(t *testing.T) {
	walk(t, "..", func(path, text string) {
		switch filepath.Ext(path) {
		case ".go", ".ts", ".js", ".py", ".html", ".templ", ".sql", ".sh":
		default:
			return
		}
		if strings.Contains(path, "/static/") && strings.Contains(path, ".min.") {
			return // vendored
		}
		for i, line := range strings.Split(text, "\n") {
			if unfinished.MatchString(line) {
				t.Errorf("%s:%d: unfinished: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

func TestNoPathOfOneMachine(t *testing.T) {
	walk(t, "..", func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			if m := machine.FindString(line); m != "" {
				t.Errorf("%s:%d: %q is a path of one machine", path, i+1, m)
			}
		}
	})
}

func TestLockFilesNameNoAddresses(t *testing.T) {
	walk(t, "..", func(path, text string) {
		if filepath.Base(path) == "package-lock.json" && strings.Contains(text, `"resolved"`) {
			t.Errorf("%s records where packages were downloaded from", path)
		}
	})
}

// TestRulesCanFail shows each rule a file that breaks it, and one that gives a
// reason.
func TestRulesCanFail(t *testing.T) {
	long := "func F() {\n" + strings.Repeat("\tprintln()\n", maxFunction) + "}\n"
	wide := "type I interface {\n" + strings.Repeat("\tM()\n", maxInterface+1) + "}\n"
	reason := "//house:allow one table, read from top to bottom\n"
	for _, c := range []struct {
		name, path, text, want string
	}{
		{"a long function", "internal/x/x.go", "package x\n" + long, "x.go:2: F has"},
		{"a long function with a reason", "internal/x/x.go", "package x\n\n// F is long.\n//\n" + reason + long, ""},
		{"a reason that says nothing", "internal/x/x.go", "package x\n\n// F is long.\n//\n//house:allow ok\n" + long, "F has"},
		{"a long file", "internal/x/x.go", "package x\n" + strings.Repeat("\n", maxFile), "lines, more than 600"},
		{"a long file with a reason", "internal/x/x.go", reason + "package x\n" + strings.Repeat("\n", maxFile), ""},
		{"a wide interface", "internal/x/x.go", "package x\n" + wide, "interface I has 8"},
		{"a clock in a rule", "internal/policy/x.go", "package policy\nimport clock \"time\"\nvar t = clock.Now()\n", "reads the clock"},
		{"a clock elsewhere", "internal/grant/x.go", "package grant\nimport \"time\"\nvar t = time.Now()\n", ""},
		{"an interface that joins others", "internal/x/x.go", "package x\ntype I interface {\n" + strings.Repeat("\tM\n", maxInterface+1) + "}\n", ""},
		{"weak randomness", "internal/x/x.go", "package x\nimport _ \"math/rand/v2\"\n", "crypto/rand"},
		{"jitter", "internal/x/x.go", "package x\nimport _ \"math/rand/v2\" //house:allow jitter only, nothing secret\n", ""},
		{"a client without limits", "internal/x/x.go", "package x\nimport \"net/http\"\nvar c = http.DefaultClient\n", "no limits"},
		{"a fault taken for a refusal", "internal/x/x.go", "package x\nimport \"github.com/countersign-dev/countersign/internal/problem\"\nvar gone = problem.From(nil) != nil\n", "problem.Refusal"},
		{"a fault taken for one by an if", "internal/portal/x.go", "package portal\nimport \"github.com/countersign-dev/countersign/internal/problem\"\nfunc f() { if p := problem.From(nil); p != nil { println(p) } }\n", "problem.Refusal"},
		{"and by a switch", "internal/portal/x.go", "package portal\nimport \"github.com/countersign-dev/countersign/internal/problem\"\nfunc f() { switch p := problem.From(nil); { case p != nil: println(p) } }\n", "problem.Refusal"},
		{"a problem of a kind", "internal/portal/x.go", "package portal\nimport \"github.com/countersign-dev/countersign/internal/problem\"\nfunc f() { if p := problem.From(nil); p != nil && p.Kind == problem.NotFound { println(p) } }\n", ""},
		{"a refusal", "internal/x/x.go", "package x\nimport \"github.com/countersign-dev/countersign/internal/problem\"\nvar gone = problem.Refusal(nil)\n", ""},
		{"a client of one's own", "internal/x/x.go", "package x\nimport \"net/http\"\nvar c = http.Client{}\n", ""},
	} {
		f, err := parse(c.path, c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		found := strings.Join(append(tooLarge(f), misused(f)...), "\n")
		if c.want == "" && found != "" || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
	for text, want := range map[string]bool{"// TO" + "DO: later": true, "mastodon": false} {
		if got := unfinished.MatchString(text); got != want {
			t.Errorf("%q is unfinished: %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"cd /ro" + "ot/x": true, "in /ho" + "me/ada/x": true, "https://example.com/wo" + "rk/x": false, "/etc/countersign/": false, "a/wo" + "rk/b": false,
	} {
		if got := machine.MatchString(text); got != want {
			t.Errorf("%q is a path of one machine: %v, want %v", text, got, want)
		}
	}
}
