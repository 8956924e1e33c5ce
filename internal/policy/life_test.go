package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

const lifePolicies = `
@id("long") @reason("R.") @life("10m")
permit (principal is Person, action == Action::"self.read", resource) when { context.assurance.rung >= 2 };
@id("longer") @reason("R.") @life("20m") @grant_life("48h")
permit (principal is Person, action == Action::"self.read", resource) when { context.assurance.rung >= 3 };
@id("plain") @reason("R.")
permit (principal is Person, action == Action::"self.write", resource) when { context.assurance.rung >= 2 };
@id("unusual") @reason("R.") @life("2m") @grant_life("4h")
forbid (principal is Person, action in [Action::"self.read", Action::"self.write"], resource)
when { context.risk.known && context.risk.band == "medium" }
unless { context.assurance.age.multi <= duration("15m") };
`

// TestLife: a decision carries the longest life of the permits that allow it, cut by
// what a forbid that was satisfied says, and never more than the scopes leave (A23).
func TestLife(t *testing.T) {
	src := Source{Files: []File{{Name: "a.cedar", Text: lifePolicies}}}
	set, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1790000000, 0)
	for _, tc := range []struct {
		name        string
		action      Action
		method      assurance.Method
		band        string
		scope       time.Duration // its max_age, of a proof of a minute ago
		life, grant time.Duration
	}{
		{"one permit", SelfRead, assurance.Password, RiskLow, 0, 10 * time.Minute, 0},
		{"the longer of two, and one of them sets none for grants", SelfRead, assurance.Passkey, RiskLow, 0, 20 * time.Minute, 0},
		{"no life", SelfWrite, assurance.Passkey, RiskLow, 0, 0, 0},
		{"a forbid that was satisfied", SelfWrite, assurance.Passkey, RiskMedium, 0, 2 * time.Minute, 4 * time.Hour},
		{"… cuts what permits give", SelfRead, assurance.Passkey, RiskMedium, 0, 2 * time.Minute, 4 * time.Hour},
		{"a scope leaves less", SelfRead, assurance.Passkey, RiskMedium, 2 * time.Minute, time.Minute, 4 * time.Hour},
		{"a scope leaves more", SelfRead, assurance.Passkey, RiskMedium, 9 * time.Minute, 2 * time.Minute, 4 * time.Hour},
	} {
		proofs := []assurance.Proof{{Method: tc.method, Subject: "usr_1", At: now.Add(-time.Minute), UserVerified: true, PhishingResistant: tc.method == assurance.Passkey}}
		if tc.method == assurance.Password {
			proofs = append(proofs, assurance.Proof{Method: assurance.TOTP, Subject: "usr_1", At: now.Add(-time.Minute)})
		}
		in := Input{
			Principal: Entity{Kind: KindPerson, ID: "usr_1"}, Action: tc.action, Resource: Resource{Type: "person", ID: "usr_1", Owner: "usr_1"},
			Context: Context{Now: now, Assurance: assurance.Evaluate("usr_1", proofs, now), Risk: Risk{true, tc.band}},
		}
		if tc.scope > 0 {
			in.Context.Scopes = []ScopeAsk{{Name: "s", Ask: assurance.Ask{Rung: assurance.Multi, MaxAge: tc.scope}}}
		}
		for range 2 { // the second is remembered
			if d := set.Decide(in, nil); d.Outcome != Allow || d.MaxLife != tc.life || d.MaxGrant != tc.grant {
				t.Errorf("%s: %v, %v and %v, want %v and %v", tc.name, d.Outcome, d.MaxLife, d.MaxGrant, tc.life, tc.grant)
			}
		}
	}
}

// TestLifeOfAnException: who is let past a rule by an exception has no longer a life
// than who satisfied it.
func TestLifeOfAnException(t *testing.T) {
	now := time.Unix(1790000000, 0)
	src := Source{
		Files:      []File{{Name: "a.cedar", Text: lifePolicies}},
		Exceptions: []Exception{{ID: "journey", Rule: "unusual", For: "usr_1", Owner: "o", Reason: "R.", Rung: 2, Until: now.Add(time.Hour)}},
	}
	set, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	proofs := []assurance.Proof{{Method: assurance.Passkey, Subject: "usr_1", At: now.Add(-time.Hour), UserVerified: true, PhishingResistant: true}}
	d := set.Decide(Input{
		Principal: Entity{Kind: KindPerson, ID: "usr_1"}, Action: SelfWrite, Resource: Resource{Type: "person", ID: "usr_1", Owner: "usr_1"},
		Context: Context{Now: now, Assurance: assurance.Evaluate("usr_1", proofs, now), Risk: Risk{true, RiskMedium}},
	}, nil)
	if d.Outcome != Allow || d.MaxLife != 2*time.Minute || d.MaxGrant != 4*time.Hour {
		t.Errorf("%v, %v and %v", d.Outcome, d.MaxLife, d.MaxGrant)
	}
}

func TestLifeRefused(t *testing.T) {
	for _, text := range []string{"10m", "", "1s", "25h", "90", "2m0.5s", "-2m", "forever"} {
		_, err := Compile(Source{Files: []File{{Name: "a.cedar", Text: strings.Replace(lifePolicies, `@life("10m")`, `@life("`+text+`")`, 1)}}})
		if (err == nil) != (text == "10m") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
