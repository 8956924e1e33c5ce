package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
)

// factFloor is the fact whose time is the floor.
const factFloor = "time_floor"

// KeepFloor raises the time floor (mechanisms I15): the largest time at which an act
// is known to have been committed. One that is higher stays, unless Lower says that
// an operator accepts the clock as it is.
type KeepFloor struct {
	At    time.Time
	Lower bool
}

// Change marks KeepFloor as a change.
func (KeepFloor) Change() {}

const raiseFloorSQL = factSQL + ` WHERE deployment_fact.at < excluded.at`

func (s *Store) floorChange(u *unit, c act.Change) bool {
	k, ok := c.(KeepFloor)
	if !ok {
		return false
	}
	text := raiseFloorSQL
	if k.Lower {
		text = factSQL
	}
	// The last statement: nobody waits for this row with another one in hand.
	u.last = append(u.last, Stmt{SQL: text, Args: []any{factFloor, "", k.At.UnixMicro()}, Want: Any})
	return true
}

// Floor is the time floor; zero if none was kept.
func (s *Store) Floor(ctx context.Context) (time.Time, error) {
	f, _, err := s.Fact(ctx, factFloor)
	return f.At, err
}

// Clock is an Engine whose server has a clock of its own.
type Clock interface {
	// Clock reads the time of the database's server.
	Clock(ctx context.Context) (time.Time, error)
}

// DatabaseTime is the time of the database's server; ok is false where the
// database has no clock but this process's.
func (s *Store) DatabaseTime(ctx context.Context) (at time.Time, ok bool, err error) {
	c, ok := s.db.(Clock)
	if !ok {
		return time.Time{}, false, nil
	}
	at, err = c.Clock(ctx)
	return at, err == nil, err
}
