package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// How far clocks may be apart (mechanisms I15).
const (
	behindBy   = 5 * time.Second  // below the floor: nothing is issued
	aheadBy    = 60 * time.Second // of the monotonic clock, or of the database's
	floorEvery = 10 * time.Second // the floor is stored at most that often
	askClock   = 5 * time.Second  // between two looks at the database's clock
)

// What a wrong clock answers everybody but the host.
var (
	errClockBehind = clockProblem("clock_behind", "This server's clock went back. Until it is set, it answers nobody.")
	errClockAhead  = clockProblem("clock_ahead", "This server's clock is ahead of its database's. Until they agree, it answers nobody.")
)

func clockProblem(code, words string) *problem.Error {
	p := problem.New(problem.Unavailable, code, words).WithHint("Try again later. Its operator sets the clock, or, if the clock is right: countersignd serve --accept-time")
	p.RetryAfter = time.Minute
	return p
}

// clock is the wall clock with the time floor under it (mechanisms I15): the largest
// time at which an act was committed. All that a process does goes by now. A clock
// that runs ahead raises the floor no faster than the monotonic clock goes, and 60
// seconds: it does not poison it. It is safe for concurrent use.
type clock struct {
	wall func() time.Time
	mono func() time.Duration

	mu      sync.Mutex
	floor   time.Time
	stored  time.Time // the floor that is in the database
	storing bool
	base    time.Time     // what the wall clock said when it was last believed,
	since   time.Duration // and the monotonic one
	ahead   bool
	taken   bool // an operator accepted the clock
}

func newClock(wall func() time.Time) *clock {
	began := time.Now()
	return &clock{wall: wall, mono: func() time.Duration { return time.Since(began) }, base: wall()}
}

// now is the time that everything goes by: expiry counts from the later of clock and
// floor.
func (c *clock) now() time.Time {
	w := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.Before(c.floor) {
		return c.floor
	}
	return w
}

// lasting is the floor that a restart comes back to: what expired before it never
// lives again.
func (c *clock) lasting() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored
}

// lead is by how many seconds the wall clock is ahead of the floor.
func (c *clock) lead() float64 {
	w := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.floor.IsZero() {
		return 0
	}
	return w.Sub(c.floor).Seconds()
}

// problem is what everybody but the host is answered; nil while the clock is
// believed.
func (c *clock) problem() *problem.Error {
	w := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.floor.Sub(w) > behindBy:
		return errClockBehind
	case c.ahead:
		return errClockAhead
	}
	return nil
}

// fault is the same in the words of readiness.
func (c *clock) fault() error {
	p := c.problem()
	switch {
	case p == nil:
		return nil
	case p == errClockBehind:
		return fmt.Errorf("%s: the clock is %.0f s behind the newest act; set it, or start with countersignd serve --accept-time", p.Code, -c.lead())
	}
	return fmt.Errorf("%s: the clock is more than %.0f s ahead of the database server's; set one of them, or start with countersignd serve --accept-time", p.Code, aheadBy.Seconds())
}

// most is the farthest that the floor may be for a time; the caller holds the lock.
func (c *clock) most(at time.Time) time.Time {
	if top := c.base.Add(c.mono() - c.since + aheadBy); at.After(top) {
		return top
	}
	return at
}

// due is the floor to store with an act of a time; ok is false if none is to be
// stored now. Each that is given MUST be settled.
func (c *clock) due(at time.Time) (floor time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if floor = c.most(at).Truncate(time.Microsecond); c.ahead || c.storing || floor.Sub(c.stored) < floorEvery {
		return time.Time{}, false
	}
	c.storing = true
	return floor, true
}

// settle tells what became of a floor that was due.
func (c *clock) settle(floor time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.storing = false
	if err == nil && floor.After(c.stored) {
		c.stored = floor
	}
}

// committed raises the floor to the time of an act.
func (c *clock) committed(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at = c.most(at); !c.ahead && at.After(c.floor) {
		c.floor = at
	}
}

