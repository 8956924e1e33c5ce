package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
)

// CloseWriter says that a process vouched for all it wrote and ended (mechanisms E3).
type CloseWriter struct{ ID [8]byte }

// LoseWriter says that a process stopped without closing; problem.Conflict
// (writer_alive) if it closed, was lost before, or gave a sign of life at or after
// Before.
type LoseWriter struct {
	ID     [8]byte
	Before time.Time
}

// Change marks CloseWriter as a change.
func (CloseWriter) Change() {}

// Change marks LoseWriter as a change.
func (LoseWriter) Change() {}

var writerAlive = problem.New(problem.Conflict, "writer_alive", "That process lives, or its end is known.")

func (s *Store) writerChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case CloseWriter:
		u.then(`UPDATE log_writer SET closed_at = $1 WHERE id = $2`, u.at.UnixMicro(), c.ID[:])
	case LoseWriter:
		u.must(1, refused(writerAlive), `UPDATE log_writer SET lost_at = $1 WHERE id = $2 AND closed_at IS NULL AND lost_at IS NULL AND alive_at < $3`,
			u.at.UnixMicro(), c.ID[:], c.Before.UnixMicro())
	default:
		return false
	}
	return true
}

// register remembers the process whose record is committed first by this store.
func (s *Store) register(u *unit, entry audit.Entry) {
	if p := s.writer.Load(); p != nil && *p == entry.Writer {
		return
	}
	id := entry.Writer
	u.then(`INSERT INTO log_writer (id, alive_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id[:], u.at.UnixMicro())
	u.after = append(u.after, func() { s.writer.Store(&id) })
}

// KeepAlive is a process's sign of life. One that was taken for lost is no more.
func (s *Store) KeepAlive(ctx context.Context, id [8]byte) error {
	err := s.db.Write(ctx, Unit{Then: []Stmt{{
		SQL: `UPDATE log_writer SET alive_at = $1, lost_at = NULL WHERE id = $2 AND closed_at IS NULL`, Args: []any{s.now().UnixMicro(), id[:]}, Want: Any,
	}}})
	if err != nil {
		return fmt.Errorf("store: a sign of life: %w", err)
	}
	return nil
}

// Silent lists the processes that did not close and gave no sign of life since a
// time, and are not known to be lost; at most 100.
func (s *Store) Silent(ctx context.Context, since time.Time) ([][8]byte, error) {
	return all(ctx, s.db, func(row Row) (id [8]byte, err error) {
		var b []byte
		err = row.Scan(&b)
		copy(id[:], b)
		return id, err
	}, `SELECT id FROM log_writer WHERE closed_at IS NULL AND lost_at IS NULL AND alive_at < $1 ORDER BY alive_at LIMIT 100`, since.UnixMicro())
}

// Sought is what the database has of a record that a process has in mind.
type Sought struct {
	Own    audit.Own
	There  bool  // there is a row of its id
	Same   bool  // with the entry that the process wrote
	Number int64 // -1: it has none yet
}

// Find looks for records that a process has in mind, at most 500 at once.
func (s *Store) Find(ctx context.Context, list []audit.Own) ([]Sought, error) {
	out := make([]Sought, len(list))
	args := make([]any, len(list))
	at := make(map[string]int, len(list))
	var b strings.Builder
	for i, o := range list {
		out[i] = Sought{Own: o, Number: -1}
		args[i], at[o.ID] = o.ID, i
		fmt.Fprintf(&b, ", $%d", i+1)
	}
	if len(list) == 0 {
		return nil, nil
	}
	err := s.db.Query(ctx, `SELECT id, entry, COALESCE(seq, -1) FROM audit WHERE id IN (`+b.String()[2:]+`)`, args, func(row Row) error {
		var id string
		var entry []byte
		var seq int64
		if err := row.Scan(&id, &entry, &seq); err != nil {
			return err
		}
		f := &out[at[id]]
		leaf := audit.LeafHash(entry)
		f.There, f.Same, f.Number = true, bytes.Equal(leaf[:], f.Own.Leaf[:]), seq
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: look for records: %w", err)
	}
	return out, nil
}
