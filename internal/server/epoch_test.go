package server

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

var operator = act.Refs{Kind: policy.KindOperator}

// lagging makes a deployment, takes a copy of its database, goes on and leaves the
// configuration of the copy: what a failover to a copy that lags behind gives.
func lagging(t *testing.T, postgres bool) *config.Config {
	t.Helper()
	cfg := testConfig(t.TempDir())
	if postgres {
		cfg.Database.Postgres, cfg.Database.SQLite = pgtest.Start(t), ""
	}
	work := func(n int) {
		st, err := OpenState(t.Context(), cfg, Options{Migrate: true})
		check(t, err)
		for range n {
			check(t, st.Seed(t.Context(), audit.RefusalsCounted))
		}
		s, err := New(st)
		check(t, err)
		for more := true; more; {
			more, err = s.seq.Step(t.Context())
			check(t, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		s.seq.Run(ctx) // gives the lease back
		check(t, st.Close())
	}
	work(20)
	copied := *cfg
	if postgres {
		copied.Database.Postgres = templated(t, cfg.Database.Postgres)
	} else {
		b, err := os.ReadFile(cfg.Database.SQLite)
		check(t, err)
		copied.Database.SQLite = cfg.Database.SQLite + ".copy"
		check(t, os.WriteFile(copied.Database.SQLite, b, 0o600))
	}
	work(30)
	check(t, os.Remove(filepath.Join(cfg.DataDir, "anchor.json"))) // else the copy is in quarantine from the start
	return &copied
}

// templated copies a PostgreSQL database.
func templated(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	check(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), u.String())
	check(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `CREATE DATABASE "`+name+`_copy" TEMPLATE "`+name+`"`)
	check(t, err)
	u.Path = "/" + name + "_copy"
	return u.String()
}

// TestLaggingCopy: a log that was farther than its database is is not signed
// again; its epoch is closed, and the next one says what was known of it
// (mechanisms E12).
func TestLaggingCopy(t *testing.T) {
	t.Parallel()
	for name, postgres := range map[string]bool{"sqlite": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			cfg := lagging(t, postgres)
			st, err := OpenState(t.Context(), cfg, Options{})
			check(t, err)
			defer func() { check(t, st.Close()) }()
			last, err := os.ReadFile(st.checkpointFile())
			check(t, err)
			k, err := st.Known(last, "the file")
			check(t, err)
			size, _, err := st.Store.Head(t.Context())
			check(t, err)
			if k.Size < size+30 {
				t.Fatalf("the copy has %d records, the file a checkpoint of %d", size, k.Size)
			}
			s, err := New(st)
			check(t, err)
			var forked *store.Forked
			if _, err := s.seq.Step(t.Context()); !errors.As(err, &forked) {
				t.Errorf("the log is signed on: %v", err)
			}
			reports, err := st.Verify(t.Context(), []Outside{{Where: "the file", Text: last}}, audit.Options{Keys: st.Names})
			if check(t, err); len(reports) != 1 || reports[0].OK() {
				t.Errorf("verified: %v", reports[0].Lines())
			}

			bad := append([]byte("x"), last...)
			if err := st.OpenEpoch(t.Context(), bad, operator); problem.CodeOf(err) != "checkpoint_invalid" {
				t.Errorf("a checkpoint that is none: %v", err)
			}
			st.Do.Checkpoint = nil // it is a command that does this, without a server
			check(t, st.OpenEpoch(t.Context(), last, operator))
			if o, _ := st.Origin(); st.Epoch() != 2 || o != "id.example.com/log/2" {
				t.Errorf("epoch %d, %s", st.Epoch(), o)
			}
			// A moment later, before anything of the new epoch has its place.
			reports, err = st.Verify(t.Context(), nil, audit.Options{Keys: st.Names})
			if check(t, err); len(reports) != 2 || !reports[1].OK() || reports[1].Size != 0 || reports[1].Opened == nil {
				t.Errorf("just opened: %v", reports[len(reports)-1].Lines())
			}
			if s, err = New(st); err != nil {
				t.Fatal(err)
			}
			check(t, st.Seed(t.Context(), audit.RefusalsCounted))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go s.seq.Run(ctx)
			lines, _, err := st.Lines(t.Context(), store.Filter{}, 1)
			check(t, err)
			check(t, s.seq.CheckpointNow(t.Context(), lines[0].ID))
			var now []byte
			waitFor(t, func() bool { // the file is written once the database has it
				now, err = os.ReadFile(st.checkpointFile())
				check(t, err)
				return bytes.HasPrefix(now, []byte("id.example.com/log/2\n"))
			})

			reports, err = st.Verify(t.Context(), []Outside{{Where: "the file", Text: now}}, audit.Options{Keys: st.Names})
			if check(t, err); len(reports) != 2 || !reports[0].OK() || !reports[1].OK() || !reports[1].Compared {
				t.Fatalf("verified: %+v", reports)
			}
			o := reports[1].Opened
			if o == nil || o.Last != string(last) || o.Size != size || !strings.Contains(strings.Join(reports[1].Lines(), "\n"), "lost or replaced") {
				t.Errorf("opened: %+v %v", o, reports[1].Lines())
			}
			// What the old epoch had is still found to be missing.
			reports, err = st.Verify(t.Context(), []Outside{{Where: "the old file", Text: last}, {Where: "the file", Text: now}}, audit.Options{})
			if check(t, err); reports[0].OK() || !reports[1].OK() {
				t.Errorf("against the old file: %v", reports[0].Lines())
			}
			h, err := s.Handler()
			check(t, err)
			for path, want := range map[string]string{"/log/1/checkpoint": "id.example.com/log/1\n", "/log/2/checkpoint": "id.example.com/log/2\n", "/log/3/checkpoint": "", "/log/02/checkpoint": ""} {
				if w := ask(h, "GET", testIssuer+path, ""); !strings.HasPrefix(w.Body.String(), want) || want == "" && w.Code != 404 {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		})
	}
}
