package countersign

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2" //house:allow jitter between connections, nothing secret
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// Frame tells of a frame of the revocation feed that was applied.
type Frame struct {
	Epoch    int64
	Seq      int64 // position in the issuer's log
	Snapshot bool  // the whole state, not what is new
	Entries  int   // 0: a heartbeat
}

// FeedStatus is the state of the revocation feed, for metrics and health.
type FeedStatus struct {
	Synced     bool          // a snapshot has been applied
	Connected  bool          // the stream is open
	Age        time.Duration // since the last good frame
	Epoch, Seq int64
	HW         int64  // size of the issuer's log, as far as was heard
	Entries    int    // handles remembered
	Frames     uint64 // applied, heartbeats included
	Snapshots  uint64 // applied
	Reconnects uint64
	Rejected   uint64 // frames that were not the next good one
	LastError  string // of the connection; "" if none since the last good frame
	Fault      string // its class, FaultUnreachable or another
}

const (
	feedScope   = "feed"           // at <issuer>/v1
	feedLife    = 7 * time.Minute  // ≥ how long an entry must be kept (mechanisms C8)
	feedQuiet   = 12 * time.Second // silence after which the connection counts as dead
	feedSkew    = 60 * time.Second // how far a frame's time may be from ours
	maxEntries  = 1_000_000
	maxSnapshot = 40 << 20 // bytes: maxEntries of them
	maxPause    = 5 * time.Second
)

// feed is an enforcement point's side of the revocation feed (mechanisms
// C9–C16).
type feed struct {
	v    *Verifier
	hc   *http.Client
	base string // <issuer>/v1/revocations/

	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // closed at the first snapshot
	acks   chan [2]int64
	aud    string // the spelling that frames use

	// Handles live in two maps that take turns: an entry is kept for at least
	// feedLife and at most twice that.
	mu       sync.RWMutex
	now, old map[handle]struct{}
	turned   time.Time
	all      int64 // tokens issued at or before this second are refused; 0: none
	synced   bool
	good     time.Time // of the last good frame, by the monotonic clock
	iat      int64     // of the last good frame
	status   FeedStatus
	mark     position // of the farthest frame

	connected atomic.Bool
}

// position is how far the issuer had come when it made a frame, in its own words. It is
// given back to it: an issuer whose database was put back learns so from us.
type position struct {
	epoch, hw int64
	mark      string
}

func newFeed(v *Verifier) *feed {
	resource := v.cfg.Issuer + "/v1"
	return &feed{
		v:     v,
		base:  resource + "/revocations/",
		hc:    v.toward(resource),
		ready: make(chan struct{}), acks: make(chan [2]int64, 1), aud: v.cfg.Audience,
		now: map[handle]struct{}{}, turned: time.Now(),
	}
}

func (f *feed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.wg.Go(func() { f.run(ctx) })
	f.wg.Go(func() { f.acknowledge(ctx) })
}

func (f *feed) close() {
	f.cancel()
	f.wg.Wait()
	f.mu.Lock()
	f.synced = false
	f.mu.Unlock()
}

// Ready waits until the revocation feed has its first snapshot, and the policies are
// held that are to be.
func (v *Verifier) Ready(ctx context.Context) error {
	if v.feed != nil {
		if err := await(ctx, v.feed.ready, "revocation feed", func() string { return v.FeedStatus().LastError }); err != nil {
			return err
		}
	}
	if v.bundle != nil {
		return await(ctx, v.bundle.ready, "policy bundle", func() string { return v.PolicyStatus().LastError })
	}
	return nil
}

// await waits until done is closed; why says what was wrong last.
func await(ctx context.Context, done <-chan struct{}, what string, why func() string) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		if e := why(); e != "" {
			return fmt.Errorf("countersign: %s: %s: %w", what, e, ctx.Err())
		}
		return ctx.Err()
	}
}

// FeedStatus gives the state of the revocation feed; the zero value if there is
// none.
func (v *Verifier) FeedStatus() FeedStatus {
	f := v.feed
	if f == nil {
		return FeedStatus{}
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	s := f.status
	s.HW = f.mark.hw
	s.Synced, s.Connected, s.Entries = f.synced, f.connected.Load(), len(f.now)+len(f.old)
	if !f.good.IsZero() {
		s.Age = time.Since(f.good)
	}
	return s
}

// judge tells whether the token is known to have been ended, and how much the
// feed can be trusted about it.
func (f *feed) judge(t *Token) (ended bool, age time.Duration, synced bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.all != 0 && t.IssuedAt.Unix() <= f.all {
		return true, 0, f.synced
	}
	for _, h := range t.handles {
		if _, ok := f.now[h]; ok {
			return true, 0, f.synced
		}
		if _, ok := f.old[h]; ok {
			return true, 0, f.synced
		}
	}
	return false, time.Since(f.good), f.synced
}

// began reports whether the feed ever had a snapshot.
func (f *feed) began() bool {
	select {
	case <-f.ready:
		return true
	default:
		return false
	}
}

// The reasons why a stream ended that are not the network's.
var (
	errFrame = errors.New("a frame was not the next good one")
	errQuiet = errors.New("nothing came for too long")
	errGone  = errors.New("the server does not hold our position any more")
)

// run keeps the stream open until ctx ends.
func (f *feed) run(ctx context.Context) {
	snapshot, faults, pause := true, 0, time.Duration(0)
	for ctx.Err() == nil {
		var err error
		f.present(ctx)
		if snapshot {
			err = f.snapshot(ctx)
			snapshot = err != nil
		}
		if err == nil {
			before := f.frames()
			err = f.stream(ctx)
			if f.frames() > before {
				pause, faults = 0, 0
			}
			switch {
			case errors.Is(err, errGone):
				snapshot = true
			case errors.Is(err, errFrame):
				faults++
				snapshot = faults > 1 // reconnect once, then snapshot
			}
		}
		if ctx.Err() != nil {
			return
		}
		f.note(err)
		pause = min(max(2*pause, 100*time.Millisecond), maxPause)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
	}
}

func (f *feed) frames() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.status.Frames
}

