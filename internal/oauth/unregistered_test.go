package oauth

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// site serves documents over TLS, on a loopback address.
type site struct {
	*httptest.Server
	url    string // of the document
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func (r *rig) site() *site {
	s := &site{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, q)
	}))
	r.Cleanup(s.Close)
	s.url = s.URL + "/client.json"
	return s
}

func (s *site) serves(f http.HandlerFunc) { s.answer.Store(&f) }

// publishes serves a document with members put in.
func (s *site) publishes(header string, pairs ...string) {
	m := map[string]any{
		"client_id": s.url, "client_name": "Example", "redirect_uris": []string{"https://localhost/cb", "http://127.0.0.1/cb"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none",
	}
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i]] = json.RawMessage(pairs[i+1]); pairs[i+1] == "" {
			delete(m, pairs[i])
		}
	}
	s.serves(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if header != "" {
			w.Header().Set("Cache-Control", header)
		}
		_ = json.NewEncoder(w).Encode(m)
	})
}

// open switches unregistered clients on, fetched through the guard; the test's
// loopback server is allowed by name, as an administrator would.
func (r *rig) open(o client.Openness, sites ...*site) {
	r.Helper()
	guard := web.Egress{MaxBytes: client.MaxAnnounced, Timeout: 3 * time.Second, CAs: x509.NewCertPool()}
	for _, s := range sites {
		u := got(url.Parse(s.url))(r)
		guard.Allow = append(guard.Allow, u.Host)
		guard.CAs.AddCert(s.Certificate())
	}
	for _, n := range r.nodes {
		n.server.Fetch = guard.Client()
		n.server.FetchAllowed = n.server.Fetch
	}
	r.do(audit.ClientsAdmitted, client.SetOpenness{Openness: o})
}

var everything = client.Openness{Documents: client.Anyone, Registration: true, Resources: []string{"*"}, Scopes: []string{"*"}}

// agree is the consent page: it stores the client and what was agreed to.
func (r *rig) agree(ref string) client.Client {
	r.Helper()
	s := r.nodes[0].server
	req := httptest.NewRequest("GET", "/consent", nil)
	ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
	p := got(s.Pending(httptest.NewRecorder(), req, ref, &ses))(r)
	if p.Next != grant.NextConsent {
		r.Fatalf("next is %s", p.Next)
	}
	app := p.App
	c := grant.Consent{ID: id.New("cns_"), Person: r.person.ID, Digest: app.Digest, At: r.clock.now(), Resources: p.Resources}
	for _, sc := range p.Scopes {
		c.Scopes = append(c.Scopes, grant.Agreed(sc.At, sc.Name))
	}
	if app.ID == "" {
		app.ID = id.New(id.Client)
		r.do(audit.ConsentGiven, client.Create{Client: app})
	} else if app.Source == client.FromDocument {
		r.do(audit.ConsentGiven, client.Update{Client: app})
	}
	if c.Client = app.ID; p.Remembered != nil && p.Remembered.Client == app.ID {
		c.ID = p.Remembered.ID
	}
	r.do(audit.ConsentGiven, grant.Remember{Consent: c})
	return app
}

// walk takes an authorization request through all that a person does, to the code.
func (r *rig) walk(f url.Values) string {
	r.Helper()
	a := r.authorize(f, in(r.ses))
	for range 4 {
		to := a.to(r)
		if code := to.Query().Get("code"); code != "" {
			return code
		}
		name, ref := a.page(r)
		switch name {
		case "step_up":
			r.prove(ref, false)
		case "consent":
			r.clock.move(time.Millisecond)
			r.agree(ref)
		default:
			r.Fatalf("the page %s", name)
		}
		a = r.resume(ref)
	}
	r.Fatal("it does not end")
	return ""
}

func (r *rig) asksAs(clientID, redirect string, pairs ...string) url.Values {
	return change(r.request(r.plain, "client_id", clientID, "redirect_uri", redirect), pairs...)
}

// rows counts what strangers could have written.
func (r *rig) rows() string {
	n := 0
	for after := ""; ; {
		list := got(r.nodes[0].store.Clients(context.Background(), after, 100))(r)
		n += len(list)
		if len(list) < 100 {
			break
		}
		after = list[len(list)-1].ID
	}
	counts := got(r.nodes[0].store.Counts(context.Background()))(r)
	return fmt.Sprint(n, " clients, ", counts.Pending+counts.Records, " records")
}

func TestClientByDocument(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		s := r.site()
		s.publishes("max-age=600")
		r.open(everything, s)
		before := r.rows()
		a := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses))
		if name, _ := a.page(r); name != "consent" {
			r.Fatalf("the page %s", name)
		}
		r.authorize(r.asksAs(s.url, "http://127.0.0.1:49152/cb"))
		if now := r.rows(); now != before {
			r.Errorf("before anybody agreed: %s, and then %s", before, now)
		}
		tok := r.tokens(r.post("/oauth/token", form("grant_type", "authorization_code", "code", r.walk(r.asksAs(s.url, "http://127.0.0.1:49152/cb")), "code_verifier", r.verifier, "client_id", s.url)))
		if c := r.claims(tok.AccessToken); c.ClientID != s.url {
			r.Errorf("the token is of %s", c.ClientID)
		}
		r.idToken(tok.IDToken, s.url)
		if s.asked.Load() != 1 {
			r.Errorf("fetched %d times", s.asked.Load())
		}
		// A refresh needs no document, and works after the site is gone for good.
		s.serves(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusNotFound) })
		r.clock.move(30 * time.Hour)
		tok = r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", s.url)))
		// It asks each time, and says that nothing changed.
		r.ses = r.signIn(r.person, r.passkey, false)
		_, ref := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)).page(r)
		ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
		p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), ref, &ses))(r)
		if p.Next != grant.NextConsent || p.Changed || p.Remembered == nil || p.Scopes[0].New {
			r.Errorf("%s %v %v", p.Next, p.Changed, p.Remembered)
		}
		// Clear of what manages the deployment.
		r.expectPage("client_id of nobody", "client_unknown", r.authorize(r.asksAs("dyn_x", "https://localhost/cb")))
		if a := r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", s.url+"x")); a.status != 401 || a.json(r)["error"] != "invalid_client" {
			r.Errorf("%d %s", a.status, a.body)
		}
	})
}

