package portal_test

import (
	"context"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
)

// grant gives an app access under a person's newest session.
func (r *rig) grant(username string) grant.Grant {
	r.t.Helper()
	ctx := context.Background()
	p := r.person(username)
	sessions, err := r.store.SessionsOf(ctx, p.ID)
	check(r.t, err)
	cl := client.Client{ID: id.New(id.Client), ClientID: id.New("client_"), Name: "countersign (command line)", AuthMethod: client.AuthNone, ManagedBy: "built-in"}
	res := resource.Resource{ID: id.New(id.Resource), URI: "https://" + strings.ToLower(id.New("n")) + ".example", Name: "Notes"}
	g := grant.Grant{
		ID: id.New(id.Grant), Person: p.ID, Client: cl.ID, Session: sessions[0].ID, Resources: []string{res.ID}, Scopes: []string{"notes:read"},
		Proofs: sessions[0].Proofs, CreatedAt: r.clock.now(), ExpiresAt: r.clock.now().Add(30 * 24 * time.Hour),
	}
	r.seed(audit.GrantOpened, client.Create{Client: cl}, resource.Create{Resource: res}, grant.Open{Grant: g})
	return g
}

// live reports whether a node and all it descends from are.
func (r *rig) live(id string) bool {
	r.t.Helper()
	nodes, err := r.store.Ancestors(context.Background(), id)
	check(r.t, err)
	_, ended := lineage.FirstEnded(nodes)
	return !ended
}

var ends = regexp.MustCompile(`href="(/account/end\?id=[^"]+)"`)

// ending is the page that asks before the thing whose id has the prefix ends.
func (b *browser) ending(prefix string) string {
	b.t.Helper()
	for _, m := range ends.FindAllStringSubmatch(b.get("/account/sessions").body, -1) {
		if strings.Contains(m[1], prefix) {
			return html.UnescapeString(m[1])
		}
	}
	b.t.Fatalf("nothing that begins with %s can be ended", prefix)
	return ""
}

func idOf(page string) string { return page[strings.IndexByte(page, '=')+1:] }

func TestSessionTree(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	g := r.grant("dana@example.com")
	page := b.get("/account/sessions")
	page.shows(t, 200, "Sessions")
	for _, want := range []string{"Dana Example", "Firefox on Linux", "This session", "countersign (command line)", "Notes", "notes:read", "passkey, verified", "198.51.100.0/24"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the tree lacks %q", want)
		}
	}
	asks := b.get(b.ending("gnt_"))
	asks.shows(t, 200, "End the access of “countersign (command line)”?")
	if !r.live(g.ID) {
		t.Fatal("asking ended it")
	}
	b.post("/account/end", "id", g.ID).sent(t, "/account/sessions?done=ended")
	if r.live(g.ID) || !r.live(g.Session) {
		t.Error("the grant lives, or its session does not")
	}
	if page = b.get("/account/sessions?done=ended"); strings.Contains(page.body, "gnt_") || !strings.Contains(page.body, "Ended.") {
		t.Error("the grant is still shown")
	}
	b.get("/account/end?id="+g.ID).shows(t, 200, "Already ended")
	b.post("/account/end", "id", g.ID).sent(t, "/account/end?id="+g.ID)

	// Ending the own session ends what hangs below it, and signs out.
	g = r.grant("dana@example.com")
	b.post("/account/end", "id", g.Session).sent(t, "/signed-out")
	if r.live(g.ID) || r.live(g.Session) {
		t.Error("something survived its session")
	}
	b.get("/account").sent(t, "/signin?next=%2Faccount")
	b.get("/signed-out").shows(t, 200, "Done – You're signed out")

	// A device, and everything.
	b.signIn(0).to(t)
	g = r.grant("dana@example.com")
	device := b.ending("dev_")
	b.get(device).shows(t, 200, "End everything on “Firefox on Linux”?")
	b.post("/account/end", "id", idOf(device)).sent(t, "/signed-out")
	if r.live(g.ID) {
		t.Error("a grant survived its device")
	}
	b.signIn(0).to(t)
	other := r.browser()
	other.auth, other.handle = b.auth, b.handle
	other.signIn(0).to(t)
	g = r.grant("dana@example.com")
	all := b.ending("usr_")
	b.get(all).shows(t, 200, "End everything you started?")
	b.post("/account/end", "id", idOf(all)).sent(t, "/signed-out")
	if r.live(g.ID) {
		t.Error("a grant survived everything")
	}
	other.get("/account").sent(t, "/signin")
	if !r.live(r.person("dana@example.com").ID) {
		t.Error("the person ended")
	}
	for _, k := range []audit.Kind{audit.GrantEnded, audit.SessionEnded, audit.DeviceEnded} {
		if !slices.Contains(r.kinds(), k) {
			t.Errorf("no record of %s", k)
		}
	}
}