func (f *feed) note(err error) {
	f.mu.Lock()
	f.status.Reconnects++
	if err != io.EOF {
		f.status.LastError, f.status.Fault = err.Error(), faultOf(err)
	}
	f.mu.Unlock()
	if err != io.EOF {
		f.v.log.Warn("revocation feed: connecting again", "err", err)
	}
}

func (f *feed) get(ctx context.Context, what string, q url.Values, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+what+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if what == "snapshot" {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := f.hc.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusGone {
		return nil, errGone
	}
	return nil, fmt.Errorf("%s: %w", what, responseError(resp, body))
}

// snapshot replaces what is known by the server's whole state.
func (f *feed) snapshot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	resp, err := f.get(ctx, "snapshot", url.Values{"aud": {f.v.cfg.Audience}}, "application/jwt")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body io.Reader = resp.Body
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		if body, err = gzip.NewReader(resp.Body); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(body, maxSnapshot+1))
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	fr, err := f.verify(ctx, string(bytes.TrimSpace(b)), maxSnapshot)
	if err != nil {
		return fmt.Errorf("snapshot: %w", rejected{err})
	}
	return f.replace(fr)
}

// verify checks a frame's form, signature, issuer and audience.
func (f *feed) verify(ctx context.Context, jws string, size int) (*jose.FeedFrame, error) {
	var first error
	for _, aud := range append([]string{f.aud}, f.v.audiences...) {
		fr, err := jose.VerifyFeedFrame(jws, &lookup{ctx: ctx, cache: f.v.keys, pause: feedThrottle}, jose.FeedWant{Issuer: f.v.cfg.Issuer, Audience: aud, MaxBytes: size})
		if err == nil {
			f.aud = aud
			return fr, nil
		}
		if first == nil {
			first = err
		}
		if e := new(Error); !errors.As(err, &e) || e.Code != "feed_audience" {
			break
		}
	}
	return nil, first
}

// timely: frames come when they are made.
func (f *feed) timely(fr *jose.FeedFrame) bool {
	d := f.v.now().Sub(fr.IssuedAt.Time())
	return d <= feedSkew && d >= -feedSkew
}

func (f *feed) replace(fr *jose.FeedFrame) error {
	f.mu.Lock()
	st := &f.status
	older := f.synced && fr.Epoch == st.Epoch && (fr.Seq < st.Seq || int64(fr.IssuedAt) < f.iat)
	if !f.timely(fr) || older {
		st.Rejected++
		f.mu.Unlock()
		return fmt.Errorf("snapshot: %w", errFrame)
	}
	f.now, f.old, f.turned, f.all = make(map[handle]struct{}, len(fr.Entries)), nil, time.Now(), 0
	first := !f.synced
	if fr.Epoch != st.Epoch {
		f.iat = 0
	}
	f.synced, st.Epoch, st.Snapshots = true, fr.Epoch, st.Snapshots+1
	f.take(fr)
	f.mu.Unlock()
	if first {
		select {
		case <-f.ready:
		default:
			close(f.ready)
		}
	}
	f.applied(fr, true)
	return nil
}

// apply takes the next frame, or refuses it (mechanisms C13).
func (f *feed) apply(fr *jose.FeedFrame) error {
	f.mu.Lock()
	st := &f.status
	if fr.Epoch != st.Epoch {
		st.Rejected++
		f.mu.Unlock()
		return errGone // a new epoch always means a snapshot
	}
	if fr.Prev != st.Seq || int64(fr.IssuedAt) < f.iat || !f.timely(fr) {
		st.Rejected++
		f.mu.Unlock()
		return errFrame
	}
	f.take(fr)
	f.mu.Unlock()
	f.applied(fr, false)
	return nil
}

