package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// ownSchema declares what the tests act on.
const ownSchema = `
entity Cluster { owner: Person };
entity Thingy;
action "deploys";
action "x", "y" appliesTo { principal: [Person, Agent, Service], resource: [Thing, Cluster, Thingy], context: Context };
action "deploy" in ["deploys"] appliesTo { principal: [Person, Agent, Service], resource: [Cluster], context: Context };
`

// made is a set of policies over ownSchema.
func made(t testing.TB, text string) *Set {
	t.Helper()
	s, err := Compile(Source{Schema: ownSchema, Files: []File{{Name: "test.cedar", Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// whenever is a permit of x with a condition.
func whenever(condition string) string {
	return `@id("p") @reason("r") permit (principal, action == Action::"x", resource) ` + condition + ";"
}

// attributes are declarations of n attributes.
func attributes(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("a%d: Long", i))
	}
	return out
}

func forbidding(condition string) string {
	return whenever("") + `@id("f") @reason("r") forbid (principal, action == Action::"x", resource) ` + condition + ";"
}

func TestFaults(t *testing.T) {
	ways := func(n int) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(`context.assurance.age.multi <= duration("%dm")`, i+1))
		}
		return "when { " + strings.Join(parts, " || ") + " }"
	}
	for name, c := range map[string]struct {
		schema, text string
		code, says   string
	}{
		"nothing":                {"", "", FaultNoPolicies, "everything would be refused"},
		"no Cedar":               {"", "permit (", FaultSyntax, ""},
		"unfolds without end":    {"", whenever(strings.Repeat("(", 9) + "context" + strings.Repeat(" has risk.known)", 9)), FaultLimit, "has"},
		"no schema":              {"entity", whenever(""), FaultSyntax, ""},
		"a type twice":           {"entity Person;", whenever(""), FaultSchema, "Person"},
		"a namespace":            {"namespace N { entity A; }", whenever(""), FaultSchema, "namespace"},
		"an enumeration":         {`entity E enum ["a"];`, whenever(""), FaultSchema, "enumerated"},
		"an attribute's type":    {"entity E { size: decimal };", whenever(""), FaultSchema, "String, Long, Bool and Set<String>, and nothing else"},
		"a set of numbers":       {"entity E { sizes: Set<Long> };", whenever(""), FaultSchema, "and nothing else"},
		"a person beside":        {"entity E { approver: Person };", whenever(""), FaultSchema, "and nothing else"},
		"an optional attribute":  {"entity E { size?: Long };", whenever(""), FaultSchema, "not optional"},
		"an attribute's name":    {`entity E { "a.b": Long };`, whenever(""), FaultSchema, "a name has letters"},
		"the other owner":        {`entity E { ownerID: String };`, whenever(""), FaultSchema, "differs from others, owner and ownerID"},
		"an owner in capitals":   {`entity E { Owner: String };`, whenever(""), FaultSchema, "in more than case"},
		"names of one spelling":  {`entity E { amount: Long, Amount: Long };`, whenever(""), FaultSchema, "in more than case"},
		"many attributes":        {"entity E { " + strings.Join(attributes(17), ", ") + " };", whenever(""), FaultSchema, "more than 16 attributes"},
		"an optional owner":      {"entity E { owner?: Person };", whenever(""), FaultSchema, "it is a Person, and not optional"},
		"an owner by name":       {"entity E { owner: String };", whenever(""), FaultSchema, "it is a Person"},
		"another's attribute":    {saidSchema, whenever("when { resource.size > 3 }"), FaultType, "size"},
		"a text and a number":    {saidSchema, whenever("when { resource is Cluster && resource.environment < 3 }"), FaultType, "something else"},
		"a number and an age":    {saidSchema, whenever("when { resource is Cluster && context.token.age < resource.size }"), FaultType, "a duration with a Long"},
		"a proof and a number":   {saidSchema, whenever("when { resource is Cluster && context.assurance.rung >= resource.size }"), FaultMonotone, "only be compared"},
		"tags":                   {"entity E tags String;", whenever(""), FaultSchema, "no tags"},
		"another principal":      {`entity E; action "z" appliesTo { principal: [E], resource: [E], context: Context };`, whenever(""), FaultSchema, "can be a principal"},
		"another context":        {`entity E; action "z" appliesTo { principal: [Person], resource: [E], context: { a: Bool } };`, whenever(""), FaultSchema, "must be Context"},
		"no id":                  {ownSchema, `@reason("r") permit (principal, action, resource);`, FaultAnnotation, "@id"},
		"a taken id":             {ownSchema, `@id("default") @reason("r") permit (principal, action, resource);`, FaultAnnotation, "@id"},
		"no reason":              {ownSchema, `@id("a") permit (principal, action, resource);`, FaultAnnotation, "@reason"},
		"a misspelt note":        {ownSchema, `@id("a") @reason("r") @climbs("never") permit (principal, action, resource);`, FaultAnnotation, "@climbs is no annotation"},
		"a mode":                 {ownSchema, `@id("a") @reason("r") @mode("off") permit (principal, action, resource);`, FaultAnnotation, "@mode is one of"},
		"a date":                 {ownSchema, `@id("a") @reason("r") @review("soon") permit (principal, action, resource);`, FaultAnnotation, "YYYY-MM-DD"},
		"a public quote":         {ownSchema, `@id("a") @reason("r") @public_reason("say \"no\"") permit (principal, action, resource);`, FaultAnnotation, "header"},
		"a public full stop":     {ownSchema, `@id("a") @reason("r") @public_reason("No.") permit (principal, action, resource);`, FaultAnnotation, "full stop"},
		"a permit that opens":    {ownSchema, `@id("a") @reason("r") @opens("review") permit (principal, action, resource);`, FaultAnnotation, "forbids"},
		"one id twice":           {ownSchema, whenever("") + whenever(""), FaultDuplicate, "another policy"},
		"about the server":       {ownSchema, `@id("a") @reason("r") forbid (principal is System, action, resource);`, FaultHost, "is fixed"},
		"an unknown action":      {ownSchema, `@id("a") @reason("r") permit (principal, action == Action::"nope", resource);`, FaultType, ""},
		"an absent attribute":    {ownSchema, whenever("when { resource.owner == principal }"), FaultType, "owner"},
		"no such attribute":      {ownSchema, whenever("when { context.mood == 1 }"), FaultType, "mood"},
		"another type":           {ownSchema, whenever(`when { context.assurance.rung >= "3" }`), FaultType, ""},
		"an age and a number":    {ownSchema, `@id("p") @reason("r") @climb("never") permit (principal, action == Action::"x", resource) when { context.assurance.age.phr <= 300 };`, FaultType, "a comparison of a duration with a Long"},
		"a record's member":      {ownSchema, `@id("p") @reason("r") permit (principal, action == Action::"x", resource) when { {a: 1}.a < 2 };`, FaultType, "something else"},
		"a time and a number":    {ownSchema, `@id("p") @reason("r") permit (principal, action == Action::"x", resource) when { context.time.now > 3 };`, FaultType, "a datetime with a Long"},
		"either of two types":    {ownSchema, `@id("p") @reason("r") permit (principal, action == Action::"x", resource) when { (if context.presented then 1 else context.token.age) >= 1 };`, FaultType, "something else"},
		"a word":                 {ownSchema, `@id("p") @reason("r") permit (principal, action == Action::"x", resource) when { "a" < "b" };`, FaultType, "something else"},
		"a decimal":              {ownSchema, `@id("p") @reason("r") permit (principal, action == Action::"x", resource) when { decimal("0.5") < decimal("1.0") };`, FaultType, "something else"},
		"an exact rung":          {ownSchema, whenever("when { context.assurance.rung == 3 }"), FaultMonotone, "only be compared"},
		"at most a rung":         {ownSchema, whenever("when { context.assurance.rung <= 3 }"), FaultMonotone, "only be compared"},
		"a literal first":        {ownSchema, whenever("when { 3 <= context.assurance.rung }"), FaultMonotone, "only be compared"},
		"no literal":             {ownSchema, whenever("when { context.assurance.rung >= context.assurance.machine }"), FaultMonotone, "only be compared"},
		"rung 0":                 {ownSchema, whenever("when { context.assurance.rung >= 0 }"), FaultMonotone, "from 1 to 4"},
		"rung 5":                 {ownSchema, whenever("when { context.assurance.rung >= 5 }"), FaultMonotone, "from 1 to 4"},
		"no duration":            {ownSchema, whenever(`when { context.assurance.age.phr <= duration(context.network.zone) }`), FaultMonotone, "only be compared"},
		"a duration of a number": {ownSchema, whenever(`when { context.assurance.age.phr <= duration(5) }`), FaultMonotone, "only be compared"},
		"two wrong attributes":   {"entity E { a: decimal, b: decimal };", whenever(""), FaultSchema, "attribute b"},
		"half a duration":        {ownSchema, whenever(`when { context.assurance.age.phr <= duration("5") }`), FaultMonotone, "only be compared"},
		"a group of people":      {ownSchema, `@id("a") @reason("r") permit (principal in Action::"x", action, resource);`, FaultType, ""},
		"no group":               {ownSchema, whenever("when { context.assurance.sources >= context.assurance.rung }"), FaultMonotone, "only be compared"},
		"at least an age":        {ownSchema, whenever(`when { context.assurance.age.phr >= duration("5m") }`), FaultMonotone, "only be compared"},
		"two ages":               {ownSchema, whenever(`when { context.assurance.age.phr <= context.assurance.age.multi }`), FaultMonotone, "only be compared"},
		"too young":              {ownSchema, whenever(`when { context.assurance.age.phr <= duration("59s") }`), FaultMonotone, "from a minute"},
		"too old":                {ownSchema, whenever(`when { context.assurance.age.phr <= duration("999d") }`), FaultMonotone, "from a minute"},
		"half a second":          {ownSchema, whenever(`when { context.assurance.age.phr <= duration("90500ms") }`), FaultMonotone, "whole seconds"},
		"not":                    {ownSchema, whenever("when { !(context.assurance.rung >= 3) }"), FaultMonotone, "only be compared"},
		"if":                     {ownSchema, whenever("when { if context.device.managed then true else false }"), FaultMonotone, "only be compared"},
		"false":                  {ownSchema, whenever("when { context.device.managed == false }"), FaultMonotone, "only be compared"},
		"a permit's unless":      {ownSchema, whenever("unless { context.assurance.rung >= 3 }"), FaultMonotone, "the when of a permit"},
		"a forbid's when":        {ownSchema, forbidding("when { context.assurance.rung >= 3 }"), FaultMonotone, "the when of a permit"},
		"the whole context":      {ownSchema, forbidding("when { context == context }"), FaultMonotone, "the when of a permit"},
		"a whole record":         {ownSchema, whenever("when { context.device == context.device }"), FaultMonotone, "only be compared"},
		"many alternatives":      {ownSchema, whenever(ways(17)), FaultMonotone, "more than 16 alternatives"},
		"many candidates": {
			ownSchema,
			`@id("a") @reason("r") permit (principal, action == Action::"x", resource) ` + ways(9) + ";" + strings.Replace(whenever(strings.ReplaceAll(ways(9), "multi", "phr")), `"p"`, `"b"`, 1),
			FaultLimit, "more than 16 different asks",
		},
		"many points": {
			ownSchema,
			`@id("a") @reason("r") permit (principal, action == Action::"x", resource) ` + ways(15) + ";" +
				`@id("b") @reason("r") permit (principal, action == Action::"y", resource) when { context.assurance.rung >= 1 || context.assurance.rung >= 3 || context.assurance.rung >= 4 || context.device.managed || context.device.known || context.approvals.count >= 2 || context.approvals.count >= 3 || context.approvals.confirmed };`,
			FaultLimit, "combinations",
		},
		"two groups of approvers": {
			ownSchema,
			`@id("a") @reason("r") @approvers("one") permit (principal, action == Action::"x", resource) when { context.approvals.count >= 1 };
			 @id("b") @reason("r") @approvers("two") permit (principal, action == Action::"x", resource) when { context.approvals.count >= 1 };`,
			FaultApprovers, "one group",
		},
	} {
		s, err := Compile(Source{Schema: c.schema, Files: []File{{Name: "test.cedar", Text: c.text}}})
		var faults Faults
		if s != nil || !errors.As(err, &faults) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := false
		for _, f := range faults {
			found = found || f.Code == c.code && strings.Contains(f.Text, c.says)
		}
		if !found || !strings.Contains(faults.Error(), faults[0].Text) {
			t.Errorf("%s: %+v", name, faults)
		}
	}
	for want, f := range map[string]Fault{
		"no":                      {Text: "no"},
		"a.cedar: no":             {File: "a.cedar", Text: "no"},
		"a.cedar:3: policy x: no": {File: "a.cedar", Line: 3, Policy: "x", Text: "no"},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Everything that is wrong is said at once.
func TestEveryFaultAtOnce(t *testing.T) {
	_, err := Compile(Source{Schema: ownSchema, Files: []File{
		{Name: "b.cedar", Text: "forbid"},
		{Name: "a.cedar", Text: "@id(\"a\")\npermit (principal, action, resource);\n" + whenever("when { context.assurance.rung == 3 }")},
	}})
	var got []string
	for _, f := range err.(Faults) {
		got = append(got, fmt.Sprintf("%s:%d %s %s", f.File, f.Line, f.Policy, f.Code))
	}
	if diff := cmp.Diff([]string{"a.cedar:1 a annotation", "a.cedar:3 p monotone", "b.cedar:0  syntax"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSmallThings(t *testing.T) {
	if (&Context{DeviceManaged: true}).onDevice(assurance.ManagedDevice + 1) {
		t.Error("an unknown demand is met")
	}
	defer func() {
		if recover() == nil {
			t.Error("what is compiled in may be wrong")
		}
	}()
	must(Compile(Source{}))
}

// What the fragment allows, and the ask that each comes to.
func TestTheFragmentAndItsAsks(t *testing.T) {
	for condition, want := range map[string]assurance.Ask{
		"when { context.assurance.rung >= 3 }":                                                                     {Rung: 3},
		`when { context.assurance.age.multi <= duration("12h") }`:                                                  {Rung: 2, MaxAge: 12 * time.Hour},
		`when { context.assurance.rung >= 4 && context.assurance.age.single <= duration("1h") }`:                   {Rung: 4, MaxAge: time.Hour},
		"when { context.assurance.phishing_resistant }":                                                            {Rung: 3},
		"when { context.assurance.hardware_bound == true }":                                                        {Rung: 4},
		"when { context.assurance.human_present }":                                                                 {Rung: 1},
		"when { context.approvals.confirmed }":                                                                     {Approval: assurance.Approval{Kind: "confirm"}},
		"when { context.approvals.count >= 2 }":                                                                    {Approval: assurance.Approval{Kind: "approve", M: 2}},
		"when { context.assurance.rung >= 4 || context.assurance.rung >= 2 }":                                      {Rung: 2},
		"when { (context.network.known || context.assurance.rung >= 3) && context.approvals.confirmed }":           {Rung: 3, Approval: assurance.Approval{Kind: "confirm"}},
		"unless { context.risk.band == \"low\" } when { context.assurance.rung >= 2 }":                             {Rung: 2},
		`when { context.assurance.rung >= 3 && (context["assurance"].rung >= 2 && context.assurance.rung >= 3) }`:  {Rung: 3},
		`when { context.approvals.count >= 1 && context.approvals.count >= 3 && context.assurance.rung >= 1 }`:     {Rung: 1, Approval: assurance.Approval{Kind: "approve", M: 3}},
		`when { context.assurance.age.phr <= duration("5m") && context.assurance.age.multi <= duration("1h") }`:    {Rung: 3, MaxAge: 5 * time.Minute},
		`when { context.assurance.age.phr <= duration("1h") && context.assurance.age.multi <= duration("1m") }`:    {Rung: 3, MaxAge: time.Minute},
		`when { (context.device.managed && context.assurance.rung >= 2) || context.assurance.rung >= 4 }`:          {Rung: 4},
		`when { context.assurance.rung >= 1 } when { principal is Person } when { context.assurance.rung >= 2 }`:   {Rung: 2},
		`when { context.assurance.sources >= 1 && context.assurance.sources >= 2 || context.assurance.rung >= 1 }`: {Rung: 1},
		`when { context.assurance.sources >= 1 && context.assurance.machine >= 1 || context.assurance.rung >= 1 }`: {Rung: 1},
	} {
		in := asking("x", assurance.State{}, dana)
		in.Context.Approvers, in.Context.Confirmable = 3, true
		d := made(t, whenever(condition)).Decide(in, nil)
		if d.Outcome != StepUp || d.Ask != want {
			t.Errorf("%s: %+v", condition, d)
		}
		forbid := made(t, forbidding(strings.Replace(strings.ReplaceAll(condition, "when", "unless"), "ununless", "when", 1))).Decide(in, nil)
		if !strings.Contains(condition, "} when") && (forbid.Outcome != StepUp || forbid.Ask != want) {
			t.Errorf("forbid unless %s: %+v", condition, forbid)
		}
	}
	// The group that approves is the policy's.
	in := asking("x", assurance.State{}, dana)
	in.Context.Approvers = 1
	d := made(t, `@id("p") @reason("r") @approvers("release") permit (principal, action == Action::"x", resource) when { context.approvals.count >= 1 };`).Decide(in, nil)
	if d.Ask.Approval.Group != "release" {
		t.Errorf("%+v", d)
	}
}

// What can be compared is.
func TestComparisons(t *testing.T) {
	for _, c := range []string{
		`context.time.now >= datetime("2026-01-01")`, `context.time.now.toTime() > duration("9h")`, `context.token.age < duration("1h")`,
		`context.agent.budget - 1 >= 0`, `-context.agent.budget <= 0`, `context.time.now.offset(duration("1d")).toDate() > datetime("2026-01-01")`,
		`(if context.presented then 1 else 2) * 3 > context.time.hour`, `(if context.presented then 1 else 2) > 1`,
		`context.time.now.durationSince(datetime("2026-01-01")).toDays() >= 1`, `context.agent.budget + 1 > 0`,
	} {
		in := asking("x", showing(1, 0), dana)
		in.Context.Agent.Budget = 5
		if d := made(t, whenever("when { "+c+" || true }")).Decide(in, nil); d.Outcome != Allow {
			t.Errorf("%s: %+v", c, d)
		}
	}
}

// A policy that may take away as proof rises is never climbed over (A5).
func TestClimbNever(t *testing.T) {
	s := made(t, `@id("p") @reason("words") @climb("never") permit (principal, action == Action::"x", resource)
		when { context.assurance.rung == 2 || !(context.device.known) && context.assurance.rung >= 4 };
		@id("q") @reason("r") permit (principal, action == Action::"x", resource) when { context.assurance.rung >= 3 && context.approvals.confirmed };`)
	for r, want := range map[assurance.Rung]Outcome{1: Deny, 2: Allow, 3: Deny, 4: Allow} {
		d := s.Decide(asking("x", showing(r, 0), dana), nil)
		if d.Outcome != want || want == Deny && (d.Code != CodeDenied || d.Ask.Demands() || d.Reasons[0].Text != "words") {
			t.Errorf("rung %d: %+v", r, d)
		}
	}
}

// Policies that ask alike, for other groups, answer for themselves: each is named where
// it is the reason, in the order in which they stand, and none of a group that somebody
// is not in.
func TestPoliciesThatAskAlike(t *testing.T) {
	var b strings.Builder
	for i, group := range []string{"a", "b", "c", "b"} {
		fmt.Fprintf(&b, `@id("p%d") @reason("P%d.") permit (principal in Group::"%s", action == Action::"x", resource) when { context.assurance.rung >= 3 };`, i, i, group)
		fmt.Fprintf(&b, `@id("f%d") @reason("F%d.") forbid (principal in Group::"%s", action == Action::"x", resource) when { context.network.known };`, i, i, group)
		fmt.Fprintf(&b, `@id("e%d") @reason("E%d.") forbid (principal in Group::"%s", action == Action::"x", resource) when { context.agent.budget + 1 < 0 };`, i, i, group)
	}
	s := made(t, b.String())
	if q := s.eval.(*engine).buckets[bucketKey{"x", KindPerson}].all; len(q.policies) != 12 || len(q.put) != 3 {
		t.Fatalf("%d policies ask %d questions", len(q.policies), len(q.put))
	}
	for _, c := range []struct {
		groups  string
		rung    int
		network bool
		budget  int64
		want    string // the reasons
	}{
		{"b c", 3, false, 0, "p1"},
		{"c", 3, false, 0, "p2"},
		{"c b", 2, false, 0, "p0 p1 p2 p3"}, // p0 says whom it is for
		{"c b", 3, true, 0, "f1 f2 f3 p0"},
		{"c", 3, true, 0, "f2 p0 p1 p3"},
		{"", 3, true, 0, "p0 p1 p2 p3"},
		{"c b", 3, false, 1<<63 - 1, "e1 evaluation"},
		{"c", 3, false, 1<<63 - 1, "e2 evaluation"},
		{"d", 3, false, 1<<63 - 1, "p0 p1 p2 p3"},
	} {
		in := asking("x", showing(assurance.Rung(c.rung), 0), dana, strings.Fields(c.groups)...)
		in.Context.Network.Known = c.network
		in.Context.Agent = Agent{Known: true, Budget: c.budget}
		var got []string
		for _, r := range s.Decide(in, nil).Reasons {
			got = append(got, r.Policy)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Cedar passes over a forbid that cannot be evaluated; here it refuses (A4). The
// validator keeps such policies out, so that one that overflows stands for them.
func TestAPolicyThatCannotBeEvaluatedRefuses(t *testing.T) {
	overflow := "when { context.agent.budget + 1 > 0 }"
	for _, effect := range []string{"permit", "forbid"} {
		s := made(t, whenever("")+`@id("boom") @reason("Boom.") `+effect+` (principal, action == Action::"x", resource) `+overflow+";")
		in := asking("x", showing(4, 0), dana)
		if d := s.Decide(in, nil); (d.Outcome == Allow) != (effect == "permit") {
			t.Errorf("%s, the control: %+v", effect, d)
		}
		in.Context.Agent = Agent{Known: true, Budget: 1<<63 - 1}
		d := s.Decide(in, nil)
		if d.Outcome != Deny || d.Code != CodeError || d.Reasons[0].Policy != "boom" || !strings.Contains(d.Reasons[1].Text, "overflow") {
			t.Errorf("%s: %+v", effect, d)
		}
	}
}

// No set of one's own keeps the server from its work or root from theirs.
func TestTheHostStandsBesideEverySet(t *testing.T) {
	s := made(t, `@id("nothing") @reason("r") forbid (principal, action, resource);`)
	for kind, a := range map[string]Action{KindOperator: PolicyRecover, KindSystem: AuditSequence} {
		in := asking(a, assurance.State{}, "")
		in.Principal.Kind = kind
		if d := s.Decide(in, nil); d.Outcome != Allow {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	if d := s.Decide(asking(SelfRead, showing(4, 0), dana), nil); d.Outcome != Deny || d.Reasons[0].Policy != "nothing" {
		t.Errorf("%+v", d)
	}
}

func TestMonitoredPoliciesTakeNoPart(t *testing.T) {
	s := made(t, whenever("when { context.assurance.rung >= 1 }")+
		`@id("watch") @reason("w") @mode("monitor") forbid (principal is Person, action == Action::"x", resource) unless { context.assurance.rung >= 3 };`)
	for r, monitored := range map[assurance.Rung]Outcome{1: StepUp, 3: Allow} {
		d := s.Decide(asking("x", showing(r, 0), dana), nil)
		if d.Outcome != Allow || (d.Monitored == nil) != (monitored == Allow) || d.Monitored != nil && (d.Monitored.Outcome != monitored || d.Monitored.Ask.Rung != 3) {
			t.Errorf("rung %d: %+v", r, d)
		}
	}
	if _, err := Compile(Source{Schema: ownSchema, Files: []File{{Text: `@id("w") @reason("w") @mode("monitor") permit (principal, action, resource);`}}}); err != nil {
		t.Error(err)
	}
	if len(s.Policies()) < 3 || s.Policies()[0].Monitor || !s.Policies()[1].Monitor {
		t.Errorf("%+v", s.Policies())
	}
}

// The risk ladder: low is silent, medium wants a sign-in of now, high one that
// cannot be phished, extreme refuses and somebody looks; where there is no score
// nothing is added.
func TestTheRiskLadder(t *testing.T) {
	old := showing(4, time.Hour)
	for _, c := range []struct {
		now, before Risk
		want        Outcome
		ask         assurance.Ask
		policy      string
	}{
		{UnknownRisk, Risk{}, Allow, assurance.Ask{}, "authorize"},
		{Risk{true, RiskLow}, Risk{}, Allow, assurance.Ask{}, "authorize"},
		{Risk{true, RiskMedium}, Risk{}, StepUp, assurance.Ask{Rung: 2, MaxAge: 15 * time.Minute}, "risk.medium"},
		{Risk{true, RiskHigh}, Risk{}, StepUp, assurance.Ask{Rung: 3, MaxAge: 15 * time.Minute}, "risk.high"},
		{Risk{true, RiskExtreme}, Risk{}, Deny, assurance.Ask{}, "risk.extreme"},
		{Risk{true, "odd"}, Risk{}, Deny, assurance.Ask{}, "risk.extreme"},
		{Risk{true, RiskLow}, Risk{true, RiskHigh}, StepUp, assurance.Ask{Rung: 3, MaxAge: 15 * time.Minute}, "risk.high"},
		{Risk{true, RiskHigh}, Risk{true, RiskMedium}, StepUp, assurance.Ask{Rung: 3, MaxAge: 15 * time.Minute}, "risk.high"},
		{UnknownRisk, Risk{true, RiskExtreme}, Deny, assurance.Ask{}, "risk.extreme"},
	} {
		in := asking(Authorize, old, "")
		in.Context.Risk, in.Context.RiskBefore = c.now, c.before
		d := Builtin().Decide(in, nil)
		if d.Outcome != c.want || d.Ask != c.ask || d.Reasons[0].Policy != c.policy || d.Review != (c.want == Deny) {
			t.Errorf("%+v: %+v", c, d)
		}
		if c.want == StepUp {
			in.Context.Assurance = d.Ask.Raise(old, t0)
			if after := Builtin().Decide(in, nil); after.Outcome != Allow {
				t.Errorf("%+v, then: %+v", c, after)
			}
		}
		in.Action, in.Resource.Owner, in.Context.Assurance = SessionEnd, dana, showing(2, time.Hour)
		if d := Builtin().Decide(in, nil); d.Outcome != Allow {
			t.Errorf("%+v: ending one's own is made harder: %+v", c, d)
		}
	}
	if got := UnknownRisk.worse(UnknownRisk); got != UnknownRisk {
		t.Errorf("%+v", got)
	}
}

// Where devices are managed, the most sensitive needs one and the rest does not.
func TestUnmanagedDevicesKeepRoutineAccess(t *testing.T) {
	for a, want := range map[Action]Outcome{ClientRead: Allow, ClientWrite: Allow, KeyRotate: Deny, PersonErase: Deny, ClientSecretRotate: Deny} {
		in := asking(a, showing(4, 0), "", Administrators)
		in.Context.DevicesUsed = true
		d := Builtin().Decide(in, nil)
		if d.Outcome != want || want == Deny && (d.Code != CodeDenied || d.Reasons[0].Policy != "device.managed" || d.Reasons[1].Text != "This needs a managed device.") {
			t.Errorf("%s: %+v", a, d)
		}
		in.Context.DeviceManaged = true
		if d := Builtin().Decide(in, nil); d.Outcome != Allow {
			t.Errorf("%s on a managed device: %+v", a, d)
		}
	}
}

// A deployment's own entity types and actions, and what the rest of the context
// is when nobody filled it: what grants least.
func TestOwnActionsAndTheWholeContext(t *testing.T) {
	s := made(t, `@id("p") @reason("r") permit (principal in Group::"dev", action in Action::"deploys", resource is Cluster) when { resource.owner == principal || principal is Service };
		@id("one") @reason("r") permit (principal == Person::"usr_sam", action == Action::"x", resource == Cluster::"c1");
		@id("other") @reason("r") permit (principal, action == Action::"y", resource)
		when { context.token.known && context.token.age <= duration("5m") && context.token.bound && context.token.depth <= 1 && context.time.hour >= 9 && context.time.weekday >= 1
		    && context.client == Client::"cli_1" && context.network.zone == "office" && context.agent.purpose == "tests" && context.assurance.rung >= 1 };`)
	for _, c := range []struct {
		groups []string
		owner  string
		is     string
		want   Outcome
	}{{[]string{"dev"}, dana, "Cluster", Allow}, {nil, dana, "Cluster", Deny}, {[]string{"dev"}, sam, "Cluster", Deny}, {[]string{"dev"}, dana, "Thing", Deny}, {[]string{"dev"}, dana, "cluster", Deny}} {
		in := asking("deploy", showing(1, 0), c.owner, c.groups...)
		in.Resource.Type = c.is
		if d := s.Decide(in, nil); d.Outcome != c.want {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	in := asking("x", showing(1, 0), "")
	in.Principal.ID, in.Resource = sam, Resource{Type: "Cluster", ID: "c1"}
	if d := s.Decide(in, nil); d.Outcome != Allow {
		t.Errorf("%+v", d)
	}
	in.Principal.ID = dana
	if d := s.Decide(in, nil); d.Outcome != Deny || d.Reasons[0].Policy != "default" {
		t.Errorf("%+v", d)
	}
	in = asking("y", showing(1, 0), "")
	if d := s.Decide(in, nil); d.Outcome != Deny {
		t.Errorf("%+v", d)
	}
	in.Context.Network = Network{Known: true, Zone: "office"}
	in.Context.Token = Token{Known: true, Age: time.Minute, Bound: true, Depth: 1}
	in.Context.Agent = Agent{Known: true, Purpose: "tests"}
	if d := s.Decide(in, nil); d.Outcome != Allow {
		t.Errorf("%+v", d)
	}
	for name, spoil := range map[string]func(*Input){
		"token":  func(in *Input) { in.Context.Token.Known = false },
		"age":    func(in *Input) { in.Context.Token.Age = 5*time.Minute + 1 },
		"client": func(in *Input) { in.Client.ID = "cli_2" },
		"zone":   func(in *Input) { in.Context.Network.Zone = "home" },
		"hour":   func(in *Input) { in.Context.Now = t0.Add(-time.Hour) },
	} {
		other := in
		spoil(&other)
		if d := s.Decide(other, nil); d.Outcome != Deny {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
