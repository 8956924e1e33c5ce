package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// publish puts the default set with more beside it in force.
func (n *newsroom) publish(version int64, exceptions []policy.Exception, reviews ...string) {
	n.t.Helper()
	src := policy.Default()
	src.Exceptions = exceptions
	for i, date := range reviews {
		src.Files = append(src.Files, policy.File{Name: fmt.Sprintf("r%d.cedar", i), Text: fmt.Sprintf(
			`@id("rule.%d") @reason("Why.") @owner("security") @review(%q) forbid (principal is Person, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };`, i, date)})
	}
	n.record(audit.PolicyPublished, nil, ruleset.Publish{Version: ruleset.Version{N: version, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}})
}

// TestReviewsAreTold: administrators hear once of each rule in force whose review is
// overdue, and of each exception that ends soon, whoever looks; those that begin together
// in one mail; and it is over when a version without it is in force. The clock decides.
func TestReviewsAreTold(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		boss := n.person("boss", n.admins())
		n.notices.Every = 20 * time.Millisecond
		n.notices.Conditions = []notify.Condition{{Rule: notice.ReviewOverdue, Each: n.reviewOverdue}, {Rule: notice.ExceptionEnds, Each: n.exceptionEnds}}
		n.run(n.notices.Run)
		n.begun()
		day := func(d int) string { return n.now().UTC().AddDate(0, 0, d).Format(time.DateOnly) }
		standing := func() (out []string) {
			all, err := n.Store.Standing(t.Context())
			check(t, err)
			for _, s := range all {
				if s.Rule == notice.ReviewOverdue || s.Rule == notice.ExceptionEnds {
					out = append(out, s.Rule+" "+s.Subject)
				}
			}
			return out
		}
		exception := []policy.Exception{{ID: "journey", Rule: "risk.high", For: "group:oncall", Owner: "security", Reason: "A key was lost.", Rung: 2, Until: n.now().UTC().Add(20 * 24 * time.Hour).Truncate(time.Second)}}
		late, later, coming := day(-3), day(-2), day(10)
		n.publish(1, exception, late, later, coming)
		waitFor(t, func() bool { return len(standing()) == 2 })
		first := n.relay.Wait(t, 1)
		for _, want := range []string{"rule.0 was to be looked at by " + late, "rule.1 was to be looked at by " + later, "countersign policy rules --due"} {
			if first[0].To != boss.Email || !strings.Contains(first[0].Plain, want) {
				t.Errorf("%q is not told to them: %s\n%s", want, first[0].To, first[0].Plain)
			}
		}
		if strings.Contains(first[0].Plain, "rule.2") || strings.Contains(first[0].Plain, "security") {
			t.Errorf("what is in time, or an owner, is told:\n%s", first[0].Plain)
		}

		// Days go by: another is overdue, and the exception ends soon. The first two are
		// not told again.
		n.ahead.Add(int64(14 * 24 * time.Hour))
		want := []string{notice.ReviewOverdue + " rule.2 " + coming, notice.ExceptionEnds + " journey " + exception[0].Until.Format(time.RFC3339)}
		waitFor(t, func() bool { return len(standing()) == 4 })
		for _, w := range want {
			if !strings.Contains(strings.Join(standing(), "\n"), w) {
				t.Errorf("%q does not stand: %q", w, standing())
			}
		}
		told := ""
		for _, m := range n.relay.Wait(t, 3)[1:] {
			told += m.Plain
		}
		if !strings.Contains(told, "rule.2") || !strings.Contains(told, "journey, from the rule risk.high, ends on") || strings.Contains(told, "rule.0") {
			t.Errorf("%s", told)
		}

		// A version with other dates ends what stood, and the exception has ended by then.
		n.publish(2, nil, day(90), later)
		waitFor(t, func() bool { return len(standing()) == 1 })
		if got := standing()[0]; got != notice.ReviewOverdue+" rule.1 "+later {
			t.Errorf("%s stands", got)
		}
		if got := n.relay.Messages(); len(got) != 3 {
			t.Errorf("told %d times", len(got))
		}
	})
}
