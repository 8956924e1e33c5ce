package admin_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/store"
)

// TestWebhooks: what the API says of a webhook from its making to its end; its
// secret is told once each time it is made, and never again.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	boss := r.login(r.person("dana", r.admins.ID), everything)
	spec := map[string]any{"name": "SIEM", "url": "https://siem.example.com/in", "events": []string{"factor.*"}}
	key := header("Idempotency-Key", "one")
	a := r.want(boss.do("POST", "/v1/webhooks", spec, key), 201, "")
	first, _ := a.body["secret"].(string)
	path := a.Header.Get("Location")
	if !strings.HasPrefix(first, "whsec_") || path == "" || a.body["state"] != "active" {
		t.Fatalf("%s", a.text)
	}
	if again := r.want(boss.do("POST", "/v1/webhooks", spec, key), 201, ""); again.body["id"] != a.body["id"] || again.body["secret"] != nil {
		t.Errorf("sent again: %s", again.text)
	}
	if list := boss.do("GET", "/v1/webhooks", nil); len(list.items()) != 1 || strings.Contains(string(list.text), "whsec_") {
		t.Errorf("%s", list.text)
	}
	kept, err := r.store.Webhook(t.Context(), a.body["id"].(string))
	r.ok(err)
	if strings.Contains(string(kept.Sealed), first) {
		t.Error("the secret is kept in the clear")
	}

	for _, bad := range []map[string]any{
		{"name": "x", "url": "http://siem.example.com"},
		{"name": "x", "url": "https://u:p@siem.example.com"},
	} {
		r.want(boss.do("POST", "/v1/webhooks", bad), 400, "url_invalid")
	}
	r.want(boss.do("POST", "/v1/webhooks", map[string]any{"name": "x", "url": "https://a.example", "events": []string{"nothing.*"}}), 400, "event_unknown")
	r.want(boss.do("POST", "/v1/webhooks", map[string]any{"name": "inside", "url": "http://inside.example:8080/in"}), 201, "")

	r.want(boss.do("PUT", path, spec), 428, "precondition_required")
	spec["url"] = "https://other.example.com"
	a = r.want(boss.do("PUT", path, spec, header("If-Match", a.Header.Get("ETag"))), 200, "")
	if a.body["url"] != "https://other.example.com" {
		t.Errorf("%s", a.text)
	}
	a = r.want(boss.do("POST", path+"/secret", nil), 200, "")
	if second, _ := a.body["secret"].(string); second == first || !strings.HasPrefix(second, "whsec_") || a.body["overlap_until"] == nil {
		t.Errorf("%s", a.text)
	}
	if a = r.want(boss.do("POST", path+"/disable", nil), 200, ""); a.body["state"] != "disabled" {
		t.Errorf("%s", a.text)
	}
	if a = r.want(boss.do("POST", path+"/enable", nil), 200, ""); a.body["state"] != "active" {
		t.Errorf("%s", a.text)
	}
	r.want(boss.do("DELETE", path, nil, header("If-Match", a.Header.Get("ETag"))), 204, "")
	r.want(boss.do("GET", path, nil), 404, "webhook_not_found")
	kinds := r.kindsOf()
	for _, k := range []audit.Kind{audit.WebhookCreated, audit.WebhookUpdated, audit.WebhookSecretRotated, audit.WebhookEnded} {
		if !slices.Contains(kinds, k) {
			t.Errorf("%s is not recorded", k)
		}
	}
}

// kindsOf are the kinds of all records.
func (r *rig) kindsOf() (out []audit.Kind) {
	page, _, err := r.store.AuditPage(r.t.Context(), store.Filter{}, 1000)
	r.ok(err)
	for _, rec := range page {
		out = append(out, rec.Kind)
	}
	return out
}

// TestDeadLetters: they are listed, sent again and discarded, once each.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	boss := r.login(r.person("dana", r.admins.ID), everything)
	h, ok, err := r.store.HoldNotices(t.Context(), "x", r.time().Add(time.Hour))
	if r.ok(err); !ok {
		t.Fatal("the lease is not to be had")
	}
	from, err := r.store.OpenChannel(t.Context(), h, notice.Mail)
	r.ok(err)
	letters := []notice.Delivery{
		{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Person: "usr_1 before", Attempts: 3, MadeAt: r.time(), Why: "550"},
		{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Person: "usr_2", Attempts: 1, MadeAt: r.time(), Why: "550"},
		{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Attempts: 1, NextAt: r.time(), MadeAt: r.time(), Why: "450"},
	}
	r.ok(r.store.Advance(t.Context(), h, notice.Mail, from, from+1, letters))
	got := r.want(boss.do("GET", "/v1/deliveries", nil), 200, "").items()
	if len(got) != 2 || got[0]["person"] != "usr_1" || got[0]["why"] != "550" {
		t.Fatalf("%v", got)
	}
	one := "/v1/deliveries/" + letters[0].ID
	r.want(boss.do("POST", one+"/resend", nil), 204, "")
	r.want(boss.do("POST", one+"/resend", nil), 409, "delivery_waiting")
	r.want(boss.do("DELETE", one, nil), 409, "delivery_waiting")
	r.want(boss.do("DELETE", "/v1/deliveries/"+letters[1].ID, nil), 204, "")
	r.want(boss.do("DELETE", "/v1/deliveries/"+letters[1].ID, nil), 404, "delivery_not_found")
	if got := boss.do("GET", "/v1/deliveries", nil).items(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	r.seed("", notice.Raise{Rule: notice.DiskHeadroom, Detail: "little"})
	if got := boss.do("GET", "/v1/alerts", nil).items(); len(got) != 1 || got[0]["name"] != notice.DiskHeadroom || got[0]["severity"] != "critical" || got[0]["next"] == "" {
		t.Errorf("%v", got)
	}
}

// TestLeaks: anybody signed in reports; what is not ours is no record; what was
// reported is nowhere in the answer or the log.
func TestLeaks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sam := r.login(r.person("sam"), "self")
	before := len(r.kindsOf())
	if a := r.want(sam.do("POST", "/v1/leaks", map[string]any{"secret": "something else"}), 200, ""); a.body["known"] != false {
		t.Errorf("%s", a.text)
	}
	if n := len(r.kindsOf()); n != before {
		t.Errorf("%d records of what is not ours", n-before)
	}
	a := r.want(sam.do("POST", "/v1/leaks", map[string]any{"secret": " leaked\n", "where": "a public repository"}), 200, "")
	if a.body["known"] != true || a.body["done"] != "it was ended" || strings.Contains(string(a.text), "leaked\\n") {
		t.Errorf("%s", a.text)
	}
	if !slices.Contains(r.kindsOf(), audit.SecretLeaked) {
		t.Error("it is not recorded")
	}
	if a := sam.do("GET", "/v1/leaks", nil); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("%d", a.StatusCode)
	}
}
