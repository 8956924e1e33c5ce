package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/session"
)

// Store is every domain Store over one database. It is safe for concurrent use.
type Store struct {
	db    Engine
	now   func() time.Time
	cache cache
	known facts
	keys  recordKeys
	self  atomic.Pointer[string] // the deployment's id, once there is one
	head  atomic.Pointer[policyHead]
	wake  chan struct{} // a local commit has news for the sequencer

	writer atomic.Pointer[[8]byte] // who is registered as alive
}

var (
	_ act.Store      = (*Store)(nil)
	_ account.Store  = (*Store)(nil)
	_ group.Store    = (*Store)(nil)
	_ client.Store   = (*Store)(nil)
	_ resource.Store = (*Store)(nil)
	_ factor.Store   = (*Store)(nil)
	_ session.Store  = (*Store)(nil)
	_ grant.Store    = (*Store)(nil)
	_ keyring.Store  = (*Store)(nil)
	_ recovery.Store = (*Store)(nil)
	_ issuer.Store   = (*Store)(nil)
	_ review.Store   = (*Store)(nil)
)

// New makes a Store over an opened and migrated database. now may be nil.
func New(db Engine, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{db: db, now: now, wake: make(chan struct{}, 1)}
}

// Engine is "sqlite" or "postgres".
func (s *Store) Engine() string { return s.db.Name() }

// Close waits for what is being written and closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Commit implements act.Store.
func (s *Store) Commit(ctx context.Context, w act.Write) error {
	u := unit{at: w.At, record: w.Record}
	u.Record = w.Record
	u.guard(w.Guard)
	for _, sp := range w.Spend {
		s.spend(&u, sp)
	}
	for _, c := range w.Changes {
		if err := s.change(&u, c); err != nil {
			return err
		}
	}
	interned, err := s.insertRecord(&u, w.Row)
	if err == nil {
		err = u.met(w.Met, w.Row)
	}
	if err != nil {
		return err
	}
	u.Then = append(u.Then, u.last...)
	if err := s.db.Write(ctx, u.Unit); err != nil {
		return s.failed(ctx, &u, w, err)
	}
	s.cache.touch(u.touched)
	if interned {
		s.known.add(w.Row.FactsHash)
	}
	for _, f := range u.after {
		f()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// failed says what the error of a unit means.
func (s *Store) failed(ctx context.Context, u *unit, w act.Write, err error) error {
	var missed *Missed
	var unique *Unique
	switch {
	case errors.As(err, &missed):
		if missed.Index >= len(u.fails) {
			return fmt.Errorf("store: %w", err)
		}
		if f := u.fails[missed.Index]; f != nil {
			return f(ctx)
		}
	case errors.As(err, &unique):
		return conflict(unique)
	case !errors.Is(err, ErrRetry):
		return err
	}
	ids := make([]string, len(w.Guard))
	for i, g := range w.Guard {
		ids[i] = g.ID
	}
	s.cache.touch(append(ids, u.touched...))
	return fmt.Errorf("%w (%w)", act.ErrStale, err)
}

// facts remembers which decision facts are in the database already, so that
// the usual record is one insert.
type facts struct {
	mu  sync.RWMutex
	set map[[32]byte]struct{}
}

const maxKnownFacts = 16384

func (f *facts) has(hash []byte) bool {
	if len(hash) != 32 {
		return false
	}
	f.mu.RLock()
	_, ok := f.set[[32]byte(hash)]
	f.mu.RUnlock()
	return ok
}

func (f *facts) add(hash []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.set == nil || len(f.set) >= maxKnownFacts {
		f.set = make(map[[32]byte]struct{})
	}
	f.set[[32]byte(hash)] = struct{}{}
}
