package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/store"
)

// served signs the log of a deployment, as a server that runs for a moment does.
func served(t *testing.T, cfg *config.Config, people int) (quarantined string) {
	t.Helper()
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	s, err := New(st)
	check(t, err)
	if s.Quarantined() == "" {
		populate(t, s, people)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.seq.Run(ctx) // gives the lease back
	return s.Quarantined()
}

// TestAnchor: a database that is put back beside a side file that remembers more, or
// whose side file is gone, is in quarantine from its start; one that agrees is not.
func TestAnchor(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	if why := served(t, cfg, 3); why != "" {
		t.Fatalf("a new deployment is in quarantine: %s", why)
	}
	data, db := cfg.DataDir, cfg.Database.SQLite
	yesterday := t.TempDir()
	check(t, os.CopyFS(yesterday, os.DirFS(filepath.Dir(db))))
	if why := served(t, cfg, 5); why != "" {
		t.Fatalf("a restart is a quarantine: %s", why)
	}
	// as lays the database of yesterday beside the files of today, less some.
	as := func(t *testing.T, database string, without ...string) *config.Config {
		dir := t.TempDir()
		c := testConfig(dir)
		check(t, os.CopyFS(dir, os.DirFS(filepath.Dir(db))))
		for _, name := range []string{"db", "db-wal", "db-shm"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(database, name)); err == nil {
				check(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			}
		}
		for _, name := range without {
			check(t, os.Remove(filepath.Join(c.DataDir, name)))
		}
		check(t, os.Chmod(c.Keys.KEKFile, 0o600))
		return c
	}
	today := filepath.Dir(db)
	for name, tc := range map[string]struct {
		cfg  *config.Config
		want string
	}{
		"as it was":                       {as(t, today), ""},
		"yesterday's database":            {as(t, yesterday), "the side file has seen"},
		"both files gone":                 {as(t, today, "anchor.json", "checkpoint"), "is missing"},
		"the side file of a version ago":  {as(t, today, "anchor.json"), ""},
		"the same, yesterday's database ": {as(t, yesterday, "checkpoint"), "the side file has seen"},
	} {
		t.Run(name, func(t *testing.T) {
			if why := served(t, tc.cfg, 0); (why == "") != (tc.want == "") || !strings.Contains(why, tc.want) {
				t.Errorf("quarantined: %q", why)
			}
			if tc.want != "" {
				if why := served(t, tc.cfg, 0); why == "" {
					t.Error("a restart ends it")
				}
			}
		})
	}

	other := testConfig(t.TempDir())
	served(t, other, 1)
	b, err := os.ReadFile(filepath.Join(data, "anchor.json"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(other.DataDir, "anchor.json"), b, 0o600))
	st, err := OpenState(t.Context(), other, Options{})
	check(t, err)
	defer st.Close()
	if _, err := New(st); err == nil || !strings.Contains(err.Error(), "another deployment") {
		t.Errorf("another deployment's side file: %v", err)
	}
}

// TestFutureRefresh: a refresh token of a generation to come quarantines the
// deployment, once in an hour (mechanisms I13).
func TestFutureRefresh(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	check(t, s.refreshAhead(t.Context()))
	if !strings.Contains(s.Quarantined(), "refresh token") {
		t.Fatalf("quarantined: %q", s.Quarantined())
	}
	if err := s.Leave(t.Context(), LeaveAs{Complete: true}); err == nil {
		t.Error("what the token saw need not be replayed")
	}
	s.Do.Checkpoint = nil // it is a command that leaves, without a server
	check(t, s.Leave(t.Context(), LeaveAs{}))
	if s.Quarantined() != "" || s.Epoch() != 2 {
		t.Fatalf("epoch %d, %q", s.Epoch(), s.Quarantined())
	}
	check(t, s.refreshAhead(t.Context()))
	if s.Quarantined() != "" {
		t.Error("twice in an hour")
	}
	if seen, err := s.Store.Seen(t.Context()); err != nil || seen.By != "" {
		t.Errorf("after it was left: %+v %v", seen, err)
	}
	if n, err := s.Store.Suspended(t.Context()); err != nil || n != (store.Suspended{}) {
		t.Errorf("suspended %+v of a deployment without, %v", n, err)
	}
}

// FuzzAnchor: whatever lies there is read or refused.
func FuzzAnchor(f *testing.F) {
	f.Add([]byte(`{"deployment":"dpl_1","epoch":1,"hw":7,"feed_seq":3,"setup":true,"at":"2026-11-26T00:00:00Z"}`))
	f.Add([]byte(`{"deployment":"dpl_1","epoch":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnchor(b)
		if err != nil && (a.Deployment != "" || a.Epoch != 0 || a.HW != 0) {
			t.Fatal("a value came with an error")
		}
	})
}

// FuzzExport: whatever a line of an export says, it is read or refused.
func FuzzExport(f *testing.F) {
	f.Add([]byte(`{"seq":4,"id":"rec_1","at":"2026-11-26T00:00:00Z","taken":[{"what":"end","a":"ses_1"}]}`))
	f.Add([]byte(`{"id":"rec_1","taken":[{"what":"nothing"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseExported(b)
		if err != nil && (l.ID != "" || l.Taken != nil) {
			t.Fatal("a value came with an error")
		}
		for _, what := range l.Taken {
			if what.What == "" {
				t.Fatal("something unknown was taken")
			}
		}
	})
}

var _ store.Source = (*joined)(nil)
