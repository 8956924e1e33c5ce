package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// maxBatch is how many writes share one commit.
const maxBatch = 128

const defaultQueue = 1024

// writer is the one connection that writes. Whatever waits when it is free goes
// into one transaction, each write within a savepoint of its own; all callers
// are answered after the commit they share.
type writer struct {
	db    *sql.DB
	queue chan *job
	done  chan struct{}

	mu     sync.RWMutex // held for writing while closing
	closed bool

	// conn is a connection of the driver's own: one goroutine uses it, so that
	// nothing of database/sql's pooling and converting is needed on the hot path.
	conn  driver.Conn
	stmts map[string]driver.Stmt
	args  []driver.NamedValue
	row   [1]driver.Value
	dsn   string

	reserve *reserve // given up when the disk is full
}

const (
	waiting int32 = iota
	taken
	abandoned
)

// job is one write and its answer.
type job struct {
	unit   store.Unit
	state  atomic.Int32
	err    error
	answer chan error
}

var jobs = sync.Pool{New: func() any { return &job{answer: make(chan error, 1)} }}

func newWriter(db *sql.DB, dsn string, queue int, spare *reserve) (*writer, error) {
	if queue == 0 {
		queue = defaultQueue
	}
	w := &writer{db: db, dsn: dsn, reserve: spare, queue: make(chan *job, queue), done: make(chan struct{})}
	if err := w.connect(); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// connect opens the connection; statements are prepared as they come.
func (w *writer) connect() error {
	conn, err := w.db.Driver().Open(w.dsn)
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	w.conn, w.stmts = conn, make(map[string]driver.Stmt)
	return nil
}

var busy = func() *problem.Error {
	p := problem.New(problem.Unavailable, "busy", "The server is busy. Nothing was changed.").Because(act.ErrNotWritten)
	p.RetryAfter = time.Second
	return p
}()

// write queues a unit and waits for its commit. Who gives up before the unit is
// taken up gets the context's error and nothing happens; after that the answer
// is waited for, because it is no longer in anybody's hands.
func (w *writer) write(ctx context.Context, u store.Unit) error {
	j := jobs.Get().(*job)
	j.unit, j.err = u, nil
	j.state.Store(waiting)
	w.mu.RLock()
	if w.closed {
		w.mu.RUnlock()
		return busy.Because(fmt.Errorf("sqlite: closed: %w", act.ErrNotWritten))
	}
	select {
	case w.queue <- j:
	default:
		w.mu.RUnlock()
		return busy
	}
	w.mu.RUnlock()
	select {
	case err := <-j.answer:
		jobs.Put(j)
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, abandoned) {
			return busy.Because(errors.Join(act.ErrNotWritten, ctx.Err())) // the writer drops the job
		}
		err := <-j.answer
		jobs.Put(j)
		return err
	}
}

func (w *writer) run() {
	defer close(w.done)
	batch := make([]*job, 0, maxBatch)
	for j := range w.queue {
		batch = append(batch[:0], j)
	drain:
		for len(batch) < maxBatch {
			select {
			case next, ok := <-w.queue:
				if !ok {
					break drain
				}
				batch = append(batch, next)
			default:
				break drain
			}
		}
		w.commit(batch)
	}
}

// commit makes a batch durable and answers it. Any failure of the transaction
// as a whole is everybody's: nothing is acknowledged that is not on disk.
func (w *writer) commit(batch []*job) {
	live := batch[:0]
	for _, j := range batch {
		if j.state.CompareAndSwap(waiting, taken) {
			live = append(live, j)
		}
	}
	if len(live) == 0 {
		return
	}
	err := w.transaction(live)
	if err != nil {
		w.reserve.release(err) // before anybody hears of it
	}
	for _, j := range live {
		switch {
		case err != nil:
			j.answer <- unavailable(err)
		default:
			j.answer <- j.err
		}
	}
	if err != nil {
		w.recover()
	}
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

// recover gives up the connection, so that nothing of the failed transaction
// survives in it, and takes a new one.
func (w *writer) recover() {
	for _, st := range w.stmts {
		st.Close()
	}
	if w.conn != nil {
		w.conn.Close() // rolls back
		w.conn = nil
	}
}

// transaction writes a batch. Until COMMIT nothing is written for certain: whoever gives
// up the connection rolls it back.
func (w *writer) transaction(batch []*job) error {
	wrote, err := w.begin(batch)
	if err != nil {
		return errors.Join(act.ErrNotWritten, err)
	}
	if wrote {
		_, err = w.exec(context.Background(), `COMMIT`, nil)
	}
	return err
}

// begin does all of a transaction but COMMIT. Where no unit wrote it is over.
func (w *writer) begin(batch []*job) (wrote bool, err error) {
	ctx := context.Background()
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return false, err
		}
	}
	if _, err := w.exec(ctx, `BEGIN IMMEDIATE`, nil); err != nil {
		return false, err
	}
	next, err := w.count(ctx, nextSQL, nil)
	if err != nil {
		return false, err
	}
	for _, j := range batch {
		n, err := w.unit(ctx, &j.unit, next)
		if fatal(err) {
			return false, err
		}
		if err == nil {
			next += n
			wrote = true
		}
		j.err = err
	}
	if !wrote {
		_, err = w.exec(ctx, `ROLLBACK`, nil)
	}
	return wrote, err
}

