package portal_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/internal/web"
	"github.com/countersign-dev/countersign/test/pgtest"
)

const issuer = "http://localhost:8080"

// clock is the time of a rig; it moves with the real one, and by hand.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// rig is the real portal on a real database, with a sequencer that signs the log.
type rig struct {
	t        *testing.T
	clock    *clock
	store    *store.Store
	do       *act.Doer
	server   *portal.Server
	http     *httptest.Server
	admins   string
	patterns []string
	log      bytes.Buffer
	stopped  chan struct{}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	return newRigOn(t, func(ctx context.Context, now func() time.Time) (*store.Store, error) {
		return sqlite.Open(ctx, sqlite.Options{Path: path, Migrate: true, Now: now})
	})
}

// newRigOn is a rig on another database than SQLite.
func newRigOn(t *testing.T, open func(context.Context, func() time.Time) (*store.Store, error)) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{}, stopped: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	dir := t.TempDir()
	db, err := open(ctx, r.clock.now)
	check(t, err)
	sealer, err := hsm.OpenOrCreateFile(filepath.Join(dir, "kek"))
	check(t, err)
	ring, err := keyring.Open(ctx, db, sealer, r.clock.now)
	check(t, err)
	keys := db.RecordKeys(sealer)
	r.store = db
	r.do = &act.Doer{Store: db, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: keys, Now: r.clock.now}
	missing, err := ring.Missing()
	check(t, err)
	var add []act.Change
	for _, k := range missing {
		if k.Alg != "RS256" {
			add = append(add, keyring.Add{Key: k})
		}
	}
	r.admins = id.New(id.Group)
	r.seed(audit.GroupCreated, append(add, group.Create{Group: group.Group{ID: r.admins, Name: group.Administrators}})...)
	check(t, ring.Reload(ctx))
	r.do.Checkpoint = r.sequence(ctx, ring).CheckpointNow
	ceremony, err := factor.NewCeremony("localhost", issuer, ring.Nonces)
	check(t, err)
	r.server = &portal.Server{
		Passwords: factor.NewPasswords(sealer, factor.NewBlocklist(issuer)), Codes: factor.NewCodes(sealer),
		Issuer: issuer, Do: r.do, Store: db, Log: logOf{db, keys}, Ceremony: ceremony, Sealed: ring, Ladder: assurance.Default(),
		For: func(ref string) string { return ref }, ClientAddr: func(*http.Request) netip.Addr { return netip.MustParseAddr("198.51.100.7") },
		Recovery: portal.Recovery{CancelKeys: ring.Nonces}, Now: r.clock.now,
	}
	book := &ruleset.Book{Store: db, Rollouts: db}
	r.do.Rulesets, r.do.Candidates = book.Set, book.Candidate
	r.server.Rollouts = rolloutsOn(db, book, keys)
	r.serve()
	t.Cleanup(func() {
		r.http.Close()
		stop()
		<-r.stopped
		check(t, db.Close())
	})
	return r
}

// sequence runs the log's sequencer.
func (r *rig) sequence(ctx context.Context, ring *keyring.Ring) *store.Sequencer {
	key, err := ring.LogKey()
	check(r.t, err)
	origin, err := audit.Origin(issuer, 1)
	check(r.t, err)
	signer, err := audit.NewCheckpointSigner(origin, key)
	check(r.t, err)
	q := r.store.Sequencer(store.SequencerOptions{Origin: origin, Rest: time.Millisecond, Sign: func(origin string, size uint64, root [32]byte) ([]byte, error) {
		return audit.SignCheckpoint(signer, origin, size, root)
	}})
	go func() { defer close(r.stopped); q.Run(ctx) }()
	return q
}

// serve puts the routes behind what the server has in front of them.
func (r *rig) serve() {
	mux := http.NewServeMux()
	r.server.Routes(func(pattern string, h web.Handler) {
		r.patterns = append(r.patterns, pattern)
		mux.Handle(pattern, h.With(r.server.RenderError))
	})
	origin, err := web.NewOriginCheck(issuer)
	check(r.t, err)
	guarded := web.Handler(func(w http.ResponseWriter, req *http.Request) error {
		if err := origin.Check(req); err != nil {
			return err
		}
		mux.ServeHTTP(w, req)
		return nil
	}).With(r.server.RenderError)
	r.http = httptest.NewServer(web.Recorder{Log: slog.New(slog.NewTextHandler(&r.log, nil))}.Wrap(guarded))
}

// seed changes something as the server itself.
func (r *rig) seed(kind audit.Kind, changes ...act.Change) {
	r.t.Helper()
	_, err := r.do.Do(context.Background(), act.Intent{
		Action: policy.SandboxSeed, Kind: kind, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: changes}, nil },
	})
	check(r.t, err)
}

