package trust

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/backup"
	nodes "github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/test/pgtest"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// yesterday is a deployment, and what is worth something in it until today.
type yesterday struct {
	*world
	approved
	t         *testing.T
	dana, sam *actor.Browser
	samID     string
	refresh   string // of a session that is ended later
	request   actor.Request
	code      string // that is redeemed later
	token     string // signed by a key that is withdrawn later
	next      string // the refresh token after refresh
	copied    string // folder of the copy
	dsn       string // of the copy
}

// TestGoingBack puts yesterday's copy of everything back, the database together with
// every file beside it. Only a running enforcement point remembers. That is noticed,
// nothing is served, and what was ended, removed, used, disabled or withdrawn since,
// or approved before, works no more when the deployment is served again: with an export of the log,
// because it is replayed, and without one, because everybody and everything stays
// suspended (mechanisms I6 to I14).
func TestGoingBack(t *testing.T) {
	beside(t)
	for name, c := range map[string]struct{ postgres, export bool }{
		"sqlite, replayed": {false, true}, "sqlite, unknown": {false, false}, "postgres, replayed": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			dsn := ""
			if c.postgres {
				dsn = pgtest.Start(t)
			}
			y := &yesterday{world: newWorld(t, t.TempDir(), dsn, nil), t: t}
			y.make()
			y.copy()
			v := y.today()
			var export bytes.Buffer
			out, err := y.command("audit", "export").Output()
			check(t, err)
			export.Write(out)
			y.kill()
			y.putBack()
			y.launch()
			took := y.noticed("an enforcement point has seen")
			report(t, fmt.Sprintf("going back noticed by an enforcement point, %s", engine(dsn)), "%s after the start", took.Round(100*time.Millisecond))
			y.silent()
			if c.export {
				path := filepath.Join(t.TempDir(), "export.jsonl")
				check(t, os.WriteFile(path, export.Bytes(), 0o600))
				y.must("quarantine", "leave", "--complete") // refused: not replayed yet
				y.says("restore", "replay", path)
				y.says("quarantine", "leave", "--complete")
			} else {
				y.says("quarantine", "leave")
			}
			y.ready()
			y.nothingRevived(v)
			if c.export {
				y.restWorks(v)
			} else {
				y.suspended()
				y.says("quarantine", "release", "--people", "--group", "administrators")
				y.says("quarantine", "release", "--services")
				y.says("quarantine", "release", "--clients")
				check(t, y.dana.SignIn())
				y.nothingApproved()
				y.issuersWait()
			}
			y.says("audit", "verify")
		})
	}
}

// make has two people with a passkey each, an app, and a service.
func (y *yesterday) make() {
	t := y.t
	y.configure("device_authorization: {enabled: true}\nbackchannel_authentication: {enabled: true}\n")
	y.start()
	y.dana = y.person()
	st := y.state(nil)
	link, err := st.RecoverAdmin(t.Context(), "sam")
	check(t, err)
	check(t, st.Close())
	y.sam = actor.New(y.issuer, nil)
	t.Cleanup(y.sam.Close)
	check(t, y.sam.Join(link, "Sam Example", "sam"))
	answer := func(r actor.Request) string {
		q, err := y.sam.Authorize(r.Query)
		check(t, err)
		return q.Get("code")
	}
	first := y.app.NewRequest(theAPI, theScope, "openid")
	tokens, err := y.app.Redeem(first, answer(first))
	check(t, err)
	y.refresh = tokens.Refresh
	y.request = y.app.NewRequest(theAPI, theScope, "openid")
	y.code = answer(y.request)
	y.approve()
}

// copy is the backup of yesterday: everything, as it is on the disk.
func (y *yesterday) copy() {
	t := y.t
	y.stop()
	y.copied = t.TempDir()
	check(t, os.CopyFS(y.copied, os.DirFS(y.dir)))
	if y.world.dsn == "" {
		return
	}
	y.dsn = pgtest.Start(t)
	st := y.state(nil)
	defer func() { check(t, st.Close()) }()
	id, err := age.GenerateX25519Identity()
	check(t, err)
	var bundle, keys bytes.Buffer
	m, err := st.Backup(t.Context(), server.BackupTo{Bundle: &bundle, RecordKeys: &keys, Recipients: []age.Recipient{id.Recipient()}})
	check(t, err)
	both := &two{}
	for _, b := range []*bytes.Buffer{&bundle, &keys} {
		r, err := backup.Open(b, []age.Identity{id})
		check(t, err)
		both.rest = append(both.rest, r)
	}
	// Not in quarantine, and as if PostgreSQL said nothing of itself.
	check(t, postgres.Import(t.Context(), postgres.Options{DSN: y.dsn}, m.Schema, both, []store.Stmt{{SQL: `DELETE FROM deployment_fact WHERE name = 'place'`, Want: store.Any}}))
}

