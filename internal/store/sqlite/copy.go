package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

var _ store.Shape = (*engine)(nil)

// Tables implements store.Shape.
func (e *engine) Tables(ctx context.Context, r store.Reader) ([]store.Table, error) {
	return tables(ctx, r)
}

func tables(ctx context.Context, r store.Reader) ([]store.Table, error) {
	var out []store.Table
	err := r.Query(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'goose%' ORDER BY name`, nil, func(row store.Row) error {
		var t store.Table
		err := row.Scan(&t.Name)
		out = append(out, t)
		return err
	})
	for i := range out {
		t := &out[i]
		if err == nil {
			err = store.Texts(ctx, r, &t.Columns, `SELECT name FROM pragma_table_info($1) ORDER BY cid`, t.Name)
		}
		if err == nil {
			err = store.Texts(ctx, r, &t.Key, `SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk`, t.Name)
		}
		if err == nil {
			err = store.Texts(ctx, r, &t.Refers, `SELECT DISTINCT "table" FROM pragma_foreign_key_list($1)`, t.Name)
		}
	}
	return out, err
}

// Import makes a database file out of a copy, at the version of the schema that the
// copy has; opening it brings it up to date. finish ends it, in the same
// transaction. The file appears, durable, only when all of it is there.
// problem.Conflict (database_exists) if there is one already.
func Import(ctx context.Context, path string, version int64, src store.Source, finish []store.Stmt) (err error) {
	// A log of changes that an earlier database left behind would be played into
	// the restored one when it is opened.
	for _, beside := range []string{"", "-wal", "-shm", "-journal"} {
		switch _, err := os.Lstat(path + beside); {
		case err == nil:
			return problem.New(problem.Conflict, "database_exists", "There is a database already, or what is left of one: "+path+beside).
				WithHint("Restore into an empty deployment: move the database and the files beside it (-wal, -shm, -journal) away first.")
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
	}
	part := path + ".restoring"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := private(part); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	if err := build(ctx, part, version, src, finish); err != nil {
		return err
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(part, path)); err != nil {
		return err
	}
	return file.SyncDir(filepath.Dir(path))
}

func build(ctx context.Context, path string, version int64, src store.Source, finish []store.Stmt) (err error) {
	// The file is worth nothing until it is renamed, so it needs no journal.
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"_pragma": {
		"journal_mode(OFF)", "synchronous(OFF)", "foreign_keys(0)", "cache_size(-64000)", "temp_store(MEMORY)", "trusted_schema(0)",
	}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if err := migrateTo(ctx, db, version); err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	r := &reader{conn: conn, stmts: map[string]*sql.Stmt{}}
	all, err := tables(ctx, r)
	if err != nil {
		return err
	}
	if err := r.run(ctx, `BEGIN`); err != nil {
		return err
	}
	im := importer{ctx: ctx, r: r, known: map[string]store.Table{}}
	for _, t := range all {
		im.known[t.Name] = t
		if !store.OfProcess(t.Name) {
			if err := r.run(ctx, `DELETE FROM `+t.Name); err != nil { // what migrations put there
				return err
			}
		}
	}
	if err := im.rows(src); err != nil {
		return err
	}
	if err := im.finish(finish); err != nil {
		return err
	}
	if err := r.run(ctx, `COMMIT`); err != nil {
		return err
	}
	for _, st := range r.stmts {
		err = errors.Join(err, st.Close())
	}
	return err
}

func migrateTo(ctx context.Context, db *sql.DB, version int64) error {
	p, err := migrations(db)
	if err != nil {
		return err
	}
	if newest := newestOf(p); version > newest {
		return problem.Newf(problem.Invalid, "database_newer", "The backup is at version %d; this program knows %d. Use the newer program.", version, newest)
	}
	if _, err := p.UpTo(ctx, version); err != nil {
		return fmt.Errorf("sqlite: migrate: %w", err)
	}
	return nil
}

func newestOf(p *goose.Provider) (v int64) {
	for _, s := range p.ListSources() {
		v = max(v, s.Version)
	}
	return v
}

// importer inserts rows, some at once.
type importer struct {
	ctx   context.Context
	r     *reader
	known map[string]store.Table

	table   string
	columns []string
	batch   []any
	size    int     // rows of a batch
	late    [][]any // records without a number: they get one after all others
}

// rows inserts everything that a source has.
func (im *importer) rows(src store.Source) error {
	seq := -1
	for {
		table, columns, row, err := src.Next()
		if errors.Is(err, io.EOF) {
			return im.end()
		}
		if err == nil && table != im.table {
			if err = im.end(); err == nil {
				seq, err = im.begin(table, columns)
			}
		}
		if err != nil {
			return err
		}
		kept := make([]any, len(row))
		for i, v := range row {
			if b, ok := v.([]byte); ok {
				v = bytes.Clone(b)
			}
			kept[i] = v
		}
		if seq >= 0 && row[seq] == nil {
			im.late = append(im.late, kept)
			continue
		}
		im.batch = append(im.batch, kept...)
		if len(im.batch) == im.size*len(columns) {
			if err := im.insert(); err != nil {
				return err
			}
		}
	}
}

// begin starts a table. seq is the column of a record's number, which every record
// has here and not on PostgreSQL; -1 in other tables.
func (im *importer) begin(table string, columns []string) (seq int, err error) {
	t, ok := im.known[table]
	if !ok || store.OfProcess(table) {
		return 0, fmt.Errorf("sqlite: there is no table %s", table)
	}
	seq = -1
	for i, c := range columns {
		if !slices.Contains(t.Columns, c) {
			return 0, fmt.Errorf("sqlite: the table %s has no column %s", table, c)
		}
		if table == "audit" && c == "seq" {
			seq = i
		}
	}
	im.table, im.columns, im.size = table, columns, max(1, min(64, 900/len(columns)))
	return seq, nil
}

func (im *importer) end() error {
	if err := im.insert(); err != nil {
		return err
	}
	for _, row := range im.late { // the source has them in the order of time
		im.batch = append(im.batch, row...)
		if err := im.insert(); err != nil {
			return err
		}
	}
	im.late, im.table = nil, ""
	return nil
}

func (im *importer) insert() error {
	if len(im.batch) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, `INSERT INTO %s (%s) VALUES `, im.table, strings.Join(im.columns, ", "))
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", len(im.columns)), ",") + ")"
	for i := range len(im.batch) / len(im.columns) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(one)
	}
	st, err := im.r.prepared(im.ctx, b.String())
	if err == nil {
		_, err = st.ExecContext(im.ctx, im.batch...)
	}
	im.batch = im.batch[:0]
	if err != nil {
		return fmt.Errorf("sqlite: %s: %w", im.table, err)
	}
	return nil
}

// finish checks what was imported and runs the last statements.
func (im *importer) finish(stmts []store.Stmt) error {
	for _, s := range stmts {
		st, err := im.r.prepared(im.ctx, s.SQL)
		if err != nil {
			return err
		}
		res, err := st.ExecContext(im.ctx, s.Args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || s.Want != store.Any && n != s.Want {
			return errors.Join(errors.New("sqlite: the backup holds no deployment"), err)
		}
	}
	broken := 0
	err := im.r.Query(im.ctx, `PRAGMA foreign_key_check`, nil, func(store.Row) error { broken++; return nil })
	if err == nil && broken > 0 {
		err = fmt.Errorf("sqlite: %d rows of the backup refer to nothing", broken)
	}
	return err
}
