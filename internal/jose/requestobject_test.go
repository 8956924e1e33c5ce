package jose

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/problem"
)

func requestClaims() map[string]any {
	return map[string]any{
		"iss": "cli_1", "aud": "https://id.example.com", "client_id": "cli_1", "exp": now.Unix() + 60, "nbf": now.Unix(), "jti": "j",
		"response_type": "code", "max_age": 300, "resource": []string{"https://a.example", "https://b.example"},
		"claims": map[string]any{"id_token": map[string]any{"acr": nil}}, "authorization_details": []any{map[string]any{"type": "x"}},
	}
}

// requestObject signs claims of a request object, with one member changed.
func requestObject(t *testing.T, head string, edit ...any) string {
	t.Helper()
	c := requestClaims()
	for i := 0; i+1 < len(edit); i += 2 {
		if c[edit[i].(string)] = edit[i+1]; edit[i+1] == nil {
			delete(c, edit[i].(string))
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, p256, head, string(b))
}

func TestRequestObjectParameters(t *testing.T) {
	for _, head := range []string{
		`{"alg":"ES256","typ":"oauth-authz-req+jwt","kid":"a"}`, `{"alg":"ES256","typ":"application/oauth-authz-req+jwt","kid":"a"}`,
		`{"alg":"ES256","kid":"a"}`,
	} {
		got, err := VerifyRequestObject(requestObject(t, head), keys, requestWant)
		if err != nil {
			t.Fatal(head, err)
		}
		want := []Parameter{ // in the order of the text
			{"authorization_details", []string{`[{"type":"x"}]`}},
			{"claims", []string{`{"id_token":{"acr":null}}`}},
			{"client_id", []string{"cli_1"}},
			{"max_age", []string{"300"}},
			{"resource", []string{"https://a.example", "https://b.example"}},
			{"response_type", []string{"code"}},
		}
		if d := cmp.Diff(want, got.Parameters); d != "" || got.JTI != "j" || Date(got.ExpiresAt) != Date(now)+60 {
			t.Errorf("%s: %s %+v", head, d, got)
		}
	}
}

func TestRequestObjectJudged(t *testing.T) {
	const head = `{"alg":"ES256","typ":"oauth-authz-req+jwt","kid":"a"}`
	at := now.Unix()
	for _, c := range []struct {
		name string
		v    any
		code string
	}{
		{"iss", nil, "request_object_malformed"},
		{"iss", "cli_2", "request_object_issuer"},
		{"client_id", nil, "request_object_malformed"},
		{"client_id", "cli_2", "request_object_issuer"},
		{"sub", "cli_1", "request_object_issuer"}, // it would be a client assertion
		{"sub", "usr_1", "request_object_issuer"},
		{"aud", nil, "request_object_malformed"},
		{"aud", "https://else.example", "request_object_audience"},
		{"aud", "https://id.example.com/", "request_object_audience"},
		{"aud", []string{"https://else.example", "https://id.example.com"}, ""},
		{"exp", nil, "request_object_malformed"},
		{"exp", at - 10, "request_object_expired"},
		{"exp", at + 3610, ""},
		{"exp", at + 3611, "request_object_lifetime"},
		{"nbf", at + 10, ""},
		{"nbf", at + 11, "request_object_not_yet_valid"},
		{"nbf", at - 3611, "request_object_lifetime"},
		{"nbf", nil, ""},
		{"iat", at + 60, "request_object_not_yet_valid"},
		{"jti", nil, ""},
		{"jti", string(make([]byte, 300)), "request_object_malformed"},
		{"state", true, "request_object_malformed"},
		{"nonce", json.RawMessage("null"), "request_object_malformed"},
		{"scope", []any{"a", 1}, ""}, // its text is JSON, which is no scope
	} {
		got, err := VerifyRequestObject(requestObject(t, head, c.name, c.v), keys, requestWant)
		if code := problem.CodeOf(err); code != c.code || (got.Parameters == nil) != (err != nil) {
			t.Errorf("%s %v: %q, want %q", c.name, c.v, code, c.code)
		}
	}
	// A client assertion is no request object, and a request object no assertion.
	assertion := signed(t, p256, `{"alg":"ES256","kid":"a"}`, `{"iss":"cli_1","sub":"cli_1","client_id":"cli_1","aud":"https://id.example.com","jti":"j","exp":`+date(at+60)+`}`)
	if _, err := VerifyRequestObject(assertion, keys, requestWant); problem.CodeOf(err) != "request_object_issuer" {
		t.Error(err)
	}
	if _, err := VerifyClientAssertion(requestObject(t, `{"alg":"ES256","kid":"a"}`), keys, assertionWant); problem.CodeOf(err) != "assertion_malformed" {
		t.Error(err)
	}
	for _, none := range []RequestObjectWant{{Issuer: requestWant.Issuer, Now: now}, {ClientID: "cli_1", Now: now}} {
		if _, err := VerifyRequestObject(requestObject(t, head), keys, none); err == nil {
			t.Errorf("held against %+v", none)
		}
	}
}

func date(n int64) string { b, _ := json.Marshal(n); return string(b) }