// setupLink issues a setup link and gives its secret.
func (r *rig) setupLink() string {
	r.t.Helper()
	put, link := account.NewSetupLink(issuer, r.clock.now())
	r.seed(audit.WriterStarted, put)
	return link[strings.IndexByte(link, '#')+1:]
}

// logOf reads the log out of the store.
type logOf struct {
	s    *store.Store
	keys *store.RecordKeys
}

func (l logOf) Page(ctx context.Context, person, before string, n int) (lines []audit.Line, more string, err error) {
	f := store.Filter{Before: before}
	if person != "" {
		var ok bool
		if f.Person, ok, err = l.s.PseudonymOf(ctx, person); err != nil || !ok {
			return nil, "", err
		}
	}
	page, more, err := l.s.AuditPage(ctx, f, n)
	if err != nil {
		return nil, "", err
	}
	for _, rec := range page {
		parts, err := audit.Open(ctx, rec.Row, l.keys)
		if err != nil {
			return nil, "", err
		}
		lines = append(lines, audit.LineOf(rec.Seq, rec.Row, parts, func(id string) string {
			if p, err := l.s.Person(ctx, id); err == nil {
				return p.Name
			}
			return ""
		}))
	}
	return lines, more, nil
}

// kinds are the kinds of the records in the log, oldest first.
func (r *rig) kinds() (out []audit.Kind) {
	r.t.Helper()
	page, _, err := r.store.AuditPage(context.Background(), store.Filter{}, 1000)
	check(r.t, err)
	for i := range page {
		out = append(out, page[len(page)-1-i].Kind)
	}
	return out
}

