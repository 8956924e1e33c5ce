package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
)

// leaseTime is how long a silent holder keeps the lease.
const leaseTime = 2 * time.Second

// releaseTime is how long the end of a process waits for what it committed to be
// signed, on a disk that is slow. The fence keeps it from writing after another has
// taken the lease.
const releaseTime = 10 * time.Second

// SequencerOptions say how the log is grown and signed.
type SequencerOptions struct {
	// Origin names the log (audit.Origin).
	Origin string
	// Epoch is the log's epoch that it grows; 0: 1. It stands still when another
	// one was opened.
	Epoch uint64
	// Known gives the checkpoints of this log that are kept outside the database,
	// each with the epoch that it is of; nothing is signed unless the log extends
	// them (mechanisms E8). May be nil.
	Known func(ctx context.Context) ([]KnownCheckpoint, error)
	// Sign makes the signed note of a checkpoint (audit.SignCheckpoint).
	Sign func(origin string, size uint64, root [32]byte) ([]byte, error)
	// Kept is called with each new checkpoint, once it is durable: the side
	// file, standard output, witnesses. May be nil.
	Kept func(size uint64, note []byte)
	// Grown is called when records were numbered, with the new size: the feed
	// and other cursors wake up. May be nil.
	Grown func(size uint64)
	Log   *slog.Logger // nil: slog.Default()

	Rest  time.Duration // least time between two steps; 0: 20 ms
	Poll  time.Duration // most time between two steps; 0: 500 ms
	Every time.Duration // most time between two checkpoints while there is news; 0: 1 s
	Lease time.Duration // how long a silent holder keeps the lease; 0: 2 s
}

// KnownCheckpoint is a checkpoint of ours, its signature verified.
type KnownCheckpoint struct {
	Where string // in words
	Epoch uint64
	Size  uint64
	Root  [32]byte
}

// Sequencer numbers records, grows the tree and signs it (mechanisms E6, E8). Any
// number of processes may run one on a database: the holder of the lease works,
// the others wait for it to fall silent. A holder that was paused and comes back
// is fenced off by its number.
type Sequencer struct {
	s      *Store
	o      SequencerOptions
	holder string

	fence  int64 // 0: not the holder
	until  time.Time
	retry  time.Time // not before then is a lease asked for that another holds
	signed struct {  // the largest checkpoint known
		size uint64
		root [32]byte
		at   time.Time
	}
	demand atomic.Bool
	mu     sync.Mutex
	news   chan struct{} // closed and renewed after each checkpoint
	fault  atomic.Pointer[error]

	refused atomic.Pointer[error]
	holding atomic.Bool
}

// Sequencer makes a sequencer; Run runs it.
func (s *Store) Sequencer(o SequencerOptions) *Sequencer {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Rest, 20*time.Millisecond)
	set(&o.Poll, 500*time.Millisecond)
	set(&o.Every, time.Second)
	set(&o.Lease, leaseTime)
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	var b [8]byte
	rand.Read(b[:])
	return &Sequencer{s: s, o: o, holder: hex.EncodeToString(b[:]), news: make(chan struct{})}
}

// Run works until ctx ends, then gives the lease back. Faults are logged and
// retried; Fault tells the last one while it lasts.
func (q *Sequencer) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer q.release()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.s.wake:
		case <-timer.C:
		}
		more, err := q.Step(ctx)
		if ctx.Err() != nil {
			return
		}
		q.note(err)
		wait := q.o.Rest
		if more {
			wait = 0
		}
		select { // at most one step each Rest, however many commits wake it
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		timer.Reset(q.idle(more))
	}
}

// idle is how long to wait for news.
func (q *Sequencer) idle(more bool) time.Duration {
	if more || q.demand.Load() {
		return 0
	}
	return q.o.Poll
}

func (q *Sequencer) note(err error) {
	if err == nil || errors.Is(err, errFenced) {
		q.fault.Store(nil)
		return
	}
	if q.fault.Swap(&err) == nil {
		q.o.Log.Error("the log does not grow", "error", err.Error())
	}
}

