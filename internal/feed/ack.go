package feed

import (
	"context"
	"sync"
	"time"
)

// acks knows what each enforcement point has applied. It is of this process: a
// deployment of several asks each of them.
type acks struct {
	mu      sync.Mutex
	by      map[instance]*applied
	changed chan struct{} // closed and renewed at each change
}

type instance struct{ client, instance string }

type applied struct {
	seq     uint64
	streams int       // open ones
	at      time.Time // last heard of
}

// ackLife is how long an enforcement point without a stream is remembered.
const ackLife = 10 * time.Minute

func (a *acks) init() { a.by, a.changed = map[instance]*applied{}, make(chan struct{}) }

// of finds or makes the entry; a.mu is held.
func (a *acks) of(c Caller) *applied {
	k := instance{c.Client, c.Instance}
	e := a.by[k]
	if e == nil {
		e = &applied{}
		a.by[k] = e
	}
	e.at = time.Now()
	return e
}

func (a *acks) tell() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// joined notes a stream; where it begins was applied.
func (a *acks) joined(c Caller, after uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, e := range a.by {
		if e.streams == 0 && time.Since(e.at) > ackLife {
			delete(a.by, k)
		}
	}
	e := a.of(c)
	e.streams++
	e.seq = max(e.seq, after)
	a.tell()
}

// maxStreams is how many streams one client has open: more than its processes
// need, and less than would crowd others out.
const maxStreams = 256

// open is how many streams a client has open.
func (a *acks) open(client string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, e := range a.by {
		if k.client == client {
			n += e.streams
		}
	}
	return n
}

func (a *acks) left(c Caller) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of(c).streams--
	a.tell()
}

func (a *acks) heard(c Caller, seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.of(c)
	e.seq = max(e.seq, seq)
	a.tell()
}

// state gives, for each client with an open stream, the least that its
// processes have applied, and whether all have come to seq.
func (a *acks) state(seq uint64) (m map[string]uint64, all bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, all = map[string]uint64{}, true
	for k, e := range a.by {
		if e.streams == 0 {
			continue
		}
		if least, ok := m[k.client]; !ok || e.seq < least {
			m[k.client] = e.seq
		}
		all = all && e.seq >= seq
	}
	return m, all, a.changed
}

// WaitApplied waits until every enforcement point that is connected to this
// process has applied the record with the number seq, or the time is up, and
// gives what each client has applied: the least of its processes.
func (h *Hub) WaitApplied(ctx context.Context, seq uint64, timeout time.Duration) map[string]uint64 {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		m, all, changed := h.acks.state(seq)
		if all {
			return m
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return m
		}
	}
}
