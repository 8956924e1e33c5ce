package portal_test

import (
	"context"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

// met stores a client that nobody registered, as a person's agreement would.
func (r *rig) met(source client.Source, group, name, person string) client.Client {
	r.t.Helper()
	c := client.Client{
		ID: id.New(id.Client), ClientID: "https://" + group + "/c.json", Name: name, AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.AuthorizationCode},
		RedirectURIs: []string{"http://127.0.0.1/cb"}, Scopes: []string{}, Resources: []string{}, CreatedAt: r.clock.now(), Origin: client.Origin{Source: source, Group: group},
	}
	if source == client.FromItself {
		c.ClientID = id.New(client.DynamicPrefix)
	}
	agreed := grant.Consent{ID: id.New("cns_"), Person: person, Client: c.ID, Resources: []string{}, Scopes: []string{"openid"}, At: r.clock.now()}
	r.seed(audit.ConsentGiven, client.Create{Client: c}, grant.Remember{Consent: agreed})
	return c
}

var changeLinks = regexp.MustCompile(`href="(/admin/apps/change\?[^"]+)"`)

// does follows the link of a page that does something, and confirms it.
func (b *browser) does(page, what string) answer {
	b.t.Helper()
	for _, m := range changeLinks.FindAllStringSubmatch(b.get(page).body, -1) {
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil || u.Query().Get("do") != what {
			continue
		}
		asks := b.get(u.String())
		if asks.status != 200 {
			b.t.Fatalf("%s: %d %s", u, asks.status, asks.location)
		}
		var pairs []string
		for name, v := range u.Query() {
			pairs = append(pairs, name, v[0])
		}
		return b.post("/admin/apps/change", pairs...)
	}
	b.t.Fatalf("%s has no link to %s", page, what)
	return answer{}
}

func TestApps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	sam.accept(dana.invite("Sam", "", ""), "Sam", "sam").to(t)
	who := r.person("sam").ID
	ctx := context.Background()

	r.seed(audit.ClientsAdmitted, client.SetOpenness{Openness: client.Openness{Documents: client.Listed, Registration: true, Resources: []string{"*"}, Scopes: []string{"notes:read"}}})
	doc := r.met(client.FromDocument, "editor.example.com", "Editor", who)
	print := strings.Repeat("f", 43)
	one, two := r.met(client.FromItself, print, "Command line", who), r.met(client.FromItself, print, "Command line", who)

	list := dana.get("/admin/apps")
	list.shows(t, 200, "Apps nobody registered")
	for _, said := range []string{"Editor", "Describes itself at editor.example.com", "Command line", print[:10], "notes:read, at any API but this server", "Apps may register themselves."} {
		if !strings.Contains(list.body, said) {
			t.Errorf("the list does not say %q", said)
		}
	}
	editor := "/admin/apps/group?" + url.Values{"source": {"document"}, "group": {"editor.example.com"}}.Encode()
	if page := dana.get(editor); !strings.Contains(page.body, "Sam") || !strings.Contains(page.body, "openid") {
		t.Error("the page does not say who uses it, and what for")
	}
	itself := "/admin/apps/group?" + url.Values{"source": {"dynamic"}, "group": {print}}.Encode()

	// A block stops all of a group at once, and taking it back lets them go on.
	dana.does(itself, "block").sent(t, "/admin/apps?done=app-blocked")
	if r.live(one.ID) || r.live(two.ID) || !r.live(doc.ID) {
		t.Error("a block stops another group, or not all of its own")
	}
	if page := dana.get(itself); strings.Count(page.body, "Stands still") != 2 || strings.Contains(page.body, "do=block") {
		t.Error("the page does not say that they stand still")
	}
	dana.does(itself, "forget").sent(t, "/admin/apps?done=app-judged")
	if !r.live(one.ID) || !r.live(two.ID) {
		t.Error("they do not go on")
	}
	// A domain is trusted, which a group of registrations never is.
	dana.does(editor, "trust").sent(t, "/admin/apps?done=app-judged")
	rules, err := r.store.Rules(ctx)
	check(t, err)
	if len(rules) != 1 || rules[0].Trust != client.Trusted || rules[0].Group != "editor.example.com" || rules[0].Name != "Editor" {
		t.Errorf("%+v", rules)
	}
	if a := dana.post("/admin/apps/change", "do", "trust", "source", "dynamic", "group", print); a.status != 400 {
		t.Errorf("a group of registrations is trusted: %d", a.status)
	}
	// Removing ends one, and not its twin.
	dana.does(itself, "remove").sent(t, "/admin/apps?done=app-removed")
	if r.live(two.ID) || !r.live(one.ID) {
		t.Error("another than the newest was removed")
	}
	// A description is pinned and unpinned.
	dana.get("/admin/apps/change?do=pin").shows(t, 200, "Pin the description")
	dana.post("/admin/apps/change", "do", "pin", "document", "{}").shows(t, 200, "Check your answer")
	dana.post("/admin/apps/change", "do", "pin", "document", "x").shows(t, 200, "Check your answer")
	const wiki = "https://wiki.example.com/c.json"
	dana.post("/admin/apps/change", "do", "pin", "document", `{"client_id":"`+wiki+`","client_name":"Wiki","redirect_uris":["https://wiki.example.com/cb"]}`).sent(t, "/admin/apps?done=app-pinned")
	if d, err := r.store.Document(ctx, wiki); err != nil || !strings.Contains(string(d.Body), "Wiki") {
		t.Errorf("%s, %v", d.Body, err)
	}
	if !strings.Contains(dana.get("/admin/apps").body, "Wiki") {
		t.Error("the list does not say what is pinned")
	}
	dana.does("/admin/apps", "unpin").sent(t, "/admin/apps?done=app-unpinned")
	if _, err := r.store.Document(ctx, wiki); problem.CodeOf(err) != "document_not_found" {
		t.Errorf("it is still pinned: %v", err)
	}
	for _, k := range []audit.Kind{audit.ClientRuleSet, audit.ClientEnded, audit.ClientPinned, audit.ClientUnpinned} {
		if !slices.Contains(r.kinds(), k) {
			t.Errorf("no record of %s", k)
		}
	}
	if log := dana.get("/admin/audit?q=Command+line"); !strings.Contains(log.body, "Command line: blocked") {
		t.Error("the log does not say who was blocked")
	}
}

