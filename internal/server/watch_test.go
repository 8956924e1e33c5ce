package server

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// engines runs a test on both databases; exec changes the database behind the
// server's back.
func engines(t *testing.T, test func(t *testing.T, s *Server, exec func(query string))) {
	t.Run("sqlite", func(t *testing.T) {
		cfg := testConfig(t.TempDir())
		s := serverAt(t, cfg.Database.SQLite, "")
		test(t, s, func(query string) {
			t.Helper()
			db, err := sql.Open("sqlite", "file:"+s.Config.Database.SQLite+"?_pragma=busy_timeout(10000)")
			check(t, err)
			defer db.Close()
			_, err = db.Exec(query)
			check(t, err)
		})
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Start(t)
		test(t, serverAt(t, "", dsn), func(query string) {
			t.Helper()
			conn, err := pgx.Connect(t.Context(), dsn)
			check(t, err)
			defer conn.Close(context.Background())
			_, err = conn.Exec(t.Context(), query)
			check(t, err)
		})
	})
}

// serverAt makes a server on a database, whose loops do not run.
func serverAt(t *testing.T, sqlite, postgres string) *Server {
	t.Helper()
	cfg := testConfig(t.TempDir())
	if postgres != "" {
		cfg.Database.SQLite, cfg.Database.Postgres = "", postgres
	} else {
		cfg.Database.SQLite = sqlite
	}
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true})
	check(t, err)
	t.Cleanup(func() { _ = st.Close() })
	s, err := New(st)
	check(t, err)
	s.Do.Checkpoint = nil
	return s
}

// sequenced numbers and signs what there is.
func (s *Server) sequenced(t *testing.T) {
	t.Helper()
	for range 4 {
		_, err := s.seq.Step(t.Context())
		check(t, err)
		time.Sleep(2 * time.Millisecond)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.seq.Run(ctx) // signs, and gives the lease back
}

// wholeLog verifies the log, with all that ties its records to their processes.
func (s *State) wholeLog(t *testing.T) EpochReport {
	t.Helper()
	reports, err := s.Verify(t.Context(), nil, audit.Options{Keys: s.Names})
	check(t, err)
	return reports[len(reports)-1]
}

// TestChangedBeforeIntegration: a row that is changed or taken away after its commit
// and before it has a place in the tree is found by the process that wrote it, and
// the log itself says so afterwards (mechanisms E3, E7).
func TestChangedBeforeIntegration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"changed": `UPDATE audit SET at = at + 1, entry = (SELECT entry FROM audit WHERE kind = 2052 ORDER BY id LIMIT 1) WHERE id = (SELECT MAX(id) FROM audit)`,
		"missing": `DELETE FROM audit WHERE id = (SELECT MAX(id) FROM audit)`,
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, s *Server, exec func(string)) {
				now := time.Now()
				s.now = func() time.Time { return now }
				s.ready.Store(true)
				for range 5 {
					check(t, s.Seed(t.Context(), audit.RefusalsCounted))
				}
				s.sequenced(t)
				check(t, s.follow(t.Context()))
				check(t, s.Seed(t.Context(), audit.RefusalsCounted))
				exec(change)
				s.sequenced(t)
				check(t, s.follow(t.Context()))
				if err := s.Ready(t.Context()); err != nil {
					t.Fatalf("at once: %v", err)
				}
				now = time.Now().Add(2 * soughtFor)
				if err := s.follow(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "not what this process wrote") || !strings.Contains(err.Error(), name) {
					t.Fatalf("ready: %v", err)
				}
				check(t, s.follow(t.Context())) // it tells once
				lines, _, err := s.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.AuditLost}}, 9)
				if check(t, err); len(lines) != 1 {
					t.Errorf("%d records of it", len(lines))
				}
				check(t, s.closeWriter(t.Context()))
				s.sequenced(t)
				if r := s.wholeLog(t); r.OK() {
					t.Errorf("the log verifies: %v", r.Lines())
				}
			})
		})
	}
}

