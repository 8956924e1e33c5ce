package oauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
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
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/internal/web"
	"github.com/countersign-dev/countersign/test/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

const issuer = "https://id.example.com"

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// clock is a time that moves by hand only.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// node is one process of the deployment.
type node struct {
	store  *store.Store
	server *Server
	http   *httptest.Server
}

// rig is the authorization server on a real database: one node or two.
type rig struct {
	testing.TB
	clock *clock
	nodes []*node
	log   *safeBuffer
	addr  netip.Addr // of the client; changed by hand
	keep  *http.Client

	person, other            account.Person
	passkey                  string
	team                     string
	notes, bound, foreign    resource.Resource
	app, web, jwt, svc, rs   client.Client // see clients
	first, plain             client.Client
	ledger                   resource.Resource // made when it is needed: see exchange_test.go
	serial                   int
	sits                     string // the device that the browser shows, "" for none
	webSecret, svcSecret     string
	rsSecret                 string
	jwtKey                   crypto.Signer
	service                  client.Service
	ses                      string
	best                     assurance.Rung // what the person could reach
	verifier, verifierDigest string
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func got[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { t.Helper(); ok(t, err); return v }
}

// engines runs a test on SQLite and on PostgreSQL.
func engines(t *testing.T, nodes int, f func(r *rig)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		f(newRig(t, nodes, func(now func() time.Time) (*store.Store, error) {
			return sqlite.Open(t.Context(), sqlite.Options{Path: path, Migrate: true, Now: now})
		}))
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Start(t)
		f(newRig(t, nodes, func(now func() time.Time) (*store.Store, error) {
			return postgres.Open(t.Context(), postgres.Options{DSN: dsn, Migrate: true, Now: now})
		}))
	})
}

// onSQLite is for tests whose subject is not the database.
func onSQLite(t testing.TB) *rig {
	path := filepath.Join(t.TempDir(), "db")
	return newRig(t, 1, func(now func() time.Time) (*store.Store, error) {
		return sqlite.Open(context.Background(), sqlite.Options{Path: path, Migrate: true, Now: now})
	})
}

func newRig(t testing.TB, nodes int, open func(func() time.Time) (*store.Store, error)) *rig {
	t.Helper()
	r := &rig{
		TB: t, clock: &clock{at: start}, log: &safeBuffer{}, addr: netip.MustParseAddr("198.51.100.7"), best: assurance.Phishing,
		keep: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		},
	}
	kek := filepath.Join(t.TempDir(), "kek")
	for i := range nodes {
		r.addNode(i == 0, kek, open)
	}
	r.verifier = strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(r.verifier))
	r.verifierDigest = base64.RawURLEncoding.EncodeToString(sum[:])
	r.seed()
	r.ses = r.signIn(r.person, r.passkey, false)
	return r
}

func (r *rig) addNode(first bool, kek string, open func(func() time.Time) (*store.Store, error)) {
	r.Helper()
	ctx := context.Background()
	st := got(open(r.clock.now))(r)
	sealer := got(hsm.OpenOrCreateFile(kek))(r)
	ring := got(keyring.Open(ctx, st, sealer, r.clock.now))(r)
	do := &act.Doer{
		Store: st, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: st.RecordKeys(sealer), Now: r.clock.now,
	}
	s := &Server{
		Issuer: issuer, Do: do, Clients: st, Resources: st, Issuers: st, Grants: st, Admissions: st, State: stateOf{st}, Keys: ring, Ladder: do.Ladder, Device: true, Backchannel: true, People: st,
		ClientAddr: func(*http.Request) netip.Addr { return r.addr }, Now: r.clock.now,
	}
	s.Browser, s.Departure = pages{r, st, do}, pages{r, st, do}
	n := &node{store: st, server: s}
	r.nodes = append(r.nodes, n)
	if first {
		var add []act.Change
		for _, k := range got(ring.Missing())(r) {
			add = append(add, keyring.Add{Key: k})
		}
		r.do(audit.KeyPublished, add...)
		ok(r, ring.Reload(ctx))
	}
	mux := http.NewServeMux()
	handle := func(pattern string, h web.Handler) {
		mux.Handle(pattern, h.With(func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, `{"error":"server_error"}`, web.StatusOf(err))
		}))
	}
	s.API(handle)
	s.Pages(handle)
	rec := web.Recorder{Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	n.http = httptest.NewServer(rec.Wrap(mux))
	r.Cleanup(func() { n.http.Close(); ok(r, st.Close()) })
}

