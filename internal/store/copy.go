package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is a table as a copy sees it.
type Table struct {
	Name    string
	Columns []string
	Key     []string // of its primary key, in order
	Refers  []string // tables that its foreign keys name
}

// Shape is what an engine says of its own schema, in a snapshot. Both engines have
// the same tables and columns at the same version.
type Shape interface {
	// Tables gives all tables but those of migrations.
	Tables(ctx context.Context, r Reader) ([]Table, error)
}

// Texts adds the first column of what a query gives to a list.
func Texts(ctx context.Context, r Reader, to *[]string, text string, args ...any) error {
	return r.Query(ctx, text, args, func(row Row) error {
		var s string
		err := row.Scan(&s)
		*to = append(*to, s)
		return err
	})
}

// newest is the version of the newest migration.
func newest(ctx context.Context, r Reader) (v int64, err error) {
	err = r.Query(ctx, `SELECT MAX(version_id) FROM goose_db_version WHERE is_applied`, nil, func(row Row) error { return row.Scan(&v) })
	return v, err
}

// Sink takes a copy: each table once, then its rows. A row is only good until the
// next call; its values are nil, int64, string or []byte, in the order of the
// columns.
type Sink interface {
	Table(name string, columns []string) error
	Row(values []any) error
}

// Source gives a copy back, row by row, tables in the order in which they were
// taken; io.EOF ends it. A row is only good until the next call.
type Source interface {
	Next() (table string, columns []string, row []any, err error)
}

// Copied says what a copy is of.
type Copied struct {
	Deployment Deployment
	Version    int64  // of the schema
	Size       uint64 // of the tree of the log: the high-water mark of its epoch (mechanisms I6)
	Checkpoint []byte // the newest signed one; nil if there is none
	Rows       int64
}

// own are the tables of one running database: no copy takes them.
var own = []string{"lease"}

// OfProcess reports whether a table belongs to what runs on a database, so that no
// copy has it.
func OfProcess(table string) bool { return slices.Contains(own, table) }

// Copy reads every table in one snapshot. begin is told what it will be, before
// any row, and says where each table goes; nil leaves one out. The snapshot is held
// for as long as it takes: on SQLite the write-ahead log grows meanwhile, on
// PostgreSQL nothing is vacuumed.
func (s *Store) Copy(ctx context.Context, begin func(Copied) (func(table string) Sink, error)) error {
	shape, ok := s.db.(Shape)
	if !ok {
		return errors.New("store: this engine cannot be copied")
	}
	return s.db.Snapshot(ctx, func(r Reader) error {
		tables, err := shape.Tables(ctx, r)
		if err != nil {
			return fmt.Errorf("store: read the schema: %w", err)
		}
		if tables, err = InOrder(tables); err != nil {
			return err
		}
		c, err := s.copied(ctx, r, shape, tables)
		if err != nil {
			return err
		}
		sink, err := begin(c)
		if err != nil {
			return err
		}
		for _, t := range tables {
			to := sink(t.Name)
			if to == nil {
				continue
			}
			if err := copyTable(ctx, r, t, to); err != nil {
				return fmt.Errorf("store: copy %s: %w", t.Name, err)
			}
		}
		return nil
	})
}

func (s *Store) copied(ctx context.Context, r Reader, shape Shape, tables []Table) (c Copied, err error) {
	if c.Version, err = newest(ctx, r); err != nil {
		return c, fmt.Errorf("store: read the version: %w", err)
	}
	if c.Deployment, err = readDeployment(ctx, r); err != nil {
		return c, err
	}
	h, err := readHead(ctx, r)
	if err != nil {
		return c, err
	}
	c.Size = h.size - h.base
	k, _, err := one(ctx, r, scanKept, `SELECT size, note FROM checkpoint ORDER BY epoch DESC, size DESC LIMIT 1`)
	if err != nil {
		return c, err
	}
	c.Checkpoint = k.note
	for _, t := range tables {
		n, err := need(ctx, r, t.Name, scanInt, `SELECT COUNT(*) FROM `+t.Name)
		if err != nil {
			return c, err
		}
		c.Rows += n
	}
	return c, nil
}

// InOrder sorts tables so that each comes after those it refers to, and leaves out
// those that belong to one running database.
func InOrder(tables []Table) ([]Table, error) {
	var out []Table
	done := slices.Clone(own)
	rest := slices.DeleteFunc(slices.Clone(tables), func(t Table) bool { return OfProcess(t.Name) })
	slices.SortFunc(rest, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
	for len(rest) > 0 {
		n := len(rest)
		rest = slices.DeleteFunc(rest, func(t Table) bool {
			if slices.ContainsFunc(t.Refers, func(to string) bool { return to != t.Name && !slices.Contains(done, to) }) {
				return false
			}
			out, done = append(out, t), append(done, t.Name)
			return true
		})
		if len(rest) == n {
			return nil, fmt.Errorf("store: the tables %s and others refer to each other", rest[0].Name)
		}
	}
	return out, nil
}

// copyPage is how many rows are read at once.
const copyPage = 1000

// copyTable pages by the primary key.
func copyTable(ctx context.Context, r Reader, t Table, to Sink) error {
	if err := to.Table(t.Name, t.Columns); err != nil {
		return err
	}
	order := strings.Join(t.Key, ", ")
	first := fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s LIMIT %d`, strings.Join(t.Columns, ", "), t.Name, order, copyPage)
	next := fmt.Sprintf(`SELECT %s FROM %s WHERE (%s) > (%s) ORDER BY %s LIMIT %d`,
		strings.Join(t.Columns, ", "), t.Name, order, params(1, len(t.Key)), order, copyPage)
	at := make([]int, len(t.Key))
	for i, k := range t.Key {
		if at[i] = slices.Index(t.Columns, k); at[i] < 0 {
			return errors.New("its key is no column")
		}
	}
	row, dest := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	for i := range row {
		dest[i] = &row[i]
	}
	text, args := first, []any(nil)
	for {
		n := 0
		last := make([]any, len(at))
		err := r.Query(ctx, text, args, func(got Row) error {
			if err := got.Scan(dest...); err != nil {
				return err
			}
			if err := plainValues(row); err != nil {
				return err
			}
			n++
			for i, c := range at {
				last[i] = row[c]
			}
			return to.Row(row)
		})
		if err != nil || n < copyPage {
			return err
		}
		text, args = next, last
	}
}

// plainValues leaves only what a copy may hold.
func plainValues(row []any) error {
	for i, v := range row {
		switch v := v.(type) {
		case nil, int64, string, []byte:
		case int32:
			row[i] = int64(v)
		case int16:
			row[i] = int64(v)
		default:
			return fmt.Errorf("column %d holds a %T", i+1, v)
		}
	}
	return nil
}

// RestoreQuarantined is what ends an import that is to be served: in the same
// transaction the deployment goes into quarantine, so that it is never without.
func RestoreQuarantined(why string, now time.Time) []Stmt {
	return []Stmt{{
		SQL:  `UPDATE node SET frozen_at = $1, why = $2, version = version + 1 WHERE id IN (SELECT id FROM deployment)`,
		Args: []any{now.UnixMicro(), why}, Want: 1,
	}}
}
