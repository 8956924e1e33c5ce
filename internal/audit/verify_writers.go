package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Writers is what the processes that wrote a log say of it, while it is verified
// (mechanisms E3): it follows their numbers through all epochs.
type Writers struct {
	by      map[[8]byte]*writer
	vouched uint64
	pruned  bool // rows were not there to be looked at
	rests   []rest
	said    map[string]Pruning // by record
}

// NewWriters makes the state that is handed from one epoch to the next.
func NewWriters() *Writers {
	return &Writers{by: make(map[[8]byte]*writer), said: make(map[string]Pruning)}
}

// writer is one process.
type writer struct {
	id      [8]byte
	beaten  uint64              // the number up to which it has vouched
	seen    map[uint64][32]byte // numbers above that, with their leaves
	waiting []*claim            // beats whose records have not all come yet, in order
	last    Beat
	unknown []Range // numbers that it says it does not know of
	highest uint64
	closed  bool
	lost    bool
	blind   bool // wrote too much without vouching for it; the next beat says nothing
}

// claim is a beat that is being checked.
type claim struct {
	Beat
	at  uint64 // index of its row
	got uint64 // records of it that have come
}

// writerSpan is how many records of a process are kept in mind without a beat.
const writerSpan = 1 << 18

// writerFault is why the word of a process does not hold.
type writerFault struct{ what string }

func (f *writerFault) Error() string { return f.what }

func (w *writer) faultf(format string, args ...any) error {
	return &writerFault{fmt.Sprintf(format, args...) + " (process " + hex.EncodeToString(w.id[:]) + ")"}
}

func (ws *Writers) of(id [8]byte) *writer {
	w, ok := ws.by[id]
	if !ok {
		w = &writer{id: id, seen: make(map[uint64][32]byte)}
		ws.by[id] = w
	}
	return w
}

// row follows one row of the log.
func (ws *Writers) row(at uint64, id string, e Entry, leaf [32]byte, general OpenPart) error {
	w := ws.of(e.Writer)
	if err := w.number(e.WSeq, leaf); err != nil {
		return err
	}
	switch e.Kind {
	case WriterBeat:
		b, err := beatOf(e, general)
		if err != nil {
			return &writerFault{err.Error()}
		}
		if err := w.beat(b, at); err != nil {
			return err
		}
	case LogPruned:
		p, err := prunedBy(general)
		if err == nil { // a refusal says nothing
			ws.said[id] = p
		}
	case WriterLost:
		id, err := lostOf(general)
		if err != nil {
			return &writerFault{err.Error()}
		}
		ws.of(id).lost = true
	default:
		w.lost = w.lost && e.WSeq <= w.highest // it came back
	}
	w.highest = max(w.highest, e.WSeq)
	return w.settle(ws)
}

// number takes a number that is in the log.
func (w *writer) number(n uint64, leaf [32]byte) error {
	if n <= w.beaten {
		if slices.ContainsFunc(w.unknown, func(r Range) bool { return r.has(n) }) {
			return nil
		}
		return w.faultf("number %d was said to be settled without this row", n)
	}
	if _, twice := w.seen[n]; twice {
		return w.faultf("two rows have the number %d", n)
	}
	if w.blind {
		return nil
	}
	if len(w.seen) >= writerSpan {
		w.seen, w.waiting, w.blind = make(map[uint64][32]byte), nil, true
		return nil
	}
	w.seen[n] = leaf
	for _, c := range w.waiting {
		if c.From <= n && n <= c.Last && !c.unknown(n) {
			c.got++
		}
	}
	return nil
}

func (b *Beat) unknown(n uint64) bool {
	return slices.ContainsFunc(b.Unknown, func(r Range) bool { return r.has(n) })
}

func (b *Beat) rolledBack(n uint64) bool {
	return slices.ContainsFunc(b.RolledBack, func(r Range) bool { return r.has(n) })
}

// beat takes the process's word.
func (w *writer) beat(b Beat, at uint64) error {
	if w.blind {
		w.blind, w.beaten, w.last = false, b.Last, b
		return nil
	}
	next := w.beaten + 1
	if l := len(w.waiting); l > 0 {
		next = w.waiting[l-1].Last + 1
	}
	if b.From != next {
		if b.From == w.last.From && b.Last == w.last.Last && b.Leaves == w.last.Leaves {
			w.closed = w.closed || b.Closing
			return nil // said twice: the process did not hear that it was heard
		}
		return w.faultf("it vouches for its numbers from %d on, and for those before from %d on it never did", b.From, next)
	}
	c := &claim{Beat: b, at: at}
	for n := range w.seen {
		if b.From <= n && n <= b.Last && !b.unknown(n) {
			c.got++
		}
	}
	w.waiting = append(w.waiting, c)
	return nil
}

