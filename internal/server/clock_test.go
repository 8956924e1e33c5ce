package server

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// stepped is the real time and a step.
type stepped struct{ by atomic.Int64 }

func (s *stepped) now() time.Time       { return time.Now().Add(time.Duration(s.by.Load())) }
func (s *stepped) set(by time.Duration) { s.by.Store(int64(by)) }

// onBoth runs f with a configuration of each database.
func onBoth(t *testing.T, f func(t *testing.T, cfg *config.Config)) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			f(t, testConfig(t.TempDir(), func(c *config.Config) {
				if engine == "postgres" {
					c.Database.SQLite, c.Database.Postgres = "", pgtest.Start(t)
				}
			}))
		})
	}
}

// TestFloor: the floor goes with acts, no faster than the monotonic clock and 60
// seconds, and is due at most each ten seconds.
func TestFloor(t *testing.T) {
	start := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	wall, mono := start, time.Duration(0)
	c := newClock(func() time.Time { return wall })
	c.mono = func() time.Duration { return mono }
	do := func() (stored bool) {
		at, ok := c.due(c.now())
		if ok {
			if _, twice := c.due(c.now()); twice {
				t.Error("two acts store the floor at once")
			}
			c.settle(at, nil)
		}
		c.committed(c.now())
		return ok
	}
	for _, step := range []struct {
		name       string
		wall, mono time.Duration
		floor, now time.Duration
		stored     bool
		code       string
	}{
		{"the first act", 0, 0, 0, 0, true, ""},
		{"nine seconds", 9 * time.Second, 9 * time.Second, 9 * time.Second, 9 * time.Second, false, ""},
		{"ten", 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, true, ""},
		{"back by five", 5 * time.Second, 11 * time.Second, 10 * time.Second, 10 * time.Second, false, ""},
		{"back by more", 4999 * time.Millisecond, 12 * time.Second, 10 * time.Second, 10 * time.Second, false, "clock_behind"},
		{"a day on", 24 * time.Hour, 20 * time.Second, 80 * time.Second, 24 * time.Hour, true, ""},
		{"an hour of that", 25 * time.Hour, time.Hour, time.Hour + time.Minute, 25 * time.Hour, true, ""},
		{"and back", time.Hour, time.Hour, time.Hour + time.Minute, time.Hour + time.Minute, false, "clock_behind"},
		{"a minute later", time.Hour + time.Minute, time.Hour + time.Minute, time.Hour + time.Minute, time.Hour + time.Minute, false, ""},
	} {
		wall, mono = start.Add(step.wall), step.mono
		stored := do()
		if got := c.floor.Sub(start); got != step.floor || stored != step.stored || c.now().Sub(start) != step.now || problem.CodeOf(problemOf(c)) != step.code {
			t.Errorf("%s: floor %s stored %t now %s, %v", step.name, got, stored, c.now().Sub(start), c.problem())
		}
		if c.lasting().After(c.floor) {
			t.Errorf("%s: %s lasts, which is after the floor", step.name, c.lasting())
		}
	}
	mono = 3 * time.Hour
	at, ok := c.due(start.Add(3 * time.Hour))
	before := c.lasting()
	c.settle(at, errDisk)
	if !ok || !c.lasting().Equal(before) {
		t.Error("a floor that was not written lasts")
	}
}

// problemOf is the clock's problem as an error, nil if it has none.
func problemOf(c *clock) error {
	if p := c.problem(); p != nil {
		return p
	}
	return nil
}

