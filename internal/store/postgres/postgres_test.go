package postgres_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/internal/store/storetest"
	"github.com/countersign-dev/countersign/test/pgtest"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(storetest.ChildVariable); dsn != "" {
		s, err := postgres.Open(context.Background(), postgres.Options{DSN: dsn})
		if err != nil {
			panic(err)
		}
		storetest.Child(s)
	}
	os.Exit(pgtest.Run(m))
}

func TestKill(t *testing.T) {
	dsn := pgtest.Start(t)
	storetest.TestKill(t, storetest.Database{Open: func() *store.Store {
		return open(t, postgres.Options{DSN: dsn, Migrate: true})
	}}, dsn, storetest.Rounds(2, 200))
}

// Acts far beyond the pool wait their turn and all succeed; none holds a
// connection while it waits for another.
func TestNoStallAtSixteenTimesThePool(t *testing.T) {
	s := open(t, postgres.Options{DSN: pgtest.Start(t), Migrate: true, Conns: 4})
	defer s.Close()
	storetest.Saturate(t, s, 64, 10)
}

func TestQueueIsBounded(t *testing.T) {
	s := open(t, postgres.Options{DSN: pgtest.Start(t), Migrate: true, Conns: 1, Queue: 2})
	defer s.Close()
	var refused, done atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.Counts(context.Background()); problem.CodeOf(err) == "busy" {
					refused.Add(1)
				} else if err == nil {
					done.Add(1)
				} else {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 || done.Load() == 0 {
		t.Errorf("%d refused, %d done", refused.Load(), done.Load())
	}
}

// Settings that can lose what was acknowledged refuse the start, unless that is
// accepted.
func TestRefusesUnsafeSettings(t *testing.T) {
	dsn := pgtest.Start(t)
	unsafe := dsn + "&synchronous_commit=off"
	if !strings.Contains(dsn, "?") {
		unsafe = dsn + "?synchronous_commit=off"
	}
	if _, err := postgres.Open(context.Background(), postgres.Options{DSN: unsafe, Migrate: true}); problem.CodeOf(err) != "database_unsafe" {
		t.Errorf("synchronous_commit off: %v", err)
	}
	open(t, postgres.Options{DSN: unsafe, Migrate: true, AcceptDataLoss: true}).Close()
	_, err := postgres.Open(context.Background(), postgres.Options{DSN: "postgres://u:hunter2@127.0.0.1:bad/x"})
	if problem.CodeOf(err) != "database_invalid" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a malformed connection string: %v", err)
	}
	if _, err := postgres.Open(context.Background(), postgres.Options{DSN: "postgres://u:hunter2@127.0.0.1:1/x"}); problem.CodeOf(err) != "database_unreachable" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}

// Both engines have the same tables with the same columns.
func TestSchemasAgree(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			switch {
			case len(f) == 0 || f[0] == "--" || f[0] == ");" || f[0] == ")":
			case f[0] == "CREATE":
				out.WriteString("\n" + strings.TrimSuffix(line, " STRICT;") + " ")
			default:
				out.WriteString(f[0] + " ")
			}
		}
		return out.String()
	}
	names, err := filepath.Glob("../sqlite/migrations/*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if d := cmp.Diff(read(name), read("migrations/"+filepath.Base(name))); d != "" {
			t.Errorf("%s differs from SQLite's:\n%s", filepath.Base(name), d)
		}
	}
}

func open(t testing.TB, o postgres.Options) *store.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		dsn := pgtest.Start(t)
		return storetest.Database{Nodes: true, Open: func() *store.Store {
			return open(t, postgres.Options{DSN: dsn, Migrate: true})
		}}
	})
}

func BenchmarkCommit(b *testing.B) {
	storetest.BenchmarkCommit(b, open(b, postgres.Options{DSN: pgtest.Start(b), Migrate: true}))
}

func TestEverySealedColumn(t *testing.T) {
	dsn := pgtest.Start(t)
	open(t, postgres.Options{DSN: dsn, Migrate: true}).Close()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `SELECT table_name || '.' || column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND (data_type = 'bytea' OR column_name LIKE 'sealed%' AND data_type <> 'bigint')`)
	if err != nil {
		t.Fatal(err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestSealedColumns(t, have)
}

// A standby that commits do not wait for refuses the start, unless that is accepted,
// for a role that sees all of it and for an ordinary one.
func TestRefusesAsynchronousStandby(t *testing.T) {
	pgtest.Require(t)
	ctx := t.Context()
	primary, err := pgtest.StartServer("")
	if err != nil {
		t.Fatal(err)
	}
	defer primary.Stop()
	dsn, err := primary.CreateDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	for _, text := range []string{`CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'`, `GRANT ALL ON SCHEMA public TO ordinary`} {
		if _, err := admin.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("ordinary", "ordinary")
	ordinary := u.String()
	try := func(dsn string, accept bool) string {
		t.Helper()
		s, err := postgres.Open(ctx, postgres.Options{DSN: dsn, Migrate: true, AcceptDataLoss: accept})
		if err == nil {
			err = s.Close()
		} else if problem.CodeOf(err) == "" {
			t.Fatal(err)
		}
		return problem.CodeOf(err)
	}
	expect := func(when string, accept bool, want string) {
		t.Helper()
		for who, dsn := range map[string]string{"an ordinary role": ordinary, "the superuser": dsn} {
			if got := try(dsn, accept); got != want {
				t.Errorf("%s, as %s: %q, want %q", when, who, got, want)
			}
		}
	}
	if got := try(ordinary, false); got != "" { // its tables are this role's
		t.Fatal(got)
	}
	expect("without a standby", false, "")
	standby, err := primary.Standby()
	if err != nil {
		t.Fatal(err)
	}
	defer standby.Stop()
	if err := primary.Synchronous(ctx, false); err != nil {
		t.Fatal(err)
	}
	expect("an asynchronous standby", false, "database_standby_asynchronous")
	expect("an asynchronous standby, accepted", true, "")
	if err := primary.Synchronous(ctx, true); err != nil {
		t.Fatal(err)
	}
	expect("a synchronous standby", false, "")
}
