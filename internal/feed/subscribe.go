package feed

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

// The refusals of the feed.
var (
	errNotReady = problem.New(problem.Unavailable, "feed_not_ready", "The revocation feed is not ready yet.")
	errStreams  = problem.New(problem.Unavailable, "feed_streams", "This client has too many streams open.")
	errGone     = problem.New(problem.Conflict, "feed_gone", "That position is not held any more; take a snapshot.") // rendered as 410
)

// audience gives what subscribers of a registered audience share; h.mu is held.
func (h *Hub) audience(name string) (*audience, error) {
	if a := h.audiences[name]; a != nil {
		return a, nil
	}
	key, err := h.cfg.AudienceKey(name)
	if err != nil {
		return nil, fmt.Errorf("audience key: %w", err)
	}
	a := &audience{name: name, key: key, subs: map[*subscriber]struct{}{}}
	h.audiences[name] = a
	return a, nil
}

// subscribe opens a stream after a position. Its first frames bring it to the
// head; there is at least one, so that the subscriber knows at once that it is
// being told.
func (h *Hub) subscribe(ctx context.Context, c Caller, aud string, epoch int64, after uint64) (*subscriber, func(), error) {
	if err := h.fresh(ctx, after); err != nil { // another replica may have told it more than we have read
		return nil, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.ready:
		return nil, nil, errNotReady
	case epoch != h.cfg.Epoch, after < h.floor, after > h.head:
		return nil, nil, errGone
	}
	a, err := h.audience(aud)
	if err != nil {
		return nil, nil, err
	}
	if h.acks.open(c.Client) >= maxStreams {
		return nil, nil, errStreams
	}
	first, err := h.catchUp(a, after)
	if err != nil {
		return nil, nil, err
	}
	s := &subscriber{caller: c, frames: make(chan string, queue+len(first)), gone: make(chan struct{})}
	for _, f := range first {
		s.frames <- f
	}
	a.subs[s] = struct{}{}
	h.acks.joined(c, after)
	return s, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.detach(a, s)
	}, nil
}

// catchUp signs what lies between a position and the head, once for all who
// come from the same place in the same second; h.mu is held.
func (h *Hub) catchUp(a *audience, after uint64) ([]string, error) {
	if now := h.now().Unix(); a.caughtAt != now || a.caughtTo != h.head {
		a.caught, a.caughtAt, a.caughtTo = map[uint64][]string{}, now, h.head
	}
	if f, ok := a.caught[after]; ok {
		return f, nil
	}
	from, lines := len(h.held), 0
	for from > 0 && h.held[from-1].seq > after {
		from--
		if lines += len(h.held[from].lines); lines > catchUpEntries {
			return nil, errGone // the snapshot is the shorter way
		}
	}
	var out []string
	var err error
	switch missed := h.held[from:]; {
	case len(missed) > 0:
		out, err = h.frames(a, after, missed)
	default:
		var f string
		f, err = h.sign(a, after, h.head, nil)
		out = []string{f}
	}
	if err == nil {
		a.caught[after] = out
	}
	return out, err
}

// snapshot is all live entries of an audience, signed and compressed.
type snapshot struct {
	at   int64
	seq  uint64
	body []byte
}

// snapshotOf gives a snapshot not older than this call. Callers that come while
// one is made share the next.
func (h *Hub) snapshotOf(ctx context.Context, aud string) (*snapshot, error) {
	if err := h.fresh(ctx, 0); err != nil {
		return nil, err
	}
	h.mu.Lock()
	if !h.ready {
		h.mu.Unlock()
		return nil, errNotReady
	}
	a, err := h.audience(aud)
	came, head := h.now().Unix(), h.head
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	a.building.Lock()
	defer a.building.Unlock()
	h.mu.Lock()
	held, all, now, key := h.held, h.all, h.now(), a.key
	seq := h.head
	if s := a.shot; s != nil && s.at >= came && s.seq >= head && !a.stale {
		h.mu.Unlock()
		return s, nil
	}
	a.stale = false
	f := jose.FeedFrame{
		Issuer: h.cfg.Issuer, Audience: jose.Audience{a.name}, Epoch: h.cfg.Epoch, Seq: int64(seq), Prev: int64(seq),
		IssuedAt: jose.Date(now), All: jose.Date(all),
	}
	h.state(&f)
	h.mu.Unlock()
	f.Entries = liveEntries(held, key)
	body, err := h.compress(f)
	if err != nil {
		return nil, err
	}
	a.shot = &snapshot{at: now.Unix(), seq: seq, body: body}
	return a.shot, nil
}

// liveEntries gives the nodes that are ended after all the records, in the
// order in which they first were.
func liveEntries(records []record, key []byte) []jose.Entry {
	last := map[line]bool{}
	var order []line
	for _, r := range records {
		for _, l := range r.lines {
			k := line{kind: l.kind, node: l.node}
			if _, ok := last[k]; !ok {
				order = append(order, k)
			}
			last[k] = !l.thawed
		}
	}
	out := make([]jose.Entry, 0, len(order))
	for _, k := range order {
		if last[k] {
			out = append(out, k.entry(key))
		}
	}
	return out
}

func (h *Hub) compress(f jose.FeedFrame) ([]byte, error) {
	text, err := h.signed(f)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed) // handles are random: there is little to gain
	if err != nil {
		return nil, err
	}
	if _, err := z.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// life is how long a stream is open before its caller has to authenticate
// again; a little different each time, so that they do not all come at once.
func life(n uint32) time.Duration { return streamLife - time.Duration(n%60)*time.Second/2 }
