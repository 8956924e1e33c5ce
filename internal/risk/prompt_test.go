package risk_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
)

// copied is a history as it is kept and read again.
func copied(t *testing.T, h *risk.History) *risk.History {
	t.Helper()
	b, err := h.MarshalBinary()
	if err != nil || len(b) > 4<<10 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	var out risk.History
	if err := out.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if again, _ := out.MarshalBinary(); !bytes.Equal(again, b) {
		t.Fatal("written differently than read")
	}
	return &out
}

// TestPrompts: what is not answered in time, or with a no, counts for an hour; what
// is answered does not, and in its own transaction nothing that is open does.
func TestPrompts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		do    func(h *risk.History, at time.Time)
		after time.Duration
		self  string
		want  string
	}{
		{"shown a moment ago", func(h *risk.History, at time.Time) { ask(h, 5, at) }, time.Minute, "", ""},
		{"ignored", func(h *risk.History, at time.Time) { ask(h, 6, at) }, 15 * time.Minute, "", "prompts+50"},
		{"one was ignored", func(h *risk.History, at time.Time) { ask(h, 1, at) }, 15 * time.Minute, "", ""},
		{"ignored long ago", func(h *risk.History, at time.Time) { ask(h, 6, at) }, 71 * time.Minute, "", ""},
		{"answered", func(h *risk.History, at time.Time) {
			ask(h, 6, at)
			for i := range 6 {
				h.Answered(fmt.Sprint("tx", i), at.Add(5*time.Minute), false)
			}
		}, 15 * time.Minute, "", ""},
		{"answered with a no, at once", func(h *risk.History, at time.Time) {
			ask(h, 6, at)
			for i := range 6 {
				h.Answered(fmt.Sprint("tx", i), at.Add(time.Minute), true)
			}
		}, 2 * time.Minute, "", "prompts+50"},
		{"answered too late", func(h *risk.History, at time.Time) {
			ask(h, 6, at)
			for i := range 6 {
				if h.Answered(fmt.Sprint("tx", i), at.Add(11*time.Minute), false) {
					t.Error("what was ignored was answered")
				}
			}
		}, 15 * time.Minute, "", "prompts+50"},
		{"the transaction's own", func(h *risk.History, at time.Time) {
			for i := range 6 {
				h.Asked("tx", at.Add(time.Duration(i)*time.Second), at.Add(10*time.Minute), risk.Medium)
			}
		}, 12 * time.Minute, "tx", ""},
		{"… a no in it is a mismatch", func(h *risk.History, at time.Time) {
			for i := range 6 {
				h.Asked("tx", at.Add(time.Duration(i)*time.Second), at.Add(10*time.Minute), risk.Medium)
			}
			h.Answered("tx", at.Add(time.Minute), true)
		}, 2 * time.Minute, "tx", "prompts+50"},
		{"said again", func(h *risk.History, at time.Time) {
			for range 9 {
				ask(h, 1, at)
			}
		}, 12 * time.Minute, "", ""},
		{"more than are remembered", func(h *risk.History, at time.Time) { ask(h, 400, at) }, 25 * time.Minute, "", "prompts+50"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, e := settled()
			tc.do(h, e.At)
			e.At, e.Transaction = e.At.Add(tc.after), tc.self
			for _, h := range []*risk.History{h, copied(t, h)} {
				if a := risk.Default().Score(h, e, 0, nil); names(a) != tc.want {
					t.Errorf("%q, want %q", names(a), tc.want)
				}
			}
		})
	}
}

// ask puts prompts of n transactions before somebody, a second apart.
func ask(h *risk.History, n int, at time.Time) {
	for i := range n {
		h.Asked(fmt.Sprint("tx", i), at.Add(time.Duration(i)*time.Second), at.Add(10*time.Minute), risk.Low)
	}
}

// TestPromptsOfTwoProcesses: one asks, the other hears the answer, in any order of
// joining.
func TestPromptsOfTwoProcesses(t *testing.T) {
	h, e := settled()
	ask(h, 6, e.At)
	other := copied(t, h)
	for i := range 6 {
		other.Answered(fmt.Sprint("tx", i), e.At.Add(time.Minute), false)
	}
	back := copied(t, other)
	back.Merge(h)
	h.Merge(other)
	e.At = e.At.Add(15 * time.Minute)
	for _, h := range []*risk.History{h, back} {
		if a := risk.Default().Score(h, e, 0, nil); a.Score != 0 {
			t.Errorf("answered elsewhere: %s", names(a))
		}
	}
}

// TestBandBefore is A14: the band of a challenge stays with its transaction, the
// highest of several; other transactions know nothing of it.
func TestBandBefore(t *testing.T) {
	h, e := settled()
	h.Asked("tx", e.At, e.At.Add(10*time.Minute), risk.High)
	h.Asked("tx", e.At.Add(time.Minute), e.At.Add(10*time.Minute), risk.Medium)
	h.Answered("tx", e.At.Add(2*time.Minute), false)
	e.At = e.At.Add(3 * time.Minute)
	for _, h := range []*risk.History{h, copied(t, h)} {
		for self, want := range map[string]string{"tx": risk.High, "other": "", "": ""} {
			e.Transaction = self
			a := risk.Default().Score(h, e, 0, nil)
			worst := want
			if worst == "" {
				worst = risk.Low
			}
			if a.Before != want || a.Band != risk.Low || a.Worst() != worst {
				t.Errorf("%q: %s before, %s now, %s", self, a.Before, a.Band, a.Worst())
			}
		}
	}
}

// TestProbing is A12: more than twenty distinct refused actions below one node in
// five minutes, and what they are remembered in is bounded.
func TestProbing(t *testing.T) {
	for _, tc := range []struct {
		name     string
		n, other int // so many distinct actions, and again as another node
		apart    time.Duration
		want     bool
	}{
		{"twenty", 20, 0, time.Second, false},
		{"twenty-one", 21, 0, time.Second, true},
		{"a hundred, slowly", 100, 0, 16 * time.Second, false},
		{"a hundred at their pace", 100, 0, 14 * time.Second, true},
		{"twenty each of two", 20, 20, time.Second, false},
	} {
		var p risk.Probes
		at, got := monday, false
		for i := range tc.n {
			at = at.Add(tc.apart)
			got = p.Refused("grant", fmt.Sprint("action", i), at) || got
			p.Refused("grant", "action0", at) // what was asked before is not another one
		}
		for i := range tc.other {
			got = p.Refused("other", fmt.Sprint("more", i), at) || got
		}
		if got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
	var p risk.Probes
	for i := range 21 {
		p.Refused("first", fmt.Sprint(i), monday)
	}
	for i := range 5000 {
		p.Refused(fmt.Sprint("node", i), "action", monday.Add(time.Second))
	}
	if p.Refused("first", "one more", monday.Add(2*time.Second)) {
		t.Error("nothing is ever forgotten")
	}
	h, e := settled()
	h.Probed(e.At)
	e.At = e.At.Add(59 * time.Minute)
	if a := risk.Default().Score(copied(t, h), e, 0, nil); names(a) != "probing+45" || a.Band != risk.Medium {
		t.Errorf("%s %s", names(a), a.Band)
	}
	if e.At = e.At.Add(time.Minute); risk.Default().Score(h, e, 0, nil).Score != 0 {
		t.Error("it counts for more than an hour")
	}
}
