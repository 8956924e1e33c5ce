package admin_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// sign has a person sign a publication, now, by the act of the page. The assertion
// itself is the page's to verify.
func (r *rig) sign(l *login, publication string) error {
	r.t.Helper()
	ctx := context.Background()
	p, check, err := r.desk.Signing(ctx, publication, r.time())
	if err != nil {
		return err
	}
	ceremony, err := canon.Marshal(map[string]any{"v": 1, "req": p.ID, "by": l.person.ID, "dec": "publish", "rp": "id.example.com", "org": issuer})
	r.ok(err)
	challenge := p.Challenge(issuer, ceremony)
	data, err := json.Marshal(object{"type": "webauthn.get", "challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "origin": issuer})
	r.ok(err)
	_, err = r.do.Do(ctx, act.Intent{
		Action: policy.PolicyPublish, Kind: audit.PolicySigned,
		Refs:   act.Refs{Kind: policy.KindPerson, Actor: l.person.ID, Session: l.session.ID},
		Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: l.person.ID, At: r.time(), UserVerified: true, PhishingResistant: true}},
		Changes: func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
			if err := check(f.Input); err != nil {
				return act.Effect{}, err
			}
			s, err := p.Sign(ruleset.Signature{By: l.person.ID, Credential: "cred_dana", Ceremony: ceremony, ClientData: data, AuthenticatorData: []byte("a"), Signature: []byte("s"), Key: []byte("k")}, issuer, r.time())
			return act.Effect{Changes: []act.Change{s}, Parts: []audit.Part{{Person: l.person.ID, Body: object{"credential": "cred_dana"}}, {Body: p.Said()}}}, err
		},
	})
	return err
}

// waits hands a set in, and gives the id of what waits.
func (l *login) waits(path string, body object) string {
	l.r.t.Helper()
	return l.r.want(l.do("POST", path, body), 202, "").body["id"].(string)
}

// signed hands a set in, which the same person signs, and carries it out.
func (l *login) signed(path string, body object) answer {
	l.r.t.Helper()
	l.r.ok(l.r.sign(l, l.waits(path, body)))
	return l.do("POST", path, body)
}

// pipeline is a service with a token for policies, by name.
func (r *rig) pipeline(name string, owner *login) *login {
	r.t.Helper()
	sv := client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: name, Owner: owner.person.ID, Purpose: "tests", ReviewBy: r.time().AddDate(0, 1, 0), CreatedAt: r.time()}
	c := client.Client{
		ID: id.New(id.Client), ClientID: name, Name: name, AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.ClientCredentials},
		Resources: []string{r.self}, Scopes: []string{"policies"}, Service: sv.ID, ManagedBy: "api", CreatedAt: r.time(),
	}
	r.seed("", client.Create{Client: c, NewService: &sv})
	l := &login{r: r, key: newKey()}
	l.grant.ID = c.ID
	l.token = l.mint("policies", func(t *jose.AccessTokenClaims) { t.Subject, t.ClientID, t.ACR = sv.Subject, name, "" })
	return l
}

// ways are the two in which a set comes into force over the API that nobody signed yet.
func (r *rig) ways() map[string]func(after int64, more string) object {
	return map[string]func(int64, string) object{
		"/v1/policies": func(after int64, more string) object { return spec(after, more, "why") },
		"/v1/rollouts": func(after int64, more string) object {
			return r.rollout(after, more, object{"from": time.Unix(1700000000, 0).UTC()})
		},
	}
}

