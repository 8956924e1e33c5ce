package admin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
)

// boss is a rig with an administrator signed in.
func boss(t *testing.T) (*rig, *login) {
	t.Helper()
	r := newRig(t)
	return r, r.login(r.person("dana", r.admins.ID), everything)
}

// logged fails the test unless the newest record of a kind reads like this.
func (l *login) logged(kind, sentence string) {
	l.r.t.Helper()
	a := l.r.want(l.do("GET", "/v1/audit", nil, query("limit=1&kind="+kind)), 200, "")
	if items := a.items(); len(items) != 1 || items[0]["sentence"] != sentence {
		l.r.t.Errorf("the log of %s says %v, want %q", kind, items, sentence)
	}
}

func TestMe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.login(r.person("dana", r.admins.ID), "self")
	a := r.want(l.do("GET", "/v1/me", nil), 200, "")
	if a.body["id"] != l.person.ID || a.body["administrator"] != true || a.body["acr"] != "phr" || a.body["session"] != l.session.ID || a.body["client_id"] != "countersign-cli" {
		t.Errorf("me: %s", a.text)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be stored")
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	for i := range 6 {
		r.person(fmt.Sprint("p", i))
	}
	var ids []string
	after, pages := "", 0
	for {
		a := r.want(l.do("GET", "/v1/people", nil, query("limit=3"+after)), 200, "")
		pages++
		for _, i := range a.items() {
			ids = append(ids, i["id"].(string))
		}
		next, more := a.body["next"].(string)
		if !more {
			break
		}
		after = "&after=" + next
	}
	if len(ids) != 7 || pages != 3 || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != 7 {
		t.Errorf("%d pages of %v", pages, ids)
	}
	a := r.want(l.do("GET", "/v1/people", nil, query("limit=7")), 200, "")
	if a.body["next"] != nil || len(a.items()) != 7 {
		t.Errorf("a page that holds all has a next one: %s", a.text)
	}
	a = r.want(l.do("GET", "/v1/people", nil, query("after=zzz")), 200, "")
	if !strings.Contains(string(a.text), `"items":[]`) {
		t.Errorf("an empty page: %s", a.text)
	}
	// A page of things of which some have ended is as long as others.
	for i := range 5 {
		c := r.want(l.do("POST", "/v1/clients", map[string]any{"client_id": fmt.Sprint("app", i), "redirect_uris": []string{"https://a.example/cb"}}), 201, "")
		if i%2 == 0 {
			r.want(l.do("DELETE", fmt.Sprint("/v1/clients/app", i), nil, header("If-Match", c.Header.Get("ETag"))), 204, "")
		}
	}
	a = r.want(l.do("GET", "/v1/clients", nil, query("limit=2")), 200, "")
	b := r.want(l.do("GET", "/v1/clients", nil, query("limit=2&after="+a.body["next"].(string))), 200, "")
	var names []any
	for _, i := range append(a.items(), b.items()...) {
		names = append(names, i["client_id"])
	}
	if fmt.Sprint(names) != "[countersign-cli app1 app3]" || b.body["next"] != nil {
		t.Errorf("clients: %v", names)
	}
}

func TestDisableAndEnable(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	s := r.login(sam, "self")
	r.want(s.do("GET", "/v1/me", nil), 200, "")
	a := r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", map[string]any{"reason": "left the company"}), 200, "")
	if a.body["state"] != "disabled" {
		t.Errorf("disabled: %s", a.text)
	}
	l.logged("person.disabled", "Name of dana disabled the account of Name of sam: left the company")
	r.want(s.do("GET", "/v1/me", nil), 401, "invalid_token")
	r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", nil), 200, "")
	a = r.want(l.do("POST", "/v1/people/"+sam.ID+"/enable", nil), 200, "")
	if a.body["state"] != "active" {
		t.Errorf("enabled: %s", a.text)
	}
	r.want(s.do("GET", "/v1/me", nil), 200, "")
	r.want(l.do("POST", "/v1/people/"+l.person.ID+"/disable", nil), 409, "own_account")
	r.want(l.do("POST", "/v1/people/usr_nobody/disable", nil), 404, "person_not_found")
	r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", `{"reason":"a","reason":"b"}`), 400, "request_invalid")
	r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", `{"Reason":"a"}`), 400, "request_invalid")
	r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", map[string]any{"reason": "a\u202eb"}), 400, "reason_invalid")
}

