package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

const oldIssuer, newIssuer = "https://old.example.com", "https://new.example.org"

// site is a deployment that is started and stopped.
type site struct {
	t    *testing.T
	cfg  config.Config
	stop func()
	http *httptest.Server
	st   *server.State
}

func newSite(t *testing.T, issuer string, postgres, development bool) *site {
	dir := t.TempDir()
	s := &site{t: t, cfg: config.Config{Issuer: issuer, DataDir: dir, Keys: config.Keys{KEKFile: filepath.Join(dir, "kek.json")}, Development: development}}
	s.names(issuer, "")
	s.cfg.Database.MaxConnections = 8
	if postgres {
		s.cfg.Database.Postgres = pgtest.Start(t)
	} else {
		s.cfg.Database.SQLite = filepath.Join(dir, "db")
	}
	s.stop = func() {}
	t.Cleanup(func() { s.stop() })
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) names(issuer, rpID string) {
	s.t.Helper()
	rp, _, err := config.CheckIssuer(issuer, rpID)
	ok(s.t, err)
	s.cfg.Issuer, s.cfg.RPID = issuer, rp
}

// start serves on a port of its own: tests say by Host who they came for.
func (s *site) start() {
	s.t.Helper()
	cfg := s.cfg
	st, err := server.OpenState(s.t.Context(), &cfg, server.Options{Migrate: true})
	ok(s.t, err)
	srv, err := server.New(st)
	ok(s.t, err)
	h, err := srv.Handler()
	ok(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	l := server.Listeners{Public: httptest.NewUnstartedServer(nil).Listener}
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, l) }()
	s.st, s.http = st, httptest.NewServer(h)
	s.stop = func() {
		s.stop = func() {}
		s.http.Close()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		ok(s.t, st.Close())
	}
}

// person is somebody's browser with a passkey for one relying party.
type person struct {
	*site
	client *http.Client
	auth   virtualwebauthn.Authenticator
	rp     virtualwebauthn.RelyingParty
	handle []byte
}

