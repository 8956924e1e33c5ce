package act_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// rollOut begins a rollout of the default set with a rule to waves.
func (r *rig) rollOut(text string, edit func(*policy.Source), waves ...policy.Wave) *policy.Set {
	r.t.Helper()
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: text})
	if edit != nil {
		edit(&src)
	}
	set, err := policy.Compile(src)
	r.ok(err)
	book := &ruleset.Book{Store: r.store, Rollouts: r.store}
	r.do.Candidates = book.Candidate
	r.seed(ruleset.Start{Rollout: ruleset.Rollout{N: 1, Hash: src.Hash(), Source: src, Waves: waves}})
	return set
}

const noGroups = `@id("no.groups") @reason("r") forbid (principal, action == Action::"group.write", resource);`

// Who is in a wave that has begun is decided by the candidate; everybody else by the
// version in force, and so are machines and whoever is not known. Where the two differ
// the record says so, whichever decided.
func TestWhoseRollout(t *testing.T) {
	r := newRig(t)
	pilots := newGroup("pilots")
	r.seed(storeFound(), createGroup(pilots))
	boss, pilot := r.person("boss", r.admins.ID), r.person("pilot", r.admins.ID, pilots.ID)
	set := r.rollOut(noGroups, nil, policy.Wave{Groups: []string{"pilots"}, From: r.time().Add(time.Minute)})
	write := func(id string) (string, error) {
		in := r.byPerson(boss, newGroup("g"+id+r.time().String()))
		in.Refs.Actor, in.Refs.Session, in.Seal = id, r.session(id, r.proof(id)).ID, nil
		_, err := r.do.Do(t.Context(), in)
		return string(r.records()[0].Facts), err
	}
	differs := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say %s", text, want)
		}
	}
	facts, err := write(pilot.ID)
	r.ok(err)
	differs(facts, `"rollout":{"n":1,"other":{"code":"denied","outcome":"deny","reasons":["no.groups"]},"wave":1}`)
	r.pass(time.Minute)
	facts, err = write(pilot.ID)
	r.code(err, problem.Denied, policy.CodeDenied)
	differs(facts, `"rollout":{"enforced":true,"n":1,"other":{"outcome":"allow","reasons":["admin.write"]},"wave":1}`)
	differs(facts, set.Version())
	facts, err = write(boss.ID)
	r.ok(err)
	differs(facts, `"rollout":{"n":1,"other":{"code":"denied","outcome":"deny","reasons":["no.groups"]}}`)

	// An act that is the same under both says nothing of it.
	_, err = r.do.Do(t.Context(), act.Intent{
		Action: policy.SelfWrite, Kind: audit.PersonUpdated,
		Refs: act.Refs{Kind: policy.KindPerson, Actor: pilot.ID, Session: r.session(pilot.ID, r.proof(pilot.ID)).ID, Owner: pilot.ID},
	})
	r.ok(err)
	if facts := string(r.records()[0].Facts); strings.Contains(facts, "rollout") || !strings.Contains(facts, set.Version()) {
		t.Errorf("%s", facts)
	}
	for _, kind := range []string{policy.KindAnonymous, policy.KindService, policy.KindSystem, policy.KindOperator, ""} {
		d, _, err := r.do.Judge(t.Context(), act.Intent{Action: policy.SessionOpen, Refs: act.Refs{Kind: kind}})
		if err == nil && d.PolicyVersion == set.Version() {
			t.Errorf("%q is decided by the candidate", kind)
		}
	}
}

