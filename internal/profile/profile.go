// Package profile keeps what actors usually do, for risk to compare with: a
// History each, in the store, and a copy of those who are active in memory. It
// implements act.Scorer. What has just been learned is kept with the actor's next
// act; a process that dies forgets the last minutes of an actor, no more.
package profile

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/risk"
)

// Keep is the change that keeps a history, as risk.History writes it.
type Keep struct {
	Actor string
	State []byte
}

// Change marks Keep as a change.
func (Keep) Change() {}

// Store reads histories and reports.
type Store interface {
	Reports

	// Profile gives the history of an actor; nil if there is none.
	Profile(ctx context.Context, actor string) ([]byte, error)
}

// Profiles scores. The zero Profiles is not usable; fill Store and Settings. It is
// safe for concurrent use.
type Profiles struct {
	Store    Store
	Settings risk.Settings
	// Trusted are the networks that the operator named as its own.
	Trusted []netip.Prefix
	// Place gives where a network is; nil: nobody knows.
	Place func(netip.Prefix) risk.Place

	crowd   risk.Crowd
	probes  risk.Probes
	nobody  entry // what is learned of nobody: for them as much is done as for anybody
	mu      sync.Mutex
	entries map[string]*entry

	told    sync.Mutex
	toldAt  time.Time // when the reports were read last
	byThing map[string][]risk.Report
}

var _ act.Scorer = (*Profiles)(nil)

// entry is an actor who is active.
type entry struct {
	mu       sync.Mutex
	history  risk.History
	readAt   time.Time // when the store was last looked at
	keptAt   time.Time
	news     bool // something was learned since it was kept
	notable  bool // … that was never seen before
	missed   bool // … of wrong proofs
	lastSeen time.Time
}

const (
	// maxEntries bounds how many actors are in memory, some six kilobytes each.
	maxEntries = 8192
	// readAgain is how soon what another process learned is seen here.
	readAgain = 30 * time.Second
	// keepAfter is how long news may wait that is not notable.
	keepAfter = 10 * time.Minute
)

// entry finds or makes the entry of an actor.
func (p *Profiles) entry(actor string, at time.Time) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[actor]
	if e == nil {
		if p.entries == nil {
			p.entries = make(map[string]*entry)
		}
		if len(p.entries) >= maxEntries {
			p.forget(at)
		}
		e = &entry{}
		p.entries[actor] = e
	}
	e.lastSeen = at
	return e
}

// forget makes room for many: whoever was not seen for a quarter of an hour goes, and then
// those that were not for longest. For one at a time all would be looked at for each who is
// new here, which takes long enough to tell from one whom nobody knows.
func (p *Profiles) forget(at time.Time) {
	maps.DeleteFunc(p.entries, func(_ string, e *entry) bool { return at.Sub(e.lastSeen) > 15*time.Minute })
	most := maxEntries - maxEntries/8
	if len(p.entries) <= most {
		return
	}
	actors := slices.SortedFunc(maps.Keys(p.entries), func(a, b string) int {
		return p.entries[a].lastSeen.Compare(p.entries[b].lastSeen)
	})
	for _, actor := range actors[:len(actors)-most] {
		delete(p.entries, actor)
	}
}

// fresh reads what other processes kept; e is locked.
func (p *Profiles) fresh(ctx context.Context, e *entry, actor string, at time.Time) error {
	if !e.readAt.IsZero() && at.Sub(e.readAt) < readAgain && !at.Before(e.readAt) {
		return nil
	}
	b, err := p.Store.Profile(ctx, actor)
	if err != nil {
		return err
	}
	var kept risk.History
	if err := kept.UnmarshalBinary(b); err == nil { // of another form: it is learned anew
		e.history.Merge(&kept)
	}
	e.readAt = at
	return nil
}