// TestEndOnlyOnesOwn: what is another's looks like nothing, and stays.
func TestEndOnlyOnesOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	sam.accept(dana.invite("Sam", "", "administrator"), "Sam", "sam").to(t)
	g := r.grant("dana@example.com")
	device := idOf(dana.ending("dev_"))
	key, err := r.store.PasskeysOf(context.Background(), g.Person)
	check(t, err)
	for _, ref := range []string{g.ID, g.Session, device, g.Person, "ses_nothing", ""} {
		sam.get("/account/end?id="+ref).shows(t, 404, "Not found")
		sam.post("/account/end", "id", ref).shows(t, 404, "Not found")
	}
	sam.get("/account/passkeys/remove?id="+key[0].ID).shows(t, 404, "Not found")
	sam.post("/account/passkeys/remove", "id", key[0].ID).shows(t, 404, "Not found")
	sam.post("/account/passkeys/rename", "id", key[0].ID, "passkey_name", "mine").shows(t, 404, "Not found")
	if !r.live(g.ID) || !r.live(key[0].ID) {
		t.Error("something of somebody else was ended")
	}
}

func TestPasskeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	dana := r.person("dana@example.com")
	keys := func() (names []string, ids []string) {
		all, err := r.store.PasskeysOf(context.Background(), dana.ID)
		check(t, err)
		for _, k := range all {
			names, ids = append(names, k.Name), append(ids, k.ID)
		}
		return names, ids
	}
	page := b.get("/account/passkeys")
	page.shows(t, 200, "Passkeys")
	if !strings.Contains(page.body, "This is your only passkey") || !strings.Contains(page.body, b64(b.auth.Credentials[0].ID)) {
		t.Error("the page does not warn, or does not tell the password manager which passkeys exist")
	}
	_, ids := keys()
	b.get("/account/passkeys/remove?id="+ids[0]).shows(t, 200, "Not possible")
	b.post("/account/passkeys/remove", "id", ids[0]).sent(t, "/account/passkeys/remove?id=")
	if !r.live(ids[0]) {
		t.Fatal("the last passkey was removed")
	}
	b.post("/account/passkeys/rename", "id", ids[0], "passkey_name", "Work laptop").sent(t, "/account/passkeys?done=passkey-renamed")
	b.post("/account/passkeys/rename", "id", ids[0], "passkey_name", strings.Repeat("x", 61)).shows(t, 200, "Passkeys")
	if names, _ := keys(); names[0] != "Work laptop" {
		t.Errorf("it is called %s", names[0])
	}

	// Adding one needs a proof from the last five minutes.
	r.clock.move(5*time.Minute + time.Second)
	to := b.get("/account/passkeys/add").sent(t, "/step-up?")
	if !strings.Contains(to, "next=%2Faccount%2Fpasskeys%2Fadd") {
		t.Errorf("the step-up leads to %s", to)
	}
	if got := b.script("/account/passkeys/options", map[string]any{"passkey_name": "x"}).failed(t); !strings.Contains(got, "too long ago") {
		t.Error(got)
	}
	b.stepUp(0, "/account/passkeys/add")
	b.get("/account/passkeys/add").shows(t, 200, "Add a passkey")
	if to := b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"then": "", "passkey_name": "Phone"}).to(t); to != "/account/passkeys?done=passkey-added" {
		t.Errorf("on to %s", to)
	}
	names, ids := keys()
	if !slices.Equal(names, []string{"Work laptop", "Phone"}) {
		t.Errorf("%v", names)
	}
	// The same answer again adds nothing.
	o := b.script("/account/passkeys/options", map[string]any{"passkey_name": "x"})
	_, made := b.attest(o)
	again := map[string]any{"passkey_name": "Third", "credential": made, "then": "https://evil.example"}
	if to := b.script("/account/passkeys/finish", again).to(t); to != "/account/passkeys?done=passkey-added" {
		t.Errorf("on to %s", to)
	}
	if got := b.script("/account/passkeys/finish", again).failed(t); !strings.Contains(got, "already") {
		t.Error(got)
	}
	// A challenge that was made in another browser does nothing here.
	other := r.browser()
	other.auth, other.handle = b.auth, b.handle
	other.signIn(1).to(t)
	_, made = other.attest(other.script("/account/passkeys/options", map[string]any{"passkey_name": "x"}))
	if got := b.script("/account/passkeys/finish", map[string]any{"passkey_name": "x", "credential": made}).failed(t); !strings.Contains(got, "another page or browser") {
		t.Error(got)
	}

	// Removing one ends what was begun with it.
	g := r.grant("dana@example.com") // under the other browser's session, begun with the phone
	asks := b.get("/account/passkeys/remove?id=" + ids[1])
	asks.shows(t, 200, "Remove “Phone”?")
	if !strings.Contains(asks.body, "1 session and 1 app") {
		t.Error("the page does not say what ends")
	}
	b.post("/account/passkeys/remove", "id", ids[1]).sent(t, "/account/passkeys?done=passkey-removed")
	if r.live(ids[1]) || r.live(g.ID) {
		t.Error("the passkey, or what was begun with it, lives")
	}
	other.get("/account").sent(t, "/signin")
	if a := other.signIn(1); a.status != 401 {
		t.Errorf("a removed passkey signs in: %d %s", a.status, a.body)
	}
	if k := r.kinds(); !slices.Contains(k, audit.FactorRemoved) || !slices.Contains(k, audit.FactorRenamed) {
		t.Errorf("records: %v", k)
	}
	// Removing the one that this session was begun with signs out.
	_, ids = keys()
	b.post("/account/passkeys/remove", "id", ids[0]).sent(t, "/signed-out")
}