// stateOf is what internal/server gives the authorization server.
type stateOf struct{ *store.Store }

func (s stateOf) Issued(ctx context.Context, recordID string) ([]lineage.Node, error) {
	i, err := s.RecordLeaf(ctx, recordID)
	if err == nil && len(i.Nodes) == 0 {
		err = problem.New(problem.NotFound, "token_unknown", "No such token was issued.")
	}
	return i.Nodes, err
}

func (s stateOf) Leaf(ctx context.Context, recordID string) (string, []lineage.Node, error) {
	i, err := s.RecordLeaf(ctx, recordID)
	return i.Leaf, i.Nodes, err
}

// pages is a browser whose pages only say what they would show. Headers stand
// for its cookies.
type pages struct {
	r  *rig
	st *store.Store
	do *act.Doer
}

const (
	headerSession = "Test-Session"
	headerBrowser = "Test-Browser"
)

func (p pages) Session(r *http.Request) (session.Session, bool, error) {
	name := r.Header.Get(headerSession)
	if name == "" {
		return session.Session{}, false, nil
	}
	ses, err := p.st.Session(r.Context(), name)
	if err != nil || !ses.Usable(p.r.clock.now()) {
		return ses, false, err
	}
	dec, _, err := p.do.Judge(r.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindPerson, Actor: ses.Person, Session: ses.ID, Owner: ses.Person}})
	return ses, dec.Outcome == policy.Allow, err
}

func (p pages) Binding(_ http.ResponseWriter, r *http.Request) (string, error) {
	return "browser " + r.Header.Get(headerBrowser), nil
}

func (p pages) Origin(*http.Request) act.Origin {
	return act.Origin{Shown: p.r.sits != "", Device: p.r.sits}
}

func (p pages) Fail(w http.ResponseWriter, _ *http.Request, e *problem.Error) {
	w.WriteHeader(web.StatusOf(e))
	fmt.Fprintf(w, "page: %s", e.Code)
}

func (p pages) Deliver(w http.ResponseWriter, _ *http.Request, to string, answer url.Values) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "post: %s\n%s", to, answer.Encode())
}

func (p pages) Go(w http.ResponseWriter, r *http.Request, next grant.Next, ref string) {
	http.Redirect(w, r, "/page/"+string(next)+"?tx="+url.QueryEscape(ref), http.StatusSeeOther)
}

func (p pages) ConfirmSignOut(w http.ResponseWriter, r *http.Request, _ grant.Leaving, ref string) {
	http.Redirect(w, r, "/page/leave?tx="+url.QueryEscape(ref), http.StatusSeeOther)
}

func (p pages) SignOut(_ http.ResponseWriter, _ *http.Request, ses session.Session, _ grant.Leaving) error {
	p.r.do(audit.SessionEnded, session.SignOut{ID: ses.ID})
	return nil
}

func (p pages) SignedOut(w http.ResponseWriter, _ *http.Request, l grant.Leaving) {
	fmt.Fprintf(w, "signed out: %s", l.Back)
}

func (p pages) Attainable(context.Context, string) (func(assurance.Ask) bool, error) {
	return func(a assurance.Ask) bool { return a.Rung <= p.r.best }, nil
}

// do changes things at the server's own word.
func (r *rig) do(kind audit.Kind, list ...act.Change) {
	r.Helper()
	_, err := r.nodes[0].server.Do.Do(context.Background(), act.Intent{
		Action: policy.SandboxSeed, Kind: kind, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: list}, nil },
	})
	ok(r, err)
}

