package portal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// An administrator sees a rollout, pauses and resumes a wave, and takes it back or
// finishes it, without JavaScript: with a phishing-resistant sign-in of just now, after
// being told what comes of it, on record; and nobody else does.
func TestRolloutPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.seed(audit.LogOpened, store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: issuer}})
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	b.get("/admin/rollout").shows(t, 200, "Rollout")
	b.get("/admin/rollout/change?rollout=1&do=pause&wave=1&revision=1").shows(t, 409, "")
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `@id("hw") @reason("r") forbid (principal is Person, action == Action::"session.end", resource) unless { context.assurance.age.phrh <= duration("15m") };`})
	begin := func(n int64) {
		var change act.Change = ruleset.Start{Rollout: ruleset.Rollout{N: n, Hash: src.Hash(), Source: src, Note: "for the audit", Waves: []policy.Wave{{Rest: true, From: r.clock.now(), Budget: policy.Budget{Prompts: 4}}}}}
		r.seed(audit.RolloutStarted, change)
	}
	rollout := func(n int64) ruleset.Rollout {
		t.Helper()
		ro, err := r.store.Rollout(t.Context(), n)
		check(t, err)
		return ro
	}
	begin(1)
	sam.get("/admin/rollout").shows(t, 403, "")
	sam.post("/admin/rollout/change", "rollout", "1", "do", "undo", "wave", "0", "revision", "1")
	page := b.get("/admin/rollout")
	page.shows(t, 200, "Rollout")
	for _, want := range []string{"everybody else", "In force", "0 of 4", "for the audit", "hw", "2 of 2 people in waves", "do=finish"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.get("/admin/rollout/change?rollout=1&do=stop&wave=1&revision=1").shows(t, 400, "")
	b.get("/admin/rollout/change?rollout=1&do=resume&wave=1&revision=1").shows(t, 409, "")

	number := "1"
	do := func(verb, wave, to string, revision string) {
		t.Helper()
		page := b.get("/admin/rollout/change?rollout=" + number + "&do=" + verb + "&wave=" + wave + "&revision=" + revision)
		page.shows(t, 200, "")
		b.post("/admin/rollout/change", "rollout", page.field(t, "rollout"), "do", page.field(t, "do"), "wave", page.field(t, "wave"), "revision", page.field(t, "revision")).sent(t, "/admin/rollout?done="+to)
		if k := r.kinds(); k[len(k)-1].Name() != to {
			t.Errorf("recorded is %s", k[len(k)-1])
		}
	}
	do("pause", "1", "rollout.paused", "1")
	if rollout(1).Waves[0].Held != policy.Paused {
		t.Errorf("%+v", rollout(1).Waves)
	}
	b.post("/admin/rollout/change", "rollout", "1", "do", "undo", "wave", "0", "revision", "1").shows(t, 409, "") // as it was seen before
	do("resume", "1", "rollout.resumed", "2")
	do("undo", "1", "rollout.undone", "3")
	r.clock.move(20 * time.Minute)
	b.post("/admin/rollout/change", "rollout", "1", "do", "resume", "wave", "1", "revision", "4").sent(t, "/step-up?")
	if rollout(1).Waves[0].Held != policy.Undone {
		t.Error("an old sign-in let it go on")
	}
	b.stepUp(0, "/admin/rollout/change?rollout=1&do=resume&wave=1&revision=4")
	do("resume", "1", "rollout.resumed", "4")
	do("undo", "0", "rollout.undone", "5")
	if rollout(1).State != ruleset.TakenOff {
		t.Errorf("%+v", rollout(1))
	}
	if page := b.get("/admin/rollout"); strings.Contains(page.body, "All rollouts") || strings.Contains(page.body, "Who is not ready") {
		t.Error("the only one has a history, or one that is over has people who are not ready")
	}
	begin(2)
	number = "2"
	for _, verb := range []string{"finish", "undo"} { // as the one before was seen, which had this revision too
		b.get("/admin/rollout/change?rollout=1&do="+verb+"&wave=0&revision=1").shows(t, 409, "")
		b.post("/admin/rollout/change", "rollout", "1", "do", verb, "wave", "0", "revision", "1").shows(t, 409, "")
		b.post("/admin/rollout/change", "do", verb, "wave", "0", "revision", "1").shows(t, 400, "")
	}
	b.get("/admin/rollout/change?rollout=2&do=finish&wave=1&revision=1").shows(t, 200, "Finish the rollout?")
	do("finish", "1", "rollout.finished", "1")
	if ro := rollout(2); ro.State != ruleset.Finished || ro.Version != 1 {
		t.Errorf("%+v", ro)
	}
	if page := b.get("/admin/rollout?done=rollout.finished"); !strings.Contains(page.body, "in force for everybody as version 1") {
		t.Error("the page does not say that it is finished")
	}
	page = b.get("/admin/rollout")
	for _, want := range []string{"All rollouts", "In force as version 1", "Taken back", "/admin/rollout?n=1"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the history does not say %q", want)
		}
	}
	if page := b.get("/admin/rollout?n=1"); !strings.Contains(page.body, "It was taken back.") || strings.Contains(page.body, "/admin/rollout/change") {
		t.Error("the first one is not shown, or can be changed")
	}
	b.get("/admin/rollout?n=9").shows(t, 404, "")
	sam.get("/admin/rollout?n=1").shows(t, 403, "")
}