// two are the parts of a backup.
type two struct{ rest []*backup.Reader }

// Next implements store.Source.
func (s *two) Next() (string, []string, []any, error) {
	table, columns, row, err := s.rest[0].Next()
	if err == io.EOF && len(s.rest) > 1 {
		s.rest = s.rest[1:]
		return s.Next()
	}
	return table, columns, row, err
}

// today is what happens after the copy was made, with an enforcement point that
// hears of it.
func (y *yesterday) today() *countersign.Verifier {
	t := y.t
	y.start()
	v := y.verifier()
	old, err := y.machine.Credentials("")
	check(t, err)
	y.token = old.Access
	check(t, y.sees(v, y.token))
	next, err := y.app.Refresh(y.refresh)
	check(t, err)
	y.next = next.Refresh
	_, err = y.app.Redeem(y.request, y.code)
	check(t, err)
	st := y.state(nil)
	defer func() { check(t, st.Close()) }()
	sessions, err := st.Store.SessionsOf(t.Context(), y.personOf(st, "sam"))
	check(t, err)
	for _, s := range sessions {
		check(t, st.Seed(t.Context(), audit.SessionEnded, nodes.End{ID: s.ID, Why: "ended"}))
	}
	keys, err := st.Store.PasskeysOf(t.Context(), y.samID)
	check(t, err)
	for _, k := range keys {
		check(t, st.Seed(t.Context(), audit.FactorRemoved, nodes.End{ID: k.ID, Why: "removed"}))
	}
	machine, err := st.Store.ClientByClientID(t.Context(), "machine")
	check(t, err)
	check(t, st.Seed(t.Context(), audit.ClientEnded, nodes.Freeze{ID: machine.ID, Why: "disabled"}))
	y.use(st)
	_, err = st.ReplaceKeys(t.Context(), false)
	check(t, err)

	size, _, err := st.Store.Head(t.Context())
	check(t, err)
	waitUntil(t, soon(20*time.Second), func() bool { return y.sees(v, y.token) != nil && v.FeedStatus().HW >= int64(size) })
	check(t, y.refused(y.app.Refresh(y.next)))
	return v
}

// verifier starts an enforcement point that hears the feed.
func (y *yesterday) verifier() *countersign.Verifier {
	t := y.t
	v, err := countersign.New(t.Context(), countersign.Config{
		Issuer: y.issuer, Audience: theAPI, AllowBearer: true, Client: countersign.ClientAuth{ID: y.api.ID, Key: y.apiKey, KeyID: "k"},
	})
	check(t, err)
	t.Cleanup(v.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(t, v.Ready(ctx))
	return v
}

// personOf finds somebody by the user name.
func (y *yesterday) personOf(st *server.State, username string) string {
	people, err := st.Store.People(y.t.Context(), "", 100)
	check(y.t, err)
	for _, p := range people {
		if p.Username == username {
			y.samID = p.ID
		}
	}
	return y.samID
}

func waitUntil(t *testing.T, most time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to be")
		}
	}
}