func (r *rig) seed() {
	r.Helper()
	r.person = account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana Lind", Username: "dana", Email: "dana@example.com"}
	r.other = account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Sam Oak", Username: "sam"}
	r.team = id.New(id.Group)
	r.passkey = id.New(id.Credential)
	r.do(audit.PersonCreated, group.Create{Group: group.Group{ID: r.team, Name: "release"}},
		account.Create{Person: r.person}, account.Create{Person: r.other},
		factor.Enrol{Passkey: factor.Passkey{ID: r.passkey, Person: r.person.ID, Name: "Phone", CredentialID: []byte(r.passkey), PublicKey: []byte{1}, RPID: "id.example.com"}})
	five := assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}
	r.rs = client.Client{ID: id.New(id.Client), ClientID: "notes-api", Name: "Notes API", AuthMethod: client.AuthSecretBasic}
	r.rsSecret = r.secretOf(&r.rs)
	r.notes = resource.Resource{ID: id.New(id.Resource), URI: "https://notes.example.com", Name: "Notes", Servers: []string{r.rs.ID}, Scopes: []resource.Scope{
		{Name: "notes:read", Description: "Read your notes", Kind: "read", Default: true},
		{Name: "notes:write", Description: "Change your notes", Kind: "change"},
		{Name: "keys:rotate", Description: "Rotate keys", Kind: "admin", Ask: five},
		{Name: "vault:open", Description: "Open the vault", Kind: "admin", Ask: assurance.Ask{Rung: assurance.Hardware}},
		{Name: "team:lead", Description: "Lead the team", Kind: "admin", Groups: []string{"release"}},
	}}
	r.bound = resource.Resource{ID: id.New(id.Resource), URI: "https://bound.example.com/api", Name: "Bound", RequireDPoP: true, Scopes: []resource.Scope{{Name: "bound:read", Kind: "read"}}}
	r.foreign = resource.Resource{ID: id.New(id.Resource), URI: "https://foreign.example.com", Name: "Foreign", Scopes: []resource.Scope{{Name: "foreign:read", Kind: "read"}}}
	code := []client.GrantType{client.AuthorizationCode, client.RefreshToken, client.DeviceCode}
	scopes := []string{"notes:read", "notes:write", "keys:rotate", "vault:open", "team:lead", "bound:read"}
	at := []string{r.notes.ID, r.bound.ID}
	r.app = client.Client{
		ID: id.New(id.Client), ClientID: "app", Name: "App", AuthMethod: client.AuthNone, FirstParty: true, GrantTypes: code, Scopes: scopes, Resources: at,
		RedirectURIs: []string{"http://127.0.0.1/cb", "http://[::1]/cb", "com.example.app:/cb"},
	}
	r.web = client.Client{
		ID: id.New(id.Client), ClientID: "web:1", Name: "Web", AuthMethod: client.AuthSecretBasic, FirstParty: true, GrantTypes: code, Scopes: scopes, Resources: at,
		RedirectURIs: []string{"https://web.example.com/cb?tenant=a%20b"},
	}
	r.webSecret = r.secretOf(&r.web)
	r.first = client.Client{
		ID: id.New(id.Client), ClientID: "keyed", Name: "Keyed", AuthMethod: client.AuthNone, Native: true, FirstParty: true, RequireDPoP: true, GrantTypes: code, Scopes: []string{"*"}, Resources: []string{"*"},
		RedirectURIs: []string{"http://127.0.0.1/cb"},
	}
	r.plain = client.Client{
		ID: id.New(id.Client), ClientID: "third", Name: "Third party", AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.AuthorizationCode, client.DeviceCode}, Scopes: scopes, Resources: at,
		RedirectURIs: []string{"https://third.example.com/cb"},
	}
	r.service = client.Service{ID: id.New(id.Service), Subject: id.Random("svc_"), Name: "Nightly", Owner: r.other.ID, Purpose: "tests", ReviewBy: start.AddDate(1, 0, 0)}
	r.svc = client.Client{
		ID: id.New(id.Client), ClientID: "nightly", Name: "Nightly", AuthMethod: client.AuthSecretPost, GrantTypes: []client.GrantType{client.ClientCredentials},
		Scopes: []string{"notes:read", "notes:write", "keys:rotate"}, Resources: []string{r.notes.ID},
	}
	r.svcSecret = r.secretOf(&r.svc)
	key := got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r)
	r.jwtKey = key
	set := got(json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{KeyID: "k1", Algorithm: "ES256", Key: key.Public()}}}))(r)
	r.jwt = client.Client{
		ID: id.New(id.Client), ClientID: "jwt", Name: "Signed", AuthMethod: client.AuthPrivateKeyJWT, JWKS: set, FirstParty: true,
		GrantTypes: append([]client.GrantType{client.ClientCredentials}, code...), Scopes: scopes, Resources: []string{r.notes.ID},
		RedirectURIs: []string{"https://jwt.example.com/cb"},
	}
	list := []act.Change{resource.Create{Resource: r.notes}, resource.Create{Resource: r.bound}, resource.Create{Resource: r.foreign}}
	for _, c := range []client.Client{r.app, r.web, r.first, r.plain, r.rs} {
		list = append(list, client.Create{Client: c})
	}
	jwtService := client.Service{ID: id.New(id.Service), Subject: id.Random("svc_"), Name: "Signed", Owner: r.other.ID, Purpose: "tests", ReviewBy: start.AddDate(1, 0, 0)}
	r.svc.Service, r.jwt.Service = r.service.ID, jwtService.ID
	list = append(list, client.Create{Client: r.svc, NewService: &r.service}, client.Create{Client: r.jwt, NewService: &jwtService})
	r.do(audit.ClientCreated, list...)
}

