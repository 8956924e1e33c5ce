package profile

import (
	"strconv"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
)

// TestRoom: memory is bounded, whoever was seen last is in it, and room is made for many at a
// time: what one wrong proof costs does not say whether somebody is known.
func TestRoom(t *testing.T) {
	p := &Profiles{}
	at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	made, before := 0, 0
	for i := range 3 * maxEntries {
		at = at.Add(time.Millisecond)
		p.Miss(id.Person+strconv.Itoa(i), "198.51.100.0/24", at)
		n := len(p.entries)
		if n > maxEntries || p.entries[id.Person+strconv.Itoa(i)] == nil || p.entries[id.Person+strconv.Itoa(max(0, i-maxEntries/2))] == nil {
			t.Fatalf("after %d there are %d, and one of the last is not among them", i+1, n)
		}
		if n < before {
			made++
		}
		before = n
	}
	if made == 0 || made > 2*8+1 {
		t.Errorf("room was made %d times", made)
	}
	p.Miss(id.Person+"late", "198.51.100.0/24", at.Add(time.Hour))
	for i := range maxEntries { // and whoever was not seen for long goes first
		p.Miss(id.Person+"again"+strconv.Itoa(i), "198.51.100.0/24", at.Add(time.Hour))
	}
	if n := len(p.entries); n > maxEntries || p.entries[id.Person+strconv.Itoa(3*maxEntries-1)] != nil {
		t.Errorf("%d are there, and one of an hour ago", n)
	}
}
