package admin_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
)

// TestAdmissions: which clients may be used that nobody registered, what is said of
// their domains, and which documents are kept.
func TestAdmissions(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/resources", object{"uri": "https://mcp.example.com", "scopes": []object{{"name": "tools:call"}}}), 201, "")
	off := object{"metadata_documents": "off", "dynamic_registration": false, "resources": []any{}, "scopes": []any{}}
	if d := cmp.Diff(off, r.want(l.do("GET", "/v1/client-admission", nil), 200, "").body); d != "" {
		t.Errorf("at first: %s", d)
	}
	on := object{"metadata_documents": "listed", "dynamic_registration": true, "resources": []any{"https://mcp.example.com"}, "scopes": []any{"*"}}
	if d := cmp.Diff(on, r.want(l.do("PUT", "/v1/client-admission", on), 200, "").body); d != "" {
		t.Errorf("set: %s", d)
	}
	l.logged("clients.admitted", "Name of dana changed which applications may be used that nobody registered")
	for code, body := range map[string]object{
		"resource_reserved": {"metadata_documents": "any", "dynamic_registration": false, "resources": []string{issuer + "/v1"}, "scopes": []string{}},
		"resource_unknown":  {"metadata_documents": "any", "dynamic_registration": false, "resources": []string{"https://nothing.example"}, "scopes": []string{}},
		"scope_invalid":     {"metadata_documents": "any", "dynamic_registration": false, "resources": []string{}, "scopes": []string{"a b"}},
	} {
		r.want(l.do("PUT", "/v1/client-admission", body), 400, code)
	}

	// A block stops what is stored, and its end lets it go on.
	app := client.Client{
		ID: id.New(id.Client), ClientID: "https://app.example.com/c", Name: "App", AuthMethod: client.AuthNone, RedirectURIs: []string{"https://app.example.com/cb"},
		GrantTypes: []client.GrantType{client.AuthorizationCode}, ManagedBy: "document", Origin: client.Origin{Source: client.FromDocument, Group: "app.example.com", Digest: "d"},
	}
	r.seed("", client.Create{Client: app})
	state := func() any { return r.want(l.do("GET", "/v1/clients/"+app.ID, nil), 200, "").body["state"] }
	for _, c := range []struct{ group, trust, state string }{
		{"app.example.com", "allowed", "active"},
		{"app.example.com", "blocked", "disabled"},
		{"app.example.com", "none", "active"},
		{"*.example.com", "blocked", "disabled"},
		{"*.example.com", "trusted", "active"},
	} {
		r.want(l.do("PUT", "/v1/client-rules", object{"kind": "domain", "group": c.group, "trust": c.trust, "name": "App"}), 200, "")
		if s := state(); s != c.state {
			t.Errorf("%s %s: the client is %s", c.group, c.trust, s)
		}
	}
	l.logged("client.rule_set", "Name of dana decided about App: trusted")
	rules := r.want(l.do("GET", "/v1/client-rules", nil), 200, "").body["items"].([]any)
	if len(rules) != 1 || rules[0].(object)["group"] != "*.example.com" || rules[0].(object)["trust"] != "trusted" {
		t.Errorf("%v", rules)
	}
	r.want(l.do("PUT", "/v1/client-rules", object{"kind": "domain", "group": "example", "trust": "blocked"}), 400, "domain_invalid")
	r.want(l.do("PUT", "/v1/client-rules", object{"kind": "registration", "group": strings.Repeat("x", 43), "trust": "trusted"}), 400, "trust_invalid")
	r.want(l.do("PUT", "/v1/client-rules", object{"kind": "registration", "group": "x", "trust": "blocked"}), 400, "group_invalid")

	// It says itself what it is; it can be ended.
	b := r.want(l.do("GET", "/v1/clients/"+app.ID, nil), 200, "")
	if b.body["client_id"] != app.ClientID || b.body["group"] != "app.example.com" || b.body["managed_by"] != "document" {
		t.Errorf("%v", b.body)
	}
	tag := header("If-Match", b.Header.Get("ETag"))
	r.want(l.do("PUT", "/v1/clients/"+app.ID, object{"name": "Mine", "redirect_uris": []string{"https://evil.example/cb"}}, tag), 409, "client_describes_itself")
	r.want(l.do("DELETE", "/v1/clients/"+app.ID, nil, tag), 204, "")
	r.want(l.do("GET", "/v1/clients/"+app.ID, nil), 404, "client_not_found")
	r.want(l.do("POST", "/v1/clients", object{"client_id": "dyn_mine", "redirect_uris": []string{"https://a.example/cb"}}), 400, "client_id_invalid")

	// Documents.
	doc := func(name string) object {
		return object{"document": object{"client_id": "https://editor.example.com/c", "client_name": name, "redirect_uris": []string{"http://127.0.0.1/cb"}}}
	}
	r.want(l.do("PUT", "/v1/client-documents", doc("Editor")), 200, "")
	l.logged("client.pinned", "Name of dana pinned the description of Editor")
	if a := r.want(l.do("PUT", "/v1/client-documents", doc("Editor 2")), 200, ""); a.body["name"] != "Editor 2" || a.body["client_id"] != "https://editor.example.com/c" {
		t.Errorf("%v", a.body)
	}
	if items := r.want(l.do("GET", "/v1/client-documents", nil), 200, "").body["items"].([]any); len(items) != 1 || fmt.Sprint(items[0].(object)["document"].(object)["client_name"]) != "Editor 2" {
		t.Errorf("%v", items)
	}
	r.want(l.do("PUT", "/v1/client-documents", object{"document": object{"client_id": "http://editor.example.com/c"}}), 400, "client_id_invalid")
	r.want(l.do("PUT", "/v1/client-documents", object{"document": object{"client_id": "https://editor.example.com/c", "client_secret": "x", "redirect_uris": []string{"http://127.0.0.1/cb"}}}), 400, "client_document_invalid")
	at := "/v1/client-documents?client_id=" + url.QueryEscape("https://editor.example.com/c")
	r.want(l.do("DELETE", at, nil), 204, "")
	r.want(l.do("DELETE", at, nil), 404, "document_not_found")

	// Nobody but administrators.
	other := r.login(r.person("sam"), "admin:read admin:write")
	r.want(other.do("PUT", "/v1/client-admission", on), 403, "denied")
	r.want(other.do("PUT", "/v1/client-rules", object{"kind": "domain", "group": "a.example", "trust": "trusted"}), 403, "denied")
	r.want(other.do("PUT", "/v1/client-documents", doc("x")), 403, "denied")
}

