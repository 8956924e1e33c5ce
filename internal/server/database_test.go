package server

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// ownServer starts a PostgreSQL that the test may stop, promote and put back.
func ownServer(t *testing.T) *pgtest.Server {
	t.Helper()
	pgtest.Require(t)
	p, err := pgtest.StartServer("")
	check(t, err)
	t.Cleanup(p.Stop)
	return p
}

// ownDeployment makes a deployment in a database of its own.
func ownDeployment(t *testing.T, p *pgtest.Server, edit ...func(*config.Config)) *config.Config {
	t.Helper()
	dsn, err := p.CreateDatabase(t.Context())
	check(t, err)
	cfg := testConfig(t.TempDir(), append(edit, func(c *config.Config) { c.Database.SQLite, c.Database.Postgres = "", dsn })...)
	begin(t, cfg, "", 3)
	return cfg
}

// begin opens the deployment, as a start of the server does, acts n times, and gives
// why it is in quarantine.
func begin(t *testing.T, cfg *config.Config, gone string, n int) string {
	t.Helper()
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true, Gone: gone})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	_, err = New(st)
	check(t, err)
	for range n {
		check(t, st.Seed(t.Context(), audit.RefusalsCounted))
	}
	check(t, st.keepAnchor(t.Context()))
	return st.Quarantined()
}

// living is a server that runs until the test, or it itself, ends it.
type living struct {
	*Server
	ended chan error
	stop  func()
}

func live(t *testing.T, cfg *config.Config) *living {
	t.Helper()
	st, err := OpenState(t.Context(), cfg, Options{})
	check(t, err)
	s, err := New(st)
	check(t, err)
	check(t, st.Seed(t.Context(), audit.RefusalsCounted))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	v := &living{Server: s, ended: make(chan error, 1), stop: cancel}
	go func() { v.ended <- s.Run(ctx, Listeners{Public: l}) }()
	t.Cleanup(func() {
		cancel()
		_ = st.Close() // its database may be gone
	})
	return v
}

// endsGone waits until the server ends because its database has gone back.
func (v *living) endsGone(t *testing.T) *Gone {
	t.Helper()
	select {
	case err := <-v.ended:
		var g *Gone
		if !errors.As(err, &g) || !errors.Is(err, ErrEpoch) {
			t.Fatalf("it ended with %v", err)
		}
		var w *store.WentBack
		if err := v.Seed(t.Context(), audit.RefusalsCounted); !errors.As(err, &w) || !errors.Is(err, act.ErrNotWritten) {
			t.Errorf("after that it acts: %v", err)
		}
		return g
	case <-time.After(time.Minute):
		t.Fatal("nothing was noticed")
		return nil
	}
}

// eventually waits until f works.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for err := f(); err != nil; err = f() {
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestDatabaseStays: PostgreSQL may be stopped and started, killed even, beneath a
// server and while none runs: it is where it was. This is the control of what follows
// on the same server: its folder as it was, on the same timeline; another server; and
// one that says little of itself.
func TestDatabaseStays(t *testing.T) {
	t.Parallel()
	p := ownServer(t)
	cfg := ownDeployment(t, p)
	v := live(t, cfg)
	for _, end := range []func() error{p.Halt, p.Kill} {
		check(t, end())
		check(t, p.Restart())
		eventually(t, func() error { return v.Seed(t.Context(), audit.RefusalsCounted) })
		check(t, v.Store.LookAtPlace(t.Context()))
	}
	v.stop()
	check(t, <-v.ended)
	check(t, p.Kill())
	check(t, p.Restart())
	if why := begin(t, cfg, "", 1); why != "" {
		t.Errorf("after a restart: %s", why)
	}
	t.Run("position", func(t *testing.T) { positions(t, ownDeployment(t, p)) })
	t.Run("moved while nobody ran", func(t *testing.T) { movedWhileNobodyRan(t, ownDeployment(t, p)) })
	t.Run("data put back", func(t *testing.T) { dataPutBack(t, p, cfg, littleSaid(t, ownDeployment(t, p))) })
}

