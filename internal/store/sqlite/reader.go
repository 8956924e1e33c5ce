package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/internal/store"
)

// readers are the connections that read: each with its own prepared statements,
// so that who holds one never needs another to go on.
type readers struct {
	db   *sql.DB
	idle chan *reader
	all  []*reader
}

// reader is one connection; it is used by one caller at a time.
type reader struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// openReaders opens n connections before the first request needs one.
func openReaders(ctx context.Context, path string, n int) (*readers, error) {
	db, err := sql.Open("sqlite", dsn(path, true))
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	p := &readers{db: db, idle: make(chan *reader, n)}
	for range n {
		c, err := db.Conn(ctx)
		if err == nil {
			err = c.PingContext(ctx)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("sqlite: open a reader: %w", err), db.Close())
		}
		r := &reader{conn: c, stmts: make(map[string]*sql.Stmt)}
		p.all = append(p.all, r)
		p.idle <- r
	}
	return p, nil
}

// with gives a connection to f. Waiting for one ends with ctx.
func (p *readers) with(ctx context.Context, f func(*reader) error) error {
	select {
	case r := <-p.idle:
		defer func() { p.idle <- r }()
		return f(r)
	default:
	}
	select {
	case r := <-p.idle:
		defer func() { p.idle <- r }()
		return f(r)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *readers) close() error {
	var errs []error
	for _, r := range p.all {
		for _, st := range r.stmts {
			errs = append(errs, st.Close())
		}
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(append(errs, p.db.Close())...)
}

func (r *reader) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if st, ok := r.stmts[text]; ok {
		return st, nil
	}
	st, err := r.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("sqlite: prepare: %w", err)
	}
	r.stmts[text] = st
	return st, nil
}

// Query implements store.Reader. A statement once begun is not given up: the
// driver would watch each one with a goroutine, and they take microseconds.
func (r *reader) Query(ctx context.Context, text string, args []any, each func(store.Row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	st, err := r.prepared(ctx, text)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *reader) run(ctx context.Context, text string) error {
	st, err := r.prepared(ctx, text)
	if err != nil {
		return err
	}
	_, err = st.ExecContext(ctx)
	return err
}

// snapshot runs f in one read transaction.
func (r *reader) snapshot(ctx context.Context, f func(store.Reader) error) (err error) {
	free := context.WithoutCancel(ctx)
	if err := r.run(free, `BEGIN`); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.run(free, `ROLLBACK`)) }()
	return f(r)
}
