package store

import (
	"context"
	"errors"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// idSlack is how much earlier than its act a record's id may have been made.
const idSlack = time.Minute

// Decisions gives what was decided from a time on and before another, out of at
// most n records behind after; "" begins at from. A record that was changed is
// passed over: whether the log is whole is for its verification.
func (s *Store) Decisions(ctx context.Context, keys audit.Unsealer, from, until time.Time, after string, n int) (replay.Decisions, error) {
	p := replay.Decisions{Facts: []replay.Facts{}, Items: []replay.DecisionItem{}}
	if after == "" && !from.IsZero() {
		after = id.Earliest(id.Record, from.Add(-idSlack))
	}
	rows, err := s.RecordsAfter(ctx, after, n)
	if err != nil {
		return p, err
	}
	known, seen := map[string]*replay.Facts{}, map[*replay.Facts]int{}
	for i := range rows {
		row := &rows[i]
		at := time.UnixMicro(row.At).UTC()
		if !until.IsZero() && !at.Before(until) {
			continue
		}
		p.At = &at
		if at.Before(from) {
			continue
		}
		parts, err := audit.Open(ctx, row.Row, keys)
		var changed *audit.Tampered
		switch {
		case errors.As(err, &changed):
			continue
		case err != nil:
			return p, err
		}
		if d, ok := act.Decided(row.Row, parts, known[string(row.FactsHash)]); ok {
			known[string(row.FactsHash)] = d.Facts
			p.Put(d, seen)
		}
	}
	p.Read = len(rows)
	if len(rows) == n && (until.IsZero() || time.UnixMicro(rows[n-1].At).Before(until.Add(idSlack))) {
		p.Next = rows[n-1].ID
	}
	return p, nil
}
