package policy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// expected says the table again, a line per kind of act, from the requirements
// and not from the rules.
type expected struct {
	actions string
	rung    assurance.Rung
	age     time.Duration
	owner   string // "": any; else the owner for whom it holds
	admin   bool
}

var forPeople = []expected{
	{"session.open authorize", 2, 0, "", false},
	{"token.issue token.refresh token.introspect token.revoke userinfo", 1, 0, "", false},
	{"factor.enrol factor.remove factor.rename email.change", 3, 5 * time.Minute, dana, false},
	{"session.end grant.end", 1, 0, dana, false},
	{"session.end grant.end", 3, 15 * time.Minute, sam, true},
	{"self.read", 1, 0, dana, false},
	{"session.prove consent.give self.write", 2, 0, dana, false},
	{"person.read group.read client.read resource.read session.read policy.read review.read", 2, 12 * time.Hour, "", true},
	{"audit.read", 3, 12 * time.Hour, "", true},
	{"person.invite person.import factor.allow person.disable person.enable group.write client.write resource.write key.rotate client.secret.rotate review.end review.close", 3, 15 * time.Minute, "", true},
	{"webhook.read policy.submit", 2, 12 * time.Hour, "", true},
	{"webhook.write delivery.resend", 3, 15 * time.Minute, "", true},
	{"email.ask", 2, 5 * time.Minute, dana, false},
	{"leak.report", 1, 0, "", false},
	{"person.erase factor.revoke policy.publish review.allow", 3, 5 * time.Minute, "", true},
	{"recovery.open recovery.confirm pass.issue", 3, 5 * time.Minute, sam, true},
	{"recovery.cancel", 3, 15 * time.Minute, sam, true},
	{"recovery.cancel", 1, 0, dana, false},
	{"recovery.read", 2, 12 * time.Hour, "", true},
}

func TestEveryRuleForPeople(t *testing.T) {
	for _, e := range forPeople {
		ask := assurance.Ask{Rung: e.rung, MaxAge: e.age}
		for _, name := range strings.Fields(e.actions) {
			a := Action(name)
			var groups []string
			if e.admin {
				groups = []string{"staff", Administrators}
			}
			check := func(what string, want Outcome, in Input) {
				t.Helper()
				d := Builtin().Decide(in, nil)
				if d.Outcome != want {
					t.Errorf("%s %s: %+v", a, what, d)
				}
				if want == StepUp && d.Ask != ask {
					t.Errorf("%s %s: asks for %+v", a, what, d.Ask)
				}
				if len(d.Reasons) == 0 || d.Reasons[0].Policy == "" || d.Reasons[0].Text == "" {
					t.Errorf("%s %s: no reason", a, what)
				}
				if want != Allow {
					return
				}
				in.Context.Ended = dana
				if d := Builtin().Decide(in, nil); d.Outcome != Deny || d.Code != CodeEnded {
					t.Errorf("%s %s, ended: %+v", a, what, d)
				}
				in.Context.Ended, in.Principal.Kind = "", KindAgent
				if d := Builtin().Decide(in, nil); d.Outcome != Deny || d.Code != CodeDenied {
					t.Errorf("%s %s, by an agent: %+v", a, what, d)
				}
			}
			check("nobody signed in", StepUp, asking(a, assurance.State{}, e.owner, groups...))
			for r := assurance.Single; r < e.rung; r++ {
				check("below the rung", StepUp, asking(a, showing(r, 0), e.owner, groups...))
			}
			check("at the ask", Allow, asking(a, showing(e.rung, e.age), e.owner, groups...))
			check("above the ask", Allow, asking(a, showing(4, 0), e.owner, groups...))
			if e.age != 0 {
				check("too old", StepUp, asking(a, showing(4, e.age+1), e.owner, groups...))
			} else {
				check("years old", Allow, asking(a, showing(e.rung, 9*365*24*time.Hour), e.owner, groups...))
			}
			if e.admin {
				for _, g := range [][]string{nil, {"staff"}, {"Administrators"}, {""}} {
					check("by no administrator", Deny, asking(a, showing(4, 0), e.owner, g...))
				}
			}
			if e.owner == dana && !strings.HasSuffix(name, ".end") && a != RecoveryCancel {
				check("of somebody else", Deny, asking(a, showing(4, 0), sam, Administrators))
				check("of nobody", Deny, asking(a, showing(4, 0), "", Administrators))
			}
		}
	}
	in := asking(SelfRead, showing(4, 0), "")
	in.Principal.ID = ""
	if d := Builtin().Decide(in, nil); d.Outcome != Deny {
		t.Errorf("nobody owns what nobody owns: %+v", d)
	}
}

