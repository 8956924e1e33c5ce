package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
)

var monday = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// A wave is of the first that somebody is in; nobody who is no person is in any.
func TestWaveOf(t *testing.T) {
	r := &Rollout{N: 1, Waves: []Wave{{Groups: []string{"pilots", "ops"}}, {Groups: []string{"staff"}}}}
	person := func(groups ...string) Entity { return Entity{Kind: KindPerson, ID: "usr_1", Groups: groups} }
	for name, c := range map[string]struct {
		who        Entity
		want, rest int
	}{
		"in no group":    {person(), -1, 2},
		"in the first":   {person("x", "ops"), 0, 0},
		"in the second":  {person("staff"), 1, 1},
		"in both":        {person("staff", "pilots"), 0, 0},
		"a service":      {Entity{Kind: KindService, Groups: []string{"pilots"}}, -1, -1},
		"an agent":       {Entity{Kind: KindAgent, Groups: []string{"pilots"}}, -1, -1},
		"nobody":         {Entity{}, -1, -1},
		"not known yet":  {Entity{Kind: KindAnonymous}, -1, -1},
		"the host":       {Entity{Kind: KindOperator}, -1, -1},
		"another casing": {person("Pilots"), -1, 2},
	} {
		all := &Rollout{N: 1, Waves: append(r.Waves[:2:2], Wave{Rest: true})}
		if got, rest := r.Wave(c.who), all.Wave(c.who); got != c.want || rest != c.rest {
			t.Errorf("%s: %d and %d", name, got, rest)
		}
	}
	if (*Rollout)(nil).Wave(person("pilots")) != -1 || (*Rollout)(nil).Enforced(0, monday) {
		t.Error("without a rollout")
	}
}

// A wave is enforced from its date on, to the microsecond, and while neither it nor
// one before it is held.
func TestEnforcedFrom(t *testing.T) {
	for _, h := range []Hold{"", Paused, Undone, Reverted} {
		r := &Rollout{Waves: []Wave{{From: monday}, {From: monday.Add(time.Hour), Held: h}, {From: monday.Add(time.Hour)}}}
		for _, c := range []struct {
			wave int
			at   time.Duration
			want bool
		}{
			{0, -time.Microsecond, false},
			{0, 0, true},
			{0, 100 * time.Hour, true},
			{1, time.Hour - time.Microsecond, false},
			{1, time.Hour, h == ""},
			{2, time.Hour, h == ""},
			{3, time.Hour, false},
			{-1, time.Hour, false},
		} {
			if got := r.Enforced(c.wave, monday.Add(c.at)); got != c.want {
				t.Errorf("%q: wave %d after %s: %v", h, c.wave, c.at, got)
			}
		}
	}
	w := Wave{From: monday}
	for at, want := range map[time.Duration]time.Duration{time.Hour: 0, 30 * time.Hour: 6 * time.Hour} {
		if got := w.Counted(monday.Add(at)).Sub(monday); got != want {
			t.Errorf("after %s it is counted from %s", at, got)
		}
	}
	w.Since = monday.Add(29 * time.Hour)
	if got := w.Counted(monday.Add(30 * time.Hour)); !got.Equal(w.Since) {
		t.Errorf("%s", got)
	}
	b := Budget{Prompts: 2, Denials: 0}
	for met, want := range map[Budget]bool{{}: false, {Prompts: 2}: false, {Prompts: 3}: true, {Denials: 1}: true} {
		if b.Spent(1, []Budget{met}).Over != want {
			t.Errorf("%+v of %+v", met, b)
		}
	}
}

