package risk

import (
	"maps"
	"sync"
	"time"
)

// ProbingAt is how many distinct refused actions below one lineage node are still no
// probing; they count for probeTime (mechanisms A12).
const (
	ProbingAt  = 20
	probeTime  = 5 * time.Minute
	probeNodes = 4096
)

// Probes remembers what was refused below which node. It is bounded: so many nodes,
// those that were refused something last, and as many actions of each as make the
// difference. It is safe for concurrent use. The zero Probes is empty.
type Probes struct {
	mu    sync.Mutex
	nodes map[string]map[uint64]time.Time
}

// Refused notes that an action was refused below a node, and reports whether that
// makes more than ProbingAt distinct ones in the last five minutes.
func (p *Probes) Refused(node, action string, at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.nodes[node]
	if seen == nil {
		if p.nodes == nil {
			p.nodes = map[string]map[uint64]time.Time{}
		}
		if len(p.nodes) >= probeNodes {
			p.forget(at)
		}
		seen = map[uint64]time.Time{}
		p.nodes[node] = seen
	}
	maps.DeleteFunc(seen, func(_ uint64, last time.Time) bool { return at.Sub(last) >= probeTime })
	key := hash(0, action)
	if _, ok := seen[key]; !ok && len(seen) > ProbingAt {
		delete(seen, oldest(seen))
	}
	seen[key] = at
	return len(seen) > ProbingAt
}

// forget makes room: what is over goes, or else what is past for longest.
func (p *Probes) forget(at time.Time) {
	var name string
	var past time.Time
	for n, seen := range p.nodes {
		var last time.Time
		for _, t := range seen {
			if t.After(last) {
				last = t
			}
		}
		if at.Sub(last) >= probeTime {
			delete(p.nodes, n)
		} else if name == "" || last.Before(past) || last.Equal(past) && n < name {
			name, past = n, last
		}
	}
	if len(p.nodes) >= probeNodes {
		delete(p.nodes, name)
	}
}

// Probed remembers that too many distinct actions of the actor were refused: it
// counts for an hour.
func (h *History) Probed(at time.Time) {
	if at = at.Truncate(time.Second); at.After(h.probed) {
		h.probed = at
	}
}