func (r *rig) secretOf(c *client.Client) string {
	v := secret.New(secret.ClientSecret)
	h := v.Hash()
	c.SecretHash = &h
	return v.Reveal()
}

// proof is a use of the passkey now; hardware makes it one that reaches phrh.
func (r *rig) proof(who account.Person, credential string, hardware bool) assurance.Proof {
	return assurance.Proof{
		Method: assurance.Passkey, Subject: who.ID, Credential: credential, At: r.clock.now(), UserVerified: true, PhishingResistant: true,
		Synced: !hardware, HardwareBound: hardware, Attested: hardware, Source: "store:" + credential,
	}
}

// signIn opens a session in a new browser.
func (r *rig) signIn(who account.Person, credential string, hardware bool) string {
	r.Helper()
	now := r.clock.now()
	p := r.proof(who, credential, hardware)
	dev := session.Device{ID: id.New(id.Device), Label: "Firefox on Linux", CreatedAt: now}
	open := session.Open{
		Session: session.Session{
			ID: id.New(id.Session), Person: who.ID, Device: dev.ID, Proofs: []assurance.Proof{p}, CreatedAt: now, SeenAt: now,
			ExpiresAt: now.Add(session.Lifetime), IdleUntil: now.Add(session.Lifetime),
		},
		SecretHash: secret.New(secret.Session).Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash(), Credentials: []string{credential},
	}
	_, err := r.nodes[0].server.Do.Do(context.Background(), act.Intent{
		Action: policy.SessionOpen, Kind: audit.SessionOpened, Refs: act.Refs{Kind: policy.KindPerson, Actor: who.ID, Credential: []string{credential}}, Proofs: []assurance.Proof{p},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{open}, Leaf: open.ID}, nil
		},
	})
	ok(r, err)
	return open.ID
}

// prove is a finished step-up for an interaction.
func (r *rig) prove(ref string, hardware bool) {
	r.Helper()
	ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
	p := r.proof(r.person, r.passkey, hardware)
	p.For = For(ref)
	r.do(audit.StepUpDone, session.Prove{ID: r.ses, Proofs: append(ses.Proofs, p)})
}

// end and freeze stop a node.
func (r *rig) end(id string) { r.Helper(); r.do(audit.GrantEnded, lineage.End{ID: id, Why: "test"}) }

func (r *rig) freeze(id string) {
	r.Helper()
	r.do(audit.GrantEnded, lineage.Freeze{ID: id, Why: "test"})
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return m
}

// code is the error code of a JSON answer, "" for a success.
func (a answer) code() string {
	var m struct{ Error string }
	_ = json.Unmarshal([]byte(a.body), &m)
	return m.Error
}

// to is where a redirect goes.
func (a answer) to(t testing.TB) *url.URL {
	t.Helper()
	if a.status != http.StatusSeeOther {
		t.Fatalf("no redirect: %d %s", a.status, a.body)
	}
	return got(url.Parse(a.header.Get("Location")))(t)
}

type option func(*http.Request)

func with(name, value string) option { return func(q *http.Request) { q.Header.Add(name, value) } }
func basic(id, pass string) option   { return func(q *http.Request) { q.SetBasicAuth(id, pass) } }
func in(ses string) option           { return with(headerSession, ses) }