// Score implements act.Scorer.
func (p *Profiles) Score(ctx context.Context, actor string, o act.Origin, at time.Time) (risk.Assessment, error) {
	said, err := p.reported(ctx, things(actor, o), at)
	if err != nil {
		return risk.Assessment{}, err
	}
	e := p.entry(actor, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.Transaction != "" { // which another process may have begun a moment ago
		e.readAt = time.Time{}
	}
	if err := p.fresh(ctx, e, actor, at); err != nil {
		return risk.Assessment{}, err
	}
	x := p.event(o, at)
	return p.Settings.Score(&e.history, x, p.crowd.Failing(x.Network, actor, at), said), nil
}

// Keep implements act.Scorer.
func (p *Profiles) Keep(actor string, at time.Time) act.Change {
	e := p.entry(actor, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	since := at.Sub(e.keptAt)
	if e.readAt.IsZero() { // an entry that took the place of a forgotten one: there is more in the store
		return nil
	}
	if !e.news || !e.notable && since < keepAfter && (!e.missed || since < readAgain) {
		return nil
	}
	b, err := e.history.MarshalBinary()
	if err != nil {
		return nil
	}
	e.news, e.notable, e.missed, e.keptAt = false, false, false, at
	return Keep{Actor: actor, State: b}
}

// Learn implements act.Scorer.
func (p *Profiles) Learn(actor string, o act.Origin, at time.Time, proved bool) {
	e := p.entry(actor, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	x := p.event(o, at)
	e.notable = e.notable || e.history.News(x)
	e.history.Learn(x, proved)
	e.news = true
}

// Asked implements act.Scorer.
func (p *Profiles) Asked(ctx context.Context, q act.Prompt, at time.Time) error {
	return p.note(ctx, q.Person, at, func(h *risk.History) bool { h.Asked(q.Ref, at, q.Until, q.Band); return true })
}

// Answered implements act.Scorer.
func (p *Profiles) Answered(ctx context.Context, a act.Answer, at time.Time) error {
	return p.note(ctx, a.Person, at, func(h *risk.History) bool { return h.Answered(a.Ref, at, a.Denied) })
}

// note changes a history that is read again before: another process may have asked
// what is answered here.
func (p *Profiles) note(ctx context.Context, actor string, at time.Time, change func(*risk.History) bool) error {
	e := p.entry(actor, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.readAt = time.Time{}
	if err := p.fresh(ctx, e, actor, at); err != nil {
		return err
	}
	if change(&e.history) {
		e.news, e.notable = true, true
	}
	return nil
}

// Refused implements act.Scorer.
func (p *Profiles) Refused(actor string, nodes []string, action string, at time.Time) (probing bool) {
	for _, n := range nodes {
		probing = p.probes.Refused(n, action, at) || probing
	}
	if !probing {
		return false
	}
	e := p.entry(actor, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.history.Probed(at)
	e.news, e.notable = true, true
	return true
}

// Miss implements act.Scorer. Only people and services have a history; how often
// strangers fail in their name does not say how often it is kept.
func (p *Profiles) Miss(whose, network string, at time.Time) {
	x := p.event(act.Origin{Network: network}, at)
	x.Did = risk.Failure
	p.crowd.Failed(x.Network, whose, at)
	e := &p.nobody
	if strings.HasPrefix(whose, id.Person) || strings.HasPrefix(whose, id.Service) {
		e = p.entry(whose, at)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.history.Learn(x, false)
	e.news, e.missed = true, true
}

// event is an origin in the terms of risk. Loopback is no network: it says that
// whoever asks is on this machine, or that a proxy does not say who asks.
func (p *Profiles) event(o act.Origin, at time.Time) risk.Event {
	x := risk.Event{At: at, Network: o.Network, NoDevice: !o.Shown, Device: o.Device, Managed: o.Managed, Agent: o.Agent, App: o.App, Things: o.Things, TokenAge: o.TokenAge, Transaction: o.Transaction}
	if o.SignIn {
		x.Did = risk.SignIn
	}
	if net, err := netip.ParsePrefix(o.Network); err == nil {
		if net.Addr().IsLoopback() {
			x.Network = ""
		} else if p.Place != nil {
			x.Place = p.Place(net)
		}
		x.Trusted = Within(p.Trusted, net)
	}
	return x
}

// Within reports whether a network is within one of several.
func Within(all []netip.Prefix, net netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Bits() <= net.Bits() && p.Contains(net.Addr()) })
}
