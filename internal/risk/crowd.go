package risk

import (
	"math"
	"sync"
	"time"
)

// Crowd remembers from which networks several actors failed: the pattern of lists
// of passwords, and of one password tried on everybody. It is bounded: so many
// networks and so many actors each, those that failed last. It is safe for
// concurrent use. The zero Crowd is empty.
type Crowd struct {
	mu       sync.Mutex
	networks map[string]*tried
}

const (
	crowdNetworks = 4096
	crowdActors   = 16
	crowdTime     = 24 * time.Hour
)

type tried struct {
	last   time.Time
	actors map[uint64]time.Time
}

// Failed notes that a proof of an actor was wrong. Without a network it does
// nothing.
func (c *Crowd) Failed(network, actor string, at time.Time) {
	if network == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.networks[network]
	if t == nil {
		if c.networks == nil {
			c.networks = map[string]*tried{}
		}
		if len(c.networks) >= crowdNetworks {
			c.forget(at)
		}
		t = &tried{actors: map[uint64]time.Time{}}
		c.networks[network] = t
	}
	t.last = at
	key := hash(0, actor)
	if _, ok := t.actors[key]; !ok && len(t.actors) >= crowdActors {
		delete(t.actors, oldest(t.actors))
	}
	t.actors[key] = at
}

// forget makes room: what is over goes, or else what is past for longest.
func (c *Crowd) forget(at time.Time) {
	var name string
	var last time.Time
	for n, t := range c.networks {
		if at.Sub(t.last) > crowdTime {
			delete(c.networks, n)
		} else if name == "" || t.last.Before(last) || t.last.Equal(last) && n < name {
			name, last = n, t.last
		}
	}
	if len(c.networks) >= crowdNetworks {
		delete(c.networks, name)
	}
}

func oldest(m map[uint64]time.Time) (key uint64) {
	var at time.Time
	for k, t := range m {
		if at.IsZero() || t.Before(at) || t.Equal(at) && k < key {
			key, at = k, t
		}
	}
	return key
}

// Failing counts the actors, other than this one, that failed from a network in the last day, at
// most 16.
func (c *Crowd) Failing(network, actor string, at time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.networks[network]
	if t == nil {
		return 0
	}
	self := hash(0, actor)
	for k, last := range t.actors {
		if k != self && at.Sub(last) < crowdTime {
			n++
		}
	}
	return n
}

// spread is the standard deviation of what is done in an hour.
func spread(h *History) float64 {
	return math.Sqrt(max(0, float64(h.spread-h.usual*h.usual)))
}