// dataPutBack: a server that runs misses its acts, whether PostgreSQL says much of
// itself or little, and the next one is told; one that starts is told by the side file.
func dataPutBack(t *testing.T, p *pgtest.Server, cfg, little *config.Config) {
	check(t, p.Halt())
	putBack, err := p.Keep()
	check(t, err)
	check(t, p.Restart())
	v, w := live(t, cfg), live(t, little)
	check(t, p.Kill())
	check(t, putBack())
	check(t, p.Restart())
	w.endsGone(t)
	g := v.endsGone(t)
	if !strings.Contains(g.Why, "PostgreSQL lacks") {
		t.Error(g)
	}
	if why := begin(t, cfg, g.Why, 0); why != g.Why {
		t.Errorf("opened anew: %q", why)
	}
	dismissed(t, cfg, "quarantine_founded")
}

// positions: one lower than the side file saw is going back, even if the log is as
// long as it was.
func positions(t *testing.T, cfg *config.Config) {
	st, err := OpenState(t.Context(), cfg, Options{})
	check(t, err)
	now, ok := st.Store.DatabasePlace()
	if !ok || now.System == "" || now.Timeline != 1 || now.Table == 0 || now.Position == 0 {
		t.Fatalf("%+v %t", now, ok)
	}
	for _, c := range []struct {
		was  store.Place
		back bool
	}{
		{now, false},
		{store.Place{System: now.System, Timeline: 1, Position: now.Position + 100}, false}, // a crash
		{store.Place{System: "7", Timeline: 9, Position: now.Position + 1<<40}, false},      // not comparable
		{store.Place{}, false},
		{store.Place{System: now.System, Timeline: 1, Position: now.Position + 1<<24}, true},
		{store.Place{System: now.System, Timeline: 2}, true},
	} {
		check(t, st.comparePlace(t.Context(), &c.was))
		if got := st.Quarantined() != ""; got != c.back {
			t.Errorf("%+v: quarantined %t, %s", c.was, got, st.Quarantined())
		}
	}
	a, ok, err := st.readAnchor()
	if check(t, err); !ok || a.Database == nil || a.Database.System != now.System || a.Database.Position == 0 {
		t.Errorf("the side file says %+v", a)
	}
	check(t, st.Close())
	dismissed(t, cfg, "quarantine_founded")
}

// movedWhileNobodyRan: another server, as after an upgrade, or tables made anew, as
// when a dump is put back: going back until the operator says otherwise.
func movedWhileNobodyRan(t *testing.T, cfg *config.Config) {
	dismissed(t, cfg, "not_quarantined")
	for what, text := range map[string]string{
		"another PostgreSQL server": `UPDATE deployment_fact SET value = '{"system":"7","timeline":4}' WHERE name = 'place'`,
		"were made anew":            `CREATE TABLE anew (LIKE deployment INCLUDING ALL); INSERT INTO anew SELECT * FROM deployment; DROP TABLE deployment; ALTER TABLE anew RENAME TO deployment`,
	} {
		execute(t, cfg, text)
		if why := begin(t, cfg, "", 0); !strings.Contains(why, what) {
			t.Errorf("%s: %q", what, why)
		}
		dismissed(t, cfg, "")
		if why := begin(t, cfg, "", 1); why != "" {
			t.Errorf("%s, dismissed: %q", what, why)
		}
	}
	if err := begin(t, cfg, "", 0); err != "" {
		t.Error(err)
	}
}

// littleSaid leaves a deployment to a role that may not ask PostgreSQL where it is, as
// a managed one may have it: what it says is held against it, and no more.
func littleSaid(t *testing.T, cfg *config.Config) *config.Config {
	execute(t, cfg, `CREATE ROLE managed LOGIN PASSWORD 'managed'; GRANT ALL ON ALL TABLES IN SCHEMA public TO managed; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO managed;
REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_current_wal_flush_lsn() FROM PUBLIC`)
	u, err := url.Parse(cfg.Database.Postgres)
	check(t, err)
	u.User = url.UserPassword("managed", "managed")
	little := *cfg
	little.Database.Postgres = u.String()
	if why := begin(t, &little, "", 1); why != "" {
		t.Errorf("a server that says little: %q", why)
	}
	st, err := OpenState(t.Context(), &little, Options{})
	check(t, err)
	if now, _ := st.Store.DatabasePlace(); now.System != "" || now.Position != 0 || now.Table == 0 {
		t.Errorf("it says %+v", now)
	}
	check(t, st.Close())
	return &little
}

func execute(t *testing.T, cfg *config.Config, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cfg.Database.Postgres)
	check(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), text)
	check(t, err)
}

