package replay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

var monday = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// set is the default set with more policies beside it.
func set(t testing.TB, more string) *policy.Set {
	t.Helper()
	src := policy.Default()
	if more != "" {
		src.Files = append(src.Files, policy.File{Name: "99.cedar", Text: more})
	}
	s, err := policy.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything reads every fact there is.
const everything = `
@id("odd.self") @reason("r") forbid (principal is Person, action == Action::"self.write", resource)
when { context.time.hour == 3 || context.client == Client::"cli_2" || context.network.zone == "far" && context.network.known }
unless { context.device.managed || context.assurance.hardware_bound };
@id("odd.factor") @reason("r") @approvers("release") forbid (principal is Person, action == Action::"factor.enrol", resource)
when { context.no_passkey || context.token.known && (context.token.bound || context.token.depth > 1 || context.token.age > duration("1m")) || context.agent.known && context.agent.budget > 2 }
unless { context.approvals.confirmed || context.approvals.count >= 2 };
@id("odd.write") @reason("r") forbid (principal is Person, action == Action::"group.write", resource)
when { context.deployment.manages_devices || resource.kind == "group" && resource == Thing::"grp_1" }
unless { context.device.known };
@id("odd.token") @reason("r") forbid (principal is Service, action == Action::"token.issue", resource)
when { principal in Group::"untrusted" || resource == Thing::"res_1" }
unless { context.assurance.sources >= 1 };
@id("odd.pay") @reason("r") forbid (principal is Person, action == Action::"authorize", resource)
when { context.details.types.contains("payment") && context.details.said.containsAll(["payment to=A", "payment amount>=2.5"]) };`

// random is some input.
func random(r *rand.Rand) policy.Input {
	one := func(all ...string) string { return all[r.IntN(len(all))] }
	yes := func() bool { return r.IntN(2) == 0 }
	now := monday.Add(time.Duration(r.Int64N(int64(48 * time.Hour)))).Truncate(time.Microsecond)
	in := policy.Input{
		Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1", Groups: [][]string{nil, {"administrators"}, {"release", "administrators"}}[r.IntN(3)]},
		Client:    policy.Entity{Kind: "client", ID: one("cli_1", "cli_2")},
		Action:    policy.Action(one("self.write", "factor.enrol", "group.write", "client.write", "authorize", "token.refresh", "policy.publish", "token.issue")),
		Resource:  policy.Resource{Type: one("", "person", "group", "factor", "resource"), ID: one("grp_1", "res_1", "x"), Owner: one("", "usr_1", "usr_2")},
		Context: policy.Context{
			Now: now, NoPasskey: yes(), Presented: yes(), Confirmed: yes(), Confirmable: yes(), Approvals: r.IntN(3), Approvers: r.IntN(3),
			DeviceKnown: yes(), DeviceManaged: yes(), DevicesUsed: yes(),
			Risk: policy.Risk{Known: yes(), Band: one("low", "medium", "high", "extreme")}, Network: policy.Network{Known: yes(), Zone: one("", "far")},
			Token:   policy.Token{Known: yes(), Age: time.Duration(r.IntN(100)) * time.Second, Bound: yes(), Depth: r.IntN(3)},
			Details: []policy.Details{{}, {Types: []string{"payment"}, Said: []string{"payment to=A"}, Sizes: []policy.Size{{Of: "payment amount", Steps: r.IntN(5)}}}}[r.IntN(2)],
			Agent:   policy.Agent{Known: yes(), Purpose: "p", Run: "run_1", Budget: r.Int64N(5)},
		},
	}
	if in.Resource.Type == "" {
		in.Resource.ID = ""
	}
	if !in.Context.Risk.Known {
		in.Context.Risk = policy.UnknownRisk
	} else if yes() {
		in.Context.RiskBefore = policy.Risk{Known: true, Band: one("low", "extreme")}
	}
	if in.Resource.Type == "person" && in.Resource.Owner == "usr_1" {
		in.Resource.ID = "usr_1"
	}
	in.Context.Assurance = assurance.State{PhishingResistant: yes(), HardwareBound: yes(), HumanPresent: yes()}
	for rung := assurance.Single; rung <= assurance.Hardware; rung++ {
		if yes() {
			in.Context.Assurance.Pairs = append(in.Context.Assurance.Pairs, assurance.Pair{Rung: rung, AuthTime: now.Add(-time.Duration(r.Int64N(int64(20 * time.Minute))).Truncate(time.Microsecond))})
		}
	}
	if r.IntN(4) == 0 {
		in.Context.Scopes = []policy.ScopeAsk{{Name: "a", Ask: assurance.Ask{Rung: 3, MaxAge: 5 * time.Minute}, Conditional: yes(), Required: yes(), Groups: [][]string{nil, {"release"}}[r.IntN(2)]}}
	}
	if r.IntN(4) == 0 { // a machine
		in.Principal.Kind, in.Principal.ID, in.Action = policy.KindService, "svc_1", policy.TokenIssue
		in.Context.Assurance = assurance.State{MachineRung: assurance.Rung(r.IntN(2)), Sources: r.IntN(2)}
		in.Context.Token, in.Context.Agent, in.Context.Details = policy.Token{}, policy.Agent{}, policy.Details{}
		in.Principal.Groups = [][]string{nil, {"untrusted"}}[r.IntN(2)]
	}
	return in
}

// recorded is an input with its answer as a record keeps it, read again.
func recorded(t testing.TB, in policy.Input, d policy.Decision) Decision {
	t.Helper()
	shared, own := See(&in, d.Ask)
	facts := Facts{Action: in.Action, Kind: in.Principal.Kind, Client: in.Client.ID, Outcome: d.Outcome.String(), Code: d.Code, Seen: &shared}
	out := Decision{At: in.Context.Now, Saw: own}
	if in.Principal.Kind == policy.KindPerson {
		out.Who = in.Principal.ID
	} else {
		facts.Service = in.Principal.ID
	}
	again := func(v, into any) {
		text, err := json.Marshal(v)
		if err != nil || json.Unmarshal(text, into) != nil {
			t.Fatal(err)
		}
	}
	var f Facts
	var back Decision
	again(facts, &f)
	again(out, &back)
	back.Facts = &f
	return back
}

// What is kept is enough: the same set gives the same answer again, whatever it
// reads. What is kept in the clear names nobody and no moment.
func TestWhatIsKeptIsEnough(t *testing.T) {
	s := set(t, everything)
	r := rand.New(rand.NewPCG(1, 2))
	untold := 0
	for range 20_000 {
		in := random(r)
		want := s.Decide(in, nil)
		d := recorded(t, in, want)
		got, why := d.input(s)
		if why != "" {
			untold++
			named := in.Action == policy.GroupWrite || in.Action == policy.TokenIssue && in.Principal.Kind == policy.KindService
			if kept := d.Facts.Seen.Own != other && in.Resource.Type != "person"; why != Identity || !named || kept {
				t.Fatalf("%s: %+v", why, in)
			}
			continue
		}
		again := s.Decide(got, nil)
		if again.Outcome != want.Outcome || again.Ask != want.Ask || again.Code != want.Code || !slices.Equal(again.Withheld, want.Withheld) {
			t.Fatalf("decided %v %v %s, again %v %v %s\nof %+v\nkept %+v", want.Outcome, want.Ask, want.Code, again.Outcome, again.Ask, again.Code, in, got)
		}
		if clear, _ := json.Marshal(d.Facts.Seen); in.Principal.Kind == policy.KindPerson && (strings.Contains(string(clear), "administrators") || strings.Contains(string(clear), "usr_") || strings.Contains(string(clear), "ages")) {
			t.Fatalf("kept in the clear: %s", clear)
		}
		tr := New(s)
		tr.Add(&d)
		if c := tr.Report(1).Counts; c.changes() != 0 || c.Decisions != 1 {
			t.Fatalf("the same set would change %+v", c)
		}
	}
	if untold == 0 {
		t.Error("nothing was too much to be kept")
	}
}

// Two that are kept alike have one key, and two that are not have two.
func TestKey(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seen := map[string]string{}
	for range 20_000 {
		in := random(r)
		shared, _ := See(&in, assurance.Ask{Rung: assurance.Rung(r.IntN(3)), MaxAge: time.Duration(r.IntN(2)) * time.Minute})
		text, err := json.Marshal(shared)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[shared.Key()]; ok && before != string(text) {
			t.Fatalf("one key for\n%s\n%s", before, text)
		}
		seen[shared.Key()] = string(text)
	}
	texts := map[string]bool{}
	for _, text := range seen {
		if texts[text] {
			t.Fatalf("two keys for %s", text)
		}
		texts[text] = true
	}
}

// day is a day of somebody who signs in at 8 and has a token refreshed every 5
// minutes until 16, in a session of their own.
func day(t testing.TB, who string, start time.Time, add func(Decision)) {
	s := policy.Builtin()
	for at := start; at.Before(start.Add(8 * time.Hour)); at = at.Add(5 * time.Minute) {
		in := policy.Input{
			Principal: policy.Entity{Kind: policy.KindPerson, ID: who, Groups: []string{"staff"}}, Client: policy.Entity{Kind: "client", ID: "cli_1"},
			Action: policy.TokenRefresh, Context: policy.Context{Now: at, Risk: policy.UnknownRisk},
		}
		in.Context.Assurance = assurance.Ask{Rung: assurance.Phishing, MaxAge: max(at.Sub(start), 1)}.Raise(assurance.State{HumanPresent: true, PhishingResistant: true}, at)
		d := recorded(t, in, s.Decide(in, nil))
		d.Session = "ses_" + who + start.Format(time.DateOnly)
		add(d)
	}
}

const harsh = `@id("harsh") @reason("r") forbid (principal is Person, action == Action::"token.refresh", resource) unless { context.assurance.age.phr <= duration("30m") };`

// A harsh candidate shows its prompts: a person who works eight hours is asked
// every half hour and a bit, since what they give counts on.
func TestAHarshCandidate(t *testing.T) {
	tr := New(set(t, harsh))
	for _, who := range []string{"usr_1", "usr_2"} {
		for _, d := range []int{0, 1} {
			day(t, who, monday.AddDate(0, 0, d), func(d Decision) { tr.Add(&d) })
		}
	}
	r := tr.Report(3)
	// 96 refreshes a day. Asked at 8:35, when the sign-in is 35 minutes old, and
	// then each 35 minutes: 13 times. It would have asked for the other 89 too, had
	// nobody answered.
	if r.Decisions != 4*96 || r.Prompts != 4*13 || r.Prompted != 4*13 || r.Blocked != 0 || r.Before != 0 || r.PerDay != 13 || r.PerDayMax != 13 || r.People != 2 || len(r.Rows) != 3 {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]Rule{{Policy: "harsh", Prompts: 52}}, r.Rules); diff != "" {
		t.Error(diff)
	}
	if b := tr.Busiest(); b != (policy.Budget{Prompts: 2 * 13}) {
		t.Errorf("the busiest day: %+v", b)
	}
	if row := r.Rows[0]; row.Day != "2026-11-02" || row.Who != "usr_1" || row.Prompts != 13 {
		t.Errorf("%+v", row)
	}
}

