package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
)

// rollout is spec with waves, each of groups or, if it names none, of everybody else.
func (r *rig) rollout(after int64, more string, waves ...object) object {
	out := spec(after, more, "for the audit")
	for _, w := range waves {
		if w["from"] == nil {
			w["from"] = r.time()
		}
		if w["prompts"] == nil {
			w["prompts"], w["denials"] = 5, 5
		}
		if w["groups"] == nil {
			w["everybody"] = true
		}
	}
	out["waves"] = waves
	return out
}

// step is a change of the rollout that was just answered.
func (l *login) step(last answer, verb string, more object) answer {
	body := object{"revision": last.body["revision"]}
	for k, v := range more {
		body[k] = v
	}
	return l.do("POST", fmt.Sprintf("/v1/rollouts/%v/%s", last.body["rollout"], verb), body)
}

func waveOf(a answer, n int) object { return a.body["waves"].([]any)[n-1].(object) }

// A rollout goes through its life over the API: it is for one group, costs it
// something, is paused and resumed, taken back, begun again, and finished as a version.
func TestRolloutOverTheAPI(t *testing.T) {
	r, l := boss(t)
	r.want(l.do("POST", "/v1/groups", object{"name": "pilots"}), 201, "")
	g := r.want(l.do("GET", "/v1/groups", nil), 200, "")
	pilots := ""
	for _, item := range g.body["items"].([]any) {
		if o := item.(object); o["name"] == "pilots" {
			pilots = o["id"].(string)
		}
	}
	other := r.login(r.person("sam", r.admins.ID, pilots), "admin:read admin:write")
	first := object{"groups": []string{"pilots"}, "prompts": 1, "denials": 1}
	rest := object{"from": r.time().Add(time.Hour)}
	a := r.want(l.signed("/v1/rollouts", r.rollout(0, noClients, first, rest)), 201, "")
	if a.body["rollout"] != 1.0 || a.body["state"] != "open" || a.body["started_by"] != l.person.ID || waveOf(a, 1)["state"] != "enforced" || waveOf(a, 2)["state"] != "waiting" {
		t.Errorf("%s", a.text)
	}
	l.logged("rollout.started", fmt.Sprintf("Name of dana began to roll out policy %s, %s, which Name of dana had signed", a.body["hash"], a.body["publication"]))
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")
	r.want(other.do("POST", "/v1/clients", aClient("two")), 403, "denied")
	r.want(l.do("POST", "/v1/rollouts", r.rollout(0, noClients, object{})), 409, "rollout_running")
	r.want(l.do("POST", "/v1/policies", spec(0, noClients, "")), 409, "rollout_running")

	b := r.want(l.do("GET", "/v1/rollouts/1", nil), 200, "")
	spent, costs := waveOf(b, 1)["spent"].(object), waveOf(b, 1)["costs"].([]any)
	if spent["denials"] != 1.0 || spent["prompts"] != 0.0 || len(costs) != 1 || costs[0].(object)["person"] != other.person.ID || costs[0].(object)["rule"] != "freeze.clients" {
		t.Errorf("%s", b.text)
	}
	b = r.want(l.step(b, "pause", nil), 200, "")
	if waveOf(b, 1)["state"] != "held" || waveOf(b, 1)["held"] != "paused" || waveOf(b, 2)["state"] != "waiting" {
		t.Errorf("%s", b.text)
	}
	l.logged("rollout.paused", "Name of dana paused a rollout")
	r.want(l.step(a, "pause", nil), 409, "rollout_moved")
	r.want(l.step(b, "pause", nil), 409, "wave_held")
	r.want(other.do("POST", "/v1/clients", aClient("two")), 201, "")
	r.want(l.step(b, "resume", object{"wave": 2}), 409, "wave_not_held")
	r.want(l.step(b, "resume", object{"wave": 3}), 404, "wave_not_found")
	r.want(l.step(b, "resume", object{"wave": 1, "denials": 8}), 400, "request_invalid")
	r.want(l.step(b, "undo", object{"wave": 1, "prompts": 7, "denials": 8}), 400, "request_invalid")
	b = r.want(l.step(b, "resume", object{"wave": 1, "prompts": 7, "denials": 8}), 200, "")
	if w := waveOf(b, 1); w["state"] != "enforced" || w["prompts"] != 7.0 || w["denials"] != 8.0 || w["since"] != nil {
		t.Errorf("%s", b.text)
	}
	r.want(l.step(b, "finish", nil), 409, "rollout_not_done")
	b = r.want(l.step(b, "undo", object{"wave": 1}), 200, "")
	r.want(l.step(b, "undo", object{"wave": 1}), 409, "wave_held")
	r.pass(time.Second) // what it cost was before
	b = r.want(l.step(b, "resume", object{"wave": 1}), 200, "")
	if waveOf(b, 1)["since"] == nil || waveOf(b, 1)["costs"] != nil {
		t.Errorf("%s", b.text)
	}
	b = r.want(l.step(b, "undo", nil), 200, "")
	if b.body["state"] != "undone" || b.body["ended_at"] == nil || waveOf(b, 1)["spent"] != nil {
		t.Errorf("%s", b.text)
	}
	l.logged("rollout.undone", "Name of dana took back a rollout")
	r.want(l.step(b, "pause", nil), 409, "rollout_closed")
	r.want(other.do("POST", "/v1/clients", aClient("three")), 201, "")

	c := r.want(l.signed("/v1/rollouts", r.rollout(0, noClients, object{})), 201, "")
	c = r.want(l.step(c, "finish", nil), 200, "")
	if c.body["state"] != "finished" || c.body["version"] != 1.0 {
		t.Errorf("%s", c.text)
	}
	l.logged("rollout.finished", "Name of dana finished a rollout, so policy "+c.body["hash"].(string)+" is in force")
	if v := r.want(l.do("GET", "/v1/policies/1", nil), 200, ""); v.body["hash"] != c.body["hash"] || v.body["published_by"] != l.person.ID {
		t.Errorf("%s", v.text)
	}
	r.want(l.do("POST", "/v1/clients", aClient("four")), 403, "denied")
	d := r.want(l.do("GET", "/v1/rollouts?limit=1", nil), 200, "")
	if items := d.body["items"].([]any); len(items) != 1 || items[0].(object)["rollout"] != 2.0 || d.body["next"] != "2" {
		t.Errorf("%s", d.text)
	}
	r.want(l.do("GET", "/v1/rollouts?after=x", nil), 400, "request_invalid")
	r.want(l.do("GET", "/v1/rollouts/9", nil), 404, "rollout_not_found")
}

