// Package pgtest gives tests a PostgreSQL of their own: one throw-away server
// per test process on a free loopback port, durable as in production (fsync and
// synchronous_commit on), and a fresh database for each caller. It leaves the
// schema to the store.
//
// Without PostgreSQL a test is skipped with the reason; with CI=true or
// COUNTERSIGN_REQUIRE_POSTGRES=1 it fails instead. COUNTERSIGN_TEST_POSTGRES
// may hold the connection string of a server to use, whose user may create
// databases; its settings are then the caller's affair.
package pgtest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var shared struct {
	sync.Mutex
	server  *Server
	failure error
}

// Start returns the connection string (a postgres:// URL) of an empty
// database, encoding UTF8 and collation "C", which is dropped when the test
// ends. The first call in a process starts the server; Run or Stop ends it, and
// on Linux the death of the process does too.
func Start(t testing.TB) (dsn string) {
	t.Helper()
	server := Shared(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dsn, err := server.CreateDatabase(ctx)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.DropDatabase(ctx, dsn); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dsn
}

// Shared returns the server of this process, started at the first call. A test
// that kills or stops a server starts its own with StartServer.
func Shared(t testing.TB) *Server {
	t.Helper()
	Require(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.failure == nil {
		if dsn := os.Getenv("COUNTERSIGN_TEST_POSTGRES"); dsn != "" {
			shared.server, shared.failure = given(dsn)
		} else {
			shared.server, shared.failure = StartServer("")
		}
	}
	if shared.failure != nil {
		t.Fatalf("pgtest: %v", shared.failure)
	}
	return shared.server
}

// Require skips the test, or fails it where PostgreSQL is required, when there
// is none on this machine.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv("COUNTERSIGN_TEST_POSTGRES") != "" {
		return
	}
	if _, err := Locate(); err != nil {
		if Required() {
			t.Fatalf("pgtest: %v", err)
		}
		t.Skipf("pgtest: %v; make test installs it", err)
	}
}

// Required reports whether a missing PostgreSQL is a failure.
func Required() bool {
	return os.Getenv("COUNTERSIGN_REQUIRE_POSTGRES") != "" || os.Getenv("CI") == "true"
}

// Run is for TestMain: os.Exit(pgtest.Run(m)). It runs the tests and then
// stops the server that they started.
func Run(m interface{ Run() int }) (code int) {
	defer Stop()
	return m.Run()
}

// Stop ends the shared server, if one was started.
func Stop() {
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.Stop()
		shared.server = nil
	}
}

// given wraps a server that somebody else runs.
func given(dsn string) (*Server, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	return &Server{config: config}, nil
}
