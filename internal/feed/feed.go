// Package feed is the server's side of the revocation feed (mechanisms C8–C18):
// it tells enforcement points which lineage handles have ended, in signed
// frames over server-sent events, with a snapshot to begin from and
// acknowledgements to wait for.
//
// What was ended, and its number in the log, comes from a Source; who may
// listen, from Config.Authenticate. The package stores nothing: a hub that
// starts reads what is still worth telling. Lineage's rules are lineage's; the
// other end of the wire is the SDK's.
//
// A frame's seq is the log index of its last record, prev that of the frame
// before. Replicas may cut frames differently: a subscriber says where it is
// and gets what comes after.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Source gives numbered revocations.
type Source interface {
	// Revocations gives the lines numbered higher than after in ascending order,
	// of at most n records. It MUST NOT leave out some lines of a record, nor a
	// record that could later appear below one it has given. It MUST NOT give
	// the thaw of a node that has ended.
	Revocations(ctx context.Context, after uint64, n int) ([]lineage.Revocation, error)
	// RevocationsSince gives those made at or after the time, and the head at
	// that moment, from one snapshot.
	RevocationsSince(ctx context.Context, at time.Time) ([]lineage.Revocation, uint64, error)
	// RevocationHead gives the number of the last revocation, 0 if there is
	// none. It SHOULD fail while records wait to be numbered for long: heartbeats
	// stop then, and enforcement points know that they are not being told.
	RevocationHead(ctx context.Context) (uint64, error)
}

// Caller is an authenticated enforcement point.
type Caller struct {
	Client    string   // client id
	Instance  string   // which of its processes: the thumbprint of its key; may be ""
	Audiences []string // registered identifiers of the resources it serves
}

// Config says what a hub works with.
type Config struct {
	Issuer string
	Epoch  int64 // of the deployment; a change sends everybody for a snapshot
	Source Source
	// AudienceKey gives K_aud of a registered audience (mechanisms C3).
	AudienceKey func(audience string) ([]byte, error)
	// Signer gives the current signer of purpose feed, for jose.TypFeed.
	Signer func() (*jose.Signer, error)
	// Since is when the epoch began: tokens issued before are refused, because the
	// database may not know that they were revoked. Zero for the first epoch.
	Since time.Time
	// Withdrawn lists signing keys whose tokens are refused; nil: none ever are.
	Withdrawn func() []string
	// Policy gives the version of the policies in force: enforcement points do not go by
	// an older one (mechanisms C9). nil: none is told.
	Policy func() int64
	// Mark gives the size of the log, and the position that goes with it in a form
	// that only this deployment can make and read; nil: frames carry none.
	Mark func(context.Context) (hw uint64, mark string, err error)
	// Seen is given the mark that an enforcement point kept of the farthest frame it
	// had. An error is its answer. nil: it is not looked at.
	Seen func(ctx context.Context, mark string) error
	// Authenticate establishes the caller by its sender-bound token.
	Authenticate func(r *http.Request) (Caller, error)
	// TokenLifetime is the longest of an access token; 0 is 5 minutes.
	TokenLifetime time.Duration
	// MaxEntries is how many live entries are held; beyond it every token issued
	// so far is refused instead (mechanisms C15). 0 is 1,000,000.
	MaxEntries int
	Log        *slog.Logger     // nil: silent
	Now        func() time.Time // nil: time.Now
}

// Times of the feed.
const (
	PollEvery      = 500 * time.Millisecond
	HeartbeatEvery = 5 * time.Second
	streamLife     = 5 * time.Minute // then the caller authenticates again
	queryTime      = 5 * time.Second // of one read of the source
	writeTime      = 10 * time.Second
	page           = 1000 // records read at once
	frameEntries   = 4096 // in one frame: about 100 KB
	catchUpEntries = 8 * frameEntries
	queue          = 16 // frames that a subscriber may be behind
)

// record is the lines of one log record. It is never changed.
type record struct {
	seq   uint64
	at    time.Time
	lines []line
}

type line struct {
	kind   lineage.Kind
	node   [16]byte
	thawed bool
}