// What could not be undone, breaks a floor, or is no plan, does not begin; and only who
// may publish does anything.
func TestWhatIsNotRolledOut(t *testing.T) {
	r, l := boss(t)
	start := func(body object, status int, code string) {
		t.Helper()
		r.want(l.do("POST", "/v1/rollouts", body), status, code)
	}
	bad := r.rollout(0, noClients, object{})
	bad["hash"] = policy.Builtin().Version()
	start(bad, 400, "policy_hash")
	start(r.rollout(0, "permit (", object{}), 400, "policy_invalid")
	start(r.rollout(3, noClients, object{}), 409, "policy_moved")
	start(r.rollout(0, noClients, object{"groups": []string{"nobody"}}), 404, "group_not_found")
	admins := func() object { return object{"groups": []string{"administrators"}} }
	both := admins()
	both["everybody"] = true
	early := object{"from": r.time().Add(-time.Hour)}
	far := object{"from": r.time().AddDate(2, 0, 0)}
	for name, waves := range map[string][]object{
		"twice": {admins(), admins()}, "both": {both}, "not the last": {{}, admins()}, "out of order": {admins(), early}, "a year": {far},
	} {
		a := r.want(l.do("POST", "/v1/rollouts", r.rollout(0, noClients, waves...)), 400, "rollout_invalid")
		if !strings.Contains(string(a.text), "ave ") && name != "twice" {
			t.Errorf("%s: %s", name, a.text)
		}
	}
	floor := exceptedSpec(0, "never:\n  - name: nobody\n    actions: [client.write]\n    below: phrh\n")
	floor["waves"] = r.rollout(0, "", object{})["waves"]
	start(floor, 400, "policy_floor")
	if a := r.want(l.do("GET", "/v1/rollouts", nil), 200, ""); len(a.body["items"].([]any)) != 0 {
		t.Errorf("%s", a.text)
	}

	other := r.login(r.person("sam"), "admin:read admin:write")
	r.want(other.do("POST", "/v1/rollouts", r.rollout(0, noClients, object{})), 403, "denied")
	r.want(other.do("GET", "/v1/rollouts", nil), 403, "denied")
	a := r.want(l.signed("/v1/rollouts", r.rollout(0, noClients, object{})), 201, "")
	r.want(other.step(a, "undo", nil), 403, "denied")
	r.want(other.do("GET", "/v1/rollouts/1/readiness", nil), 403, "denied")
	r.pass(6 * time.Minute)
	l.token = l.mint("admin:read admin:write")
	for _, verb := range []string{"pause", "resume", "undo", "finish"} {
		r.want(l.step(a, verb, object{"wave": 1}), 401, "insufficient_user_authentication")
	}
	r.want(l.do("GET", "/v1/rollouts/1", nil), 200, "")
}