// TestPromotedStandby: a server that lives through the promotion of a standby that
// commits waited for goes on, and says where the database is now, so that others do,
// too. Where a failover may lose, every one is a restore (mechanisms I16). Nobody
// serves on the standby: a session there would outlive the promotion.
func TestPromotedStandby(t *testing.T) {
	t.Parallel()
	p := ownServer(t)
	cfg := ownDeployment(t, p)
	lossy := ownDeployment(t, p, func(c *config.Config) { c.Database.AcceptDataLossOnFailover = true })
	standby := follow(t, p, cfg, lossy)
	v, w := live(t, cfg), live(t, lossy)
	was, _ := v.Store.DatabasePlace()
	check(t, p.Kill())
	check(t, standby.Promote(t.Context()))
	g := w.endsGone(t)
	if why := begin(t, lossy, g.Why, 0); !strings.Contains(why, "timeline 1 for 2") {
		t.Errorf("where loss is accepted, it goes on: %q", why)
	}
	eventually(t, func() error { return v.Seed(t.Context(), audit.RefusalsCounted) })
	eventually(t, func() error {
		now, known, err := v.Store.KnownPlace(t.Context())
		if err == nil && (!known || now.Timeline != was.Timeline+1 || now.System != was.System) {
			err = errors.New("it is not said where the database is: " + now.String())
		}
		return err
	})
	lines, _, err := v.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.DatabaseMoved}}, 5)
	if check(t, err); len(lines) != 1 {
		t.Errorf("%d records of it", len(lines))
	}
	v.stop()
	check(t, <-v.ended)
	if why := begin(t, cfg, "", 1); why != "" {
		t.Errorf("at the next start: %s", why)
	}
}

// follow has a standby follow that commits wait for, and deployments go to whichever
// of the two takes writes.
func follow(t *testing.T, p *pgtest.Server, deployments ...*config.Config) *pgtest.Server {
	t.Helper()
	standby, err := p.Standby()
	check(t, err)
	t.Cleanup(standby.Stop)
	check(t, p.Synchronous(t.Context(), true))
	for _, cfg := range deployments {
		own := *cfg
		own.Database.Postgres, err = standby.URL(cfg.Database.Postgres)
		check(t, err)
		if _, err := OpenState(t.Context(), &own, Options{}); problem.CodeOf(err) != "database_standby" {
			t.Errorf("the standby is opened: %v", err)
		}
		cfg.Database.Postgres, err = p.Either(standby, cfg.Database.Postgres)
		check(t, err)
	}
	return standby
}

// TestStandbyThatLags: a standby that lacks an act which was acknowledged is noticed by
// the server that did it, whatever the configuration says, before anything is read
// there; and by one that starts afterwards, which remembers nothing, because the
// timeline changed. So is a backup that is recovered: that is the same.
func TestStandbyThatLags(t *testing.T) {
	t.Parallel()
	p := ownServer(t)
	cfg := ownDeployment(t, p)
	standby := follow(t, p, cfg)
	v := live(t, cfg)
	check(t, p.Synchronous(t.Context(), false)) // nobody is told
	check(t, standby.Detach(t.Context()))
	check(t, v.Seed(t.Context(), audit.RefusalsCounted))
	check(t, p.Kill())
	check(t, standby.Promote(t.Context()))
	if g := v.endsGone(t); !strings.Contains(g.Why, "PostgreSQL lacks") {
		t.Error(g)
	}
	check(t, os.Remove(v.anchorFile())) // a replica without a lasting folder
	began := time.Now()
	if why := begin(t, cfg, "", 0); !strings.Contains(why, "timeline 1 for 2") || time.Since(began) < vouchTime {
		t.Errorf("a server that starts, after %s: %q", time.Since(began), why)
	}
	st, err := OpenState(t.Context(), cfg, Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	d, _, err := st.Do.Judge(t.Context(), act.Intent{Action: policy.TokenIssue, Refs: act.Refs{Kind: policy.KindAnonymous}})
	if check(t, err); d.Code != policy.CodeQuarantine {
		t.Errorf("a token is judged %s", d.Code)
	}
	check(t, st.Dismiss(t.Context())) // only the timeline is known to have changed here
	if why := begin(t, cfg, "", 1); why != "" {
		t.Errorf("after it was dismissed: %s", why)
	}
}

// dismissed dismisses the quarantine, which has to be answered with a code.
func dismissed(t *testing.T, cfg *config.Config, code string) {
	t.Helper()
	st, err := OpenState(t.Context(), cfg, Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	if err := st.Dismiss(t.Context()); problem.CodeOf(err) != code || code == "" && err != nil {
		t.Errorf("dismissed: %v, want %q", err, code)
	}
}