// expectPage wants an error that is shown and not sent back.
func (r *rig) expectPage(what, code string, a answer) {
	r.Helper()
	if a.body != "page: "+code {
		r.Errorf("%s: %d %s %s", what, a.status, a.body, a.header.Get("Location"))
	}
}

// TestDocumentsThatAreRefused: what is fetched has to be the client's own word,
// and what cannot be used is not remembered.
func TestDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	r.open(everything, s)
	other := r.site()
	other.publishes("", "client_id", `"`+s.url+`"`)
	for name, c := range map[string]struct {
		code  string
		serve http.HandlerFunc
	}{
		"not found":  {"client_document_unreachable", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }},
		"a redirect": {"client_document_unreachable", func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, other.url, http.StatusFound) }},
		"a redirect to itself": {"client_document_unreachable", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.RawQuery == "" {
				http.Redirect(w, q, s.url+"?again", http.StatusFound)
				return
			}
			other.Config.Handler.ServeHTTP(w, q)
		}},
		"HTML": {"client_document_unreachable", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `{"client_id":%q,"redirect_uris":["https://localhost/cb"]}`, s.url)
		}},
		"too long": {"client_document_unreachable", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"client_id":%q,"redirect_uris":["https://localhost/cb"],"x":%q}`, s.url, strings.Repeat("x", 6<<10))
		}},
		"of another client": {"client_document_invalid", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"client_id":"https://other.example/c","redirect_uris":["https://localhost/cb"]}`)
		}},
		"without a redirect": {"client_document_invalid", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"client_id":%q}`, s.url)
		}},
	} {
		r.clock.move(time.Minute)
		s.serves(c.serve)
		r.expectPage(name, c.code, r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)))
	}
	r.ses = r.signIn(r.person, r.passkey, false)
	s.publishes("") // the control, and the proof that nothing above was remembered
	if name, _ := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)).page(r); name != "consent" {
		r.Error(name)
	}
	r.expectPage("a redirect that is not in it", "redirect_invalid", r.authorize(r.asksAs(s.url, "https://localhost/other"), in(r.ses)))
	r.expectPage("an address with dots", "client_id_invalid", r.authorize(r.asksAs(strings.Replace(s.url, "client.json", "a/../client.json", 1), "https://localhost/cb")))
}

// TestDocumentsInside: the guard keeps the server from being sent to addresses of
// its own network, by name or by number, whatever the name means the second time.
func TestDocumentsInside(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	s.publishes("")
	r.open(everything) // allowed is nothing
	u := got(url.Parse(s.url))(r)
	for _, host := range []string{"localhost:" + u.Port(), "127.0.0.1:" + u.Port(), "10.0.0.1", "169.254.169.254", "0.0.0.0", "localhost.localdomain"} {
		r.expectPage(host, "client_document_unreachable", r.authorize(r.asksAs("https://"+host+"/client.json", "https://localhost/cb")))
	}
	if s.asked.Load() != 0 {
		r.Error("the guard let it through")
	}
	r.open(everything, s)
	if name, _ := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)).page(r); name != "consent" || s.asked.Load() != 1 { // the control
		r.Error(name)
	}
}

// TestDocumentsFromMemory: an answer is kept as long as it says, within bounds;
// what cannot be had again holds on; what changed is noticed.
func TestDocumentsFromMemory(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	r.open(everything, s)
	srv := r.nodes[0].server
	get := func() (client.Client, error) {
		return srv.documentOf(context.Background(), s.url, &asking{http: srv.Fetch})
	}
	for _, c := range []struct {
		header string
		holds  time.Duration
	}{{"max-age=600", 10 * time.Minute}, {"no-store", web.MinFresh}, {"max-age=1", web.MinFresh}, {"public, max-age=999999999", web.MaxFresh}, {"", web.UsualFresh}, {"max-age=x", web.MinFresh}} {
		s.publishes(c.header)
		r.clock.move(48 * time.Hour)
		got(get())(r)
		n := s.asked.Load()
		r.clock.move(c.holds - time.Second)
		got(get())(r)
		if s.asked.Load() != n {
			r.Errorf("%q: asked again too early", c.header)
		}
		r.clock.move(2 * time.Second)
		got(get())(r)
		if s.asked.Load() != n+1 {
			r.Errorf("%q: asked %d times", c.header, s.asked.Load()-n)
		}
	}
	// Stale while it fails, and asked again only every half minute.
	for _, broken := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{") },
		func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"client_id":"https://evil.example/"}`)
		},
	} {
		s.serves(broken)
		r.clock.move(time.Hour)
		n := s.asked.Load()
		for range 5 {
			if c := got(get())(r); c.Name != "Example" {
				r.Errorf("%+v", c)
			}
		}
		if s.asked.Load() != n+1 {
			r.Errorf("asked %d times", s.asked.Load()-n)
		}
	}
	r.clock.move(maxStale + 25*time.Hour)
	if _, err := get(); problem.CodeOf(err) != "client_document_invalid" {
		r.Errorf("after a week: %v", err)
	}
	// An entity tag spares the body.
	s.serves(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "application/json")
		if q.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, `{"client_id":%q,"client_name":"Tagged","redirect_uris":["https://localhost/cb"]}`, s.url)
	})
	r.clock.move(time.Minute)
	got(get())(r)
	r.clock.move(web.UsualFresh + time.Second)
	if c := got(get())(r); c.Name != "Tagged" {
		r.Errorf("%+v", c)
	}
}

