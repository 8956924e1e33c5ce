package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

const testIssuer = "https://id.example.com"

// testConfig is the configuration of a deployment in a folder.
func testConfig(dir string, edit ...func(*config.Config)) *config.Config {
	c := &config.Config{Issuer: testIssuer, RPID: "id.example.com", DataDir: filepath.Join(dir, "data"), Keys: config.Keys{KEKFile: filepath.Join(dir, "kek.json")}}
	c.Database.SQLite, c.Database.MaxConnections = filepath.Join(dir, "db"), 4
	for _, e := range edit {
		e(c)
	}
	return c
}

// inDevelopment makes a configuration that of a sandbox.
func inDevelopment(c *config.Config) {
	c.Development, c.Issuer, c.RPID = true, "http://localhost:8787", "localhost"
}

// lockedBuffer is a log that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newServer opens a deployment of its own, and says where it logs.
func newServer(t *testing.T, edit ...func(*config.Config)) (*Server, *lockedBuffer) {
	t.Helper()
	log := &lockedBuffer{}
	st, err := OpenState(t.Context(), testConfig(t.TempDir(), edit...), Options{
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Migrate: true,
	})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	s, err := New(st)
	check(t, err)
	return s, log
}

// openAt opens what a configuration names and closes it again.
func openAt(cfg *config.Config) error {
	st, err := OpenState(context.Background(), cfg, Options{Migrate: true})
	if err != nil {
		return err
	}
	return st.Close()
}

// TestOpenAgain: a deployment is made once; opening it again changes nothing.
func TestOpenAgain(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	seen := func() (out []string) {
		st, err := OpenState(t.Context(), cfg, Options{Migrate: true})
		check(t, err)
		defer st.Close()
		for _, k := range st.Ring.List() {
			out = append(out, string(k.Purpose)+" "+k.ID)
		}
		lines, _, err := st.Lines(t.Context(), store.Filter{}, 200)
		check(t, err)
		for _, l := range lines {
			out = append(out, l.ID+" "+l.Kind.Name())
		}
		d, err := st.Store.Deployment(t.Context())
		check(t, err)
		return append(out, d.ID, d.Issuer)
	}
	first := seen()
	if len(first) < 22 {
		t.Fatalf("made only %v", first)
	}
	if diff := cmp.Diff(first, seen()); diff != "" {
		t.Error(diff)
	}
}

// TestOpenRefuses: what belongs to something else is not opened, and stays as it
// is.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	otherKEK := filepath.Join(t.TempDir(), "kek.json") // of another deployment
	check(t, openAt(testConfig(filepath.Dir(otherKEK), func(c *config.Config) { c.Keys.KEKFile = otherKEK })))
	other := func(c *config.Config) { c.Issuer, c.RPID = "https://id.example.org", "id.example.org" }
	local := func(c *config.Config) { inDevelopment(c); c.Development = false }
	marker := func(t *testing.T, c *config.Config) {
		check(t, os.WriteFile(filepath.Join(c.DataDir, "setup-done"), []byte("2026-11-22\n"), 0o600))
		check(t, os.Remove(c.Database.SQLite))
		for _, side := range []string{"-wal", "-shm"} {
			if err := os.Remove(c.Database.SQLite + side); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		made, then func(*config.Config)
		between    func(*testing.T, *config.Config)
		want       string
	}{
		"development under serve":    {inDevelopment, local, nil, "made in development mode"},
		"production in development":  {local, inDevelopment, nil, "belongs to a real deployment"},
		"another issuer":             {nil, other, nil, testIssuer},
		"another issuer's passkeys":  {other, nil, nil, "passkeys and tokens"},
		"a key that others can read": {nil, nil, func(t *testing.T, c *config.Config) { check(t, os.Chmod(c.Keys.KEKFile, 0o604)) }, "chmod 600"},
		"a key that is gone":         {nil, nil, func(t *testing.T, c *config.Config) { check(t, os.Remove(c.Keys.KEKFile)) }, "key-encryption key"},
		"another key":                {nil, func(c *config.Config) { c.Keys.KEKFile = otherKEK }, nil, "key-encryption key"},
		"an empty database":          {nil, nil, marker, "the database is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			edits := func(f func(*config.Config)) *config.Config {
				if f == nil {
					return testConfig(dir)
				}
				return testConfig(dir, f)
			}
			check(t, openAt(edits(tc.made)))
			if tc.between != nil {
				tc.between(t, edits(tc.made))
			}
			for range 2 { // the refusal has not made it right
				if err := openAt(edits(tc.then)); err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("opened: %v, want an error with %q", err, tc.want)
				}
			}
			if tc.between == nil {
				check(t, openAt(edits(tc.made)))
			}
		})
	}
}

// TestMarkSetup: once set-up is done a file beside the database says so, which
// then protects against an empty one.
func TestMarkSetup(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	s.markSetup(t.Context())
	if _, err := os.Stat(s.setupMarker()); err == nil {
		t.Fatal("marked before anybody set it up")
	}
	seedAdmin(t, s)
	s.markSetup(t.Context())
	st, err := os.Stat(s.setupMarker())
	check(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
}

// TestSetupLink: a link carries its secret behind the #, and a new one replaces
// the old.
func TestSetupLink(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	first, err := s.SetupLink(t.Context(), "operator")
	check(t, err)
	second, err := s.SetupLink(t.Context(), "operator")
	check(t, err)
	if first == second || !strings.HasPrefix(first, testIssuer+"/setup#") {
		t.Errorf("links %q and %q", first, second)
	}
	pending, err := s.Store.OncePending(t.Context(), once.Setup)
	check(t, err)
	if len(pending) != 1 {
		t.Errorf("%d links work", len(pending))
	}
	if _, err := s.SetupLink(t.Context(), "person"); problem.CodeOf(err) == "" {
		t.Errorf("a person made a setup link: %v", err)
	}
	if _, err := s.RecoverAdmin(t.Context(), "two words"); problem.CodeOf(err) != "username_invalid" {
		t.Errorf("recovered under an odd name: %v", err)
	}
}
