package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
)

// noClients refuses changes of clients, to whoever publishes it too.
const noClients = `@id("freeze.clients") @reason("Clients are frozen.") @public_reason("Clients are frozen")
forbid (principal, action == Action::"client.write", resource);`

// spec is the default set with one more file, as the API is given it.
func spec(after int64, more, note string) object {
	src := policy.Default()
	if more != "" {
		src.Files = append(src.Files, policy.File{Name: "99-more.cedar", Text: more})
	}
	files := []object{}
	for _, f := range src.Files {
		files = append(files, object{"name": f.Name, "text": f.Text})
	}
	return object{"after": after, "hash": src.Hash(), "files": files, "note": note}
}

func aClient(name string) object {
	return object{"client_id": name, "name": name, "auth_method": "none", "redirect_uris": []string{"https://a.example.com/cb"}, "grant_types": []string{"authorization_code"}}
}

func TestPoliciesArePublishedAndPutBack(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	if a := r.want(l.do("GET", "/v1/policies", nil), 200, ""); len(a.body["items"].([]any)) != 0 {
		t.Errorf("%s", a.text)
	}
	a := r.want(l.do("GET", "/v1/policies/0", nil), 200, "")
	if a.body["hash"] != policy.Builtin().Version() || len(a.body["files"].([]any)) < 5 || a.body["published_by"] != nil {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("GET", "/v1/policies/7", nil), 404, "policy_version_not_found")
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")

	// What is wrong is refused before anything changes.
	bad := spec(0, noClients, "")
	bad["hash"] = policy.Builtin().Version()
	r.want(l.do("POST", "/v1/policies", bad), 400, "policy_hash")
	if a := r.want(l.do("POST", "/v1/policies", spec(0, "permit (", "")), 400, "policy_invalid"); !strings.Contains(string(a.text), "99-more.cedar") {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("POST", "/v1/policies", spec(0, noClients, " note ")), 400, "note_invalid")
	r.want(l.do("POST", "/v1/policies/rollback", object{"after": 0, "to": 0}), 400, "request_invalid")
	r.want(l.do("POST", "/v1/policies", spec(3, noClients, "")), 409, "policy_moved")

	// In force from the next act on.
	b := r.want(l.signed("/v1/policies", spec(0, noClients, "audit week")), 201, "")
	if b.body["version"] != 1.0 || b.body["published_by"] != l.person.ID || b.body["note"] != "audit week" || b.body["restores"] != nil || b.body["record"] == "" {
		t.Errorf("%s", b.text)
	}
	if a := r.want(l.do("POST", "/v1/clients", aClient("two")), 403, "denied"); strings.Contains(string(a.text), "freeze.clients") {
		t.Errorf("a caller is told the policy's id: %s", a.text)
	}
	r.want(l.do("GET", "/v1/clients/one", nil), 200, "")
	r.want(l.do("POST", "/v1/policies", spec(0, noClients, "")), 409, "policy_moved")

	// Put back: a version of its own.
	c := r.want(l.do("POST", "/v1/policies/rollback", object{"after": 1, "to": 0, "note": "over"}), 201, "")
	if c.body["version"] != 2.0 || c.body["restores"] != 0.0 || c.body["hash"] != policy.Builtin().Version() {
		t.Errorf("%s", c.text)
	}
	l.logged("policy.published", "Name of dana published policy "+c.body["hash"].(string))
	r.want(l.do("POST", "/v1/clients", aClient("two")), 201, "")
	r.want(l.do("POST", "/v1/policies/rollback", object{"after": 2, "to": 1}), 201, "")
	r.want(l.do("POST", "/v1/clients", aClient("three")), 403, "denied")
	r.want(l.do("POST", "/v1/policies/rollback", object{"after": 3, "to": 9}), 400, "request_invalid")

	d := r.want(l.do("GET", "/v1/policies?limit=2", nil), 200, "")
	if items := d.body["items"].([]any); len(items) != 2 || items[0].(object)["version"] != 3.0 || items[0].(object)["files"] != nil || d.body["next"] != "2" {
		t.Errorf("%s", d.text)
	}
	if e := r.want(l.do("GET", "/v1/policies?limit=2&after=2", nil), 200, ""); len(e.body["items"].([]any)) != 1 {
		t.Errorf("%s", e.text)
	}
	r.want(l.do("GET", "/v1/policies?after=x", nil), 400, "request_invalid")

	// A rule that waits for what nobody can give is published with a warning, and no
	// challenge sends anybody after it.
	f := r.want(l.signed("/v1/policies", spec(3, `@id("two.of.us") @reason("Two of us.") forbid (principal, action == Action::"client.write", resource) unless { context.approvals.confirmed };`, "")), 201, "")
	if w, _ := f.body["warnings"].([]any); len(w) != 1 || w[0].(object)["policy"] != "two.of.us" || w[0].(object)["code"] != policy.WarnApprovals {
		t.Errorf("%s", f.text)
	}
	g := r.want(l.do("POST", "/v1/clients", aClient("four")), 403, policy.CodeUnattainable)
	if g.Header.Get("WWW-Authenticate") != "" || strings.Contains(string(g.text), "two.of.us") || b.body["warnings"] != nil {
		t.Errorf("%v %s, %s", g.Header, g.text, b.text)
	}
}

