package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is what became of a row that was sealed.
type Outcome int

// The outcomes. A row of which nothing is known counts as any of them until it is
// settled again.
const (
	Doubtful   Outcome = iota + 1 // the database did not say; ask it (Doubts)
	Committed                     // it is in the log, or will be
	RolledBack                    // it never will be
	Unknown                       // the process gave up asking
)

// watched is how many of its records a process keeps in mind until it has seen them
// under a checkpoint; what is more is counted only (mechanisms E7).
const watched = 1 << 17

// A beat is cut short when it would say more than this.
const (
	beatRanges  = 400
	beatRecords = 1 << 15
)

// Writer numbers the records of one process and remembers what it wrote: what it
// has not vouched for yet (mechanisms E3) and what it has not seen under a
// checkpoint yet (E7). What it remembers is bounded, whatever happens. It is safe
// for concurrent use.
type Writer struct {
	id  [8]byte
	seq atomic.Uint64

	mu     sync.Mutex
	first  uint64    // the number of window[0]
	window []attempt // from the first number that is not settled on
	part   part      // settled, and in no beat yet
	beats  []Beat    // cut, and not in the log yet
	unseen map[[32]byte]Own
	over   uint64 // records that were not kept in mind
}

// attempt is a number that was taken. The zero value is one that is under way.
type attempt struct {
	outcome Outcome
	beat    bool
	own     Own
}

// Own is a record of this process.
type Own struct {
	ID   string
	WSeq uint64
	Leaf [32]byte
	At   time.Time // of the act
	done bool      // it was committed
}

// Range is numbers from First to Last.
type Range struct{ First, Last uint64 }

func (r Range) has(n uint64) bool { return r.First <= n && n <= r.Last }

// part is what the next beat will say.
type part struct {
	from    uint64
	count   uint64
	leaves  hash.Hash
	rolled  []Range
	unknown []Range
	news    bool // there is more in it than beats
}

// NewWriter makes the writer of a process start, with a random id.
func NewWriter() *Writer {
	w := &Writer{first: 1, part: part{from: 1}, unseen: make(map[[32]byte]Own)}
	rand.Read(w.id[:])
	return w
}

// ID is the writer's id, as entries name it.
func (w *Writer) ID() [8]byte { return w.id }

// Attempts is how many records were sealed so far; the last has this number.
func (w *Writer) Attempts() uint64 { return w.seq.Load() }

// took remembers a row that was just sealed. It does so before anybody can commit
// it, so that it is in mind when it is met under a checkpoint.
func (w *Writer) took(seq uint64, row *Row) {
	own := Own{ID: row.ID, WSeq: seq, Leaf: LeafHash(row.Entry), At: time.UnixMicro(row.At)}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.at(seq)
	a.own, a.beat = own, row.Kind == WriterBeat
	if len(w.unseen) < watched {
		w.unseen[own.Leaf] = own
	} else {
		w.over++
	}
}

// at finds a number in the window, which it makes as long as that takes: numbers
// may come in any order.
func (w *Writer) at(seq uint64) *attempt {
	for uint64(len(w.window)) <= seq-w.first {
		w.window = append(w.window, attempt{})
	}
	return &w.window[seq-w.first]
}

// Settle says what became of a row of this writer. A row that is settled stays so,
// unless it was doubtful.
func (w *Writer) Settle(row Row, o Outcome) {
	if len(row.Entry) < entryFixed {
		return
	}
	w.settle(binary.BigEndian.Uint64(row.Entry[19:]), o)
}

func (w *Writer) settle(seq uint64, o Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq < w.first || seq-w.first >= uint64(len(w.window)) {
		return // settled before
	}
	a := &w.window[seq-w.first]
	if a.outcome != 0 && a.outcome != Doubtful {
		return
	}
	a.outcome = o
	switch o {
	case RolledBack, Unknown:
		delete(w.unseen, a.own.Leaf)
	case Committed:
		if own, ok := w.unseen[a.own.Leaf]; ok {
			own.done = true
			w.unseen[a.own.Leaf] = own
		}
	}
	w.advance()
}

// advance moves what is settled at the window's begin into the next beat.
func (w *Writer) advance() {
	n := 0
	for n < len(w.window) && w.window[n].outcome > Doubtful {
		a := &w.window[n]
		p := &w.part
		if p.leaves == nil {
			p.leaves = sha256.New()
		}
		switch a.outcome {
		case Committed:
			p.leaves.Write(a.own.Leaf[:])
			p.count++
		case RolledBack:
			p.rolled = extend(p.rolled, w.first)
		default:
			p.unknown = extend(p.unknown, w.first)
		}
		p.news = p.news || !a.beat
		*a = attempt{}
		w.first++
		n++
		if len(p.rolled)+len(p.unknown) >= beatRanges || p.count >= beatRecords {
			w.cut()
		}
	}
	if w.window = w.window[n:]; len(w.window) == 0 {
		w.window = nil
	}
}

func extend(list []Range, n uint64) []Range {
	if l := len(list); l > 0 && list[l-1].Last+1 == n {
		list[l-1].Last = n
		return list
	}
	return append(list, Range{n, n})
}

// cut makes a beat of the part.
func (w *Writer) cut() {
	p := w.part
	b := Beat{Writer: w.id, From: p.from, Last: w.first - 1, Count: p.count, RolledBack: p.rolled, Unknown: p.unknown}
	p.leaves.Sum(b.Leaves[:0])
	w.beats = append(w.beats, b)
	w.part = part{from: w.first}
}

// Beat gives what the process has to vouch for next; ok is false if it has written
// nothing but beats since. It gives the same until Beaten is called.
func (w *Writer) Beat() (b Beat, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.beats) == 0 && w.part.news {
		w.cut()
	}
	if len(w.beats) == 0 {
		return Beat{}, false
	}
	return w.beats[0], true
}

// Close gives the last beat of the process, which may be empty; ok is false while
// not every number is settled, or other beats come first.
func (w *Writer) Close() (b Beat, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.window) > 0 || len(w.beats) > 0 {
		return Beat{}, false
	}
	if w.part.leaves == nil {
		w.part.leaves = sha256.New()
	}
	w.cut()
	w.beats[0].Closing = true
	return w.beats[0], true
}

// Beaten says that the beat given last is in the log.
func (w *Writer) Beaten() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beats = w.beats[1:]
}

// Due reports whether there is so much to vouch for that a beat should not wait.
func (w *Writer) Due() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.beats) > 0
}

// Doubts lists the records of which the database did not say whether they were
// committed, at most n, oldest first.
func (w *Writer) Doubts(n int) []Own {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Own
	for i := range w.window {
		if w.window[i].outcome == Doubtful {
			if out = append(out, w.window[i].own); len(out) == n {
				break
			}
		}
	}
	return out
}

// Resolve settles a record of Doubts.
func (w *Writer) Resolve(o Own, outcome Outcome) { w.settle(o.WSeq, outcome) }

// Saw says that a leaf is under a checkpoint that was verified.
func (w *Writer) Saw(leaf [32]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.unseen, leaf)
}

// Unseen lists the committed records of acts before a time that were not seen under
// a checkpoint, at most n in no order, and says how many of later records were not
// kept in mind because there were too many.
func (w *Writer) Unseen(before time.Time, n int) (list []Own, over uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.unseen {
		if o.done && o.At.Before(before) {
			if list = append(list, o); len(list) == n {
				break
			}
		}
	}
	return list, w.over
}