// compare believes the wall clock, or not, by the database server's. Only a clock
// that is ahead of the floor, too, is wrong.
func (c *clock) compare(database time.Time) {
	w := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = !c.taken && w.Sub(database) > aheadBy && w.Sub(c.floor) > aheadBy
	if d := w.Sub(database); d.Abs() <= aheadBy {
		c.base, c.since = w, c.mono()
	}
}

// accept takes the wall clock as right, and gives it.
func (c *clock) accept() time.Time {
	w := c.wall().Truncate(time.Microsecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor, c.stored, c.ahead, c.taken = w, w, false, true
	c.base, c.since = w, c.mono()
	return w
}

// floored is the storage of acts with the clock watched: nothing is decided for
// anybody but the host while the clock is wrong, and what is committed raises the
// floor, at times in the same transaction.
type floored struct {
	act.Store
	clock *clock
}

// Load implements act.Store.
func (f floored) Load(ctx context.Context, action policy.Action, refs act.Refs) (act.Facts, error) {
	if refs.Kind != policy.KindOperator && refs.Kind != policy.KindSystem {
		if p := f.clock.problem(); p != nil {
			return act.Facts{}, p
		}
	}
	return f.Store.Load(ctx, action, refs)
}

// Commit implements act.Store.
func (f floored) Commit(ctx context.Context, w act.Write) error {
	floor, due := f.clock.due(w.At)
	if due {
		w.Changes = append(w.Changes[:len(w.Changes):len(w.Changes)], store.KeepFloor{At: floor})
	}
	err := f.Store.Commit(ctx, w)
	if due {
		f.clock.settle(floor, err)
	}
	if err == nil {
		f.clock.committed(w.At)
	}
	return err
}

// readClock reads the floor and compares the clock before anything is done by it.
func (s *State) readClock(ctx context.Context, o Options) error {
	floor, err := s.Store.Floor(ctx)
	if err != nil {
		return err
	}
	s.clock.mu.Lock()
	s.clock.floor, s.clock.stored = floor, floor
	if floor.After(s.clock.base) {
		s.clock.base = floor // it was that late already
	}
	s.clock.mu.Unlock()
	if o.Aside {
		return nil
	}
	return s.compareClock(ctx)
}

// compareClock compares the clock with that of the database's server, if it has one.
func (s *State) compareClock(ctx context.Context) error {
	at, ok, err := s.Store.DatabaseTime(ctx)
	if err != nil || !ok {
		return err
	}
	s.clock.compare(at)
	return nil
}

// acceptTime has the operator accept a clock that would not be believed, on record.
func (s *State) acceptTime(ctx context.Context, o Options) error {
	if !o.AcceptTime || s.clock.problem() == nil {
		return nil
	}
	why, was := s.clock.problem().Code, s.clock.lead()
	now := s.clock.accept()
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.ClockAccept, Kind: audit.ClockAccepted, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{store.KeepFloor{At: now, Lower: true}},
				Parts:   []audit.Part{{Body: map[string]any{"reason": why, "seconds": int64(was)}}},
			}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("accept the time: %w", err)
	}
	s.log.Warn("the clock was accepted as it is: what expired by a later time may live again", "was", why)
	return nil
}

// tendClock asks the database's server for its time and its place as long as this one
// runs, and says when the clock stops it and when it resumes.
func (s *Server) tendClock(ctx context.Context) {
	var said error
	every(ctx, askClock, func(ctx context.Context) {
		if err := s.compareClock(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("ask for the database's time", "err", err)
		}
		if err := s.Store.LookAtPlace(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("ask where the database is", "err", err)
		}
		switch err := s.clock.fault(); {
		case err != nil && said == nil:
			s.log.Error("the clock is wrong: nothing is issued", "err", err)
			said = err
		case err == nil && said != nil:
			s.log.Info("the clock is right again")
			said = nil
		}
	})
}

var _ act.Store = floored{}
