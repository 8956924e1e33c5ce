package policy

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// lattice is every ask without a device, cheapest first: 4 × 6 × 5 points, and those without a sign-in.
var lattice = func() (out []assurance.Ask) {
	for r := assurance.None; r <= assurance.Hardware; r++ {
		for _, age := range []time.Duration{0, 12 * time.Hour, time.Hour, 15 * time.Minute, 5 * time.Minute, time.Minute} {
			if r == assurance.None && age != 0 {
				continue // the same as any sign-in that fresh
			}
			for _, ap := range []assurance.Approval{{}, {Kind: "confirm"}, {Kind: "approve", M: 1}, {Kind: "approve", M: 2}, {Kind: "approve", M: 3}} {
				out = append(out, assurance.Ask{Rung: r, MaxAge: age, Approval: ap})
			}
		}
	}
	slices.SortFunc(out, assurance.Ask.Compare)
	return out
}()

func point() *rapid.Generator[assurance.Ask] {
	return rapid.Custom(func(t *rapid.T) assurance.Ask {
		a := rapid.SampledFrom(lattice).Draw(t, "point")
		a.Device = rapid.SampledFrom([]assurance.Device{0, 0, 0, 1, 2}).Draw(t, "device")
		return a
	})
}

// monotone is a random policy of permits, each a conjunction of demands, and of
// forbids-unless: what the monotone fragment (A5) can say.
type monotone struct {
	permits [][]assurance.Ask
	unless  []assurance.Ask
}

func (m monotone) accepts(c *Context) bool {
	all := func(asks []assurance.Ask) bool {
		return !slices.ContainsFunc(asks, func(a assurance.Ask) bool { return !c.meets(a) })
	}
	return slices.ContainsFunc(m.permits, all) && all(m.unless)
}

func anyMonotone() *rapid.Generator[monotone] {
	return rapid.Custom(func(t *rapid.T) monotone {
		return monotone{
			permits: rapid.SliceOfN(rapid.SliceOfN(point(), 0, 2), 0, 3).Draw(t, "permits"),
			unless:  rapid.SliceOfN(point(), 0, 2).Draw(t, "unless"),
		}
	})
}

func anyInput(a Action) *rapid.Generator[Input] {
	return rapid.Custom(func(t *rapid.T) Input {
		var proofs []assurance.Proof
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			proofs = append(proofs, assurance.Proof{
				Method: assurance.Passkey, Subject: dana,
				At:            t0.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, 10 * time.Minute, 2 * time.Hour, 24 * time.Hour}).Draw(t, "age")),
				UserVerified:  rapid.Bool().Draw(t, "uv"),
				HardwareBound: rapid.Bool().Draw(t, "hw"), Attested: rapid.Bool().Draw(t, "att"),
			})
		}
		in := asking(a, assurance.Evaluate(dana, proofs, t0), rapid.SampledFrom([]string{dana, sam, ""}).Draw(t, "owner"),
			rapid.SampledFrom([][]string{nil, {Administrators}, {"staff"}}).Draw(t, "groups")...)
		in.Context.DeviceKnown, in.Context.DeviceManaged = rapid.Bool().Draw(t, "known"), rapid.Bool().Draw(t, "managed")
		in.Context.Confirmed, in.Context.Confirmable = rapid.Bool().Draw(t, "confirmed"), rapid.Bool().Draw(t, "confirmable")
		in.Context.Approvals, in.Context.Approvers = rapid.IntRange(0, 2).Draw(t, "approvals"), rapid.IntRange(0, 3).Draw(t, "approvers")
		return in
	})
}

// checkClimb holds the promises of the climb, for any set, input and attainability.
func checkClimb(t *rapid.T, s *Set, in Input, can Attainable, candidates []assurance.Ask, accepts func(Input) bool) {
	d := s.Decide(in, can)
	top := in
	top.Context.Assurance = in.Context.Assurance.Top(t0)
	top.Context.Confirmed, top.Context.Approvals = true, max(in.Context.Approvals, 3)
	if got := d.Outcome == Allow; got != accepts(in) {
		t.Fatalf("allow %v", got)
	}
	if got := d.Outcome == Deny && d.Code == CodeDenied; got != !accepts(top) {
		t.Fatalf("the top accepts %v: %+v", accepts(top), d)
	}
	possible := func(a assurance.Ask) bool {
		sign := a.Approval.Need() <= in.Context.Approvers
		if a.Approval.Kind == assurance.Confirm {
			sign = in.Context.Confirmed || in.Context.Confirmable
		}
		return sign && (can == nil || can(a))
	}
	if d.Code == CodeInconsistent {
		t.Fatal("a monotone policy is called inconsistent")
	}
	for _, a := range candidates {
		switch {
		case d.Outcome == StepUp && a.Compare(d.Ask) < 0 && possible(a) && accepts(suppose(in, a)):
			t.Fatalf("%+v would do and is cheaper than %+v", a, d.Ask)
		case d.Code == CodeUnattainable && possible(a) && accepts(suppose(in, a)):
			t.Fatalf("%+v would do", a)
		}
	}
	if d.Outcome != StepUp {
		return
	}
	if in.Context.meets(d.Ask) || d.Ask.Device != 0 || !possible(d.Ask) {
		t.Fatalf("a challenge that is met, about the device or impossible: %+v", d.Ask)
	}
	if !accepts(suppose(in, d.Ask)) {
		t.Fatalf("the ask %+v, once met, is refused", d.Ask)
	}
	if after := s.Decide(suppose(in, d.Ask), can); after.Outcome != Allow {
		t.Fatalf("the ask was met and then: %+v", after)
	}
}

func attainable(t *rapid.T) Attainable {
	if rapid.Bool().Draw(t, "outside") {
		return nil
	}
	most := assurance.Rung(rapid.IntRange(0, 4).Draw(t, "enrolled"))
	return func(a assurance.Ask) bool { return a.Rung <= most }
}

func TestClimbOverRandomMonotonePolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMonotone().Draw(t, "policy")
		accepts := func(in Input) bool { return m.accepts(&in.Context) }
		s := setOf(func(in Input) verdict { return verdict{allow: accepts(in)} }, lattice...)
		checkClimb(t, s, anyInput("x").Draw(t, "in"), attainable(t), lattice, accepts)
	})
}

// Over the default policies with random scopes, no ask of the whole lattice is
// cheaper, though only what the policies and scopes name is tried.
func TestClimbOverTheDefaultSet(t *testing.T) {
	var every []Action
	for _, p := range Builtin().Policies() {
		every = append(every, p.Actions...)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput(rapid.SampledFrom(every).Draw(t, "action")).Draw(t, "in")
		for i := range rapid.IntRange(0, 3).Draw(t, "scopes") {
			in.Context.Scopes = append(in.Context.Scopes, ScopeAsk{
				Name:        string(rune('a' + i)),
				Ask:         point().Filter(func(a assurance.Ask) bool { return a.Approval.Kind != "confirm" }).Draw(t, "ask"),
				Conditional: rapid.Bool().Draw(t, "conditional"), Required: rapid.Bool().Draw(t, "required"),
				Groups: rapid.SampledFrom([][]string{nil, nil, {"staff"}}).Draw(t, "for"),
			})
		}
		accepts := func(in Input) bool { return Builtin().judge(in, false).allow }
		checkClimb(t, Builtin(), in, attainable(t), lattice, accepts)
		d := Builtin().Decide(in, nil)
		if d.Outcome == Allow && len(d.Released)+len(d.Withheld) != len(in.Context.Scopes) {
			t.Fatalf("a scope is neither given nor withheld: %+v", d)
		}
	})
}
