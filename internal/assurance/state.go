package assurance

import (
	"slices"
	"time"
)

// State is the assurance of one actor at one moment: pairs of rung and time for
// a person, a rung of its own for a machine, and facts. The facts are each true
// of some proof that counts, not necessarily of the one that reached the best
// rung; a rule that needs them together asks for a rung.
type State struct {
	Pairs             []Pair `json:"pairs,omitempty"` // ascending by rung, at most one each
	PhishingResistant bool   `json:"phishing_resistant,omitempty"`
	HardwareBound     bool   `json:"hardware_bound,omitempty"` // a factor's key cannot leave its device
	HumanPresent      bool   `json:"human_present,omitempty"`  // a person used a factor
	Sources           int    `json:"sources,omitempty"`        // independent authorities that vouch for a machine
	MachineRung       Rung   `json:"machine_rung,omitempty"`   // 1 is m1 (mechanisms F2)
}

// Evaluate says what the proofs establish about subject at now. A machine
// reaches m1 with one source; proofs that could be independent of each other
// come with a later release, so it reaches no more. A DPoP key that was made
// for the run is no source (mechanisms F1).
func Evaluate(subject string, proofs []Proof, now time.Time) State {
	return personal.evaluate(subject, proofs, now)
}

func (f factors) evaluate(subject string, proofs []Proof, now time.Time) State {
	events := f.events(subject, proofs, now)
	s := State{Pairs: f.pairs(events), HumanPresent: len(events) > 0}
	for _, e := range events {
		s.PhishingResistant = s.PhishingResistant || e.bound && !e.capped
		s.HardwareBound = s.HardwareBound || e.bound && !e.capped && e.HardwareBound && !e.Synced
	}
	var sources []string
	for _, p := range proofs {
		machine := p.Method == ClientSecret || p.Method == PrivateKeyJWT || p.Method == MTLS
		if machine && live(p, subject, now) && !slices.Contains(sources, p.Source) {
			sources = append(sources, p.Source)
		}
	}
	if s.Sources = len(sources); s.Sources > 0 {
		s.MachineRung = 1
	}
	return s
}

// Pair is the pair of exactly rung r; ok is false if r is not reached.
func (s State) Pair(r Rung) (p Pair, ok bool) {
	for _, p := range s.Pairs {
		if p.Rung == r {
			return p, true
		}
	}
	return Pair{}, false
}

// Best is the pair of the highest rung reached; the zero Pair if none is.
func (s State) Best() Pair {
	var best Pair
	for _, p := range s.Pairs {
		if p.Rung > best.Rung {
			best = p
		}
	}
	return best
}

// Meets reports whether the state has the rung and the age that the ask demands
// at now, without leeway. Approvals and device are not part of a state: policy
// checks them.
func (s State) Meets(a Ask, now time.Time) bool {
	r := a.rung()
	if r == None {
		return true
	}
	p, ok := s.Pair(r)
	return ok && p.within(a.MaxAge, now)
}

// within reports whether the pair is of now or earlier and at most maxAge old;
// 0 is any age.
func (p Pair) within(maxAge time.Duration, now time.Time) bool {
	age := now.Sub(p.AuthTime)
	return age >= -Skew && (maxAge == 0 || age <= maxAge)
}

// Select chooses the pair and the acr value that an authorization response
// reports (mechanisms A17, A18). requested is the client's acr_values in its
// order of preference; values not on the ladder are ignored. With a known value
// the answer is the first whose rung is reached and fresh, or ok is false: the
// request is binding. With none it is the highest rung that is fresh enough.
//
// maxAge nil is any age; otherwise a pair may be at most that old, without
// leeway. max_age=0 means a ceremony in this very transaction (OpenID Connect
// Core 3.1.2.1): the caller passes the time since the transaction began.
func (s State) Select(requested []string, maxAge *time.Duration, l Ladder, now time.Time) (p Pair, acr string, ok bool) {
	fresh := func(r Rung) bool {
		if p, ok = s.Pair(r); !ok || !p.within(0, now) {
			return false
		}
		return maxAge == nil || now.Sub(p.AuthTime) <= *maxAge
	}
	bound := false
	for _, v := range requested {
		r := l.RungOf(v)
		if r == None {
			continue
		}
		bound = true
		if fresh(r) {
			return p, v, true
		}
	}
	for r := Hardware; !bound && r >= Single; r-- {
		if fresh(r) {
			return p, l.ACR(r), true
		}
	}
	return Pair{}, "", false
}

// Top is the state of somebody who has just now shown everything that can be
// shown: the top of the lattice (mechanisms A6). What no ceremony changes stays.
func (s State) Top(now time.Time) State { return s.raised(Hardware, now) }

// raised is s with every rung up to r reached at least as late as at.
func (s State) raised(r Rung, at time.Time) State {
	pairs := make([]Pair, 0, Hardware)
	for k := Single; k <= Hardware; k++ {
		p, ok := s.Pair(k)
		switch {
		case k <= r && (!ok || p.AuthTime.Before(at)):
			pairs = append(pairs, Pair{Rung: k, AuthTime: at})
		case ok:
			pairs = append(pairs, p)
		}
	}
	s.Pairs = pairs
	s.HumanPresent = true
	s.PhishingResistant = s.PhishingResistant || r >= Phishing
	s.HardwareBound = s.HardwareBound || r >= Hardware
	return s
}
