package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Epoch is one of the log's epochs (mechanisms E12): the records with numbers from
// Base on, up to that of the next epoch, in a tree of their own.
type Epoch struct {
	N      uint64 // from 1
	Base   uint64 // number of its first record
	Origin string // name of the tree; "" if it was not signed yet
	Record string // id of the record that opened it; "" of the first
	Last   bool   // it is the one that grows
	End    uint64 // number after its last record
}

// OpenEpoch closes the epoch of the log that grows and opens the next: the record
// of the act that carries this change is its first entry, wherever that act comes
// in the order of commits, and what waits for a number follows it. problem.Conflict
// (epoch_moved) if another epoch than After, or another head than Size, is there.
type OpenEpoch struct {
	After  uint64 // the epoch that is closed
	Size   uint64 // size of its tree
	N      uint64 // the new one: more than After
	Origin string // its name
}

// Change marks OpenEpoch as a change.
func (OpenEpoch) Change() {}

var epochMoved = problem.New(problem.Conflict, "epoch_moved", "The log has moved on. Nothing was changed.")

func (s *Store) epochChange(u *unit, c act.Change) bool {
	o, ok := c.(OpenEpoch)
	if !ok {
		return s.writerChange(u, c) || s.retentionChange(u, c)
	}
	// The head's row is locked from here on: no sequencer numbers anything.
	u.must(1, refused(epochMoved), `UPDATE log_head SET epoch = $1, base = size, root = $2
WHERE one = 1 AND epoch = $3 AND size - base = $4 AND epoch < $1`, int64(o.N), []byte{}, int64(o.After), int64(o.Size))
	u.then(`UPDATE deployment SET epoch = $1 WHERE epoch < $1`, int64(o.N))
	next := `(SELECT size FROM log_head WHERE one = 1)`
	for _, st := range []Stmt{
		// The record takes the next place in the tree; what has a number and no place
		// (an engine that numbers at once) moves up by one, by way of the negative.
		{SQL: `UPDATE audit SET seq = -2 - seq WHERE seq >= ` + next},
		{SQL: `UPDATE audit SET seq = ` + next + ` WHERE id = $1`, Args: []any{u.record}},
		{SQL: `UPDATE audit SET seq = -1 - seq WHERE seq < 0`},
		{
			SQL: `INSERT INTO log_epoch (epoch, base, origin, record_id, opened_at)
SELECT CAST($1 AS BIGINT), size, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT) FROM log_head`,
			Args: []any{int64(o.N), o.Origin, u.record, u.at.UnixMicro()},
		},
	} {
		st.Want = Any
		u.last = append(u.last, st)
	}
	return true
}

// tileLevels is how far the tiles of one epoch lie from those of the next.
const tileLevels = 64

func tileLevel(epoch uint64, level int) int64 { return int64(level) + tileLevels*int64(epoch-1) }

// Epochs lists the log's epochs, oldest first; the last is the one that grows.
func (s *Store) Epochs(ctx context.Context) ([]Epoch, error) {
	first, _, err := s.LogOrigin(ctx)
	if err != nil {
		return nil, fmt.Errorf("store: read the log's name: %w", err)
	}
	list := []Epoch{{N: 1, Origin: first}}
	more, err := all(ctx, s.db, func(row Row) (e Epoch, err error) {
		var n, base int64
		err = row.Scan(&n, &base, &e.Origin, &e.Record)
		e.N, e.Base = uint64(n), uint64(base)
		return e, err
	}, `SELECT epoch, base, origin, record_id FROM log_epoch ORDER BY epoch`)
	if err != nil {
		return nil, fmt.Errorf("store: read the log's epochs: %w", err)
	}
	for _, e := range more {
		list[len(list)-1].End = e.Base
		list = append(list, e)
	}
	h, err := readHead(ctx, s.db)
	if err != nil {
		return nil, err
	}
	last := &list[len(list)-1]
	last.Last, last.End = true, h.size
	return list, nil
}

// LogOrigin is the origin in the oldest checkpoint that is kept of the first epoch:
// the name of the log, which it has for ever. ok is false while nothing was signed.
func (s *Store) LogOrigin(ctx context.Context) (origin string, ok bool, err error) {
	return one(ctx, s.db, scanString, `SELECT origin FROM checkpoint WHERE epoch = 1 ORDER BY size LIMIT 1`)
}

// EpochLog is one epoch of the log as a verifier reads it. Rows and checkpoints are
// counted from the epoch's first record.
type EpochLog struct {
	s *Store
	e Epoch
}

var _ audit.Source = (*EpochLog)(nil)

// EpochLog gives an epoch of Epochs to a verifier.
func (s *Store) EpochLog(e Epoch) *EpochLog { return &EpochLog{s, e} }