// TestClockAcross: a clock that went back since acts were committed is not believed
// by a server that is started anew, nor, where the database has a clock, one that is
// ahead; nothing is answered and decided but for the host, and what expired stays
// so. --accept-time goes by the clock as it is, on record.
func TestClockAcross(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, cfg *config.Config) {
		c := &stepped{}
		c.set(-2 * time.Hour)
		// asked answers as a server does that starts at a step of the clock.
		asked := func(t *testing.T, step time.Duration, o Options, do func(s *Server)) (code string) {
			t.Helper()
			c.set(step)
			o.Migrate, o.Now = true, c.now
			st, err := OpenState(t.Context(), cfg, o)
			check(t, err)
			defer func() { check(t, st.Close()) }()
			s, err := New(st)
			check(t, err)
			h, err := s.Handler()
			check(t, err)
			s.ready.Store(true)
			code = problem.CodeOf(problemOf(s.clock))
			if do != nil {
				do(s)
			}
			for _, r := range routes(t, s) {
				w := ask(h, r[0], testIssuer+r[1], "")
				open := code == "" || strings.HasPrefix(r[1], "/.well-known/") || r[1] == "/oauth/jwks"
				if said := strings.Contains(w.Body.String(), "clock"); open && said || !open && (w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || r[0] != "HEAD" && !said) {
					t.Errorf("%s %s with %q: %d %s", r[0], r[1], code, w.Code, w.Body)
				}
			}
			ready, metrics := ask(s.Operations(), http.MethodGet, "/readyz", ""), ask(s.Operations(), http.MethodGet, "/metrics", "")
			if code != "" && (ready.Code != http.StatusServiceUnavailable || !strings.Contains(ready.Body.String(), code) || !strings.Contains(ready.Body.String(), "--accept-time")) {
				t.Errorf("readiness with %q: %d %s", code, ready.Code, ready.Body)
			}
			if want := map[bool]string{true: "countersign_clock_trusted 1", false: "countersign_clock_trusted 0"}[code == ""]; !strings.Contains(metrics.Body.String(), want) {
				t.Errorf("with %q, no %s", code, want)
			}
			for kind, refused := range map[string]bool{policy.KindPerson: true, policy.KindService: true, policy.KindAnonymous: true, "": true, policy.KindOperator: false, policy.KindSystem: false} {
				_, err := s.Do.Do(t.Context(), act.Intent{Action: policy.SetupIssue, Kind: audit.SetupOffered, Refs: act.Refs{Kind: kind}, Quiet: true})
				if got := problem.CodeOf(err); refused && code != "" && got != code || !refused && err != nil || code == "" && strings.HasPrefix(got, "clock") {
					t.Errorf("an act of %q with %q: %v", kind, code, err)
				}
			}
			return code
		}
		expect := func(t *testing.T, name, got, want string) {
			t.Helper()
			if got != want {
				t.Fatalf("%s: %q, want %q", name, got, want)
			}
		}
		expect(t, "two hours ago", asked(t, -2*time.Hour, Options{}, nil), "")
		key := once.KeyOf(once.Code, "a value")
		expect(t, "now", asked(t, 0, Options{}, func(s *Server) {
			put := once.Put{Value: once.Value{Purpose: once.Code, Key: key, ExpiresAt: s.now().Add(30 * time.Second)}}
			_, err := s.Do.Do(t.Context(), act.Intent{Action: policy.SetupIssue, Kind: audit.SetupOffered, Refs: system(), Changes: changes(put)})
			check(t, err)
		}), "")
		behind := asked(t, -time.Minute, Options{}, func(s *Server) {
			if floor, err := s.Store.Floor(t.Context()); err != nil || s.now().Before(floor) {
				t.Errorf("it goes by %s, below the floor %s: %v", s.now(), floor, err)
			}
		})
		expect(t, "a minute back", behind, "clock_behind")

		ahead := map[string]string{"sqlite": "", "postgres": "clock_ahead"}
		engine := "sqlite"
		if cfg.Database.Postgres != "" {
			engine = "postgres"
		}
		expect(t, "a day on", asked(t, 24*time.Hour, Options{}, func(s *Server) {
			check(t, s.Store.DeleteExpired(t.Context(), s.clock.lasting()))
			_, err := s.Store.OnceValue(t.Context(), once.Code, key)
			if there := err == nil; !there && engine == "postgres" {
				t.Errorf("a clock that is not believed has values forgotten: %v", err)
			}
		}), ahead[engine])
		back := asked(t, 0, Options{}, nil)
		if engine == "postgres" {
			expect(t, "back, by the database's clock", back, "")
			expect(t, "ahead and accepted", asked(t, 24*time.Hour, Options{AcceptTime: true}, nil), "")
			back = asked(t, 0, Options{}, nil)
		}
		expect(t, "back", back, "clock_behind")
		expect(t, "accepted", asked(t, 0, Options{AcceptTime: true}, nil), "")
		expect(t, "and from then on", asked(t, time.Second, Options{}, func(s *Server) {
			lines, _, err := s.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.ClockAccepted}}, 5)
			if want := map[string]int{"sqlite": 1, "postgres": 2}[engine]; err != nil || len(lines) != want {
				t.Errorf("%d records of it, want %d: %v", len(lines), want, err)
			}
		}), "")
		expect(t, "accepting what needs none", asked(t, 2*time.Second, Options{AcceptTime: true}, nil), "")
	})
}

// TestClockWhileServing: a server whose clock goes back answers nobody until it is
// right again, and needs no restart; what a clock ahead of the database's does is
// noticed, too.
func TestClockWhileServing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, cfg *config.Config) {
		c := &stepped{}
		st, err := OpenState(t.Context(), cfg, Options{Migrate: true, Now: c.now})
		check(t, err)
		defer func() { check(t, st.Close()) }()
		s, err := New(st)
		check(t, err)
		for _, step := range []struct {
			by   time.Duration
			code string
		}{{0, ""}, {-4 * time.Second, ""}, {-time.Hour, "clock_behind"}, {0, ""}, {24 * time.Hour, "ahead"}, {0, ""}} {
			c.set(step.by)
			check(t, s.compareClock(t.Context()))
			want := step.code
			if want == "ahead" {
				want = map[bool]string{true: "clock_ahead"}[cfg.Database.Postgres != ""]
			}
			if got := problem.CodeOf(problemOf(s.clock)); got != want {
				t.Errorf("%s: %q, want %q", step.by, got, want)
			}
		}
	})
}
