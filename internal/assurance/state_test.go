package assurance

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func state(ages ...time.Duration) State { // ages of rungs 1, 2, …
	var s State
	for i, a := range ages {
		s.Pairs = append(s.Pairs, Pair{Rung: Rung(i + 1), AuthTime: t0.Add(-a)})
	}
	return s
}

func TestMeets(t *testing.T) {
	s := state(time.Minute, time.Minute, time.Hour)
	for _, c := range []struct {
		ask  Ask
		want bool
	}{
		{Ask{}, true},
		{Ask{MaxAge: time.Minute}, true},
		{Ask{MaxAge: time.Minute - 1}, false},
		{Ask{Rung: Multi, MaxAge: time.Minute}, true},
		{Ask{Rung: Phishing}, true},
		{Ask{Rung: Phishing, MaxAge: time.Hour}, true},
		{Ask{Rung: Phishing, MaxAge: time.Hour - 1}, false},
		{Ask{Rung: Hardware}, false},
		{Ask{Rung: 5}, false},
	} {
		if got := s.Meets(c.ask, t0); got != c.want {
			t.Errorf("%+v: %v", c.ask, got)
		}
	}
	if (State{}).Meets(Ask{MaxAge: time.Hour}, t0) {
		t.Error("nobody signed in lately")
	}
	if state(0).Meets(Ask{Rung: Single}, at(-Skew-1)) || state(0).Meets(Ask{Rung: Single}, time.Time{}) {
		t.Error("a pair of the future counts")
	}
	if !state(0).Meets(Ask{Rung: Single, MaxAge: 1}, at(-Skew)) {
		t.Error("a pair within the skew does not count")
	}
}

func TestBest(t *testing.T) {
	if b := state(time.Minute, time.Hour).Best(); b.Rung != Multi || !b.AuthTime.Equal(at(-time.Hour)) {
		t.Errorf("%+v", b)
	}
	if b := (State{}).Best(); b.Rung != None {
		t.Errorf("%+v", b)
	}
}

func TestSelect(t *testing.T) {
	const single, multi = "urn:countersign:acr:single", "urn:countersign:acr:multi"
	l := Default()
	age := func(d time.Duration) *time.Duration { return &d }
	mixed := state(time.Minute, 2*time.Minute, time.Hour)
	phrh := state(time.Hour, time.Hour, time.Hour, time.Hour)
	for _, c := range []struct {
		name   string
		s      State
		values []string
		maxAge *time.Duration
		acr    string
		age    time.Duration
	}{
		{"no request: the highest", mixed, nil, nil, "phr", time.Hour},
		{"no request, fresh: the highest that is", mixed, nil, age(5 * time.Minute), multi, 2 * time.Minute},
		{"no request, fresher", mixed, nil, age(time.Minute), single, time.Minute},
		{"no request, too fresh", mixed, nil, age(time.Second), "", 0},
		{"phrh satisfies one who asked for phr, and says phr", phrh, []string{"phr"}, nil, "phr", time.Hour},
		{"the first requested that is reached", mixed, []string{"phrh", multi, "phr"}, nil, multi, 2 * time.Minute},
		{"the order is the client's", mixed, []string{single, "phr"}, nil, single, time.Minute},
		{"the first that is fresh", mixed, []string{"phr", multi}, age(5 * time.Minute), multi, 2 * time.Minute},
		{"binding: not reached", mixed, []string{"phrh"}, nil, "", 0},
		{"binding: not fresh", mixed, []string{"phr"}, age(5 * time.Minute), "", 0},
		{"unknown ones are ignored", mixed, []string{"aal3", "phr"}, nil, "phr", time.Hour},
		{"only unknown ones: as if none", mixed, []string{"aal3", ""}, nil, "phr", time.Hour},
		{"unknown beside one not reached stays binding", mixed, []string{"aal3", "phrh"}, nil, "", 0},
		{"exactly the age", mixed, []string{"phr"}, age(time.Hour), "phr", time.Hour},
		{"max_age=0 and an old sign-in", mixed, nil, age(0), "", 0},
		{"max_age=0: since the transaction began", state(time.Second), nil, age(2 * time.Second), single, time.Second},
		{"nobody", State{}, nil, nil, "", 0},
	} {
		p, acr, ok := c.s.Select(c.values, c.maxAge, l, t0)
		if acr != c.acr || ok != (c.acr != "") || ok && t0.Sub(p.AuthTime) != c.age || p.Rung != l.RungOf(c.acr) {
			t.Errorf("%s: %+v %q %v", c.name, p, acr, ok)
		}
	}
	if _, _, ok := state(0).Select(nil, nil, l, at(-Skew-1)); ok {
		t.Error("a pair of the future is reported")
	}
}

