package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

var phr5 = assurance.Ask{Rung: 3, MaxAge: 5 * time.Minute}

func TestScopes(t *testing.T) {
	read := ScopeAsk{Name: "notes:read"}
	rotate := ScopeAsk{Name: "keys:rotate", Ask: phr5, Conditional: true}
	wanted := rotate
	wanted.Required = true
	always := ScopeAsk{Name: "keys:list", Ask: assurance.Ask{Rung: 4}}
	staff := ScopeAsk{Name: "staff", Groups: []string{"staff", "board"}}
	staffOnly := ScopeAsk{Name: "vault", Groups: []string{"board"}, Ask: phr5, Required: true}
	hour := ScopeAsk{Name: "hourly", Ask: assurance.Ask{MaxAge: time.Hour}, Conditional: true}
	noDevice := ScopeAsk{Name: "managed", Ask: assurance.Ask{Device: assurance.ManagedDevice}, Required: true}
	group := func(g string) ScopeAsk {
		return ScopeAsk{Name: g, Ask: assurance.Ask{Approval: assurance.Approval{Kind: assurance.Approve, M: 1, Group: g}}}
	}
	for _, c := range []struct {
		name               string
		rung               assurance.Rung
		age                time.Duration
		scopes             []ScopeAsk
		want               Outcome
		ask                assurance.Ask
		released, withheld []string
		life               time.Duration
	}{
		{"none", 2, 0, nil, Allow, assurance.Ask{}, nil, nil, 0},
		{"a plain one", 2, time.Hour, []ScopeAsk{read}, Allow, assurance.Ask{}, []string{"notes:read"}, nil, 0},
		{"a conditional one is withheld", 2, 0, []ScopeAsk{read, rotate}, Allow, assurance.Ask{}, []string{"notes:read"}, []string{"keys:rotate"}, 0},
		{"and given when met", 3, time.Minute, []ScopeAsk{read, rotate}, Allow, assurance.Ask{}, []string{"notes:read", "keys:rotate"}, nil, 4 * time.Minute},
		{"too old is withheld", 3, 6 * time.Minute, []ScopeAsk{rotate}, Allow, assurance.Ask{}, nil, []string{"keys:rotate"}, 0},
		{"enough left", 3, 5*time.Minute - MinLife, []ScopeAsk{rotate}, Allow, assurance.Ask{}, []string{"keys:rotate"}, nil, MinLife},
		{"too little left", 3, 5*time.Minute - MinLife + 1, []ScopeAsk{rotate}, Allow, assurance.Ask{}, nil, []string{"keys:rotate"}, 0},
		{"the shortest life", 3, time.Minute, []ScopeAsk{hour, rotate, hour}, Allow, assurance.Ask{}, []string{"hourly", "keys:rotate", "hourly"}, nil, 4 * time.Minute},
		{"a required one steps up", 2, 0, []ScopeAsk{read, wanted}, StepUp, phr5, nil, []string{"keys:rotate"}, 0},
		{"at its age it is given, and no limit is not read from it", 3, 5 * time.Minute, []ScopeAsk{wanted}, Allow, assurance.Ask{}, []string{"keys:rotate"}, nil, 1},
		{"an unconditional one steps up", 2, 0, []ScopeAsk{always}, StepUp, assurance.Ask{Rung: 4}, nil, []string{"keys:list"}, 0},
		{"together their join", 1, 0, []ScopeAsk{wanted, always, hour}, StepUp, assurance.Ask{Rung: 4, MaxAge: 5 * time.Minute}, nil, []string{"keys:rotate", "keys:list"}, 0},
		{"joined with the rule's", 0, 0, []ScopeAsk{{Name: "lately", Ask: assurance.Ask{MaxAge: time.Minute}}}, StepUp, assurance.Ask{Rung: 2, MaxAge: time.Minute}, nil, []string{"lately"}, 0},
		{"a member's", 2, 0, []ScopeAsk{staff}, Allow, assurance.Ask{}, []string{"staff"}, nil, 0},
		{"others' is dropped, required or not", 2, 0, []ScopeAsk{staffOnly, read}, Allow, assurance.Ask{}, []string{"notes:read"}, []string{"vault"}, 0},
		{"no ceremony changes a device", 4, 0, []ScopeAsk{noDevice}, Deny, assurance.Ask{}, nil, nil, 0},
		{"approvals of two groups are no one ask", 2, 0, []ScopeAsk{group("a"), group("b")}, Deny, assurance.Ask{}, nil, []string{"a", "b"}, 0},
		{"approvals of one are", 2, 0, []ScopeAsk{group("a")}, StepUp, assurance.Ask{Approval: assurance.Approval{Kind: assurance.Approve, M: 1, Group: "a"}}, nil, []string{"a"}, 0},
		{
			"what is met is not asked for again", 3, time.Hour,
			[]ScopeAsk{{Name: "strong", Ask: assurance.Ask{Rung: 3}}, {Name: "fresh", Ask: assurance.Ask{Rung: 2, MaxAge: time.Minute}}},
			StepUp,
			assurance.Ask{Rung: 2, MaxAge: time.Minute},
			nil,
			[]string{"fresh"},
			0,
		},
	} {
		in := asking(Authorize, showing(c.rung, c.age), "", "staff")
		in.Context.Scopes, in.Context.Approvers = c.scopes, 1
		d := Builtin().Decide(in, nil)
		got := []any{d.Outcome, d.Ask, d.Released, d.Withheld, d.MaxLife}
		if diff := cmp.Diff([]any{c.want, c.ask, c.released, c.withheld, c.life}, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		for _, name := range d.Withheld {
			found := false
			for _, r := range d.Reasons {
				found = found || r.Policy == "scope:"+name || c.rung == 0 && r.Policy == "scope:lately"
			}
			if !found {
				t.Errorf("%s: %s is withheld without a reason: %+v", c.name, name, d.Reasons)
			}
		}
		if d.Outcome != StepUp {
			continue
		}
		in.Context.Assurance = d.Ask.Raise(in.Context.Assurance, t0)
		in.Context.Approvals = d.Ask.Approval.Need()
		if after := Builtin().Decide(in, nil); after.Outcome != Allow || len(after.Withheld) != 0 {
			t.Errorf("%s: the ask was met and then: %+v", c.name, after)
		}
	}
}

// A person's demand is nothing that a machine can meet or be asked for (A26).
func TestMachinesAndPeoplesScopes(t *testing.T) {
	in := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	in.Principal = Entity{Kind: KindService, ID: "svc_1"}
	in.Context.Scopes = []ScopeAsk{{Name: "notes:read"}, {Name: "keys:rotate", Ask: phr5, Conditional: true}}
	d := Builtin().Decide(in, nil)
	if d.Outcome != Allow || cmp.Diff([]string{"notes:read"}, d.Released) != "" || cmp.Diff([]string{"keys:rotate"}, d.Withheld) != "" {
		t.Errorf("%+v", d)
	}
	in.Context.Scopes[1].Required = true
	if d = Builtin().Decide(in, nil); d.Outcome != Deny || d.Ask.Demands() || d.Released != nil {
		t.Errorf("%+v", d)
	}
}

func TestWords(t *testing.T) {
	for want, a := range map[string]assurance.Ask{
		"nothing more":                   {},
		"a sign-in":                      {Rung: 1},
		"a sign-in from the last minute": {MaxAge: time.Minute},
		"a two-factor sign-in from the last 12 hours":                 {Rung: 2, MaxAge: 12 * time.Hour},
		"a phishing-resistant sign-in from the last 5 minutes":        phr5,
		"a phishing-resistant sign-in from the last 90 minutes":       {Rung: 3, MaxAge: 90 * time.Minute},
		"a hardware-bound sign-in from the last hour":                 {Rung: 4, MaxAge: time.Hour},
		"a sign-in from the last 90 seconds":                          {Rung: 1, MaxAge: 90 * time.Second},
		"your confirmation":                                           {Approval: assurance.Approval{Kind: assurance.Confirm}},
		"another person's approval and a known device":                {Approval: assurance.Approval{Kind: assurance.Approve}, Device: assurance.KnownDevice},
		"a sign-in and the approval of 2 others and a managed device": {Rung: 1, Approval: assurance.Approval{Kind: assurance.Approve, M: 2}, Device: assurance.ManagedDevice},
	} {
		if got := Words(a); got != want {
			t.Errorf("%+v: %q, want %q", a, got, want)
		}
	}
}

func TestProblems(t *testing.T) {
	l := assurance.Default()
	if p := Builtin().Decide(asking(SelfRead, showing(1, 0), dana), nil).Problem(l); p != nil {
		t.Errorf("allowed: %v", p)
	}
	in := asking(Authorize, showing(2, 0), "")
	in.Context.Scopes = []ScopeAsk{{Name: "keys:rotate", Ask: phr5, Required: true}}
	p := Builtin().Decide(in, nil).Problem(l)
	want := &problem.Challenge{
		ACRValues: []string{"phr", "phrh"}, MaxAge: 5 * time.Minute, Scope: []string{"keys:rotate"},
		Public: "This needs a phishing-resistant sign-in from the last 5 minutes",
	}
	if p.Kind != problem.StepUp || p.Code != "insufficient_user_authentication" || p.Detail != want.Public+"." {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff(want, p.Challenge); diff != "" {
		t.Error(diff)
	}
	why := []problem.Reason{{Policy: "scope:keys:rotate", Text: "The scope keys:rotate needs a phishing-resistant sign-in from the last 5 minutes."}}
	if diff := cmp.Diff(why, p.Why); diff != "" {
		t.Error(diff)
	}
	p = needing(phr5).Decide(asking("x", showing(1, 0), dana), nil).Problem(l)
	if p.Challenge.Public != "" || p.Challenge.Scope != nil {
		t.Errorf("%+v", p.Challenge)
	}
	for _, code := range []string{CodeDenied, CodeUnattainable, CodeEnded, CodeQuarantine, CodeTooMany, CodeError, CodeInconsistent} {
		p := Decision{Code: code, Reasons: []Reason{{Text: "secret words"}}}.Problem(l)
		if p.Kind != problem.Denied || p.Code != code || p.Detail == "" || p.Detail == "secret words" || p.Challenge != nil {
			t.Errorf("%s: %+v", code, p)
		}
	}
	if p := (Decision{}).Problem(l); p.Kind != problem.Denied || p.Code != CodeDenied {
		t.Errorf("the zero decision: %+v", p)
	}
}
