package portal_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/secret"
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
	r.deployed()
	waiting := r.submit(stricter(), r.person("dana@example.com").ID, policy.KindPerson)
	before := map[string]answer{}
	for i, pattern := range r.patterns {
		pattern = strings.ReplaceAll(pattern, view.PathPublications+"/{id}", view.PathPublications+"/"+waiting)
		r.patterns[i] = pattern
		path, isGet := strings.CutPrefix(pattern, "GET ")
		if !isGet || strings.Contains(path, "{") {
			continue
		}
		if a := b.get(path); a.status == 200 && (strings.HasPrefix(path, "/account") || strings.HasPrefix(path, "/admin")) {
			before[path] = a
		}
	}
	if len(before) < 10 || before[view.PathPublications].status != 200 || before[view.PathPublications+"/"+waiting+"/text"].status != 200 {
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

// by has the pages served from now on by a process that reaches the database by another way, and
// that does nothing but serve them.
func (r *rig) by(dsn string) {
	r.t.Helper()
	db, err := postgres.Open(r.t.Context(), postgres.Options{DSN: dsn, Conns: 1, Now: r.clock.now}) // one: a second is made in the background
	check(r.t, err)
	r.t.Cleanup(func() { check(r.t, db.Close()) })
	book := &ruleset.Book{Store: db, Rollouts: db}
	do := &act.Doer{
		Store: db, Policy: r.do.Policy, Ladder: r.do.Ladder, Writer: r.do.Writer, Keys: r.do.Keys, Now: r.do.Now, Checkpoint: r.do.Checkpoint,
		Rulesets: book.Set, Candidates: book.Candidate,
	}
	r.server.Store, r.server.Do, r.server.Rollouts = db, do, rolloutsOn(db, book, r.do.Keys.(audit.Unsealer))
	r.t.Cleanup(r.http.Close)
	r.serve()
	r.t.Cleanup(r.http.Close)
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

// The database goes away while a page is made, before each of its questions in turn: then the
// page is the one of an outage, with its status, and never another that has the fault in a field
// or lacks what could not be read. (In lines of the log a person whose name cannot be read is
// named by their id, so pages with such lines are not among these.)
func TestDatabaseGoesAwayBetween(t *testing.T) {
	t.Parallel()
	pgtest.Require(t)
	dsn := pgtest.Start(t)
	line, by := pgtest.Through(t, dsn)
	r := newRigOnPostgres(t, dsn)
	b := r.browser()
	b.setUp()
	b.second("sam") // so that what is about dana is for somebody else to look at
	own := r.person(dana)
	rec := recovery.Opened(own.ID, r.person("sam").ID, "0123456789ABCDEF", "lost", r.clock.now())
	x := review.Review{
		ID: id.New(id.Review), Actor: own.ID, Kind: policy.KindPerson, Action: policy.PersonRead, Record: rec.ID, Count: 1,
		OpenedAt: r.clock.now(), LastAt: r.clock.now(), State: review.Open, Seen: review.Evidence{Code: policy.CodeDenied, Band: policy.RiskExtreme},
	}
	r.seed(audit.RecoveryOpened, recovery.Start{Recovery: rec}, review.Opens{Review: x})
	r.deployed()
	published := with(`@id("watch") @reason("r") @mode("monitor") forbid (principal is Person, action == Action::"person.read", resource);`)
	r.seed(audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: 1, Hash: published.Hash(), Source: published, Of: ruleset.NoVersion, By: own.ID}})
	waiting := r.submit(stricter(), own.ID, policy.KindPerson)
	r.by(by)
	private := secret.New(secret.Recover).Reveal()
	for name, page := range map[string]struct {
		ask     func() answer
		healthy int
	}{
		"a recovery":         {func() answer { return b.get("/admin/recoveries/show?id=" + rec.ID) }, 200},
		"a review":           {func() answer { return b.get("/admin/reviews/show?id=" + x.ID) }, 200},
		"a private link":     {func() answer { return r.browser().post("/recover/paste", "link", "x#"+private) }, 200},
		"a publication":      {func() answer { return b.get(view.PathPublications + "/" + waiting) }, 200},
		"the policies":       {func() answer { return b.get(view.PathPolicies) }, 200},
		"people":             {func() answer { return b.get("/admin/people") }, 200},
		"a recovery, opened": {func() answer { return b.post("/admin/recoveries/open", "username", "nobody", "reason", "lost") }, 200},
	} {
		cut := 0
		for n := 0; ; n++ {
			line.Mend()
			for end := time.Now().Add(time.Minute); ; { // connections that broke are found out one by one
				a := page.ask()
				if a.status == page.healthy {
					break
				}
				if a.status != 503 || time.Now().After(end) {
					t.Fatalf("%s: %d %s to %q while nothing is wrong", name, a.status, a.title(), a.location)
				}
			}
			line.After(n)
			a := page.ask()
			if !line.Broken() {
				break // it needs no more questions
			}
			cut++
			if a.status != 503 || len(a.cookies) > 0 {
				t.Errorf("%s, cut before question %d: %d %s, to %q, cookies %v", name, n+1, a.status, a.title(), a.location, a.cookies)
			}
			if n > 100 {
				t.Fatalf("%s: more than a hundred questions", name)
			}
		}
		if line.Mend(); cut == 0 {
			t.Errorf("%s asks nothing: the walk is worth nothing", name)
		}
	}
}