func (s *site) person() *person {
	jar, err := cookiejar.New(nil)
	ok(s.t, err)
	return &person{site: s, auth: virtualwebauthn.NewAuthenticator(), rp: virtualwebauthn.RelyingParty{Name: "Countersign", ID: s.cfg.RPID, Origin: s.cfg.Issuer}, client: &http.Client{
		Jar: secureJar{jar}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// secureJar takes the test's plain connection for the proxy's secure one.
type secureJar struct{ http.CookieJar }

func (j secureJar) SetCookies(u *url.URL, c []*http.Cookie) { j.CookieJar.SetCookies(asSecure(u), c) }

func (j secureJar) Cookies(u *url.URL) []*http.Cookie { return j.CookieJar.Cookies(asSecure(u)) }

func asSecure(u *url.URL) *url.URL {
	v := *u
	v.Scheme = "https"
	return &v
}

func (p *person) send(method, path, typ string, body []byte) (int, string) {
	p.t.Helper()
	req, err := http.NewRequest(method, p.http.URL+path, bytes.NewReader(body))
	ok(p.t, err)
	req.Header.Set("Content-Type", typ)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := p.client.Do(req)
	ok(p.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	ok(p.t, err)
	if to := res.Header.Get("Location"); to != "" {
		return res.StatusCode, to
	}
	return res.StatusCode, string(text)
}

func (p *person) get(path string) (int, string) { return p.send("GET", path, "", nil) }

// script posts what a page's script posts, and gives where it is sent.
func (p *person) script(path string, fields map[string]any) (to, body string) {
	p.t.Helper()
	b, err := json.Marshal(fields)
	ok(p.t, err)
	_, body = p.send("POST", path, "application/json", b)
	var out struct{ Location string }
	_ = json.Unmarshal([]byte(body), &out)
	return out.Location, body
}

func (p *person) create(options, finish string, fields map[string]any) (to, body string) {
	p.t.Helper()
	_, body = p.script(options, fields)
	o, err := virtualwebauthn.ParseAttestationOptions(body)
	if err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	cred := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(cred.Key.AttestationData()) != 77 { // the library drops leading zeros of coordinates
		cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	p.handle = []byte(o.UserID)
	p.auth.AddCredential(cred)
	fields["credential"] = json.RawMessage(virtualwebauthn.CreateAttestationResponse(p.rp, p.auth, cred, *o))
	return p.script(finish, fields)
}

// signIn says where a sign-in with the newest passkey leads, "" if it is refused.
func (p *person) signIn() string {
	p.t.Helper()
	_, body := p.script("/signin/options", map[string]any{"next": "/account"})
	o, err := virtualwebauthn.ParseAssertionOptions(body)
	ok(p.t, err)
	p.auth.Options.UserHandle = p.handle
	c := &p.auth.Credentials[len(p.auth.Credentials)-1]
	c.Counter++
	to, _ := p.script("/signin/finish", map[string]any{
		"next": "/account", "credential": json.RawMessage(virtualwebauthn.CreateAssertionResponse(p.rp, p.auth, *c, *o)),
	})
	return to
}

var hidden = regexp.MustCompile(`name="tx" value="([^"]*)"`)

// open opens a single-use link and gives the page behind it and its transaction.
func (p *person) open(link string) (page, tx string) {
	p.t.Helper()
	u, err := url.Parse(link)
	ok(p.t, err)
	if status, page := p.get(u.Path); status != 200 || !strings.Contains(page, u.Path+"/open") {
		p.t.Fatalf("the link shows %d %s", status, page)
	}
	to, body := p.script(u.Path+"/open", map[string]any{"secret": u.Fragment})
	if to == "" {
		p.t.Fatal(body)
	}
	_, page = p.get(to)
	if m := hidden.FindStringSubmatch(page); m != nil {
		tx = m[1]
	}
	return page, tx
}

// setUp makes Dana the first administrator.
func (p *person) setUp() {
	p.t.Helper()
	link, err := p.st.SetupLink(p.t.Context(), policy.KindOperator)
	ok(p.t, err)
	_, tx := p.open(link)
	_, to := p.send("POST", "/setup/name", "application/x-www-form-urlencoded", []byte(url.Values{"tx": {tx}, "display_name": {"Dana"}, "username": {"dana"}}.Encode()))
	_, page := p.get(to)
	tx = hidden.FindStringSubmatch(page)[1]
	if to, body := p.create("/setup/passkey/options", "/setup/passkey/finish", map[string]any{"tx": tx, "passkey_name": "Laptop"}); to != "/setup/second" {
		p.t.Fatal(body)
	}
}

// join accepts an invitation.
func (p *person) join(link, name string) {
	p.t.Helper()
	_, tx := p.open(link)
	if to, body := p.create("/invite/options", "/invite/finish", map[string]any{"tx": tx, "display_name": name, "username": name, "passkey_name": "Phone"}); to != "/invite/second" {
		p.t.Fatal(body)
	}
}

func onBoth(t *testing.T, f func(t *testing.T, postgres bool)) {
	t.Run("sqlite", func(t *testing.T) { f(t, false) })
	t.Run("postgres", func(t *testing.T) { pgtest.Require(t); f(t, true) })
}

func code(t *testing.T, err error, want string) {
	t.Helper()
	if problem.CodeOf(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// verify proves the log whole against a checkpoint kept before.
func (s *site) verify(vkey string, against []byte) {
	s.t.Helper()
	rep, err := audit.Verify(s.t.Context(), s.st.Store, audit.Options{Keys: s.st.Names, VKey: vkey, Against: against})
	ok(s.t, err)
	if !rep.OK() {
		s.t.Errorf("the log: %v", rep.Lines())
	}
}

// TestRename: an administrator gets back in at the new issuer by the link, once;
// the old passkeys and sessions work no more, and the log goes on under its name.
func TestRename(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, postgres bool) {
		ctx := t.Context()
		s := newSite(t, oldIssuer, postgres, false)
		s.start()
		dana, pat := s.person(), s.person()
		dana.setUp()
		link, err := s.st.RecoverAdmin(ctx, "pat")
		ok(t, err)
		pat.join(link, "pat")
		vkey, err := s.st.VerificationKey()
		ok(t, err)
		before, err := s.st.Store.PersonByUsername(ctx, "dana")
		ok(t, err)
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // it serves once it has taken the lease
			st, err := server.OpenForRename(ctx, &s.cfg, server.Options{}, newIssuer)
			if err == nil {
				ok(t, st.Close())
			}
			if err != nil || time.Now().After(end) {
				code(t, err, "server_running")
				break
			}
		}
		s.stop()
		kept, err := os.ReadFile(filepath.Join(s.cfg.DataDir, "checkpoint"))
		ok(t, err)

		other := s.cfg
		other.Issuer = "https://third.example.com"
		if _, err := server.OpenForRename(ctx, &other, server.Options{}, newIssuer); err == nil {
			t.Error("a configuration of a third issuer was taken")
		}
		st, err := server.OpenForRename(ctx, &s.cfg, server.Options{}, newIssuer)
		ok(t, err)
		_, err = st.PlanRename(ctx, oldIssuer, "")
		code(t, err, "nothing_to_rename")
		for to, rp := range map[string]string{"http://new.example.org": "", "https://new.example.org/": "", "https://192.0.2.1": "", newIssuer: "example.com"} {
			_, err = st.PlanRename(ctx, to, rp)
			code(t, err, "issuer_invalid")
		}
		plan, err := st.PlanRename(ctx, newIssuer, "")
		ok(t, err)
		if len(plan.Affected) != 2 || !plan.Affected[0].Admin || plan.RPID != "new.example.org" || plan.Sessions != 2 {
			t.Errorf("%+v", plan)
		}
		links, err := st.Rename(ctx, plan)
		ok(t, err)
		ok(t, st.Close())
		i := slices.IndexFunc(links, func(l server.Link) bool { return l.Username == "dana" })
		if len(links) != 2 || i < 0 || !strings.HasPrefix(links[i].URL, newIssuer+"/reenrol#") {
			t.Fatalf("%+v", links)
		}

		if _, err := server.OpenState(ctx, &s.cfg, server.Options{}); err == nil {
			t.Error("the old issuer still opens the database")
		}
		s.names(newIssuer, "")
		s.start()
		if to := dana.signIn(); to != "" {
			t.Errorf("the old passkey leads to %s", to)
		}
		if status, to := dana.get("/account"); status != 303 || !strings.HasPrefix(to, "/signin") {
			t.Errorf("the old session shows %d %s", status, to)
		}
		back := s.person()
		page, tx := back.open(links[i].URL)
		if !strings.Contains(page, "Create your passkey") || !strings.Contains(page, "dana") {
			t.Fatal(page)
		}
		if to, body := back.create("/reenrol/options", "/reenrol/finish", map[string]any{"tx": tx, "passkey_name": "Laptop"}); to != "/invite/second" {
			t.Fatal(body)
		}
		if status, _ := back.get("/admin/people"); status != 200 {
			t.Errorf("the administrator sees %d", status)
		}
		after, err := s.st.Store.PersonByUsername(ctx, "dana")
		ok(t, err)
		if after.ID != before.ID || after.Subject != before.Subject || after.Factors != 2 {
			t.Errorf("%+v", after)
		}
		if to := back.signIn(); to != "/account" {
			t.Errorf("the new passkey leads to %q", to)
		}
		if page, _ := s.person().open(links[i].URL); !strings.Contains(page, "Already used") {
			t.Error("the link works twice")
		}
		if key, err := s.st.VerificationKey(); err != nil || key != vkey {
			t.Errorf("the log's key is %s, %v", key, err)
		}
		s.verify(vkey, kept)
		s.renamedTwice(links[1-i].URL)
	})
}

// renamedTwice: a rename to a sibling under the same relying party leaves nobody
// without a passkey but who had none, whose newer link replaces the older.
func (s *site) renamedTwice(stale string) {
	t := s.t
	s.stop()
	const third = "https://id.new.example.org"
	st, err := server.OpenForRename(t.Context(), &s.cfg, server.Options{}, third)
	ok(t, err)
	plan, err := st.PlanRename(t.Context(), third, "")
	ok(t, err)
	if plan.RPID != "new.example.org" || len(plan.Affected) != 1 || plan.Affected[0].Username != "pat" {
		t.Errorf("%+v", plan)
	}
	links, err := st.Rename(t.Context(), plan)
	ok(t, err)
	ok(t, st.Close())
	s.names(third, "new.example.org")
	s.start()
	if page, _ := s.person().open(stale); !strings.Contains(page, "Not valid") {
		t.Error("a link that was replaced is worth something")
	}
	pat, err := s.st.Store.PersonByUsername(t.Context(), "pat")
	ok(t, err)
	b := s.person()
	_, tx := b.open(links[0].URL)
	ok(t, s.st.Seed(t.Context(), audit.PersonDisabled, lineage.Freeze{ID: pat.ID, Why: "disabled"}))
	if to, body := b.script("/reenrol/options", map[string]any{"tx": tx, "passkey_name": "x"}); to != "" || strings.Contains(body, "challenge") {
		t.Errorf("somebody who was disabled enrols: %s", body)
	}
}

// TestAdopt: a sandbox becomes a real deployment with nothing of the sandbox in
// it, and the operator's link makes its first administrator.
func TestAdopt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, postgres bool) {
		ctx := t.Context()
		s := newSite(t, "http://localhost:8787", postgres, true)
		sandbox := s.cfg
		st, err := server.OpenState(ctx, &sandbox, server.Options{Migrate: true})
		ok(t, err)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ok(t, err)
		ok(t, st.SeedSandbox(ctx, server.Sample{URI: "http://localhost:8788", Key: key.Public()}))
		dana := account.Person{ID: "usr_00000000000000000000000001", Subject: "sub_x", Name: "Dana", Username: "dana", CreatedAt: time.Now()}
		ok(t, st.Seed(ctx, audit.PersonCreated, account.Create{Person: dana}, account.SetUp{Person: dana.ID, At: time.Now()}))
		loose := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("all") @reason("r") permit (principal is Person, action, resource);`}}}
		ok(t, st.Seed(ctx, audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: 2, Hash: loose.Hash(), Source: loose, Of: ruleset.NoVersion}}))
		old := map[string]bool{}
		for _, k := range st.Ring.List() {
			old[k.ID] = true
		}
		vkey, err := st.VerificationKey()
		ok(t, err)
		ok(t, st.Close())

		s.cfg.Development = false
		if _, err := server.OpenState(ctx, &s.cfg, server.Options{}); err == nil {
			t.Fatal("a sandbox's database is served")
		}
		_, err = server.OpenForAdoption(ctx, &sandbox, server.Options{}, "http://new.example.org")
		code(t, err, "issuer_invalid")
		st, err = server.OpenForAdoption(ctx, &sandbox, server.Options{}, newIssuer)
		ok(t, err)
		if n, err := st.Samples(ctx); err != nil || n != (server.Samples{People: 1, Clients: 2, Resources: 2}) {
			t.Errorf("%+v, %v", n, err)
		}
		link, err := st.Adopt(ctx, newIssuer, "sam")
		ok(t, err)
		ok(t, st.Close())

		for name, c := range map[string]config.Config{"the sandbox": sandbox, "development at the new issuer": func() config.Config { c := sandbox; c.Issuer = newIssuer; return c }()} {
			if _, err := server.OpenState(ctx, &c, server.Options{}); err == nil {
				t.Errorf("%s opens the real deployment", name)
			}
		}
		s.names(newIssuer, "")
		_, err = server.OpenForAdoption(ctx, &s.cfg, server.Options{}, newIssuer)
		code(t, err, "not_a_sample")
		s.start()
		inUse := 0
		for _, k := range s.st.Ring.List() {
			if old[k.ID] != !k.WithdrawnAt.IsZero() {
				t.Errorf("key %s: of the sandbox %v, withdrawn %v", k.ID, old[k.ID], k.WithdrawnAt)
			}
			if k.WithdrawnAt.IsZero() {
				inUse++
			}
		}
		if inUse != len(old) {
			t.Errorf("%d keys in use, %d before", inUse, len(old))
		}
		if _, err := s.st.Store.ClientByClientID(ctx, server.SampleAPIClient); problem.CodeOf(err) != "client_not_found" {
			t.Errorf("the sample client: %v", err)
		}
		if r, err := s.st.Store.Resources(ctx, "", 10); err != nil || len(r) != 1 || r[0].URI != newIssuer+"/v1" {
			t.Errorf("resources: %+v, %v", r, err)
		}
		if d, err := s.st.Store.Deployment(ctx); err != nil || d.Born != store.BornDevelopment || d.AdoptedAt.IsZero() {
			t.Errorf("%+v, %v", d, err)
		}
		if v, err := s.st.Store.Ruleset(ctx, 3); err != nil || v.Hash != policy.Builtin().Version() {
			t.Errorf("the sandbox's policies are in force: %+v, %v", v, err)
		}
		if done, err := s.st.Store.SetUp(ctx); err != nil || !done.Done {
			t.Errorf("set-up is open again: %v", err)
		}
		sam := s.person()
		sam.join(link, "sam")
		if status, _ := sam.get("/admin/people"); status != 200 {
			t.Errorf("the new administrator sees %d", status)
		}
		now, err := s.st.VerificationKey()
		ok(t, err)
		if now == vkey {
			t.Error("the log is signed with the sample key")
		}
		s.stop()
		s.start()
		s.verify(now, nil)
	})
}
