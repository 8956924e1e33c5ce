package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/countersign-dev/countersign/internal/audit"
)

var _ audit.Source = (*Store)(nil)

// head is where the log stands. size counts the records of all epochs; the tree is
// of size less base.
type head struct {
	size  uint64
	root  [32]byte
	fence int64
	held  bool // the deployment is in quarantine: the old name signs nothing more (mechanisms E12)
	epoch uint64
	base  uint64
}

// tree is the size of the tree.
func (h head) tree() uint64 { return h.size - h.base }

func readHead(ctx context.Context, r Reader) (head, error) {
	return need(ctx, r, "log", func(row Row) (h head, err error) {
		var size, held, epoch, base int64
		var root []byte
		err = row.Scan(&size, &root, &h.fence, &held, &epoch, &base)
		h.held = held > 0
		copy(h.root[:], root)
		h.size, h.epoch, h.base = uint64(size), uint64(epoch), uint64(base)
		if h.tree() == 0 {
			h.root = audit.EmptyRoot
		}
		return h, err
	}, `SELECT size, root, fence, (SELECT COUNT(*) FROM node n JOIN deployment d ON d.id = n.id WHERE n.frozen_at IS NOT NULL), epoch, base FROM log_head WHERE one = 1`)
}

// Head implements audit.Source, as do the methods below, for the epoch that grows:
// what the sequencer last wrote.
func (s *Store) Head(ctx context.Context) (size uint64, root [32]byte, err error) {
	h, err := readHead(ctx, s.db)
	return h.tree(), h.root, err
}

// Tile implements audit.TileStore.
func (s *Store) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	h, err := readHead(ctx, s.db)
	if err != nil {
		return nil, err
	}
	return tiles{s.db, h.epoch}.Tile(ctx, level, n)
}

// tiles reads an epoch's tiles in a snapshot.
type tiles struct {
	r     Reader
	epoch uint64
}

func (t tiles) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	data, ok, err := one(ctx, t.r, scanBytes, `SELECT data FROM tile WHERE level = $1 AND n = $2`, tileLevel(t.epoch, level), int64(n))
	if err != nil {
		return nil, fmt.Errorf("store: read a tile: %w", err)
	}
	if !ok {
		return nil, audit.ErrNoTile
	}
	return data, nil
}

func scanBytes(row Row) ([]byte, error) {
	var b []byte
	err := row.Scan(&b)
	return b, err
}

// rowsPage is how many records one query of Rows reads, so that no read
// transaction lasts.
const rowsPage = 1000

// Rows implements audit.Source: every integrated record from index from on, in
// order. An engine that numbers a record as it is written has some that the
// sequencer has not reached: a moment's worth, and what a killed server left.
func (s *Store) Rows(ctx context.Context, from uint64, fn func(seq uint64, row audit.Row) error) error {
	l, err := s.Log(ctx)
	if err != nil {
		return err
	}
	return l.Rows(ctx, from, fn)
}

// Records calls fn with every integrated record of all epochs, from a number on, in
// order; an error of fn ends it and is returned.
func (s *Store) Records(ctx context.Context, from uint64, fn func(seq uint64, row audit.Row) error) error {
	return s.records(ctx, from, ^uint64(0)>>1, fn)
}

func (s *Store) records(ctx context.Context, from, end uint64, fn func(seq uint64, row audit.Row) error) error {
	for next := int64(from); ; {
		page, err := all(ctx, s.db, scanRecord, rowSQL+`WHERE a.seq >= $1 AND a.seq < $2 AND a.seq < (SELECT size FROM log_head WHERE one = 1)
ORDER BY a.seq LIMIT $3`, next, int64(end), int64(rowsPage))
		if err != nil {
			return fmt.Errorf("store: read records: %w", err)
		}
		for i := range page {
			if err := fn(uint64(page[i].Seq), page[i].Row); err != nil {
				return err
			}
			next = page[i].Seq + 1
		}
		if len(page) < rowsPage {
			return nil
		}
	}
}

type kept struct {
	size uint64
	note []byte
}

func scanKept(row Row) (kept, error) {
	var k kept
	var size int64
	err := row.Scan(&size, &k.note)
	k.size = uint64(size)
	return k, err
}

// Checkpoints implements audit.Source.
func (s *Store) Checkpoints(ctx context.Context, from uint64, fn func(size uint64, text []byte) error) error {
	l, err := s.Log(ctx)
	if err != nil {
		return err
	}
	return l.Checkpoints(ctx, from, fn)
}

// numberBatch is how many records one step of the sequencer integrates.
const numberBatch = 2000

