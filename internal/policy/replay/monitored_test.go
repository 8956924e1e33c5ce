package replay

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTally: the pages of one window add up to the same in any order, people are counted
// once, and of erased ones nothing is said of a day.
func TestTally(t *testing.T) {
	at := func(h int) time.Time { return monday.Add(time.Duration(h) * time.Hour) }
	parts := []Would{
		{Rule: "nights", Who: "usr_1", Day: "2026-11-02", Denied: 2, Last: "rec_2", LastAt: at(1)},
		{Rule: "nights", Who: "usr_1", Day: "2026-11-02", Prompted: 1, Last: "rec_1", LastAt: at(0)},
		{Rule: "nights", Who: "usr_1", Day: "2026-11-03", Denied: 1, Last: "rec_5", LastAt: at(24)},
		{Rule: "nights", Who: "svc_1", Day: "2026-11-03", Denied: 4, Allowed: 1, Last: "rec_4", LastAt: at(23)},
		{Rule: "nights", Day: "2026-11-03", Denied: 7, Last: "rec_6", LastAt: at(24)},
		{Rule: "open", Who: "usr_1", Day: "2026-11-02", Allowed: 3, Last: "rec_2", LastAt: at(1)},
	}
	want := []RuleWould{
		{Rule: "nights", Denied: 14, Prompted: 1, Allowed: 1, People: 2, PerDay: 8.0 / 3, PerDayMax: 4, Last: "rec_6", LastAt: at(24)},
		{Rule: "open", Allowed: 3, People: 1, Last: "rec_2", LastAt: at(1)},
	}
	for turn := range parts {
		var tally Tally
		for i := range parts {
			tally.Add(parts[(i+turn)%len(parts)])
		}
		if d := cmp.Diff(want, tally.Rules()); d != "" {
			t.Errorf("begun with %d:\n%s", turn, d)
		}
		rows := tally.Rows()
		if len(rows) != 5 || rows[0].Who != "" || rows[2].Who != "usr_1" || rows[2].Denied != 2 || rows[2].Prompted != 1 || rows[2].Last != "rec_2" || tally.Cut() {
			t.Errorf("%+v", rows)
		}
	}
}

// TestTallyIsBounded: beyond what is counted by person and day the totals still are of
// everything, and it is said.
func TestTallyIsBounded(t *testing.T) {
	var tally Tally
	for i := range maxRows + 10 {
		tally.Add(Would{Rule: "r", Who: "usr_" + strconv.Itoa(i), Day: "2026-11-02", Denied: 1})
	}
	if got := tally.Rules(); !tally.Cut() || len(got) != 1 || got[0].Denied != maxRows+10 || got[0].People != maxRows || len(tally.Rows()) != maxRows+1 {
		t.Errorf("%+v", got)
	}
}