// Log gives the epoch that grows to a verifier.
func (s *Store) Log(ctx context.Context) (*EpochLog, error) {
	list, err := s.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	return s.EpochLog(list[len(list)-1]), nil
}

// EpochAt gives the epoch of a number to a verifier; problem.NotFound
// (epoch_not_found) if the log has none.
func (s *Store) EpochAt(ctx context.Context, n uint64) (*EpochLog, error) {
	list, err := s.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.N == n {
			return s.EpochLog(e), nil
		}
	}
	return nil, missing("epoch")
}

// Place says where a record is: in which epoch and at which index of its tree, -1
// while it has none, and with which entry; problem.NotFound if there is none such.
func (s *Store) Place(ctx context.Context, record string) (epoch uint64, index int64, entry []byte, err error) {
	r, err := s.RecordByID(ctx, record)
	if err != nil {
		return 0, 0, nil, err
	}
	list, err := s.Epochs(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	e := list[len(list)-1]
	if r.Seq < 0 {
		return e.N, -1, r.Entry, nil
	}
	for uint64(r.Seq) < e.Base {
		list = list[:len(list)-1]
		e = list[len(list)-1]
	}
	return e.N, r.Seq - int64(e.Base), r.Entry, nil
}

// Epoch is the epoch that it reads.
func (l *EpochLog) Epoch() Epoch { return l.e }

// Head implements audit.Source. The head of an epoch that was closed is what its
// tiles make.
func (l *EpochLog) Head(ctx context.Context) (size uint64, root [32]byte, err error) {
	if !l.e.Last {
		size = l.e.End - l.e.Base
		root, err = audit.Root(ctx, l, size)
		return size, root, err
	}
	h, err := readHead(ctx, l.s.db)
	if err == nil && h.epoch != l.e.N {
		err = fmt.Errorf("store: epoch %d was closed meanwhile", l.e.N)
	}
	return h.size - h.base, h.root, err
}

// Tile implements audit.TileStore.
func (l *EpochLog) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	return tiles{l.s.db, l.e.N}.Tile(ctx, level, n)
}

// Rows implements audit.Source.
func (l *EpochLog) Rows(ctx context.Context, from uint64, fn func(seq uint64, row audit.Row) error) error {
	end := ^uint64(0) >> 1
	if !l.e.Last {
		end = l.e.End
	}
	return l.s.records(ctx, l.e.Base+from, end, func(seq uint64, row audit.Row) error { return fn(seq-l.e.Base, row) })
}

// Checkpoints implements audit.Source.
func (l *EpochLog) Checkpoints(ctx context.Context, from uint64, fn func(size uint64, text []byte) error) error {
	for next := from; ; {
		page, err := all(ctx, l.s.db, scanKept, `SELECT size, note FROM checkpoint WHERE epoch = $1 AND size >= $2 ORDER BY size LIMIT $3`,
			int64(l.e.N), int64(next), int64(rowsPage))
		if err != nil {
			return fmt.Errorf("store: read checkpoints: %w", err)
		}
		for _, k := range page {
			if err := fn(k.size, k.note); err != nil {
				return err
			}
			next = k.size + 1
		}
		if len(page) < rowsPage {
			return nil
		}
	}
}

// LastCheckpoint gives the epoch's largest signed checkpoint; problem.NotFound if
// there is none.
func (l *EpochLog) LastCheckpoint(ctx context.Context) (size uint64, text []byte, err error) {
	k, err := need(ctx, l.s.db, "checkpoint", scanKept, `SELECT size, note FROM checkpoint WHERE epoch = $1 ORDER BY size DESC LIMIT 1`, int64(l.e.N))
	return k.size, k.note, err
}

// currentEpoch is a condition on a table with a column epoch.
const currentEpoch = `epoch = (SELECT epoch FROM log_head WHERE one = 1)`

// LastCheckpoint gives the largest signed checkpoint of the epoch that grows;
// problem.NotFound if there is none yet.
func (s *Store) LastCheckpoint(ctx context.Context) (size uint64, text []byte, err error) {
	k, err := need(ctx, s.db, "checkpoint", scanKept, `SELECT size, note FROM checkpoint WHERE `+currentEpoch+` ORDER BY size DESC LIMIT 1`)
	return k.size, k.note, err
}

// LastSigned gives the size of the largest signed checkpoint of the epoch that
// grows and when it was signed; problem.NotFound if there is none yet.
func (s *Store) LastSigned(ctx context.Context) (size uint64, at time.Time, err error) {
	type signed struct{ size, at int64 }
	k, err := need(ctx, s.db, "checkpoint", func(row Row) (k signed, err error) {
		err = row.Scan(&k.size, &k.at)
		return k, err
	}, `SELECT size, at FROM checkpoint WHERE `+currentEpoch+` ORDER BY size DESC LIMIT 1`)
	return uint64(k.size), time.UnixMicro(k.at).UTC(), err
}
