package ruleset

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// What is done with a rollout, by how its two waves stand; the second begins later.
func TestVerbs(t *testing.T) {
	for name, c := range map[string]struct {
		first, second policy.Hold
		state         State
		do            Verb
		wave          int
		budget        *policy.Budget
		code          string
		want          [2]policy.Hold
		end           State
		afresh        bool
	}{
		"pause all":                   {do: Pause, want: [2]policy.Hold{policy.Paused, ""}},
		"pause the second":            {do: Pause, wave: 2, want: [2]policy.Hold{"", policy.Paused}},
		"pause again":                 {first: policy.Paused, do: Pause, code: "wave_held"},
		"pause what took itself back": {first: policy.Reverted, do: Pause, code: "wave_held"},
		"pause none":                  {do: Pause, wave: 3, code: "wave_not_found"},
		"resume":                      {first: policy.Paused, do: Resume, wave: 1},
		"resume what was undone":      {first: policy.Undone, do: Resume, wave: 1, afresh: true},
		"resume what undid itself":    {first: policy.Reverted, do: Resume, wave: 1, budget: &policy.Budget{Prompts: 9}, afresh: true},
		"resume with no budget":       {first: policy.Paused, do: Resume, wave: 1, budget: &policy.Budget{Prompts: -1}, code: "rollout_invalid"},
		"resume what goes on":         {do: Resume, wave: 1, code: "wave_not_held"},
		"resume none":                 {first: policy.Paused, do: Resume, code: "wave_not_found"},
		"undo a wave":                 {do: Undo, wave: 2, want: [2]policy.Hold{"", policy.Undone}},
		"undo a paused one":           {first: policy.Paused, do: Undo, wave: 1, want: [2]policy.Hold{policy.Undone, ""}},
		"undo it again":               {first: policy.Undone, do: Undo, wave: 1, code: "wave_held"},
		"undo all":                    {first: policy.Reverted, do: Undo, want: [2]policy.Hold{policy.Reverted, ""}, end: TakenOff},
		"finish":                      {do: Finish, end: Finished},
		"finish what is held":         {second: policy.Paused, do: Finish, code: "rollout_not_done"},
		"what has ended":              {state: TakenOff, do: Pause, code: "rollout_closed"},
		"what is finished":            {state: Finished, do: Undo, code: "rollout_closed"},
		"something else":              {do: "stop", code: "rollout_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Rollout{N: 4, Revision: 7, Base: 2, Hash: "h", State: Open, Waves: []policy.Wave{{Groups: []string{"a"}, From: noon, Held: c.first}, {Rest: true, From: noon.Add(time.Hour), Held: c.second}}}
			if c.state != "" {
				r.State = c.state
			}
			changes, err := r.Apply(c.do, c.wave, c.budget, "usr_1", noon.Add(2*time.Hour))
			if problem.CodeOf(err) != c.code || (err == nil) != (c.code == "") {
				t.Fatalf("%v", err)
			}
			if r.Waves[0].Held != c.first || r.Waves[1].Held != c.second {
				t.Error("the rollout itself was changed")
			}
			if err != nil {
				return
			}
			s := changes[0].(Steer)
			end := c.end
			if end == "" {
				end = Open
			}
			if s.N != 4 || s.Revision != 7 || s.State != end || s.Waves[0].Held != c.want[0] || s.Waves[1].Held != c.want[1] || s.Waves[0].Since.IsZero() == c.afresh {
				t.Errorf("%+v", s)
			}
			if c.budget != nil && s.Waves[0].Budget != *c.budget {
				t.Errorf("%+v", s.Waves[0])
			}
			if end == Finished {
				if p := changes[1].(Publish); len(changes) != 2 || p.N != 3 || p.Hash != "h" || p.By != "usr_1" || s.Version != 3 {
					t.Errorf("%+v", changes)
				}
			}
			if !strings.HasPrefix(c.do.Kind().Name(), "rollout.") {
				t.Errorf("it is recorded as %s", c.do.Kind().Name())
			}
		})
	}
	r := Rollout{State: Open, Waves: []policy.Wave{{From: noon.Add(time.Hour)}}}
	if _, err := r.Apply(Finish, 0, nil, "", noon); problem.CodeOf(err) != "rollout_not_done" {
		t.Errorf("a wave that has not begun: %v", err)
	}
}

