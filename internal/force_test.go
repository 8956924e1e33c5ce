package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// intoForce are the functions in which a version is put in force, or a rollout begins:
// by what a person signed, or why without.
var intoForce = map[string]string{
	"internal/ruleset/publication.go CarryOut":      "by what a person signed, which it spends",
	"internal/ruleset/rollout.go Finish":            "by what a person signed when it began",
	"internal/admin/policies.go putBack":            "an earlier version, or the default set: one command at any hour",
	"internal/server/policy.go RecoverPolicy":       "root on the host, loudly: an earlier version, when nobody can publish",
	"internal/server/adopt.go Adopt":                "root on the host: the default set, in the place of a sandbox's sample",
	"internal/server/sandbox.go seedSamplePolicies": "the sample of a sandbox, which its first start makes",
}

// TestWaysIntoForce: a set comes into force in these ways and in no other. A rule that one
// way enforces and another does not is no rule.
func TestWaysIntoForce(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "storetest") {
			if d != nil && d.IsDir() && err == nil {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if ok && len(lit.Elts) > 0 && puts(file.Name.Name, lit.Type) {
					found[filepath.ToSlash(strings.TrimPrefix(path, "../"))+" "+f.Name.Name] = true
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(intoForce))
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("sets are put in force in\n%s\nand should be in\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// puts reports whether a literal is of a change that puts a set in force.
func puts(pkg string, typ ast.Expr) bool {
	name := ""
	switch x := typ.(type) {
	case *ast.Ident:
		if pkg == "ruleset" {
			name = x.Name
		}
	case *ast.SelectorExpr:
		if p, ok := x.X.(*ast.Ident); ok && p.Name == "ruleset" {
			name = x.Sel.Name
		}
	}
	return name == "Publish" || name == "Start"
}
