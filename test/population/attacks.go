package population

import (
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
)

// attack makes one, on somebody who has a history.
func (w *world) attack(a Attack) {
	half := w.Days / 2
	at := begin.AddDate(0, 0, half+w.r.IntN(w.Days-half-1)).Add(time.Duration(w.r.Float64() * 24 * float64(time.Hour)))
	if a == ServiceKey || a == ServiceAbuse {
		if len(w.services) > 0 {
			w.onService(a, w.services[w.r.IntN(len(w.services))], at)
		}
		return
	}
	victim := w.lives[w.r.IntN(len(w.lives))]
	foe := risk.Event{Network: w.prefix(), Place: abroad[w.r.IntN(len(abroad))]}
	switch a {
	case StolenToken:
		foe.App = victim.apps[0]
		w.robs(a, victim, at, foe, 4+w.r.IntN(20))
	case NearbyProxy:
		foe.Place, foe.App = victim.town.place, victim.apps[0]
		at = w.inHours(victim, at)
		w.robs(a, victim, at, foe, 3+w.r.IntN(8))
	case DeviceCode:
		// The victim approves at home; what is used then is used elsewhere, with a
		// token that is new.
		at = w.inHours(victim, at)
		w.approves(victim, at)
		foe.App = w.forDevices()
		w.robs(a, victim, at, foe, 3+w.r.IntN(8))
	case KeptCode:
		w.keeps(victim, w.inHours(victim, at), foe)
	case Stuffing:
		w.stuffs(victim, at)
	case Spraying:
		w.sprays(victim, at)
	case Bombing:
		w.bombs(victim, at, foe)
	case OwnDevice:
		d := victim.devices[0]
		foe = risk.Event{Network: victim.home, Place: victim.town.place, Device: d.id, Managed: d.managed, App: victim.apps[0]}
		w.robs(a, victim, at, foe, 10+w.r.IntN(60))
	}
}

// inHours moves a time into somebody's day.
func (w *world) inHours(l *life, at time.Time) time.Time {
	return w.at(l, at.Truncate(24*time.Hour), l.started+l.lasts*w.r.Float64())
}

// forDevices is one of the three apps that are made for terminals and televisions.
func (w *world) forDevices() string { return fmt.Sprintf("app-%d", w.apps.IntN(3)) }

// approves is somebody saying yes to a device, as they are always asked to: at home,
// with a proof of that moment.
func (w *world) approves(l *life, at time.Time) {
	d := l.devices[0]
	w.out = append(w.out, Happening{Actor: l.actor, Event: risk.Event{
		At: at.Add(-20 * time.Second), Did: risk.SignIn, Network: l.home, Place: l.town.place, Device: d.id, Managed: d.managed,
	}})
}

// keeps refreshes for hours what a phished code gave. Where tokens are given out
// nothing can show a device, and of the first, which the person has just allowed, the
// network does not count.
func (w *world) keeps(l *life, at time.Time, foe risk.Event) {
	w.approves(l, at)
	foe.At, foe.Did, foe.NoDevice, foe.App = at, risk.Use, true, w.forDevices()
	first := foe
	first.Network, first.Place = "", risk.Place{}
	w.foe(KeptCode, l.actor, first)
	for i := range 6 + w.r.IntN(24) {
		e := foe
		e.TokenAge = time.Duration(i+1) * 10 * time.Minute
		e.At = at.Add(e.TokenAge)
		e.Things = []string{fmt.Sprintf("scope-%d", w.r.IntN(400))}
		w.foe(KeptCode, l.actor, e)
	}
}

// robs uses what somebody has, n times: some of it what they use, most of it not.
func (w *world) robs(a Attack, l *life, at time.Time, foe risk.Event, n int) {
	age := time.Duration(w.r.IntN(9*60)) * time.Minute
	if a == DeviceCode || a == Bombing || a == Stuffing || a == Spraying {
		age = 0
	}
	for i := range n {
		e := foe
		e.At, e.Did, e.TokenAge = at, risk.Use, age+time.Duration(i)*time.Second
		e.Things = []string{fmt.Sprintf("scope-%d", w.r.IntN(400))}
		if w.chance(0.3) {
			e.Things = []string{l.things[w.r.IntN(len(l.things))]}
		}
		w.foe(a, l.actor, e)
		at = at.Add(time.Duration(2+w.r.IntN(90)) * time.Second)
	}
}

func (w *world) foe(a Attack, actor int, e risk.Event) {
	w.out = append(w.out, Happening{Event: e, Actor: actor, Attack: a, Case: w.cases})
}

// signsIn is the moment in which an attacker becomes somebody.
func (w *world) signsIn(a Attack, l *life, at time.Time, foe risk.Event) {
	foe.At, foe.Did, foe.App = at, risk.SignIn, w.anApp()
	foe.Things = []string{l.things[0]}
	w.foe(a, l.actor, foe)
	w.robs(a, l, at.Add(time.Minute), foe, 3+w.r.IntN(10))
}

// stuffs tries what was leaked elsewhere: many people, many networks, few tries
// each.
func (w *world) stuffs(victim *life, at time.Time) {
	nets := make([]string, 4)
	for i := range nets {
		nets[i] = w.prefix()
	}
	foe := risk.Event{Place: abroad[w.r.IntN(len(abroad))]}
	for i := range 120 {
		l := w.lives[w.r.IntN(len(w.lives))]
		e := foe
		e.At, e.Did, e.Network = at.Add(time.Duration(i)*5*time.Second), risk.Failure, nets[i%len(nets)]
		w.foe(Stuffing, l.actor, e)
	}
	foe.Network = nets[w.r.IntN(len(nets))]
	w.signsIn(Stuffing, victim, at.Add(12*time.Minute), foe)
}

// sprays tries one password on everybody, over a day.
func (w *world) sprays(victim *life, at time.Time) {
	foe := risk.Event{Network: w.prefix(), Place: victim.town.place}
	for i := range 60 {
		l := w.lives[w.r.IntN(len(w.lives))]
		e := foe
		e.At, e.Did = at.Add(time.Duration(i)*10*time.Minute), risk.Failure
		w.foe(Spraying, l.actor, e)
	}
	w.signsIn(Spraying, victim, at.Add(10*time.Hour+time.Minute), foe)
}

// bombs asks and asks.
func (w *world) bombs(l *life, at time.Time, foe risk.Event) {
	n := 4 + w.r.IntN(12)
	for i := range n {
		e := foe
		e.At = at.Add(time.Duration(i) * time.Minute)
		w.out = append(w.out, Happening{Event: e, Prompt: true, Actor: l.actor, Attack: Bombing, Case: w.cases})
	}
	w.signsIn(Bombing, l, at.Add(time.Duration(n)*time.Minute), foe)
}

// onService uses a service's key from elsewhere, or the service itself.
func (w *world) onService(a Attack, s *service, at time.Time) {
	foe := risk.Event{Network: w.prefix(), Place: abroad[w.r.IntN(len(abroad))]}
	n := 4 + w.r.IntN(20)
	if a == ServiceAbuse {
		foe = risk.Event{Network: s.networks[0], Place: s.place, Trusted: s.trusted}
		n = 40 + w.r.IntN(200)
	}
	for range n {
		e := foe
		e.At, e.Did = at, risk.SignIn
		e.Things = []string{fmt.Sprintf("scope-%d", w.r.IntN(400))}
		if w.chance(0.5) {
			e.Things = []string{s.things[w.r.IntN(len(s.things))]}
		}
		w.foe(a, s.actor, e)
		at = at.Add(time.Duration(1+w.r.IntN(20)) * time.Second)
	}
}