// rolls is rollouts in memory; that they are stored is storetest's matter.
type rolls map[int64]Rollout

func (s rolls) Rollout(_ context.Context, n int64) (Rollout, error) {
	if r, ok := s[n]; ok {
		return r, nil
	}
	return Rollout{}, problem.New(problem.NotFound, "rollout_not_found", "None.")
}
func (s rolls) Rollouts(context.Context, int64, int) ([]Rollout, error) { return nil, nil }
func (s rolls) Cost(context.Context, *Rollout, time.Time) ([]policy.Spent, error) {
	return nil, errors.ErrUnsupported
}

func (s rolls) Costs(context.Context, *Rollout, int, time.Time, int) ([]Cost, error) {
	return nil, errors.ErrUnsupported
}

// A candidate is held to its hash like a version, and is none.
func TestTheBookOfCandidates(t *testing.T) {
	good := source(freeze)
	b := &Book{Store: shelf{1: {N: 1, Source: policy.Default(), Hash: policy.Default().Hash()}}, Rollouts: rolls{
		1: {N: 1, Source: good, Hash: good.Hash()}, 2: {N: 2, Source: good, Hash: "sha256:other"},
	}}
	one, err := b.Candidate(t.Context(), 1)
	if err != nil || one.Version() != good.Hash() {
		t.Fatal(err)
	}
	if v, err := b.Set(t.Context(), 1); err != nil || v == one {
		t.Errorf("version 1 is rollout 1: %v", err)
	}
	if again, _ := b.Candidate(t.Context(), 1); again != one {
		t.Error("a candidate is made twice")
	}
	for n, want := range map[int64]string{2: "rollout 2 is not what was published", 7: "rollout 7: rollout_not_found"} {
		if set, err := b.Candidate(t.Context(), n); set != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// What finishes a rollout is the source that was started, to the letter, and proved
// again; whatever decides for more people leaves whoever does it able to undo it.
func TestStep(t *testing.T) {
	good := source(freeze)
	open := func(n int64, src policy.Source) Rollout {
		return Rollout{N: n, Source: src, Hash: src.Hash(), State: Open, Waves: []policy.Wave{{Rest: true, From: noon}}}
	}
	altered := open(2, good)
	altered.Source.Files = slices.Clone(altered.Source.Files)
	altered.Source.Files[0].Text += "// more"
	hollow := source(freeze)
	hollow.Floors = []policy.File{{Name: "f.policy.yaml", Text: "never:\n  - name: reading\n    actions: [person.read]\n    below: phrh\n"}}
	unread := open(4, policy.Source{Files: []policy.File{{Name: "a.cedar", Text: "permit ("}}})
	locks := open(5, source(`@id("no") @reason("r") forbid (principal, action == Action::"policy.publish", resource);`))
	all := rolls{1: open(1, good), 2: altered, 3: open(3, hollow), 4: unread, 5: locks}
	b := &Book{Rollouts: all}
	in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1", Groups: []string{policy.Administrators}}, Context: policy.Context{Now: noon}}
	in.Context.Assurance = assurance.Evaluate("usr_1", []assurance.Proof{{Method: assurance.Passkey, Subject: "usr_1", At: noon, UserVerified: true, PhishingResistant: true, Source: "passkey:1"}}, noon)
	for _, c := range []struct {
		n    int64
		do   Verb
		code string
	}{
		{1, Finish, ""},
		{1, Resume, ""},
		{2, Finish, "rollout_altered"},
		{3, Finish, "policy_floor"}, // the statement is not true
		{4, Finish, "policy_invalid"},
		{5, Finish, "policy_locks_out"},
		{5, Resume, "policy_locks_out"},
		{2, Undo, ""},
		{4, Undo, ""},
		{4, Pause, ""},
		{5, Undo, ""},
	} {
		r := all[c.n]
		check, err := b.Step(t.Context(), &r, c.do, noon)
		if err == nil {
			err = check(in)
		}
		if problem.CodeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("rollout %d, %s: %v, want %q", c.n, c.do, err, c.code)
		}
	}
}