func TestRaiseIsTheWeakest(t *testing.T) {
	now := t0
	old := State{Pairs: []Pair{{Rung: Single, AuthTime: at(-time.Hour), AMR: []string{"pwd"}, Credentials: []string{"cred_1"}}}, Sources: 2, MachineRung: 1}
	got := Ask{Rung: Phishing, MaxAge: 5 * time.Minute}.Raise(old, now)
	five := at(-5 * time.Minute)
	want := State{
		Pairs:             []Pair{{Rung: Single, AuthTime: five}, {Rung: Multi, AuthTime: five}, {Rung: Phishing, AuthTime: five}},
		PhishingResistant: true, HumanPresent: true, Sources: 2, MachineRung: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(old.Pairs) != 1 || !old.Pairs[0].AuthTime.Equal(at(-time.Hour)) {
		t.Error("Raise changed what it was given")
	}
	// What was reached later, and what is higher, stays.
	got = Ask{Rung: Multi, MaxAge: 5 * time.Minute}.Raise(state(time.Minute, time.Hour, 2*time.Hour), now)
	if diff := cmp.Diff(state(time.Minute, 5*time.Minute, 2*time.Hour).Pairs, got.Pairs); diff != "" {
		t.Error(diff)
	}
	if got.PhishingResistant {
		t.Error("two factors became phishing-resistant")
	}
	// Any age is any age: the hypothesis meets no demand of freshness.
	got = Ask{Rung: Hardware}.Raise(State{}, now)
	if !got.Meets(Ask{Rung: Hardware}, now) || got.Meets(Ask{Rung: Single, MaxAge: 100 * 365 * 24 * time.Hour}, now) || !got.HardwareBound {
		t.Errorf("%+v", got)
	}
	for _, a := range []Ask{{}, {Approval: Approval{Kind: Confirm}}, {Rung: 5}} {
		if diff := cmp.Diff(old, a.Raise(old, now)); diff != "" {
			t.Errorf("%+v changed the state: %s", a, diff)
		}
	}
	top := old.Top(now)
	if !top.Meets(Ask{Rung: Hardware, MaxAge: 1}, now) || !top.HardwareBound || !top.PhishingResistant || top.MachineRung != 1 {
		t.Errorf("top: %+v", top)
	}
}

func TestApprovalsAndTheirWords(t *testing.T) {
	confirm := Approval{Kind: Confirm}
	one := Approval{Kind: Approve}
	two := Approval{Kind: Approve, M: 2}
	release := Approval{Kind: Approve, M: 1, Group: "release"}
	security := Approval{Kind: Approve, M: 1, Group: "security"}
	odd := Approval{Kind: "odd"}
	for _, c := range []struct {
		a, b Approval
		want bool
	}{
		{confirm, Approval{}, true},
		{Approval{}, confirm, false},
		{confirm, confirm, true},
		{two, confirm, false},
		{confirm, one, false},
		{two, one, true},
		{one, two, false},
		{release, one, true},
		{one, release, false},
		{release, security, false},
		{odd, odd, false},
		{odd, Approval{}, true},
	} {
		if got := (Ask{Approval: c.a}).Satisfies(Ask{Approval: c.b}); got != c.want {
			t.Errorf("%+v satisfies %+v: %v", c.a, c.b, got)
		}
	}
	for _, c := range []struct {
		a, b, want Approval
		ok         bool
	}{
		{confirm, Approval{}, confirm, true},
		{Approval{}, two, two, true},
		{two, release, Approval{Kind: Approve, M: 2, Group: "release"}, true},
		{release, two, Approval{Kind: Approve, M: 2, Group: "release"}, true},
		{confirm, one, Approval{}, false},
		{release, security, Approval{}, false},
		{odd, odd, Approval{}, false},
	} {
		j, ok := Ask{Approval: c.a}.Join(Ask{Approval: c.b})
		if ok != c.ok || j.Approval != c.want {
			t.Errorf("%+v ∨ %+v = %+v %v", c.a, c.b, j, ok)
		}
	}
	if (Ask{Approval: odd}).Compare(Ask{Approval: Approval{Kind: Approve, M: 1 << 20}}) <= 0 {
		t.Error("an unknown demand is cheap")
	}
	if (Approval{}).Need() != 0 || confirm.Need() != 0 || one.Need() != 1 || two.Need() != 2 {
		t.Error("Need")
	}
}

func TestChallengeAge(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: time.Minute, time.Minute: time.Minute, 90*time.Second + 5: 90 * time.Second, time.Hour: time.Hour,
	} {
		if got := (Ask{MaxAge: in}).ChallengeAge(); got != want {
			t.Errorf("%v: %v", in, got)
		}
	}
	if (Ask{}).Demands() || !(Ask{Device: KnownDevice}).Demands() {
		t.Error("Demands")
	}
}

