package portal_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/store"
)

// noticing gives the rig its page of notices.
func (r *rig) noticing() {
	r.t.Helper()
	sealer, err := hsm.OpenOrCreateFile(r.t.TempDir() + "/kek")
	check(r.t, err)
	event := func(ctx context.Context, rec store.Record) (notice.Event, error) {
		parts, err := audit.Open(ctx, rec.Row, nil)
		return notice.NewEvent(rec.Seq, rec.Row, parts, nil), err
	}
	r.server.Notices = &portal.Notices{
		Store: r.store, Sealer: sealer, Plain: func(string) bool { return false },
		Size: func(ctx context.Context) (int64, error) {
			n, _, err := r.store.Head(ctx)
			return int64(n), err
		},
		Alerts: func(ctx context.Context, n int) (out []notice.Event, err error) {
			rows, _, err := r.store.AuditPage(ctx, store.Filter{Kinds: []audit.Kind{audit.AlertRaised}}, n)
			for _, rec := range rows {
				e, err := event(ctx, rec)
				if err != nil {
					return nil, err
				}
				out = append(out, e)
			}
			return out, err
		},
		Line: func(ctx context.Context, record string) (audit.Line, error) {
			rec, err := r.store.RecordByID(ctx, record)
			if err != nil {
				return audit.Line{}, err
			}
			e, err := event(ctx, rec)
			return e.Line, err
		},
	}
	r.http.Close()
	r.serve()
}

var (
	told     = regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`)
	hookLink = regexp.MustCompile(`/admin/notices/webhook\?id=(whk_\w+)`)
)

// A webhook from the console: made with a secret that is shown once, changed, given
// another secret, switched off and on, removed; without JavaScript.
func TestWebhookPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.noticing()
	b := r.browser()
	b.setUp()
	b.get("/admin/notices").shows(t, 200, "Notices")
	if a := b.get("/admin/notices"); !strings.Contains(a.body, "This server sends no mail") {
		t.Error("the page does not say that no mail is sent")
	}
	b.get("/admin/notices/webhook").shows(t, 200, "Add a webhook")
	b.post("/admin/notices/webhook", "name", "SIEM", "url", "http://siem.example.com").shows(t, 200, "Check your answers")
	b.post("/admin/notices/webhook", "name", "SIEM", "url", "https://siem.example.com", "events", "nothing.*").shows(t, 200, "Check your answers")
	a := b.post("/admin/notices/webhook", "name", "SIEM", "url", "https://siem.example.com", "events", "factor.* alert.*")
	a.shows(t, 200, "Secret of SIEM")
	first := told.FindString(a.body)
	page := b.get("/admin/notices")
	m := hookLink.FindStringSubmatch(page.body)
	if first == "" || m == nil || strings.Contains(page.body, "whsec_") {
		t.Fatalf("secret %t, page %s", first != "", page.body)
	}
	hook := m[1]
	b.get("/admin/notices/webhook?id="+hook).shows(t, 200, "Webhook SIEM")
	b.post("/admin/notices/webhook", "id", hook, "name", "Chat", "url", "https://chat.example.com").sent(t, "/admin/notices?done=webhook")
	a = b.post("/admin/notices/webhook/rotate", "id", hook)
	if a.shows(t, 200, "Secret of Chat"); told.FindString(a.body) == first || told.FindString(a.body) == "" {
		t.Error("no new secret")
	}
	live := func() bool {
		h, err := r.store.Webhook(context.Background(), hook)
		check(t, err)
		return h.Node.Live()
	}
	for _, on := range []bool{false, true} {
		b.post("/admin/notices/webhook/switch", "id", hook).sent(t, "/admin/notices?done=webhook")
		if live() != on {
			t.Errorf("switched: live %v", !on)
		}
	}
	b.post("/admin/notices/webhook/remove", "id", hook).sent(t, "/admin/notices?done=webhook")
	if a := b.get("/admin/notices/webhook?id=" + hook); a.status != 404 {
		t.Errorf("one that was removed: %d", a.status)
	}
	for _, k := range []audit.Kind{audit.WebhookCreated, audit.WebhookUpdated, audit.WebhookSecretRotated, audit.WebhookEnded} {
		if !slices.Contains(r.kinds(), k) {
			t.Errorf("%s is not recorded", k)
		}
	}
}

// Alerts that stand, those of the log, and dead letters, which are sent again or
// discarded; all of it for administrators with a sign-in of just now.
func TestNoticePages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.noticing()
	b := r.browser()
	b.setUp()
	ctx := context.Background()
	dana := r.person("dana@example.com")
	h, _, err := r.store.HoldNotices(ctx, "x", r.clock.now().Add(time.Hour))
	check(t, err)
	from, err := r.store.OpenChannel(ctx, h, notice.Mail)
	check(t, err)
	letters := []notice.Delivery{
		{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Person: dana.ID, Attempts: 1, MadeAt: r.clock.now(), Why: "550 5.1.1"},
		{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Person: "usr_gone", Attempts: 2, MadeAt: r.clock.now(), Why: "550 5.1.2"},
	}
	check(t, r.store.Advance(ctx, h, notice.Mail, from, from+1, letters))
	r.seed(audit.AlertRaised, notice.Raise{Rule: notice.DiskHeadroom, Detail: "little is free"})
	page := b.get("/admin/notices")
	page.shows(t, 200, "1 alert – Notices")
	for _, want := range []string{"The disk is nearly full", "little is free", "To Dana Example: 550 5.1.1, 1 attempt.", "somebody who was erased"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.post("/admin/notices/resend", "id", letters[0].ID).sent(t, "/admin/notices?done=delivery.resent")
	b.post("/admin/notices/discard", "id", letters[1].ID).sent(t, "/admin/notices?done=delivery.discarded")
	b.post("/admin/notices/discard", "id", letters[1].ID).sent(t, "/admin/notices")
	if d, err := r.store.Delivery(ctx, letters[0].ID); err != nil || d.Dead() {
		t.Errorf("%+v, %v", d, err)
	}

	other := r.browser()
	other.accept(b.invite("Sam", "sam@example.com", ""), "Sam", "sam@example.com")
	for _, path := range []string{"/admin/notices", "/admin/notices/webhook"} {
		if a := other.get(path); a.status != 403 {
			t.Errorf("%s for somebody who is no administrator: %d", path, a.status)
		}
	}
	for _, path := range []string{"/admin/notices/webhook", "/admin/notices/webhook/rotate", "/admin/notices/webhook/remove", "/admin/notices/resend"} {
		if a := other.post(path, "id", letters[0].ID, "name", "x", "url", "https://x.example"); a.status != 403 {
			t.Errorf("POST %s by somebody who is no administrator: %d", path, a.status)
		}
	}
	r.clock.move(20 * time.Minute)
	b.post("/admin/notices/resend", "id", letters[0].ID).sent(t, "/step-up?next=%2Fadmin%2Fnotices&why=notices")
	b.get("/admin/notices/webhook").sent(t, "/step-up?")
}