// Hub holds the revocations that still matter and hands them to subscribers.
// Run must be running.
type Hub struct {
	cfg  Config
	keep time.Duration // of an entry (C8)
	log  *slog.Logger
	now  func() time.Time
	wake chan struct{}
	acks acks

	polling sync.Mutex // one poll at a time; taken before mu

	mu        sync.Mutex
	ready     bool
	closed    bool
	polled    time.Time // of the last poll that succeeded
	held      []record  // ascending
	live      int       // lines in held
	head      uint64
	floor     uint64 // a position below it is not held any more
	all       time.Time
	hw        uint64
	mark      string
	marked    time.Time // when the mark was read
	policy    int64     // that was told last
	audiences map[string]*audience
	dropped   uint64
}

// audience is what subscribers of one audience share.
type audience struct {
	name string
	key  []byte
	subs map[*subscriber]struct{}

	// frames that bring a subscriber from a position to the head, for the second
	// in which they were signed
	caught   map[uint64][]string
	caughtAt int64
	caughtTo uint64

	building sync.Mutex // one snapshot at a time
	shot     *snapshot
	stale    bool // the snapshot was made with another key
}

// subscriber is one open stream.
type subscriber struct {
	caller Caller
	frames chan string
	gone   chan struct{} // closed when the stream is to end
}

// New makes a hub.
func New(cfg Config) *Hub {
	h := &Hub{cfg: cfg, log: cfg.Log, now: cfg.Now, wake: make(chan struct{}, 1), audiences: map[string]*audience{}}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.cfg.TokenLifetime == 0 {
		h.cfg.TokenLifetime = 5 * time.Minute
	}
	if h.cfg.MaxEntries == 0 {
		h.cfg.MaxEntries = 1_000_000
	}
	h.keep = 2*time.Second + h.cfg.TokenLifetime + time.Minute
	h.acks.init()
	return h
}

// Wake has the hub look for news at once. The local sequencer calls it after
// it has numbered records; it never blocks.
func (h *Hub) Wake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run looks for news and sends it until ctx ends, and then ends all streams. A
// source that fails is asked again; meanwhile there are no heartbeats.
func (h *Hub) Run(ctx context.Context) {
	poll, beat := time.NewTicker(PollEvery), time.NewTicker(HeartbeatEvery)
	defer poll.Stop()
	defer beat.Stop()
	defer h.close()
	healthy := true
	for {
		err := h.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		if (err == nil) != healthy {
			if healthy = err == nil; healthy {
				h.log.Info("revocation feed: reading again")
			} else {
				h.log.Error("revocation feed: cannot be read; heartbeats stop", "err", err)
			}
		}
		if err == nil && h.republished() {
			h.heartbeat()
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-poll.C:
		case <-beat.C:
			if h.poll(ctx) == nil {
				h.heartbeat()
			}
		}
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.ready = true, false
	for _, a := range h.audiences {
		for s := range a.subs {
			h.detach(a, s)
		}
	}
}

// detach ends a stream; h.mu is held.
func (h *Hub) detach(a *audience, s *subscriber) {
	if _, ok := a.subs[s]; ok {
		delete(a.subs, s)
		close(s.gone)
		h.acks.left(s.caller)
	}
}

// load reads what is still worth telling.
func (h *Hub) load(ctx context.Context) error {
	lines, head, err := h.cfg.Source.RevocationsSince(ctx, h.now().Add(-h.keep-10*time.Second)) // numbering comes a little after the act
	if err != nil {
		return fmt.Errorf("revocation feed: begin: %w", err)
	}
	records, err := group(lines)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.head, h.floor = head, head
	if len(records) > 0 {
		h.floor = records[0].seq - 1
		h.head = max(head, records[len(records)-1].seq)
	}
	h.hold(records)
	h.ready, h.polled = !h.closed, time.Now()
	return nil
}

// poll takes what is new and sends it.
func (h *Hub) poll(ctx context.Context) error {
	h.polling.Lock()
	defer h.polling.Unlock()
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	begun := time.Now()
	h.mu.Lock()
	ready, at := h.ready, h.head
	h.mu.Unlock()
	h.remark(ctx)
	if !ready {
		return h.load(ctx)
	}
	head, err := h.cfg.Source.RevocationHead(ctx)
	if err != nil {
		return fmt.Errorf("revocation feed: %w", err)
	}
	if head < at {
		return errors.New("revocation feed: the log has gone back")
	}
	for at < head {
		lines, err := h.cfg.Source.Revocations(ctx, at, page)
		if err != nil {
			return fmt.Errorf("revocation feed: %w", err)
		}
		records, err := group(lines)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return fmt.Errorf("revocation feed: nothing after %d, though %d was given out", at, head)
		}
		if records[0].seq <= at {
			return errors.New("revocation feed: the source gave what was not asked for")
		}
		at = records[len(records)-1].seq
		h.publish(records)
	}
	h.prune(begun)
	return nil
}

