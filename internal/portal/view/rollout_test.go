package view

import "testing"

// TestReadiness: who is ready is said in a sentence that fits how many there are.
func TestReadiness(t *testing.T) {
	for want, m := range map[string]Rollout{
		"Nobody is in a wave.":                                                                                           {},
		"Nobody of those looked at is in a wave.":                                                                        {Part: true},
		"The one person in a wave has enrolled what the new policies ask.":                                               {Looked: 1},
		"The one person in a wave could not do any more what they can, by what they have enrolled.":                      {Looked: 1, NotReady: 1},
		"All 12 people in waves have enrolled what the new policies ask.":                                                {Looked: 12},
		"All 100 people in waves, of those looked at, have enrolled what the new policies ask.":                          {Looked: 100, Part: true},
		"3 of 12 people in waves could not do any more what they can, by what they have enrolled.":                       {Looked: 12, NotReady: 3},
		"The one person in a wave, of those looked at, could not do any more what they can, by what they have enrolled.": {Looked: 1, NotReady: 1, Part: true},
	} {
		if got := m.readiness(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
