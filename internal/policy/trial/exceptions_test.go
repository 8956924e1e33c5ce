package trial

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/policy"
)

const oneException = `exceptions:
  - id: travel
    rule: risk.high
    for: usr_1
    owner: security
    reason: "A key was lost: on a journey."
    instead: {rung: multi, max_age: 1h}
    until: 2026-12-01
`

func TestExceptions(t *testing.T) {
	got, err := Exceptions([]byte(oneException))
	want := []policy.Exception{{
		ID: "travel", Rule: "risk.high", For: "usr_1", Owner: "security", Reason: "A key was lost: on a journey.", Rung: 2, MaxAge: 3600,
		Until: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	want[0].MaxAge, want[0].Until = 0, want[0].Until.Add(time.Minute)
	if got, err = Exceptions([]byte(Write(want))); cmp.Diff(want, got) != "" || err != nil {
		t.Errorf("%s: %v %v", Write(want), got, err)
	}
	if got, err := Exceptions(nil); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
	for name, change := range map[string][2]string{
		"a member": {"owner:", "owned:"}, "a rung": {"multi", "mult"}, "an age": {"1h", "1"}, "half a second": {"1h", "1500ms"},
		"an end": {"2026-12-01", "soon"}, "a document": {"until: 2026-12-01\n", "until: 2026-12-01\n---\nexceptions: []\n"},
	} {
		if got, err := Exceptions([]byte(strings.Replace(oneException, change[0], change[1], 1))); err == nil || got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzExceptions(f *testing.F) {
	f.Add(oneException)
	f.Add("exceptions: [{until: 2026-12-01T00:00:00+23:59, instead: {rung: phr}}]")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Exceptions([]byte(text))
		if err != nil && got != nil {
			t.Fatal("an error with exceptions")
		}
		_ = policy.Source{Exceptions: got}.Hash()
	})
}