// TestStaleFormsChangeNothing: a proof older than five minutes changes no
// passkey, whatever the session did meanwhile.
func TestStaleFormsChangeNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": "Phone"}).to(t)
	all, err := r.store.PasskeysOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	f := map[string]any{"passkey_name": "x"}
	_, made := b.attest(b.script("/account/passkeys/options", f))
	f["credential"] = made
	r.clock.move(4 * time.Minute)
	b.get("/account")
	r.clock.move(time.Minute + time.Second)
	b.post("/account/passkeys/remove", "id", all[0].ID).sent(t, "/step-up?")
	b.post("/account/passkeys/rename", "id", all[0].ID, "passkey_name", "x").sent(t, "/step-up?")
	if a := b.script("/account/passkeys/finish", f); a.status == 200 {
		t.Errorf("a stale proof added a passkey: %s", a.body)
	}
	after, err := r.store.PasskeysOf(context.Background(), all[0].Person)
	if err != nil || len(after) != 2 || after[0].Name != "Laptop" {
		t.Errorf("%d passkeys, the first is %s, %v", len(after), after[0].Name, err)
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	g := r.grant("dana@example.com")
	page := b.get("/signout")
	page.shows(t, 200, "Sign out")
	if !strings.Contains(page.body, "1 session") || !strings.Contains(page.body, "1 app") {
		t.Error("the page does not say what ends")
	}
	out := b.post("/signout/here")
	out.sent(t, "/signed-out")
	if !slices.ContainsFunc(out.cookies, func(c *http.Cookie) bool { return c.Name == "cs_session" && c.MaxAge < 0 }) {
		t.Error("the cookie stays")
	}
	b.get("/account").sent(t, "/signin")
	if !r.live(g.ID) {
		t.Error("signing this browser out ended an app")
	}
	b.post("/signout/here").sent(t, "/signed-out") // again
	b.post("/signout/here", "next", "https://evil.example/").sent(t, "/signed-out")
	b.post("/signout/here", "next", "//evil.example/").sent(t, "/signed-out")

	b.signIn(0).to(t)
	tree := b.get("/account/sessions")
	if !strings.Contains(tree.body, "signed out") || !strings.Contains(tree.body, g.ID) {
		t.Error("what goes on below a session that was signed out is not shown")
	}
	b.post("/signout/everything").sent(t, "/signed-out")
	if r.live(g.ID) {
		t.Error("an app survived")
	}
	b.get("/account").sent(t, "/signin")
	b.post("/signout/everything").sent(t, "/signed-out")
}

