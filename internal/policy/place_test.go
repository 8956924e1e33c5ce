package policy

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/assurance"
)

const placedSchema = `
` + clusters + `
entity Thingy;
@audience("https://a.example https://b.example") @outage("last") @doc("words")
action "x" appliesTo { principal: [Person, Agent, Service], resource: [Thing, Cluster, Thingy], context: Context };
@audience("https://a.example") @decide("server")
action "always asked" appliesTo { principal: [Person], resource: [Cluster], context: Context };
@audience("https://b.example")
action "secret.of.b" appliesTo { principal: [Person], resource: [Thingy], context: Context };
action "y" appliesTo { principal: [Person, Agent, Service], resource: [Thing, Cluster, Thingy], context: Context };
`

func placedSet(t testing.TB, text string, exceptions ...Exception) *Set {
	t.Helper()
	s, err := Compile(Source{Schema: placedSchema, Files: []File{{Name: "t.cedar", Text: text}}, Exceptions: exceptions})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhereAnActionIsDecided(t *testing.T) {
	for condition, why := range map[string]string{
		`when { context.assurance.age.phr <= duration("5m") && context.time.hour < 18 }`:        "",
		`when { resource.owner == principal && context.token.bound }`:                           "",
		`when { principal in Group::"release" } unless { resource == Cluster::"prod" }`:         "",
		`when { context.risk.known && context.risk.band == "low" }`:                             "reads context.risk.",
		`when { context.device.managed }`:                                                       "reads context.device.managed",
		`when { context.approvals.count >= 1 }`:                                                 "reads context.approvals.count",
		`when { context.client == Client::"cli_1" }`:                                            "who somebody is",
		`when { principal == Person::"usr_1" }`:                                                 "who somebody is",
		`when { resource has owner && resource.owner == Person::"usr_1" }`:                      "who somebody is",
		`when { principal in resource }`:                                                        "who somebody is",
		`when { action == Action::"x" }`:                                                        "who somebody is",
		`when { context.assurance.rung >= 3 } when { context.agent.known == false }`:            "reads context.agent.known",
		`when { [Group::"a", Group::"b"].contains(Group::"a") && context.assurance.rung >= 2 }`: "who somebody is",
	} {
		p, ok := placedSet(t, `@id("p") @reason("r") permit (principal is Person, action in [Action::"x", Action::"y"], resource is Cluster) `+condition+`;`).Place("x")
		if !ok || p.Local != (why == "") || !strings.Contains(p.Why, why) || p.Outage != OutageLast {
			t.Errorf("%s: %+v", condition, p)
		}
	}
	// A rule against what is not known there would let it through in an outage.
	for against, held := range map[string]bool{
		`when { context.details.said.contains("payment amount>=1000") }`:                false,
		`when { context.details.types.contains("payment") }`:                            false,
		`when { context.deployment.manages_devices } unless { context.device.managed }`: false,
		`when { context.risk.known && context.risk.band == "extreme" }`:                 true,
		`unless { context.device.managed }`:                                             true,
	} {
		s := placedSet(t, `@id("p") @reason("r") permit (principal, action == Action::"x", resource); @id("f") @reason("r") forbid (principal, action == Action::"x", resource) `+against+`;`)
		if p, _ := s.Place("x"); p.Local || p.Held != held || held != (s.Excerpt(s.Places("https://a.example")).Policies != "") {
			t.Errorf("%s: %+v", against, p)
		}
	}
	s := placedSet(t, `@id("p") @reason("r") permit (principal, action, resource is Cluster);`)
	if p, ok := s.Place("always asked"); !ok || p.Local || p.Outage != OutageRefuse || !slices.Equal(p.Resources, []string{"Cluster"}) || !slices.Equal(p.Kinds, []string{KindPerson}) {
		t.Errorf("%+v", p)
	}
	for _, a := range []Action{"y", SelfRead, "no.such.action"} {
		if p, ok := s.Place(a); ok {
			t.Errorf("%s is decided elsewhere: %+v", a, p)
		}
	}
	var names []Action
	for _, p := range s.Places("https://a.example") {
		names = append(names, p.Action)
	}
	if !slices.Equal(names, []Action{"always asked", "x"}) || s.Places("https://c.example") != nil {
		t.Errorf("a has %v", names)
	}
	// Whom an exception concerns is told to nobody.
	s = placedSet(t, `@id("p") @reason("r") permit (principal is Person, action == Action::"x", resource) when { context.assurance.rung >= 3 };`,
		Exception{ID: "e", Rule: "p", For: "usr_1", Owner: "o", Reason: "r", Rung: 2, Until: t0.Add(1)})
	if p, _ := s.Place("x"); p.Local || !strings.Contains(p.Why, "exception") {
		t.Errorf("%+v", p)
	}
}

// TestWhatIsHeld walks everything by which an enforcement point holds the policies of an
// action or does not: who decides it by the schema, what its policies read, what happens in
// an outage, whether a rule of it is waived, and whether something else leaves it to the
// server. It holds them if it decides by them, or does in an outage, and never else.
func TestWhatIsHeld(t *testing.T) {
	const audience = "https://a.example"
	reads := map[string]struct{ local, barred bool }{
		`context.assurance.rung >= 2`:                                      {local: true},
		`context.assurance.rung >= 2 && context.device.managed`:            {},
		`context.assurance.rung >= 2 && principal == Person::"usr_1"`:      {barred: true},
		`context.assurance.rung >= 2 && principal in Group::"release"`:     {local: true},
		`context.assurance.rung >= 2 && context.details.types == ["some"]`: {barred: true},
	}
	held := map[bool]int{}
	check := func(condition, decide, outage string, waived, left bool) {
		src := Source{
			Schema: `@audience("` + audience + `") ` + decide + outage + ` action "z" appliesTo { principal: [Person], resource: [Thing], context: Context };`,
			Files: []File{{Text: `@id("p") @reason("r") permit (principal is Person, action == Action::"z", resource) when { ` + condition + ` };
				@id("f") @reason("r") forbid (principal, action == Action::"z", resource) unless { context.assurance.rung >= 3 };`}},
		}
		if waived {
			src.Exceptions = []Exception{{ID: "e", Rule: "f", For: "usr_1", Owner: "o", Reason: "r", Rung: 2, Until: t0.Add(1)}}
		}
		s, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		places := s.Places(audience)
		if left {
			places[0].LeaveToServer("for a reason")
		}
		p, text := places[0], s.Excerpt(places).Policies
		local := reads[condition].local && decide == "" && !waived && !left
		want := !reads[condition].barred && (local || strings.Contains(outage, OutageLast))
		if p.Local != local || p.Held != want || want != (text != "") || !p.Local && p.Why == "" {
			t.Errorf("%s %s %s, waived %v, left %v: %+v\n%s", decide, outage, condition, waived, left, p, text)
		}
		held[want]++
	}
	for condition := range reads {
		for _, decide := range []string{"", `@decide("server")`} {
			for _, outage := range []string{"", `@outage("refuse")`, `@outage("last")`} {
				check(condition, decide, outage, false, false)
				check(condition, decide, outage, false, true)
				check(condition, decide, outage, true, false)
				check(condition, decide, outage, true, true)
			}
		}
	}
	if held[true] == 0 || held[false] == 0 {
		t.Error(held)
	}
}

func TestAnnotationsOfActions(t *testing.T) {
	for note, says := range map[string]string{
		`@audience("")`:                                 "@audience names 1 to 20",
		`@audience("api.example")`:                      "@audience names 1 to 20",
		`@audience("https://a.example") @outage("no")`:  "@outage is one of",
		`@audience("https://a.example") @decide("pep")`: "@decide is server",
		`@audiance("https://a.example")`:                "@audiance is no annotation",
	} {
		_, err := Compile(Source{
			Schema: note + ` action "z" appliesTo { principal: [Person], resource: [Thing], context: Context };`,
			Files:  []File{{Text: whenever("")}},
		})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", note, err)
		}
	}
	_, err := Compile(Source{Schema: `@audience("https://a.example") action "group";`, Files: []File{{Text: whenever("")}}})
	if err == nil || !strings.Contains(err.Error(), "a group of actions is not decided") {
		t.Error(err)
	}
}