func TestWhoPublishesPolicies(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	other := r.login(r.person("sam"), "admin:read admin:write")
	r.want(other.do("POST", "/v1/policies", spec(0, noClients, "")), 403, "denied")
	r.want(other.do("GET", "/v1/policies", nil), 403, "denied")
	r.want(other.do("GET", "/v1/policies/0", nil), 403, "denied")
	reader := r.login(l.person, "admin:read")
	r.want(reader.do("POST", "/v1/policies", spec(0, noClients, "")), 403, "insufficient_scope")

	r.pass(6 * time.Minute)
	l.token = l.mint("admin:read admin:write")
	r.want(l.do("POST", "/v1/policies/rollback", object{"after": 1, "to": 0}), 401, "insufficient_user_authentication")
	r.want(l.do("GET", "/v1/policies", nil), 200, "")
}

// exceptedSpec is spec with exceptions and a file of statements.
func exceptedSpec(after int64, floor string, all ...policy.Exception) object {
	src := policy.Default()
	src.Exceptions = all
	out := object{"after": after, "exceptions": all, "note": ""}
	if floor != "" {
		src.Floors = []policy.File{{Name: "floors.policy.yaml", Text: floor}}
		out["floors"] = src.Floors
	}
	files := []object{}
	for _, f := range src.Files {
		files = append(files, object{"name": f.Name, "text": f.Text})
	}
	out["files"], out["hash"] = files, src.Hash()
	return out
}

// An exception is published with the policies, counts at once for whom it is and
// for nobody else, is on record where it was used, ends by itself and is never
// below a floor.
func TestExceptions(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	other := r.login(r.person("olga", r.admins.ID), everything)
	e := policy.Exception{ID: "journey", Rule: "admin.write", For: l.person.ID, Owner: "security", Reason: "A key was lost.", Rung: 3, MaxAge: 7200, Until: r.time().Add(24 * time.Hour)}
	long, low := e, e
	long.Until = r.time().Add(91 * 24 * time.Hour)
	low.Rung = 2
	const floor = "never:\n  - name: nobody writes clients below phr\n    actions: [client.write]\n    below: phr\n"
	r.want(l.do("POST", "/v1/policies", exceptedSpec(0, "", long)), 400, "exception_too_long")
	if a := r.want(l.do("POST", "/v1/policies", exceptedSpec(0, floor, low)), 400, "policy_floor"); !strings.Contains(string(a.text), "exception:journey") {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("POST", "/v1/policies", exceptedSpec(0, "never: 7", e)), 400, "policy_floor")
	nobody := e
	nobody.For = "nobody"
	r.want(l.do("POST", "/v1/policies", exceptedSpec(0, floor, nobody)), 400, "policy_invalid")
	a := r.want(l.signed("/v1/policies", exceptedSpec(0, floor, e)), 201, "")
	if list := a.body["exceptions"].([]any); len(list) != 1 || list[0].(object)["id"] != "journey" || len(a.body["floors"].([]any)) != 1 {
		t.Errorf("%s", a.text)
	}

	// An hour later the rule would ask for a passkey of now; the exception does not.
	later := func(d time.Duration) {
		r.pass(d)
		l.token, other.token = l.mint(everything), other.mint(everything)
	}
	later(time.Hour)
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")
	r.want(other.do("POST", "/v1/clients", aClient("two")), 401, policy.CodeStepUp)
	rows, err := r.store.RecordsAfter(t.Context(), "", 1000)
	r.ok(err)
	if last := rows[len(rows)-2]; !strings.Contains(string(last.Facts), `"exception:journey"`) {
		t.Errorf("%s", last.Facts)
	}
	later(time.Hour + time.Minute)
	r.want(l.do("POST", "/v1/clients", aClient("three")), 401, policy.CodeStepUp)
}