// sees asks the enforcement point about a token.
func (y *yesterday) sees(v *countersign.Verifier, token string) error {
	r := httptest.NewRequest(http.MethodGet, theAPI+"/notes", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	_, err := v.Verify(r)
	return err
}

// refused is nil if the server refused, and did not merely fail to answer.
func (y *yesterday) refused(_ actor.Tokens, err error) error {
	if !actor.Refused(err) {
		return fmt.Errorf("not refused: %v", err)
	}
	return nil
}

// putBack replaces everything by the copy.
func (y *yesterday) putBack() {
	t := y.t
	entries, err := os.ReadDir(y.dir)
	check(t, err)
	for _, e := range entries {
		check(t, os.RemoveAll(filepath.Join(y.dir, e.Name())))
	}
	check(t, os.CopyFS(y.dir, os.DirFS(y.copied)))
	check(t, os.Chmod(filepath.Join(y.dir, "kek.json"), 0o600))
	if y.dsn != "" {
		y.text = strings.ReplaceAll(y.text, y.world.dsn, y.dsn)
		check(t, os.WriteFile(y.file, []byte(y.text), 0o600))
		y.config.Database.Postgres = y.dsn
	}
}

// noticed waits until the server says that it is in quarantine, and why.
func (y *yesterday) noticed(why string) time.Duration {
	y.t.Helper()
	began := time.Now()
	waitUntil(y.t, soon(40*time.Second), func() bool { return strings.Contains(y.readiness(), why) })
	return time.Since(began)
}

// readiness is what the server says of itself.
func (w *world) readiness() string {
	resp, err := probe.Get(w.ops + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func (y *yesterday) ready() {
	y.t.Helper()
	waitUntil(y.t, soon(40*time.Second), func() bool { return y.readiness() == "ready\n" })
}

// silent: nobody is served.
func (y *yesterday) silent() {
	t := y.t
	assertion, err := y.keyed.Assertion()
	check(t, err)
	for what, err := range map[string]error{
		"a refresh":              second(y.app.Refresh(y.refresh)),
		"the refresh of today":   second(y.app.Refresh(y.next)),
		"the code":               second(y.app.Redeem(y.request, y.code)),
		"a service":              second(y.keyed.Credentials(assertion)),
		"the service that ended": second(y.machine.Credentials("")),
	} {
		if !actor.Refused(err, "quarantine") {
			t.Errorf("in quarantine, %s: %v", what, err)
		}
	}
	for name, b := range map[string]*actor.Browser{"dana": y.dana, "sam": y.sam} {
		if err := b.SignIn(); err == nil {
			t.Errorf("in quarantine, %s signs in", name)
		}
	}
	if _, err := y.api.Introspect(y.token); !actor.Refused(err, "quarantine") {
		t.Errorf("in quarantine, introspection: %v", err)
	}
}

func second(_ actor.Tokens, err error) error { return err }

// must runs a command that has to fail with a conflict.
func (y *yesterday) must(args ...string) {
	y.t.Helper()
	out, err := y.command(args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "replay_incomplete") {
		y.t.Errorf("%s: %v %s", strings.Join(args, " "), err, out)
	}
}

// says runs a command that has to work.
func (y *yesterday) says(args ...string) {
	y.t.Helper()
	if out, err := y.command(args...).CombinedOutput(); err != nil {
		y.t.Fatalf("%s: %v %s", strings.Join(args, " "), err, out)
	}
}

// nothingRevived: what was ended, removed, used, disabled or withdrawn after the copy
// works no more.
func (y *yesterday) nothingRevived(v *countersign.Verifier) {
	t := y.t
	for what, err := range map[string]error{
		"the refresh token of the ended session": y.refused(y.app.Refresh(y.refresh)),
		"the refresh token of today":             y.refused(y.app.Refresh(y.next)),
		"the used code":                          y.refused(y.app.Redeem(y.request, y.code)),
		"the disabled client":                    y.refused(y.machine.Credentials("")),
	} {
		if err != nil {
			t.Errorf("%s works again: %v", what, err)
		}
	}
	if err := y.sam.SignIn(); err == nil {
		t.Error("a removed passkey signs in again")
	}
	if active, err := y.api.Introspect(y.token); err == nil && active {
		t.Error("a token of a withdrawn key is active again")
	}
	if y.sees(v, y.token) == nil {
		t.Error("a token of a withdrawn key passes the enforcement point again")
	}
	if a, err := y.dana.Get("/account"); err != nil || a.Status == http.StatusOK {
		t.Errorf("a session of before is open: %d %v", a.Status, err)
	}
	y.nothingApproved()
}

// restWorks: who was not touched after the copy goes on, after a new sign-in, and the
// enforcement point follows into the new epoch.
func (y *yesterday) restWorks(v *countersign.Verifier) {
	t := y.t
	check(t, y.dana.SignIn())
	// Times in tokens and in the feed are whole seconds: a token of the second in which
	// the epoch began is refused like one of before, so the service asks again. Its
	// assertions are taken once they cannot have been made before.
	keyed := *y.keyed
	keyed.Now = early
	waitUntil(t, soon(40*time.Second), func() bool {
		assertion, err := keyed.Assertion()
		check(t, err)
		fresh, err := keyed.Credentials(assertion)
		if actor.Refused(err, "invalid_client") {
			return false
		}
		check(t, err)
		return v.FeedStatus().Epoch == 2 && y.sees(v, fresh.Access) == nil
	})
	y.issuersWork()
}

// suspended: without an export nobody knows who was disabled, so nobody gets in.
func (y *yesterday) suspended() {
	t := y.t
	assertion, err := y.keyed.Assertion()
	check(t, err)
	if err := y.refused(y.keyed.Credentials(assertion)); err != nil {
		t.Errorf("a service: %v", err)
	}
	if err := y.dana.SignIn(); err == nil {
		t.Error("somebody who may have been disabled signs in")
	}
}
