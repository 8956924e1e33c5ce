package portal_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// switched is something that can be switched off, and on again.
type switched struct {
	name    string
	off, on act.Change
}

func frozen(name, node string) switched {
	return switched{name, lineage.Freeze{ID: node, Why: "disabled"}, lineage.Thaw{ID: node}}
}

// wayIn is one way into an account: made ready, and then gone by the browser that
// enter gives back, until it is in.
type wayIn struct {
	name  string
	off   []switched
	ready func()
	enter func() *browser
}

// waysIn are all ways into an account that there is.
func (r *rig) waysIn() []wayIn {
	owner := r.browser()
	app := owner.setUpTyped()
	owner.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": "Laptop"}).to(r.t)
	owner.signIn(0).to(r.t)
	owner.second("mira") // so that the owner is not the last administrator
	sam := r.browser()
	sam.accept(owner.invite("Sam", "", ""), "Sam", "sam").to(r.t)
	danas, sams := r.person("dana@example.com").ID, r.person("sam").ID
	all, err := r.store.FactorsOf(context.Background(), danas)
	check(r.t, err)
	typed := []switched{
		frozen("the person", danas),
		{"passwords", factor.Allow{Kind: factor.KindPassword}, factor.Allow{Kind: factor.KindPassword, On: true}},
		{"codes", factor.Allow{Kind: factor.KindTOTP}, factor.Allow{Kind: factor.KindTOTP, On: true}},
	}
	for _, f := range all {
		if f.Kind != factor.KindPasskey {
			typed = append(typed, frozen(string(f.Kind), f.ID))
		}
	}
	var pass string
	var lost *browser
	nothing := func() {}
	return []wayIn{
		{"passkey", []switched{frozen("the person", sams), frozen("the passkey", owner.passkeysOf("sam")[0])}, nothing, func() *browser {
			b := r.browser()
			b.auth, b.handle = sam.auth, sam.handle
			b.signIn(0)
			return b
		}},
		{"password and code", typed, nothing, func() *browser {
			r.clock.move(30 * time.Second)
			b := r.browser()
			if to := b.typePassword("dana@example.com", phrase); to.status == http.StatusSeeOther {
				b.post("/signin/code", "st", b.get(to.location).field(r.t, "st"), "code", app.code(0))
			}
			return b
		}},
		{"temporary pass", []switched{
			frozen("the person", sams), frozen("who gave it", danas),
			{"what they are", group.Remove{Group: r.admins, Person: danas}, group.Add{Group: r.admins, Person: danas}},
			{"being below them", group.Add{Group: r.admins, Person: sams}, group.Remove{Group: r.admins, Person: sams}},
		}, func() {
			owner.signIn(0).to(r.t)
			pass = typedCode.FindString(owner.post("/admin/pass", "username", "sam", "reason", "a test", "valid", "24").body)
		}, func() *browser {
			b := r.browser()
			b.post("/recover/pass", "username", "sam", "code", pass)
			return b
		}},
		{"recovery code", []switched{frozen("the person", sams)}, func() {
			sam.signIn(0).to(r.t)
			codes := sam.makeCodes()
			lost = r.browser()
			r.clock.move(time.Second)
			lost.recoverWith("sam", codes[0]).sent(r.t, "/recover/status")
			r.clock.move(25 * time.Hour)
		}, func() *browser {
			if a := lost.script("/recover/options", map[string]any{"passkey_name": "x"}); a.status == 200 {
				_, cred := lost.attest(a)
				lost.script("/recover/finish", map[string]any{"passkey_name": "x", "credential": cred})
			}
			return lost
		}},
	}
}

// TestEveryWayInAndEverySwitch: every way to a session × everything that can be
// switched off. Switched on again the same works: nothing was used up.
func TestEveryWayInAndEverySwitch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, way := range r.waysIn() {
		in := func() bool { r.t.Helper(); return way.enter().get("/account").status == 200 }
		for _, s := range way.off {
			way.ready()
			r.seed(audit.PersonDisabled, s.off)
			if in() {
				t.Errorf("%s: in although %s is off", way.name, s.name)
			}
			r.seed(audit.PersonEnabled, s.on)
			if !in() {
				t.Errorf("%s: no way in after %s is on again", way.name, s.name)
			}
		}
	}
	if k := r.kinds(); !slices.Contains(k, audit.PassUsed) || !slices.Contains(k, audit.RecoveryCompleted) {
		t.Error("a way was not gone")
	}
}
