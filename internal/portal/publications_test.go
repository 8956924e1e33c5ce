package portal_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// deskOn is where policies are signed, on a database.
func deskOn(db *store.Store) *ruleset.Desk {
	return &ruleset.Desk{Issuer: issuer, Publications: db, Rollouts: db, Group: func(ctx context.Context, name string) error {
		return group.CheckLive(ctx, db, name)
	}}
}

// deployed gives the rig a deployment, which versions of the policies are of.
func (r *rig) deployed() {
	r.t.Helper()
	r.seed(audit.LogOpened, store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: issuer}})
}

// with is the default set and a policy.
func with(text string) policy.Source {
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "90-own.cedar", Text: text})
	return src
}

// stricter is a set in which ending a session is asked for.
func stricter() policy.Source {
	return with("@id(\"own.end\")\n@reason(\"Ending sessions needs a passkey used in the last 5 minutes.\")\n" +
		"forbid (principal is Person, action == Action::\"session.end\", resource)\nunless { context.assurance.age.phr <= duration(\"5m\") };\n")
}

// locking is a set under which nobody here could publish another.
func locking() policy.Source {
	return with("@id(\"own.lock\")\n@reason(\"Publishing needs hardware.\")\n" +
		"forbid (principal is Person, action == Action::\"policy.publish\", resource)\nunless { context.assurance.age.phrh <= duration(\"5m\") };\n")
}

// submit stores a publication, as the API does.
func (r *rig) submit(src policy.Source, by, kind string, waves ...policy.Wave) string {
	r.t.Helper()
	var head int64
	last, err := r.store.Rulesets(r.t.Context(), 0, 1)
	check(r.t, err)
	if len(last) > 0 {
		head = last[0].N
	}
	p := ruleset.Publication{After: head, Hash: src.Hash(), Source: src, Waves: waves, Note: "for the audit", By: by, ByKind: kind}.New(id.New(id.Published), r.clock.now().UTC())
	r.seed(audit.PolicySubmitted, p)
	return p.ID
}

func (r *rig) stands(publication string) ruleset.Publication {
	r.t.Helper()
	p, err := r.store.Publication(r.t.Context(), publication)
	check(r.t, err)
	return p
}

func publicationPage(publication string) string { return "/admin/publications/" + publication }

// asked presses the button of a page: the browser is asked for a signature.
func (b *browser) asked(publication string, page answer) answer {
	b.t.Helper()
	return b.script(publicationPage(publication)+"/options", map[string]any{"view": page.field(b.t, "view"), "then": "put"})
}

// signature answers what a browser is asked for.
func (b *browser) signature(options answer, cred int) json.RawMessage {
	b.t.Helper()
	if options.status != 200 {
		b.t.Fatalf("options: %d %s", options.status, options.body)
	}
	o, err := virtualwebauthn.ParseAssertionOptions(options.body)
	check(b.t, err)
	b.auth.Options.UserHandle = b.handle
	b.auth.Credentials[cred].Counter++
	return json.RawMessage(virtualwebauthn.CreateAssertionResponse(rp, b.auth, b.auth.Credentials[cred], *o))
}

// signs sends a signature, as the page's script does.
func (b *browser) signs(publication string, page answer, then string, signature json.RawMessage) answer {
	b.t.Helper()
	return b.script(publicationPage(publication)+"/sign", map[string]any{"view": page.field(b.t, "view"), "then": then, "credential": signature})
}

