package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/grant"
)

// Pulse is the last sign of life of the processes that work on a database: the
// sequencer's lease, which one of them renews each second, and gives back at an
// orderly end.
type Pulse struct {
	Holder string
	Until  time.Time // when the lease runs out; zero: it was given back, or never taken
	Record time.Time // of the newest record; zero: there is none
}

// Last is when somebody was last known to be alive, at most a second before the
// last moment of who was killed; zero if nobody ever was.
func (p Pulse) Last() time.Time {
	if !p.Until.IsZero() {
		return p.Until.Add(-leaseTime)
	}
	return p.Record
}

// Pulse reads the last sign of life.
func (s *Store) Pulse(ctx context.Context) (Pulse, error) {
	p, _, err := one(ctx, s.db, func(row Row) (p Pulse, err error) {
		var until int64
		err = row.Scan(&p.Holder, &until)
		p.Until = moment(until)
		return p, err
	}, `SELECT holder, until FROM lease WHERE name = 'sequencer'`)
	if err != nil {
		return p, fmt.Errorf("store: read the lease: %w", err)
	}
	at, ok, err := one(ctx, s.db, scanInt, `SELECT at FROM audit ORDER BY id DESC LIMIT 1`)
	if err != nil {
		return p, fmt.Errorf("store: read the newest record: %w", err)
	}
	if ok {
		p.Record = time.UnixMicro(at).UTC()
	}
	return p, nil
}

// RotatedSince lists at most n live families that were rotated at or after a
// moment and whose successor can still be made again, in the order of their ids
// after one.
func (s *Store) RotatedSince(ctx context.Context, at time.Time, after string, n int) ([]grant.Family, error) {
	return all(ctx, s.db, scanFamily, familySQL+`WHERE f.salt IS NOT NULL AND f.static = 0 AND f.rotated_at >= $1 AND f.id > $2 AND n.ended_at IS NULL
ORDER BY f.id LIMIT $3`, at.UnixMicro(), after, int64(n))
}
