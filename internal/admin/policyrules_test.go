package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
)

// ruled are rules with everything that a rule may say, the last two in mode monitor.
func ruled(r *rig) string {
	day := func(d int) string { return r.time().AddDate(0, 0, d).Format(time.DateOnly) }
	return fmt.Sprintf(`@id("a.late") @reason("Late.") @owner("ops") @review(%q) forbid (principal, action == Action::"group.write", resource);
@id("b.soon") @reason("Soon.") @public_reason("Ask later") @owner("security") @review(%q) forbid (principal, action == Action::"resource.write", resource);
@id("c.far") @reason("Far.") @review(%q) @mode("monitor") forbid (principal is Person, action == Action::"client.write", resource);
@id("d.asks") @reason("Asks.") @mode("monitor") forbid (principal is Person, action == Action::"person.invite", resource) unless { context.assurance.age.phrh <= duration("5m") };`,
		day(-1), day(30), day(31))
}

// TestRulesAreListed: each rule of a version with its file, words, owner, mode and date,
// and how that stands, to who may read policies; a version that this server cannot read
// is an answer of its own.
func TestRulesAreListed(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.login(r.person("sam"), everything)
	r.want(l.signed("/v1/policies", spec(0, ruled(r), "")), 201, "")
	got := map[string]object{}
	for _, x := range r.want(l.do("GET", "/v1/policies/1/rules", nil), 200, "").items() {
		got[x["id"].(string)] = x
	}
	for id, want := range map[string]object{
		"a.late": {"file": "99-more.cedar", "line": 1.0, "effect": "forbid", "mode": "enforce", "reason": "Late.", "owner": "ops", "due": "overdue"},
		"b.soon": {"line": 2.0, "public_reason": "Ask later", "owner": "security", "due": "soon"},
		"c.far":  {"mode": "monitor", "owner": nil, "due": nil, "review": r.time().AddDate(0, 0, 31).Format(time.DateOnly)},
		"d.asks": {"mode": "monitor", "review": nil, "due": nil},
		"self":   {"file": "30-account.cedar", "effect": "permit", "mode": "enforce"},
	} {
		for member, value := range want {
			if got[id][member] != value {
				t.Errorf("%s: %s is %v, not %v", id, member, got[id][member], value)
			}
		}
	}
	if list := r.want(l.do("GET", "/v1/policies/0/rules", nil), 200, "").items(); len(list) != len(policy.Builtin().Policies()) {
		t.Errorf("%d of the default set", len(list))
	}
	r.want(l.do("GET", "/v1/policies/9/rules", nil), 404, "policy_version_not_found")
	r.want(sam.do("GET", "/v1/policies/1/rules", nil), 403, "denied")
	r.want(sam.do("GET", "/v1/policies/monitored", nil), 403, "denied")
}

// TestMonitoredIsTold: what rules in mode monitor would have done is in the log's view,
// and added up by rule, person and day; those who may not know whom it was learn nothing.
func TestMonitoredIsTold(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.signed("/v1/policies", spec(0, ruled(r), "")), 201, "")
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")
	r.want(l.do("POST", "/v1/clients", aClient("two")), 201, "")
	r.want(l.do("POST", "/v1/invitations", object{"name": "Mira"}), 201, "")

	page := r.want(l.do("GET", "/v1/audit?kind=client.created", nil), 200, "").items()
	if len(page) != 2 || page[0]["monitored"] != "deny: c.far" || page[0]["refused"] == true {
		t.Errorf("%v", page)
	}
	a := r.want(l.do("GET", "/v1/policies/monitored", nil), 200, "")
	if items := a.items(); len(items) != 2 || items[0]["rule"] != "c.far" || items[0]["who"] != l.person.ID || items[0]["denied"] != 2.0 || items[0]["prompted"] != 0.0 || items[0]["last"] != page[0]["ref"] ||
		items[0]["day"] != r.time().Format(time.DateOnly) || items[1]["rule"] != "d.asks" || items[1]["denied"] != 0.0 && items[1]["prompted"] != 1.0 || a.body["from"] == nil || a.body["next"] != nil {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("GET", "/v1/policies/monitored?limit=5001", nil), 400, "request_invalid")
	if first := r.want(l.do("GET", "/v1/policies/monitored?limit=1", nil), 200, ""); first.body["read"] != 1.0 || first.body["next"] == nil {
		t.Errorf("%s", first.text)
	}
	later := "since=" + r.time().Add(time.Hour).Format(time.RFC3339)
	if none := r.want(l.do("GET", "/v1/policies/monitored", nil, query(later)), 200, ""); len(none.items()) != 0 || none.body["from"] != nil {
		t.Errorf("%s", none.text)
	}

	// Reading people, which policies now forbid to whoever comes with a token, is part of it.
	src := `@id("no.people") @reason("r") forbid (principal, action == Action::"person.read", resource) when { context.token.known };`
	r.want(l.signed("/v1/policies", spec(1, src, "")), 201, "")
	r.want(l.do("GET", "/v1/policies/monitored", nil), 403, "denied")
}

// TestExplanationsNameOwners: whoever may see which policy refused them learns whom to
// ask; the answer to the caller says neither.
func TestExplanationsNameOwners(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.signed("/v1/policies", spec(0, ruled(r), "")), 201, "")
	refused := r.want(l.do("POST", "/v1/groups", object{"name": "crew"}), 403, "denied")
	if strings.Contains(string(refused.text), "ops") || strings.Contains(string(refused.text), "a.late") {
		t.Errorf("a caller is told %s", refused.text)
	}
	lines := r.want(l.do("GET", "/v1/explanations/"+refused.Header.Get("Countersign-Ref"), nil), 200, "").items()
	if len(lines) == 0 {
		t.Fatal("nothing is explained")
	}
	if owners, _ := lines[0]["owners"].([]any); len(owners) != 1 || owners[0].(object)["policy"] != "a.late" || owners[0].(object)["owner"] != "ops" {
		t.Errorf("%v", lines[0])
	}
}
