package admin_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/internal/web"
)

const issuer = "https://id.example.com"

// rig is the API over a real store, with real keys, acts and tokens.
type rig struct {
	t      testing.TB
	store  *store.Store
	ring   *keyring.Ring
	keys   *store.RecordKeys
	do     *act.Doer
	api    *admin.API
	desk   *ruleset.Desk
	http   *httptest.Server
	now    *atomic.Pointer[time.Time]
	waited chan string
	from   atomic.Value // netip.Addr that requests come from; not valid if it is not known

	admins group.Group
	cli    client.Client
	self   string // id of the resource /v1
	path   string // of the database
}

// exec changes the database behind the store's back.
func (r *rig) exec(query string) {
	r.t.Helper()
	db, err := sql.Open("sqlite", "file:"+r.path+"?_pragma=busy_timeout(10000)")
	r.ok(err)
	defer db.Close()
	_, err = db.ExecContext(r.t.Context(), query)
	r.ok(err)
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, waited: make(chan string, 10), now: new(atomic.Pointer[time.Time])}
	start := time.Now().UTC().Truncate(time.Second)
	r.now.Store(&start)
	r.from.Store(netip.Addr{})
	clock := func() time.Time { return *r.now.Load() }
	dir := t.TempDir()
	r.path = filepath.Join(dir, "db")
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: r.path, Migrate: true, Now: clock})
	r.ok(err)
	t.Cleanup(func() { r.ok(s.Close()) })
	r.ok(hsm.CreateFile(filepath.Join(dir, "kek")))
	kek, err := hsm.OpenFile(filepath.Join(dir, "kek"))
	r.ok(err)
	r.store, r.keys = s, s.RecordKeys(kek)
	r.ring, err = keyring.Open(t.Context(), s, kek, clock)
	r.ok(err)
	r.do = &act.Doer{
		Store: s, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: r.keys, Now: clock,
	}
	book := &ruleset.Book{Store: s, Rollouts: s}
	r.do.Rulesets, r.do.Candidates = book.Set, book.Candidate
	missing, err := r.ring.Missing()
	r.ok(err)
	for _, k := range missing {
		r.seed("", keyring.Add{Key: k})
	}
	r.ok(r.ring.Reload(t.Context()))
	r.admins = group.Group{ID: id.New(id.Group), Name: group.Administrators, Kind: group.Plain, CreatedAt: start}
	create := admin.Create(issuer, start)
	r.self = create.ID
	r.cli = client.Client{
		ID: id.New(id.Client), ClientID: "countersign-cli", Name: "Command line", AuthMethod: client.AuthNone, RedirectURIs: []string{"http://127.0.0.1/callback"},
		GrantTypes: []client.GrantType{client.AuthorizationCode}, Scopes: []string{"*"}, Resources: []string{"*"}, FirstParty: true, Native: true, ManagedBy: admin.BuiltIn, CreatedAt: start,
	}
	r.seed("", store.Found{Deployment: store.Deployment{ID: id.New(id.Resource), Born: store.BornProduction, Issuer: issuer}})
	r.seed("", group.Create{Group: r.admins}, create, client.Create{Client: r.cli})
	r.desk = &ruleset.Desk{Issuer: issuer, Publications: s, Rollouts: s, Group: func(ctx context.Context, name string) error { return group.CheckLive(ctx, s, name) }}
	r.api, err = admin.New(admin.Config{
		Issuer: issuer, Do: r.do, Keys: r.ring, Directory: s, Registry: s, Admissions: s, Access: s, Policies: s, Book: book, Rollouts: s, Desk: r.desk, Factors: s, Imports: factor.NewPasswords(kek, factor.NewBlocklist(issuer)), State: issued{s}, Log: logOf{r}, Tree: treeOf{s}, Now: clock, Reviews: s, Recoveries: s, CancelKeys: r.ring.Nonces,
		ClientAddr: func(*http.Request) netip.Addr { return r.from.Load().(netip.Addr) },
		Notices:    admin.Notices{Store: s, Sealer: kek, Plain: func(host string) bool { return host == "inside.example:8080" }},
		Reports:    s,
		Leaks: func(_ context.Context, text string) (admin.Found, bool, error) {
			return admin.Found{What: "a token", Done: "it was ended"}, text == "leaked", nil
		},
		Applied: func(_ context.Context, record string) (bool, error) { r.waited <- record; return true, nil },
	})
	r.ok(err)
	mux := http.NewServeMux()
	r.api.Mount(mux)
	r.http = httptest.NewServer(web.Recorder{Log: discard}.Wrap(mux))
	t.Cleanup(r.http.Close)
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) time() time.Time { return *r.now.Load() }

