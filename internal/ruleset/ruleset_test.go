package ruleset

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// shelf is versions in memory; that they are stored is storetest's matter.
type shelf map[int64]Version

func (s shelf) Ruleset(_ context.Context, n int64) (Version, error) {
	v, ok := s[n]
	if !ok {
		return Version{}, problem.New(problem.NotFound, "policy_version_not_found", "None.")
	}
	return v, nil
}

func (s shelf) Rulesets(context.Context, int64, int) ([]Version, error) { return nil, nil }
func (s shelf) PolicyHead(context.Context) (int64, error)               { return 0, nil }

func source(more string) policy.Source {
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "99-more.cedar", Text: more})
	return src
}

const freeze = `@id("freeze") @reason("r") forbid (principal, action == Action::"client.write", resource);`

func TestTheBook(t *testing.T) {
	good, broken := source(freeze), source("permit (")
	s := shelf{
		1: {N: 1, Source: good, Hash: good.Hash()},
		2: {N: 2, Source: broken, Hash: broken.Hash()},
		3: {N: 3, Source: good, Hash: policy.Default().Hash()},
	}
	for n := int64(4); n < 10; n++ {
		s[n] = s[1]
	}
	b := &Book{Store: s}
	if set, err := b.Set(t.Context(), 0); err != nil || set != policy.Builtin() {
		t.Errorf("%v", err)
	}
	one, err := b.Set(t.Context(), 1)
	if err != nil || one.Version() != good.Hash() {
		t.Fatal(err)
	}
	if again, _ := b.Set(t.Context(), 1); again != one {
		t.Error("a version is made twice")
	}
	for n, want := range map[int64]string{2: "cannot be enforced by this release", 3: "is not what was published", 77: "policy version 77"} {
		if set, err := b.Set(t.Context(), n); set != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", n, err)
		}
	}
	// Whoever only looks gets the same, or one that is not kept.
	if set, err := b.Read(t.Context(), 0); err != nil || set != policy.Builtin() {
		t.Errorf("%v", err)
	}
	if set, err := b.Read(t.Context(), 1); err != nil || set != one {
		t.Errorf("what is in use is made again: %v", err)
	}
	if set, err := b.Read(t.Context(), 4); err != nil || set.Version() != good.Hash() || len(b.sets) != 1 {
		t.Errorf("%d sets are kept: %v", len(b.sets), err)
	}
	for n, want := range map[int64]string{2: "cannot be enforced by this release", 3: "is not what was published"} {
		if set, err := b.Read(t.Context(), n); set != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if _, err := b.Read(t.Context(), 77); problem.CodeOf(err) != "policy_version_not_found" {
		t.Errorf("%v", err)
	}
	for n := int64(4); n < 10; n++ {
		if _, err := b.Set(t.Context(), n); err != nil || len(b.sets) > maxSets {
			t.Errorf("%d sets: %v", len(b.sets), err)
		}
	}
}

func TestOnlyWhatCanBeUndone(t *testing.T) {
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	in := policy.Input{
		Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_dana", Groups: []string{policy.Administrators}},
		Action:    policy.ClientWrite, // whatever their own act was
		Context:   policy.Context{Now: now, Assurance: assurance.Ask{Rung: assurance.Phishing, MaxAge: time.Minute}.Raise(assurance.State{}, now)},
	}
	for text, ok := range map[string]bool{
		freeze: true,
		`@id("never") @reason("r") forbid (principal, action == Action::"policy.publish", resource);`:                                                      false,
		`@id("hw") @reason("r") forbid (principal, action == Action::"policy.publish", resource) unless { context.assurance.rung >= 4 };`:                  false,
		`@id("phr") @reason("r") forbid (principal, action == Action::"policy.publish", resource) unless { context.assurance.age.phr <= duration("1m") };`: true,
	} {
		set, err := Compile(source(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := Undoable(set, in); (err == nil) != ok || err != nil && problem.CodeOf(err) != "policy_locks_out" {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Compile(source("permit (")); !errors.Is(err, problem.Invalid) || problem.CodeOf(err) != "policy_invalid" {
		t.Errorf("%v", err)
	}
}

func TestNotes(t *testing.T) {
	for note, ok := range map[string]bool{"": true, "Clients are frozen, für die Prüfung.": true, " x": false, "a\nb": false, "\xff": false, strings.Repeat("x", 401): false} {
		if err := CheckNote(note); (err == nil) != ok {
			t.Errorf("%q: %v", note, err)
		}
	}
}