func TestWhatChanges(t *testing.T) {
	person := func(rung assurance.Rung, old time.Duration, risk string) policy.Input {
		in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1"}, Action: policy.Authorize, Context: policy.Context{Now: monday, Risk: policy.Risk{Known: true, Band: risk}}}
		in.Context.Assurance = assurance.Ask{Rung: rung, MaxAge: old}.Raise(assurance.State{}, monday)
		return in
	}
	low, medium, extreme := person(3, time.Hour, "low"), person(3, time.Hour, "medium"), person(3, time.Hour, "extreme")
	never := `@id("never") @reason("r") forbid (principal, action == Action::"authorize", resource);`
	passkey := `@id("passkey") @reason("r") forbid (principal, action == Action::"authorize", resource) unless { context.assurance.age.phr <= duration("5m") };`
	lenient := func() *policy.Set {
		s, err := policy.Compile(policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("all") @reason("r") permit (principal is Person, action, resource);`}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}()
	for name, c := range map[string]struct {
		in   policy.Input
		now  *policy.Set
		want Counts
	}{
		"allowed, asked":     {low, set(t, passkey), Counts{Decisions: 1, Prompts: 1, Prompted: 1}},
		"allowed, refused":   {low, set(t, never), Counts{Decisions: 1, Blocked: 1}},
		"asked, allowed":     {medium, lenient, Counts{Decisions: 1, Before: 1, Allowed: 1}},
		"asked for the same": {medium, set(t, ""), Counts{Decisions: 1, Before: 1, Prompts: 1}},
		"asked for more":     {medium, set(t, passkey), Counts{Decisions: 1, Before: 1, Prompts: 1, Asks: 1}},
		"asked, refused":     {medium, set(t, never), Counts{Decisions: 1, Before: 1, Blocked: 1}},
		"refused, allowed":   {extreme, lenient, Counts{Decisions: 1, Allowed: 1}},
		"refused still":      {extreme, set(t, passkey), Counts{Decisions: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			d := recorded(t, c.in, policy.Builtin().Decide(c.in, nil))
			tr := New(c.now)
			tr.Add(&d)
			if diff := cmp.Diff(c.want, tr.Report(10).Counts); diff != "" {
				t.Error(diff)
			}
		})
	}

	// What policies do not decide stays.
	d := recorded(t, low, policy.Decision{Outcome: policy.Deny, Code: policy.CodeEnded})
	tr := New(lenient)
	tr.Add(&d)
	// What could not be given to the one who was asked is no change.
	u := recorded(t, medium, policy.Decision{Outcome: policy.Deny, Code: policy.CodeUnattainable, Ask: policy.Builtin().Decide(medium, nil).Ask})
	tr2 := New(set(t, ""))
	tr2.Add(&u)
	for _, c := range []Counts{tr.Report(1).Counts, tr2.Report(1).Counts} {
		if c.changes() != 0 || c.Decisions != 1 {
			t.Errorf("%+v", c)
		}
	}
}

func TestWhatCannotBeDecidedAgain(t *testing.T) {
	in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1"}, Action: policy.Authorize, Context: policy.Context{Now: monday, Risk: policy.UnknownRisk}}
	d := recorded(t, in, policy.Decision{})
	tr := New(set(t, ""))
	old, gone, machine, host := d, d, d, d
	old.Facts = &Facts{Kind: policy.KindPerson}
	gone.Who, gone.Saw = "", nil
	machine.Facts = &Facts{Kind: policy.KindService, Service: "svc_1", Seen: &Shared{}}
	host.Facts = &Facts{Kind: policy.KindSystem}
	paying := in
	paying.Principal.Kind, paying.Context.Details.Types = policy.KindService, []string{"payment"}
	if s, w := See(&paying, policy.Decision{}.Ask); s.World != nil || w != nil {
		t.Errorf("what a machine's token was about is kept in the clear: %+v %+v", s.World, w)
	}
	for _, x := range []Decision{old, gone, machine, host} {
		tr.Add(&x)
	}
	r := tr.Report(10)
	if diff := cmp.Diff(map[string]int{NotKept: 2, Erased: 1}, r.Untold); diff != "" || r.Decisions != 0 {
		t.Error(diff, r.Decisions)
	}
	if p := (&Decisions{Items: []DecisionItem{{Of: 1}}, Facts: []Facts{{}}}); tr.AddPage(p) {
		t.Error("facts that are not there")
	}
}

// A hundred thousand decisions and more, under half a minute: in fact in well
// under one second each ten thousand. docs/performance.md has the figure.
func TestAHundredThousand(t *testing.T) {
	var all []Decision
	for who := range 220 {
		for d := range 5 {
			day(t, fmt.Sprintf("usr_%d", who), monday.AddDate(0, 0, d), func(d Decision) { all = append(all, d) })
		}
	}
	slices.SortStableFunc(all, func(a, b Decision) int { return a.At.Compare(b.At) })
	tr := New(set(t, harsh))
	began := time.Now()
	for i := range all {
		tr.Add(&all[i])
	}
	r, took := tr.Report(10), time.Since(began)
	t.Logf("%d decisions of %d people in %v", r.Decisions, r.People, took)
	if r.Decisions != 220*5*96 || r.Decisions < 100_000 || r.People != 220 || r.PerDay != 13 || took > 30*time.Second {
		t.Errorf("%d decisions, %d people, %v a day, in %v", r.Decisions, r.People, r.PerDay, took)
	}
}

// What is kept while counting has bounds, and the totals stay right beyond them.
func TestBounds(t *testing.T) {
	tr := New(set(t, harsh))
	in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1"}, Action: policy.TokenRefresh, Context: policy.Context{Now: monday, Risk: policy.UnknownRisk}}
	in.Context.Assurance = assurance.Ask{Rung: 3, MaxAge: time.Hour}.Raise(assurance.State{}, monday)
	d := recorded(t, in, policy.Builtin().Decide(in, nil))
	n := maxRows + 10
	for i := range n {
		d.Who = fmt.Sprint("usr_", i)
		tr.Add(&d)
	}
	r := tr.Report(5)
	if r.Decisions != n || r.Prompts != n || !r.Cut || len(r.Rows) != 5 || len(tr.rows) != maxRows || len(tr.carried) > maxCarried {
		t.Errorf("%+v", r.Counts)
	}
}