// pending is what the next step integrates: records that have a number already
// (an engine with one writer gives it at once) or, in order of time and id,
// those that have none. Never "greater than the last": a lower number can become
// visible later (mechanisms E6).
type pending struct {
	ids    []string // to be numbered, in order; nil: they have their numbers
	leaves [][32]byte
}

func readPending(ctx context.Context, r Reader, size uint64) (p pending, err error) {
	next := int64(size)
	err = r.Query(ctx, `SELECT seq, entry FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2`, []any{next, int64(numberBatch)}, func(row Row) error {
		var seq int64
		var entry []byte
		if err := row.Scan(&seq, &entry); err != nil {
			return err
		}
		if seq != next {
			return fmt.Errorf("store: record %d of the log is missing", next)
		}
		next++
		p.leaves = append(p.leaves, audit.LeafHash(entry))
		return nil
	})
	if err != nil || len(p.leaves) > 0 {
		return p, err
	}
	err = r.Query(ctx, `SELECT id, entry FROM audit WHERE seq IS NULL ORDER BY at, id LIMIT $1`, []any{int64(numberBatch)}, func(row Row) error {
		var id string
		var entry []byte
		if err := row.Scan(&id, &entry); err != nil {
			return err
		}
		p.ids = append(p.ids, id)
		p.leaves = append(p.leaves, audit.LeafHash(entry))
		return nil
	})
	return p, err
}

// errFenced says that another sequencer holds the lease now.
var errFenced = errors.New("store: another sequencer has taken over")

// integrate numbers what is pending and grows the tree over it, in one
// transaction guarded by the head's size and the fence. more reports whether
// there is more to do.
func (s *Store) integrate(ctx context.Context, epoch uint64, fence int64) (h head, more bool, err error) {
	var u unit
	err = s.db.Snapshot(ctx, func(r Reader) error {
		if h, err = readHead(ctx, r); err != nil {
			return err
		}
		if h.fence != fence || h.epoch != epoch {
			return errFenced
		}
		p, err := readPending(ctx, r, h.size)
		if err != nil || len(p.leaves) == 0 {
			return err
		}
		root, grown, err := audit.Integrate(ctx, tiles{r, h.epoch}, h.tree(), p.leaves)
		if err != nil {
			return err
		}
		more = len(p.leaves) == numberBatch
		s.grow(&u, h, p, root, grown)
		h.size, h.root = h.size+uint64(len(p.leaves)), root
		return nil
	})
	if err != nil || len(u.Must) == 0 {
		return h, false, err
	}
	err = s.db.Write(ctx, u.Unit)
	var missed *Missed
	if errors.As(err, &missed) {
		return h, false, errFenced
	}
	return h, more, err
}

// numberChunks are how many records are numbered by one statement: a few sizes, so
// that there are few texts to prepare.
var numberChunks = []int{128, 32, 8, 1}

// numberSQL numbers n records that have no number yet.
var numberSQL = newTexts(func(n int) string {
	var b strings.Builder
	b.WriteString(`WITH v (id, num) AS (VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(CAST($%d AS TEXT), CAST($%d AS BIGINT))", 2*i+1, 2*i+2)
	}
	b.WriteString(`) UPDATE audit SET seq = v.num FROM v WHERE audit.id = v.id AND audit.seq IS NULL`)
	return b.String()
})

func (s *Store) grow(u *unit, h head, p pending, root [32]byte, grown []audit.Tile) {
	size := int64(h.size) + int64(len(p.leaves))
	u.must(1, nil, `UPDATE log_head SET size = $1, root = $2 WHERE one = 1 AND size = $3 AND fence = $4 AND epoch = $5`,
		size, root[:], int64(h.size), h.fence, int64(h.epoch))
	for i := 0; i < len(p.ids); {
		n := 1
		for _, c := range numberChunks {
			if c <= len(p.ids)-i {
				n = c
				break
			}
		}
		args := make([]any, 0, 2*n)
		for ; n > 0; n-- {
			args = append(args, p.ids[i], int64(h.size)+int64(i))
			i++
		}
		u.must(int64(len(args)/2), nil, numberSQL.of(len(args)/2), args...)
	}
	for _, t := range grown {
		u.then(`INSERT INTO tile (level, n, data) VALUES ($1, $2, $3) ON CONFLICT (level, n) DO UPDATE SET data = excluded.data`,
			tileLevel(h.epoch, t.Level), int64(t.N), t.Data)
	}
	u.then(`UPDATE revocation SET seq = (SELECT a.seq FROM audit a WHERE a.id = revocation.record_id)
WHERE seq IS NULL AND EXISTS (SELECT 1 FROM audit a WHERE a.id = revocation.record_id AND a.seq < $1)`, size)
}