// browser is somebody's browser with passkeys.
type browser struct {
	*rig
	client *http.Client
	auth   virtualwebauthn.Authenticator
	handle []byte
	agent  string // how it names itself; "" is a usual one
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	check(r.t, err)
	return &browser{rig: r, auth: virtualwebauthn.NewAuthenticator(), client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

var rp = virtualwebauthn.RelyingParty{Name: "Countersign", ID: "localhost", Origin: issuer}

// answer is what came back.
type answer struct {
	status   int
	body     string
	location string
	cookies  []*http.Cookie
}

func (b *browser) send(method, path, contentType, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.http.URL+path, strings.NewReader(body))
	check(b.t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("User-Agent", cmp.Or(b.agent, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"))
	if method == "POST" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			for _, c := range b.client.Jar.Cookies(req.URL) { // the client picks cookies by Host
				req.AddCookie(c)
			}
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(req)
	check(b.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(b.t, err)
	return answer{res.StatusCode, string(text), res.Header.Get("Location"), res.Cookies()}
}

func (b *browser) get(path string, header ...string) answer {
	b.t.Helper()
	return b.send("GET", path, "", "", header...)
}

func (b *browser) post(path string, pairs ...string) answer {
	b.t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return b.send("POST", path, "application/x-www-form-urlencoded", q.Encode())
}

// script posts what the pages' script posts.
func (b *browser) script(path string, fields map[string]any) answer {
	b.t.Helper()
	body, err := json.Marshal(fields)
	check(b.t, err)
	return b.send("POST", path, "application/json", string(body))
}

// to is the location that the script is told; the test fails if there is none.
func (a answer) to(t *testing.T) string {
	t.Helper()
	var out struct{ Location string }
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 200 || out.Location == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return out.Location
}

// failed is the title of the error that the script is told.
func (a answer) failed(t *testing.T) string {
	t.Helper()
	var out struct{ Error struct{ Title string } }
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status < 400 || out.Error.Title == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return out.Error.Title
}

var titled = regexp.MustCompile(`<title>([^<]*)</title>`)

// title is the title of a page.
func (a answer) title() string {
	m := titled.FindStringSubmatch(a.body)
	if m == nil {
		return fmt.Sprintf("(no title; %d to %s)", a.status, a.location)
	}
	return html.UnescapeString(m[1])
}

// shows fails the test unless a page of that status has the title.
func (a answer) shows(t *testing.T, status int, title string) {
	t.Helper()
	if a.status != status || !strings.HasPrefix(a.title(), title) {
		t.Errorf("%d %q, want %d %q", a.status, a.title(), status, title)
	}
}

// sent fails the test unless the answer is a redirect to the path.
func (a answer) sent(t *testing.T, prefix string) string {
	t.Helper()
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, prefix) {
		t.Fatalf("%d to %q, want a redirect to %s\n%s", a.status, a.location, prefix, a.title())
	}
	return a.location
}

// field is the value of a hidden field of a page.
func (a answer) field(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("the page %q has no field %s", a.title(), name)
	}
	return html.UnescapeString(m[1])
}

// attest makes a new passkey for creation options; the answer is the credential.
func (b *browser) attest(options answer) (virtualwebauthn.Credential, json.RawMessage) {
	b.t.Helper()
	if options.status != 200 {
		b.t.Fatalf("options: %d %s", options.status, options.body)
	}
	o, err := virtualwebauthn.ParseAttestationOptions(options.body)
	check(b.t, err)
	cred := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(cred.Key.AttestationData()) != 77 { // the library drops leading zeros of coordinates
		cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	b.handle = []byte(o.UserID)
	return cred, json.RawMessage(virtualwebauthn.CreateAttestationResponse(rp, b.auth, cred, *o))
}

// create runs a whole creation ceremony.
func (b *browser) create(options, finish string, fields map[string]any) answer {
	b.t.Helper()
	cred, made := b.attest(b.script(options, fields))
	with := map[string]any{"credential": made}
	for k, v := range fields {
		with[k] = v
	}
	a := b.script(finish, with)
	if a.status == 200 {
		b.auth.AddCredential(cred)
	}
	return a
}

// assert runs a whole assertion ceremony with a passkey.
func (b *browser) assert(options, finish string, cred int, fields map[string]any) answer {
	b.t.Helper()
	a := b.script(options, fields)
	if a.status != 200 {
		b.t.Fatalf("options: %d %s", a.status, a.body)
	}
	o, err := virtualwebauthn.ParseAssertionOptions(a.body)
	check(b.t, err)
	b.auth.Options.UserHandle = b.handle
	b.auth.Credentials[cred].Counter++
	with := map[string]any{"credential": json.RawMessage(virtualwebauthn.CreateAssertionResponse(rp, b.auth, b.auth.Credentials[cred], *o))}
	for k, v := range fields {
		with[k] = v
	}
	return b.script(finish, with)
}

func (b *browser) signIn(cred int) answer {
	b.t.Helper()
	return b.assert("/signin/options", "/signin/finish", cred, map[string]any{"next": "/account"})
}

func (b *browser) stepUp(cred int, next string) {
	b.t.Helper()
	if to := b.assert("/step-up/options", "/step-up/finish", cred, map[string]any{"next": next}).to(b.t); to != next {
		b.t.Fatalf("the step-up leads to %s, not %s", to, next)
	}
}

// setUp goes through the setup as Dana, with one passkey.
func (b *browser) setUp() {
	b.t.Helper()
	page := b.script("/setup/open", map[string]any{"secret": b.setupLink()}).to(b.t)
	tx := b.get(page).field(b.t, "tx")
	page = b.post("/setup/name", "tx", tx, "display_name", "Dana Example", "username", "dana@example.com").sent(b.t, "/setup/passkey?tx=")
	tx = b.get(page).field(b.t, "tx")
	if to := b.create("/setup/passkey/options", "/setup/passkey/finish", map[string]any{"tx": tx, "passkey_name": "Laptop"}).to(b.t); to != "/setup/second" {
		b.t.Fatalf("the setup leads to %s", to)
	}
}

// person is somebody, found by user name.
func (r *rig) person(username string) account.Person {
	r.t.Helper()
	p, err := r.store.PersonByUsername(context.Background(), username)
	check(r.t, err)
	return p
}

func (r *rig) nobody(username string) {
	r.t.Helper()
	if _, err := r.store.PersonByUsername(context.Background(), username); problem.From(err) == nil || problem.From(err).Kind != problem.NotFound {
		r.t.Errorf("there is a person %s (%v)", username, err)
	}
}

// invite makes an invitation as somebody signed in and gives its secret.
func (b *browser) invite(name, email, role string) string {
	b.t.Helper()
	a := b.post("/admin/invite", "display_name", name, "email", email, "role", role)
	m := regexp.MustCompile(regexp.QuoteMeta(issuer) + `/invite#(cs_invite_\w+)`).FindStringSubmatch(a.body)
	if a.status != 200 || m == nil {
		b.t.Fatalf("no link: %d %s to %s", a.status, a.title(), a.location)
	}
	return m[1]
}

// accept goes through an invitation with one passkey.
func (b *browser) accept(link, name, username string) answer {
	b.t.Helper()
	tx := b.get(b.script("/invite/open", map[string]any{"secret": link}).to(b.t)).field(b.t, "tx")
	return b.create("/invite/options", "/invite/finish", map[string]any{"tx": tx, "display_name": name, "username": username, "passkey_name": "Phone"})
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// rolloutsOn is what the pages about policies stand on.
func rolloutsOn(db *store.Store, book *ruleset.Book, keys audit.Unsealer) *portal.Rollouts {
	return &portal.Rollouts{Store: db, Book: book, Desk: deskOn(db), Monitored: func(ctx context.Context, since time.Time, before string, n int) (replay.Monitored, error) {
		return db.Monitored(ctx, keys, since, before, n)
	}}
}