// nextSQL is the number of the next record.
const nextSQL = `SELECT MAX(COALESCE((SELECT MAX(seq) FROM audit), -1) + 1, (SELECT size FROM log_head))`

// unit runs one write. numbered is how many record numbers it took. An error
// that is not fatal leaves nothing of the unit behind.
func (w *writer) unit(ctx context.Context, u *store.Unit, next int64) (numbered int64, err error) {
	// A unit of reads and at most one write needs no savepoint: SQLite undoes a
	// failed statement by itself.
	writes := len(u.Then)
	for i := range u.Must {
		if !u.Must[i].Count {
			writes++
		}
	}
	if writes > 1 {
		if _, err := w.exec(ctx, `SAVEPOINT unit`, nil); err != nil {
			return 0, err
		}
		defer func() {
			if err != nil && !fatal(err) {
				if _, e := w.exec(ctx, `ROLLBACK TO unit`, nil); e != nil {
					err = e
				}
			}
			if !fatal(err) {
				if _, e := w.exec(ctx, `RELEASE unit`, nil); e != nil {
					err = e
				}
			}
		}()
	}
	for i := range u.Must {
		st := &u.Must[i]
		run := w.exec
		if st.Count {
			run = w.count
		}
		got, err := run(ctx, st.SQL, st.Args)
		if err != nil {
			return 0, meaning(err)
		}
		if st.Want != store.Any && got != st.Want {
			return 0, &store.Missed{Index: i, Got: got}
		}
	}
	for i := range u.Then {
		st := &u.Then[i]
		if st.Number > 0 {
			st.Args[st.Number-1] = next + numbered
			numbered++
		}
		if _, err := w.exec(ctx, st.SQL, st.Args); err != nil {
			return 0, meaning(err)
		}
	}
	return numbered, nil
}

func (w *writer) prepared(text string) (driver.Stmt, error) {
	if st, ok := w.stmts[text]; ok {
		return st, nil
	}
	st, err := w.conn.Prepare(text)
	if err != nil {
		return nil, err
	}
	w.stmts[text] = st
	return st, nil
}

// bind makes the driver's form of arguments, in a slice that is used again.
func (w *writer) bind(args []any) ([]driver.NamedValue, error) {
	w.args = w.args[:0]
	for i, a := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(a)
		if err != nil {
			return nil, &statementError{fmt.Errorf("argument %d: %w", i+1, err)}
		}
		w.args = append(w.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return w.args, nil
}

func (w *writer) exec(ctx context.Context, text string, args []any) (int64, error) {
	st, err := w.prepared(text)
	if err != nil {
		return 0, err
	}
	bound, err := w.bind(args)
	if err != nil {
		return 0, err
	}
	res, err := st.(driver.StmtExecContext).ExecContext(ctx, bound)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// count runs a statement that gives one number.
func (w *writer) count(ctx context.Context, text string, args []any) (n int64, err error) {
	st, err := w.prepared(text)
	if err != nil {
		return 0, err
	}
	bound, err := w.bind(args)
	if err != nil {
		return 0, err
	}
	rows, err := st.(driver.StmtQueryContext).QueryContext(ctx, bound)
	if err != nil {
		return 0, err
	}
	err = rows.Next(w.row[:])
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, err
	}
	n, ok := w.row[0].(int64)
	if !ok {
		return 0, &statementError{fmt.Errorf("the count is a %T", w.row[0])}
	}
	return n, nil
}

// fatal reports whether an error concerns the transaction as a whole. What is
// not known to concern one statement does.
func fatal(err error) bool {
	var missed *store.Missed
	var unique *store.Unique
	var own *statementError
	return err != nil && !errors.As(err, &missed) && !errors.As(err, &unique) && !errors.As(err, &own)
}

// statementError is a fault of one statement: the others of the batch are none
// the worse for it.
type statementError struct{ cause error }

func (e *statementError) Error() string { return "sqlite: " + e.cause.Error() }
func (e *statementError) Unwrap() error { return e.cause }

// meaning says what the error of a statement means.
func meaning(err error) error {
	var e *sqlite3.Error
	if !errors.As(err, &e) {
		if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "converting argument") || strings.Contains(err.Error(), "missing argument") {
			return &statementError{err}
		}
		return err
	}
	switch e.Code() {
	case codes.SQLITE_CONSTRAINT_UNIQUE, codes.SQLITE_CONSTRAINT_PRIMARYKEY:
		return &store.Unique{Constraint: constraint(e.Error())}
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_CONSTRAINT, codes.SQLITE_ERROR, codes.SQLITE_MISMATCH, codes.SQLITE_TOOBIG, codes.SQLITE_RANGE:
		return &statementError{err}
	}
	return err
}

// constraint takes "table.column" out of "… UNIQUE constraint failed:
// table.column, table.other (2067)".
func constraint(msg string) string {
	_, rest, _ := strings.Cut(msg, "constraint failed: ")
	if i := strings.LastIndex(rest, "constraint failed: "); i >= 0 {
		rest = rest[i+len("constraint failed: "):]
	}
	if i := strings.IndexAny(rest, ", ("); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// close lets what is queued finish.
func (w *writer) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.queue)
	w.mu.Unlock()
	<-w.done
	for _, st := range w.stmts {
		st.Close()
	}
	if w.conn != nil {
		w.conn.Close()
	}
	return w.db.Close()
}
