// Package postgres opens a PostgreSQL database: its pool and settings, two
// pipelined flushes per act, its error codes and its migrations. Statements are
// store's.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// Floor is the oldest server that is accepted, as server_version_num.
const Floor = 140000

// Options say how to open a database.
type Options struct {
	DSN string // postgres:// URL or key=value string
	// Migrate brings an older database up to date; without it an older one is
	// refused.
	Migrate bool
	// Conns is the size of the pool; 0: four for each processor, at least 8.
	Conns int
	// Queue is how many acts may wait for a connection before more are refused
	// at once with Unavailable (busy); 0: 1,024.
	Queue int
	// AcceptDataLoss accepts a server whose settings can lose what it
	// acknowledged (fsync, full_page_writes or synchronous_commit off), and a
	// standby that commits do not wait for.
	AcceptDataLoss bool
	Now            func() time.Time // nil: time.Now
}

// Open connects, checks the server's settings and, if it may, migrates.
func Open(ctx context.Context, o Options) (*store.Store, error) {
	e, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	return store.New(e, o.Now), nil
}

type engine struct {
	pool    *pgxpool.Pool
	queue   int64
	waiting atomic.Int64
	memory  memory
}

func open(ctx context.Context, o Options) (*engine, error) {
	e, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, e.pool, o.Migrate); err != nil {
		e.pool.Close()
		return nil, err
	}
	return e, nil
}

// connect opens the pool and checks the server.
func connect(ctx context.Context, o Options) (*engine, error) {
	config, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, problem.New(problem.Invalid, "database_invalid", "The database's connection string cannot be read.").Because(redact(err))
	}
	config.MaxConns = int32(o.Conns)
	if o.Conns == 0 {
		config.MaxConns = int32(max(8, 4*runtime.GOMAXPROCS(0)))
	}
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	config.ConnConfig.StatementCacheCapacity = 512
	for name, value := range map[string]string{
		"application_name": "countersign", "default_transaction_isolation": "read committed",
		// Every statement walks by key from a few rows: plans for bulk, and code
		// compiled for them, cost more than the answers (measured: introspection
		// 2.7 ms of CPU with them, a tenth without).
		"jit": "off", "plan_cache_mode": "force_generic_plan", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off",
		"lock_timeout": "2s", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s",
	} {
		if _, given := config.ConnConfig.RuntimeParams[name]; !given {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	e := &engine{queue: int64(o.Queue), memory: memory{lossy: o.AcceptDataLoss, newest: make([]acknowledged, config.MaxConns)}}
	if e.queue == 0 {
		e.queue = 1024
	}
	config.AfterConnect = e.arrived
	if e.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, unreachable(err)
	}
	if err := e.verify(ctx, o.AcceptDataLoss); err != nil {
		e.pool.Close()
		return nil, err
	}
	return e, nil
}

// redact keeps a parse error from telling the connection string's password.
func redact(err error) error {
	var p *pgconn.ParseConfigError
	if errors.As(err, &p) {
		return errors.New("postgres: malformed connection string")
	}
	return err
}

func unreachable(err error) error {
	if errors.Is(err, errStandby) {
		return errStandby
	}
	return problem.New(problem.Unavailable, "database_unreachable", "The database cannot be reached.").Because(err)
}

