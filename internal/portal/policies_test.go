package portal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// inOrder holds a page to what it shows, one after the other.
func inOrder(t *testing.T, page answer, wants ...string) {
	t.Helper()
	at := 0
	for _, want := range wants {
		i := strings.Index(page.body[at:], want)
		if i < 0 {
			t.Fatalf("%q is not shown, or not in this order", want)
		}
		at += i
	}
}

// TestPoliciesPage: an administrator sees the rules in force by file, those that are
// overdue first and in words, what those in monitor would have done and to whom, and every
// version before, a damaged one too, without JavaScript. Nobody else sees it, and while
// the set in force is damaged it says what everything says then.
func TestPoliciesPage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.seed(audit.LogOpened, store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: issuer}})
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	page := b.get("/admin/policies")
	page.shows(t, 200, "Policies")
	inOrder(t, page, "The default set of this release is in force", policy.Builtin().Version(), "No rule is in mode monitor", "10-sessions.cedar", "session.open", "host.cedar", "Part of every version")
	if strings.Contains(page.body, "All versions") || strings.Contains(page.body, "To be looked at") {
		t.Error("the default set has a history, or is due")
	}
	sam.get("/admin/policies").shows(t, 403, "")
	sam.get("/admin/policies?n=0").shows(t, 403, "")

	date := func(days int) string { return r.clock.now().AddDate(0, 0, days).Format(time.DateOnly) }
	publish := func(n int64, by, note string, edit func(*policy.Source)) {
		t.Helper()
		src := policy.Default()
		src.Files = append(src.Files, policy.File{Name: "99-more.cedar", Text: fmt.Sprintf(`
@id("z.late") @reason("Late.") @owner("ops") @review(%q) forbid (principal, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };
@id("soon") @reason("Soon.") @review(%q) forbid (principal, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };
@id("no.names") @reason("Names stay.") @mode("monitor") forbid (principal is Person, action == Action::"person.invite", resource);
@id("quiet") @reason("Quiet.") @mode("monitor") forbid (principal is Person, action == Action::"key.rotate", resource);`, date(-4), date(9))})
		edit(&src)
		r.seed(audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: n, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion, By: by, Note: note}})
	}
	publish(1, r.person("sam").ID, "for the audit", func(*policy.Source) {})
	b.invite("Mira", "", "")
	b.invite("Lee", "", "")
	page = b.get("/admin/policies")
	page.shows(t, 200, "Policies")
	inOrder(t, page, "Version 1, published", "by <bdi>Sam</bdi>", "for the audit",
		"To be looked at", "z.late", "Late.", "<bdi>ops</bdi>", r.clock.now().AddDate(0, 0, -4).Format("2 January"), "Overdue", "soon", "Nobody", "Due soon",
		"In monitor", "no.names", "Names stay.", `<span>2</span>`, "before=rec_", "quiet", "Never", "Whom <code>no.names</code> would have met", "2 times on", "Out of ", "What is only read is not recorded",
		"99-more.cedar", "z.late", "Enforced", "Monitor", "host.cedar", `href="/admin/exceptions"`, `href="/admin/rollout"`,
		"All versions", "Version 1", "In force", "Shown above", "/admin/policies?n=0")
	_, last, _ := strings.Cut(page.body, "before=")
	last, _, _ = strings.Cut(last, "~")
	log := b.get("/admin/audit?before=" + last + "~")
	if first := strings.Index(log.body, "rec_"); first < 0 || !strings.HasPrefix(log.body[first:], last) {
		t.Errorf("the log does not begin with %s", last)
	}
	if strings.Contains(page.body, `method="post" action="/admin/policies`) {
		t.Error("the page changes something")
	}
	inOrder(t, b.get("/admin/policies?n=0"), "It is not in force", "Look at what is in force", "session.open")
	b.get("/admin/policies?n=9").shows(t, 404, "")

	// A version before that is damaged is shown as that; one in force is no page at all.
	publish(2, "", "", func(src *policy.Source) { src.Files[0].Text = "permit (" })
	b.get("/admin/policies").shows(t, 503, "")
	publish(3, "", "", func(*policy.Source) {})
	b.get("/admin/policies").shows(t, 200, "Policies")
	inOrder(t, b.get("/admin/policies?n=2"), "Version 2, put in force", "by the operator of the host", "This server cannot read this version", "All versions", "Version 3")

	// Whoever is refused learns by which rule, and whom to ask.
	publish(4, "", "", func(src *policy.Source) {
		src.Files = append(src.Files, policy.File{Name: "freeze.cedar", Text: `@id("freeze") @reason("Nobody is invited.") @owner("front desk") forbid (principal is Person, action == Action::"person.invite", resource);`})
	})
	refused := b.get("/admin/invite")
	refused.shows(t, 403, "")
	inOrder(t, refused, "Nobody is invited.", "freeze", "Ask <bdi>front desk</bdi> about it.")
}
