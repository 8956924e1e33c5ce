package portal_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// While the database is away nobody is taken for signed out: every page that needs
// storage says that the server cannot do it now, no browser is sent to sign in, and
// none loses its cookie for a session that lives.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	pg, dsn := pgtest.Shared(t), pgtest.Start(t)
	r := newRigOnPostgres(t, dsn)
	b := r.browser()
	b.setUp()
	before := map[string]answer{}
	for _, pattern := range r.patterns {
		path, isGet := strings.CutPrefix(pattern, "GET ")
		if !isGet || strings.Contains(path, "{") {
			continue
		}
		if a := b.get(path); a.status == 200 && (strings.HasPrefix(path, "/account") || strings.HasPrefix(path, "/admin")) {
			before[path] = a
		}
	}
	if len(before) < 10 {
		t.Fatalf("only %d pages: the walk is worth nothing", len(before))
	}
	check(t, pg.Cut(t.Context(), dsn))
	for path := range before {
		if a := b.get(path); a.status != 503 || len(a.cookies) > 0 {
			t.Errorf("%s: %d, to %q, cookies %v", path, a.status, a.location, a.cookies)
		}
	}
	for _, pattern := range r.patterns {
		path, isPost := strings.CutPrefix(pattern, "POST ")
		if !isPost || !strings.HasPrefix(path, "/account") && !strings.HasPrefix(path, "/admin") && path != "/signout/here" && path != "/signout/everything" {
			continue
		}
		if a := b.post(path, "id", "x"); a.status != 503 || len(a.cookies) > 0 {
			t.Errorf("POST %s: %d, to %q, cookies %v", path, a.status, a.location, a.cookies)
		}
	}
	// The rest may do without storage, but concludes nothing either.
	for _, pattern := range r.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		ask := func() answer { return b.get(path) }
		if method == "POST" {
			ask = func() answer { return b.post(path, "id", "x") }
		}
		if a := ask(); strings.HasPrefix(a.location, "/signin") || slices.ContainsFunc(a.cookies, func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, "cs_session") }) {
			t.Errorf("%s: %d, to %q, cookies %v", pattern, a.status, a.location, a.cookies)
		}
	}
	check(t, pg.Join(t.Context(), dsn))
	for path := range before {
		if a := b.get(path); a.status != 200 {
			t.Errorf("%s after it: %d, to %q", path, a.status, a.location)
		}
	}
}

// newRigOnPostgres is a rig on a database of PostgreSQL.
func newRigOnPostgres(t *testing.T, dsn string) *rig {
	t.Helper()
	return newRigOn(t, func(ctx context.Context, now func() time.Time) (*store.Store, error) {
		return postgres.Open(ctx, postgres.Options{DSN: dsn, Migrate: true, Now: now})
	})
}

// engines runs a test on a rig on each database.
func engines(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, newRig(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, newRigOnPostgres(t, pgtest.Start(t))) })
}
