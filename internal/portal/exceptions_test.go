package portal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// TestExceptionsPage: an administrator sees which rules are waived for whom, what ends
// first, first, what has ended apart, and what a rollout brings, without JavaScript; the
// page changes nothing and names the commands that do. Nobody else sees it.
func TestExceptionsPage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.seed(audit.LogOpened, store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: issuer}})
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	page := b.get("/admin/exceptions")
	page.shows(t, 200, "Exceptions")
	if !strings.Contains(page.body, "No rule is waived for anybody.") || !strings.Contains(page.body, "countersign policy exceptions add") {
		t.Error("without any it does not say so, or not how one is made")
	}
	sam.get("/admin/exceptions").shows(t, 403, "")

	src := policy.Default()
	except := func(id, who string, until time.Duration) {
		src.Exceptions = append(src.Exceptions, policy.Exception{ID: id, Rule: "risk.high", For: who, Owner: "security", Reason: "Why of " + id + ".", Rung: 2, MaxAge: 3600, Until: r.clock.now().Add(until)})
	}
	except("long", "group:administrators", 40*24*time.Hour)
	except("over", r.person("sam").ID, time.Minute)
	except("soon", r.person("sam").ID, 3*24*time.Hour)
	except("gone", "usr_01J9Z3KQ4X8M2N6P7R5T9V1W3Y", 30*24*time.Hour)
	except("before", "group:nobody", time.Second)
	r.seed(audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion, By: r.person("sam").ID}})
	r.clock.move(2 * time.Minute)
	page = b.get("/admin/exceptions")
	page.shows(t, 200, "Exceptions")
	at := 0
	for _, want := range []string{
		"version 1", "In force", "Ends soon", "Why of soon.", "risk.high", "a two-factor sign-in from the last hour", "countersign policy exceptions end ./policies soon",
		"an erased person", "no longer here", "Why of gone.", "administrators", "everybody in this group", "Why of long.",
		"Ended", "Why of over.", "Why of before.", "countersign policy publish",
	} {
		i := strings.Index(page.body[at:], want)
		if i < 0 {
			t.Fatalf("%q is not shown, or not in this order", want)
		}
		at += i
	}
	if strings.Contains(page.body, "<form method=\"post\" action=\"/admin/exceptions") || strings.Contains(page.body, "With rollout") {
		t.Error("the page changes something, or tells of a rollout that does not run")
	}

	with := policy.Default()
	with.Exceptions = src.Exceptions[:1]
	r.seed(audit.RolloutStarted, ruleset.Start{Rollout: ruleset.Rollout{N: 1, Hash: with.Hash(), Source: with, Base: 1, Waves: []policy.Wave{{Groups: []string{"administrators"}, From: r.clock.now()}, {Rest: true, From: r.clock.now().Add(time.Hour)}}}})
	page = b.get("/admin/exceptions")
	for _, want := range []string{"With rollout 1", "<bdi>administrators</bdi>", "/admin/rollout?n=1"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%q is not shown of the rollout", want)
		}
	}
	if strings.Contains(page.body, "everybody else") {
		t.Error("a wave that has not begun is told of")
	}
}