// TestOneFetch: however many ask at once, one fetches; and a site that does not
// answer holds up few.
func TestOneFetch(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	r.open(everything, s)
	enough := make(chan struct{})
	s.publishes("")
	good := *s.answer.Load()
	s.serves(func(w http.ResponseWriter, q *http.Request) { <-enough; good(w, q) })
	srv := r.nodes[0].server
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := srv.documentOf(context.Background(), s.url, &asking{http: srv.Fetch}); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	close(enough)
	wg.Wait()
	if s.asked.Load() != 1 {
		r.Errorf("fetched %d times", s.asked.Load())
	}
	// Many addresses at once: no more than the few that may be under way.
	hold := make(chan struct{})
	s.serves(func(w http.ResponseWriter, q *http.Request) { <-hold; w.WriteHeader(404) })
	var busy atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			_, err := srv.documentOf(context.Background(), fmt.Sprintf("%s/%d", s.url, i), &asking{http: srv.Fetch})
			if problem.CodeOf(err) == "client_document_busy" {
				busy.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); busy.Load() < 12-hostFetches && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if busy.Load() < 12-hostFetches {
		r.Errorf("%d were told to wait", busy.Load())
	}
}

// A fetch takes a place of its host and of the network of who asks, so that slow hosts
// and who names them leave the places of others alone.
func TestSlowHosts(t *testing.T) {
	t.Parallel()
	d, hold := &documents{}, make(chan struct{})
	now := func() time.Time { return start }
	slow := func(context.Context, string, string) (*published, error) { <-hold; return nil, unreachable }
	good := func(context.Context, string, string) (*published, error) {
		return &published{client: client.Client{ClientID: "x"}}, nil
	}
	var wg sync.WaitGroup
	begin := func(n int, host, network string) {
		t.Helper()
		for i := range n {
			wg.Go(func() {
				if _, err := d.get(t.Context(), fmt.Sprintf("https://%s/%d", host, i), network, now, slow); problem.CodeOf(err) != unreachable.Code {
					t.Errorf("%s %d: %v", host, i, err)
				}
			})
		}
	}
	held := func(n int) {
		t.Helper()
		for {
			d.mu.Lock()
			all := d.fetching[""]
			d.mu.Unlock()
			if all == n {
				return
			}
			runtime.Gosched()
		}
	}
	ask := func(host, network string) string {
		_, err := d.get(t.Context(), "https://"+host+"/", network, now, good)
		return problem.CodeOf(err)
	}
	begin(hostFetches, "slow.example", "a")
	held(hostFetches)
	if got := ask("slow.example", "b"); got != fetchesBusy.Code {
		t.Errorf("more of a slow host: %q", got)
	}
	begin(networkFetches-hostFetches, "slower.example", "a")
	held(networkFetches)
	if got := ask("good.example", "a"); got != fetchesBusy.Code {
		t.Errorf("more for one network: %q", got)
	}
	if got := ask("good.example", "b"); got != "" {
		t.Errorf("another network, another host: %q", got)
	}
	if got := ask("better.example", ""); got != "" {
		t.Errorf("of an unknown network: %q", got)
	}
	close(hold)
	wg.Wait()
	if got := ask("slow.example", "a"); got != "" || len(d.fetching) != 0 {
		t.Errorf("afterwards: %q, %v", got, d.fetching)
	}
}

// What is within the network is fetched of domains that administrators allowed, and
// of nobody else's.
func TestStrangersDocumentsAreNotWithin(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	s.publishes("")
	r.open(everything, s)
	srv := r.nodes[0].server
	srv.Fetch = web.Egress{MaxBytes: client.MaxAnnounced}.Client()
	r.expectPage("a stranger's", "client_document_unreachable", r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)))
	if s.asked.Load() != 0 {
		t.Errorf("it was asked %d times", s.asked.Load())
	}
	r.do(audit.ClientRuleSet, client.SetRule{Rule: client.Rule{Source: client.FromDocument, Group: client.DocumentHost(s.url), Trust: client.Allowed, At: start}})
	if page, _ := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)).page(t); page != "consent" && page != "step_up" || s.asked.Load() != 1 {
		t.Errorf("an allowed one: %s, asked %d times", page, s.asked.Load())
	}
}