func TestErase(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	path := "/v1/people/" + sam.ID
	etag := r.want(l.do("GET", path, nil), 200, "").Header.Get("ETag")
	body := map[string]any{"username": "sam"}
	r.want(l.do("DELETE", path, body), 428, "precondition_required")
	r.want(l.do("DELETE", path, body, header("If-Match", `"99"`)), 412, "precondition_failed")
	r.want(l.do("DELETE", path, body, header("If-Match", "*")), 412, "precondition_failed")
	r.want(l.do("DELETE", path, map[string]any{"username": "dana"}, header("If-Match", etag)), 400, "confirmation_wrong")
	r.want(l.do("DELETE", path, nil, header("If-Match", etag)), 400, "request_invalid")
	a := l.do("DELETE", path, body, header("If-Match", etag))
	if a.StatusCode != 204 || len(a.text) != 0 {
		t.Fatalf("erase: %d %s", a.StatusCode, a.text)
	}
	r.want(l.do("GET", path, nil), 404, "person_not_found")
	l.logged("person.erased", "Name of dana erased a person")
	r.want(l.do("DELETE", "/v1/people/"+l.person.ID, map[string]any{"username": "dana"}, header("If-Match", `"1"`)), 409, "own_account")
	// Five minutes later the same needs more, and reading does not.
	r.pass(6 * time.Minute)
	l.token = l.mint(everything)
	r.want(l.do("DELETE", path, body, header("If-Match", etag)), 401, "insufficient_user_authentication")
	r.want(l.do("GET", path, nil), 404, "person_not_found")
}

