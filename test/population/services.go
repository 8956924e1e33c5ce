package population

import (
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
)

// service is an actor that is no person.
type service struct {
	actor    int
	networks []string
	place    risk.Place
	trusted  bool
	things   []string
	every    time.Duration // between two runs, in the mean
	perRun   float64
	nightly  bool
}

func (w *world) service(actor int) *service {
	s := &service{actor: actor, place: towns[w.r.IntN(len(towns))].place, trusted: w.chance(0.5), every: time.Duration(20+w.r.IntN(200)) * time.Minute, perRun: 1 + 4*w.r.Float64(), nightly: w.chance(0.2)}
	for range 1 + w.r.IntN(3) {
		s.networks = append(s.networks, w.prefix())
	}
	for range 1 + w.r.IntN(4) {
		s.things = append(s.things, fmt.Sprintf("scope-%d", w.r.IntN(400)))
	}
	return s
}

// run is one day of a service.
func (w *world) run(s *service, day int) {
	if w.chance(1.0 / 60) { // deployed elsewhere
		s.networks[w.r.IntN(len(s.networks))] = w.prefix()
	}
	if w.chance(1.0 / 45) { // a release that does something more
		s.things = append(s.things, fmt.Sprintf("scope-%d", w.r.IntN(400)))
	}
	at := begin.AddDate(0, 0, day)
	end := at.AddDate(0, 0, 1)
	if s.nightly {
		at = at.Add(2*time.Hour + time.Duration(w.r.IntN(600))*time.Second)
		end = at.Add(time.Hour)
	}
	for at = at.Add(w.gap(s)); at.Before(end); at = at.Add(w.gap(s)) {
		for range 1 + w.poisson(s.perRun*w.tail()) {
			w.out = append(w.out, Happening{Actor: s.actor, Event: risk.Event{
				At: at, Did: risk.SignIn, Network: s.networks[w.r.IntN(len(s.networks))], Trusted: s.trusted, Place: s.place, Things: []string{s.things[w.r.IntN(len(s.things))]},
			}})
			at = at.Add(time.Duration(1+w.r.IntN(30)) * time.Second)
		}
	}
}

func (w *world) gap(s *service) time.Duration {
	every := s.every
	if s.nightly {
		every = 10 * time.Minute
	}
	return time.Duration(float64(every) * w.r.ExpFloat64())
}