// A set waits until a person has signed it, whoever hands it in: an administrator's
// token with a passkey of now puts nothing in force. Signed, a service carries it out,
// once, and everything says who did what.
func TestPublication(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	ci := r.pipeline("ci", l)
	src := spec(0, noClients, "audit week")
	a := r.want(l.do("POST", "/v1/policies", src), 202, "")
	pub := a.body["id"].(string)
	if a.body["state"] != "unsigned" || a.body["sign_uri"] != issuer+"/admin/publications/"+pub || a.body["hash"] != src["hash"] || a.body["submitted_by"] != l.person.ID || a.body["signed_by"] != nil {
		t.Errorf("%s", a.text)
	}
	l.logged("policy.submitted", fmt.Sprintf("Name of dana wants policy %s in force, %s, which waits for a signature", src["hash"], pub))
	for _, who := range []*login{l, ci, l} { // however often, and by whomever: it is the same, and nothing is in force
		if b := r.want(who.do("POST", "/v1/policies", src), 202, ""); b.body["id"] != pub {
			t.Errorf("%s", b.text)
		}
	}
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")
	r.ok(r.sign(l, pub))
	l.logged("policy.signed", fmt.Sprintf("Name of dana signed policy %s, %s", src["hash"], pub))
	b := r.want(ci.do("GET", "/v1/publications/"+pub, nil), 200, "")
	if s, _ := b.body["signature"].(object); b.body["state"] != "signed" || b.body["signed_by"] != l.person.ID || b.body["sign_uri"] != nil || s["key"] != "aw" || s["credential"] != "cred_dana" || len(b.body["files"].([]any)) == 0 {
		t.Errorf("%s", b.text)
	}
	r.want(l.do("POST", "/v1/clients", aClient("two")), 201, "")

	c := r.want(ci.do("POST", "/v1/policies", src), 201, "")
	service := r.serviceOf(ci)
	if s, _ := c.body["signature"].(object); c.body["version"] != 1.0 || c.body["published_by"] != l.person.ID || c.body["signed_by"] != l.person.ID || c.body["carried_out_by"] != service || c.body["publication"] != pub || s["signature"] != "cw" || c.body["note"] != "audit week" {
		t.Errorf("%s", c.text)
	}
	l.logged("policy.published", fmt.Sprintf("S%s published policy %s, %s, which Name of dana had signed", service[1:], src["hash"], pub))
	r.want(l.do("POST", "/v1/clients", aClient("three")), 403, "denied")
	if d := r.want(ci.do("GET", "/v1/policies", nil), 200, "").items()[0]; d["signed_by"] != l.person.ID || d["signature"] != nil {
		t.Errorf("%v", d)
	}
	done := r.want(l.do("GET", "/v1/publications", nil), 200, "").items()
	if len(done) != 1 || done[0]["state"] != "carried_out" || done[0]["version"] != 1.0 || done[0]["files"] != nil || done[0]["signature"] != nil {
		t.Errorf("%v", done)
	}
	// Once: the same again follows a version that is in force no more; the same after
	// the one that is in force waits for a signature of its own.
	r.want(ci.do("POST", "/v1/policies", src), 409, "policy_moved")
	r.want(l.do("POST", "/v1/policies/rollback", object{"after": 1, "to": 0}), 201, "")
	src["after"] = 2
	if again := r.want(ci.do("POST", "/v1/policies", src), 202, ""); again.body["id"] == pub {
		t.Errorf("%s", again.text)
	}

	// The same person does both: the record names them once.
	third := r.want(l.signed("/v1/policies", spec(2, "// other\n"+noClients, "")), 201, "")
	l.logged("policy.published", fmt.Sprintf("Name of dana published policy %s, %s, which Name of dana had signed", third.body["hash"], third.body["publication"]))
	ro := r.want(l.signed("/v1/rollouts", r.rollout(3, noClients, object{})), 201, "")
	l.logged("rollout.started", fmt.Sprintf("Name of dana began to roll out policy %s, %s, which Name of dana had signed", ro.body["hash"], ro.body["publication"]))
	if s, _ := ro.body["signature"].(object); ro.body["signed_by"] != l.person.ID || ro.body["carried_out_by"] != l.person.ID || s["key"] != "aw" {
		t.Errorf("%s", ro.text)
	}
	r.want(l.step(ro, "finish", nil), 200, "")
	if v := r.want(l.do("GET", "/v1/policies/4", nil), 200, ""); v.body["publication"] != ro.body["publication"] || v.body["signed_by"] != l.person.ID || v.body["signature"] == nil {
		t.Errorf("%s", v.text)
	}
}

