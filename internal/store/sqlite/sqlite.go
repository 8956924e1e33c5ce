// Package sqlite opens the embedded database: its connection options, its one
// writer with group commit, its error codes and its migrations. Statements are
// store's.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// Floor is the oldest engine that is accepted: earlier ones can lose a commit
// when a write-ahead log is reset under load.
var Floor = [3]int{3, 51, 3}

// Options say how to open a database file.
type Options struct {
	Path string
	// Migrate brings an older database up to date, after copying it beside
	// itself; without it an older database is refused.
	Migrate bool
	// Queue is how many writes may wait before more are refused at once with
	// Unavailable (busy); 0: 1,024.
	Queue int
	// Reserve is how many bytes a file beside the database keeps free for when
	// the disk is full; 0: none. It is made by store.TendReserve.
	Reserve int64
	Now     func() time.Time // nil: time.Now
}

// Open opens, and if it may migrates, the database file; it is created if it is
// not there.
func Open(ctx context.Context, o Options) (*store.Store, error) {
	e, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	return store.New(e, o.Now), nil
}

// engine is a database file.
type engine struct {
	path   string
	read   *readers
	writer *writer

	reserve *reserve
}

// dsn is the connection string: every pragma stands in it, so that no
// connection is ever without.
func dsn(path string, readOnly bool) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)", "synchronous(FULL)", "foreign_keys(1)",
		"wal_autocheckpoint(2000)", "journal_size_limit(67108864)", "temp_store(MEMORY)", "trusted_schema(0)",
	}}
	if readOnly { // the mode of the journal is the file's; asking for it anew waits for the writer
		q.Set("_txlock", "deferred")
		q["_pragma"] = append(q["_pragma"], "query_only(1)", "cache_size(-2000)") // many of them; the system caches the file
	} else {
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)", "cache_size(-16000)")
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	return u.String()
}

func open(ctx context.Context, o Options) (*engine, error) {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := private(path); err != nil {
		return nil, err
	}
	wdb, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	wdb.SetMaxOpenConns(1)
	ok := false
	defer func() {
		if !ok {
			wdb.Close()
		}
	}()
	if err := verify(ctx, wdb); err != nil {
		return nil, err
	}
	if err := migrate(ctx, wdb, path, o.Migrate); err != nil {
		return nil, err
	}
	rd, err := openReaders(ctx, path, max(8, 2*runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, err
	}
	spare := &reserve{}
	spare.open(path, o.Reserve)
	w, err := newWriter(wdb, dsn(path, false), o.Queue, spare)
	if err != nil {
		return nil, errors.Join(err, rd.close())
	}
	ok = true
	return &engine{path: path, read: rd, writer: w, reserve: spare}, nil
}

// private creates the file, if it is not there, for its owner only; SQLite gives
// the files beside it the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return problem.New(problem.Unavailable, "database_unreachable", "The database file cannot be opened: "+path).Because(err)
	}
	return f.Close()
}

// verify refuses an engine or settings that could lose what was acknowledged.
func verify(ctx context.Context, db *sql.DB) error {
	var version, journal string
	var sync int
	if err := db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version); err != nil {
		return problem.New(problem.Unavailable, "database_unreachable", "The database file cannot be read: it is damaged, or no SQLite database.").Because(err)
	}
	var v [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		return fmt.Errorf("sqlite: version %q: %w", version, err)
	}
	for i := range v {
		if v[i] != Floor[i] {
			if v[i] < Floor[i] {
				return problem.Newf(problem.Invalid, "database_too_old", "SQLite %s is older than %d.%d.%d.", version, Floor[0], Floor[1], Floor[2])
			}
			break
		}
	}
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&journal); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if err := db.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&sync); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if !strings.EqualFold(journal, "wal") || sync != 2 {
		return problem.Newf(problem.Invalid, "database_unsafe", "The database is not durable: journal_mode %s, synchronous %d. It needs a local file system.", journal, sync)
	}
	return nil
}

// Name implements store.Engine.
func (e *engine) Name() string { return "sqlite" }

// Write implements store.Engine.
func (e *engine) Write(ctx context.Context, u store.Unit) error { return e.writer.write(ctx, u) }

// Query implements store.Reader, outside any transaction.
func (e *engine) Query(ctx context.Context, text string, args []any, each func(store.Row) error) error {
	return e.read.with(ctx, func(r *reader) error { return r.Query(ctx, text, args, each) })
}

// Snapshot implements store.Engine: one deferred read transaction.
func (e *engine) Snapshot(ctx context.Context, fn func(store.Reader) error) error {
	return e.read.with(ctx, func(r *reader) error { return r.snapshot(ctx, fn) })
}

// Size implements store.Engine: the file and its write-ahead log.
func (e *engine) Size(context.Context) (int64, error) {
	var sum int64
	for _, suffix := range []string{"", "-wal"} {
		fi, err := os.Stat(e.path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("sqlite: %w", err)
		}
		sum += fi.Size()
	}
	return sum, nil
}

// Close implements store.Engine.
func (e *engine) Close() error {
	werr := e.writer.close()
	return errors.Join(e.read.close(), werr)
}
