package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

var _ store.Shape = (*engine)(nil)

const (
	tablesSQL  = `SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'goose%' ORDER BY 1`
	columnsSQL = `SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
	keySQL     = `SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(num, pos)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE i.indrelid = to_regclass($1::text) AND i.indisprimary ORDER BY k.pos`
	refersSQL = `SELECT DISTINCT f.relname::text FROM pg_constraint c JOIN pg_class f ON f.oid = c.confrelid WHERE c.conrelid = to_regclass($1::text) AND c.contype = 'f'`
)

// Tables implements store.Shape.
func (e *engine) Tables(ctx context.Context, r store.Reader) ([]store.Table, error) {
	var names []string
	if err := store.Texts(ctx, r, &names, tablesSQL); err != nil {
		return nil, err
	}
	var out []store.Table
	for _, n := range names {
		t := store.Table{Name: n}
		if err := errors.Join(store.Texts(ctx, r, &t.Columns, columnsSQL, n), store.Texts(ctx, r, &t.Key, keySQL, n), store.Texts(ctx, r, &t.Refers, refersSQL, n)); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// Import fills an empty database with a copy, at the version of the schema that the
// copy has; opening it brings it up to date. finish ends it. All of it is one
// transaction, so that nobody finds half a deployment. problem.Conflict
// (database_exists) if the database holds one already.
func Import(ctx context.Context, o Options, version int64, src store.Source, finish []store.Stmt) error {
	e, err := connect(ctx, o)
	if err != nil {
		return err
	}
	defer e.pool.Close()
	if err := e.migrateTo(ctx, version); err != nil {
		return err
	}
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// The pool's limits are for acts.
	tx, err := conn.Begin(ctx)
	if err != nil {
		return unreachable(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return err
	}
	tables, err := e.Tables(ctx, snapshot{tx})
	if err == nil {
		tables, err = store.InOrder(tables)
	}
	if err != nil {
		return err
	}
	for _, t := range slices.Backward(tables) {
		if _, err := tx.Exec(ctx, `DELETE FROM `+t.Name); err != nil { // what migrations put there
			return fmt.Errorf("postgres: empty %s: %w", t.Name, err)
		}
	}
	if err := copyIn(ctx, tx, tables, src); err != nil {
		return err
	}
	for _, s := range finish {
		tag, err := tx.Exec(ctx, s.SQL, s.Args...)
		if err != nil {
			return err
		}
		if s.Want != store.Any && tag.RowsAffected() != s.Want {
			return errors.New("postgres: the backup holds no deployment")
		}
	}
	return tx.Commit(ctx)
}

// migrateTo brings an empty database to a version.
func (e *engine) migrateTo(ctx context.Context, version int64) error {
	fresh, held := false, int64(0)
	err := e.Query(ctx, `SELECT to_regclass('deployment') IS NULL`, nil, func(row store.Row) error { return row.Scan(&fresh) })
	if err == nil && !fresh {
		err = e.Query(ctx, `SELECT COUNT(*) FROM deployment`, nil, func(row store.Row) error { return row.Scan(&held) })
	}
	if err != nil {
		return unreachable(err)
	}
	if held > 0 {
		return problem.New(problem.Conflict, "database_exists", "The database holds a deployment already.").
			WithHint("Restore into an empty database: create one, and name it in the configuration.")
	}
	db := stdlib.OpenDBFromPool(e.pool)
	defer db.Close()
	p, err := migrations(db)
	if err != nil {
		return err
	}
	newest := int64(0)
	for _, s := range p.ListSources() {
		newest = max(newest, s.Version)
	}
	current := int64(0)
	if !fresh {
		if current, err = p.GetDBVersion(ctx); err != nil {
			return fmt.Errorf("postgres: migrations: %w", err)
		}
	}
	switch {
	case version > newest:
		return problem.Newf(problem.Invalid, "database_newer", "The backup is at version %d; this program knows %d. Use the newer program.", version, newest)
	case current > version:
		return problem.Newf(problem.Conflict, "database_newer", "The database is at version %d already, the backup at %d. Restore into a database without tables.", current, version)
	}
	if _, err := p.UpTo(ctx, version); err != nil {
		return fmt.Errorf("postgres: migrate: %w", err)
	}
	return nil
}

// copyIn copies each table in with one COPY.
func copyIn(ctx context.Context, tx pgx.Tx, tables []store.Table, src store.Source) error {
	table, columns, row, err := src.Next()
	for err == nil {
		at := slices.IndexFunc(tables, func(t store.Table) bool { return t.Name == table })
		if at < 0 {
			return fmt.Errorf("postgres: there is no table %s", table)
		}
		this, cols := table, slices.Clone(columns)
		first := true
		var fault error
		_, copyErr := tx.CopyFrom(ctx, pgx.Identifier{this}, cols, pgx.CopyFromFunc(func() ([]any, error) {
			if !first {
				if table, columns, row, err = src.Next(); err != nil || table != this {
					if err != nil && !errors.Is(err, io.EOF) {
						fault = err
						return nil, err
					}
					return nil, nil
				}
			}
			first = false
			return row, nil
		}))
		if fault != nil {
			return fault
		}
		if copyErr != nil {
			return fmt.Errorf("postgres: %s: %w", this, copyErr)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
