package notes_test

import (
	"os"
	"testing"

	"github.com/countersign-dev/countersign/examples/notes"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
)

// TestPolicies: they can be enforced beside the default set, by which their own tests
// hold too, and the API decides by itself.
func TestPolicies(t *testing.T) {
	const at = "http://localhost:4711"
	src := policy.Default()
	src.Schema, src.Files = notes.Schema(at), append(src.Files, policy.File{Name: "notes.cedar", Text: notes.Policies})
	set, err := policy.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	if p := set.Places(at); len(p) != 2 || p[0].Action != "note.add" || p[1].Action != "note.delete" || !p[0].Local || !p[1].Local {
		t.Errorf("%+v", p)
	}
	text, err := os.ReadFile("policies/notes.policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := trial.Parse("notes.policy.yaml", text)
	if err != nil || len(f.Cases) == 0 {
		t.Fatal(err, f)
	}
	for _, r := range append(trial.Test(set, f), trial.Check(set, f)...) {
		if r.Bad() {
			t.Errorf("%+v", r)
		}
	}
}
