package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
)

func BenchmarkDecide(b *testing.B) {
	machine := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	machine.Principal.Kind = KindService
	scoped := asking(TokenRefresh, showing(3, 0), "")
	scoped.Context.Scopes = []ScopeAsk{{Name: "notes:read"}, {Name: "keys:rotate", Ask: phr5, Conditional: true}}
	for name, in := range map[string]Input{
		"machine": machine,
		"allow":   asking(FactorEnrol, showing(3, 0), dana),
		"scopes":  scoped,
		"step_up": asking(FactorEnrol, showing(2, 0), dana),
		"deny":    asking(PersonErase, showing(4, 0), dana),
		"default": asking("no.such.action", showing(4, 0), dana),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Builtin().Decide(in, nil)
			}
		})
	}
}

// crowd is a set in which n policies speak of x, and others of something else:
// permits with demands of their own, and forbids by risk. Where apart, no two ask alike.
func crowd(t testing.TB, n, others int, apart bool) *Set {
	var b strings.Builder
	ages := []string{"5m", "15m", "1h", "12h"}
	for i := range n + others {
		action, only := "x", ""
		if i >= n {
			action = "y"
		}
		if apart {
			only = fmt.Sprintf(` && resource.kind != "not%d"`, i)
		}
		if i%10 == 9 {
			fmt.Fprintf(&b, `@id("f%d") @reason("r") forbid (principal, action == Action::"%s", resource)
				when { context.risk.known && context.risk.band == "high" && context.network.zone == "z%d"%s } unless { context.assurance.rung >= 3 };`, i, action, i%3, only)
			continue
		}
		fmt.Fprintf(&b, `@id("p%d") @reason("r") permit (principal is Person in Group::"g%d", action == Action::"%s", resource)
			when { resource.owner == principal%s } when { context.assurance.rung >= %d && context.assurance.age.multi <= duration("%s") };`, i, i%7, action, only, 3+i%2, ages[i%4])
	}
	s, err := compile(Source{Schema: strings.ReplaceAll(ownSchema, ", Thingy]", "]"), Files: []File{{Text: b.String()}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// saying is crowd where each policy reads what is said of a cluster as well.
func saying(t testing.TB, n, others int) *Set {
	var b strings.Builder
	for i := range n + others {
		action := "x"
		if i >= n {
			action = "y"
		}
		if i%10 == 9 {
			fmt.Fprintf(&b, `@id("f%d") @reason("r") forbid (principal, action == Action::"%s", resource)
				when { resource is Cluster && (resource.size > %d || resource.labels.contains("l%d")) } unless { context.assurance.rung >= 3 };`, i, action, 1000*i, i%3)
			continue
		}
		fmt.Fprintf(&b, `@id("p%d") @reason("r") permit (principal is Person in Group::"g%d", action == Action::"%s", resource)
			when { resource is Cluster && resource.environment == "e%d" && !resource.frozen && resource.size <= %d } when { context.assurance.rung >= %d };`, i, i%7, action, i%5, 100*i, 3+i%2)
	}
	s, err := compile(Source{Schema: saidSchema, Files: []File{{Text: b.String()}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sized is a climb about a cluster of which something is said: over saying.
func sized(age time.Duration, n int64) Input {
	in := asking("x", showing(2, age), dana, "g1", "g2", "g3")
	in.Resource.Type = "Cluster"
	in.Resource.Attributes = attribute.Values{"kind": "k", "environment": "e1", "size": n, "frozen": false, "labels": []string{"l0", "other"}}
	return in
}

// The same over 50 policies that read what is said of a cluster: of values that were seen,
// or stand for what was seen; and of facts never seen.
func BenchmarkClimbSaid(b *testing.B) {
	for _, others := range []int{0, 1000} {
		s := saying(b, 50, others)
		if d := s.Decide(sized(0, 5), nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
			b.Fatalf("%+v", d)
		}
		m := s.eval.(*engine).buckets[bucketKey{"x", KindPerson}].memo
		for _, seen := range []bool{true, false} {
			b.Run(fmt.Sprintf("seen=%v/%d", seen, others), func(b *testing.B) {
				b.ReportAllocs()
				n := int64(0)
				for b.Loop() {
					if !seen {
						clear(m.verdicts)
					}
					n = (n + 1) % 100
					s.Decide(sized(0, n), nil)
				}
			})
		}
	}
}

// A decision that climbs, over 50 policies of its action, and with 1,000 others beside
// them: remembered; on facts that were never seen; where no two policies ask alike; and
// where no facts were ever seen before, of this action or another.
func BenchmarkClimb(b *testing.B) {
	for _, c := range []struct {
		name          string
		others        int
		apart         bool
		seen, nothing bool
	}{
		{name: "remembered/0", seen: true},
		{name: "remembered/1000", others: 1000, seen: true},
		{name: "fresh/0"},
		{name: "fresh/1000", others: 1000},
		{name: "apart/0", apart: true},
		{name: "apart/1000", others: 1000, apart: true},
		{name: "first/0", apart: true, nothing: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := crowd(b, 50, c.others, c.apart)
			in := asking("x", showing(2, 0), dana, "g1", "g2", "g3")
			if d := s.Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
				b.Fatalf("%+v", d)
			}
			e := s.eval.(*engine)
			memo, age := e.bucket(&in).memo, time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				if c.seen {
					s.Decide(in, nil)
					continue
				}
				clear(memo.verdicts)
				if c.nothing {
					clear(e.contexts.made)
				}
				age += time.Millisecond
				in := asking("x", showing(2, age), dana, "g1", "g2", "g3")
				s.Decide(in, nil)
			}
		})
	}
}

// TestAimsOfTheClimb holds what a decision costs to its aims by what does not depend on
// the machine: how often it takes memory, and how many policies it asks. Figures in time
// are in docs/performance.md.
func TestAimsOfTheClimb(t *testing.T) {
	type measured struct{ remembered, fresh float64 }
	measure := func(s *Set, in Input) measured {
		memo := s.eval.(*engine).bucket(&in).memo
		if memo == nil {
			t.Fatal("nothing is remembered of these policies")
		}
		decide := func() {
			if d := s.Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
				t.Fatalf("%+v", d)
			}
		}
		decide()
		return measured{testing.AllocsPerRun(100, decide), testing.AllocsPerRun(100, func() { clear(memo.verdicts); decide() })}
	}
	asked := func(s *Set) (n int) {
		b := s.eval.(*engine).buckets[bucketKey{"x", KindPerson}]
		return len(b.all.put) + len(b.permits.put) + len(b.about.put) + len(b.candidates)
	}
	alike := asking("x", showing(2, 0), dana, "g1", "g2", "g3")
	for _, c := range []struct {
		name string
		make func(others int) *Set
		in   Input
		most measured
	}{
		{"alike", func(others int) *Set { return crowd(t, 50, others, false) }, alike, measured{9, 130}},
		{"apart", func(others int) *Set { return crowd(t, 50, others, true) }, alike, measured{9, 150}},
		{"said", func(others int) *Set { return saying(t, 50, others) }, sized(0, 5), measured{9, 210}},
	} {
		alone, beside := c.make(0), c.make(1000)
		one, many := measure(alone, c.in), measure(beside, c.in)
		t.Logf("%s: %+v, beside 1,000 others %+v; %d and %d questions", c.name, one, many, asked(alone), asked(beside))
		if one.remembered > c.most.remembered || one.fresh > c.most.fresh {
			t.Errorf("%s: %+v, aim %+v", c.name, one, c.most)
		}
		if many.remembered > 2*one.remembered || many.fresh > 2*one.fresh || asked(beside) > asked(alone) {
			t.Errorf("%s: 1,000 policies of another action cost %+v, alone %+v; %d questions, alone %d", c.name, many, one, asked(beside), asked(alone))
		}
	}
}

// The decision on the hot path costs no memory.
func TestDecideAllocatesNothingForAMachine(t *testing.T) {
	in := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	in.Principal.Kind = KindService
	if n := testing.AllocsPerRun(100, func() { Builtin().Decide(in, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