// Fault is why the log does not grow, nil while it does: part of readiness.
func (q *Sequencer) Fault() error {
	if err := q.refusal(); err != nil {
		return err
	}
	if p := q.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// Step does what there is to do once: lease, numbers and tiles, checkpoint. It is
// what Run repeats; a command on the host that wants the log complete before it
// ends calls it by itself. more reports whether there is more.
func (q *Sequencer) Step(ctx context.Context) (more bool, err error) {
	held, err := q.hold(ctx)
	q.holding.Store(held && err == nil)
	if err != nil || !held {
		q.demand.Store(false) // whoever waits asks again
		return false, err
	}
	h, more, err := q.s.integrate(ctx, q.o.Epoch, q.fence)
	if errors.Is(err, errFenced) {
		q.fence = 0
		return false, err
	}
	if err != nil {
		return false, err
	}
	if q.o.Grown != nil && h.size > 0 {
		q.o.Grown(h.size)
	}
	if err := q.refusal(); err != nil {
		return false, err
	}
	if err := q.checkpoint(ctx, h, more); err != nil {
		return false, err
	}
	return more, nil
}

const (
	takeLeaseSQL = `UPDATE lease SET fence = CASE WHEN holder = $1 THEN fence ELSE fence + 1 END, holder = $1, until = $2
WHERE name = 'sequencer' AND (holder = $1 OR until < $3)`
	fenceSQL = `UPDATE log_head SET fence = (SELECT fence FROM lease WHERE name = 'sequencer') WHERE one = 1`
)

// hold takes or renews the lease.
func (q *Sequencer) hold(ctx context.Context) (bool, error) {
	now := q.s.now()
	if q.fence != 0 && now.Add(q.o.Lease/2).Before(q.until) {
		return true, nil
	}
	if q.fence == 0 && now.Before(q.retry) {
		return false, nil
	}
	until := now.Add(q.o.Lease)
	var u unit
	u.must(1, nil, takeLeaseSQL, q.holder, until.UnixMicro(), now.UnixMicro())
	u.then(fenceSQL)
	err := q.s.db.Write(ctx, u.Unit)
	var missed *Missed
	if errors.As(err, &missed) {
		q.fence, q.retry = 0, now.Add(min(q.o.Lease/4, q.o.Poll))
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("store: take the sequencer's lease: %w", err)
	}
	q.until = until
	if q.fence != 0 {
		return true, nil
	}
	fence, err := q.resume(ctx)
	if err != nil {
		return false, err
	}
	q.fence = fence
	return true, nil
}

// resume reads where the log stands when the lease was taken: its head must be
// the root of its tiles and must extend the largest checkpoint, else nothing is
// signed (mechanisms E8, E12).
func (q *Sequencer) resume(ctx context.Context) (fence int64, err error) {
	err = q.s.db.Snapshot(ctx, func(r Reader) error {
		h, err := readHead(ctx, r)
		if err != nil {
			return err
		}
		fence = h.fence
		if h.epoch != q.o.Epoch {
			return fmt.Errorf("store: the log is in epoch %d, and this process works on epoch %d: start it again", h.epoch, q.o.Epoch)
		}
		if h.tree() > 0 {
			root, err := audit.Root(ctx, tiles{r, h.epoch}, h.tree())
			if err != nil {
				return fmt.Errorf("store: the log's tiles: %w", err)
			}
			if root != h.root {
				return errors.New("store: the log's head is not the root of its tiles")
			}
		}
		if !h.held { // else it is known to have gone back
			if err := q.known(ctx, r, h); err != nil {
				return err
			}
		}
		last, ok, err := one(ctx, r, scanKept, `SELECT size, note FROM checkpoint WHERE epoch = $1 ORDER BY size DESC LIMIT 1`, int64(q.o.Epoch))
		if err != nil || !ok {
			return err
		}
		q.signed.size = last.size
		if q.signed.root, err = rootOf(last.note); err != nil {
			return err
		}
		return q.extends(ctx, r, h)
	})
	return fence, err
}

// known compares the log with the checkpoints that are kept outside.
func (q *Sequencer) known(ctx context.Context, r Reader, h head) error {
	if q.o.Known == nil {
		return nil
	}
	list, err := q.o.Known(ctx)
	if err != nil {
		return fmt.Errorf("store: read the checkpoints kept outside: %w", err)
	}
	for _, k := range list {
		if err := compare(ctx, r, h, k); err != nil {
			return err
		}
	}
	return nil
}

// compare says why the log is not one that has grown out of a known checkpoint:
// *Forked.
func compare(ctx context.Context, r Reader, h head, k KnownCheckpoint) error {
	switch {
	case k.Epoch < h.epoch:
		return nil // what became of it is in the first entry of the epoch after it
	case k.Epoch > h.epoch:
		return &Forked{fmt.Sprintf("the log is in epoch %d, and %s has a checkpoint of epoch %d: it has gone back", h.epoch, k.Where, k.Epoch)}
	case k.Size > h.tree():
		return &Forked{fmt.Sprintf("the log has %d records, and %s has a checkpoint of %d: it has gone back", h.tree(), k.Where, k.Size)}
	}
	err := audit.Extends(ctx, tiles{r, h.epoch}, k.Size, k.Root, h.tree(), h.root)
	if errors.Is(err, audit.ErrInconsistent) {
		return &Forked{fmt.Sprintf("the log does not extend the checkpoint of %d records that %s has", k.Size, k.Where)}
	}
	return err
}

// Forked says that the log is not one that has grown out of a checkpoint of its
// own: its epoch must never be signed again (mechanisms E12).
type Forked struct{ What string }

// Error implements error.
func (f *Forked) Error() string { return "store: " + f.What }

// CompareKnown says whether the log, as it is now, has grown out of a checkpoint
// of its own: *Forked if not.
func (s *Store) CompareKnown(ctx context.Context, k KnownCheckpoint) error {
	return s.db.Snapshot(ctx, func(r Reader) error {
		h, err := readHead(ctx, r)
		if err != nil {
			return err
		}
		return compare(ctx, r, h, k)
	})
}

// Holds reports whether this process holds the lease, as far as it knows.
func (q *Sequencer) Holds() bool { return q.holding.Load() }

// Refuse stops all signing for good: the log was found to have forked.
func (q *Sequencer) Refuse(err error) { q.refused.CompareAndSwap(nil, &err) }

func (q *Sequencer) refusal() error {
	if p := q.refused.Load(); p != nil {
		return *p
	}
	return nil
}

func (q *Sequencer) extends(ctx context.Context, r Reader, h head) error {
	if h.tree() < q.signed.size {
		return &Forked{fmt.Sprintf("the log has %d records, a checkpoint of ours %d: it has gone back", h.tree(), q.signed.size)}
	}
	if err := audit.Extends(ctx, tiles{r, h.epoch}, q.signed.size, q.signed.root, h.tree(), h.root); err != nil {
		return fmt.Errorf("store: the log does not extend its last checkpoint: %w", err)
	}
	return nil
}

// rootOf reads the root out of a checkpoint that this log has stored.
func rootOf(note []byte) (root [32]byte, err error) {
	lines := bytes.SplitN(note, []byte("\n"), 4)
	if len(lines) < 4 {
		return root, errors.New("store: a stored checkpoint is malformed")
	}
	if _, err := strconv.ParseUint(string(lines[1]), 10, 63); err != nil {
		return root, fmt.Errorf("store: a stored checkpoint is malformed: %w", err)
	}
	b, err := base64.StdEncoding.DecodeString(string(lines[2]))
	if err != nil || len(b) != len(root) {
		return root, errors.New("store: a stored checkpoint is malformed")
	}
	return [32]byte(b), nil
}

// checkpoint signs the head if it is due or asked for.
func (q *Sequencer) checkpoint(ctx context.Context, h head, more bool) error {
	now := q.s.now()
	asked := q.demand.Load()
	if h.tree() == 0 || h.tree() == q.signed.size || h.held {
		q.demand.Store(false)
		q.broadcast()
		return nil
	}
	if !asked && now.Sub(q.signed.at) < q.o.Every || more {
		return nil
	}
	q.demand.Store(false)
	if q.signed.size > 0 {
		if err := q.extends(ctx, q.s.db, h); err != nil {
			return err
		}
	}
	note, err := q.o.Sign(q.o.Origin, h.tree(), h.root)
	if err != nil {
		return fmt.Errorf("store: sign a checkpoint: %w", err)
	}
	var u unit
	u.check(1, nil, `SELECT COUNT(*) FROM log_head WHERE fence = $1 AND epoch = $2`, q.fence, int64(q.o.Epoch))
	u.then(`INSERT INTO checkpoint (origin, size, at, note, epoch) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (origin, size) DO NOTHING`,
		q.o.Origin, int64(h.tree()), now.UnixMicro(), note, int64(q.o.Epoch))
	err = q.s.db.Write(ctx, u.Unit)
	var missed *Missed
	if errors.As(err, &missed) {
		q.fence = 0
		return errFenced
	}
	if err != nil {
		return fmt.Errorf("store: keep a checkpoint: %w", err)
	}
	q.signed.size, q.signed.root, q.signed.at = h.tree(), h.root, now
	if q.o.Kept != nil {
		q.o.Kept(h.tree(), note)
	}
	q.broadcast()
	return nil
}

func (q *Sequencer) broadcast() {
	q.mu.Lock()
	close(q.news)
	q.news = make(chan struct{})
	q.mu.Unlock()
}

func (q *Sequencer) next() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.news
}

