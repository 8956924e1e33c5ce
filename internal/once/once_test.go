package once_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/once"
)

// TestPurposes: the numbers are stored and in every key, so they never change;
// and no two purposes have one, or a value made for one would do for the other.
func TestPurposes(t *testing.T) {
	for i, p := range []once.Purpose{
		once.Code, once.Interaction, once.SignIn, once.Enrol, once.StepUp, once.Setup, once.Invite, once.DPoP, once.Assertion, once.Idempotency, once.Challenge,
	} {
		if int(p) != i+1 {
			t.Errorf("purpose %d has the number %d", i+1, p)
		}
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "once.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := (&types.Config{Importer: importer.ForCompiler(fset, "source", nil)}).Check("once", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || !strings.HasSuffix(c.Type().String(), "Purpose") {
			continue
		}
		if other := names[c.Val().String()]; other != "" {
			t.Errorf("%s and %s have the number %s", other, name, c.Val())
		}
		names[c.Val().String()] = name
	}
	if len(names) < 12 {
		t.Errorf("only %d purposes were found: %v", len(names), names)
	}
	k := once.KeyOf(once.Code, "a", "b")
	if got := hex.EncodeToString(k[:]); got != "334e0df77ffde3ab708f1a39edf216cbf761984c14dc13c06876606d8b229503" { // SHA-256 of the label, 0, 1, and each part behind its length
		t.Errorf("the key of a code is %s", got)
	}
}

// TestKeyOf: keys of other purposes, or of parts that are cut otherwise, differ.
func TestKeyOf(t *testing.T) {
	seen := map[once.Key]string{}
	for _, p := range []once.Purpose{once.Code, once.DPoP, once.Challenge} {
		for _, parts := range [][]string{
			nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab"}, {"a", "b"}, {"ab", ""}, {"a\x00\x00\x00\x01b"}, {"a\x00", "b"}, {string([]byte{0, 0, 0, 1}) + "a"},
		} {
			k, name := once.KeyOf(p, parts...), fmt.Sprintf("%d %q", p, parts)
			if other, ok := seen[k]; ok {
				t.Errorf("%s and %s have one key", name, other)
			}
			seen[k] = name
			if once.KeyOf(p, slices.Clone(parts)...) != k {
				t.Errorf("%s has two keys", name)
			}
		}
	}
}

// FuzzKeyOf: where parts are cut is part of the key.
func FuzzKeyOf(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		same := a == c && b == d
		if (once.KeyOf(once.DPoP, a, b) == once.KeyOf(once.DPoP, c, d)) != same {
			t.Errorf("%q %q and %q %q", a, b, c, d)
		}
	})
}

// TestErrors: both errors are found behind others, and neither says the value.
func TestErrors(t *testing.T) {
	err := fmt.Errorf("redeem: %w", &once.Used{Purpose: once.Code, By: "rec_1"})
	var used *once.Used
	var gone *once.Gone
	if !errors.As(err, &used) || used.By != "rec_1" || errors.As(err, &gone) {
		t.Errorf("%v: used %v, gone %v", err, used, gone)
	}
}
