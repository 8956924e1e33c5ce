package portal_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/risk"
)

// failing is a way to fail, with what does not: both against one account.
type failing struct {
	way   act.Way
	whose string // "" where it claims to be nobody's
	wrong func()
	right func()
}

// failings are every way to fail on the pages. Dana has a passkey, Sam the rest.
func (r *rig) failings() map[string]failing {
	t := r.t
	b, sam := r.browser(), r.browser()
	b.setUp()
	codes := b.makeCodes()
	page := sam.post("/invite/open", "secret", issuer+"/invite#"+b.invite("Sam", "sam@example.com", "member")).sent(t, "/invite/accept?tx=")
	tx := sam.get(strings.Replace(page, "/accept", "/password", 1)).field(t, "tx")
	shown := sam.get(sam.post("/invite/password", "tx", tx, "display_name", "Sam", "username", "sam", "password", phrase).sent(t, "/invite/app?tx="))
	app := sam.scan(shown)
	sam.post("/invite/app", "tx", shown.field(t, "tx"), "code", app.code(0)).sent(t, "/invite/codes")
	b.signIn(0).to(t)
	pass := typedCode.FindString(b.post("/admin/pass", "username", "sam", "reason", "left the key at home", "valid", "24").body)
	who := map[string]string{"dana": r.person(dana).ID, "sam": r.person("sam").ID}
	good := b.auth.Credentials[0]
	refused := func(a answer) {
		t.Helper()
		if a.status < 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	signsIn := func(by *browser) func() { return func() { by.signIn(0).to(t) } }
	none := func() {}
	return map[string]failing{
		"a password": {
			act.WayPassword, who["sam"],
			func() { r.browser().typePassword("sam", "nonsense nonsense").shows(t, 200, "") },
			func() { r.browser().typePassword("sam", phrase).sent(t, "/signin/code") },
		},
		"a password of nobody": {
			act.WayPassword, "",
			func() { r.browser().typePassword("nobody", phrase).shows(t, 200, "") }, none,
		},
		"a code": {
			act.WayCode, who["sam"],
			func() {
				x := r.browser()
				st := x.get(x.typePassword("sam", phrase).sent(t, "/signin/code?st=")).field(t, "st")
				x.post("/signin/code", "st", st, "code", app.code(9)).shows(t, 200, "Wrong code")
			},
			func() {
				r.clock.move(time.Minute) // the code of now was used
				r.browser().signInTyped(app, "sam", phrase)
			},
		},
		"a recovery code, with another name": {
			act.WayRecoveryCode, who["dana"],
			func() { r.browser().recoverWith("sam", codes[0]).shows(t, 200, "Check your answers") },
			func() { r.browser().recoverWith(dana, codes[1]).sent(t, "/recover/status") },
		},
		"a recovery code of nobody": {
			act.WayRecoveryCode, "",
			func() {
				foreign, _ := recovery.NewCodes("usr_of_another_deployment", r.clock.now())
				r.browser().recoverWith(dana, foreign[0].Reveal()).shows(t, 200, "Check your answers")
			}, none,
		},
		"a temporary pass": {
			act.WayPass, who["sam"],
			func() {
				r.browser().post("/recover/pass", "username", dana, "code", pass).shows(t, 200, "Check your answers")
			},
			func() { r.browser().post("/recover/pass", "username", "sam", "code", pass).sent(t, "/") },
		},
		"a passkey that another key signs for": {
			act.WayPasskey, who["dana"],
			func() {
				b.auth.Credentials[0].Key = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2).Key
				refused(b.signIn(0))
				b.auth.Credentials[0].Key = good.Key
			}, signsIn(b),
		},
		"a passkey without its person": {
			act.WayPasskey, who["dana"],
			func() {
				b.auth.Options.UserNotVerified = true
				refused(b.signIn(0))
				b.auth.Options.UserNotVerified = false
			}, signsIn(b),
		},
		"a passkey for somebody else": {
			act.WayPasskey, who["dana"],
			func() {
				mine := b.handle
				b.handle = []byte("somebody else")
				refused(b.signIn(0))
				b.handle = mine
			}, signsIn(b),
		},
		"another's passkey at a step-up": {
			act.WayPasskey, who["sam"],
			func() {
				thief := r.browser()
				thief.client.Jar, thief.auth, thief.handle = sam.client.Jar, b.auth, b.handle
				refused(thief.assert("/step-up/options", "/step-up/finish", 0, map[string]any{"next": "/account"}))
				b.auth = thief.auth
			}, none,
		},
	}
}

// TestWrongProofs walks every way to fail on the pages: each is remembered once, of whom
// it claimed to be, in what comes from the same network and nowhere else; what is right
// is not.
func TestWrongProofs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	from := r.scoring()
	p := r.do.Risk.(*profile.Profiles)
	var ways []act.Way
	r.do.Wrong = func(w act.Way) { ways = append(ways, w) }
	says := func(whose, network string) string {
		a, err := p.Score(t.Context(), whose, act.Origin{Asked: true, Network: network}, r.clock.now())
		check(t, err)
		for _, x := range a.Terms {
			if x.Signal == risk.Failures {
				return x.Words
			}
		}
		return ""
	}
	all, walked := r.failings(), map[act.Way]bool{}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		walked[f.way] = true
		host := "203.0." + string(rune('1'+i%9)) + string(rune('0'+i/9)) + "."
		from.Store(host + "7")
		for range 5 { // with the sixth it is told
			p.Miss(f.whose, host+"0/24", r.clock.now())
		}
		ways = nil
		if f.wrong(); !slices.Equal(ways, []act.Way{f.way}) {
			t.Errorf("%s: it is remembered as %v", name, ways)
		}
		want := "6 proofs of this account were wrong in the last hour, from the same network."
		if got := says(f.whose, host+"0/24"); f.whose != "" && got != want {
			t.Errorf("%s: %q", name, got)
		}
		if got := says(f.whose, "192.0.2.0/24"); got != "" {
			t.Errorf("%s, elsewhere: %q", name, got)
		}
		ways = nil
		if f.right(); ways != nil {
			t.Errorf("%s: what is right is remembered as %v", name, ways)
		}
	}
	for w, where := range act.Ways {
		if (where == "portal") != walked[w] {
			t.Errorf("%s is walked: %t", w, walked[w])
		}
	}
}
