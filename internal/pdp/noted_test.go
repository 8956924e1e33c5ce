package pdp

import (
	"strconv"
	"testing"
	"time"
)

// TestNoted: the same answer is recorded once a minute, of one caller and of one who acts so many at most,
// and one that could not be recorded is none.
func TestNoted(t *testing.T) {
	var n noted
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	x := note{caller: "a", actor: "usr_1", action: "deploy"}
	if !n.first(x, at) || n.first(x, at.Add(59*time.Second)) || !n.first(x, at.Add(time.Minute)) {
		t.Error("not once a minute")
	}
	n.forget(x)
	if !n.first(x, at.Add(time.Minute)) {
		t.Error("what was not recorded is taken for it")
	}
	at = at.Add(time.Hour)
	recorded := 0
	for i := range 2 * maxPerCaller {
		if n.first(note{caller: "a", actor: strconv.Itoa(i)}, at) {
			recorded++
		}
	}
	if recorded != maxPerCaller || !n.first(note{caller: "b"}, at) {
		t.Errorf("%d of one caller", recorded)
	}
	at = at.Add(time.Hour)
	recorded = 0
	for i := range 2 * maxPerCaller { // one who says another thing each time
		if n.first(note{caller: "a", actor: "usr_1", said: uint64(i)}, at) {
			recorded++
		}
	}
	if recorded != maxPerActor || !n.first(note{caller: "a", actor: "usr_2"}, at) || !n.first(note{caller: "b", actor: "usr_1"}, at) {
		t.Errorf("%d of one who acts", recorded)
	}
	if printable("a\x00") || printable("\u00e9") || !printable("a b~") {
		t.Error("a name of a request that no header holds")
	}
}
