package admin_test

import (
	"context"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
)

func (r *rig) secret(person string, k factor.Kind) factor.Secret {
	r.t.Helper()
	s := factor.Secret{Factor: factor.Factor{ID: id.New(id.Credential), Person: person, Kind: k, Name: "Their " + k.Word(), CreatedAt: r.time()}, Sealed: []byte("sealed")}
	r.seed("", factor.Add{Secret: s})
	return s
}

func TestFactorsAreListedAndRemoved(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	key := factor.Passkey{ID: id.New(id.Credential), Person: sam.ID, Name: "Phone", CredentialID: []byte("k"), PublicKey: []byte{1}, RPID: "x", CreatedAt: r.time(), ProbationUntil: r.time().Add(time.Hour)}
	r.seed("", factor.Enrol{Passkey: key})
	pw, app := r.secret(sam.ID, factor.KindPassword), r.secret(sam.ID, factor.KindTOTP)
	a := r.want(l.do("GET", "/v1/factors", nil, query("person="+sam.ID)), 200, "")
	items := a.items()
	if len(items) != 3 || items[0]["kind"] != "passkey" || items[0]["probation_until"] == nil || items[1]["kind"] != "password" || items[2]["name"] != "Their authenticator app" {
		t.Errorf("%s", a.text)
	}
	if a := r.want(l.do("GET", "/v1/factors", nil), 200, ""); len(a.items()) != 0 {
		t.Errorf("dana's own: %s", a.text)
	}
	mine := r.login(sam, "self admin:read admin:write")
	if a := r.want(mine.do("GET", "/v1/factors", nil), 200, ""); len(a.items()) != 3 {
		t.Errorf("sam's own: %s", a.text)
	}
	r.want(mine.do("GET", "/v1/factors", nil, query("person="+l.person.ID)), 403, "denied")
	r.want(mine.do("DELETE", "/v1/people/"+l.person.ID+"/factors/"+app.ID, nil), 403, "denied")

	of := "/v1/people/" + sam.ID + "/factors/"
	r.want(l.do("DELETE", of+id.New(id.Credential), nil), 404, "factor_not_found")
	r.want(l.do("DELETE", "/v1/people/"+l.person.ID+"/factors/"+app.ID, nil), 409, "own_account")
	r.want(l.do("DELETE", of+key.ID, nil), 409, "last_passkey")
	r.want(l.do("DELETE", of+key.ID, nil, query("weaken=true")), 204, "")
	r.want(l.do("DELETE", of+pw.ID, nil), 409, "last_factor")
	r.want(l.do("DELETE", of+app.ID, nil, query("weaken=true")), 409, "last_factor")
	l.logged("factor.removed", "Name of dana removed passkey, Phone of Name of sam")
	r.pass(5*time.Minute + time.Second)
	r.want(l.do("DELETE", of+app.ID, nil), 401, "insufficient_user_authentication")
}

func TestKindsAreSwitched(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	if a := r.want(l.do("GET", "/v1/factor-kinds", nil), 200, ""); len(a.items()) != 2 || a.items()[0]["allowed"] != true {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("PUT", "/v1/factor-kinds/passkey", object{"allowed": false}), 400, "factor_kind_invalid")
	if a := r.want(l.do("PUT", "/v1/factor-kinds/password", object{"allowed": false}), 200, ""); a.body["allowed"] != false {
		t.Errorf("%s", a.text)
	}
	l.logged("factor.forbidden", "Name of dana stopped people from signing in with password")
	on, err := r.store.Allowed(context.Background())
	r.ok(err)
	if on.Typed() {
		t.Error("passwords are still allowed")
	}
	r.want(l.do("PUT", "/v1/factor-kinds/password", object{"allowed": true}), 200, "")
	l.logged("factor.allowed", "Name of dana allowed people to sign in with password")
}

func TestPeopleAreImported(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	body := object{"name": "Mira", "username": "mira", "email": "mira@example.com", "password_hash": "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"}
	a := r.want(l.do("POST", "/v1/people", body), 201, "")
	if a.body["username"] != "mira" || a.body["factors"] != 1.0 || a.body["email_verified"] != false {
		t.Errorf("%s", a.text)
	}
	l.logged("factor.imported", "Name of dana brought Mira from another system with password")
	r.want(l.do("POST", "/v1/people", body), 409, "username_taken")
	for code, change := range map[string]object{
		"password_hash_invalid": {"password_hash": "letmein"},
		"group_denied":          {"groups": []string{"administrators"}},
		"group_unknown":         {"groups": []string{"nobody"}},
		"username_invalid":      {"username": "a b"},
		"name_invalid":          {"name": " "},
	} {
		b := object{}
		for k, v := range body {
			b[k] = v
		}
		b["username"] = "other"
		for k, v := range change {
			b[k] = v
		}
		status := 400
		if code == "group_denied" {
			status = 403
		}
		r.want(l.do("POST", "/v1/people", b), status, code)
	}
	r.want(r.login(r.person("sam"), everything).do("POST", "/v1/people", body), 403, "denied")
}