// verify refuses a server or settings that could lose what was acknowledged.
func (e *engine) verify(ctx context.Context, accept bool) error {
	settings := map[string]string{}
	err := e.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN
('server_version_num', 'server_version', 'fsync', 'full_page_writes', 'synchronous_commit', 'server_encoding')`, nil, func(row store.Row) error {
		var name, value string
		err := row.Scan(&name, &value)
		settings[name] = value
		return err
	})
	if err != nil {
		return unreachable(err)
	}
	if v, err := strconv.Atoi(settings["server_version_num"]); err != nil || v < Floor {
		return problem.Newf(problem.Invalid, "database_too_old", "PostgreSQL %s is older than %d.", settings["server_version"], Floor/10000)
	}
	if settings["server_encoding"] != "UTF8" {
		return problem.Newf(problem.Invalid, "database_encoding", "The database's encoding is %s; it has to be UTF8.", settings["server_encoding"])
	}
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if settings[name] == "off" && !accept {
			return problem.Newf(problem.Invalid, "database_unsafe", "The database can lose what it acknowledged: %s is off.", name)
		}
	}
	if accept {
		return nil
	}
	return e.verifyStandbys(ctx)
}

// verifyStandbys refuses a server that a standby follows for which commits do not
// wait (mechanisms I16): once promoted, it lacks what was acknowledged. Any role sees
// how many follow; which of them are asynchronous, only one that is in pg_monitor.
// Backups under way and subscribers of logical replication are not promoted.
func (e *engine) verifyStandbys(ctx context.Context) error {
	var following, asynchronous int64
	var names string
	err := e.Query(ctx, `SELECT current_setting('synchronous_standby_names'), COUNT(*), COUNT(*) FILTER (WHERE sync_state = 'async')
FROM pg_stat_replication WHERE COALESCE(state, '') <> 'backup' AND COALESCE(application_name, '') <> 'pg_receivewal'
AND pid NOT IN (SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL)`, nil, func(row store.Row) error { return row.Scan(&names, &following, &asynchronous) })
	if err != nil {
		return unreachable(err)
	}
	if names == "" && following > 0 || asynchronous > 0 {
		return problem.New(problem.Invalid, "database_standby_asynchronous", "The database can lose what it acknowledged: a standby follows it that commits do not wait for, and that may be promoted.").
			WithHint("Name the standby in synchronous_standby_names, or set database.accept_data_loss_on_failover.")
	}
	return nil
}

// Clock implements store.Clock.
func (e *engine) Clock(ctx context.Context) (at time.Time, err error) {
	err = e.Query(ctx, `SELECT clock_timestamp()`, nil, func(row store.Row) error { return row.Scan(&at) })
	return at, err
}

// Name implements store.Engine.
func (e *engine) Name() string { return "postgres" }

// Query implements store.Reader, outside any transaction.
func (e *engine) Query(ctx context.Context, text string, args []any, each func(store.Row) error) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return query(ctx, conn.Conn(), text, args, each)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func query(ctx context.Context, q querier, text string, args []any, each func(store.Row) error) error {
	rows, err := q.Query(ctx, text, args...)
	if err != nil {
		return meaning(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return meaning(ctx, err)
	}
	return nil
}

// Snapshot implements store.Engine: a read-only transaction that sees one state.
func (e *engine) Snapshot(ctx context.Context, fn func(store.Reader) error) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return meaning(ctx, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	return fn(snapshot{tx})
}

type snapshot struct{ tx pgx.Tx }

// Query implements store.Reader.
func (s snapshot) Query(ctx context.Context, text string, args []any, each func(store.Row) error) error {
	return query(ctx, s.tx, text, args, each)
}

// Size implements store.Engine.
func (e *engine) Size(ctx context.Context) (n int64, err error) {
	err = e.Query(ctx, `SELECT pg_database_size(current_database())`, nil, func(row store.Row) error { return row.Scan(&n) })
	return n, err
}

// Close implements store.Engine.
func (e *engine) Close() error {
	e.pool.Close()
	return nil
}

var busy = func() *problem.Error {
	p := problem.New(problem.Unavailable, "busy", "The server is busy. Nothing was changed.").Because(act.ErrNotWritten)
	p.RetryAfter = time.Second
	return p
}()

// acquire waits for a connection. Nobody who holds one waits for another, so
// the wait always ends; too long a queue is refused at once.
func (e *engine) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if gone := e.memory.gone.Load(); gone != nil {
		return nil, unavailable(errors.Join(act.ErrNotWritten, gone))
	}
	if e.waiting.Add(1) > e.queue {
		e.waiting.Add(-1)
		return nil, busy
	}
	conn, err := e.pool.Acquire(ctx)
	e.waiting.Add(-1)
	if err != nil {
		if ctx.Err() != nil {
			return nil, busy.Because(errors.Join(act.ErrNotWritten, err))
		}
		return nil, unavailable(errors.Join(act.ErrNotWritten, err))
	}
	return conn, nil
}

// unavailable is for a fault of the database. That nothing was changed it says only
// where that is certain.
func unavailable(err error) error {
	text := "The server cannot store anything right now."
	if errors.Is(err, act.ErrNotWritten) {
		text += " Nothing was changed."
	}
	p := problem.New(problem.Unavailable, "storage", text).Because(err)
	p.RetryAfter = 5 * time.Second
	return p
}

// Write implements store.Engine: READ COMMITTED, in two pipelined flushes, BEGIN
// with Must and Then with COMMIT.
func (e *engine) Write(ctx context.Context, u store.Unit) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if len(u.Must) > 0 {
		if err := flush(ctx, conn.Conn(), u.Must, true, false); err != nil {
			return e.finish(ctx, conn, err, false)
		}
	}
	if err := flush(ctx, conn.Conn(), u.Then, len(u.Must) == 0, true); err != nil {
		return e.finish(ctx, conn, err, doubtful(err))
	}
	e.memory.acknowledge(u.Record)
	return nil
}

// flush sends statements in one go and reads their answers in order.
func flush(ctx context.Context, conn *pgx.Conn, stmts []store.Stmt, begin, commit bool) (err error) {
	var b pgx.Batch
	if begin {
		b.Queue(`BEGIN`)
	}
	for i := range stmts {
		b.Queue(stmts[i].SQL, stmts[i].Args...)
	}
	if commit {
		b.Queue(`COMMIT`)
	}
	res := conn.SendBatch(ctx, &b)
	defer func() {
		if e := res.Close(); err == nil {
			err = e
		}
	}()
	if begin {
		if _, err := res.Exec(); err != nil {
			return err
		}
	}
	for i := range stmts {
		got, err := answer(res, &stmts[i])
		if err != nil {
			return err
		}
		if !commit && stmts[i].Want != store.Any && got != stmts[i].Want {
			return &store.Missed{Index: i, Got: got}
		}
	}
	if commit {
		tag, err := res.Exec()
		if err == nil && tag.String() != "COMMIT" {
			return fmt.Errorf("%w: postgres: commit answered %s", act.ErrNotWritten, tag)
		}
		if err != nil {
			return &atCommit{err}
		}
	}
	return nil
}

// atCommit is what became of COMMIT itself.
type atCommit struct{ error }

func (e *atCommit) Unwrap() error { return e.error }

// doubtful reports whether what was sent with COMMIT may have been committed for all
// that: it was sent, and neither did a statement before it fail, which ends the
// transaction, nor did the database say that COMMIT found a conflict.
func doubtful(err error) bool {
	var commit *atCommit
	var said *pgconn.PgError
	var prepared pgx.ErrPreprocessingBatch // before the batch was sent
	switch {
	case errors.Is(err, act.ErrNotWritten), pgconn.SafeToRetry(err), errors.As(err, &prepared):
		return false
	case !errors.As(err, &said):
		return true
	}
	return errors.As(err, &commit) && !strings.HasPrefix(said.Code, "23") && !strings.HasPrefix(said.Code, "40")
}

func answer(res pgx.BatchResults, st *store.Stmt) (n int64, err error) {
	if st.Count {
		err = res.QueryRow().Scan(&n)
		return n, err
	}
	tag, err := res.Exec()
	return tag.RowsAffected(), err
}

// finish rolls back what failed and says what the error means; doubt is whether it may
// have been committed. A connection whose state is not known is not used again.
func (e *engine) finish(ctx context.Context, conn *pgxpool.Conn, err error, doubt bool) error {
	if err == nil {
		return nil
	}
	if c := conn.Conn(); !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if _, e := c.Exec(ctx, `ROLLBACK`); e != nil {
			c.Close(ctx)
		}
	}
	if doubt {
		return unavailable(err)
	}
	return meaning(ctx, errors.Join(act.ErrNotWritten, err))
}

// meaning is what an error of the driver is to the store: that the server is away or
// the connection broke is a passing fault, in reading as in writing.
func meaning(ctx context.Context, err error) error {
	var missed *store.Missed
	var e *pgconn.PgError
	switch {
	case errors.As(err, &missed):
		return err
	case !errors.As(err, &e):
		if ctx.Err() != nil {
			return busy.Because(err)
		}
		return unavailable(err)
	}
	switch e.Code {
	case "23505": // unique_violation
		return &store.Unique{Constraint: e.TableName + "." + firstColumn(e.Detail)}
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return fmt.Errorf("%w: %s", store.ErrRetry, e.Message)
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "25", "53", "57", "58", "XX": // connection, transaction state, resources, operator, system, internal
		return unavailable(err)
	}
	return fmt.Errorf("postgres: %w", err)
}

// firstColumn takes the first column out of "Key (a, b)=(…) already exists.", in
// whatever language the server speaks.
func firstColumn(detail string) string {
	_, rest, _ := strings.Cut(detail, "(")
	if i := strings.IndexAny(rest, ",)"); i >= 0 {
		return rest[:i]
	}
	return rest
}