// settle checks the beats all of whose records are here.
func (w *writer) settle(ws *Writers) error {
	for len(w.waiting) > 0 {
		c := w.waiting[0]
		if c.got < c.Count {
			return nil
		}
		h := sha256.New()
		for _, n := range w.within(c.From, c.Last) {
			if leaf := w.seen[n]; !c.unknown(n) {
				if c.rolledBack(n) {
					return w.faultf("number %d was said to be rolled back, and its row is here", n)
				}
				h.Write(leaf[:])
			}
			delete(w.seen, n)
		}
		var sum [32]byte
		if h.Sum(sum[:0]); c.got != c.Count || sum != c.Leaves {
			return w.faultf("the rows of its numbers %d to %d are not those that it vouches for", c.From, c.Last)
		}
		w.waiting, w.beaten, w.last = w.waiting[1:], c.Last, c.Beat
		w.unknown = append(w.unknown, c.Unknown...)
		w.closed = c.Closing
		ws.vouched += c.Count
	}
	return nil
}

// within lists the numbers that are here of a range, ascending: by what is here, for
// a range may say anything.
func (w *writer) within(from, last uint64) (list []uint64) {
	for n := range w.seen {
		if from <= n && n <= last {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// gap is the first number of a claim that is neither here nor accounted for.
func (w *writer) gap(c *claim) uint64 {
	there := slices.Concat(c.RolledBack, c.Unknown)
	for _, n := range w.within(c.From, c.Last) {
		there = append(there, Range{n, n})
	}
	slices.SortFunc(there, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	next := c.From
	for _, r := range there {
		if r.First > next {
			break
		}
		next = max(next, r.Last+1)
	}
	return next
}

// missing finds a record that a process vouches for and that is not in the log: its
// number, and the index of the row that says so.
func (ws *Writers) missing() (at uint64, err error) {
	for _, w := range ws.sorted() {
		for _, c := range w.waiting {
			if ws.pruned {
				continue
			}
			return c.at, w.faultf("it vouches for a record with its number %d, which is missing", w.gap(c))
		}
	}
	return 0, nil
}

// end is the fault of a record that is missing at the end of the log. In a log that
// grows, the last ones may just not be in it yet.
func (ws *Writers) end(grown bool) error {
	if err := ws.unsaid(); err != nil {
		return &Fault{What: err.Error()}
	}
	at, err := ws.missing()
	if err == nil || grown {
		return nil
	}
	return &Fault{Seq: at, What: err.Error()}
}

// End is the fault of a record that is missing when the last epoch was verified; nil
// if there is none. grown says that the log grew meanwhile.
func (ws *Writers) End(grown bool) *Fault {
	f, _ := ws.end(grown).(*Fault)
	return f
}

func (ws *Writers) sorted() []*writer {
	list := make([]*writer, 0, len(ws.by))
	for _, w := range ws.by {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b *writer) int { return slices.Compare(a.id[:], b.id[:]) })
	return list
}

// Processes is what is known of the processes that wrote a log.
type Processes struct {
	Vouched   uint64 // records that their process vouched for
	Closed    int    // processes that ended in good order
	Lost      int    // that stopped without closing
	Open      int    // that run, or of which nobody noticed the end
	Unknown   uint64 // numbers between records of lost processes of which nothing is known
	Unchecked uint64 // beats that could not be checked, because rows were pruned
}

// Processes counts what was found so far.
func (ws *Writers) Processes() Processes {
	p := Processes{Vouched: ws.vouched}
	for _, w := range ws.by {
		if ws.pruned {
			p.Unchecked += uint64(len(w.waiting))
		}
		switch {
		case w.closed:
			p.Closed++
		case w.lost:
			p.Lost++
			p.Unknown += max(w.highest, w.beaten) - w.beaten - uint64(len(w.within(w.beaten+1, w.highest)))
		default:
			p.Open++
		}
	}
	return p
}

// lines says it in words; nothing of a log none of whose processes ever vouched for
// anything.
func (p Processes) lines() (out []string) {
	if p.Vouched == 0 && p.Closed == 0 && p.Lost == 0 {
		return nil
	}
	out = append(out, fmt.Sprintf("%d rows are vouched for by the processes that wrote them: %d of these ended in good order, %d run or were not seen to end.", p.Vouched, p.Closed, p.Open))
	if p.Lost > 0 {
		out = append(out, fmt.Sprintf("%d processes stopped without closing: unknown at a crash are %d numbers before their last rows, and what they were doing after those.", p.Lost, p.Unknown))
	}
	if p.Unchecked > 0 {
		out = append(out, fmt.Sprintf("What processes vouch for could not be checked %d times: rows were pruned.", p.Unchecked))
	}
	return out
}
