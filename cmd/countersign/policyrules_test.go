package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// ruled tells of the rules of a version, and of what those in monitor would have done: in
// two pages.
func (i *issuer) ruled(w http.ResponseWriter, r *http.Request, id, verb string) (told bool) {
	q := r.URL.Query()
	now := time.Now().UTC()
	switch {
	case verb == "rules":
		answer(w, 200, map[string]any{"version": 0, "items": []map[string]any{
			{"id": "first", "file": "10.cedar", "mode": "enforce", "reason": "Why\x1b[31m.", "owner": "ops", "review": "2026-12-09", "due": "soon"},
			{"id": "late", "file": "10.cedar", "mode": "enforce", "reason": "Why.", "owner": "security", "review": "2026-10-01", "due": "overdue"},
			{"id": "nights", "file": "20.cedar", "mode": "monitor", "reason": "Why."},
			{"id": "quiet", "file": "20.cedar", "mode": "monitor", "reason": "Why."},
		}})
	case id != "monitored":
		return false
	case q.Get("before") == "":
		from := now.Add(-time.Hour)
		answer(w, 200, replay.Monitored{Read: 2000, From: &from, Next: "rec_5", Items: []replay.Would{
			{Rule: "nights", Who: "usr_1", Day: "2026-11-02", Denied: 3, Last: "rec_9", LastAt: now},
			{Rule: "before", Who: "svc_1", Day: "2026-11-02", Prompted: 1, Last: "rec_7", LastAt: now},
		}})
	default:
		from := now.Add(-2 * time.Hour)
		answer(w, 200, replay.Monitored{Read: 10, From: &from, Items: []replay.Would{
			{Rule: "nights", Who: "usr_1", Day: "2026-11-02", Denied: 1, Last: "rec_2", LastAt: now.Add(-time.Hour)},
			{Rule: "nights", Day: "2026-11-02", Denied: 2, Last: "rec_3", LastAt: now.Add(-time.Hour)},
		}})
	}
	return true
}

// TestWarnings: of what is due, and what ends, a directory's commands warn, with whom to
// ask; by the clock, and of nothing that is in time.
func TestWarnings(t *testing.T) {
	now := time.Now().UTC()
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `
@id("over") @reason("r") @owner("ops") @review("` + now.AddDate(0, 0, -1).Format(time.DateOnly) + `") forbid (principal, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };
@id("soon") @reason("r") @review("` + now.AddDate(0, 0, 20).Format(time.DateOnly) + `") forbid (principal, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };
@id("later") @reason("r") @review("` + now.AddDate(0, 0, 50).Format(time.DateOnly) + `") forbid (principal, action == Action::"key.rotate", resource) when { context.network.zone == "moon" };`})
	for id, until := range map[string]time.Time{"journey": now.Add(48 * time.Hour), "long": now.Add(20 * 24 * time.Hour)} {
		src.Exceptions = append(src.Exceptions, policy.Exception{ID: id, Rule: "risk.high", For: "group:oncall", Owner: "security", Reason: "r", Rung: 2, Until: until})
	}
	set, err := policy.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	a := &app{console: console{err: &said}}
	rules, ending := a.dueIn(set)
	a.remind(rules, ending)
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "warning: x.cedar:2: over was to be looked at by ") || !strings.HasSuffix(lines[0], "; ask ops.") ||
		!strings.HasPrefix(lines[1], "warning: x.cedar:3: soon is to be looked at by ") || !strings.HasPrefix(lines[2], "warning: the exception journey ends on ") {
		t.Errorf("%s", said.String())
	}
}