// take puts a good frame into effect; f.mu is held.
func (f *feed) take(fr *jose.FeedFrame) {
	now := time.Now()
	if since := now.Sub(f.turned); since >= feedLife {
		f.now, f.old, f.turned = map[handle]struct{}{}, f.now, now
		if since >= 2*feedLife {
			f.old = nil
		}
	}
	for _, e := range fr.Entries {
		h, err := handleOf(e.Handle)
		if err != nil {
			continue // not base64url: no token can have it
		}
		if e.Cutoff == nil {
			delete(f.now, h)
			delete(f.old, h)
		} else {
			f.now[h] = struct{}{} // a cutoff in time is not used yet: refusing more is safe
		}
	}
	f.all = max(f.all, int64(fr.All))
	if len(f.now)+len(f.old) > maxEntries {
		// The server does the same before it comes to this: refuse everything
		// issued so far rather than forget anything.
		f.now, f.old, f.all = map[handle]struct{}{}, nil, max(f.all, f.v.now().Add(2*time.Second).Unix())
	}
	if int64(fr.IssuedAt) > f.iat {
		f.iat, f.good = int64(fr.IssuedAt), now
	}
	if m := (position{fr.Epoch, fr.HW, fr.Mark}); m.mark != "" && (m.epoch > f.mark.epoch || m.epoch == f.mark.epoch && m.hw >= f.mark.hw) {
		f.mark = m
	}
	f.v.keys.withdraw(fr.KeyIDs)
	if f.v.bundle != nil {
		f.v.bundle.heard(fr.Epoch, fr.Policy)
	}
	f.status.Seq, f.status.LastError, f.status.Fault = fr.Seq, "", ""
	f.status.Frames++
}

// applied tells the server and the owner.
func (f *feed) applied(fr *jose.FeedFrame, snapshot bool) {
	if snapshot || len(fr.Entries) > 0 || fr.Seq != fr.Prev {
		ack := [2]int64{fr.Epoch, fr.Seq}
		for sent := false; !sent; {
			select {
			case f.acks <- ack:
				sent = true
			default:
				select {
				case <-f.acks: // an older one that was not sent yet
				default:
				}
			}
		}
	}
	if f.v.cfg.OnFrame != nil {
		f.v.cfg.OnFrame(Frame{Epoch: fr.Epoch, Seq: fr.Seq, Snapshot: snapshot, Entries: len(fr.Entries)})
	}
}

// acknowledge sends the newest position after it was applied. A lost one is
// made up for by the next.
func (f *feed) acknowledge(ctx context.Context) {
	for {
		var ack [2]int64
		select {
		case ack = <-f.acks:
		case <-ctx.Done():
			return
		}
		if err := f.postAck(ctx, ack); err != nil && ctx.Err() == nil {
			f.v.log.Debug("revocation feed: acknowledgement", "err", err)
		}
	}
}

// present gives the issuer its own mark back before it is listened to again. What it
// answers is its own affair: an issuer that has gone back serves nobody then.
func (f *feed) present(ctx context.Context) {
	f.mu.RLock()
	ack, known := [2]int64{f.status.Epoch, f.status.Seq}, f.mark.mark != ""
	f.mu.RUnlock()
	if !known {
		return
	}
	if err := f.postAck(ctx, ack); err != nil && ctx.Err() == nil {
		f.v.log.Debug("revocation feed: give the mark back", "err", err)
	}
}

func (f *feed) postAck(ctx context.Context, ack [2]int64) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	f.mu.RLock()
	mark := f.mark.mark
	f.mu.RUnlock()
	body, err := json.Marshal(struct {
		Epoch int64  `json:"epoch"`
		Seq   int64  `json:"seq"`
		Mark  string `json:"mark,omitempty"`
	}{ack[0], ack[1], mark})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.base+"ack", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return responseError(resp, b)
	}
	return nil
}

// stream applies frames until the connection ends, goes quiet, or sends one
// that is not the next good one.
func (f *feed) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(feedQuiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	f.mu.RLock()
	q := url.Values{"aud": {f.v.cfg.Audience}, "epoch": {strconv.FormatInt(f.status.Epoch, 10)}, "after": {strconv.FormatInt(f.status.Seq, 10)}}
	f.mu.RUnlock()
	resp, err := f.get(ctx, "stream", q, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f.connected.Store(true)
	defer f.connected.Store(false)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), jose.DefaultFeedBytes+64)
	var data string
	for lines.Scan() {
		quiet.Reset(feedQuiet)
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "data:"); ok {
			if data += strings.TrimPrefix(rest, " "); len(data) > jose.DefaultFeedBytes {
				return errFrame
			}
			continue
		}
		if line != "" || data == "" {
			continue // comments, ids
		}
		fr, err := f.verify(ctx, data, 0)
		data = ""
		if err != nil {
			f.mu.Lock()
			f.status.Rejected++
			f.mu.Unlock()
			return fmt.Errorf("%w: %w", errFrame, err)
		}
		if err := f.apply(fr); err != nil {
			return err
		}
	}
	if err := cmp.Or(context.Cause(ctx), lines.Err()); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	return io.EOF // the server ends streams now and then
}