func (r *rig) send(n int, method, path, typ string, body io.Reader, opts ...option) answer {
	q, err := http.NewRequest(method, r.nodes[n].http.URL+path, body)
	if err != nil {
		r.Error(err)
		return answer{}
	}
	if typ != "" {
		q.Header.Set("Content-Type", typ)
	}
	for _, o := range opts {
		o(q)
	}
	res, err := r.keep.Do(q)
	if err != nil {
		r.Error(err)
		return answer{}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.Error(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

const formType = "application/x-www-form-urlencoded"

func (r *rig) get(path string, opts ...option) answer {
	return r.send(0, "GET", path, "", nil, opts...)
}

func (r *rig) post(path string, f url.Values, opts ...option) answer {
	return r.send(0, "POST", path, formType, strings.NewReader(f.Encode()), opts...)
}

// form makes parameters; an empty value takes one away from what came before.
func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

func change(f url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, v := range f {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if out.Del(pairs[i]); pairs[i+1] != "" {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return out
}

// request is a good authorization request of a client.
func (r *rig) request(c client.Client, pairs ...string) url.Values {
	to := c.RedirectURIs[0]
	if isLoopback(to) {
		to = "http://127.0.0.1:49152/cb"
	}
	return change(form("client_id", c.ClientID, "response_type", "code", "redirect_uri", to, "state", "s t&ate=%", "code_challenge", r.verifierDigest,
		"code_challenge_method", "S256", "scope", "openid notes:read", "resource", r.notes.URI), pairs...)
}

func (r *rig) authorize(f url.Values, opts ...option) answer {
	return r.get("/oauth/authorize?"+f.Encode(), opts...)
}

// reference finds the interaction in a redirect to a page.
func (a answer) page(t testing.TB) (name, ref string) {
	t.Helper()
	u := a.to(t)
	if u.Host != "" || !strings.HasPrefix(u.Path, "/page/") {
		t.Fatalf("not a page: %s", u)
	}
	return strings.TrimPrefix(u.Path, "/page/"), u.Query().Get("tx")
}

func (r *rig) resume(ref string, opts ...option) answer {
	return r.get("/oauth/continue?tx="+url.QueryEscape(ref), append(opts, in(r.ses))...)
}

// code authorizes and gives the code.
func (r *rig) code(c client.Client, pairs ...string) string {
	r.Helper()
	a := r.authorize(r.request(c, pairs...), in(r.ses))
	if c.Native && strings.HasPrefix(a.header.Get("Location"), "/page/step_up") { // somebody has to be there
		_, ref := a.page(r)
		r.prove(ref, false)
		a = r.resume(ref)
	}
	code := a.to(r).Query().Get("code")
	if code == "" {
		r.Fatalf("no code: %s", a.header.Get("Location"))
	}
	return code
}

// redemption is a good token request for a code.
func (r *rig) redemption(c client.Client, code string) url.Values {
	f := form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier)
	if c.AuthMethod == client.AuthNone {
		f.Set("client_id", c.ClientID)
	}
	return f
}

// auth is how a client authenticates.
func (r *rig) auth(c client.Client) option {
	switch c.ID {
	case r.web.ID:
		return basic(url.QueryEscape(c.ClientID), r.webSecret)
	case r.svc.ID:
		return basic(c.ClientID, r.svcSecret)
	case r.rs.ID:
		return basic(c.ClientID, r.rsSecret)
	}
	return func(*http.Request) {}
}

// asserted adds a client assertion to a form.
func (r *rig) asserted(f url.Values) url.Values {
	r.Helper()
	return change(f, "client_assertion_type", assertionType, "client_assertion", r.assertion(func(*jose.ClientAssertionClaims) {}))
}

func (r *rig) assertion(edit func(*jose.ClientAssertionClaims)) string {
	r.Helper()
	c := jose.ClientAssertionClaims{
		Issuer: "jwt", Subject: "jwt", Audience: jose.Audience{issuer}, JTI: rand.Text(), IssuedAt: jose.Date(r.clock.now()), ExpiresAt: jose.Date(r.clock.now().Add(time.Minute)),
	}
	edit(&c)
	s := got(jose.NewSigner(r.jwtKey, "ES256", "k1", jose.TypClientAssertion))(r)
	return got(s.Sign(c))(r)
}

// tokens is a success of the token endpoint.
func (r *rig) tokens(a answer) tokenResponse {
	r.Helper()
	var t tokenResponse
	if a.status != http.StatusOK {
		r.Fatalf("no tokens: %d %s", a.status, a.body)
	}
	ok(r, json.Unmarshal([]byte(a.body), &t))
	return t
}

// granted walks the whole way to the first tokens.
func (r *rig) granted(c client.Client, pairs ...string) tokenResponse {
	r.Helper()
	return r.tokens(r.post("/oauth/token", r.redemption(c, r.code(c, pairs...)), r.auth(c)))
}

func (r *rig) refresh(c client.Client, token string, pairs ...string) answer {
	f := change(form("grant_type", "refresh_token", "refresh_token", token), pairs...)
	if c.AuthMethod == client.AuthNone {
		f.Set("client_id", c.ClientID)
	}
	return r.post("/oauth/token", f, r.auth(c))
}

// claims reads an access token as its resource server would.
func (r *rig) claims(token string) *jose.AccessTokenClaims {
	r.Helper()
	return got(jose.VerifyAccessToken(token, r.nodes[0].server.Keys, jose.AccessTokenWant{Issuer: issuer, AnyAudience: true, Now: r.clock.now()}))(r)
}

func (r *rig) idToken(token, clientID string) *jose.IDTokenClaims {
	r.Helper()
	return got(jose.VerifyIDToken(token, r.nodes[0].server.Keys, jose.IDTokenWant{Issuer: issuer, ClientID: clientID, Now: r.clock.now()}))(r)
}

// active asks as the resource's enforcement point.
func (r *rig) active(token string) bool {
	r.Helper()
	a := r.post("/oauth/introspect", form("token", token), r.auth(r.rs))
	if a.status != http.StatusOK {
		r.Fatalf("introspection: %d %s", a.status, a.body)
	}
	return a.json(r)["active"] == true
}

// prover is a virtual DPoP client: a key, and the last nonce it was given.
type prover struct {
	r     *rig
	key   crypto.Signer
	mu    sync.Mutex
	nonce string
}

func (r *rig) prover() *prover {
	r.Helper()
	return &prover{r: r, key: got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r)}
}

func (p *prover) jkt() string { p.r.Helper(); return got(jose.Thumbprint(p.key.Public()))(p.r) }

func (p *prover) make(method, path, token string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return got(jose.MakeDPoP(p.key, method, issuer+path, p.nonce, token, p.r.clock.now()))(p.r)
}

// post sends a form with a proof, and again with the nonce if it is told to.
func (p *prover) post(path string, f url.Values, opts ...option) answer {
	p.r.Helper()
	return p.send("POST", path, f, "", opts...)
}

func (p *prover) send(method, path string, f url.Values, token string, opts ...option) answer {
	p.r.Helper()
	for try := 0; ; try++ {
		a := p.r.send(0, method, path, map[bool]string{true: formType}[method == "POST"], strings.NewReader(f.Encode()), append(opts, with("DPoP", p.make(method, path, token)))...)
		if n := a.header.Get("DPoP-Nonce"); n != "" {
			p.mu.Lock()
			p.nonce = n
			p.mu.Unlock()
		}
		if try == 1 || !strings.Contains(a.body+a.header.Get("WWW-Authenticate"), "use_dpop_nonce") {
			return a
		}
	}
}

// seedAgain makes new people and clients, so that what was ended does not matter.
// What is known by name (the resources, their enforcement point) stays.
func (r *rig) seedAgain() {
	r.Helper()
	r.serial++
	suffix := fmt.Sprintf("-%d", r.serial)
	r.person.ID, r.person.Subject, r.person.Username = id.New(id.Person), id.Random("sub_"), "dana"+suffix
	r.other.ID, r.other.Subject, r.other.Username = id.New(id.Person), id.Random("sub_"), "sam"+suffix
	r.passkey = id.New(id.Credential)
	r.service.ID, r.service.Subject, r.service.Owner = id.New(id.Service), id.Random("svc_"), r.other.ID
	list := []act.Change{
		account.Create{Person: r.person},
		account.Create{Person: r.other},
		factor.Enrol{Passkey: factor.Passkey{ID: r.passkey, Person: r.person.ID, Name: "Phone", CredentialID: []byte(r.passkey), PublicKey: []byte{1}, RPID: "id.example.com"}},
	}
	for _, c := range []*client.Client{&r.app, &r.plain, &r.svc} {
		name, _, _ := strings.Cut(c.ClientID, "-")
		c.ID, c.ClientID = id.New(id.Client), name+suffix
	}
	r.svc.Service = r.service.ID
	list = append(list, client.Create{Client: r.app}, client.Create{Client: r.plain}, client.Create{Client: r.svc, NewService: &r.service})
	r.do(audit.ClientCreated, list...)
}

// familyOf finds the family and the grant of a refresh token.
func (r *rig) familyOf(token string) (family, grantID string) {
	r.Helper()
	tok := got(grant.ReadToken(token, r.nodes[0].server.Keys))(r)
	f := got(r.nodes[0].store.Family(context.Background(), tok.FamilyID()))(r)
	return f.ID, f.Grant
}
