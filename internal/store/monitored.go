package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// monitoredStep is how many records are read at a time, so that no read lasts.
const monitoredStep = 500

// Monitored gives what rules in mode monitor would have done, out of the newest n records
// since a time that were made before one, by its id; "" begins with the newest. Only those
// are opened in which there is something. A record that was changed is passed over, as by
// Decisions.
func (s *Store) Monitored(ctx context.Context, keys audit.Unsealer, since time.Time, before string, n int) (replay.Monitored, error) {
	p := replay.Monitored{Items: []replay.Would{}}
	if before == "" {
		before = "~" // sorts after every id
	}
	oldest := id.Earliest(id.Record, since.Add(-idSlack))
	known := map[string]*act.Watched{} // by the hash of the facts, which many share
	var tally replay.Tally
	var from time.Time
	for p.Read < n {
		step := min(monitoredStep, n-p.Read)
		chunk, err := all(ctx, s.db, scanRecord, rowSQL+`WHERE a.id < $1 AND a.id > $2 ORDER BY a.id DESC LIMIT $3`, before, oldest, int64(step))
		if err != nil {
			return p, fmt.Errorf("store: read what was monitored: %w", err)
		}
		for i := range chunk {
			row := &chunk[i]
			before = row.ID
			at := time.UnixMicro(row.At).UTC()
			if at.Before(since) {
				continue
			}
			from = at
			w, ok := known[string(row.FactsHash)]
			if !ok {
				w = act.WatchedOf(row.Facts)
				known[string(row.FactsHash)] = w
			}
			if w == nil {
				continue
			}
			if err := watched(ctx, row, w, keys, &tally); err != nil {
				return p, err
			}
		}
		p.Read += len(chunk)
		if len(chunk) < step {
			before = ""
			break
		}
	}
	if p.Items, p.Next = tally.Rows(), before; !from.IsZero() {
		p.From = &from
	}
	return p, nil
}

// watched counts one record.
func watched(ctx context.Context, row *Record, w *act.Watched, keys audit.Unsealer, tally *replay.Tally) error {
	parts, err := audit.Open(ctx, row.Row, keys)
	var changed *audit.Tampered
	switch {
	case errors.As(err, &changed):
		return nil
	case err != nil:
		return err
	}
	at := time.UnixMicro(row.At).UTC()
	for _, rule := range w.Rules {
		one := replay.Would{Rule: rule, Who: w.Who(parts), Day: at.Format(time.DateOnly), Last: row.ID, LastAt: at}
		switch w.Outcome {
		case policy.Allow.String():
			one.Allowed = 1
		case policy.StepUp.String():
			one.Prompted = 1
		default:
			one.Denied = 1
		}
		tally.Add(one)
	}
	return nil
}