// A person reads what somebody submitted, signs it with one tap although their sign-in is
// old, and it is in force; what they signed is kept so that anybody can verify it.
func TestSignAndPutInForce(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, r *rig) {
		r.deployed()
		b := r.browser()
		b.setUp()
		dana := r.person("dana@example.com")
		src := stricter()
		src.Exceptions = []policy.Exception{{ID: "night", Rule: "own.end", For: dana.ID, Owner: "Ops", Reason: "On call.", Rung: 2, Until: r.clock.now().UTC().Truncate(time.Second).Add(48 * time.Hour)}}
		one := r.submit(src, dana.ID, policy.KindPerson)
		r.clock.move(20 * time.Minute)
		if page := b.get("/account"); !strings.Contains(page.body, "Look at policies that wait to be signed") {
			t.Error("the overview does not say that something waits")
		}
		if list := b.get("/admin/publications"); !strings.Contains(list.body, publicationPage(one)) || !strings.Contains(list.body, "for the audit") {
			t.Error("the list does not show it")
		}
		page := b.get(publicationPage(one))
		page.shows(t, 200, "Sign policies")
		for _, want := range []string{
			one, src.Hash(), "the default policies", "for the audit", "Dana Example (" + dana.ID + ")", "at once, for everybody",
			"+ own.end: Ending sessions needs a passkey used in the last 5 minutes.", "File 90-own.cedar, new", "forbid (principal is Person",
			"+ night: waives own.end for the person Dana Example (" + dana.ID + ") until ", "Instead, it needs ", "Why: On call.", "File exceptions.yaml, new",
			"Sign and put in force", "Sign; put it in force later", `name="then" value="leave"`,
		} {
			if !strings.Contains(strings.ReplaceAll(page.body, "&#34;", `"`), want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		text := b.get(publicationPage(one) + "/text")
		if text.status != 200 || !strings.HasPrefix(text.body, "What is signed\n\nPublication: "+one+"\n") {
			t.Errorf("as plain text: %d %s", text.status, text.body)
		}
		if to := b.signs(one, page, "put", b.signature(b.asked(one, page), 0)).to(t); to != publicationPage(one)+"?done=policy-put" {
			t.Errorf("it leads to %s", to)
		}
		v, err := r.store.Ruleset(t.Context(), 1)
		check(t, err)
		if v.Hash != src.Hash() || v.By != dana.ID || v.Publication != one || v.Signature == nil {
			t.Fatalf("in force is %+v", v)
		}
		view := factor.ViewHash(text.body)
		var ceremony struct{ Req, By, Dec, View, Org string }
		check(t, json.Unmarshal(v.Signature.Ceremony, &ceremony))
		if ceremony.Req != one || ceremony.By != dana.ID || ceremony.Dec != "publish" || ceremony.View != b64(view[:]) || ceremony.Org != issuer {
			t.Errorf("signed was %s", v.Signature.Ceremony)
		}
		if k := r.kinds(); !slices.Equal(k[len(k)-2:], []audit.Kind{audit.PolicySigned, audit.PolicyPublished}) {
			t.Errorf("recorded is %v", k[len(k)-3:])
		}
		done := b.get(publicationPage(one) + "?done=policy-put")
		done.shows(t, 200, "Carried out")
		for _, want := range []string{"Put in force.", "version 1", "signed by"} {
			if !strings.Contains(done.body, want) {
				t.Errorf("in force, it does not say %q", want)
			}
		}
		b.get("/admin/publications").shows(t, 200, "Nothing to sign")
		if all := b.get("/admin/publications?state=all"); !strings.Contains(all.body, publicationPage(one)) {
			t.Error("it is not among all")
		}
		// What follows it says what changes and goes.
		then := stricter()
		last := &then.Files[len(then.Files)-1]
		last.Text = strings.Replace(last.Text, "Ending sessions needs", "To end sessions takes", 1)
		next := b.get(publicationPage(r.submit(then, dana.ID, policy.KindPerson)))
		for _, want := range []string{
			"version 1", "~ own.end: To end sessions takes a passkey used in the last 5 minutes. Before: own.end: Ending sessions needs",
			"- night: waives own.end for the person Dana Example", "File exceptions.yaml, taken out", "-    2       @reason(&#34;Ending", "+         2  @reason(&#34;To end", "     1    1  @id",
		} {
			if !strings.Contains(next.body, want) {
				t.Errorf("the next one does not say %q", want)
			}
		}
		lines := r.lines()
		if !strings.Contains(lines, "Dana Example signed policy "+src.Hash()) {
			t.Errorf("the log does not say who signed what:\n%s", lines)
		}
	})
}