// On both ways into force the same is refused: what was signed is one set, after one
// version, with one plan, by somebody who is here still, in its time.
func TestWhatWasNotSigned(t *testing.T) {
	t.Parallel()
	const more, other = noClients, "// other\n" + noClients
	for path := range (&rig{}).ways() {
		for name, c := range map[string]struct {
			then   func(r *rig, l, signer *login, pub string)
			body   func(r *rig, body object) object // that is carried out; nil: what was signed
			status int
			code   string
		}{
			"the control": {status: 201},
			"another set": {body: func(r *rig, _ object) object { return r.ways()[path](0, other) }, status: 202},
			"the other way": {body: func(r *rig, _ object) object {
				return r.ways()[map[string]string{"/v1/policies": "/v1/rollouts", "/v1/rollouts": "/v1/policies"}[path]](0, more)
			}, status: 202},
			"another version": {body: func(_ *rig, b object) object { b["after"] = 1; return b }, status: 409, code: "policy_moved"},
			"moved": {then: func(r *rig, l, _ *login, _ string) {
				src := policy.Default()
				r.seed("", ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}})
			}, status: 409, code: "policy_moved"},
			"withdrawn": {then: func(r *rig, l, _ *login, pub string) {
				r.want(l.do("POST", "/v1/publications/"+pub+"/withdraw", nil), 200, "")
			}, status: 202},
			"expired": {then: func(r *rig, l, _ *login, _ string) {
				r.pass(ruleset.SignedLife)
				l.token = l.mint(everything)
			}, status: 202},
			"in time": {then: func(r *rig, l, _ *login, _ string) {
				r.pass(ruleset.SignedLife - time.Second)
				l.token = l.mint(everything)
			}, status: 201},
			"disabled": {then: func(r *rig, _, s *login, _ string) { r.seed("", lineage.Freeze{ID: s.person.ID, Why: "off"}) }, status: 202},
			"recovered": {then: func(r *rig, _, s *login, _ string) {
				r.seed("", recovery.EndAll{Person: s.person.ID, Why: "recovered"})
			}, status: 202},
			"taken out": {then: func(r *rig, _, s *login, _ string) { r.seed("", group.Remove{Group: r.admins.ID, Person: s.person.ID}) }, status: 202},
			"a rollout runs": {then: func(r *rig, _, _ *login, _ string) {
				src := policy.Default()
				r.seed("", ruleset.Start{Rollout: ruleset.Rollout{N: 1, Hash: src.Hash(), Source: src, Waves: []policy.Wave{{Rest: true, From: r.time()}}, State: ruleset.Open}})
			}, status: 409, code: "rollout_running"},
		} {
			t.Run(path[4:]+" "+name, func(t *testing.T) {
				r, l := boss(t)
				signer := r.login(r.person("olga", r.admins.ID), everything)
				body := r.ways()[path](0, more)
				pub := l.waits(path, body)
				r.ok(r.sign(signer, pub))
				if c.then != nil {
					c.then(r, l, signer, pub)
				}
				if c.body != nil {
					body = c.body(r, body)
				}
				way := "/v1/policies"
				if body["waves"] != nil {
					way = "/v1/rollouts"
				}
				a := l.do("POST", way, body)
				r.want(a, c.status, c.code)
				if c.status == 202 && a.body["id"] == pub {
					t.Errorf("what counts no more is taken for the same: %s", a.text)
				}
			})
		}
	}
}