// TestExcerptTellsNoMore: nothing of others, and of policies only what callers may know.
func TestExcerptTellsNoMore(t *testing.T) {
	s := placedSet(t, `
// a comment
@id("secret.rule") @reason("Because of the incident.") @owner("dana") @public_reason("This needs a key") @review("2027-01-01")
permit (principal is Person in Group::"release", action in [Action::"x", Action::"y", Action::"secret.of.b", Action::"always asked"], resource)
when { context.assurance.rung >= 3 };
@id("of.b") @reason("r") permit (principal in Group::"b-people", action == Action::"secret.of.b", resource);
@id("of.server") @reason("r") permit (principal, action == Action::"always asked", resource) when { principal in Group::"asked" };`)
	x := s.Excerpt(s.Places("https://a.example"))
	if !slices.Equal(x.Groups, []string{"release"}) || !strings.Contains(x.Policies, "This needs a key") {
		t.Errorf("%+v", x)
	}
	for _, not := range []string{"secret", "incident", "dana", "comment", "2027", "b-people", `"y"`, "always", "asked"} {
		if strings.Contains(x.Policies+x.Schema, not) {
			t.Errorf("it says %q:\n%s%s", not, x.Schema, x.Policies)
		}
	}
	if x := s.Excerpt(s.Places("https://c.example")); x.Policies != "" || x.Schema != "" {
		t.Errorf("a stranger holds %+v", x)
	}
	if x, err := CompileExcerpt(x); err != nil || x.Version() == s.Version() {
		t.Errorf("%v", err)
	}
}