// lines is what the log says, the newest first.
func (r *rig) lines() string {
	r.t.Helper()
	lines, _, err := r.server.Log.Page(r.t.Context(), "", "", 20)
	check(r.t, err)
	var out []string
	for _, l := range lines {
		out = append(out, l.Sentence)
	}
	return strings.Join(out, "\n")
}

// What a service submitted is signed and left to it, or put in force by whoever signed;
// waves are shown, and become a rollout. Signed it can be withdrawn.
func TestSignForAService(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.deployed()
	b := r.browser()
	b.setUp()
	robot := id.New(id.Service)
	r.seed(audit.ClientCreated, client.Create{
		Client: client.Client{
			ID: id.New(id.Client), ClientID: "deploys", Name: "Deploys", AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.ClientCredentials},
			Service: robot, ManagedBy: "api", CreatedAt: r.clock.now(),
		},
		NewService: &client.Service{
			ID: robot, Subject: id.Random(id.Service), Name: "Deploys", Owner: r.person("dana@example.com").ID, Purpose: "tests",
			ReviewBy: r.clock.now().AddDate(1, 0, 0), CreatedAt: r.clock.now(),
		},
	})
	wave := policy.Wave{Rest: true, From: r.clock.now().UTC().Truncate(time.Second).Add(time.Hour), Budget: policy.Budget{Prompts: 4}}
	one := r.submit(stricter(), robot, policy.KindService, wave)
	page := b.get(publicationPage(one))
	for _, want := range []string{"Sign; let Deploys carry it out", "Sign and put in force", "the service Deploys (" + robot + ")", "in waves, as a rollout", "1: everybody else; from ", "more than 4 prompts or 0 refusals"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if to := b.signs(one, page, "leave", b.signature(b.asked(one, page), 0)).to(t); to != publicationPage(one)+"?done=policy-signed" {
		t.Errorf("it leads to %s", to)
	}
	if p := r.stands(one); p.State != ruleset.Signed || p.Signed == nil {
		t.Fatalf("%+v", p)
	}
	signed := b.get(publicationPage(one))
	signed.shows(t, 200, "Signed, not in force yet")
	for _, want := range []string{"You signed it", "It waits for", "Put in force", "Withdraw"} {
		if !strings.Contains(signed.body, want) {
			t.Errorf("signed, it does not say %q", want)
		}
	}
	b.post(publicationPage(one)+"/put").sent(t, publicationPage(one)+"?done=policy-put")
	if ro, err := r.store.Rollout(t.Context(), 1); err != nil || ro.Publication != one || ro.Signature == nil {
		t.Errorf("%+v, %v", ro, err)
	}
	if page := b.get(publicationPage(one)); !strings.Contains(page.body, "/admin/rollout?n=1") {
		t.Error("it does not lead to the rollout")
	}
	b.post(publicationPage(one)+"/put").shows(t, 409, "Not done")
}

// locksNobody is another set than any before.
func locksNobody(name string) policy.Source {
	return with("@id(\"own." + name + "\")\n@reason(\"r\")\nforbid (principal is Person, action == Action::\"session.end\", resource)\nunless { context.assurance.age.phr <= duration(\"1h\") };\n")
}

