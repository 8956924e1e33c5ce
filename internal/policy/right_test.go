package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// declared are the actions of action.go, whether or not anything lists them.
func declared(t *testing.T) (out []Action) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "action.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			out = append(out, Action(s))
		}
		return true
	})
	if len(out) < 100 {
		t.Fatalf("only %d actions are found", len(out))
	}
	return out
}

// no are the verbs of actions that refuse, stop or end something.
var no = []string{"deny", "end", "cancel", "revoke", "withdraw", "report", "remove", "disable", "erase", "close", "refuse", "stop", "reject", "leave", "decline"}

// notRights are the actions that such a verb names and that policies decide, with why.
var notRights = map[Action]string{
	FactorRemove:   "it weakens the account that it is of",
	FactorRevoke:   "of somebody else",
	PersonDisable:  "of somebody else",
	PersonErase:    "of somebody else",
	ReviewEnd:      "of somebody else",
	ReviewClose:    "of somebody else",
	SignalReport:   "it makes it harder for somebody else",
	SignalWithdraw: "it makes it easier for somebody",
	TokenRevoke:    "the server ends what was presented, whatever policies say",
}

// TestNobodyIsKeptFromSayingNo: under a set that forbids everything, to the letter and
// by name, and under one that says nothing of it, whoever is signed in may do all that is
// a right, and nothing else; and every action that refuses or ends something is one, or
// it is said why not.
func TestNobodyIsKeptFromSayingNo(t *testing.T) {
	var names []string
	for a := range rights {
		names = append(names, `Action::"`+string(a)+`"`)
	}
	slices.Sort(names)
	sets := map[string]*Set{}
	for name, text := range map[string]string{
		"all":     `@id("nobody") @reason("r") @climb("never") forbid (principal, action, resource);`,
		"by name": `@id("nobody") @reason("r") @opens("review") forbid (principal, action in [` + strings.Join(names, ", ") + `], resource);`,
		"silent":  `@id("other") @reason("r") permit (principal is Person, action == Action::"self.read", resource);`,
	} {
		s, err := Compile(Source{Files: []File{{Name: "a.cedar", Text: text}}})
		if err != nil {
			t.Fatal(err)
		}
		sets[name] = s
	}
	signedIn := Context{Now: monday, Risk: Risk{Known: true, Band: RiskExtreme}, Assurance: assurance.Evaluate(dana, []assurance.Proof{{Method: assurance.Password, Subject: dana, At: monday.AddDate(0, -6, 0), Source: "password:1"}}, monday)}
	person := Entity{Kind: KindPerson, ID: dana}
	of := func(owner string) Resource { return Resource{Type: "thing", ID: "x", Owner: owner} }
	allowed := func(in Input) (out []string) {
		for name, s := range sets {
			if d := s.Decide(in, nil); d.Outcome == Allow {
				out = append(out, name)
				if !strings.HasPrefix(d.Reasons[0].Policy, RightReason) && name != "silent" {
					t.Errorf("%s under %s: %+v", in.Action, name, d)
				}
			}
		}
		return out
	}
	for _, a := range declared(t) {
		verb := string(a)[strings.LastIndex(string(a), ".")+1:]
		if slices.Contains(no, verb) && len(rights[a]) == 0 && notRights[a] == "" {
			t.Errorf("%s says no, or ends something: is it a right?", a)
		}
		own := Input{Principal: person, Action: a, Resource: of(dana), Context: signedIn}
		if len(rights[a]) == 0 {
			if got := allowed(own); len(got) > 0 && a != SelfRead {
				t.Errorf("%s is allowed under %v", a, got)
			}
			continue
		}
		if got := allowed(own); len(got) != len(sets) {
			t.Errorf("%s on what is one's own is allowed only under %v", a, got)
		}
		if got := allowed(Input{Principal: person, Action: a, Resource: of(dana), Context: Context{Now: monday}}); len(got) > 0 {
			t.Errorf("%s is allowed to somebody who has not signed in under %v", a, got)
		}
		for kind := range maps.Keys(kinds) {
			if in := (Input{Principal: Entity{Kind: kind, ID: dana}, Action: a, Resource: of(dana), Context: signedIn}); kind != KindPerson && !OfHost(kind) && len(allowed(in)) > 0 {
				t.Errorf("%s is a right of a %s", a, kind)
			}
		}
		ended := own
		ended.Context.Ended = dana
		if got := allowed(ended); len(got) > 0 {
			t.Errorf("%s is allowed to somebody who was ended", a)
		}
	}
	for _, a := range []Action{SessionEnd, GrantEnd, RecoveryCancel} {
		for _, owner := range []string{sam, ""} {
			if got := allowed(Input{Principal: person, Action: a, Resource: of(owner), Context: signedIn}); len(got) > 0 {
				t.Errorf("%s on what is %q's is allowed under %v", a, owner, got)
			}
		}
	}
	link := Input{Principal: Entity{Kind: KindAnonymous}, Action: RecoveryCancel, Context: Context{Now: monday, Presented: true}}
	if got := allowed(link); len(got) != len(sets) {
		t.Errorf("with the link a recovery is stopped only under %v", got)
	}
	if link.Context.Presented = false; len(allowed(link)) > 0 {
		t.Error("and without it")
	}
}

// TestNoRightIsProvedAway: that nobody does what is somebody's right is not proved, even of
// a set that forbids everything; of all others it is.
func TestNoRightIsProvedAway(t *testing.T) {
	s, err := Compile(Source{Files: []File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") @climb("never") forbid (principal, action, resource);`}}})
	if err != nil {
		t.Fatal(err)
	}
	below := func(age time.Duration) func(*Input) bool {
		return func(in *Input) bool {
			return !in.Context.Assurance.Meets(assurance.Ask{Rung: assurance.Single, MaxAge: age}, in.Context.Now)
		}
	}
	others := func(in *Input) bool { return in.Resource.Owner != in.Principal.ID }
	for _, c := range []struct {
		of     string
		never  Never
		proved bool
	}{
		{"anybody", Never{Actions: []Action{DeviceDeny}}, false},
		{"agents and services", Never{Actions: []Action{SessionEnd, DeviceDeny}, Kinds: []string{KindAgent, KindService}}, true},
		{"what is somebody else's", Never{Actions: []Action{SessionEnd}, Holds: others}, true},
		{"what is nobody's", Never{Actions: []Action{CIBADeny}, Holds: others}, false},
		{"who has not signed in", Never{Actions: []Action{SessionEnd, DeviceDeny}, Holds: below(0)}, true},
		{"who did long ago", Never{Actions: []Action{SessionEnd}, Ages: []time.Duration{time.Hour}, Holds: below(time.Hour)}, false},
		{"where much is unusual", Never{Actions: []Action{GrantEnd}, Holds: func(in *Input) bool { return in.Context.Risk.Band == RiskExtreme }}, false},
		{"who has a link", Never{Actions: []Action{RecoveryCancel}, Kinds: []string{KindAnonymous}}, false},
	} {
		if c.never.Kinds == nil {
			c.never.Kinds = []string{KindPerson, KindAgent, KindService, KindAnonymous}
		}
		if c.never.Holds == nil {
			c.never.Holds = func(*Input) bool { return true }
		}
		if p := s.Prove(c.never); (p.Unproven == "") != c.proved || p.Counter != nil {
			t.Errorf("of %s: %+v", c.of, p)
		}
	}
}