// Administrators are told who lacks what the policies would ask of them.
func TestReadinessOverTheAPI(t *testing.T) {
	r, l := boss(t)
	r.person("sam")
	hw := `@id("hw") @reason("r") forbid (principal is Person, action == Action::"self.write", resource) unless { context.assurance.age.phrh <= duration("15m") };`
	r.want(l.signed("/v1/rollouts", r.rollout(0, hw, object{})), 201, "")
	r.seed("", factor.Enrol{Passkey: factor.Passkey{
		ID: id.New(id.Credential), Person: l.person.ID, Name: "Key", CredentialID: []byte("key of dana"), PublicKey: []byte{1}, UserVerified: true, BackupEligible: true, CreatedAt: r.time(),
	}})
	a := r.want(l.do("GET", "/v1/rollouts/1/readiness", nil), 200, "")
	items := a.body["items"].([]any)
	if a.body["looked"] != 2.0 || len(items) != 1 || items[0].(object)["person"] != l.person.ID {
		t.Fatalf("%s", a.text)
	}
	gap := items[0].(object)["gaps"].([]any)[0].(object)
	if gap["rule"] != "hw" || gap["needs"] != "a hardware-bound sign-in from the last 15 minutes" {
		t.Errorf("%s", a.text)
	}
	if b := r.want(l.do("GET", "/v1/rollouts/1/readiness?limit=1", nil), 200, ""); b.body["next"] == "" {
		t.Errorf("%s", b.text)
	}
	r.want(l.do("GET", "/v1/rollouts/9/readiness", nil), 404, "rollout_not_found")
}

// Whoever may read policies is told what a wave cost by which rule; whom, who may read
// people.
func TestWhoIsNamed(t *testing.T) {
	r, l := boss(t)
	const auditors = `@id("auditors") @reason("r") permit (principal is Person in Group::"auditors", action == Action::"policy.read", resource);`
	const calm = `@id("calm") @reason("r") forbid (principal is Person, action == Action::"person.read", resource) when { context.risk.known && context.risk.band == "medium" };`
	r.want(l.signed("/v1/policies", spec(0, auditors+calm, "")), 201, "")
	g := r.want(l.do("POST", "/v1/groups", object{"name": "auditors"}), 201, "")
	auditor := r.login(r.person("eve", g.body["id"].(string)), "admin:read admin:write")
	sam := r.login(r.person("sam", r.admins.ID), "admin:read admin:write")
	r.want(l.signed("/v1/rollouts", r.rollout(1, auditors+calm+noClients, object{"groups": []string{"administrators"}})), 201, "")
	r.want(sam.do("POST", "/v1/clients", aClient("one")), 403, "denied")
	for who, named := range map[*login]any{l: sam.person.ID, auditor: nil} {
		a := r.want(who.do("GET", "/v1/rollouts/1", nil), 200, "")
		costs := waveOf(a, 1)["costs"].([]any)
		if len(costs) != 1 || costs[0].(object)["rule"] != "freeze.clients" || costs[0].(object)["denials"] != 1.0 || costs[0].(object)["person"] != named {
			t.Errorf("%s: %s", who.person.Username, a.text)
		}
	}
	r.want(auditor.do("GET", "/v1/rollouts/1/readiness", nil), 403, "denied")

	// Who may not just now, either: their risk counts here as where people are read.
	r.scored()
	r.reported(l.person, 40)
	if a := r.want(l.do("GET", "/v1/rollouts/1", nil), 200, ""); waveOf(a, 1)["costs"].([]any)[0].(object)["person"] != nil {
		t.Errorf("at medium risk: %s", a.text)
	}
}
