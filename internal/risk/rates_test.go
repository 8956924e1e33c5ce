package risk_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/test/population"
)

// recent is how old a proof may be at band medium and high (policies/default).
const recent = 15 * time.Minute

// promptLife is how long a prompt waits for its person, as a step-up does, before it
// counts as one that nobody answered.
const promptLife = 10 * time.Minute

// rates are what a run over made-up days gives.
type rates struct {
	personDays, prompted int // days on which somebody had to prove themselves once more
	blocked              int // … or were refused
	serviceDays, denied  int
	cases, caught        map[population.Attack]int
	terms                map[risk.Signal]int // in what disturbed normal days
}

// shown is the rung that an attack brings along, at the age of its token.
func shown(h population.Happening) (rung int, age time.Duration) {
	switch h.Attack {
	case population.Stuffing, population.Spraying:
		return 1, 0 // a password
	case population.Bombing:
		return 2, 0 // … and a prompt that was answered
	}
	return 3, h.TokenAge // what its owner proved when it was given out
}

// passes says whether the default policies let a person do something.
func passes(band string, rung int, age time.Duration) bool {
	switch band {
	case risk.Medium:
		return rung >= 2 && age <= recent
	case risk.High:
		return rung >= 3 && age <= recent
	}
	return band == risk.Low
}

type day struct{ actor, day int }

// measure runs scoring over a population: normal people prove themselves when they
// are asked, attackers cannot, and what is refused is not learned.
func measure(s risk.Settings, c population.Config, places bool) rates {
	out := rates{cases: map[population.Attack]int{}, caught: map[population.Attack]int{}, terms: map[risk.Signal]int{}}
	histories := make([]risk.History, c.People+c.Services)
	proved := make([]time.Time, c.People)
	days, prompted, blocked := map[day]bool{}, map[day]bool{}, map[day]bool{}
	over := map[int]bool{} // attacks that were caught
	seen := map[int]bool{}
	var crowd risk.Crowd
	for _, x := range population.Generate(c) {
		h := &histories[x.Actor]
		if !places {
			x.Place = risk.Place{}
		}
		if over[x.Case] {
			continue
		}
		if x.Prompt {
			h.Asked(x.At.String(), x.At, x.At.Add(promptLife), "")
			continue
		}
		if x.Did == risk.Failure {
			h.Learn(x.Event, false)
			crowd.Failed(x.Network, strconv.Itoa(x.Actor), x.At)
			continue
		}
		a := s.Score(h, x.Event, crowd.Failing(x.Network, strconv.Itoa(x.Actor), x.At), nil)
		person := x.Actor < c.People
		if x.Attack != "" {
			if !seen[x.Case] {
				seen[x.Case] = true
				out.cases[x.Attack]++
			}
			rung, age := shown(x)
			if person && !passes(a.Band, rung, age) || a.Band == risk.Extreme {
				out.caught[x.Attack]++
				over[x.Case] = true
				continue
			}
			h.Learn(x.Event, person && rung >= 2 && age == 0) // a proof is of where it was given
			continue
		}
		d := day{x.Actor, int(x.At.Unix() / 86400)}
		days[d] = true
		if person {
			if x.Did == risk.SignIn {
				proved[x.Actor] = x.At
			}
			if !passes(a.Band, 3, x.At.Sub(proved[x.Actor])) {
				prompted[d] = true
				proved[x.Actor] = x.At
				for _, t := range a.Terms {
					out.terms[t.Signal]++
				}
			}
		}
		if a.Band == risk.Extreme {
			blocked[d] = true
		}
		h.Learn(x.Event, person && x.At.Equal(proved[x.Actor]))
	}
	for d := range days {
		if d.actor < c.People {
			out.personDays++
		} else {
			out.serviceDays++
		}
	}
	out.prompted = len(prompted)
	for d := range blocked {
		if d.actor < c.People {
			out.blocked++
		} else {
			out.denied++
		}
	}
	return out
}

func (r *rates) add(o rates) {
	r.personDays, r.prompted, r.blocked = r.personDays+o.personDays, r.prompted+o.prompted, r.blocked+o.blocked
	r.serviceDays, r.denied = r.serviceDays+o.serviceDays, r.denied+o.denied
	for a, n := range o.cases {
		r.cases[a] += n
		r.caught[a] += o.caught[a]
	}
	for s, n := range o.terms {
		r.terms[s] += n
	}
}

func (r *rates) detected() (caught, cases int) {
	for a, n := range r.cases {
		caught, cases = caught+r.caught[a], cases+n
	}
	return caught, cases
}

func percent(n, of int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(max(of, 1))) }

// String is what TestRates prints.
func (r *rates) String() string {
	var b strings.Builder
	caught, cases := r.detected()
	fmt.Fprintf(&b, "takeovers challenged or denied: %d of %d (%s)\n", caught, cases, percent(caught, cases))
	for _, a := range population.Attacks {
		fmt.Fprintf(&b, "  %-24s %4d of %4d (%s)\n", a, r.caught[a], r.cases[a], percent(r.caught[a], r.cases[a]))
	}
	fmt.Fprintf(&b, "normal days of people with an extra prompt: %d of %d (%s), with a refusal: %d (%s)\n", r.prompted, r.personDays, percent(r.prompted, r.personDays), r.blocked, percent(r.blocked, r.personDays))
	fmt.Fprintf(&b, "normal days of services with a refusal: %d of %d (%s)\n", r.denied, r.serviceDays, percent(r.denied, r.serviceDays))
	var signals []risk.Signal
	for s := range r.terms {
		signals = append(signals, s)
	}
	slices.SortFunc(signals, func(a, b risk.Signal) int { return r.terms[b] - r.terms[a] })
	b.WriteString("signals in extra prompts:")
	for _, s := range signals {
		fmt.Fprintf(&b, " %s %d", s, r.terms[s])
	}
	return b.String()
}

// TestRates prints what scoring catches and what it costs, on seeds that nobody
// looked at while the points were chosen (those were 1 to 3). It aims at 95 % of
// the takeovers and extra prompts on no more than 1 % of normal days.
func TestRates(t *testing.T) {
	seeds, c := []uint64{9101}, population.Config{People: 120, Services: 20, Days: 50, Takeovers: 12}
	if os.Getenv("COUNTERSIGN_TRUST") != "" {
		seeds, c = []uint64{9101, 9102, 9103, 9104, 9105}, population.Config{People: 400, Services: 60, Days: 90, Takeovers: 60}
	}
	for _, places := range []bool{true, false} {
		sum := rates{cases: map[population.Attack]int{}, caught: map[population.Attack]int{}, terms: map[risk.Signal]int{}}
		for _, seed := range seeds {
			c.Seed = seed
			sum.add(measure(risk.Default(), c, places))
		}
		t.Logf("%d people, %d services, %d days, seeds %v, places known: %t\n%s", c.People, c.Services, c.Days, seeds, places, &sum)
		caught, cases := sum.detected()
		if cases != len(seeds)*len(population.Attacks)*c.Takeovers || float64(caught) < 0.95*float64(cases) {
			t.Errorf("%d of %d takeovers were challenged or denied", caught, cases)
		}
		if float64(sum.prompted) > 0.01*float64(sum.personDays) || float64(sum.denied) > 0.001*float64(sum.serviceDays) {
			t.Errorf("extra prompts on %d of %d normal days; %d of %d days of services refused", sum.prompted, sum.personDays, sum.denied, sum.serviceDays)
		}
	}
}