// TestExcerptAnswersAsTheSet: whatever the policies and the facts, where an enforcement
// point decides by itself it answers what the server would.
func TestExcerptAnswersAsTheSet(t *testing.T) {
	cases(t, "400", "40000")
	local, held := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := source().Draw(t, "source")
		s, err := compile(Source{Schema: placedSchema, Files: []File{{Text: text}}}, false)
		if err != nil {
			t.Skip(err)
		}
		p, ok := s.Place("x")
		if !ok {
			t.Fatal("x has no place")
		}
		e := s.Excerpt(s.Places("https://b.example"))
		if e.Policies == "" {
			return
		}
		own, err := CompileExcerpt(e)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, text, e.Policies)
		}
		in := anyone(t)
		if !p.Local { // in an outage: by what is known there
			held++
			in.Context = Context{Now: in.Context.Now, Assurance: in.Context.Assurance, Risk: UnknownRisk}
		} else {
			local++
		}
		was, is := s.Decide(in, nil), own.Decide(in, nil)
		if is.Outcome != was.Outcome || is.Ask != was.Ask || is.Code != was.Code {
			t.Fatalf("%s\nthere %+v\nhere %+v\n%s", text, is, was, e.Policies)
		}
	})
	enough(t, local >= 20 && held >= 20, "decided by themselves %d times, in an outage %d times: too few to say anything", local, held)
}

func TestMachineNeeds(t *testing.T) {
	s := placedSet(t, `@id("p") @reason("r") permit (principal is Service, action == Action::"x", resource) when { context.assurance.machine >= 3 };`)
	in := asking("x", assurance.State{MachineRung: 1, Sources: 1}, "")
	in.Principal.Kind = KindService
	if r := s.MachineNeeds(in); r != 3 {
		t.Errorf("needs m%d", r)
	}
	in.Principal.Kind = KindPerson
	if r := s.MachineNeeds(in); r != 0 {
		t.Errorf("a person needs m%d", r)
	}
	in = asking("y", assurance.State{MachineRung: 1}, "")
	in.Principal.Kind = KindService
	if r := s.MachineNeeds(in); r != 0 {
		t.Errorf("what nothing allows needs m%d", r)
	}
}