// Nothing but this person's own signature of exactly this, as it is shown now, asked for
// by the newest page in this browser, signs it. What is refused leaves it unsigned, and
// the signature that is asked for next is taken.
func TestSigningRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.deployed()
	b, sam := r.browser(), r.browser()
	b.setUp()
	sam.accept(b.invite("Sam", "", "administrator"), "Sam", "sam").to(t)
	dana := r.person("dana@example.com").ID
	n := 0
	fresh := func() (string, answer) {
		n++
		p := r.submit(locksNobody(strings.Repeat("x", n)), dana, policy.KindPerson)
		return p, b.get(publicationPage(p))
	}
	refused := func(t *testing.T, p string, a answer, status int, words string) {
		t.Helper()
		if a.status != status || !strings.Contains(a.body, words) {
			t.Errorf("%d %s, want %d and %q", a.status, a.body, status, words)
		}
		if got := r.stands(p); got.State != ruleset.Unsigned || got.Signed != nil {
			t.Fatalf("it is %s", got.State)
		}
	}
	withdraw := func(p string) {
		b.post(publicationPage(p)+"/withdraw").sent(t, publicationPage(p)+"?done=policy-withdrawn")
	}

	var wrong []act.Way // proofs, and what was only of another page is none
	r.do.Wrong = func(w act.Way) { wrong = append(wrong, w) }
	t.Run("of another publication", func(t *testing.T) {
		p, page := fresh()
		other, otherPage := fresh()
		a := b.signature(b.asked(other, otherPage), 0)
		refused(t, p, b.signs(p, page, "put", a), 409, "was loaded again, or what it shows has changed")
		b.signs(other, otherPage, "leave", a).to(t)
		refused(t, p, b.signs(p, page, "put", a), 409, "")
		withdraw(p)
		withdraw(other)
	})
	t.Run("of another person", func(t *testing.T) {
		p, page := fresh()
		samPage := sam.get(publicationPage(p))
		samPage.shows(t, 200, "Sign policies")
		mine, theirs := b.asked(p, page), sam.asked(p, samPage)
		refused(t, p, b.signs(p, page, "put", sam.signature(theirs, 0)), 409, "was loaded again") // Sam's, sent by Dana
		b.auth, sam.auth, b.handle, sam.handle = sam.auth, b.auth, sam.handle, b.handle
		refused(t, p, b.signs(p, page, "put", b.signature(mine, 0)), 403, "belongs to another account") // Dana's challenge, Sam's passkey
		if !slices.Equal(wrong, []act.Way{act.WayPasskey}) {
			t.Errorf("remembered as %v", wrong)
		}
		b.auth, sam.auth, b.handle, sam.handle = sam.auth, b.auth, sam.handle, b.handle
		sam.signs(p, samPage, "leave", sam.signature(theirs, 0)).to(t)
		if a := b.signs(p, page, "put", b.signature(mine, 0)); a.status != 409 || !strings.Contains(a.body, "signed already") {
			t.Errorf("signed by somebody else meanwhile: %d %s", a.status, a.body)
		}
		if signed := b.get(publicationPage(p)); !strings.Contains(signed.body, "<strong><bdi>Sam</bdi></strong> signed it") {
			t.Error("the page does not say who signed")
		}
		withdraw(p)
	})
	t.Run("a sign-in, and a signature as one", func(t *testing.T) {
		p, page := fresh()
		for _, path := range []string{"/step-up/options", "/signin/options"} {
			refused(t, p, b.signs(p, page, "put", b.signature(b.script(path, map[string]any{"next": "/account"}), 0)), 409, "was loaded again")
		}
		signature := b.signature(b.asked(p, page), 0)
		for _, path := range []string{"/step-up/finish", "/signin/finish"} {
			if a := b.script(path, map[string]any{"next": "/account", "credential": signature}); a.status != 400 || !strings.Contains(a.body, "belongs to another page") {
				t.Errorf("%s took it: %d %s", path, a.status, a.body)
			}
		}
		b.signs(p, page, "leave", signature).to(t)
		withdraw(p)
	})
	t.Run("not the newest", func(t *testing.T) {
		p, page := fresh()
		old := b.signature(b.asked(p, page), 0)
		next := b.asked(p, b.get(publicationPage(p)))
		refused(t, p, b.signs(p, page, "put", old), 409, "was loaded again")
		b.signs(p, page, "leave", b.signature(next, 0)).to(t)
		withdraw(p)
	})
	t.Run("in another browser", func(t *testing.T) {
		p, page := fresh()
		a := b.signature(b.asked(p, page), 0)
		twin := r.browser()
		twin.auth, twin.handle = b.auth, b.handle
		twin.signIn(0).to(t)
		refused(t, p, twin.signs(p, page, "put", a), 409, "was loaded again")
		withdraw(p)
	})
	t.Run("too late", func(t *testing.T) {
		p, page := fresh()
		a := b.signature(b.asked(p, page), 0)
		r.clock.move(factor.ChallengeLifetime + time.Second)
		refused(t, p, b.signs(p, page, "put", a), 409, "was loaded again")
		withdraw(p)
	})
	t.Run("of another text", func(t *testing.T) {
		p, page := fresh()
		old := answer{body: `name="view" value="` + b64(make([]byte, 32)) + `"`}
		refused(t, p, b.asked(p, old), 409, "What this page shows has changed since.")
		refused(t, p, b.signs(p, old, "put", b.signature(b.asked(p, page), 0)), 409, "What this page shows has changed since.")
		withdraw(p)
	})
	t.Run("user not verified", func(t *testing.T) {
		p, page := fresh()
		o := b.asked(p, page)
		b.auth.Options.UserNotVerified = true
		a := b.signature(o, 0)
		b.auth.Options.UserNotVerified = false
		refused(t, p, b.signs(p, page, "put", a), 401, "could not be verified")
		withdraw(p)
	})
	t.Run("from another site", func(t *testing.T) {
		p, _ := fresh()
		for _, path := range []string{"/options", "/sign", "/put", "/withdraw"} {
			refused(t, p, b.send("POST", publicationPage(p)+path, "application/json", "{}", "Sec-Fetch-Site", "cross-site"), 403, "")
		}
		withdraw(p)
	})
	t.Run("withdrawn meanwhile", func(t *testing.T) {
		p, page := fresh()
		a := b.signature(b.asked(p, page), 0)
		withdraw(p)
		if got := b.signs(p, page, "put", a); got.status != 409 || !strings.Contains(got.body, "This is over") {
			t.Errorf("%d %s", got.status, got.body)
		}
		if a := b.asked(p, page); a.status != 409 {
			t.Errorf("asked for: %d %s", a.status, a.body)
		}
		b.get(publicationPage(p)).shows(t, 200, "Withdrawn")
		b.post(publicationPage(p)+"/withdraw").shows(t, 409, "Not done")
	})
	t.Run("over time", func(t *testing.T) {
		p, page := fresh()
		r.clock.move(ruleset.SubmittedLife)
		b.signIn(0).to(t)
		if a := b.asked(p, page); a.status != 409 || !strings.Contains(a.body, "This is over") {
			t.Errorf("%d %s", a.status, a.body)
		}
		b.get(publicationPage(p)).shows(t, 200, "Over")
		sam.signIn(0).to(t)
	})
	t.Run("by who may not", func(t *testing.T) {
		p, page := fresh()
		nora := r.browser()
		b.stepUp(0, "/account")
		nora.accept(b.invite("Nora", "", ""), "Nora", "nora").to(t)
		for _, a := range []answer{nora.get(publicationPage(p)), nora.get(publicationPage(p) + "/text"), nora.get("/admin/publications")} {
			a.shows(t, 403, "Not allowed")
		}
		a := b.signature(b.asked(p, page), 0)
		refused(t, p, nora.asked(p, page), 403, "")
		refused(t, p, nora.asked(p, answer{body: `name="view" value="x"`}), 403, "")
		refused(t, p, nora.signs(p, page, "put", a), 403, "")
		for _, id := range []string{p, "pub_none"} { // whether there is one is not said
			nora.post(publicationPage(id)+"/put").shows(t, 403, "Not allowed")
			nora.post(publicationPage(id)+"/withdraw").shows(t, 403, "Not allowed")
		}
		nora.post(publicationPage(p)+"/withdraw").shows(t, 403, "Not allowed")
		refused(t, p, answer{}, 0, "")
		withdraw(p)
	})
	t.Run("nobody could undo it", func(t *testing.T) {
		p := r.submit(locking(), dana, policy.KindPerson)
		page := b.get(publicationPage(p))
		page.shows(t, 200, "You can't sign this")
		if !strings.Contains(page.body, "Under these policies you could not publish others") || strings.Contains(page.body, "data-passkey") {
			t.Error("the page does not say why, or offers it all the same")
		}
		refused(t, p, b.asked(p, answer{body: `name="view" value="` + viewOf(b.get(publicationPage(p)+"/text").body) + `"`}), 409, "Under these policies you could not publish others")
		withdraw(p)
	})
	t.Run("another version came first", func(t *testing.T) {
		p, page := fresh()
		a := b.signature(b.asked(p, page), 0)
		src := stricter()
		r.seed(audit.PolicyPublished, act.Change(ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, By: dana, Of: ruleset.NoVersion}}))
		if got := b.signs(p, page, "put", a); got.status != 409 || !strings.Contains(got.body, "Another version of the policies came into force") {
			t.Errorf("%d %s", got.status, got.body)
		}
		moved := b.get(publicationPage(p))
		moved.shows(t, 200, "Overtaken")
		if !strings.Contains(moved.body, "Version <bdi>1</bdi> is in force by now") {
			t.Error("the page does not say by which")
		}
	})
	if list, err := r.store.Rulesets(t.Context(), 0, 9); err != nil || len(list) != 1 {
		t.Errorf("in force came %d versions, %v", len(list), err)
	}
	b.get(publicationPage("pub_none")).shows(t, http.StatusNotFound, "")
}