// What somebody lacks is found for what differs only, with the rule and what it
// needs; what they could not do before is no gap.
func TestGaps(t *testing.T) {
	compiled := func(text string, edit ...func(*Source)) *Set {
		src := Default()
		src.Files = append(src.Files, File{Name: "99.cedar", Text: text})
		for _, e := range edit {
			e(&src)
		}
		s, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	hw := `@id("hw") @reason("r") forbid (principal is Person, action == Action::"self.write", resource) unless { context.assurance.age.phrh <= duration("15m") };`
	approval := `@id("two") @reason("r") @approvers("release") forbid (principal is Person, action == Action::"group.write", resource) unless { context.approvals.count >= 2 };`
	risky := `@id("risky") @reason("r") forbid (principal is Person, action == Action::"self.write", resource) when { context.risk.band == "high" };`
	never := `@id("stop") @reason("r") forbid (principal in Group::"interns", action, resource);`
	up := func(best assurance.Rung) Attainable {
		return func(a assurance.Ask) bool { return a.Rung <= best && a.Approval == assurance.Approval{} }
	}
	admin, intern := Entity{Kind: KindPerson, ID: "usr_1", Groups: []string{Administrators}}, Entity{Kind: KindPerson, ID: "usr_2", Groups: []string{"interns"}}
	for name, c := range map[string]struct {
		set  *Set
		who  Entity
		best assurance.Rung
		want []string // rule: needs
	}{
		"the same set":            {Builtin(), admin, assurance.None, nil},
		"a passkey is too little": {compiled(hw), admin, assurance.Phishing, []string{"hw: " + Words(assurance.Ask{Rung: assurance.Hardware, MaxAge: 15 * time.Minute})}},
		"a key is enough":         {compiled(hw), admin, assurance.Hardware, nil},
		"could not before":        {compiled(hw), admin, assurance.None, nil},
		"approvals":               {compiled(approval), admin, assurance.Hardware, []string{"two: " + Words(assurance.Ask{Rung: assurance.Phishing, MaxAge: 15 * time.Minute, Approval: assurance.Approval{Kind: assurance.Approve, M: 2, Group: "release"}})}},
		"not theirs before":       {compiled(approval), intern, assurance.Hardware, nil},
		"in a band of risk":       {compiled(risky), admin, assurance.Hardware, []string{"risky: "}},
		"everything":              {compiled(never), intern, assurance.Hardware, []string{"stop: "}},
		"of others":               {compiled(never), admin, assurance.Hardware, nil},
		"a monitored rule":        {compiled(`@mode("monitor") ` + hw), admin, assurance.Phishing, nil},
		"an exception": {compiled(hw, func(s *Source) {
			s.Exceptions = []Exception{{ID: "e", Rule: "hw", For: "usr_1", Owner: "o", Reason: "r", Rung: 3, Until: monday.Add(time.Hour)}}
		}), admin, assurance.Phishing, nil},
	} {
		var got []string
		for _, g := range Gaps(Builtin(), c.set, c.who, up(c.best), monday) {
			got = append(got, g.Rule+": "+g.Words)
			if len(g.Actions) == 0 {
				t.Errorf("%s: %+v", name, g)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// What an enforced candidate costs is a prompt or a refusal; what it newly allows, and
// what is only in monitor, costs nobody anything.
func TestMet(t *testing.T) {
	why := []Reason{{Policy: "a"}, {Policy: "b"}}
	for name, c := range map[string]struct {
		d    Decision
		want *Met
	}{
		"no rollout":    {Decision{Outcome: Deny, Reasons: why}, nil},
		"in monitor":    {Decision{Outcome: Deny, Reasons: why, Tried: &Tried{Rollout: 2, Wave: 1}}, nil},
		"newly allowed": {Decision{Outcome: Allow, Reasons: why, Tried: &Tried{Rollout: 2, Wave: 1, Enforced: true}}, nil},
		"asked":         {Decision{Outcome: StepUp, Reasons: why, Tried: &Tried{Rollout: 2, Wave: 1, Enforced: true, Other: &Decision{Reasons: why[:1]}}}, &Met{Rollout: 2, Wave: 1, Rule: "b"}},
		"for another":   {Decision{Outcome: StepUp, Reasons: why, Tried: &Tried{Rollout: 2, Wave: 1, Enforced: true, Other: &Decision{Reasons: why}}}, &Met{Rollout: 2, Wave: 1, Rule: "a"}},
		"refused":       {Decision{Outcome: Deny, Tried: &Tried{Rollout: 2, Wave: 3, Enforced: true, Other: &Decision{}}}, &Met{Rollout: 2, Wave: 3, Denied: true}},
	} {
		if d := cmp.Diff(c.want, c.d.Met()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestShareOfABudget: in a wave of more than one person nobody exceeds its budget alone,
// whatever they meet, and all of them together do; in a wave of one they do alone.
func TestShareOfABudget(t *testing.T) {
	const much = 1_000_000
	for people := 1; people <= 10; people++ {
		for n := range 40 {
			b := Budget{Prompts: n, Denials: n / 3}
			alone := []Budget{{Prompts: much, Denials: much}}
			if got := b.Spent(people, alone).Over; got != (people == 1) {
				t.Errorf("%+v of %d people: one alone exceeds it: %v", b, people, got)
			}
			all := slices.Repeat(alone, people)
			for _, only := range []Budget{{Prompts: much}, {Denials: much}} {
				if !b.Spent(people, slices.Repeat([]Budget{only}, people)).Over {
					t.Errorf("%+v of %d people: all with %+v do not exceed it", b, people, only)
				}
			}
			if !b.Spent(people, all).Over {
				t.Errorf("%+v of %d people: all do not exceed it", b, people)
			}
		}
	}
	b := Budget{Prompts: 12, Denials: 2}
	each := []Budget{{Prompts: 50, Denials: 9}, {Prompts: 3}, {Prompts: 1, Denials: 1}}
	if got := b.Spent(30, each); got != (Spent{Budget{Prompts: 4 + 3 + 1, Denials: 1 + 1}, false}) {
		t.Errorf("%+v", got)
	}
}

// Of the deployment's own actions it is tried on each kind of thing, on somebody's own
// and nobody's, and on those that policies name.
func TestGapsOfOwnActions(t *testing.T) {
	compiled := func(text string) *Set {
		src := Default()
		src.Schema = `entity Cluster { owner: Person }; entity Bucket { owner: Person, size: Long, region: String, public: Bool, labels: Set<String> };
action "deploy" appliesTo { principal: [Person], resource: [Cluster, Bucket], context: Context };`
		src.Files = append(src.Files, File{Name: "99.cedar", Text: text})
		s, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := `@id("deploy") @reason("r") permit (principal is Person, action == Action::"deploy", resource) when { context.assurance.rung >= 2 };`
	who := Entity{Kind: KindPerson, ID: "usr_1"}
	can := func(a assurance.Ask) bool { return a.Rung <= assurance.Multi && a.Approval == assurance.Approval{} }
	hard := `unless { context.assurance.rung >= 4 };`
	for rule, want := range map[string]bool{
		`forbid (principal, action == Action::"deploy", resource is Cluster) ` + hard:                                                                                                                                     true,
		`forbid (principal, action == Action::"deploy", resource is Bucket) ` + hard:                                                                                                                                      true,
		`forbid (principal, action == Action::"deploy", resource == Cluster::"prod") ` + hard:                                                                                                                             true,
		`forbid (principal, action == Action::"deploy", resource) when { resource == Cluster::"prod" } ` + hard:                                                                                                           true,
		`forbid (principal, action == Action::"deploy", resource) when { resource.owner == principal } ` + hard:                                                                                                           true,
		`forbid (principal, action == Action::"deploy", resource) when { resource.owner != principal } ` + hard:                                                                                                           true,
		`forbid (principal, action == Action::"deploy", resource is Bucket) when { resource.size > 1000 } ` + hard:                                                                                                        true,
		`forbid (principal, action == Action::"deploy", resource is Bucket) when { resource.public && resource.labels.contains("pci") } ` + hard:                                                                          true,
		`forbid (principal, action == Action::"deploy", resource == Bucket::"b") when { resource.region == "eu" && resource.owner == principal } ` + hard:                                                                 true,
		`forbid (principal, action == Action::"deploy", resource is Bucket) when { ["a", "b", "c", "d", "e", "f", "g", "h"].contains(resource.region) || resource.size == 7 || resource.labels.contains("pci") } ` + hard: true,
		`forbid (principal, action == Action::"deploy", resource is Bucket) when { resource.size > 1000 && resource.size < 1000 } ` + hard:                                                                                false,
		`forbid (principal is Person in Group::"x", action == Action::"deploy", resource) ` + hard:                                                                                                                        false,
		`forbid (principal, action == Action::"deploy", resource) unless { context.assurance.age.multi <= duration("1h")};`:                                                                                               false,
	} {
		gaps := Gaps(compiled(base), compiled(base+"\n@id(\"hard\") @reason(\"r\") "+rule), who, can, monday)
		if got := len(gaps) == 1 && gaps[0].Rule == "hard" && slices.Equal(gaps[0].Actions, []Action{"deploy"}); got != want || !want && len(gaps) > 0 {
			t.Errorf("%s: %+v", rule, gaps)
		}
	}
}

// What policies tell apart of a set of texts has no few combinations: each text is tried
// alone, and what they amount to by the number of texts.
func TestGapsOfManyTexts(t *testing.T) {
	compiled := func(rung int) *Set {
		var texts []string
		for i := range 30 {
			texts = append(texts, fmt.Sprintf(`resource.labels.contains("l%d")`, i))
		}
		s, err := Compile(Source{
			Schema: `entity Bucket { owner: Person, labels: Set<String> }; action "deploy" appliesTo { principal: [Person], resource: [Bucket], context: Context };`,
			Files: []File{{Name: "a.cedar", Text: `@id("all") @reason("r") permit (principal is Person, action == Action::"deploy", resource);
@id("hard") @reason("r") forbid (principal, action == Action::"deploy", resource) when { ` + strings.Join(texts, " || ") + ` } ` + fmt.Sprintf("unless { context.assurance.rung >= %d };", rung)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	easy, hard := compiled(1), compiled(4)
	if n := len(tried(easy, hard, "usr_1", "deploy")); n > 2*(30+3) {
		t.Errorf("%d things are tried", n)
	}
	can := func(a assurance.Ask) bool { return a.Rung <= assurance.Multi }
	if gaps := Gaps(easy, hard, Entity{Kind: KindPerson, ID: "usr_1"}, can, monday); len(gaps) != 1 || gaps[0].Rule != "hard" {
		t.Errorf("%+v", gaps)
	}
}