// A block stops what is stored of everybody that it blocks: of the domains below the
// one it names, and of what registered itself and redirects there. One block that is
// taken back lets nobody go whom another one blocks.
func TestABlockStopsAllThatItIsAbout(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	seed := func(source client.Source, name, group, redirect string) client.Client {
		c := client.Client{
			ID: id.New(id.Client), ClientID: name, Name: "App", AuthMethod: client.AuthNone, RedirectURIs: []string{redirect},
			GrantTypes: []client.GrantType{client.AuthorizationCode}, ManagedBy: string(source), Origin: client.Origin{Source: source, Group: group},
		}
		r.seed("", client.Create{Client: c})
		return c
	}
	at := seed(client.FromDocument, "https://evil.example/c", "evil.example", "https://evil.example/cb")
	below := seed(client.FromDocument, "https://app.evil.example/c", "app.evil.example", "https://app.evil.example/cb")
	itself := seed(client.FromItself, client.DynamicPrefix+strings.Repeat("x", 60), strings.Repeat("f", 43), "https://app.evil.example/cb")
	other := seed(client.FromDocument, "https://notevil.example/c", "notevil.example", "https://notevil.example/cb")
	say := func(group, trust string) {
		t.Helper()
		r.want(l.do("PUT", "/v1/client-rules", object{"kind": "domain", "group": group, "trust": trust}), 200, "")
	}
	still := func(what string, want ...client.Client) {
		t.Helper()
		for _, c := range []client.Client{at, below, itself, other} {
			now, err := r.store.Client(context.Background(), c.ID)
			r.ok(err)
			stands := false
			for _, w := range want {
				stands = stands || w.ID == c.ID
			}
			if stands == now.Node.Live() {
				t.Errorf("%s: %.30s stands still: %v", what, c.ClientID, !now.Node.Live())
			}
		}
	}
	still("nothing said")
	say("*.evil.example", "blocked")
	still("all below are blocked", below, itself)
	say("app.evil.example", "blocked")
	say("*.evil.example", "none")
	still("one is blocked still", below, itself)
	say("evil.example", "blocked")
	still("two are", at, below, itself)
	say("app.evil.example", "none")
	say("evil.example", "allowed")
	still("all was taken back")
}