// A candidate that cannot be read refuses those it is enforced for, and nobody else;
// exceptions are those of the policies that decide.
func TestRolloutUnread(t *testing.T) {
	r := newRig(t)
	r.seed(storeFound())
	boss, lee := r.person("boss", r.admins.ID), r.person("lee")
	r.rollOut(noGroups, func(s *policy.Source) {
		s.Exceptions = []policy.Exception{{ID: "e", Rule: "risk.high", For: boss.ID, Owner: "o", Reason: "r", Rung: 2, Until: r.time().Add(time.Hour)}}
	}, policy.Wave{Groups: []string{policy.Administrators}, From: r.time()})
	judge := func(who string) (*act.Facts, error) {
		_, facts, err := r.do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindPerson, Actor: who}})
		return facts, err
	}
	facts, err := judge(boss.ID)
	r.ok(err)
	if list, err := r.do.Exceptions(t.Context(), facts); err != nil || len(list) != 1 || list[0].Rule.ID != "risk.high" {
		t.Errorf("%+v %v", list, err)
	}
	facts, err = judge(lee.ID)
	r.ok(err)
	if list, err := r.do.Exceptions(t.Context(), facts); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	r.do.Candidates = func(context.Context, int64) (*policy.Set, error) { return nil, context.DeadlineExceeded }
	_, err = judge(boss.ID)
	r.code(err, problem.Unavailable, "policy_unavailable")
	_, err = judge(lee.ID)
	r.ok(err)
	r.do.Candidates = nil
	if _, err = judge(boss.ID); err == nil {
		t.Error("a process that knows of no rollouts decides as if there were none")
	}
}

// What a resource server says of a thing each of two sets takes as its own schema declares
// it: a candidate that declares more refuses where that is not said, and those only whom it
// decides for; what is kept is what the answer was given on.
func TestWhatIsSaidUnderACandidate(t *testing.T) {
	r := newRig(t)
	pilots := newGroup("pilots")
	r.seed(storeFound(), createGroup(pilots))
	boss, pilot := r.person("boss"), r.person("pilot", pilots.ID)
	schema := func(declared string) string {
		return `entity Cluster { ` + declared + ` }; action "deploy" appliesTo { principal: [Person], resource: [Cluster], context: Context };`
	}
	const deploy = `@id("deploy") @reason("r") permit (principal, action == Action::"deploy", resource) when { resource.size < 10 };`
	src := policy.Default()
	src.Schema, src.Files = schema("size: Long"), append(src.Files, policy.File{Name: "a.cedar", Text: deploy})
	inForce, err := policy.Compile(src)
	r.ok(err)
	r.do.Policy = inForce
	candidate := r.rollOut(deploy+`@id("production") @reason("r") forbid (principal, action == Action::"deploy", resource) when { resource.environment == "production" };`,
		func(s *policy.Source) { s.Schema = schema("size: Long, environment: String") }, policy.Wave{Groups: []string{"pilots"}, From: r.time()})
	for name, c := range map[string]struct {
		who     string
		said    map[string]any
		outcome policy.Outcome
		code    string
		kept    int
		other   string // the code of the answer that was not given; "-": it was the same
	}{
		"staging":              {pilot.ID, map[string]any{"size": 5, "environment": "staging"}, policy.Allow, "", 2, "-"},
		"production":           {pilot.ID, map[string]any{"size": 5, "environment": "production"}, policy.Deny, policy.CodeDenied, 2, ""},
		"not said":             {pilot.ID, map[string]any{"size": 5}, policy.Deny, policy.CodeError, 0, ""},
		"others":               {boss.ID, map[string]any{"size": 5, "environment": "staging"}, policy.Allow, "", 1, "-"},
		"others, production":   {boss.ID, map[string]any{"size": 5, "environment": "production"}, policy.Allow, "", 1, policy.CodeDenied},
		"others, not said":     {boss.ID, map[string]any{"size": 5}, policy.Allow, "", 1, policy.CodeError},
		"others, nothing said": {boss.ID, nil, policy.Deny, policy.CodeError, 0, "-"},
	} {
		d, facts, err := r.do.Judge(t.Context(), act.Intent{
			Action: "deploy", Kind: audit.AccessDecided, Refs: act.Refs{Kind: policy.KindPerson, Actor: c.who},
			Elsewhere: &act.Elsewhere{On: policy.Resource{Type: "Cluster", ID: "prod"}, Said: c.said},
		})
		r.ok(err)
		other := "-"
		if d.Tried != nil {
			other = d.Tried.Other.Code
		}
		if d.Outcome != c.outcome || d.Code != c.code || len(facts.Input.Resource.Attributes) != c.kept || other != c.other || (d.PolicyVersion == candidate.Version()) != (c.who == pilot.ID) {
			t.Errorf("%s: %+v, kept %v, otherwise %q", name, d, facts.Input.Resource.Attributes, other)
		}
	}
}

func storeFound() act.Change {
	return store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com"}}
}

func createGroup(g group.Group) act.Change { return group.Create{Group: g} }

