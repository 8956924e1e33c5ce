package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"pgregory.net/rapid"
)

// failing are conditions that Cedar cannot evaluate of some inputs.
var failing = []string{
	"context.token.depth + 9223372036854775807 > 0", "context.agent.budget * 9223372036854775807 > 0",
	`(if context.presented then context.approvals.count + 9223372036854775807 else 1) > 0`,
}

// alike are conditions of which some are written nearly as others, or mean the same.
var alike = []string{
	"context.presented && context.token.known || context.no_passkey", "context.presented && (context.token.known || context.no_passkey)",
	"(context.presented == context.token.known) == context.no_passkey", "context.presented == (context.token.known == context.no_passkey)",
	"!(context.presented && context.token.known)", "!context.presented && context.token.known",
	"context.token.depth - (context.agent.budget - 1) >= 0", "context.token.depth - context.agent.budget - 1 >= 0",
	`context.network.zone like "off*"`, `context.network.zone like "off\*"`, `context.network.zone == "off*"`,
	"if context.presented then context.token.known else context.no_passkey", "if context.presented then context.no_passkey else context.token.known",
	`action == Action::"x"`, `action == Action::"y"`, `action in [Action::"x", Action::"y"]`, "true", "false",
	`{"a": context.presented}.a`, `context has agent && context.agent.known`, `["a"].containsAll(["a", context.network.zone])`,
}

// anySet is a random set for x of which many policies ask what others do, in other groups,
// of other kinds of principal, with other lives, or of another action as well.
func anySet() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		bodies := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			for range rapid.IntRange(0, 2).Draw(t, "conditions") {
				of := rapid.SampledFrom([][]string{readable, readable, alike, alike, failing}).Draw(t, "of")
				fmt.Fprintf(&b, " %s { %s }", rapid.SampledFrom([]string{"when", "unless"}).Draw(t, "if"), rapid.SampledFrom(of).Draw(t, "reads"))
			}
			return b.String()
		}), 1, 3).Draw(t, "bodies")
		var b strings.Builder
		for i := range rapid.IntRange(1, 8).Draw(t, "n") {
			who := rapid.SampledFrom([]string{
				"principal", "principal", "principal is Person", "principal is Agent", `principal in Group::"staff"`,
				`principal is Person in Group::"staff"`, `principal in Group::"administrators"`, `principal is Agent in Group::"administrators"`,
				`principal == Person::"` + sam + `"`, `principal in Person::"` + sam + `"`, `principal is Person in Person::"` + dana + `"`,
			}).Draw(t, "who")
			fmt.Fprintf(&b, "@id(\"p%d\") @reason(\"r%d\") @climb(\"never\") %s (%s, %s, %s)%s;\n", i, i,
				rapid.SampledFrom([]string{"permit", `@life("1m") permit`, `@life("9m") @grant_life("1h") permit`, "forbid"}).Draw(t, "effect"), who,
				rapid.SampledFrom([]string{"action", `action == Action::"x"`, `action in [Action::"x", Action::"y"]`, `action == Action::"y"`}).Draw(t, "action"),
				rapid.SampledFrom([]string{"resource", "resource", "resource is Thing", `resource == Thing::"thing_1"`}).Draw(t, "what"),
				rapid.SampledFrom(bodies).Draw(t, "body"))
		}
		return b.String()
	})
}

// unshortened is what policies say of an input, each asked of Cedar by itself as it is
// written, in the order of the file: the ids of those that forbid, and of those that
// permit; failed is that one of them could not be evaluated, and the first of these.
func unshortened(e *engine, list []*cedar.Policy, in *Input) (forbids, permits []string, failed string) {
	w := e.worldOf(in, nil)
	for _, p := range list {
		one := cedar.NewPolicySet()
		one.Add("it", p)
		decision, diag := cedar.Authorize(one, w, w.request)
		id := string(p.Annotations()["id"])
		switch {
		case len(diag.Errors) > 0 && failed == "":
			failed = id
		case decision == cedar.Allow:
			permits = append(permits, id)
		case len(diag.Reasons) > 0:
			forbids = append(forbids, id)
		}
	}
	return forbids, permits, failed
}

// lived is how long what some policies permit lives: as the one that gives most says.
func lived(e *engine, permits []string) (l lives) {
	for i, id := range permits {
		p := e.policies[slices.IndexFunc(e.policies, func(p *compiled) bool { return p.ID == id })]
		if l = l.longer(p.lives); i == 0 {
			l = p.lives
		}
	}
	return l
}

// Over random policies that read anything, that fail, and that ask what others ask, the
// engine says what Cedar says of each policy by itself: who is let through, by which
// permit first, which forbids are named and in their order, for how long; and it refuses
// where any policy could not be evaluated. It does so after inputs that differ in one fact.
func TestAsEachPolicyByItself(t *testing.T) {
	cases(t, "400", "40000")
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := anySet().Draw(t, "source")
		s, err := compile(Source{Schema: saidSchema, Files: []File{{Text: text}}}, false)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		list, err := cedar.NewPolicyListFromBytes("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		e := s.eval.(*engine)
		in := anyone(t)
		for _, n := range append([]Input{in}, neighbours(in)...) {
			s.Decide(in, nil)
			forbids, permits, failed := unshortened(e, list, &n)
			d := s.Decide(n, nil)
			var named []string
			for _, r := range d.Reasons {
				named = append(named, r.Policy)
			}
			switch {
			case failed != "":
				outcomes["failed"]++
				if d.Outcome != Deny || d.Code != CodeError || !slices.Equal(named, []string{failed, "evaluation"}) {
					t.Fatalf("%s\n%s cannot be evaluated, and the answer is %+v", text, failed, d)
				}
			case len(forbids) == 0 && len(permits) > 0:
				outcomes["allowed"]++
				if l := lived(e, permits); d.Outcome != Allow || !slices.Equal(named, permits[:1]) || d.MaxLife != l.life || d.MaxGrant != l.grant {
					t.Fatalf("%s\n%v permit, for %+v, and the answer is %+v", text, permits, l, d)
				}
			default:
				outcomes["denied"]++
				if d.Outcome != Deny || d.Code != CodeDenied || len(named) < len(forbids) || !slices.Equal(named[:len(forbids)], forbids) {
					t.Fatalf("%s\n%v forbid, %v permit, and the answer is %+v", text, forbids, permits, d)
				}
			}
		}
	})
	t.Logf("%v", outcomes)
	for _, o := range []string{"failed", "allowed", "denied"} {
		enough(t, outcomes[o] >= 100, "hardly any were %s: %v", o, outcomes)
	}
}
