package oauth

import (
	"maps"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
)

// jitter is how much earlier than its interval a poll may arrive: networks do not
// deliver at even distances, and who is told to slow down once stays slower.
const jitter = time.Second

// maxPaces bounds the memory beside the budgets of requests, which bound what
// there is to poll for.
const maxPaces = 16384

// paces remembers when each genuine code was polled for last and how long its
// device has to wait. It is this process's: another replica would let a device
// poll as often again, which costs a read. Nothing is granted by it.
type paces struct {
	mu   sync.Mutex
	last map[once.Key]pace
}

type pace struct {
	at, until time.Time
	interval  time.Duration
}

// early notes a poll and reports whether it came too soon after the one before;
// then the interval is longer from now on (RFC 8628 §3.5). until is when nobody
// polls for this code any more.
func (p *paces) early(k once.Key, now, until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = make(map[once.Key]pace)
	}
	if len(p.last) >= maxPaces {
		maps.DeleteFunc(p.last, func(_ once.Key, x pace) bool { return !now.Before(x.until) })
		if len(p.last) >= maxPaces {
			clear(p.last)
		}
	}
	x, seen := p.last[k]
	if !seen {
		x.interval = grant.DeviceInterval
	}
	early := seen && now.Sub(x.at) < x.interval-jitter
	if early {
		x.interval += grant.SlowDown
	}
	x.at, x.until = now, until
	p.last[k] = x
	return early
}