func TestActivity(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	page := b.get("/account/activity")
	page.shows(t, 200, "Activity")
	if !strings.Contains(page.body, "Dana Example completed the setup and became the first administrator.") {
		t.Errorf("the setup is not in it: %s", page.body)
	}
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	if page := sam.get("/account/activity"); strings.Contains(page.body, "setup") || !strings.Contains(page.body, "Sam accepted an invitation.") {
		t.Error("somebody sees what was done by others, or not what they did")
	}
	all, err := r.store.PasskeysOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	for range 51 {
		b.post("/account/passkeys/rename", "id", all[0].ID, "passkey_name", "again").sent(t, "/account/passkeys?")
	}
	page = b.get("/account/activity")
	m := regexp.MustCompile(`href="(/account/activity\?before=[^"]+)"`).FindStringSubmatch(page.body)
	if m == nil {
		t.Fatal("no older page")
	}
	if older := b.get(m[1]); !strings.Contains(older.body, "completed the setup") || !strings.Contains(older.body, "Show newer") {
		t.Error("the older page is another")
	}
	b.get("/account/activity?before=rec_0").shows(t, 200, "Empty")
}

// TestConfirmationsEnd: each page and form that asks to confirm does so twice in
// five minutes for one kind of act, and then says when to come back (mechanisms
// A15). What was confirmed is not asked again.
func TestConfirmationsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	dana := r.person("dana@example.com")
	keys, err := r.store.PasskeysOf(t.Context(), dana.ID)
	check(t, err)
	counted := 0
	for _, pattern := range r.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		if strings.HasPrefix(path, "/step-up") || strings.HasPrefix(path, "/signout") || strings.HasPrefix(path, "/switch") || strings.HasPrefix(path, "/recover") {
			continue
		}
		r.clock.move(6 * time.Minute) // the proof is too old, and what was counted before too
		b.get("/account")             // the session is in use
		ask := func() answer {
			if method == "GET" {
				return b.get(strings.TrimSuffix(path, "{$}") + "?id=" + keys[0].ID)
			}
			return b.post(path, "id", keys[0].ID, "display_name", "Sam", "passkey_name", "x")
		}
		if a := ask(); a.status != 303 || !strings.HasPrefix(a.location, "/step-up?next=") {
			continue // asks for nothing, or of the script
		}
		counted++
		ask().sent(t, "/step-up?next=")
		a := ask()
		a.shows(t, 429, "Too many attempts")
		if !strings.Contains(a.body, "asked twice") || !strings.Contains(a.body, "try again") {
			t.Errorf("%s: the page does not say why or until when: %s", pattern, a.body)
		}
		r.clock.move(5*time.Minute + time.Second)
		ask().sent(t, "/step-up?next=")
		b.stepUp(0, "/account")
		for range 3 {
			if a := ask(); strings.HasPrefix(a.location, "/step-up") || a.status == 429 {
				t.Errorf("%s: asked again right after it was confirmed: %d", pattern, a.status)
			}
		}
	}
	if counted < 5 {
		t.Errorf("only %d routes ask to confirm", counted)
	}
	lines, _, err := r.server.Log.Page(t.Context(), dana.ID, "", 50)
	check(t, err)
	if !slices.ContainsFunc(lines, func(l audit.Line) bool { return l.Kind == audit.StepUpAsked && l.Refused }) {
		t.Error("no record that it was asked too often")
	}
}

// TestExceptionsAreSeen: whom an exception concerns sees it, with why, who answers
// for it and what is asked instead, until it ends; others do not.
func TestExceptionsAreSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	src := policy.Default()
	src.Exceptions = []policy.Exception{
		{ID: "one", Rule: "risk.high", For: r.person("dana@example.com").ID, Owner: "security", Reason: "The key was lost.", Rung: 2, MaxAge: 3600, Until: r.clock.now().Add(5 * time.Minute)},
		{ID: "two", Rule: "admin.write", For: "group:administrators", Owner: "ops", Reason: "The night shift.", Rung: 3, MaxAge: 7200, Until: r.clock.now().Add(3 * time.Hour)},
	}
	set, err := policy.Compile(src)
	check(t, err)
	r.do.Policy = set
	page := b.get("/account")
	for _, s := range []string{"Exceptions that concern you", "The key was lost.", "Much here is unusual", "a two-factor sign-in from the last hour", "For you alone", "Until <time", "The night shift.", "For everybody in"} {
		if !strings.Contains(page.body, s) {
			t.Errorf("%q is not shown", s)
		}
	}
	if page := sam.get("/account"); strings.Contains(page.body, "Exceptions") {
		t.Error("somebody sees the exceptions of others")
	}
	r.clock.move(6 * time.Minute)
	if page := b.get("/account"); strings.Contains(page.body, "The key was lost.") || !strings.Contains(page.body, "The night shift.") {
		t.Error("one that ended is shown, or one that did not is not")
	}
}
