package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/secret"
)

func claim() string { return recovery.ClaimOf(secret.New(secret.Recover)).Grouped() }

func TestRecoveries(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam, mira := r.person("sam", r.admins.ID), r.person("mira")
	code := claim()
	body := map[string]any{"code": strings.ToLower(code), "reason": "lost everything"}
	open := "/v1/people/" + mira.ID + "/recoveries"
	r.want(l.do("POST", open, body), 403, "confirmer_new") // an administrator since just now
	r.pass(25 * time.Hour)
	l = r.login(l.person, everything)
	second := r.login(sam, everything)
	r.want(l.do("POST", "/v1/people/"+l.person.ID+"/recoveries", body), 403, "denied")
	r.want(l.do("POST", "/v1/people/usr_nobody/recoveries", body), 404, "person_not_found")
	r.want(l.do("POST", open, map[string]any{"code": code}), 400, "request_invalid")
	r.want(l.do("POST", open, map[string]any{"code": "7Q4K", "reason": "x"}), 400, "code_malformed")
	made := r.want(l.do("POST", open, body), 201, "")
	id := made.body["id"].(string)
	if made.body["state"] != "open" || made.body["needed"] != 2.0 || made.body["ready_at"] != nil || made.body["username"] != "mira" || !strings.HasPrefix(made.body["cancel_url"].(string), issuer+"/recover/cancel#cs_cancel_") || strings.Contains(string(made.text), code) {
		t.Errorf("opened: %s", made.text)
	}
	l.logged("recovery.opened", "Name of dana opened and confirmed a recovery of the account of Name of mira: lost everything")
	r.want(l.do("POST", open, body), 409, "recovery_open")
	confirm := "/v1/recoveries/" + id + "/confirm"
	r.want(l.do("POST", confirm, map[string]any{"code": code}), 409, "recovery_confirmed")
	r.want(second.do("POST", confirm, map[string]any{"code": claim()}), 400, "claim_wrong")
	r.pass(6 * time.Minute)
	second.token = second.mint(everything)
	a := r.want(second.do("POST", confirm, map[string]any{"code": code}), 401, "insufficient_user_authentication")
	if c := a.Header.Get("WWW-Authenticate"); !strings.Contains(c, `max_age="300"`) || !strings.Contains(c, "phr") {
		t.Errorf("a proof that is too old: %s", c)
	}
	second = r.login(sam, everything)
	r.seed("", lineage.Freeze{ID: mira.ID, Why: "test"}) // the token is hers who confirms, and good
	r.want(second.do("POST", confirm, map[string]any{"code": code}), 403, "person_disabled")
	r.seed("", lineage.Thaw{ID: mira.ID})
	done := r.want(second.do("POST", confirm, map[string]any{"code": code}), 200, "")
	if done.body["ready_at"] == nil || len(done.body["confirmed"].([]any)) != 2 {
		t.Errorf("confirmed: %s", done.text)
	}
	second.logged("recovery.confirmed", "Name of sam confirmed the recovery of the account of Name of mira: lost everything")
	list := r.want(second.do("GET", "/v1/recoveries", nil), 200, "")
	if items := list.items(); len(items) != 1 || items[0]["id"] != id {
		t.Errorf("list: %s", list.text)
	}
	r.want(second.do("POST", "/v1/recoveries/"+id+"/cancel", nil), 200, "")
	second.logged("recovery.cancelled", "A recovery of the account of Name of mira was cancelled by an administrator")
	r.want(second.do("POST", "/v1/recoveries/"+id+"/cancel", nil), 409, "recovery_over")
	if got := r.want(second.do("GET", "/v1/recoveries/"+id, nil), 200, ""); got.body["state"] != "cancelled" || got.body["cancel_url"] != nil {
		t.Errorf("cancelled: %s", got.text)
	}
	nobody := r.login(mira, everything)
	for _, path := range []string{"/v1/recoveries", "/v1/recoveries/" + id, "/v1/recoveries/rcv_none"} {
		if a := nobody.do("GET", path, nil); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s for somebody else: %d %s", path, a.StatusCode, a.text)
		}
	}
}

func TestTemporaryPasses(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	mira, sam := r.person("mira"), r.person("sam", r.admins.ID)
	give := func(person string, body map[string]any) string { return "/v1/people/" + person + "/temporary-passes" }
	reason := map[string]any{"reason": "left the key at home"}
	r.want(l.do("POST", give(sam.ID, reason), reason), 403, "pass_above")
	r.want(l.do("POST", give(l.person.ID, reason), reason), 403, "denied")
	r.want(l.do("POST", give(mira.ID, nil), map[string]any{"reason": "x", "lasts_hours": 13}), 400, "request_invalid")
	made := r.want(l.do("POST", give(mira.ID, reason), reason), 201, "")
	pass, _ := made.body["pass"].(string)
	if _, err := secret.ReadTyped(pass, secret.TypedLen); err != nil || made.body["lasts_hours"] != 8.0 || made.body["enter_url"] != issuer+"/recover/pass" || made.body["method"] != "pass" {
		t.Errorf("made: %s", made.text)
	}
	l.logged("pass.issued", "Name of dana gave Name of mira a temporary pass: left the key at home")
	r.want(l.do("POST", give(mira.ID, reason), reason), 409, "recovery_open")
	got := r.want(l.do("GET", "/v1/recoveries/"+made.body["id"].(string), nil), 200, "")
	if got.body["pass"] != nil {
		t.Error("a pass is told twice")
	}
	r.want(l.do("POST", "/v1/recoveries/"+made.body["id"].(string)+"/cancel", nil), 200, "")
	r.want(l.do("POST", give(mira.ID, reason), reason), 201, "")
	// Being refused is recorded.
	refused := 0
	page := r.want(l.do("GET", "/v1/audit", nil, query("limit=50&kind="+audit.PassIssued.Name())), 200, "")
	for _, i := range page.items() {
		if i["refused"] == true {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d refusals are recorded: %s", refused, page.text)
	}
}