// Everything that was refused before is refused when a set is handed in, on both ways,
// and nothing waits then.
func TestWhatIsNotHandedIn(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.login(r.person("sam"), everything)
	reader := r.login(l.person, "admin:read")
	robot := r.machine(l.person)
	for path, body := range r.ways() {
		bad := body(0, noClients)
		bad["hash"] = policy.Builtin().Version()
		r.want(l.do("POST", path, bad), 400, "policy_hash")
		bad = body(0, noClients)
		bad["note"] = " x"
		r.want(l.do("POST", path, bad), 400, "note_invalid")
		r.want(l.do("POST", path, body(0, "permit (")), 400, "policy_invalid")
		r.want(l.do("POST", path, body(3, noClients)), 409, "policy_moved")
		floor := exceptedSpec(0, "never:\n  - name: nobody\n    actions: [client.write]\n    below: phrh\n")
		if w := body(0, "")["waves"]; w != nil {
			floor["waves"] = w
		}
		r.want(l.do("POST", path, floor), 400, "policy_floor")
		r.want(sam.do("POST", path, body(0, noClients)), 403, "denied")
		r.want(reader.do("POST", path, body(0, noClients)), 403, "insufficient_scope")
		r.want(robot.do("POST", path, body(0, noClients)), 403, "insufficient_scope")
	}
	if got := r.want(l.do("GET", "/v1/publications", nil), 200, "").items(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	// Under what is signed the signer has to be able to read, sign and submit another. A set
	// may refuse services.
	for rule, code := range map[string]string{
		`@id("all") @reason("r") forbid (principal, action == Action::"policy.publish", resource);`:                                           "policy_locks_out",
		`@id("submit") @reason("r") forbid (principal, action == Action::"policy.submit", resource);`:                                         "policy_locks_out",
		`@id("blind") @reason("r") forbid (principal is Person, action == Action::"policy.read", resource);`:                                  "policy_locks_out",
		`@id("names") @reason("r") forbid (principal is Person, action == Action::"person.read", resource);`:                                  "policy_locks_out",
		`@id("later") @reason("r") forbid (principal, action == Action::"policy.publish", resource) unless { context.approvals.count >= 1 };`: "policy_locks_out",
		`@id("services") @reason("r") forbid (principal is Service, action in [Action::"policy.submit", Action::"policy.read"], resource);`:   "",
	} {
		pub := l.waits("/v1/policies", spec(0, rule, ""))
		if err := r.sign(l, pub); problem.CodeOf(err) != code {
			t.Errorf("%s: %v", rule, err)
		}
	}
	// Who may not sign, and what cannot be signed.
	pub := l.waits("/v1/policies", spec(0, noClients, ""))
	if err := r.sign(sam, pub); problem.CodeOf(err) != "denied" {
		t.Errorf("%v", err)
	}
	if err := r.sign(l, "pub_none"); problem.CodeOf(err) != "publication_not_found" {
		t.Errorf("%v", err)
	}
	r.ok(r.sign(l, pub))
	if err := r.sign(l, pub); problem.CodeOf(err) != "publication_signed" {
		t.Errorf("%v", err)
	}

	// Half a day on an administrator hands nothing in, nor does one without two factors.
	r.pass(12*time.Hour + time.Second)
	l.token = l.mint(everything)
	for path, body := range r.ways() {
		if a := l.do("POST", path, body(0, noClients)); a.StatusCode != 401 || r.challenge(a).MaxAge != 12*time.Hour {
			t.Errorf("%s: %s", path, a.text)
		}
	}
}

// A service does nothing with the scope but what it is for, and withdraws only its own.
func TestPolicyService(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	ci, cd := r.pipeline("ci", l), r.pipeline("cd", l)
	mine := ci.waits("/v1/policies", spec(0, noClients, ""))
	theirs := l.waits("/v1/rollouts", r.rollout(0, noClients, object{}))
	r.want(ci.do("POST", "/v1/publications/"+theirs+"/withdraw", nil), 403, "publication_of_another")
	r.want(cd.do("POST", "/v1/publications/"+mine+"/withdraw", nil), 403, "publication_of_another")
	if a := r.want(ci.do("POST", "/v1/publications/"+mine+"/withdraw", nil), 200, ""); a.body["state"] != "withdrawn" {
		t.Errorf("%s", a.text)
	}
	l.logged("policy.withdrawn", fmt.Sprintf("S%s withdrew policy %s that was to come into force, %s", r.serviceOf(ci)[1:], spec(0, noClients, "")["hash"], mine))
	r.want(ci.do("POST", "/v1/publications/"+mine+"/withdraw", nil), 409, "publication_over")
	r.want(ci.do("POST", "/v1/publications/pub_none/withdraw", nil), 404, "publication_not_found")
	r.want(l.do("POST", "/v1/publications/"+theirs+"/withdraw", nil), 200, "")
	r.want(ci.do("GET", "/v1/publications", nil), 200, "")
	r.want(ci.do("GET", "/v1/policies/0", nil), 200, "")
	for _, path := range []string{
		"GET /v1/people", "GET /v1/clients", "GET /v1/audit", "GET /v1/rollouts", "GET /v1/signals", "GET /v1/people/dana/devices", "GET /v1/me", "GET /v1/decisions",
		"POST /v1/policies/rollback", "POST /v1/rollouts/1/pause", "POST /v1/rollouts/1/finish", "POST /v1/clients", "POST /v1/signals",
	} {
		method, at, _ := strings.Cut(path, " ")
		var body any
		if method == "POST" {
			body = object{}
		}
		if a := ci.do(method, at, body); a.StatusCode != 403 {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.text)
		}
	}
	// Another service carries out what the first handed in; stopped, what it handed in is
	// withdrawn.
	src := spec(0, noClients, "")
	r.ok(r.sign(l, ci.waits("/v1/policies", src)))
	if v := r.want(cd.do("POST", "/v1/policies", src), 201, ""); v.body["carried_out_by"] != r.serviceOf(cd) {
		t.Errorf("%s", v.text)
	}
	pub := ci.waits("/v1/policies", spec(1, "// x\n"+noClients, ""))
	r.seed("", lineage.Freeze{ID: r.serviceOf(ci), Why: "off"})
	if a := r.want(l.do("GET", "/v1/publications/"+pub, nil), 200, ""); a.body["state"] != "withdrawn" {
		t.Errorf("%s", a.text)
	}
}

// Of many who hand the same in at once there is one publication; of many who carry it
// out at once, one does, and those who had found it signed are told what it became.
func TestPublicationsAtOnce(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	ci := r.pipeline("ci", l)
	src := spec(0, noClients, "")
	all := func() (out []answer) {
		var wg sync.WaitGroup
		out = make([]answer, 6)
		for i := range out {
			who := []*login{l, ci}[i%2]
			req := who.request("POST", "/v1/policies", src)
			wg.Go(func() { out[i] = r.send(req) })
		}
		wg.Wait()
		return out
	}
	ids := map[any]bool{}
	for _, a := range all() {
		r.want(a, 202, "")
		ids[a.body["id"]] = true
	}
	if len(ids) != 1 {
		t.Fatalf("%v", ids)
	}
	for pub := range ids {
		r.ok(r.sign(l, pub.(string)))
	}
	won := 0
	for _, a := range all() {
		if a.StatusCode == 201 {
			won++
		} else if a.StatusCode == 200 && a.body["version"] != 1.0 || a.StatusCode != 200 && (a.StatusCode != 409 || a.code() != "policy_moved") {
			t.Errorf("%d %s", a.StatusCode, a.text)
		}
	}
	if won != 1 {
		t.Errorf("%d carried it out", won)
	}
}
