package risk

import (
	"slices"
	"time"
)

// maxPrompts is how many prompts are remembered of one actor, those of last.
const maxPrompts = 16

// end is what became of a prompt.
type end uint8

const (
	open end = iota // if nobody answers, it counts from due on
	answered
	denied // it counts from due on, which is when it was
	ends
)

// prompt is a question to prove or allow something that a person was asked.
type prompt struct {
	key        uint64    // a hash of its transaction
	asked, due time.Time // to the second
	end        end
	band       uint8 // of risk when it was asked, as its place in bands
}

var bands = []string{Low, Medium, High, Extreme}

// transaction names what a prompt belongs to without saying it.
func transaction(ref string) uint64 { return hash(kinds, ref) }

// Asked remembers that a person was asked for something: unless it is answered
// until due, it counts as ignored for an hour from then on. ref names the
// transaction it belongs to, band is that of risk at the time, "" if none was
// scored. Said twice, it is one prompt.
func (h *History) Asked(ref string, at, due time.Time, band string) {
	h.asks(prompt{key: transaction(ref), asked: at.Truncate(time.Second), due: due.Truncate(time.Second), band: uint8(max(0, slices.Index(bands, band)))})
}

func (h *History) asks(p prompt) {
	h.prompts = slices.DeleteFunc(h.prompts, func(o prompt) bool { return p.asked.Sub(o.due) > span })
	for i := range h.prompts {
		if o := &h.prompts[i]; o.key == p.key && o.asked.Equal(p.asked) {
			if o.end == open && p.end != open {
				o.end, o.due = p.end, p.due
			}
			o.band = max(o.band, p.band)
			return
		}
	}
	if len(h.prompts) == maxPrompts {
		if p.asked.Before(h.prompts[0].asked) {
			return
		}
		h.prompts = h.prompts[1:]
	}
	h.prompts = append(h.prompts, p)
	slices.SortStableFunc(h.prompts, func(a, b prompt) int { return a.asked.Compare(b.asked) })
}

// Answered remembers that the open prompts of a transaction were answered, by a
// proof or by a no. What was ignored already stays so. It reports whether there
// were any.
func (h *History) Answered(ref string, at time.Time, no bool) (found bool) {
	at = at.Truncate(time.Second)
	key := transaction(ref)
	for i := range h.prompts {
		p := &h.prompts[i]
		if p.key != key || p.end != open || !at.Before(p.due) {
			continue
		}
		found, p.end = true, answered
		if no {
			p.end, p.due = denied, at
		}
	}
	return found
}

// ignored counts the prompts of the last hour that were not answered, or with a
// no, each the less the longer ago. Those that the transaction itself caused do
// not count in it (mechanisms A14).
func (h *History) ignored(at time.Time, self string) (n float32) {
	key := transaction(self)
	for i := range h.prompts {
		p := &h.prompts[i]
		if p.end == answered || p.end == open && self != "" && p.key == key || at.Before(p.due) {
			continue
		}
		n += max(0, 1-float32(at.Sub(p.due))/float32(span))
	}
	return n
}

// before is the highest band at which this transaction was challenged, "" if it
// was not.
func (h *History) before(ref string, at time.Time) (band string) {
	if ref == "" {
		return ""
	}
	key := transaction(ref)
	worst := -1
	for i := range h.prompts {
		if p := &h.prompts[i]; p.key == key && at.Sub(p.asked) <= span {
			worst = max(worst, int(p.band))
		}
	}
	if worst < 0 {
		return ""
	}
	return bands[worst]
}