// fresh makes sure that what we say is not older than a moment: whoever asks is
// told nothing rather than that all is well.
func (h *Hub) fresh(ctx context.Context, after uint64) error {
	h.mu.Lock()
	ok := h.ready && time.Since(h.polled) < 2*PollEvery && after <= h.head
	closed := h.closed
	h.mu.Unlock()
	if ok {
		return nil
	}
	if closed {
		return errNotReady
	}
	if err := h.poll(ctx); err != nil {
		return errNotReady.Because(err)
	}
	return nil
}

// group puts the lines of each record together.
func group(lines []lineage.Revocation) ([]record, error) {
	var out []record
	for _, l := range lines {
		node, ok := id.Bytes(l.Node)
		if !ok {
			return nil, problem.New(problem.Invalid, "lineage_id", "A revoked node has no valid identifier.")
		}
		if n := len(out); n == 0 || out[n-1].seq != l.Seq {
			if n > 0 && l.Seq < out[n-1].seq {
				return nil, errors.New("revocation feed: the source is not in order")
			}
			out = append(out, record{seq: l.Seq, at: l.At})
		}
		r := &out[len(out)-1]
		r.lines = append(r.lines, line{l.Kind, node, l.Thawed})
	}
	return out, nil
}

// hold remembers records; h.mu is held. It reports false if there are too many:
// then everything issued so far is refused instead.
func (h *Hub) hold(records []record) bool {
	for _, r := range records {
		h.live += len(r.lines)
	}
	h.held = append(h.held, records...)
	if h.live <= h.cfg.MaxEntries {
		return true
	}
	h.held, h.live, h.floor, h.all = nil, 0, h.head, h.now()
	h.log.Error("revocation feed: too many entries; every token issued so far is refused", "limit", h.cfg.MaxEntries)
	return false
}

// prune ends a poll: it forgets what no live token can descend from any more.
func (h *Hub) prune(begun time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polled = begun
	before := h.now().Add(-h.keep - 10*time.Second)
	n := 0
	for n < len(h.held) && h.held[n].at.Before(before) {
		h.live -= len(h.held[n].lines)
		h.floor = h.held[n].seq
		n++
	}
	h.held = h.held[n:]
	if !h.all.IsZero() && h.all.Before(before) {
		h.all = time.Time{}
	}
}

// publish sends new records to every audience: one signature for each frame and
// audience.
func (h *Hub) publish(records []record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	prev := h.head
	h.head = records[len(records)-1].seq
	if !h.hold(records) {
		records = []record{{seq: h.head}} // the frame says only "all"
	}
	for _, a := range h.audiences {
		if len(a.subs) == 0 {
			continue
		}
		frames, err := h.frames(a, prev, records)
		h.send(a, frames, err)
	}
}

// republished reports whether other policies are in force than was told.
func (h *Hub) republished() bool {
	if h.cfg.Policy == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.Policy() != h.policy
}

// heartbeat tells every subscriber that there is nothing else.
func (h *Hub) heartbeat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cfg.Policy != nil {
		h.policy = h.cfg.Policy()
	}
	for _, a := range h.audiences {
		if len(a.subs) > 0 {
			f, err := h.sign(a, h.head, h.head, nil)
			h.send(a, []string{f}, err)
		}
	}
}