func anyAsk() *rapid.Generator[Ask] {
	return rapid.Custom(func(t *rapid.T) Ask {
		return Ask{
			Rung:     Rung(rapid.IntRange(0, 4).Draw(t, "rung")),
			MaxAge:   rapid.SampledFrom([]time.Duration{0, 12 * time.Hour, time.Hour, 15 * time.Minute, 5 * time.Minute, time.Minute}).Draw(t, "age"),
			Approval: rapid.SampledFrom([]Approval{{}, {}, {Kind: Confirm}, {Kind: Approve, M: 1}, {Kind: Approve, M: 2}, {Kind: Approve, M: 1, Group: "release"}}).Draw(t, "approval"),
			Device:   Device(rapid.IntRange(0, 2).Draw(t, "device")),
		}
	})
}

// Asks are a partial order; cost extends it; a join is the least upper bound.
func TestAsksAreALattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyAsk().Draw(t, "a"), anyAsk().Draw(t, "b"), anyAsk().Draw(t, "c")
		if !a.Satisfies(a) || a.Compare(a) != 0 {
			t.Fatal("not reflexive")
		}
		if a.Satisfies(b) && b.Satisfies(c) && !a.Satisfies(c) {
			t.Fatal("not transitive")
		}
		if a.Satisfies(b) && a.Compare(b) < 0 {
			t.Fatalf("%+v satisfies %+v and costs less", a, b)
		}
		if a.Compare(b) != -b.Compare(a) {
			t.Fatal("cost is not antisymmetric")
		}
		if j, ok := a.Join(b); ok {
			if !j.Satisfies(a) || !j.Satisfies(b) {
				t.Fatalf("%+v does not satisfy both", j)
			}
			if c.Satisfies(a) && c.Satisfies(b) && !c.Satisfies(j) {
				t.Fatalf("%+v satisfies both but not their join %+v", c, j)
			}
		} else if c.Satisfies(a) && c.Satisfies(b) {
			t.Fatalf("%+v satisfies both and they have no join", c)
		}
	})
}

// A raised state meets its ask, and meets any other only if the ask implies it
// or the state met it before.
func TestRaisedMeetsExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		proofs := rapid.SliceOfN(anyProof(), 0, 4).Draw(t, "proofs")
		a, b := anyAsk().Draw(t, "a"), anyAsk().Draw(t, "b")
		a.Approval, a.Device, b.Approval, b.Device = Approval{}, 0, Approval{}, 0
		s := wider.evaluate(dana, proofs, t0)
		up := a.Raise(s, t0)
		if !up.Meets(a, t0) {
			t.Fatalf("%+v does not meet %+v", up, a)
		}
		if got, want := up.Meets(b, t0), s.Meets(b, t0) || a.Satisfies(b); got != want {
			t.Fatalf("raised to %+v meets %+v: %v", a, b, got)
		}
		if up.Meets(b, t0) && !s.Top(t0).Meets(b, t0) {
			t.Fatal("more than the top")
		}
	})
}