func TestInvitations(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "ops"}), 201, "")
	body := map[string]any{"name": "Sam Doe", "email": "sam@example.com", "username": "sam", "groups": []string{"ops"}}
	a := r.want(l.do("POST", "/v1/invitations", body), 201, "")
	url, _ := a.body["url"].(string)
	path := "/v1/invitations/" + a.body["id"].(string)
	text, ok := strings.CutPrefix(url, issuer+"/invite#")
	if !ok || a.Header.Get("Location") != path {
		t.Fatalf("invited: %s", a.text)
	}
	v, err := r.store.OnceValue(t.Context(), once.Invite, once.KeyOf(once.Invite, text))
	r.ok(err)
	inv, err := account.ReadInvitation(v)
	r.ok(err)
	if inv.Name != "Sam Doe" || len(inv.Groups) != 1 || inv.InvitedBy != l.person.ID || !v.ExpiresAt.Equal(r.time().Add(account.InvitationLifetime)) {
		t.Errorf("stored: %+v", inv)
	}
	a = r.want(l.do("GET", "/v1/invitations", nil), 200, "")
	if len(a.items()) != 1 || a.items()[0]["url"] != nil || fmt.Sprint(a.items()[0]["groups"]) != "[ops]" || strings.Contains(string(a.text), text) {
		t.Errorf("listed: %s", a.text)
	}
	if a := l.do("DELETE", path, nil); a.StatusCode != 204 {
		t.Fatalf("withdraw: %d %s", a.StatusCode, a.text)
	}
	r.want(l.do("DELETE", path, nil), 404, "invitation_not_found")
	v, err = r.store.OnceValue(t.Context(), once.Invite, once.KeyOf(once.Invite, text))
	if err != nil || v.UsedAt.IsZero() {
		t.Errorf("a withdrawn link still works: %+v %v", v, err)
	}
	for name, c := range map[string]struct {
		body map[string]any
		code string
	}{
		"no name":        {map[string]any{"name": " "}, "name_invalid"},
		"bad address":    {map[string]any{"name": "A", "email": "nobody"}, "email_invalid"},
		"bad username":   {map[string]any{"name": "A", "username": "a b"}, "username_invalid"},
		"unknown group":  {map[string]any{"name": "A", "groups": []string{"nobody"}}, "group_unknown"},
		"unknown member": {map[string]any{"name": "A", "administrator": true}, "request_invalid"},
		"nothing":        {map[string]any{}, "request_invalid"},
		"a NUL":          {map[string]any{"name": "A\x00"}, "request_invalid"},
	} {
		if a := l.do("POST", "/v1/invitations", c.body); a.StatusCode != 400 || a.code() != c.code {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
	}
	r.want(l.do("POST", "/v1/invitations", map[string]any{"name": "A", "username": "DANA"}), 409, "username_taken")
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	key := header("Idempotency-Key", "one")
	body := map[string]any{"name": "Sam"}
	a := r.want(l.do("POST", "/v1/invitations", body, key), 201, "")
	b := r.want(l.do("POST", "/v1/invitations", body, key), 201, "")
	if a.body["id"] != b.body["id"] || a.body["url"] == nil || b.body["url"] != nil {
		t.Errorf("the same request made %v and %v", a.body, b.body)
	}
	r.want(l.do("POST", "/v1/invitations", map[string]any{"name": "Tim"}, key), 409, "idempotency_key_reused")
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "ops"}, key), 201, "") // of another route
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "ops"}, key), 201, "")
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "ops"}), 409, "group_taken")
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "dev"}, header("Idempotency-Key", "a b")), 400, "request_invalid")
	kim := r.login(r.person("kim", r.admins.ID), everything)
	c := r.want(kim.do("POST", "/v1/invitations", body, key), 201, "")
	if c.body["id"] == a.body["id"] {
		t.Error("a key is another person's too")
	}
	secret := map[string]any{"client_id": "conf", "auth_method": "client_secret_basic", "redirect_uris": []string{"https://a.example/cb"}}
	d := r.want(l.do("POST", "/v1/clients", secret, key), 201, "")
	e := r.want(l.do("POST", "/v1/clients", secret, key), 201, "")
	if d.body["client_secret"] == nil || e.body["client_secret"] != nil || e.body["id"] != d.body["id"] {
		t.Errorf("client: %s\n%s", d.text, e.text)
	}
	d = r.want(l.do("POST", "/v1/clients/conf/secret", nil, key), 200, "")
	before, err := r.store.ClientByClientID(t.Context(), "conf")
	r.ok(err)
	e = r.want(l.do("POST", "/v1/clients/conf/secret", nil, key), 200, "")
	after, err := r.store.ClientByClientID(t.Context(), "conf")
	r.ok(err)
	if d.body["client_secret"] == nil || e.body["client_secret"] != nil || *before.SecretHash != *after.SecretHash {
		t.Error("a repeated rotation rotated again")
	}
	// Many at once make one.
	ids := make([]any, 12)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			a := l.do("POST", "/v1/invitations", body, header("Idempotency-Key", "race"))
			ids[i] = a.body["id"]
			if a.StatusCode != 201 {
				t.Errorf("%d %s", a.StatusCode, a.text)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one key made %v", ids)
			break
		}
	}
	// A day later it is a new request.
	r.pass(24*time.Hour + time.Minute)
	l = r.login(l.person, everything)
	f := r.want(l.do("POST", "/v1/invitations", body, key), 201, "")
	if f.body["id"] == a.body["id"] || f.body["url"] == nil {
		t.Errorf("a day later: %s", f.text)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	a := r.want(l.do("POST", "/v1/groups", map[string]any{"name": "ops"}), 201, "")
	l.logged("group.created", "Name of dana created group ops")
	ops := "/v1/groups/" + a.body["id"].(string) + "/members"
	admins := "/v1/groups/" + r.admins.ID + "/members/"
	none := func(a answer) {
		t.Helper()
		r.want(a, 204, "")
	}
	none(l.do("POST", ops+"/"+sam.ID, nil))
	l.logged("group.joined", "Name of dana added Name of sam to group ops")
	a = r.want(l.do("GET", ops, nil), 200, "")
	if len(a.items()) != 1 || a.items()[0]["username"] != "sam" {
		t.Errorf("members: %s", a.text)
	}
	none(l.do("DELETE", ops+"/"+sam.ID, nil))
	l.logged("group.left", "Name of dana took Name of sam out of group ops")
	r.want(l.do("DELETE", ops+"/"+sam.ID, nil), 404, "membership_not_found")
	r.want(l.do("DELETE", admins+l.person.ID, nil), 409, "last_administrator")
	none(l.do("POST", admins+sam.ID, nil))
	l.logged("admin.granted", "Name of dana made Name of sam an administrator")
	none(l.do("DELETE", admins+l.person.ID, nil))
	r.want(l.do("GET", "/v1/groups", nil), 403, "denied")
	s := r.login(sam, everything)
	s.logged("admin.withdrawn", "Name of dana took the administrator role from Name of dana")
	for _, name := range []string{"", "Ops", "a b", "-a", strings.Repeat("a", 65)} {
		if a := s.do("POST", "/v1/groups", map[string]any{"name": name}); a.StatusCode != 400 {
			t.Errorf("%q: %d", name, a.StatusCode)
		}
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	s1, s2 := r.login(sam, everything), r.login(sam, everything)
	a := r.want(s1.do("GET", "/v1/sessions", nil), 200, "")
	items := a.items()
	if len(items) != 2 || items[0]["id"] != s2.session.ID || items[0]["current"] != false || items[1]["current"] != true || items[1]["device"] != "Chrome on Linux" || items[1]["acr"] != "phr" {
		t.Fatalf("sessions: %s", a.text)
	}
	grants, _ := items[1]["grants"].([]any)
	if len(grants) != 1 || grants[0].(map[string]any)["client_id"] != "countersign-cli" {
		t.Errorf("grants: %v", grants)
	}
	one := r.want(s1.do("GET", "/v1/sessions", nil, query("limit=1")), 200, "")
	two := r.want(s1.do("GET", "/v1/sessions", nil, query("limit=1&after="+one.body["next"].(string))), 200, "")
	if two.items()[0]["id"] != s1.session.ID || two.body["next"] != nil {
		t.Errorf("pages: %s %s", one.text, two.text)
	}
	// Nobody sees, or ends, what is another's; and learns whether it exists.
	r.want(s1.do("GET", "/v1/sessions", nil, query("person="+l.person.ID)), 403, "denied")
	for _, id := range []string{l.session.ID, l.grant.ID, l.session.Device, "ses_nothing", "gnt_nothing", "dev_nothing", "usr_x"} {
		r.want(s1.do("POST", "/v1/sessions/"+id+"/end", nil), 403, "denied")
	}
	a = r.want(l.do("GET", "/v1/sessions", nil, query("person="+sam.ID)), 200, "")
	if len(a.items()) != 2 {
		t.Errorf("an administrator sees %s", a.text)
	}
	r.want(l.do("POST", "/v1/sessions/ses_nothing/end", nil), 404, "session_not_found")

	a = r.want(s1.do("POST", "/v1/sessions/"+s2.session.ID+"/end", nil, query("wait=peps")), 200, "")
	if a.body["applied"] != true || a.body["record"] != <-r.waited {
		t.Errorf("ended: %s", a.text)
	}
	r.want(s2.do("GET", "/v1/me", nil), 401, "invalid_token")
	l.logged("session.ended", "Name of sam ended a session of Name of sam")
	r.want(s1.do("POST", "/v1/sessions/"+s1.grant.ID+"/end", nil, query("wait=x")), 400, "request_invalid")
	r.want(l.do("POST", "/v1/sessions/"+s1.grant.ID+"/end", nil), 200, "")
	r.want(s1.do("GET", "/v1/me", nil), 401, "invalid_token")

	s3, s4 := r.login(sam, everything), r.login(sam, everything)
	r.want(s4.do("POST", "/v1/sessions/"+s3.session.Device+"/end", nil), 200, "")
	if a := s3.do("GET", "/v1/me", nil); a.StatusCode != 401 {
		t.Errorf("the device's session lives: %d", a.StatusCode)
	}
	// An administrator's sign-in gets old for others' sessions, not for reading.
	r.pass(20 * time.Minute)
	l.token = l.mint(everything)
	r.want(l.do("POST", "/v1/sessions/"+s4.session.ID+"/end", nil), 401, "insufficient_user_authentication")
	r.want(l.do("GET", "/v1/sessions", nil, query("person="+sam.ID)), 200, "")
	l.token = l.mint("self")
	c := r.challenge(r.want(l.do("POST", "/v1/sessions/"+s4.session.ID+"/end", nil), 401, "insufficient_user_authentication"))
	if !slices.Equal(c.Scope, []string{"admin:write"}) {
		t.Errorf("challenge: %+v", c)
	}
	c = r.challenge(r.want(l.do("GET", "/v1/sessions", nil, query("person="+sam.ID)), 403, "insufficient_scope"))
	if !slices.Equal(c.Scope, []string{"admin:read"}) {
		t.Errorf("challenge: %+v", c)
	}
	r.want(l.do("POST", "/v1/sessions/"+l.session.ID+"/end", nil), 200, "")
}

func TestLog(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.person("sam")
	for range 5 {
		r.want(l.do("POST", "/v1/people/"+sam.ID+"/disable", nil), 200, "")
		r.want(l.do("POST", "/v1/people/"+sam.ID+"/enable", nil), 200, "")
	}
	var refs []string
	q := "limit=4&kind=person.disabled,person.enabled&person=" + sam.ID
	for before := ""; ; {
		a := r.want(l.do("GET", "/v1/audit", nil, query(q+before)), 200, "")
		for _, i := range a.items() {
			refs = append(refs, i["ref"].(string))
			if i["who"] != "Name of dana" || i["assurance"] != "phr" || i["seq"] == nil || i["at"] == nil {
				t.Fatalf("line: %v", i)
			}
		}
		next, ok := a.body["next"].(string)
		if !ok {
			break
		}
		before = "&before=" + next
	}
	if len(refs) != 10 || !slices.IsSortedFunc(refs, func(a, b string) int { return -strings.Compare(a, b) }) {
		t.Errorf("records: %v", refs)
	}
	r.want(l.do("GET", "/v1/audit", nil, query("kind=nothing")), 400, "kind_unknown")
	a := r.want(l.do("GET", "/v1/audit", nil, query("person=usr_nobody")), 200, "")
	if len(a.items()) != 0 {
		t.Errorf("nobody's records: %s", a.text)
	}
}

// TestTwoAdministrators lets two disable each other at once: one remains.
func TestTwoAdministrators(t *testing.T) {
	t.Parallel()
	r, _ := boss(t)
	for range 10 {
		a, b := r.login(r.person("a"+fmt.Sprint(time.Now().UnixNano()), r.admins.ID), everything), r.login(r.person("b"+fmt.Sprint(time.Now().UnixNano()), r.admins.ID), everything)
		var wg sync.WaitGroup
		codes := make([]int, 2)
		for i, pair := range [][2]*login{{a, b}, {b, a}} {
			wg.Go(func() {
				codes[i] = pair[0].do(http.MethodPost, "/v1/people/"+pair[1].person.ID+"/disable", nil).StatusCode
			})
		}
		wg.Wait()
		live := 0
		for _, l := range []*login{a, b} {
			nodes, err := r.store.Ancestors(t.Context(), l.person.ID)
			r.ok(err)
			if _, ended := lineage.FirstEnded(nodes); !ended {
				live++
			}
		}
		if live != 1 {
			t.Fatalf("%d of two remain, answered %v", live, codes)
		}
	}
}