// send queues frames; who does not keep up, or cannot be told, is dropped and
// comes again. h.mu is held.
func (h *Hub) send(a *audience, frames []string, err error) {
	if err != nil {
		h.log.Error("revocation feed: cannot sign", "aud", a.name, "err", err)
	}
	for s := range a.subs {
		ok := err == nil
		for _, f := range frames {
			if !ok {
				break
			}
			select {
			case s.frames <- f:
			default:
				ok = false
			}
		}
		if !ok {
			h.dropped++
			h.detach(a, s)
		}
	}
}

// frames signs records as frames of bounded size, beginning after prev; h.mu is
// held.
func (h *Hub) frames(a *audience, prev uint64, records []record) ([]string, error) {
	var out []string
	var entries []jose.Entry
	for i, r := range records {
		for _, l := range r.lines {
			entries = append(entries, l.entry(a.key))
		}
		if last := i == len(records)-1; last || len(entries)+len(records[i+1].lines) > frameEntries {
			f, err := h.sign(a, prev, r.seq, entries)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
			prev, entries = r.seq, nil
		}
	}
	return out, nil
}

func (l line) entry(key []byte) jose.Entry {
	handle := lineage.Handle(key, l.kind, l.node)
	if l.thawed {
		return jose.Thawed(handle)
	}
	return jose.Ended(handle)
}

// sign makes one frame; h.mu is held.
func (h *Hub) sign(a *audience, prev, seq uint64, entries []jose.Entry) (string, error) {
	f := jose.FeedFrame{
		Issuer: h.cfg.Issuer, Audience: jose.Audience{a.name}, Epoch: h.cfg.Epoch, Seq: int64(seq), Prev: int64(prev),
		IssuedAt: jose.Date(h.now()), Entries: entries, All: jose.Date(h.all),
	}
	h.state(&f)
	return h.signed(f)
}

// state fills in what every frame says beside its entries; h.mu is held.
func (h *Hub) state(f *jose.FeedFrame) {
	f.HW, f.Mark = int64(h.hw), h.mark
	if h.cfg.Policy != nil {
		f.Policy = h.cfg.Policy()
	}
	if since := h.cfg.Since; h.now().Sub(since) < h.keep && since.After(f.All.Time()) {
		f.All = jose.Date(since)
	}
	if h.cfg.Withdrawn != nil {
		f.KeyIDs = h.cfg.Withdrawn()
	}
}

// Rekey has the hub go by other keys from now on: those of handles, and those that
// were withdrawn. Every subscriber is told at once.
func (h *Hub) Rekey() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.audiences {
		if key, err := h.cfg.AudienceKey(a.name); err == nil {
			a.key, a.caught, a.caughtAt = key, nil, 0
			a.stale = true
		}
		if len(a.subs) > 0 {
			f, err := h.sign(a, h.head, h.head, nil)
			h.send(a, []string{f}, err)
		}
	}
}

// remark reads the mark again, at most once a second. Without one frames are sent
// all the same: what they say is true.
func (h *Hub) remark(ctx context.Context) {
	if h.cfg.Mark == nil || time.Since(h.marked) < time.Second {
		return
	}
	hw, mark, err := h.cfg.Mark(ctx)
	if err != nil {
		h.log.Warn("revocation feed: read the position of the log", "err", err)
		return
	}
	h.mu.Lock()
	h.hw, h.mark, h.marked = hw, mark, time.Now()
	h.mu.Unlock()
}

func (h *Hub) signed(f jose.FeedFrame) (string, error) {
	if f.Entries == nil {
		f.Entries = []jose.Entry{}
	}
	s, err := h.cfg.Signer()
	if err != nil {
		return "", err
	}
	return s.Sign(f)
}

// Stats is the state of a hub, for metrics.
type Stats struct {
	Ready       bool
	Head        uint64
	Live        int // entries held
	Subscribers int
	Dropped     uint64 // streams ended because they did not keep up
}

// Stats gives the state of the hub.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{Ready: h.ready, Head: h.head, Live: h.live, Dropped: h.dropped}
	for _, a := range h.audiences {
		s.Subscribers += len(a.subs)
	}
	return s
}
