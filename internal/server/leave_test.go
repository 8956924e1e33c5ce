package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestWebhooksAfterRestore: a webhook that was removed, or whose secret or address
// was changed, after the backup gets nothing from the restored deployment: replayed,
// it is off; without an export it waits to be released.
func TestWebhooksAfterRestore(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	s.Do.Checkpoint = nil
	change := func(c act.Change) {
		t.Helper()
		_, err := s.Do.Do(t.Context(), act.Intent{
			Action: policy.SandboxSeed, Kind: audit.WebhookCreated, Refs: system(),
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{Changes: []act.Change{c}}, nil
			},
		})
		check(t, err)
	}
	hooks := map[string]string{}
	for _, name := range []string{"removed", "rotated", "moved", "kept"} {
		w := notice.Webhook{ID: id.New(id.Webhook), Name: name, URL: "https://" + name + ".example/", Events: []string{"*"}, Sealed: []byte("s"), CreatedAt: s.now()}
		hooks[name] = w.ID
		change(notice.CreateWebhook{Webhook: w})
	}
	g, err := s.Store.GroupByName(t.Context(), group.Administrators)
	check(t, err)
	dana := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: "dana", CreatedAt: s.now()}
	change(account.Create{Person: dana, Groups: []string{g.ID}})
	k := backUp(t, s.State)
	before, _, err := s.Lines(t.Context(), store.Filter{}, 500)
	check(t, err)
	change(notice.EndWebhook{ID: hooks["removed"]})
	change(notice.RotateSecret{ID: hooks["rotated"], Sealed: []byte("new"), BeforeEnd: s.now()})
	change(notice.UpdateWebhook{Webhook: notice.Webhook{ID: hooks["moved"], Name: "moved", URL: "https://elsewhere.example/", Events: []string{"*"}}})
	lines, _, err := s.Lines(t.Context(), store.Filter{}, 500)
	check(t, err)
	var export strings.Builder
	for i, l := range lines[:len(lines)-len(before)] {
		taken, err := s.Store.TakenBy(t.Context(), []string{l.ID})
		check(t, err)
		b, err := json.Marshal(exported{Seq: int64(len(lines) - i), ID: l.ID, At: "2026-11-02T09:00:00Z", Taken: taken[l.ID]})
		check(t, err)
		fmt.Fprintln(&export, string(b))
	}

	for name, c := range map[string]struct {
		postgres, replay bool
		want             string // the channels that are served, by webhook
		wait             int64
	}{
		"replayed":                        {false, true, "kept", 2},
		"without an export":               {false, false, "", 4},
		"replayed on PostgreSQL":          {true, true, "kept", 2},
		"without an export on PostgreSQL": {true, false, "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			if c.postgres {
				cfg.Database.SQLite, cfg.Database.Postgres = "", pgtest.Start(t)
			}
			st, err := Restore(t.Context(), cfg, Options{}, k.open(t), nil)
			check(t, err)
			defer func() { check(t, st.Close()) }()
			if c.replay {
				r, err := st.Replay(t.Context(), strings.NewReader(export.String()), nil)
				if check(t, err); r.Taken != 3 {
					t.Errorf("%+v\n%s", r, export.String())
				}
			}
			check(t, st.Leave(t.Context(), LeaveAs{Complete: c.replay}))
			served := func() string {
				channels, err := st.Store.Channels(t.Context())
				check(t, err)
				var out []string
				for _, ch := range channels {
					if w, err := st.Store.Webhook(t.Context(), ch.Name); err == nil {
						out = append(out, w.Name)
					}
				}
				return strings.Join(sorted(out), " ")
			}
			if got := served(); got != c.want {
				t.Errorf("told: %q, want %q", got, c.want)
			}
			if n, err := st.Store.Suspended(t.Context()); err != nil || n.Webhooks != c.wait {
				t.Errorf("suspended: %+v %v", n, err)
			}
			if n, err := st.Store.Suspended(t.Context()); err != nil || (n.People > 0) == c.replay {
				t.Errorf("suspended: %+v %v", n, err)
			}
			check(t, st.Release(t.Context(), ReleaseWhat{Kind: lineage.Person, Group: group.Administrators}))
			check(t, st.Release(t.Context(), ReleaseWhat{Kind: lineage.Service}))
			if n, err := st.Store.Suspended(t.Context()); err != nil || n.People != 0 {
				t.Errorf("suspended: %+v %v", n, err)
			}
			check(t, st.Release(t.Context(), ReleaseWhat{ID: hooks["rotated"]}))
			if got := served(); !strings.Contains(got, "rotated") {
				t.Errorf("released: %q", got)
			}
		})
	}
}