// TestLateLog: records that no checkpoint covers in time take the server out of
// service until one does.
func TestLateLog(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, s *Server, _ func(string)) {
		s.sequenced(t)
		check(t, s.follow(t.Context())) // what the start wrote is covered, however long ago that was
		now := time.Now()
		s.now = func() time.Time { return now }
		s.Do.Now = s.now
		s.ready.Store(true)
		check(t, s.Seed(t.Context(), audit.RefusalsCounted))
		check(t, s.follow(t.Context()))
		now = now.Add(seenWithin - time.Second)
		check(t, s.follow(t.Context()))
		check(t, s.Ready(t.Context()))
		now = now.Add(2 * time.Second)
		check(t, s.follow(t.Context()))
		if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "does not cover") {
			t.Fatalf("ready: %v", err)
		}
		s.sequenced(t)
		check(t, s.follow(t.Context()))
		check(t, s.Ready(t.Context()))
	})
}

// TestKilledWriter: a process that ends in good order has vouched for everything; one
// that is killed is recorded as lost, by who holds the lease, once, and what is not
// known of it is said.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, s *Server, _ func(string)) {
		for range 3 {
			check(t, s.Seed(t.Context(), audit.RefusalsCounted))
		}
		check(t, s.beat(t.Context()))
		again := func() *Server {
			o, err := OpenState(t.Context(), s.Config, Options{})
			check(t, err)
			n, err := New(o)
			check(t, err)
			n.Do.Checkpoint = nil
			return n
		}
		killed := again() // it writes, and nobody hears of it any more
		check(t, killed.Seed(t.Context(), audit.RefusalsCounted))
		_, err := killed.Do.Writer.Seal(t.Context(), audit.Record{ID: "rec_x", Kind: audit.Migrated, At: time.Now()}, nil)
		check(t, err) // under way when it is killed
		check(t, killed.Seed(t.Context(), audit.RefusalsCounted))
		check(t, killed.Store.Close())

		check(t, s.loseSilent(t.Context(), time.Now().Add(-time.Minute)))
		lost := func() int {
			lines, _, err := s.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.WriterLost}}, 9)
			check(t, err)
			return len(lines)
		}
		if lost() != 0 {
			t.Error("lost at once")
		}
		check(t, s.Store.KeepAlive(t.Context(), s.Do.Writer.ID()))
		after := time.Now().Add(time.Second)
		check(t, s.loseSilent(t.Context(), after))
		check(t, s.loseSilent(t.Context(), after))
		if n := lost(); n != 1 {
			t.Errorf("%d processes lost", n)
		}
		orderly := again()
		check(t, orderly.Seed(t.Context(), audit.RefusalsCounted))
		check(t, orderly.Close())
		check(t, s.loseSilent(t.Context(), after))
		if n := lost(); n != 1 {
			t.Errorf("%d processes lost after one that closed", n)
		}
		check(t, s.closeWriter(t.Context()))
		s.sequenced(t)
		r := s.wholeLog(t)
		if p := r.Processes; !r.OK() || p.Lost != 1 || p.Closed != 2 || p.Open != 0 || p.Unknown != 1 || p.Vouched < 5 {
			t.Errorf("%+v %v", p, r.Lines())
		}
	})
}

// TestDoubt: a record of which the database did not say whether it was committed is
// looked for.
func TestDoubt(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, s *Server, _ func(string)) {
		row, err := s.Do.Writer.Seal(t.Context(), audit.Record{ID: "rec_never", Kind: audit.Migrated, At: time.Now()}, nil)
		check(t, err)
		s.Do.Writer.Settle(row, audit.Doubtful)
		check(t, s.resolve(t.Context(), time.Hour))
		if n := len(s.Do.Writer.Doubts(9)); n != 1 {
			t.Errorf("%d in doubt", n)
		}
		check(t, s.resolve(t.Context(), 0))
		if n := len(s.Do.Writer.Doubts(9)); n != 0 {
			t.Errorf("%d in doubt after that", n)
		}
		check(t, s.Seed(t.Context(), audit.RefusalsCounted))
		check(t, s.closeWriter(t.Context()))
		s.sequenced(t)
		if r := s.wholeLog(t); !r.OK() || r.Processes.Closed != 1 {
			t.Errorf("%+v %v", r.Processes, r.Lines())
		}
	})
}