func (r *rig) pass(d time.Duration) {
	n := r.time().Add(d)
	r.now.Store(&n)
}

type issued struct{ *store.Store }

func (i issued) Issued(ctx context.Context, record string) ([]lineage.Node, error) {
	v, err := i.RecordLeaf(ctx, record)
	if err == nil && len(v.Nodes) == 0 {
		err = problem.New(problem.NotFound, "token_unknown", "None.")
	}
	return v.Nodes, err
}

type treeOf struct{ *store.Store }

func (t treeOf) Epoch(ctx context.Context, n uint64) (admin.PublishedEpoch, error) {
	e, err := t.EpochAt(ctx, n)
	return epochOf{e}, err
}

type epochOf struct{ *store.EpochLog }

func (e epochOf) Covering(ctx context.Context, _ uint64) (uint64, []byte, error) {
	return e.LastCheckpoint(ctx)
}

func (t treeOf) Entry(ctx context.Context, record string) (uint64, int64, []byte, error) {
	return t.Place(ctx, record)
}

type logOf struct{ *rig }

func (l logOf) Decisions(ctx context.Context, from, until time.Time, after string, n int) (replay.Decisions, error) {
	return l.store.Decisions(ctx, l.keys, from, until, after, n)
}

func (l logOf) Monitored(ctx context.Context, since time.Time, before string, n int) (replay.Monitored, error) {
	return l.store.Monitored(ctx, l.keys, since, before, n)
}

func (l logOf) AuditPage(ctx context.Context, q admin.LogQuery, n int) ([]audit.Line, string, error) {
	f := store.Filter{Before: q.Before, Kinds: q.Kinds}
	var err error
	if f.Person, err = l.pseudonym(ctx, q.Person); err != nil {
		return nil, "", err
	}
	rows, next, err := l.store.AuditPage(ctx, f, n)
	if err != nil {
		return nil, "", err
	}
	lines, err := l.words(ctx, rows)
	return lines, next, err
}

func (l logOf) Referred(ctx context.Context, ref, person string, n int) ([]audit.Line, string, error) {
	p, err := l.pseudonym(ctx, person)
	if err != nil {
		return nil, "", err
	}
	rows, since, err := l.store.Referred(ctx, ref, p, n)
	if err != nil {
		return nil, "", err
	}
	lines, err := l.words(ctx, rows)
	return lines, since, err
}

// pseudonym is nil for nobody in particular, and nobody's for whom no record concerns.
func (l logOf) pseudonym(ctx context.Context, person string) ([]byte, error) {
	if person == "" {
		return nil, nil
	}
	p, ok, err := l.store.PseudonymOf(ctx, person)
	if !ok {
		p = []byte{0}
	}
	return p, err
}

func (l logOf) words(ctx context.Context, rows []store.Record) ([]audit.Line, error) {
	var out []audit.Line
	for _, row := range rows {
		parts, err := audit.Open(ctx, row.Row, l.keys)
		if err != nil {
			return nil, err
		}
		out = append(out, audit.LineOf(row.Seq, row.Row, parts, func(id string) string {
			if p, err := l.store.Person(ctx, id); err == nil {
				return p.Name
			}
			if c, err := l.store.Client(ctx, id); err == nil {
				return c.Name
			}
			if v, err := l.store.Resource(ctx, id); err == nil {
				return v.Name
			}
			return ""
		}))
	}
	return out, nil
}

// seed makes something at the server's own word.
func (r *rig) seed(leaf string, changes ...act.Change) act.Outcome {
	r.t.Helper()
	out, err := r.do.Do(context.Background(), act.Intent{
		Action: policy.SandboxSeed, Kind: audit.TokenIssued, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: changes, Leaf: leaf}, nil
		},
	})
	r.ok(err)
	return out
}

func (r *rig) person(username string, groups ...string) account.Person {
	r.t.Helper()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Name of " + username, Username: username, CreatedAt: r.time()}
	r.seed("", account.Create{Person: p, Groups: groups})
	return p
}

// login is a person signed in at the command line.
type login struct {
	r       *rig
	person  account.Person
	session session.Session
	grant   grant.Grant
	key     crypto.Signer
	token   string
}

func newKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// login signs a person in, now, with a passkey, unless proofs say otherwise.
func (r *rig) login(p account.Person, scope string, edit ...func(*jose.AccessTokenClaims)) *login {
	r.t.Helper()
	l := &login{r: r, person: p, key: newKey()}
	proofs := []assurance.Proof{{Method: assurance.Passkey, Subject: p.ID, At: r.time(), UserVerified: true, PhishingResistant: true}}
	device := session.Device{ID: id.New(id.Device), Label: "Chrome on Linux", CreatedAt: r.time()}
	l.session = session.Session{
		ID: id.New(id.Session), Person: p.ID, Device: device.ID, Proofs: proofs, CreatedAt: r.time(), SeenAt: r.time(),
		ExpiresAt: r.time().Add(session.Lifetime), IdleUntil: r.time().Add(session.IdleLifetime),
	}
	l.grant = grant.Grant{
		ID: id.New(id.Grant), Person: p.ID, Client: r.cli.ID, Session: l.session.ID, Device: device.ID, Resources: []string{r.self}, Scopes: strings.Fields(scope),
		ACR: "phr", Proofs: proofs, CreatedAt: r.time(), ExpiresAt: r.time().Add(24 * time.Hour),
	}
	r.seed("", session.Open{Session: l.session, SecretHash: secret.New(secret.Session).Hash(), NewDevice: &device, DeviceHash: secret.New(secret.Device).Hash()},
		grant.Open{Grant: l.grant})
	l.token = l.mint(scope, edit...)
	return l
}

// mint makes an access token of the login.
func (l *login) mint(scope string, edit ...func(*jose.AccessTokenClaims)) string {
	l.r.t.Helper()
	out := l.r.seed(l.grant.ID)
	jkt, err := jose.Thumbprint(l.key.Public())
	l.r.ok(err)
	c := jose.AccessTokenClaims{
		Issuer: issuer, Subject: l.person.Subject, Audience: jose.Audience{issuer + "/v1"}, ClientID: l.r.cli.ClientID, JTI: out.RecordID,
		IssuedAt: jose.Date(l.r.time()), ExpiresAt: jose.Date(l.r.time().Add(5 * time.Minute)), Scope: scope, ACR: "phr",
		Confirmation: &jose.Confirmation{JKT: jkt},
	}
	for _, e := range edit {
		e(&c)
	}
	s, err := l.r.ring.Signer(keyring.Token, "ES256", jose.TypAccessToken)
	l.r.ok(err)
	text, err := s.Sign(c)
	l.r.ok(err)
	return text
}

// answer is a response, read.
type answer struct {
	*http.Response
	text []byte
	body map[string]any
}

func (a answer) code() string { s, _ := a.body["code"].(string); return s }

func (a answer) items() (out []map[string]any) {
	list, _ := a.body["items"].([]any)
	for _, i := range list {
		m, _ := i.(map[string]any)
		out = append(out, m)
	}
	return out
}

// request makes a request of the login, with a proof of its key.
func (l *login) request(method, path string, body any) *http.Request {
	l.r.t.Helper()
	var in io.Reader
	if s, ok := body.(string); ok {
		in = strings.NewReader(s)
	} else if body != nil {
		b, err := json.Marshal(body)
		l.r.ok(err)
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, l.r.http.URL+path, in)
	l.r.ok(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	proof, err := jose.MakeDPoP(l.key, method, issuer+path, "", l.token, l.r.time())
	l.r.ok(err)
	req.Header.Set("Authorization", "DPoP "+l.token)
	req.Header.Set("DPoP", proof)
	return req
}

func (l *login) do(method, path string, body any, edit ...func(*http.Request)) answer {
	l.r.t.Helper()
	req := l.request(method, path, body)
	for _, e := range edit {
		e(req)
	}
	return l.r.send(req)
}

func (r *rig) send(req *http.Request) answer {
	r.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	r.ok(err)
	defer resp.Body.Close()
	a := answer{Response: resp}
	a.text, err = io.ReadAll(resp.Body)
	r.ok(err)
	_ = json.Unmarshal(a.text, &a.body)
	return a
}

// want fails the test unless the answer has a status and, of a refusal, a code
// and the shape of a problem document.
func (r *rig) want(a answer, status int, code string) answer {
	r.t.Helper()
	if a.StatusCode != status || a.code() != code {
		r.t.Fatalf("%s %s: %d %s, want %d %s\n%s", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.code(), status, code, a.text)
	}
	if status >= 400 {
		if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
			r.t.Errorf("a problem is %s", got)
		}
		for _, m := range []string{"type", "title", "status", "ref"} {
			if a.body[m] == nil || a.body[m] == "" {
				r.t.Errorf("a problem has no %s: %s", m, a.text)
			}
		}
		if a.body["ref"] != a.Header.Get(web.RefHeader) {
			r.t.Errorf("ref is %v, the header %s", a.body["ref"], a.Header.Get(web.RefHeader))
		}
	}
	return a
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}
