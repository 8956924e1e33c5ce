package oauth

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
)

// What was registered when an interaction began, or a grant was given, and was
// taken back since, is not given any more.
func TestRegistrationTakenBack(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	app := r.app
	app.RedirectURIs = append([]string{"https://old.example.com/cb"}, r.app.RedirectURIs...)
	app.Native = false
	r.do(audit.ClientUpdated, client.Update{Client: app})
	begin := func() string {
		t.Helper()
		r.clock.move(time.Second)
		name, ref := r.authorize(r.request(app, "prompt", "login"), in(r.ses)).page(t)
		if name != "step_up" {
			t.Fatal(name)
		}
		r.prove(ref, false)
		return ref
	}
	// The control: unchanged, it is answered.
	if to := r.resume(begin()).to(t); to.Host != "old.example.com" || to.Query().Get("code") == "" {
		t.Fatalf("the control is not answered: %s", to)
	}
	for what, edit := range map[string]func(*client.Client){
		"the redirect URI": func(c *client.Client) { c.RedirectURIs = r.app.RedirectURIs },
		"the scope":        func(c *client.Client) { c.Scopes = []string{"notes:write"} },
		"the resource":     func(c *client.Client) { c.Resources = []string{r.bound.ID} },
	} {
		ref := begin()
		c := app
		edit(&c)
		r.do(audit.ClientUpdated, client.Update{Client: c})
		if a := r.resume(ref); a.status == 303 || strings.Contains(a.header.Get("Location"), "code=") {
			t.Errorf("%s was taken back, and the answer is %d to %s", what, a.status, a.header.Get("Location"))
		}
		q := r.authorize(r.request(c, "prompt", "none", "redirect_uri", r.app.RedirectURIs[0]), in(r.ses))
		if what != "the redirect URI" && !strings.Contains(q.header.Get("Location"), "error=") {
			t.Errorf("%s: a new request is answered %s", what, q.header.Get("Location"))
		}
		r.do(audit.ClientUpdated, client.Update{Client: app})
	}

	// A refresh gives what the client is registered for now, and nothing else.
	tok := r.granted(app, "scope", "openid notes:read notes:write", "redirect_uri", "https://old.example.com/cb")
	narrow := app
	narrow.Scopes = []string{"notes:read"}
	r.do(audit.ClientUpdated, client.Update{Client: narrow})
	next := r.tokens(r.refresh(app, tok.RefreshToken))
	if got := strings.Fields(next.Scope); !slices.Equal(got, []string{"openid", "notes:read"}) {
		t.Errorf("after the registration was narrowed a refresh gives %v", got)
	}
	narrow.Resources = []string{r.bound.ID}
	r.do(audit.ClientUpdated, client.Update{Client: narrow})
	if a := r.refresh(app, next.RefreshToken); a.status != 400 || a.json(t)["error"] != "invalid_target" {
		t.Errorf("a refresh for a resource that was taken back: %d %s", a.status, a.body)
	}
	r.do(audit.ClientUpdated, client.Update{Client: app})
	r.tokens(r.refresh(app, next.RefreshToken)) // refused, it was not spent
}

// A client that acts as a service introspects for as long as the service, and
// who answers for it, may act.
func TestIntrospectionOfAServiceThatIsOff(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	rs := r.notes
	rs.Servers = append(rs.Servers, r.svc.ID)
	r.do(audit.ResourceUpdated, resource.Update{Resource: rs})
	tok := r.granted(r.app)
	ask := func() answer {
		return r.post("/oauth/introspect", form("token", tok.AccessToken, "client_id", r.svc.ClientID, "client_secret", r.svcSecret))
	}
	if a := ask(); a.json(t)["active"] != true {
		t.Fatalf("the control: %d %s", a.status, a.body)
	}
	for what, node := range map[string]string{"the owner": r.other.ID, "the service": r.service.ID, "the client": r.svc.ID} {
		r.do(audit.PersonDisabled, lineage.Freeze{ID: node, Why: "test"})
		if a := ask(); a.status != 401 || a.json(t)["error"] != "invalid_client" {
			t.Errorf("%s is frozen: %d %s", what, a.status, a.body)
		}
		r.do(audit.PersonEnabled, lineage.Thaw{ID: node})
		if a := ask(); a.json(t)["active"] != true {
			t.Errorf("%s is thawed: %d %s", what, a.status, a.body)
		}
	}
}

// Consent to a scope at one resource says nothing of another's scope of the same
// name, however the consents add up.
func TestConsentIsPerResource(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	scopes := []resource.Scope{{Name: "read", Kind: "read"}, {Name: "write", Kind: "change"}}
	a := resource.Resource{ID: id.New(id.Resource), URI: "https://a.example.com", Name: "A", Scopes: scopes}
	b := resource.Resource{ID: id.New(id.Resource), URI: "https://b.example.com", Name: "B", Scopes: scopes}
	c := r.plain
	c.Scopes, c.Resources = []string{"read", "write"}, []string{a.ID, b.ID}
	r.do(audit.ClientUpdated, resource.Create{Resource: a}, resource.Create{Resource: b}, client.Update{Client: c})
	agreed := grant.Consent{
		ID: id.New("cns_"), Person: r.person.ID, Client: c.ID, Resources: []string{a.ID, b.ID},
		Scopes: []string{grant.Agreed(a.ID, "read"), grant.Agreed(b.ID, "write")}, At: r.clock.now(),
	}
	r.do(audit.ConsentGiven, grant.Remember{Consent: agreed})
	for _, tt := range []struct {
		at    resource.Resource
		scope string
		asked bool
	}{{a, "read", false}, {b, "write", false}, {a, "write", true}, {b, "read", true}, {a, "read write", true}} {
		got := r.authorize(r.request(c, "scope", tt.scope, "resource", tt.at.URI), in(r.ses)).to(t)
		if asked := strings.HasPrefix(got.Path, "/page/consent"); asked != tt.asked {
			t.Errorf("%s at %s: asked %v, want %v (%s)", tt.scope, tt.at.Name, asked, tt.asked, got)
		}
	}
	have, err := r.nodes[0].store.Consent(context.Background(), r.person.ID, c.ID)
	ok(t, err)
	if have.ID != agreed.ID {
		t.Error("another consent was read")
	}
}
