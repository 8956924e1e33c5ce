package replay

import (
	"cmp"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Facts are what a record keeps of a decision that many share.
type Facts struct {
	Action  policy.Action `json:"action"`
	Kind    string        `json:"kind,omitempty"` // of the principal
	Client  string        `json:"client,omitempty"`
	Service string        `json:"service,omitempty"` // the principal, if it is a service
	Outcome string        `json:"outcome"`
	Code    string        `json:"code,omitempty"`
	Seen    *Shared       `json:"seen,omitempty"` // nil: not kept, or of the host
}

// Decision is a decision that was made, as it was recorded.
type Decision struct {
	At      time.Time `json:"at"`
	Who     string    `json:"who,omitempty"`     // the person; "": it was none, or they were erased
	Session string    `json:"session,omitempty"` // that it was made in: where a proof that is given counts on
	Saw     *World    `json:"saw,omitempty"`     // of the person
	Facts   *Facts    `json:"-"`
}

// input is what was decided; why says why it cannot be decided again.
func (d *Decision) input(set *policy.Set) (in policy.Input, why string) {
	f := d.Facts
	if f.Seen == nil {
		return in, NotKept
	}
	who, world := d.Who, d.Saw
	if f.Kind != policy.KindPerson {
		who, world = f.Service, f.Seen.World
	} else if who == "" {
		return in, Erased
	}
	if world == nil {
		return in, NotKept
	}
	in = policy.Input{
		Principal: policy.Entity{Kind: f.Kind, ID: who, Groups: world.Groups},
		Action:    f.Action,
		Resource:  policy.Resource{Type: f.Seen.On, ID: cmp.Or(f.Seen.ID, world.ID), Attributes: world.Said},
		Context:   world.context(d.At),
	}
	if f.Client != "" {
		in.Client = policy.Entity{Kind: "client", ID: f.Client}
	}
	switch f.Seen.Own {
	case self:
		in.Resource.Owner = who
		if in.Resource.Type == policy.KindPerson {
			in.Resource.ID = who
		}
	case other:
		in.Resource.Owner = "(somebody else)" // no id is like it
	}
	for _, sc := range f.Seen.Scopes {
		in.Context.Scopes = append(in.Context.Scopes, policy.ScopeAsk{
			Name: sc.Name, Ask: sc.Ask.Ask(), Groups: sc.Groups, Conditional: sc.Conditional, Required: sc.Required,
		})
	}
	if in.Resource.Type != "" && (in.Resource.ID == "" || f.Seen.Own == other) && set.Identifies(f.Action, f.Kind) {
		return in, Identity
	}
	if set.Attributes(in.Resource.Type).Lacks(in.Resource.Attributes) != "" {
		return in, Unsaid
	}
	return in, ""
}

// Why a decision cannot be made again.
const (
	NotKept  = "not_kept" // it was recorded by an earlier release, or saw what is of one moment
	Erased   = "erased"   // the person was, and what was kept of them with them
	Identity = "identity" // a policy asks which thing it is, and that is kept only of one's own
	Unsaid   = "unsaid"   // the set declares attributes of the thing that were not declared then, or of other types
)

// Counts are what a set would do differently.
type Counts struct {
	Decisions int `json:"decisions"`
	Prompts   int `json:"prompts"`  // sign-ins that would be asked for; one that is given counts on in its session
	Before    int `json:"before"`   // that were asked for
	Prompted  int `json:"prompted"` // decisions that were allowed, or refused, and would ask
	Blocked   int `json:"blocked"`  // that were allowed, or asked, and would be refused
	Allowed   int `json:"allowed"`  // that were refused, or asked, and would be allowed
	Asks      int `json:"asks"`     // that asked, and would ask for something else
}

func (c *Counts) changes() int { return c.Prompted + c.Blocked + c.Allowed + c.Asks }

// Row is one person, or service, on one day.
type Row struct {
	Who string `json:"who"`
	Day string `json:"day"` // UTC, YYYY-MM-DD
	Counts
}

// Rule is what one policy of the set would do.
type Rule struct {
	Policy  string `json:"policy"`
	Prompts int    `json:"prompts"`
	Blocked int    `json:"blocked"`
	Allowed int    `json:"allowed"`
}

// Report is what came of it.
type Report struct {
	Counts
	From      time.Time      `json:"from"`
	To        time.Time      `json:"to"`
	People    int            `json:"people"`      // that acted
	PerDay    float64        `json:"per_day"`     // prompts of a person on a day on which they acted, on average
	PerDayMax int            `json:"per_day_max"` // and at most
	Rows      []Row          `json:"rows"`        // the most prompted and blocked first
	Rules     []Rule         `json:"rules"`       // the same
	Untold    map[string]int `json:"untold"`      // decisions that cannot be made again, by why
	Cut       bool           `json:"cut"`         // there were more than is counted by person
}

// Bounds of what is kept while counting.
const (
	maxRows    = 200_000
	maxCarried = 100_000
)

// Trial decides again under a set, one decision after the other, in the order in
// which they were made.
type Trial struct {
	set     *policy.Set
	total   Counts
	from    time.Time
	to      time.Time
	rows    map[[2]string]*Counts
	people  map[string]bool
	rules   map[string]*Rule
	untold  map[string]int
	carried map[string][]given
	cut     bool
}

// given is a proof that somebody would have given.
type given struct {
	rung assurance.Rung
	at   time.Time
}

// New begins a trial of a set.
func New(set *policy.Set) *Trial {
	return &Trial{
		set: set, rows: map[[2]string]*Counts{}, people: map[string]bool{}, rules: map[string]*Rule{},
		untold: map[string]int{}, carried: map[string][]given{},
	}
}

// Add decides one again.
func (t *Trial) Add(d *Decision) {
	if d.Facts.Seen == nil && !Keeps(d.Facts.Kind) {
		return // the same under every set
	}
	if t.from.IsZero() {
		t.from = d.At
	}
	t.to = d.At
	in, why := d.input(t.set)
	if why != "" {
		t.untold[why]++
		return
	}
	row := t.row(&in, d.At)
	count := func(f func(*Counts)) {
		f(&t.total)
		f(row)
	}
	count(func(c *Counts) { c.Decisions++ })
	if d.Facts.Outcome == policy.StepUp.String() {
		count(func(c *Counts) { c.Before++ })
	}
	switch d.Facts.Code {
	case policy.CodeEnded, policy.CodeQuarantine, policy.CodeTooMany:
		return // whatever policies say
	}
	t.carry(d, &in)
	now := t.set.Decide(in, nil)
	if now.Outcome == policy.StepUp {
		count(func(c *Counts) { c.Prompts++ })
		t.give(d, now.Ask)
	}
	t.compare(d, &now, count)
}

// compare counts how the answer differs.
func (t *Trial) compare(d *Decision, now *policy.Decision, count func(func(*Counts))) {
	was, asked := d.Facts.Outcome, d.Facts.Seen.Ask.Ask()
	rule := func() *Rule {
		id := "default"
		if len(now.Reasons) > 0 {
			id = now.Reasons[0].Policy
		}
		if t.rules[id] == nil {
			t.rules[id] = &Rule{Policy: id}
		}
		return t.rules[id]
	}
	switch {
	case now.Outcome == policy.StepUp && asked == now.Ask: // also one that could not be given
	case now.Outcome == policy.StepUp && was == policy.StepUp.String():
		count(func(c *Counts) { c.Asks++ })
		rule().Prompts++
	case now.Outcome == policy.StepUp:
		count(func(c *Counts) { c.Prompted++ })
		rule().Prompts++
	case now.Outcome.String() == was:
	case now.Outcome == policy.Deny:
		count(func(c *Counts) { c.Blocked++ })
		rule().Blocked++
	default:
		count(func(c *Counts) { c.Allowed++ })
		rule().Allowed++
	}
}

// row is where somebody's day is counted.
func (t *Trial) row(in *policy.Input, at time.Time) *Counts {
	who := in.Principal.ID
	if who == "" {
		who = in.Principal.Kind
	}
	key := [2]string{who, at.UTC().Format(time.DateOnly)}
	if c := t.rows[key]; c != nil {
		return c
	}
	if len(t.rows) >= maxRows {
		t.cut = true
		return new(Counts)
	}
	c := new(Counts)
	t.rows[key] = c
	t.people[who] = true
	return c
}

// carry puts into the input what was given before, in the same session to the
// same client.
func (t *Trial) carry(d *Decision, in *policy.Input) {
	for _, g := range t.carried[d.place()] {
		in.Context.Assurance = assurance.Ask{Rung: g.rung, MaxAge: max(d.At.Sub(g.at), 1)}.Raise(in.Context.Assurance, d.At)
	}
}

// give remembers that what is asked for is given, now.
func (t *Trial) give(d *Decision, a assurance.Ask) {
	place := d.place()
	if place == "" || a.Rung == assurance.None && a.MaxAge == 0 {
		return
	}
	if len(t.carried) >= maxCarried {
		clear(t.carried) // prompts are then counted rather too often than too seldom
	}
	rung := max(a.Rung, assurance.Single)
	list := slices.DeleteFunc(t.carried[place], func(g given) bool { return g.rung <= rung })
	t.carried[place] = append(list, given{rung, d.At})
}

// place is where a proof counts on: "" for whoever is no person.
func (d *Decision) place() string {
	if d.Who == "" {
		return ""
	}
	return cmp.Or(d.Session, d.Who) + "\x00" + d.Facts.Client
}

// Report is what came of all so far, with at most n rows.
func (t *Trial) Report(n int) Report {
	r := Report{Counts: t.total, From: t.from, To: t.to, People: len(t.people), Rows: []Row{}, Rules: []Rule{}, Untold: t.untold, Cut: t.cut}
	days := 0
	for key, c := range t.rows {
		days++
		r.PerDayMax = max(r.PerDayMax, c.Prompts)
		if c.changes() > 0 || c.Prompts > 0 {
			r.Rows = append(r.Rows, Row{Who: key[0], Day: key[1], Counts: *c})
		}
	}
	if days > 0 {
		r.PerDay = float64(t.total.Prompts) / float64(days)
	}
	slices.SortFunc(r.Rows, func(a, b Row) int {
		return cmp.Or(b.Prompts+b.Blocked-a.Prompts-a.Blocked, b.Allowed-a.Allowed, cmp.Compare(a.Day, b.Day), cmp.Compare(a.Who, b.Who))
	})
	r.Rows = r.Rows[:min(n, len(r.Rows))]
	for _, x := range t.rules {
		r.Rules = append(r.Rules, *x)
	}
	slices.SortFunc(r.Rules, func(a, b Rule) int {
		return cmp.Or(b.Prompts+b.Blocked-a.Prompts-a.Blocked, b.Allowed-a.Allowed, cmp.Compare(a.Policy, b.Policy))
	})
	return r
}

// Decisions are a page of the recorded decisions, as they are sent.
type Decisions struct {
	Facts []Facts        `json:"facts" nullable:"false"` // that the items refer to
	Items []DecisionItem `json:"items" nullable:"false"` // in the order in which they were made
	Read  int            `json:"read" doc:"Records that were looked at"`
	At    *time.Time     `json:"at,omitempty" doc:"When the last of them was made"`
	Next  string         `json:"next,omitempty" doc:"The after of the next page; absent: there is none"`
}

// DecisionItem is a decision of a page.
type DecisionItem struct {
	Decision
	Of int `json:"of" doc:"The index of its facts"`
}

// Put adds a decision. Facts that are the same have to be the same pointer.
func (p *Decisions) Put(d Decision, seen map[*Facts]int) {
	i, ok := seen[d.Facts]
	if !ok {
		i = len(p.Facts)
		seen[d.Facts] = i
		p.Facts = append(p.Facts, *d.Facts)
	}
	p.Items = append(p.Items, DecisionItem{Decision: d, Of: i})
}

// AddPage decides all of a page again; ok is false if it is not well formed.
func (t *Trial) AddPage(p *Decisions) (ok bool) { return p.Each(t.Add) }

// Each gives the decisions of a page in order; ok is false if it is not well formed.
func (p *Decisions) Each(f func(*Decision)) (ok bool) {
	for i := range p.Items {
		it := &p.Items[i]
		if it.Of < 0 || it.Of >= len(p.Facts) {
			return false
		}
		it.Facts = &p.Facts[it.Of]
		f(&it.Decision)
	}
	return true
}

// Person is who made a decision, as far as it says in which wave of a rollout they
// are; nobody if it was no person, or they were erased.
func (d *Decision) Person() policy.Entity {
	if d.Facts.Kind != policy.KindPerson || d.Saw == nil {
		return policy.Entity{}
	}
	return policy.Entity{Kind: policy.KindPerson, ID: d.Who, Groups: d.Saw.Groups}
}

// Busiest is what the set would cost in all on the day on which it would cost most: how
// often it would ask where nothing, or something else, was asked; and refuse.
func (t *Trial) Busiest() policy.Budget {
	days := map[string]policy.Budget{}
	var most policy.Budget
	for key, c := range t.rows {
		b := days[key[1]]
		b.Prompts, b.Denials = b.Prompts+c.Prompted+c.Asks, b.Denials+c.Blocked
		days[key[1]] = b
		most.Prompts, most.Denials = max(most.Prompts, b.Prompts), max(most.Denials, b.Denials)
	}
	return most
}
