package admin_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/secret"
)

type object = map[string]any

const ecKey = `{"kty":"EC","crv":"P-256","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`

func TestClients(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/resources", object{"uri": "https://api.example.com", "scopes": []object{{"name": "notes:read"}}}), 201, "")
	body := object{
		"client_id": "notes", "name": "Notes", "auth_method": "client_secret_basic", "redirect_uris": []string{"https://notes.example.com/cb"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "scopes": []string{"notes:read"}, "resources": []string{"https://api.example.com/"},
		"require_dpop": true,
	}
	a := r.want(l.do("POST", "/v1/clients", body), 201, "")
	text, _ := a.body["client_secret"].(string)
	if _, err := secret.Read(secret.ClientSecret, text); err != nil {
		t.Errorf("secret %q: %v", text, err)
	}
	l.logged("client.created", "Name of dana registered Notes")
	want := object{
		"id": a.body["id"], "client_id": "notes", "name": "Notes", "auth_method": "client_secret_basic", "redirect_uris": []any{"https://notes.example.com/cb"},
		"grant_types": []any{"authorization_code", "refresh_token"}, "scopes": []any{"notes:read"}, "resources": []any{"https://api.example.com"},
		"first_party": false, "native": false, "require_dpop": true, "owner": l.person.ID, "managed_by": "api", "state": "active", "created_at": a.body["created_at"],
	}
	b := r.want(l.do("GET", "/v1/clients/notes", nil), 200, "")
	if d := cmp.Diff(want, b.body); d != "" {
		t.Errorf("client: %s", d)
	}
	r.want(l.do("POST", "/v1/clients", body), 409, "client_id_taken")

	// An update needs the tag that was read, and holds to it.
	etag := b.Header.Get("ETag")
	body["redirect_uris"] = []string{"https://notes.example.com/cb", "https://notes.example.com/cb2"}
	r.want(l.do("PUT", "/v1/clients/notes", body), 428, "precondition_required")
	r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", "W/"+etag)), 412, "precondition_failed")
	c := r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", etag)), 200, "")
	if c.body["client_secret"] != nil || c.Header.Get("ETag") == etag || len(c.body["redirect_uris"].([]any)) != 2 {
		t.Errorf("updated: %s %s", c.Header.Get("ETag"), c.text)
	}
	r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", etag)), 412, "precondition_failed")
	l.logged("client.updated", "Name of dana changed Notes")
	stored, err := r.store.ClientByClientID(t.Context(), "notes")
	r.ok(err)
	if !secretIs(stored, text) {
		t.Error("an update changed the secret")
	}
	body["client_id"] = "other"
	r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", c.Header.Get("ETag"))), 400, "client_id_fixed")

	d := r.want(l.do("POST", "/v1/clients/notes/secret", nil), 200, "")
	stored, err = r.store.ClientByClientID(t.Context(), "notes")
	r.ok(err)
	if secretIs(stored, text) || !secretIs(stored, d.body["client_secret"].(string)) {
		t.Error("the old secret still works, or the new one does not")
	}
	// From a secret to a key and back: the old secret does not come back.
	delete(body, "client_id")
	body["auth_method"], body["jwks"] = "private_key_jwt", json.RawMessage(`{"keys":[`+ecKey+`]}`)
	e := r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", d.Header.Get("ETag"))), 200, "")
	r.want(l.do("POST", "/v1/clients/notes/secret", nil), 409, "no_secret")
	if e.body["jwks"] == nil || e.body["client_secret"] != nil {
		t.Errorf("with a key: %s", e.text)
	}
	delete(body, "jwks")
	body["auth_method"] = "client_secret_post"
	f := r.want(l.do("PUT", "/v1/clients/notes", body, header("If-Match", e.Header.Get("ETag"))), 200, "")
	if s, _ := f.body["client_secret"].(string); s == "" || s == d.body["client_secret"] {
		t.Errorf("with a secret again: %s", f.text)
	}

	if a := l.do("DELETE", "/v1/clients/notes", nil, header("If-Match", f.Header.Get("ETag"))); a.StatusCode != 204 {
		t.Fatalf("end: %d %s", a.StatusCode, a.text)
	}
	r.want(l.do("GET", "/v1/clients/notes", nil), 404, "client_not_found")
	l.logged("client.ended", "Name of dana ended Notes")
	body["client_id"] = "notes"
	r.want(l.do("POST", "/v1/clients", body), 409, "client_id_taken") // never reused
	for _, line := range r.want(l.do("GET", "/v1/audit", nil, query("limit=200")), 200, "").items() {
		if s := fmt.Sprint(line); strings.Contains(s, "cs_secret_") {
			t.Errorf("a secret is in the log: %s", s)
		}
	}
}

func secretIs(c client.Client, text string) bool {
	v, err := secret.Read(secret.ClientSecret, text)
	return err == nil && c.SecretHash != nil && c.SecretHash.Equal(v.Hash())
}

func TestClientSecrets(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	body := object{"client_id": "notes", "auth_method": "client_secret_basic", "redirect_uris": []string{"https://notes.example.com/cb"}}
	first, _ := r.want(l.do("POST", "/v1/clients", body), 201, "").body["client_secret"].(string)
	list := func() (names []string, text string) {
		a := r.want(l.do("GET", "/v1/clients/notes/secrets", nil), 200, "")
		for _, o := range a.items() {
			names = append(names, o["name"].(string))
		}
		return names, string(a.text)
	}
	name := func(text string) string {
		v, err := secret.Read(secret.ClientSecret, text)
		r.ok(err)
		return client.SecretName(v.Hash())
	}
	a := r.want(l.do("POST", "/v1/clients/notes/secrets", object{"overlap": 3600}, header("Idempotency-Key", "one")), 201, "")
	second, _ := a.body["client_secret"].(string)
	if again := r.want(l.do("POST", "/v1/clients/notes/secrets", object{"overlap": 3600}, header("Idempotency-Key", "one")), 201, ""); again.body["client_secret"] != nil || again.body["name"] != name(second) {
		t.Errorf("told twice, or made twice: %s", again.text)
	}
	names, text := list()
	if fmt.Sprint(names) != fmt.Sprint([]string{name(second), name(first)}) || strings.Contains(text, "cs_secret_") || !strings.Contains(text, r.time().Add(time.Hour).Format("2006-01-02T15:04:05")) {
		t.Errorf("%v: %s", names, text)
	}
	l.logged("client.secret_added", "Name of dana gave notes another secret; the earlier one works until "+r.time().Add(time.Hour).Format(time.RFC3339))
	r.want(l.do("POST", "/v1/clients/notes/secrets", nil), 409, "two_secrets")
	r.want(l.do("POST", "/v1/clients/notes/secrets", object{"overlap": 31 * 24 * 3600}), 400, "request_invalid")
	r.want(l.do("DELETE", "/v1/clients/notes/secrets/"+name(second), nil), 409, "newest_secret")
	r.want(l.do("DELETE", "/v1/clients/notes/secrets/000000000000", nil), 404, "secret_not_found")
	r.want(l.do("DELETE", "/v1/clients/nobody/secrets/000000000000", nil), 404, "client_not_found")
	if a := l.do("DELETE", "/v1/clients/notes/secrets/"+name(first), nil); a.StatusCode != 204 {
		t.Errorf("retire: %d %s", a.StatusCode, a.text)
	}
	l.logged("client.secret_retired", "Name of dana retired the earlier secret of notes")
	// Its time comes by itself; and a rotation leaves none.
	r.want(l.do("POST", "/v1/clients/notes/secrets", nil), 201, "")
	if names, _ := list(); len(names) != 2 || names[1] != name(second) {
		t.Errorf("%v", names)
	}
	r.pass(client.UsualOverlap)
	l = r.login(l.person, everything)
	if names, _ := list(); len(names) != 1 {
		t.Errorf("past its time: %v", names)
	}
	r.want(l.do("DELETE", "/v1/clients/notes/secrets/"+name(second), nil), 404, "secret_not_found")
	r.want(l.do("POST", "/v1/clients/notes/secrets", nil), 201, "")
	r.want(l.do("POST", "/v1/clients/notes/secret", nil), 200, "")
	if names, _ := list(); len(names) != 1 {
		t.Errorf("after a rotation: %v", names)
	}
	r.want(l.do("POST", "/v1/clients", object{"client_id": "public", "redirect_uris": []string{"https://a.example.com/cb"}}), 201, "")
	r.want(l.do("POST", "/v1/clients/public/secrets", nil), 409, "no_secret")
	r.want(l.do("DELETE", "/v1/clients/public/secrets/000000000000", nil), 409, "no_secret")
	if a := r.want(l.do("GET", "/v1/clients/public/secrets", nil), 200, ""); len(a.items()) != 0 {
		t.Errorf("%s", a.text)
	}
}

// A client's certificate, keys by address and security profile, as the API takes
// and tells them.
func TestClientCredentials(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	body := object{
		"client_id": "bank", "auth_method": "private_key_jwt", "jwks_uri": "https://bank.example.com/jwks", "security_profile": "fapi2", "require_dpop": true,
		"redirect_uris": []string{"https://bank.example.com/cb"},
	}
	a := r.want(l.do("POST", "/v1/clients", body), 201, "")
	if a.body["security_profile"] != "fapi2" || a.body["jwks_uri"] != "https://bank.example.com/jwks" || a.body["client_secret"] != nil {
		t.Errorf("%s", a.text)
	}
	etag := header("If-Match", a.Header.Get("ETag"))
	for code, edit := range map[string]object{
		"profile_unmet":            {"require_dpop": false},
		"profile_unmet ":           {"auth_method": "client_secret_basic"},
		"profile_unmet  ":          {"redirect_uris": []string{"http://127.0.0.1/cb"}},
		"jwks_uri_invalid":         {"jwks_uri": "http://10.0.0.1/jwks"},
		"certificate_name_invalid": {"tls_client_auth_san_dns": "bank.example.com"},
		"request_invalid":          {"security_profile": "fapi1"},
	} {
		wrong := object{}
		for k, v := range body {
			wrong[k] = v
		}
		for k, v := range edit {
			wrong[k] = v
		}
		r.want(l.do("PUT", "/v1/clients/bank", wrong, etag), 400, strings.TrimSpace(code))
	}
	delete(body, "jwks_uri")
	body["auth_method"], body["tls_client_auth_subject_dn"], body["tls_client_certificate_bound_access_tokens"] = "tls_client_auth", "CN=bank,O=Example", true
	b := r.want(l.do("PUT", "/v1/clients/bank", body, etag), 200, "")
	if b.body["tls_client_auth_subject_dn"] != "CN=bank,O=Example" || b.body["tls_client_certificate_bound_access_tokens"] != true || b.body["jwks_uri"] != nil {
		t.Errorf("%s", b.text)
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	r.want(l.do("POST", "/v1/groups", object{"name": "ops"}), 201, "")
	review := r.time().AddDate(1, 0, 0).Format(time.DateOnly)
	service := object{"owner": "sam", "purpose": "nightly report", "review_by": review, "groups": []string{"ops"}}
	body := object{"client_id": "robot", "auth_method": "client_secret_basic", "service": service}
	a := r.want(l.do("POST", "/v1/clients", body), 201, "")
	sv, _ := a.body["service"].(object)
	if sv == nil || sv["owner"] != "sam" || sv["name"] != "robot" || sv["review_by"] != review || fmt.Sprint(sv["groups"]) != "[ops]" || fmt.Sprint(a.body["grant_types"]) != "[client_credentials]" {
		t.Fatalf("service: %s", a.text)
	}
	etag := header("If-Match", a.Header.Get("ETag"))
	r.want(l.do("PUT", "/v1/clients/robot", object{"auth_method": "client_secret_basic", "service": object{"purpose": "something else"}}, etag), 409, "service_fixed")
	b := r.want(l.do("PUT", "/v1/clients/robot", body, etag), 200, "")
	if b.body["service"] == nil {
		t.Errorf("the service is gone: %s", b.text)
	}
	// The owner's account ends it; so does its client's end.
	r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", nil), 200, "")
	for name, edit := range map[string]func(object){
		"service_invalid 1": func(o object) { delete(o, "owner") },
		"service_invalid 2": func(o object) { delete(o, "purpose") },
		"service_invalid 3": func(o object) { delete(o, "review_by") },
		"service_invalid 4": func(o object) { o["review_by"] = "2020-01-01" },
		"service_invalid 5": func(o object) { o["review_by"] = "2999-01-01" },
		"service_invalid 6": func(o object) { o["review_by"] = "soon" },
		"service_invalid 7": func(o object) { o["owner"] = "sam" },
		"owner_unknown":     func(o object) { o["owner"] = "nobody" },
		"group_unknown":     func(o object) { o["groups"] = []string{"nobody"} },
		"request_invalid":   func(o object) { o["sub"] = "admin" },
	} {
		s := object{"owner": "dana", "purpose": "p", "review_by": review}
		edit(s)
		code, _, _ := strings.Cut(name, " ")
		if a := l.do("POST", "/v1/clients", object{"client_id": "robot2", "auth_method": "client_secret_basic", "service": s}); a.StatusCode != 400 || a.code() != code {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
	}
	if a := l.do("DELETE", "/v1/clients/robot", nil, header("If-Match", b.Header.Get("ETag"))); a.StatusCode != 204 {
		t.Fatalf("end: %d %s", a.StatusCode, a.text)
	}
	node, err := r.store.Ancestors(t.Context(), sv["id"].(string))
	r.ok(err)
	for _, n := range node {
		if n.ID == sv["id"] && n.EndedAt.IsZero() {
			t.Error("the service lives on")
		}
	}
}

func TestClientValidation(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	for name, c := range map[string]struct {
		edit object
		code string
	}{
		"mass assignment":     {object{"first_party": true}, "request_invalid"},
		"managed_by":          {object{"managed_by": "built-in"}, "request_invalid"},
		"own secret":          {object{"client_secret": "x"}, "request_invalid"},
		"own id":              {object{"id": "cli_x"}, "request_invalid"},
		"other case":          {object{"Name": "x"}, "request_invalid"},
		"wrong type":          {object{"redirect_uris": "https://a.example"}, "request_invalid"},
		"script":              {object{"redirect_uris": []string{"JaVaScRiPt:alert(1)"}}, "redirect_invalid"},
		"script lower":        {object{"redirect_uris": []string{"javascript:alert(1)"}}, "redirect_scheme"},
		"two users":           {object{"redirect_uris": []string{"https://a@b@evil.example/"}}, "redirect_invalid"},
		"http":                {object{"redirect_uris": []string{"http://a.example/cb"}}, "redirect_invalid"},
		"not native":          {object{"native": false, "redirect_uris": []string{"http://127.0.0.1/cb"}}, "redirect_invalid"},
		"no redirect":         {object{"redirect_uris": []string{}}, "redirect_missing"},
		"unknown resource":    {object{"resources": []string{"https://nobody.example"}}, "resource_unknown"},
		"own prefix":          {object{"client_id": "cli_01"}, "client_id_invalid"},
		"client_id":           {object{"client_id": "https://a.example"}, "client_id_invalid"},
		"auth":                {object{"auth_method": "magic"}, "request_invalid"},
		"grant":               {object{"grant_types": []string{"password"}}, "grant_types_invalid"},
		"refresh alone":       {object{"grant_types": []string{"refresh_token"}}, "grant_types_invalid"},
		"no service":          {object{"grant_types": []string{"client_credentials"}, "redirect_uris": []string{}}, "service_missing"},
		"signed without keys": {object{"require_signed_request_object": true}, "jwks_invalid"},
		"method without keys": {object{"auth_method": "private_key_jwt"}, "jwks_invalid"},
		"private key":         {object{"auth_method": "private_key_jwt", "jwks": json.RawMessage(`{"keys":[` + strings.Replace(ecKey, `{`, `{"d":"AA",`, 1) + `]}`)}, "jwks_private"},
		"symmetric key":       {object{"auth_method": "private_key_jwt", "jwks": json.RawMessage(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)}, "jwks_private"},
		"bidi name":           {object{"name": "a\u202eb"}, "name_invalid"},
		"scope":               {object{"scopes": []string{"a b"}}, "scope_invalid"},
	} {
		body := object{"client_id": "app", "redirect_uris": []string{"https://a.example/cb"}}
		for k, v := range c.edit {
			body[k] = v
		}
		if a := l.do("POST", "/v1/clients", body); a.StatusCode != 400 || a.code() != c.code {
			t.Errorf("%s: %d %s, want %s", name, a.StatusCode, a.text, c.code)
		}
	}
	if a := l.do("POST", "/v1/clients", object{"auth_method": "hunter2-secret"}); strings.Contains(string(a.text), "hunter2") {
		t.Errorf("what was sent is echoed: %s", a.text)
	}
	r.want(l.do("POST", "/v1/clients", `{"name":"`+strings.Repeat("a", 200<<10)+`"}`), 413, "request_too_large")
	r.want(l.do("POST", "/v1/clients", "name=x", header("Content-Type", "application/x-www-form-urlencoded")), 415, "media_type_unsupported")
	r.want(l.do("POST", "/v1/clients", `{"name":"\ud800"}`), 400, "request_invalid")
	r.want(l.do("POST", "/v1/clients", "{\"name\":\"\xff\"}"), 400, "request_invalid")
	r.want(l.do("POST", "/v1/clients", `[]`), 400, "request_invalid")

	// What the file of apply leaves out has its default.
	a := r.want(l.do("POST", "/v1/clients", object{"client_id": "desk", "redirect_uris": []string{"http://127.0.0.1/cb", "cursor://anysphere.cursor-retrieval/cb", "https://desk.example/cb"}}), 201, "")
	if a.body["native"] != true || a.body["auth_method"] != "none" || a.body["name"] != "desk" || fmt.Sprint(a.body["grant_types"]) != "[authorization_code refresh_token]" {
		t.Errorf("defaults: %s", a.text)
	}
	a = r.want(l.do("POST", "/v1/clients", object{"redirect_uris": []string{"https://a.example/cb"}}), 201, "")
	if a.body["client_id"] != a.body["id"] {
		t.Errorf("a client without client_id: %s", a.text)
	}
	// The command line's own client is the server's.
	etag := header("If-Match", r.want(l.do("GET", "/v1/clients/countersign-cli", nil), 200, "").Header.Get("ETag"))
	r.want(l.do("PUT", "/v1/clients/countersign-cli", object{}, etag), 409, "built_in")
	r.want(l.do("DELETE", "/v1/clients/countersign-cli", nil, etag), 409, "built_in")
	r.want(l.do("POST", "/v1/clients/countersign-cli/secret", nil), 409, "built_in")
	r.want(l.do("GET", "/v1/clients/"+a.body["id"].(string)+"x", nil), 404, "client_not_found")
}

func TestResources(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/clients", object{"client_id": "gate", "redirect_uris": []string{"https://a.example/cb"}}), 201, "")
	body := object{
		"uri": "https://api.example.com", "name": "Notes", "servers": []string{"gate"}, "require_dpop": true,
		"scopes": []object{
			{"name": "notes:read", "description": "Read your notes", "default": true},
			{"name": "keys:rotate", "description": "Rotate keys", "kind": "admin", "groups": []string{"administrators"}, "ask": object{"acr": "phr", "max_age": 300}},
		},
	}
	a := r.want(l.do("POST", "/v1/resources", body), 201, "")
	l.logged("resource.created", "Name of dana registered Notes")
	path := "/v1/resources/" + a.body["id"].(string)
	b := r.want(l.do("GET", path, nil), 200, "")
	want := object{
		"id": a.body["id"], "uri": "https://api.example.com", "name": "Notes", "servers": []any{"gate"}, "require_dpop": true, "delegation_aware": false, "managed_by": "api", "created_at": a.body["created_at"],
		"scopes": []any{
			object{"name": "notes:read", "description": "Read your notes", "kind": "read", "default": true},
			object{"name": "keys:rotate", "description": "Rotate keys", "kind": "admin", "groups": []any{"administrators"}, "ask": object{"acr": "phr", "max_age": 300.0}},
		},
	}
	if d := cmp.Diff(want, b.body); d != "" {
		t.Errorf("resource: %s", d)
	}
	r.want(l.do("POST", "/v1/resources", object{"uri": "https://API.example.com/"}), 409, "resource_taken")
	etag := b.Header.Get("ETag")
	body["name"] = "Notes 2"
	r.want(l.do("PUT", path, body), 428, "precondition_required")
	c := r.want(l.do("PUT", path, body, header("If-Match", etag)), 200, "")
	r.want(l.do("PUT", path, body, header("If-Match", etag)), 412, "precondition_failed")
	body["uri"] = "https://other.example.com"
	r.want(l.do("PUT", path, body, header("If-Match", c.Header.Get("ETag"))), 400, "uri_fixed")
	for name, x := range map[string]struct {
		body object
		code string
	}{
		"own address":    {object{"uri": issuer + "/v1/x"}, "uri_invalid"},
		"fragment":       {object{"uri": "https://a.example/#x"}, "uri_invalid"},
		"http":           {object{"uri": "http://a.example"}, "uri_invalid"},
		"script":         {object{"uri": "javascript:alert(1)"}, "uri_invalid"},
		"unknown acr":    {object{"uri": "https://a.example", "scopes": []object{{"name": "a", "ask": object{"acr": "gold"}}}}, "ask_invalid"},
		"short age":      {object{"uri": "https://a.example", "scopes": []object{{"name": "a", "ask": object{"max_age": 5}}}}, "ask_invalid"},
		"identity scope": {object{"uri": "https://a.example", "scopes": []object{{"name": "openid"}}}, "scope_invalid"},
		"twice":          {object{"uri": "https://a.example", "scopes": []object{{"name": "a"}, {"name": "a"}}}, "scope_invalid"},
		"group":          {object{"uri": "https://a.example", "scopes": []object{{"name": "a", "groups": []string{"x"}}}}, "group_unknown"},
		"server":         {object{"uri": "https://a.example", "servers": []string{"x"}}, "server_unknown"},
		"approval":       {object{"uri": "https://a.example", "scopes": []object{{"name": "a", "ask": object{"approval": "x"}}}}, "request_invalid"},
		"no uri":         {object{"name": "A"}, "request_invalid"},
	} {
		if a := l.do("POST", "/v1/resources", x.body); a.StatusCode != 400 || a.code() != x.code {
			t.Errorf("%s: %d %s, want %s", name, a.StatusCode, a.text, x.code)
		}
	}
	own := "/v1/resources/" + r.self
	tag := header("If-Match", r.want(l.do("GET", own, nil), 200, "").Header.Get("ETag"))
	r.want(l.do("DELETE", own, nil, tag), 409, "built_in")
	r.want(l.do("PUT", own, object{"uri": issuer + "/v1"}, tag), 409, "built_in")
	if a := l.do("DELETE", path, nil, header("If-Match", c.Header.Get("ETag"))); a.StatusCode != 204 {
		t.Fatalf("end: %d %s", a.StatusCode, a.text)
	}
	r.want(l.do("GET", path, nil), 404, "resource_not_found")
	r.want(l.do("POST", "/v1/clients", object{"client_id": "late", "redirect_uris": []string{"https://a.example/cb"}, "resources": []string{"https://api.example.com"}}), 400, "resource_unknown")
}

// TestParallelUpdates lets many replace one client from the same state: one does.
func TestParallelUpdates(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	a := r.want(l.do("POST", "/v1/clients", object{"client_id": "app", "redirect_uris": []string{"https://a.example/cb"}}), 201, "")
	codes := make(chan int, 16)
	for i := range cap(codes) {
		go func() {
			codes <- l.do("PUT", "/v1/clients/app", object{"name": fmt.Sprint("n", i), "redirect_uris": []string{"https://a.example/cb"}}, header("If-Match", a.Header.Get("ETag"))).StatusCode
		}()
	}
	n := map[int]int{}
	for range cap(codes) {
		n[<-codes]++
	}
	if n[200] != 1 || n[412]+n[503] != cap(codes)-1 {
		t.Errorf("answers: %v", n)
	}
}

// TestDetailsTypes: types of authorization details are part of a resource, come back
// as they were said, and one that cannot be used is refused.
func TestDetailsTypes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.login(r.person("dana", r.admins.ID), everything)
	schema := object{"type": "object", "additionalProperties": false, "properties": object{"type": object{"const": "payment"}, "amount": object{"type": "number"}}}
	kind := object{"name": "payment", "schema": schema, "template": "Pay {amount}", "narrower": object{"amount": "at_most"}}
	a := r.want(l.do("POST", "/v1/resources", object{"uri": "https://pay.example.com", "authorization_details_types": []object{kind}}), 201, "")
	path := "/v1/resources/" + a.body["id"].(string)
	have, _ := json.Marshal(r.want(l.do("GET", path, nil), 200, "").body["authorization_details_types"])
	want, _ := json.Marshal([]object{kind})
	if string(have) != string(want) {
		t.Errorf("%s, want %s", have, want)
	}
	for name, bad := range map[string]object{
		"no schema":    {"name": "x", "schema": object{"type": "nothing"}, "template": "x"},
		"elsewhere":    {"name": "x", "schema": object{"$ref": "https://evil.example/schema"}, "template": "x"},
		"no sentence":  {"name": "x", "schema": object{}, "template": ""},
		"hidden words": {"name": "x", "schema": object{}, "template": "Pay \u202e"},
		"comparison":   {"name": "x", "schema": object{}, "template": "x", "narrower": object{"a": "roughly"}},
	} {
		if a := l.do("POST", "/v1/resources", object{"uri": "https://other.example.com", "authorization_details_types": []object{bad}}); a.StatusCode != 400 || a.code() != "details_type_invalid" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.code())
		}
	}
	r.want(l.do("POST", "/v1/clients", object{"client_id": "shop", "redirect_uris": []string{"https://shop.example.com/cb"}, "authorization_details_types": []string{"payment"}}), 201, "")
	r.want(l.do("POST", "/v1/clients", object{"client_id": "shop2", "redirect_uris": []string{"https://shop.example.com/cb"}, "authorization_details_types": []string{"a b"}}), 400, "details_type_invalid")
}
