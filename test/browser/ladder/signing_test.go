package ladder

import (
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// submits hands in the default set with a rule of a name, to follow a version.
func (d *deployment) submits(rule string, after int64, by, kind string) string {
	d.t.Helper()
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "90-own.cedar", Text: `@id("own.` + rule + `")
@reason("Ending sessions needs a passkey used in the last 5 minutes.")
forbid (principal is Person, action == Action::"session.end", resource)
unless { context.assurance.age.phr <= duration("5m") };
`})
	p := ruleset.Publication{After: after, Hash: src.Hash(), Source: src, Note: "for the audit", By: by, ByKind: kind}.New(id.New(id.Published), d.now().UTC())
	_, err := d.state.Do.Do(d.t.Context(), act.Intent{
		Action: policy.SandboxSeed, Kind: audit.PolicySubmitted, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{p}}, nil
		},
	})
	check(d.t, err)
	return p.ID
}

// inForce is the version in force.
func (d *deployment) inForce() (v ruleset.Version) {
	d.t.Helper()
	last, err := d.state.Store.Rulesets(d.t.Context(), 0, 1)
	check(d.t, err)
	if len(last) > 0 {
		v, err = d.state.Store.Ruleset(d.t.Context(), last[0].N)
		check(d.t, err)
	}
	return v
}

// signs presses the button of that text, once it takes a tap.
func (s *somebody) signs(text string) {
	s.d.t.Helper()
	s.WaitVisible("[data-go]:not([disabled])")
	s.Wait("buttons that take a tap", `document.getAnimations().every(a => a.playState !== 'running')`)
	s.ClickText(text)
}

// TestSigning: what waits is on the overview and in the list; whoever signs reads what
// differs, and one tap puts it in force, although the sign-in is old. A page that was open
// meanwhile signs nothing any more. What a service handed in is left to it, or put in force
// by somebody else; and withdrawn, without JavaScript, where nothing can be signed.
func TestSigning(t *testing.T) {
	d := deploy(t, 0)
	dana := d.founder()
	sam := dana.invites("Sam")
	robot := id.New(id.Service)
	one := d.submits("one", 0, robot, policy.KindService)
	page := "/admin/publications/" + one
	dana.open("/account")
	dana.ClickText("Look at them")
	dana.Click("a[href='" + page + "']")
	dana.WaitText("own.one: Ending sessions needs a passkey used in the last 5 minutes.")
	dana.WaitText("File 90-own.cedar, new")
	dana.Inspect("policies to sign")
	sam.open(page)
	sam.WaitText("Sign it")
	dana.signs("Sign and put in force")
	dana.WaitText("It was put in force as version 1, signed by Dana")
	if v := d.inForce(); v.N != 1 || v.Publication != one || v.Signature == nil {
		t.Errorf("in force is %+v", v)
	}
	dana.Inspect("policies in force")
	sam.AllowConsole("409")
	sam.signs("Sign and put in force")
	sam.WaitText("This is over")
	sam.Inspect("policies signed by another meanwhile")

	two := d.submits("two", 1, robot, policy.KindService)
	dana.open("/admin/publications/" + two)
	dana.signs("Sign; let " + robot + " carry it out")
	dana.WaitText("You signed it")
	dana.Inspect("policies signed")
	sam.open("/admin/publications/" + two)
	sam.WaitText("Dana signed it")
	sam.ClickText("Put in force")
	sam.WaitText("It was put in force as version 2, signed by Dana")
	if v := d.inForce(); v.N != 2 || v.Publication != two || v.By == v.Carrier {
		t.Errorf("in force is %+v", v)
	}

	three := d.submits("three", 2, robot, policy.KindService)
	sam.Scripts(false)
	sam.open("/admin/publications/" + three)
	sam.WaitText("Signing needs JavaScript")
	if !strings.Contains(sam.Text("[data-go][disabled]"), "Sign") {
		t.Error("a button that can do nothing is not off")
	}
	sam.ClickText("Withdraw")
	sam.WaitText("Nothing comes of it any more.")
	if v := d.inForce(); v.N != 2 {
		t.Errorf("in force is %+v", v)
	}
}
