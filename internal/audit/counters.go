package audit

import (
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
)

// other stands for what the counters have no more room to tell apart.
const other = "other"

// keptMinutes is how many minutes wait apart for Flush; older ones are added up.
const keptMinutes = 10

// Counters add up refusals of unknown callers per minute, reason and source
// class (mechanisms E5). Such callers get no record each, so they can neither
// fill the disk nor hold up anybody. Memory and records are bounded whatever
// they send. Safe for concurrent use.
type Counters struct {
	most int

	mu  sync.Mutex
	now *minute
	old []*minute
}

type minute struct {
	from, to int64 // minutes since 1970, [from, to)
	total    int64
	by       map[refusal]int64
}

type refusal struct{ reason, source string }

// NewCounters makes counters that tell at most most pairs of reason and source
// class apart in a minute; 64 if most is not positive. The rest is counted as
// "other".
func NewCounters(most int) *Counters {
	if most <= 0 {
		most = 64
	}
	return &Counters{most: most}
}

// Count adds one refusal. The reason is a problem's code; the source is a class
// of callers (as "loopback", "proxy", a network's label), never an address:
// totals are kept in the clear. Both are short plain names of our own making;
// anything else counts as "other".
func (c *Counters) Count(at time.Time, reason, source string) {
	key := refusal{counted(reason), counted(source)}
	m := at.Unix() / 60
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && m >= c.now.to {
		c.turn()
	}
	if c.now == nil {
		c.now = &minute{from: m, to: m + 1, by: make(map[refusal]int64)}
	}
	c.now.add(key, 1, c.most)
}

func counted(name string) string {
	if name == "" || len(name) > 48 || !plainASCII(name) {
		return other
	}
	return name
}

func (m *minute) add(key refusal, n int64, most int) {
	m.total += n
	if _, ok := m.by[key]; !ok && len(m.by) >= most-1 {
		key = refusal{other, other}
	}
	m.by[key] += n
}

// turn closes the current minute.
func (c *Counters) turn() {
	c.old = append(c.old, c.now)
	c.now = nil
	if len(c.old) <= keptMinutes {
		return
	}
	into, from := c.old[1], c.old[0]
	into.from = from.from
	for key, n := range from.by {
		into.add(key, n, c.most)
	}
	c.old = c.old[1:]
}

// Flush takes the minutes that are over and gives each as one record of kind
// RefusalsCounted. A process that stops calls it with a time a minute ahead. A
// record that is then not stored is lost, so the caller tries again with it
// rather than flush again.
func (c *Counters) Flush(now time.Time) []Record {
	c.mu.Lock()
	if c.now != nil && now.Unix()/60 >= c.now.to {
		c.turn()
	}
	old := c.old
	c.old = nil
	c.mu.Unlock()

	var records []Record
	for _, m := range old {
		by := make(map[string]map[string]int64)
		for key, n := range m.by {
			if by[key.reason] == nil {
				by[key.reason] = make(map[string]int64)
			}
			by[key.reason][key.source] = n
		}
		records = append(records, Record{ID: id.New(id.Record), Kind: RefusalsCounted, At: now, Parts: []Part{{Body: map[string]any{
			"from":  time.Unix(m.from*60, 0).UTC().Format(time.RFC3339),
			"to":    time.Unix(m.to*60, 0).UTC().Format(time.RFC3339),
			"total": m.total,
			"by":    by,
		}}}})
	}
	return records
}