// CheckpointNow waits until a signed checkpoint covers the record (mechanisms
// E9). Where this process holds the lease it signs at once; otherwise the
// holder's next checkpoint is waited for.
func (q *Sequencer) CheckpointNow(ctx context.Context, recordID string) error {
	for {
		news := q.next()
		n, _, err := one(ctx, q.s.db, scanInt, `SELECT COUNT(*) FROM audit a, log_head h
WHERE a.id = $1 AND a.seq < h.base + (SELECT MAX(size) FROM checkpoint WHERE epoch = h.epoch)`, recordID)
		if err != nil {
			return fmt.Errorf("store: read checkpoints: %w", err)
		}
		if n > 0 {
			return nil
		}
		q.demand.Store(true)
		select {
		case q.s.wake <- struct{}{}:
		default:
		}
		select {
		case <-news:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return problem.New(problem.Unavailable, "log_behind", "It is done and recorded, but the log could not be signed yet.").Because(ctx.Err())
		}
	}
}

// release gives the lease back, so that another holder need not wait for it to
// run out.
func (q *Sequencer) release() {
	if q.fence == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	q.demand.Store(true)
	q.Step(ctx) // what was committed is signed before the process ends
	if err := q.s.db.Write(ctx, Unit{Then: []Stmt{{
		SQL: `UPDATE lease SET until = 0 WHERE name = 'sequencer' AND holder = $1`, Args: []any{q.holder}, Want: Any,
	}}}); err != nil {
		q.o.Log.Warn("the sequencer's lease was not given back", "error", err.Error())
	}
	q.fence = 0
}
