package profile

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/risk"
)

// Report is a signal of risk that somebody outside sent, about one thing. Of one
// source, kind and thing there is one: said again, it takes the place of the earlier.
type Report struct {
	ID     string
	Kind   string // of risk.Claims
	About  string // what it is about: risk.AboutPerson …
	Thing  string // its id; of a network its prefix, as grant.NetworkOf writes it
	Person string // whom it goes with when they are erased, "" if with nobody
	Points int
	Source string // id of the service or person that sent it
	Name   string // … and its name, as it was then
	At     time.Time
	Until  time.Time
}

// Told is the change that keeps a report, and replaces the earlier one of the same
// source, kind and thing, whose ID it MUST have.
type Told struct{ Report }

// Withdrawn is the change that forgets a report.
type Withdrawn struct{ ID string }

// Change marks Told as a change.
func (Told) Change() {}

// Change marks Withdrawn as a change.
func (Withdrawn) Change() {}

// Reports reads what was reported. What is over at a time is not there.
type Reports interface {
	// Report gives one; problem.NotFound.
	Report(ctx context.Context, id string, at time.Time) (Report, error)
	// SameReport gives that of the same source, kind and thing; problem.NotFound.
	SameReport(ctx context.Context, source, kind, thing string, at time.Time) (Report, error)
	// Reports lists by id, at most n after one; of one source, or of all if it is "".
	Reports(ctx context.Context, source, after string, n int, at time.Time) ([]Report, error)
	// CountReports says how many there are of a source, and of all.
	CountReports(ctx context.Context, source string, at time.Time) (theirs, all int, err error)
}

// How many reports there may be at once, of one source and of all, how long one may
// last, and how long it does if it does not say.
const (
	MaxOfSource  = 1000
	MaxReports   = 10000
	MinReport    = time.Minute
	MaxReport    = 30 * 24 * time.Hour
	UsualReport  = 24 * time.Hour
	reportsAgain = 5 * time.Second // how soon what another process took is seen
)

// Check judges a report that is about to be kept; problem.Invalid with what is wrong.
func (r *Report) Check(now time.Time) error {
	c, ok := risk.Claims[r.Kind]
	switch life := r.Until.Sub(now); {
	case !ok:
		return problem.Newf(problem.Invalid, "signal_kind", "%q is no kind of signal.", r.Kind).WithHint("The kinds stand in docs/risk.md and in /v1/openapi.json.")
	case !slices.Contains(c.About, r.About):
		return problem.Newf(problem.Invalid, "signal_about", "%s cannot be said of a %s.", r.Kind, r.About)
	case life < MinReport || life > MaxReport:
		return problem.New(problem.Invalid, "signal_lifetime", "A signal lasts between a minute and 30 days.")
	case r.Points < 1 || r.Points > 100:
		return problem.New(problem.Invalid, "signal_points", "A signal is worth between 1 and 100 points.")
	}
	if r.About == risk.AboutNetwork {
		if p, err := netip.ParsePrefix(r.Thing); err != nil || p.Masked().String() != r.Thing {
			return problem.New(problem.Invalid, "signal_network", "A network is a prefix such as 198.51.100.0/24, or an address in it.")
		}
	}
	return nil
}

// words are what a report says in the terms of a score.
func (r *Report) words() string {
	return risk.Claims[r.Kind].Words[:len(risk.Claims[r.Kind].Words)-1] + ", says " + r.Name + "."
}

// reported gives what was said of any of things, in the terms of risk.
func (p *Profiles) reported(ctx context.Context, things []string, at time.Time) ([]risk.Report, error) {
	p.told.Lock()
	defer p.told.Unlock()
	if p.byThing == nil || at.Sub(p.toldAt) >= reportsAgain || at.Before(p.toldAt) {
		list, err := p.Store.Reports(ctx, "", "", MaxReports, at)
		if err != nil {
			return nil, err
		}
		p.byThing, p.toldAt = make(map[string][]risk.Report, len(list)), at
		for i := range list {
			r := &list[i]
			p.byThing[r.Thing] = append(p.byThing[r.Thing], risk.Report{Points: r.Points, Words: r.words(), Until: r.Until})
		}
	}
	var out []risk.Report
	for _, x := range things {
		if x != "" {
			out = append(out, p.byThing[x]...)
		}
	}
	return out, nil
}

// things are all that an act is by, with and through, each once.
func things(actor string, o act.Origin) []string {
	all := append([]string{actor, o.Device, o.Network}, o.Through...)
	slices.Sort(all)
	return slices.Compact(all)
}
