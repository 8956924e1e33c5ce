package admin

import (
	"sync"
	"time"
)

// How long and how much is remembered.
const (
	tokenLife   = 5 * time.Minute // longer than this no access token lives (contract)
	verifiedCap = 20_000          // tokens of each generation
	replayLife  = 2*time.Minute + time.Second
	replayCap   = 200_000 // proofs of each generation
)

// generations remembers values by hash for at least a time, in two maps of which
// the older is dropped whole. It is bounded: when a generation is full, add
// refuses, and keep starts a new one early. It is safe for concurrent use.
type generations[V any] struct {
	life time.Duration
	cap  int

	mu       sync.Mutex
	began    time.Time
	new, old map[[32]byte]V
}

func newGenerations[V any](life time.Duration, most int) *generations[V] {
	return &generations[V]{life: life, cap: most, new: map[[32]byte]V{}}
}

func (g *generations[V]) turn(now time.Time) {
	if age := now.Sub(g.began); age >= 2*g.life || age < -g.life {
		g.old, g.new, g.began = nil, map[[32]byte]V{}, now
	} else if age >= g.life {
		g.old, g.new, g.began = g.new, map[[32]byte]V{}, now
	}
}

// get finds a value.
func (g *generations[V]) get(k [32]byte) (v V, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, ok = g.new[k]; !ok {
		v, ok = g.old[k]
	}
	return v, ok
}

// keep remembers a value; what is forgotten early only costs its finding again.
func (g *generations[V]) keep(k [32]byte, v V, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(now)
	if len(g.new) >= g.cap {
		g.old, g.new, g.began = g.new, map[[32]byte]V{}, now
	}
	g.new[k] = v
}

// add remembers a key for at least life: fresh is false if it is known already,
// full is true if it cannot be remembered, and so must not count as fresh.
func (g *generations[V]) add(k [32]byte, now time.Time) (fresh, full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(now)
	if _, ok := g.new[k]; ok {
		return false, false
	}
	if _, ok := g.old[k]; ok {
		return false, false
	}
	if len(g.new) >= g.cap {
		return false, true
	}
	var zero V
	g.new[k] = zero
	return true, false
}