// TestDocumentSwapped: what a person agreed to is one document; another name,
// address or key at the same client_id has to be agreed to again, and a code made
// for the old one goes where it was meant to.
func TestDocumentSwapped(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	s.publishes("max-age=60")
	r.open(everything, s)
	code := r.walk(r.asksAs(s.url, "https://localhost/cb"))
	for name, pairs := range map[string][]string{
		"a name": {"client_name", `"Your Bank"`}, "another address": {"redirect_uris", `["https://localhost/cb","https://evil.example/cb"]`},
	} {
		s.publishes("max-age=60", pairs...)
		r.clock.move(2 * time.Minute)
		r.ses = r.signIn(r.person, r.passkey, false)
		a := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses))
		page, ref := a.page(r)
		ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
		p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), ref, &ses))(r)
		if page != "consent" || !p.Changed || !p.Scopes[0].New {
			r.Errorf("%s: %s %v", name, page, p.Changed)
		}
	}
	// Between the page and the answer: the transaction is judged by what is there.
	s.publishes("max-age=60")
	r.clock.move(2 * time.Minute)
	r.ses = r.signIn(r.person, r.passkey, false)
	_, ref := r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)).page(r)
	r.clock.move(time.Second)
	r.agree(ref)
	s.publishes("max-age=60", "redirect_uris", `["https://evil.example/cb"]`)
	r.clock.move(2 * time.Minute)
	r.expectPage("its address is gone", "redirect_invalid", r.resume(ref))
	r.expect("an old code", 400, "invalid_grant", r.post("/oauth/token", form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", s.url)))
}

// TestDocumentWithKeys: a client that publishes keys uses them, always, as it
// publishes them now.
func TestDocumentWithKeys(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	keys := string(r.jwt.JWKS)
	s.publishes("max-age=60", "jwks", keys, "token_endpoint_auth_method", "")
	r.open(everything, s)
	assertion := func(f url.Values) url.Values {
		return change(f, "client_assertion_type", assertionType, "client_assertion", r.assertion(func(c *jose.ClientAssertionClaims) { c.Issuer, c.Subject = s.url, s.url }))
	}
	before := r.rows()
	pushed := r.post("/oauth/par", assertion(r.asksAs(s.url, "https://localhost/cb")))
	if pushed.status != 201 || r.rows() != before {
		r.Fatalf("%d %s; %s then %s", pushed.status, pushed.body, before, r.rows())
	}
	r.expect("pushed without its key", 401, "invalid_client", r.post("/oauth/par", r.asksAs(s.url, "https://localhost/cb")))
	code := r.walk(form("client_id", s.url, "request_uri", asString(pushed.json(r)["request_uri"])))
	redeem := form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", s.url)
	r.expect("redeemed without its key", 401, "invalid_client", r.post("/oauth/token", redeem))
	tok := r.tokens(r.post("/oauth/token", assertion(redeem)))
	renew := form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", s.url)
	tok = r.tokens(r.post("/oauth/token", assertion(renew)))
	// The key is withdrawn: it proves nothing once the document is read again.
	s.publishes("max-age=60", "jwks", anotherKey, "token_endpoint_auth_method", `"private_key_jwt"`)
	r.clock.move(2 * time.Minute)
	r.expect("with a key that was withdrawn", 401, "invalid_client", r.post("/oauth/token", assertion(renew)))
	// So it does if no other is in its place, and what was stored of it does not count.
	s.publishes("max-age=60", "jwks", keys, "token_endpoint_auth_method", "")
	r.clock.move(2 * time.Minute)
	tok = r.tokens(r.post("/oauth/token", assertion(renew)))
	renew.Set("refresh_token", tok.RefreshToken)
	s.publishes("max-age=60")
	r.clock.move(2 * time.Minute)
	r.expect("with the last key that was withdrawn", 401, "invalid_client", r.post("/oauth/token", assertion(renew)))
	r.expect("without any", 401, "invalid_client", r.post("/oauth/token", renew))
}

// TestDocumentGainsKeys: a client that somebody agreed to while it published no keys uses them
// from when it does; while its document cannot be had it goes on as the server knows it, and
// keeps nobody waiting.
func TestDocumentGainsKeys(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	assertion := func(f url.Values) url.Values {
		return change(f, "client_assertion_type", assertionType, "client_assertion", r.assertion(func(c *jose.ClientAssertionClaims) { c.Issuer, c.Subject = s.url, s.url }))
	}
	s.publishes("max-age=60")
	r.open(everything, s)
	code := r.walk(r.asksAs(s.url, "https://localhost/cb"))
	unused := r.walk(r.asksAs(s.url, "https://localhost/cb"))
	renew := form("grant_type", "refresh_token", "client_id", s.url)
	redeem := func(code string) url.Values {
		return form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", s.url)
	}
	next := func(a answer) { r.Helper(); renew.Set("refresh_token", r.tokens(a).RefreshToken) }
	next(r.post("/oauth/token", redeem(code)))
	r.expect("with a key that it has not published", 401, "invalid_client", r.post("/oauth/token", assertion(renew)))

	// The document cannot be had: memory holds, and without that what was agreed to.
	s.serves(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	r.clock.move(2 * time.Minute)
	next(r.post("/oauth/token", renew))
	r.nodes[0].server.docs, r.nodes[0].server.knownDocs = documents{}, documents{} // started anew
	n := s.asked.Load()
	for range 3 {
		r.clock.move(5 * time.Second)
		next(r.post("/oauth/token", renew))
	}
	if asked := s.asked.Load() - n; asked != 1 {
		r.Errorf("asked %d times for a document that is away and not needed", asked)
	}

	s.publishes("max-age=60", "jwks", string(r.jwt.JWKS), "token_endpoint_auth_method", "")
	r.clock.move(2 * time.Minute)
	r.expect("without the key that it publishes", 401, "invalid_client", r.post("/oauth/token", renew))
	r.expect("and a code of before", 401, "invalid_client", r.post("/oauth/token", redeem(unused)))
	r.expect("and revoking", 401, "invalid_client", r.post("/oauth/revoke", form("token", renew.Get("refresh_token"), "client_id", s.url)))
	next(r.post("/oauth/token", assertion(renew)))
	// It cannot be had again: what it said last holds, however many others are named meanwhile.
	s.serves(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	r.clock.move(2 * time.Minute)
	for i := range 5 * maxDocuments {
		id := fmt.Sprintf("https://%d.example/", i)
		if _, err := r.nodes[0].server.docs.get(t.Context(), id, "", r.clock.now, func(context.Context, string, string) (*published, error) {
			return &published{client: client.Client{ClientID: id}, stale: r.clock.now().Add(maxStale)}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.expect("without its key while it cannot be had", 401, "invalid_client", r.post("/oauth/token", renew))
	next(r.post("/oauth/token", assertion(renew)))
	// And none again, as it was agreed to.
	s.publishes("max-age=60")
	r.clock.move(2 * time.Minute)
	r.expect("with a key that was withdrawn", 401, "invalid_client", r.post("/oauth/token", assertion(renew)))
	next(r.post("/oauth/token", renew))
}

// TestFetchOutlivesWhoAsked: whoever hangs up does not decide that a document cannot be had,
// which for a client that was agreed to without keys would be that it needs none.
func TestFetchOutlivesWhoAsked(t *testing.T) {
	t.Parallel()
	d, now := &documents{}, func() time.Time { return start }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.get(gone, "https://site.example/", "", now, func(ctx context.Context, id, _ string) (*published, error) {
		if _, ends := ctx.Deadline(); !ends {
			t.Error("a fetch without an end")
		}
		return &published{client: client.Client{ClientID: id}, fresh: start.Add(time.Minute)}, ctx.Err()
	}); err != nil || d.away("https://site.example/", start) {
		t.Error(err)
	}
}

// TestStrangersKeys: the keys of clients that nobody agreed to are read apart, so
// that no number of slow ones keeps a registered client from its own.
func TestStrangersKeys(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	mine := r.ecKey()
	p := r.publisher(map[string]crypto.Signer{"k1": mine})
	c := r.jwt
	c.JWKS, c.JWKSURI = nil, p.URL
	r.do(audit.ClientUpdated, client.Update{Client: c})
	release := make(chan struct{})
	var held atomic.Int64
	slow := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { held.Add(1); <-release }))
	t.Cleanup(slow.Close)
	defer close(release)
	s := r.nodes[0].server
	s.Published, s.Announced = &jwks.Source{HTTP: p.Client(), Now: r.clock.now}, &jwks.Source{HTTP: slow.Client(), Now: r.clock.now}
	object := got(got(jose.NewSigner(mine, "ES256", "k1", jose.TypRequestObject))(r).Sign(map[string]any{}))(r)
	var wg sync.WaitGroup
	for i := range 17 { // one more than are read at once
		id := asString(r.registers(fmt.Sprintf(`{"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"%s/%d"}`, slow.URL, i))["client_id"])
		wg.Go(func() {
			r.authorize(form("client_id", id, "redirect_uri", "https://app.example/cb", "request", object))
		})
	}
	wg.Wait()
	if held.Load() < 16 {
		t.Fatalf("%d of the strangers' sets are being read: this shows nothing", held.Load())
	}
	j := got(jose.NewSigner(mine, "ES256", "k1", jose.TypClientAssertion))(r)
	assertion := got(j.Sign(jose.ClientAssertionClaims{
		Issuer: "jwt", Subject: "jwt", Audience: jose.Audience{issuer}, JTI: "j", IssuedAt: jose.Date(r.clock.now()), ExpiresAt: jose.Date(r.clock.now().Add(time.Minute)),
	}))(r)
	r.expect("a registered client meanwhile", 200, "", r.post("/oauth/token", form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", assertion)))
}

// TestAgreementOpensNothingWithin: where a client's keys are is its own word, also after
// a person agreed to it, so the server reads them at public addresses only; within its
// network where administrators allowed the domain and the keys are there, or pinned the
// document.
func TestAgreementOpensNothingWithin(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	outside, within := r.publisher(map[string]crypto.Signer{"k1": r.jwtKey}), r.publisher(map[string]crypto.Signer{"k1": r.jwtKey})
	reaching := func(list ...*publisher) *jwks.Source {
		guard := web.Egress{CAs: x509.NewCertPool()}
		for _, p := range list {
			guard.Allow = append(guard.Allow, got(url.Parse(p.URL))(r).Host)
			guard.CAs.AddCert(p.Certificate())
		}
		return &jwks.Source{HTTP: guard.Client(), Now: r.clock.now}
	}
	srv := r.nodes[0].server
	srv.Published, srv.Agreed, srv.Announced = reaching(outside, within), reaching(outside), reaching(outside)
	publishes := func(keys string) {
		s.publishes("max-age=60", "jwks_uri", `"`+keys+`"`, "token_endpoint_auth_method", "")
		r.clock.move(2 * time.Minute)
	}
	publishes(outside.URL)
	r.open(everything, s)
	assertion := func(f url.Values) url.Values {
		return change(f, "client_assertion_type", assertionType, "client_assertion", r.assertion(func(c *jose.ClientAssertionClaims) { c.Issuer, c.Subject = s.url, s.url }))
	}
	code := r.walk(r.asksAs(s.url, "https://localhost/cb"))
	tok := r.tokens(r.post("/oauth/token", assertion(form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", s.url))))
	renew := func() answer {
		return r.post("/oauth/token", assertion(form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", s.url)))
	}
	publishes(within.URL)
	r.expect("keys within", 503, "temporarily_unavailable", renew())
	push := func() answer { return r.post("/oauth/par", assertion(r.asksAs(s.url, "https://localhost/cb"))) }
	r.expect("keys within, at the push", 503, "temporarily_unavailable", push())
	if n := within.reads.Load(); n != 0 {
		t.Errorf("it was called %d times", n)
	}
	rule := client.Rule{Source: client.FromDocument, Group: client.DocumentHost(s.url), Trust: client.Allowed, At: start}
	r.do(audit.ClientRuleSet, client.SetRule{Rule: rule})
	r.clock.move(2 * recentFor)
	r.expect("of an allowed domain", 200, "", renew())
	if n := within.reads.Load(); n != 1 {
		t.Errorf("the control: it was called %d times", n)
	}
	elsewhere := strings.Replace(within.URL, "127.0.0.1", "localhost", 1)
	publishes(elsewhere)
	r.expect("of an allowed domain, on another host", 503, "temporarily_unavailable", renew())
	if n := within.reads.Load(); n != 1 {
		t.Errorf("another host: it was called %d times", n)
	}
	rule.Trust = client.Unsaid
	r.do(audit.ClientRuleSet, client.SetRule{Rule: rule}, client.PinDocument{Document: client.Document{ClientID: s.url, Body: fmt.Appendf(nil,
		`{"client_id":%q,"redirect_uris":["https://localhost/cb"],"grant_types":["authorization_code","refresh_token"],"jwks_uri":%q}`, s.url, within.URL+"/pinned")}})
	r.clock.move(2 * recentFor)
	r.expect("pinned", 200, "", renew())
	if n := within.reads.Load(); n != 2 {
		t.Errorf("pinned: it was called %d times", n)
	}
}

const anotherKey = `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

// TestAdmission: off, listed and blocked are judged at use, and a pinned document
// is never fetched.
func TestAdmission(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	s.publishes("")
	req := func() answer { return r.authorize(r.asksAs(s.url, "https://localhost/cb"), in(r.ses)) }
	r.open(client.Openness{}, s)
	r.expectPage("off", "client_unknown", req())
	listed := everything
	listed.Documents = client.Listed
	r.open(listed, s)
	r.expectPage("not listed", "client_not_listed", req())
	if s.asked.Load() != 0 {
		r.Error("it was fetched")
	}
	say := func(t client.Trust) {
		r.do(audit.ClientRuleSet, client.SetRule{Rule: client.Rule{Source: client.FromDocument, Group: "127.0.0.1", Trust: t}})
	}
	say(client.Allowed)
	if name, _ := req().page(r); name != "consent" {
		r.Error(name)
	}
	say(client.Blocked)
	r.expectPage("blocked", "client_not_listed", req())
	r.open(everything, s)
	r.expectPage("blocked, where anybody may", "client_blocked", req())
	say(client.Unsaid)
	// What it may ask for.
	narrow := everything
	narrow.Resources, narrow.Scopes = []string{r.bound.ID}, []string{"bound:read"}
	r.open(narrow, s)
	if a := req(); a.body != "page: invalid_target" {
		r.Errorf("another resource: %s", a.body)
	}
	// Pinned: as kept, whatever the site says.
	r.open(listed)
	pinned := fmt.Sprintf(`{"client_id":%q,"client_name":"Pinned","redirect_uris":["https://localhost/cb"]}`, s.url)
	r.do(audit.ClientPinned, client.PinDocument{Document: client.Document{ClientID: s.url, Body: []byte(pinned)}})
	n := s.asked.Load()
	_, ref := req().page(r)
	if app := r.agree(ref); app.Name != "Pinned" || !app.Pinned || s.asked.Load() != n {
		r.Errorf("%+v, fetched %d times", app, s.asked.Load()-n)
	}
	r.do(audit.ClientUnpinned, client.UnpinDocument{ClientID: s.url})
	// Taking admission back stops nobody who is stored: that is what a block is for.
	for _, o := range []client.Openness{listed, {Resources: everything.Resources, Scopes: everything.Scopes}} {
		r.open(o, s)
		r.clock.move(time.Minute)
		if name, _ := req().page(r); name != "consent" && name != "step_up" {
			r.Errorf("stored, and %q are admitted: %s", o.Documents, name)
		}
	}
	// Trusted: agreement is remembered, on https and while it is the same.
	r.open(everything, s)
	s.publishes("", "redirect_uris", `["https://localhost/cb"]`, "client_name", `"Pinned"`, "grant_types", `["authorization_code"]`)
	r.clock.move(time.Hour)
	r.ses = r.signIn(r.person, r.passkey, false)
	if name, _ := req().page(r); name != "consent" {
		r.Error("an app that nobody trusts is not asked about")
	}
	say(client.Trusted)
	if a := req(); a.to(r).Query().Get("code") == "" {
		r.Errorf("trusted, and it asks: %s", a.header.Get("Location"))
	}
	// A block stops what is stored, tokens included.
	c := got(r.nodes[0].store.ClientByClientID(context.Background(), s.url))(r)
	r.do(audit.ClientRuleSet, client.SetRule{Rule: client.Rule{Source: client.FromDocument, Group: "127.0.0.1", Trust: client.Blocked}}, lineage.Freeze{ID: c.ID, Why: client.WhyBlocked})
	r.expectPage("blocked, stored", "client_blocked", req())
}

// registered registers a client and gives what the server said.
func (r *rig) registers(body string) map[string]any {
	r.Helper()
	a := r.send(0, "POST", "/oauth/register", "application/json", strings.NewReader(body))
	if a.status != 201 || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Access-Control-Allow-Origin") != "*" {
		r.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	return a.json(r)
}

const nativeApp = `{"client_name":"Inspector","redirect_uris":["http://127.0.0.1:6274/oauth/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`

// TestNobodyIsKeptFromAnApp: the name of an app is anybody's to register, and whoever
// does so without end from one network keeps nobody else from it.
func TestNobodyIsKeptFromAnApp(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	s := r.nodes[0].server
	network := 0
	s.ClientAddr = func(*http.Request) netip.Addr { return netip.AddrFrom4([4]byte{20, 1, byte(network), 1}) }
	register := func(from int) int {
		network = from
		return r.send(0, "POST", "/oauth/register", "application/json", strings.NewReader(nativeApp)).status
	}
	for from := range appTimes { // all that there is at once
		for range registerBurst {
			register(from)
		}
	}
	if register(100) != 503 {
		t.Fatal("there is more of the app than it is said: this shows nothing")
	}
	for i := range 10 {
		r.clock.move(registerEvery)
		register(0)
		if got := register(101 + i); got != 201 {
			t.Fatalf("somebody else, after %d times: %d", i+1, got)
		}
	}
}

func TestDynamicRegistration(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		if a := r.send(0, "POST", "/oauth/register", "application/json", strings.NewReader(nativeApp)); a.status != 404 || r.get("/.well-known/oauth-authorization-server").json(r)["registration_endpoint"] != nil {
			r.Errorf("off, and there: %d", a.status)
		}
		r.open(everything)
		r.clock.move(2 * time.Second)
		if r.get("/.well-known/oauth-authorization-server").json(r)["registration_endpoint"] != issuer+"/oauth/register" {
			r.Error("the metadata does not name it")
		}
		before := r.rows()
		reg := r.registers(nativeApp)
		again := r.registers(nativeApp)
		name := asString(reg["client_id"])
		if r.rows() != before || name == again["client_id"] || reg["client_secret"] != nil || reg["application_type"] != "native" || reg["client_id_issued_at"] != float64(r.clock.now().Unix()) {
			r.Errorf("%s then %s: %v", before, r.rows(), reg)
		}
		to := "http://127.0.0.1:51234/oauth/callback"
		redeem := func(name, code string, opts ...option) answer {
			return r.post("/oauth/token", form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", name), opts...)
		}
		code := r.walk(r.asksAs(name, to))
		r.expect("another registration of the same app", 401, "invalid_client", redeem(asString(again["client_id"]), code))
		tok := r.tokens(redeem(name, code))
		r.idToken(tok.IDToken, name)
		r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", name)))
		r.expectPage("as it is stored", "client_unknown", r.authorize(r.asksAs(client.StoredID(name), to)))
		// The second registration is the same app to the person: one confirm.
		r.clock.move(time.Minute)
		r.ses = r.signIn(r.person, r.passkey, false)
		a := r.authorize(r.asksAs(asString(again["client_id"]), to), in(r.ses))
		page, ref := a.page(r)
		if page == "step_up" {
			r.prove(ref, false)
			page, ref = r.resume(ref).page(r)
		}
		ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
		p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), ref, &ses))(r)
		if page != "consent" || p.Remembered == nil || p.Changed || p.Scopes[0].New || p.App.ID != "" {
			r.Errorf("%s %+v", page, p)
		}
		r.clock.move(time.Second)
		second := r.agree(ref)
		tok2 := r.tokens(redeem(asString(again["client_id"]), r.resume(ref).to(r).Query().Get("code")))
		if second.Group == "" || tok2.RefreshToken == "" {
			r.Errorf("%+v", second)
		}
		r.expect("its token, under the first registration", 400, "invalid_grant", r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok2.RefreshToken, "client_id", name)))
		// A registration that nobody used expires; one that was used does not, even
		// once the server takes no more.
		third := asString(r.registers(nativeApp)["client_id"])
		r.clock.move(client.RegistrationLifetime + time.Hour)
		r.expectPage("expired", "client_expired", r.authorize(r.asksAs(third, to)))
		r.open(client.Openness{Resources: []string{"*"}, Scopes: []string{"*"}})
		r.ses = r.signIn(r.person, r.passkey, false)
		r.walk(r.asksAs(name, to))
	})
}

// TestConfidentialRegistration: the secret of a registration is checked, and is
// no other registration's.
func TestConfidentialRegistration(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	body := `{"client_name":"Hosted","redirect_uris":["https://hosted.example/cb","http://evil.example/cb"],"grant_types":["authorization_code","refresh_token"]}`
	reg, twin := r.registers(body), r.registers(body)
	if reg["token_endpoint_auth_method"] != "client_secret_basic" || reg["client_secret_expires_at"] != float64(0) || len(reg["redirect_uris"].([]any)) != 1 {
		r.Fatalf("%v", reg)
	}
	name := asString(reg["client_id"])
	code := r.walk(r.asksAs(name, "https://hosted.example/cb"))
	f := form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier)
	r.expect("without its secret", 401, "invalid_client", r.post("/oauth/token", change(f, "client_id", name)))
	r.expect("with another's", 401, "invalid_client", r.post("/oauth/token", f, basic(name, asString(twin["client_secret"]))))
	r.tokens(r.post("/oauth/token", f, basic(name, asString(reg["client_secret"]))))
}

// TestClientsDemandMoreOfThemselves: what a client that nobody registered says has to be
// demanded of it is demanded from its first request on, however it came.
func TestClientsDemandMoreOfThemselves(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.site()
	s.publishes("", "dpop_bound_access_tokens", "true", "require_pushed_authorization_requests", "true")
	r.open(everything, s)
	reg := r.registers(`{"redirect_uris":["https://localhost/cb"],"token_endpoint_auth_method":"none","dpop_bound_access_tokens":true,"require_pushed_authorization_requests":true}`)
	if reg["dpop_bound_access_tokens"] != true || reg["require_pushed_authorization_requests"] != true {
		t.Errorf("the answer does not say so: %v", reg)
	}
	for _, name := range []string{s.url, asString(reg["client_id"])} {
		r.ses = r.signIn(r.person, r.passkey, false)
		r.expectPage("not pushed", "invalid_request", r.authorize(r.asksAs(name, "https://localhost/cb"), in(r.ses)))
		pushed := r.post("/oauth/par", r.asksAs(name, "https://localhost/cb"))
		code := r.walk(form("client_id", name, "request_uri", asString(pushed.json(r)["request_uri"])))
		f := form("grant_type", "authorization_code", "code", code, "code_verifier", r.verifier, "client_id", name)
		r.expect("without a proof", 400, "invalid_dpop_proof", r.post("/oauth/token", f))
		if tok := r.tokens(r.prover().post("/oauth/token", f)); tok.TokenType != "DPoP" {
			t.Errorf("%+v", tok)
		}
	}
}

// TestRegistrationFlood: registering costs nothing that stays, and one network
// cannot do it for ever.
func TestRegistrationFlood(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	before := r.rows()
	throttled := 0
	for range 100 {
		switch a := r.send(0, "POST", "/oauth/register", "application/json", strings.NewReader(nativeApp)); a.status {
		case 201:
		case 503:
			throttled++
			if a.header.Get("Retry-After") == "" || a.json(r)["error"] != "temporarily_unavailable" {
				r.Fatalf("%v %s", a.header, a.body)
			}
		default:
			r.Fatalf("%d %s", a.status, a.body)
		}
	}
	if throttled != 100-registerBurst || r.rows() != before {
		r.Errorf("%d of 100 were told to wait; %s then %s", throttled, before, r.rows())
	}
	r.clock.move(time.Minute)
	short := r.registers(nativeApp)
	// What it may ask for is not its to say, and takes no room in its name.
	scopes := ""
	for i := range 200 {
		scopes += fmt.Sprintf(" mcp:tools.%d", i)
	}
	long := r.registers(strings.Replace(nativeApp, "{", `{"scope":"`+scopes+`",`, 1))
	if len(asString(long["client_id"])) != len(asString(short["client_id"])) || long["scope"] != nil {
		r.Errorf("with many scopes: %v", long)
	}
	for name, body := range map[string]string{"nothing": "", "not JSON": "client_name=x", "too long": `{"x":"` + strings.Repeat("x", 8<<10) + `"}`} {
		if a := r.send(0, "POST", "/oauth/register", "application/json", strings.NewReader(body)); a.status != 400 || a.json(r)["error"] != "invalid_client_metadata" {
			r.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.send(0, "POST", "/oauth/register", "application/x-www-form-urlencoded", strings.NewReader(nativeApp)); a.status != 400 {
		r.Errorf("as a form: %d", a.status)
	}
}

// TestStrangersRedirectNobody: a browser is not sent to a host that nobody vouches
// for before its person did something.
func TestStrangersRedirectNobody(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	name := asString(r.registers(`{"client_name":"Evil","redirect_uris":["https://evil.example/phish","http://127.0.0.1/cb"],"token_endpoint_auth_method":"none"}`)["client_id"])
	for _, pairs := range [][]string{{"response_type", "token"}, {"scope", "admin:everything"}, {"prompt", "none"}, {"code_challenge", ""}} {
		if a := r.authorize(r.asksAs(name, "https://evil.example/phish", pairs...), in(r.ses)); a.header.Get("Location") != "" {
			r.Errorf("%v: sent to %s", pairs, a.header.Get("Location"))
		}
		if a := r.authorize(r.asksAs(name, "http://127.0.0.1:5000/cb", pairs...), in(r.ses)); !strings.HasPrefix(a.header.Get("Location"), "http://127.0.0.1:5000/cb?error=") { // the control: a program on this computer
			r.Errorf("%v: %s", pairs, a.header.Get("Location"))
		}
	}
}

// No line of the log holds a registration, which is what its client_id is, whole; of a
// long value that somebody else chose, neither.
func TestRegistrationsAreNotLogged(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.open(everything)
	reg := r.registers(`{"client_name":"App","redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"client_secret_basic"}`)
	name, auth := asString(reg["client_id"]), basic(asString(reg["client_id"]), asString(reg["client_secret"]))
	for _, stored := range []bool{false, true} {
		if stored {
			r.walk(r.asksAs(name, "https://app.example/cb"))
		}
		made := name[:len(name)-1] + "x"
		for _, id := range []string{name, made, name[:100] + strings.Repeat("x", 4000)} {
			r.authorize(r.asksAs(id, "https://app.example/cb"), in(r.ses))
			r.get("/oauth/logout?" + form("client_id", id, "state", id).Encode())
			for _, path := range []string{"/oauth/token", "/oauth/par", "/oauth/revoke", "/oauth/introspect", "/oauth/device_authorization"} {
				for _, opt := range []option{auth, basic(id, "x")} {
					r.post(path, form("client_id", id, "token", id, "grant_type", id+strings.Repeat("x", 1000), "scope", id, "resource", id), opt)
					r.post(path, form("token", "x", "grant_type", "client_credentials"), opt)
				}
			}
		}
	}
	log := r.log.String()
	if strings.Contains(log, "client="+name[:100]) || strings.Contains(log, strings.Repeat("x", 1000)) {
		t.Error("a registration is in the log whole")
	}
	if !strings.Contains(log, client.StoredID(name)) { // the control
		t.Error("the log does not say which client asked")
	}
}