// Changing factors, and the address where their owner hears of it and can stop a
// recovery, needs what they protect: with a passkey that counts, a
// passkey; without one, the two factors there are. One's own only.
func TestFactorsNeedWhatTheyProtect(t *testing.T) {
	for _, a := range []Action{FactorEnrol, FactorRemove, FactorRename, EmailChange} {
		for _, c := range []struct {
			bare  bool
			rung  assurance.Rung
			age   time.Duration
			owner string
			want  Outcome
			ask   assurance.Rung
		}{
			{true, 0, 0, dana, StepUp, 2},
			{true, 1, 0, dana, StepUp, 2},
			{true, 2, 5 * time.Minute, dana, Allow, 0},
			{true, 2, 5*time.Minute + 1, dana, StepUp, 2},
			{true, 4, 0, dana, Allow, 0},
			{false, 2, 0, dana, StepUp, 3},
			{false, 3, 5 * time.Minute, dana, Allow, 0},
			{true, 4, 0, sam, Deny, 0},
			{true, 4, 0, "", Deny, 0},
		} {
			in := asking(a, showing(c.rung, c.age), c.owner, Administrators)
			in.Context.NoPasskey = c.bare
			if d := Builtin().Decide(in, nil); d.Outcome != c.want || d.Ask.Rung != c.ask {
				t.Errorf("%s %+v: %+v", a, c, d)
			}
		}
	}
	in := asking(PersonErase, showing(2, 0), "", Administrators)
	in.Context.NoPasskey = true
	if d := Builtin().Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != assurance.Phishing {
		t.Errorf("an account without a passkey makes another act cheaper: %+v", d)
	}
}

func TestEveryRuleForTheOthers(t *testing.T) {
	m1 := assurance.State{Sources: 1, MachineRung: 1}
	allowed := map[string]string{
		KindService:   "token.issue token.exchange token.introspect token.revoke",
		KindAnonymous: "setup.complete invitation.accept factor.reenrol recovery.start recovery.complete recovery.cancel",
		KindOperator:  "admin.recover policy.recover setup.issue key.rotate migrate sandbox.seed audit.export deployment.rename deployment.adopt quarantine.enter backup.make backup.rehearse backup.restore backup.replay restore.release keys.replace clock.accept quarantine.dismiss log.open audit.retain",
		KindSystem:    "audit.sequence feed.publish expiry session.end grant.end code.missed code.reused refresh.misused refresh.lost assertion.replayed challenge.give review.open session.seen key.rotate sandbox.seed setup.issue proof.spend refusals.count quarantine.enter factor.try factor.refresh database.note",
		KindAgent:     "",
		"client":      "",
		"":            "",
	}
	allowed[KindAnonymous] += " email.verify"
	allowed[KindSystem] += " notification.run device.start ciba.start rollout.tend"
	var every []Action
	for _, p := range Builtin().Policies() {
		every = append(every, p.Actions...)
	}
	every = append(every, "", "no.such.action", "SESSION.OPEN", "session.open ")
	for kind, names := range allowed {
		for _, a := range every {
			in := asking(a, m1, dana, Administrators)
			in.Principal.Kind = kind
			in.Context.Presented = true
			want := Deny
			if slices.Contains(strings.Fields(names), string(a)) {
				want = Allow
			}
			if d := Builtin().Decide(in, nil); d.Outcome != want || want == Deny && d.Reasons[0].Policy != "default" {
				t.Errorf("%s by %q: %+v", a, kind, d)
			}
			switch kind {
			case KindService: // a machine without a source, however much a person proved
				in.Context.Assurance = showing(4, 0)
			case KindAnonymous:
				in.Context.Presented = false
			default:
				continue
			}
			if d := Builtin().Decide(in, nil); d.Outcome != Deny || d.Ask.Demands() {
				t.Errorf("%s by %q without proof: %+v", a, kind, d)
			}
		}
	}
	for _, a := range []Action{"", "no.such.action", AdminRecover, Migrate, AuditExport, SetupComplete, AuditSequence, CodeReused} {
		in := asking(a, showing(4, 0), dana, Administrators)
		in.Context.Presented = true
		if d := Builtin().Decide(in, nil); d.Outcome != Deny || d.Code != CodeDenied {
			t.Errorf("%s by a person: %+v", a, d)
		}
	}
}

