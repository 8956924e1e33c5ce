package policy

import (
	"testing"
	"time"
)

// TestDue: the day of a review is in time until it is over, in UTC; soon is the thirty
// days before that; an exception ends soon in its last seven days.
func TestDue(t *testing.T) {
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		review, now string
		want        Due
	}{
		{"", "2026-12-02T00:00:00Z", NotDue},
		{"2026-12-01", "2026-10-31T23:59:59Z", NotDue},
		{"2026-12-01", "2026-11-01T00:00:00Z", Soon},
		{"2026-12-01", "2026-12-01T23:59:59Z", Soon},
		{"2026-12-01", "2026-12-02T00:00:00Z", Overdue},
		{"2026-12-01", "2026-12-02T01:00:00+02:00", Soon}, // it is the day before in UTC
	} {
		if got := (&Policy{Review: c.review}).Due(at(c.now)); got != c.want {
			t.Errorf("%q at %s: %d, not %d", c.review, c.now, got, c.want)
		}
	}
	for _, c := range []struct {
		now  string
		want Due
	}{
		{"2026-11-24T14:59:59Z", NotDue},
		{"2026-11-24T15:00:00Z", Soon},
		{"2026-12-01T14:59:59Z", Soon},
		{"2026-12-01T15:00:00Z", Overdue},
	} {
		if got := (&Exception{Until: at("2026-12-01T15:00:00Z")}).Due(at(c.now)); got != c.want {
			t.Errorf("at %s: %d, not %d", c.now, got, c.want)
		}
	}
}

// TestReviews: what is due comes in the order of its dates, with what has ended left out
// of what ends, and owners are found of rules and exceptions.
func TestReviews(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	s := &Set{
		policies: []Policy{{ID: "b", Review: "2026-12-20", Owner: "ops"}, {ID: "far", Review: "2027-06-01"}, {ID: "a", Review: "2026-11-01"}, {ID: "never"}},
		exceptions: []Exception{
			{ID: "later", Until: now.Add(EndsSoon + time.Second)},
			{ID: "second", Until: now.Add(EndsSoon)},
			{ID: "over", Until: now},
			{ID: "first", Until: now.Add(time.Second), Owner: "security"},
		},
	}
	if got := s.Reviews(now); len(got) != 2 || got[0].ID != "a" || got[1].ID != "b" {
		t.Errorf("%+v", got)
	}
	if got := s.Ending(now); len(got) != 2 || got[0].ID != "first" || got[1].ID != "second" {
		t.Errorf("%+v", got)
	}
	for id, want := range map[string]string{"b": "ops", "a": "", "exception:first": "security", "first": "", "gone": ""} {
		if got := s.OwnerOf(id); got != want {
			t.Errorf("%s: %q", id, got)
		}
	}
}
