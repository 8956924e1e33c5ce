package admin_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func issuerBody() object {
	return object{
		"issuer": "https://idp.example.com", "jwks": object{"keys": []object{keyOf(ecKey)}}, "profiles": []string{"jwt-bearer", "id-jag"},
		"resources": []string{"https://api.example.com"}, "scopes": []string{"notes:read"}, "acr": object{"strong": "phr"}, "replay": "same_client",
	}
}

func keyOf(text string) (o object) {
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	return o
}

func TestTrustedIssuers(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/resources", object{"uri": "https://api.example.com", "scopes": []object{{"name": "notes:read"}}}), 201, "")
	a := r.want(l.do("POST", "/v1/trusted-issuers", issuerBody()), 201, "")
	l.logged("issuer.trusted", "Name of dana made https://idp.example.com one that says who people are")
	at := "/v1/trusted-issuers/" + a.body["id"].(string)
	b := r.want(l.do("GET", at, nil), 200, "")
	want := object{
		"id": a.body["id"], "issuer": "https://idp.example.com", "name": "https://idp.example.com", "jwks": object{"keys": []any{keyOf(ecKey)}},
		"profiles": []any{"jwt-bearer", "id-jag"}, "resources": []any{"https://api.example.com"}, "scopes": []any{"notes:read"},
		"acr": object{"strong": "phr"}, "replay": "same_client", "managed_by": "api", "created_at": a.body["created_at"],
	}
	if d := cmp.Diff(want, b.body); d != "" {
		t.Errorf("issuer: %s", d)
	}
	r.want(l.do("POST", "/v1/trusted-issuers", issuerBody()), 409, "issuer_taken")
	body := issuerBody()
	body["max_lifetime"] = 60
	etag := b.Header.Get("ETag")
	r.want(l.do("PUT", at, body), 428, "precondition_required")
	r.want(l.do("PUT", at, body, header("If-Match", etag)), 200, "")
	r.want(l.do("PUT", at, body, header("If-Match", etag)), 412, "precondition_failed")
	body["issuer"] = "https://other.example.com"
	r.want(l.do("PUT", at, body, header("If-Match", r.want(l.do("GET", at, nil), 200, "").Header.Get("ETag"))), 400, "issuer_fixed")

	s := r.want(l.do("POST", at+"/subjects", object{"subject": "ext-1", "person": l.person.Username}), 201, "")
	if s.body["person"] != l.person.ID {
		t.Errorf("linked: %s", s.text)
	}
	r.want(l.do("POST", at+"/subjects", object{"subject": "ext-1", "person": l.person.ID}), 409, "subject_taken")
	r.want(l.do("POST", at+"/subjects", object{"subject": "ext-2", "person": "nobody"}), 400, "person_unknown")
	r.want(l.do("POST", at+"/subjects", object{"subject": "", "person": l.person.ID}), 400, "subject_invalid")
	if n := len(r.want(l.do("GET", at+"/subjects", nil), 200, "").body["items"].([]any)); n != 1 {
		t.Errorf("%d subjects", n)
	}
	r.want(l.do("DELETE", at+"/subjects/"+s.body["id"].(string), nil), 204, "")
	r.want(l.do("DELETE", at+"/subjects/"+s.body["id"].(string), nil), 404, "subject_not_found")
	etag = r.want(l.do("GET", at, nil), 200, "").Header.Get("ETag")
	r.want(l.do("DELETE", at, nil, header("If-Match", etag)), 204, "")
	r.want(l.do("GET", at, nil), 404, "issuer_not_found")
}

// Each thing that an issuer cannot be registered with, by itself.
func TestTrustedIssuersChecked(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/resources", object{"uri": "https://api.example.com", "scopes": []object{{"name": "notes:read"}}}), 201, "")
	for _, c := range []struct {
		member string
		value  any
		code   string
	}{
		{"issuer", "http://idp.example.com", "issuer_invalid"},
		{"issuer", "https://idp.example.com/?x", "issuer_invalid"},
		{"issuer", "https://u@idp.example.com", "issuer_invalid"},
		{"issuer", issuer, "issuer_own"},
		{"jwks", nil, "jwks_invalid"},
		{"jwks_uri", "https://idp.example.com/jwks", "jwks_invalid"}, // both
		{"profiles", []string{}, "profiles_invalid"},
		{"profiles", []string{"saml"}, "profiles_invalid"},
		{"profiles", []string{"jwt-bearer"}, "replay_invalid"}, // with same_client
		{"algorithms", []string{"HS256"}, "algorithms_invalid"},
		{"algorithms", []string{"none"}, "algorithms_invalid"},
		{"resources", []string{}, "reach_invalid"},
		{"resources", []string{"*"}, "resource_unknown"},
		{"resources", []string{issuer + "/v1"}, "reach_invalid"},
		{"scopes", []string{"*"}, "scope_invalid"},
		{"scopes", []string{}, "reach_invalid"},
		{"clients", []string{"nobody"}, "client_unknown"},
		{"acr", object{"x": "nothing"}, "acr_invalid"},
		{"name", "a\u202eb", "name_invalid"},
	} {
		body := issuerBody()
		if body[c.member] = c.value; c.value == nil {
			delete(body, c.member)
		}
		r.want(l.do("POST", "/v1/trusted-issuers", body), 400, c.code)
	}
	r.want(l.do("POST", "/v1/trusted-issuers", issuerBody()), 201, "") // the control
}
