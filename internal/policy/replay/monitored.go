package replay

import (
	"cmp"
	"slices"
	"time"
)

// Would is what one rule in mode monitor would have made of the decisions about one who
// acted, on one day.
type Would struct {
	Rule     string    `json:"rule"`
	Who      string    `json:"who,omitempty" doc:"A person or service; absent: they were erased, or it was neither"`
	Day      string    `json:"day" doc:"UTC, YYYY-MM-DD"`
	Denied   int       `json:"denied" doc:"Decisions that it would have refused"`
	Prompted int       `json:"prompted" doc:"For which it would have asked for a sign-in, or for another one"`
	Allowed  int       `json:"allowed" doc:"That it would have allowed"`
	Last     string    `json:"last" doc:"The newest of their records"`
	LastAt   time.Time `json:"last_at"`
}

// Monitored is a page of it, of records newest first.
type Monitored struct {
	Items []Would    `json:"items" nullable:"false" doc:"Of this page: those of the same rule, person and day on other pages are added to them"`
	Read  int        `json:"read" doc:"Records that were looked at"`
	From  *time.Time `json:"from,omitempty" doc:"When the oldest of them was made: it is told of nothing before"`
	Next  string     `json:"next,omitempty" doc:"The before of the next page; absent: there is none"`
}

// Tally adds up what rules in mode monitor would have done. The zero value is empty.
type Tally struct {
	rows map[[3]string]*Would
	cut  bool
}

// Add adds what one rule would have done; parts of the same come in any order. Beyond
// 200,000 people's days it counts no further ones by themselves, and Cut says so.
func (t *Tally) Add(w Would) {
	key := [3]string{w.Rule, w.Who, w.Day}
	have := t.rows[key]
	if have == nil && len(t.rows) >= maxRows {
		t.cut = true
		key[1], key[2] = "", ""
		w.Who, w.Day = "", ""
		have = t.rows[key]
	}
	if have == nil {
		if t.rows == nil {
			t.rows = map[[3]string]*Would{}
		}
		t.rows[key] = &w
		return
	}
	have.Denied, have.Prompted, have.Allowed = have.Denied+w.Denied, have.Prompted+w.Prompted, have.Allowed+w.Allowed
	if w.LastAt.After(have.LastAt) || w.LastAt.Equal(have.LastAt) && w.Last > have.Last {
		have.Last, have.LastAt = w.Last, w.LastAt
	}
}

// Cut reports whether there were more than are counted by person and day.
func (t *Tally) Cut() bool { return t.cut }

// Rows are all rows, by rule, and of one rule those whom it would have met the most first.
func (t *Tally) Rows() []Would {
	out := make([]Would, 0, len(t.rows))
	for _, w := range t.rows {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b Would) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(b.Met(), a.Met()), cmp.Compare(b.Day, a.Day), cmp.Compare(a.Who, b.Who))
	})
	return out
}

// Met is how often somebody would have met the rule: refused, or asked for a sign-in.
func (w *Would) Met() int { return w.Denied + w.Prompted }

// RuleWould is what one rule in mode monitor would have done.
type RuleWould struct {
	Rule      string    `json:"rule"`
	Denied    int       `json:"denied"`
	Prompted  int       `json:"prompted"`
	Allowed   int       `json:"allowed"`
	People    int       `json:"people"`      // and services, who are known
	PerDay    float64   `json:"per_day"`     // refusals and prompts of one of them on a day on which there was one, on average
	PerDayMax int       `json:"per_day_max"` // and at most
	Last      string    `json:"last"`
	LastAt    time.Time `json:"last_at"`
}

// Rules adds the rows up by rule: what would have met people most often first.
func (t *Tally) Rules() []RuleWould {
	by := map[string]*RuleWould{}
	people := map[[2]string]bool{}
	days := map[string]int{}
	for _, w := range t.rows {
		r := by[w.Rule]
		if r == nil {
			r = &RuleWould{Rule: w.Rule}
			by[w.Rule] = r
		}
		r.Denied, r.Prompted, r.Allowed = r.Denied+w.Denied, r.Prompted+w.Prompted, r.Allowed+w.Allowed
		if w.LastAt.After(r.LastAt) || w.LastAt.Equal(r.LastAt) && w.Last > r.Last {
			r.Last, r.LastAt = w.Last, w.LastAt
		}
		if w.Who == "" {
			continue // of some that are not known apart nothing is known of one's day
		}
		if who := [2]string{w.Rule, w.Who}; !people[who] {
			people[who] = true
			r.People++
		}
		if met := w.Met(); met > 0 {
			days[w.Rule]++
			r.PerDay += float64(met)
			r.PerDayMax = max(r.PerDayMax, met)
		}
	}
	out := make([]RuleWould, 0, len(by))
	for rule, r := range by {
		if n := days[rule]; n > 0 {
			r.PerDay /= float64(n)
		}
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b RuleWould) int {
		return cmp.Or(cmp.Compare(b.Denied+b.Prompted, a.Denied+a.Prompted), cmp.Compare(b.Allowed, a.Allowed), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}
