package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

func openEngine(t *testing.T, o Options) *engine {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "countersign.db")
	}
	o.Migrate = true
	e, err := open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func insert(n int, pad string) store.Unit {
	return store.Unit{Then: []store.Stmt{
		{SQL: `INSERT INTO node (id, kind, version, why) VALUES ($1, 1, 1, $2)`, Args: []any{fmt.Sprint("n", n), pad}},
		{SQL: `INSERT INTO edge (child, parent) VALUES ($1, $2)`, Args: []any{fmt.Sprint("n", n), fmt.Sprint("n", n)}},
	}}
}

func count(t *testing.T, e *engine) (n int) {
	t.Helper()
	if err := e.Query(context.Background(), `SELECT COUNT(*) FROM node`, nil, func(r store.Row) error { return r.Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A full disk refuses with Unavailable, leaves nothing half-written, keeps all
// that was acknowledged, and is over when there is room again.
func TestDiskFull(t *testing.T) {
	e := openEngine(t, Options{})
	ctx := context.Background()
	if err := e.Write(ctx, store.Unit{Then: []store.Stmt{{SQL: `PRAGMA max_page_count = 150`}}}); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 2000)
	acknowledged, n := 0, 0
	var refused error
	for ; refused == nil && n < 1000; n++ {
		if refused = e.Write(ctx, insert(n, pad)); refused == nil {
			acknowledged++
		}
	}
	if !errors.Is(refused, problem.Unavailable) {
		t.Fatalf("a full disk: %v", refused)
	}
	if got := count(t, e); got != acknowledged || acknowledged == 0 {
		t.Errorf("%d rows, %d acknowledged", got, acknowledged)
	}
	if err := e.Write(ctx, insert(n, pad)); err != nil { // a new connection has no such limit
		t.Errorf("after there was room again: %v", err)
	}
	if got := count(t, e); got != acknowledged+1 {
		t.Errorf("%d rows, %d acknowledged", got, acknowledged+1)
	}
}

// One write's fault is not that of the others in its batch.
func TestFaultsStayWithTheirWrite(t *testing.T) {
	e := openEngine(t, Options{})
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			u := insert(i, "")
			switch i % 4 {
			case 1: // breaks a foreign key after its first statement
				u.Then[1].Args = []any{fmt.Sprint("n", i), "nobody"}
			case 2:
				u.Then[1].SQL = `INSERT INTO nowhere VALUES ($1, $2)`
			case 3:
				u.Must = []store.Stmt{
					{SQL: `INSERT INTO node (id, kind, version) VALUES ($1, 1, 1)`, Args: []any{fmt.Sprint("m", i)}, Want: 1},
					{SQL: `UPDATE node SET version = 2 WHERE id = $1`, Args: []any{"nobody"}, Want: 1},
				}
			}
			err := e.Write(ctx, u)
			var missed *store.Missed
			if (i%4 == 0) != (err == nil) || i%4 == 3 && !(errors.As(err, &missed) && missed.Index == 1) || errors.Is(err, problem.Unavailable) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := count(t, e); n != 15 {
		t.Errorf("%d rows, want 15", n)
	}
}

// A full queue and a caller that gave up are told so, and nothing was done.
func TestBusy(t *testing.T) {
	e := openEngine(t, Options{Queue: 2})
	other, err := sql.Open("sqlite", dsn(e.path, false)) // another process holds the write lock
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	// The writer waits for the lock with a batch of its own, two more wait in the
	// queue: the rest is refused at once, however many come.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const callers = 400
	errs := make(chan error, callers)
	for i := range callers {
		go func() { errs <- e.Write(ctx, insert(i, "")) }()
	}
	done, busy := 0, 0
	tally := func(err error) {
		switch {
		case err == nil:
			done++
		case problem.CodeOf(err) == "busy":
			busy++
		default:
			t.Errorf("neither done nor busy: %v", err)
		}
	}
	tally(<-errs) // nobody can be done yet
	if busy != 1 {
		t.Errorf("a full queue refused nobody")
	}
	cancel() // those in the queue give up
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range callers - 1 {
		tally(<-errs)
	}
	if n := count(t, e); n != done {
		t.Errorf("%d rows, %d done, %d busy", n, done, busy)
	}
	if err := e.Write(context.Background(), insert(callers, "")); err != nil {
		t.Errorf("after the rush: %v", err)
	}
}

func TestRefusesWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(context.Background(), Options{Path: path, Migrate: true}); problem.CodeOf(err) != "database_unreachable" {
		t.Errorf("got %v", err)
	}
	if _, err := open(context.Background(), Options{Path: filepath.Join(t.TempDir(), "none", "x.db")}); problem.CodeOf(err) != "database_unreachable" {
		t.Errorf("got %v", err)
	}
}

// An older database is refused, or copied beside itself and then migrated; a
// newer one is refused.
func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "it's.db")
	ctx := context.Background()
	e, err := open(ctx, Options{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	version := func(text string) {
		t.Helper()
		if err := e.Write(ctx, store.Unit{Then: []store.Stmt{{SQL: text}}}); err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
	version(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	if _, err := open(ctx, Options{Path: path, Migrate: true}); problem.CodeOf(err) != "database_newer" {
		t.Errorf("a newer database: %v", err)
	}
	db, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DELETE FROM goose_db_version WHERE version_id > 0`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := open(ctx, Options{Path: path}); problem.CodeOf(err) != "database_older" {
		t.Errorf("an older database: %v", err)
	}
	if _, err := open(ctx, Options{Path: path, Migrate: true}); err == nil {
		t.Error("a migration onto existing tables succeeded")
	}
	copies, err := filepath.Glob(path + ".before-*")
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies: %v, %v", copies, err)
	}
	if fi, err := os.Stat(copies[0]); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() == 0 {
		t.Errorf("the copy has mode %v and %d bytes, %v", fi.Mode(), fi.Size(), err)
	}
}

func TestConstraint(t *testing.T) {
	for msg, want := range map[string]string{
		"constraint failed: UNIQUE constraint failed: person.username_fold (2067)":    "person.username_fold",
		"constraint failed: UNIQUE constraint failed: once.purpose, once.hash (1555)": "once.purpose",
		"UNIQUE constraint failed: keyring.purpose, keyring.alg, keyring.version (1)": "keyring.purpose",
		"something else": "",
	} {
		if got := constraint(msg); got != want {
			t.Errorf("constraint(%q) = %q, want %q", msg, got, want)
		}
	}
}