// Who is no administrator sees and changes nothing, an administrator proves it anew,
// and what an administrator registered is not to be had here.
func TestAppsAreForAdministrators(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	sam.accept(dana.invite("Sam", "", ""), "Sam", "sam").to(t)
	app := r.met(client.FromItself, strings.Repeat("f", 43), "App", r.person("sam").ID)
	own := r.grant("sam")
	for _, path := range []string{"/admin/apps", "/admin/apps/group?source=dynamic&group=" + app.Group, "/admin/apps/change?do=remove&client=" + app.ID, "/admin/apps/change?do=pin"} {
		if a := sam.get(path); a.status != 403 || strings.Contains(a.body, "App<") {
			t.Errorf("%s tells somebody: %d", path, a.status)
		}
	}
	if a := sam.post("/admin/apps/change", "do", "remove", "client", app.ID); a.status != 403 || !r.live(app.ID) {
		t.Errorf("somebody removes an app: %d", a.status)
	}
	for _, path := range []string{"/admin/apps/group?source=&group=", "/admin/apps/group?source=document&group=*.com", "/admin/apps/change?do=x", "/admin/apps/change?do=remove&client=" + own.Client, "/admin/apps/change?do=unpin&client=x"} {
		if a := dana.get(path); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := dana.post("/admin/apps/change", "do", "remove", "client", own.Client); a.status != 404 || !r.live(own.Client) {
		t.Errorf("a registered client is removed: %d", a.status)
	}
	r.clock.move(16 * time.Minute)
	dana.get("/admin/apps").shows(t, 200, "Apps nobody registered")
	dana.get("/admin/apps/change?do=remove&client="+app.ID).sent(t, "/step-up?")
	dana.post("/admin/apps/change", "do", "remove", "client", app.ID).sent(t, "/step-up?")
	if !r.live(app.ID) {
		t.Error("removed by an old sign-in")
	}
}