// A resource server that asks about somebody whom storage does not know is told what it
// would be of anybody in no group, by the policies that decide of those.
func TestNobodyIsAsAnybody(t *testing.T) {
	const deploy = `@id("deploy") @reason("r") permit (principal is Person, action == Action::"deploy", resource) when { context.assurance.rung >= 2 };
@id("managed") @reason("r") forbid (principal, action == Action::"deploy", resource) when { context.deployment.manages_devices } unless { context.device.managed };`
	schema := func(s *policy.Source) {
		s.Schema = `entity Cluster; action "deploy" appliesTo { principal: [Person], resource: [Cluster], context: Context };`
	}
	src := policy.Default()
	schema(&src)
	src.Files = append(src.Files, policy.File{Name: "a.cedar", Text: deploy})
	inForce, err := policy.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		devices bool
		from    time.Duration // of the wave of everybody
		outcome policy.Outcome
		rung    assurance.Rung
	}{
		"by the policies in force":     {false, time.Hour, policy.StepUp, assurance.Multi},
		"by those that are rolled out": {false, 0, policy.StepUp, assurance.Hardware},
		"where devices are managed":    {true, time.Hour, policy.Deny, assurance.None},
	} {
		r := newRig(t)
		r.seed(storeFound())
		r.do.Policy, r.do.ManagesDevices = inForce, c.devices
		r.rollOut(strings.Replace(deploy, "rung >= 2", "rung >= 4", 1), schema, policy.Wave{Rest: true, From: r.time().Add(c.from)})
		some := act.Intent{
			Action: "deploy", Kind: audit.AccessDecided, Refs: act.Refs{Kind: policy.KindPerson, Actor: r.person("lee").ID},
			Elsewhere: &act.Elsewhere{On: policy.Resource{Type: "Cluster", ID: "prod"}},
		}
		none := some
		none.Refs, none.Elsewhere = act.Refs{Kind: policy.KindAnonymous}, &act.Elsewhere{On: some.Elsewhere.On, Who: &policy.Entity{Kind: policy.KindPerson, ID: "(nobody)"}}
		for _, in := range []act.Intent{some, none} {
			d, f, err := r.do.Sight().Judge(t.Context(), in)
			r.ok(err)
			if d.Outcome != c.outcome || d.Ask.Rung != c.rung || f.Input.Principal.Kind != policy.KindPerson {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
}

// What a resource server asks about somebody without a token of theirs costs a rollout
// nothing: it could ask about one after the other until the policies take themselves
// back. With a token, it is what they meet.
func TestAskedOfSomebodyCostsNothing(t *testing.T) {
	r := newRig(t)
	r.seed(storeFound())
	p, q := r.person("dana"), r.person("lee")
	r.rollOut(`@id("no.self") @reason("r") forbid (principal is Person, action == Action::"self.write", resource);`, nil, policy.Wave{Rest: true, From: r.time()})
	looked := 0
	r.do.Cost = func() { looked++ }
	ask := func(who string, asked bool) {
		in := act.Intent{
			Action: policy.SelfWrite, Kind: audit.AccessDecided, From: act.Origin{Asked: asked}, Refs: act.Refs{Kind: policy.KindPerson, Actor: who},
			Elsewhere: &act.Elsewhere{On: policy.Resource{Type: policy.KindPerson, ID: who, Owner: who}, Shown: assurance.State{}},
		}
		dec, _, err := r.do.Judge(t.Context(), in)
		r.ok(err)
		if dec.Outcome != policy.Deny || dec.Tried == nil || !dec.Tried.Enforced {
			t.Fatalf("%+v", dec)
		}
		_, err = r.do.Do(t.Context(), in)
		r.code(err, problem.Denied, policy.CodeDenied)
	}
	cost := func() int {
		ro, err := r.store.Rollout(t.Context(), 1)
		r.ok(err)
		met, err := r.store.Cost(t.Context(), &ro, r.time())
		r.ok(err)
		return met[0].Denials
	}
	ask(p.ID, false)
	ask(q.ID, false)
	if n := cost(); n != 0 || looked != 0 {
		t.Errorf("without a token it cost %d refusals, and was looked at %d times", n, looked)
	}
	ask(p.ID, true)
	if n := cost(); n != 1 || looked == 0 {
		t.Errorf("with one, %d, and %d times", n, looked)
	}
}