// Whoever has no passkey that counts is told so, and how to have one; one that was added to
// an account without counts a day later, which the page says, too.
func TestSigningNeedsAPasskey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.deployed()
	b := r.browser()
	app := b.setUpTyped()
	one := r.submit(stricter(), r.person("dana@example.com").ID, policy.KindPerson)
	says := func(words ...string) {
		t.Helper()
		page := b.get(publicationPage(one))
		page.shows(t, 200, "You can't sign this")
		for _, w := range words {
			if !strings.Contains(page.body, w) {
				t.Errorf("the page does not say %q", w)
			}
		}
		if strings.Contains(page.body, "data-passkey") {
			t.Error("it offers what cannot be done")
		}
	}
	says("You have no passkey that counts for this.", "/account/passkeys/add")
	r.clock.move(time.Minute) // a newcomer's first passkey counts at once
	b.post("/signout/here")
	b.signInTyped(app, "dana@example.com", phrase)
	b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": "Laptop"}).to(t)
	says("Your passkey was added a short time ago, and counts for this from ")
	if a := b.asked(one, answer{body: `name="view" value="` + viewOf(b.get(publicationPage(one)+"/text").body) + `"`}); a.status != 403 || !strings.Contains(a.body, "no passkey that counts") {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.clock.move(factor.Probation)
	b.signIn(0).to(t)
	page := b.get(publicationPage(one))
	page.shows(t, 200, "Over") // it waited for a day
	two := r.submit(stricter(), r.person("dana@example.com").ID, policy.KindPerson)
	page = b.get(publicationPage(two))
	b.signs(two, page, "put", b.signature(b.asked(two, page), 0)).to(t)
	if p := r.stands(two); p.State != ruleset.CarriedOut {
		t.Errorf("%+v", p)
	}
}

func viewOf(text string) string {
	h := factor.ViewHash(text)
	return b64(h[:])
}