// Nobody vouches for themselves, and a helper can do this one thing.
func TestRulesOfRecovery(t *testing.T) {
	for _, a := range []Action{RecoveryOpen, RecoveryConfirm, PassIssue} {
		if d := Builtin().Decide(asking(a, showing(4, 0), dana, Administrators, Helpers), nil); d.Outcome != Deny {
			t.Errorf("%s for oneself: %+v", a, d)
		}
	}
	for a, want := range map[Action]Outcome{PassIssue: Allow, RecoveryOpen: Deny, RecoveryConfirm: Deny, RecoveryCancel: Deny, RecoveryRead: Deny, PersonDisable: Deny} {
		if d := Builtin().Decide(asking(a, showing(3, 5*time.Minute), sam, Helpers), nil); d.Outcome != want {
			t.Errorf("%s by a helper: %+v", a, d)
		}
	}
	if d := Builtin().Decide(asking(PassIssue, showing(2, 0), sam, Helpers), nil); d.Outcome != StepUp {
		t.Errorf("a pass by a helper without a passkey: %+v", d)
	}
}

// The default set is strictly typed, every action of the product is declared
// and permitted to somebody, and what asks for more says so in a header.
func TestTheDefaultSetIsWellFormed(t *testing.T) {
	set, err := Compile(Default())
	if err != nil {
		t.Fatal(err)
	}
	permitted := map[Action]bool{}
	for _, p := range set.Policies() {
		if p.Monitor || p.File == "" || p.Line == 0 {
			t.Errorf("%+v", p)
		}
		for _, a := range p.Actions {
			permitted[a] = permitted[a] || p.Effect == "permit"
		}
	}
	for _, a := range constants(t) {
		if !permitted[a] {
			t.Errorf("%s is permitted to nobody", a)
		}
	}
	for _, a := range actionsIn(productTypes()) {
		if !slices.Contains(constants(t), a) {
			t.Errorf("%s is declared and does not exist", a)
		}
	}
}

// constants are the actions of action.go.
func constants(t *testing.T) (out []Action) {
	t.Helper()
	text, err := os.ReadFile("action.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`Action = "([a-z.]+)"`).FindAllStringSubmatch(string(text), -1) {
		out = append(out, Action(m[1]))
	}
	if len(out) < 40 {
		t.Fatalf("found %d", len(out))
	}
	return out
}

func TestTheVersionIsTheContent(t *testing.T) {
	v := Builtin().Version()
	if !strings.HasPrefix(v, "sha256:") || v != Default().Hash() {
		t.Errorf("%q", v)
	}
	for name, change := range map[string]func(*Source){
		"letter": func(s *Source) { s.Files[0].Text += " " },
		"name":   func(s *Source) { s.Files[0].Name += "x" },
		"file":   func(s *Source) { s.Files = s.Files[1:] },
		"schema": func(s *Source) { s.Schema = "entity X;" },
	} {
		src := Default()
		change(&src)
		if src.Hash() == v {
			t.Errorf("another %s, the same version", name)
		}
	}
	src := Default()
	slices.Reverse(src.Files)
	if src.Hash() != v {
		t.Error("another order, another version")
	}
	if d := Builtin().Decide(asking(SelfRead, showing(1, 0), dana), nil); d.PolicyVersion != v {
		t.Errorf("%+v", d)
	}
}
