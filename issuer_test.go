package countersign

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// TestIssuer is an authorization server small enough for tests: it signs real
// tokens and frames, and checks what clients send with the product's own
// verifiers.
type TestIssuer struct {
	URL string // issuer

	mu       sync.Mutex
	key      *ecdsa.PrivateKey
	kid      string
	keyReads int
	keyFail  bool
	keyAge   string
	nonce    string            // demanded at the token endpoint if set
	refresh  map[string]string // refresh token → subject
	refreshN int
	notNow   any           // what refreshes are answered with, 400; nil: as usual
	slow     time.Duration // of a refresh
	ended    map[string]bool
	asked    int // introspections
	askFail  bool
	down     bool
	clientID string
	secret   string
	clientPK jose.KeySet
	scope    string
	forms    []url.Values

	// the feed
	epoch, seq int64
	entries    []jose.Entry
	streams    map[chan string]bool
	acks       []int64
	snaps      int
	gone       bool
	noSnapshot bool
	frameAud   string
	opened     []string // "after" of each stream
}

func newIssuer(t testing.TB) *TestIssuer {
	i := NewTestIssuer()
	srv := httptest.NewServer(i)
	t.Cleanup(func() { i.Drop(); srv.CloseClientConnections(); srv.Close() })
	i.URL = srv.URL
	return i
}

// NewTestIssuer makes an issuer without an address.
func NewTestIssuer() *TestIssuer {
	i := &TestIssuer{
		refresh: map[string]string{}, ended: map[string]bool{}, streams: map[chan string]bool{},
		clientID: "rs", secret: "s3cret", epoch: 1, seq: 10, keyAge: "max-age=300",
	}
	i.Rotate()
	return i
}

// Rotate replaces the signing key.
func (i *TestIssuer) Rotate() {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	i.key, i.kid = k, rand.Text()[:8]
	i.mu.Unlock()
}

func (i *TestIssuer) signer(typ string) *jose.Signer {
	s, err := jose.NewSigner(i.key, jose.ES256, i.kid, typ)
	if err != nil {
		panic(err)
	}
	return s
}

// Claims are those of a good token of a person who has just signed in with a
// passkey, bound to key (nil: to none).
func (i *TestIssuer) Claims(aud string, key *DPoPKey, scope string) jose.AccessTokenClaims {
	now := time.Now()
	c := jose.AccessTokenClaims{
		Issuer: i.URL, Subject: "usr_dana", Audience: jose.Audience{aud}, ExpiresAt: jose.Date(now.Add(5 * time.Minute)), IssuedAt: jose.Date(now),
		JTI: "rec_" + rand.Text(), ClientID: "app", Scope: scope, ACR: "phr", AMR: []string{"hwk", "user", "pop"}, AuthTime: jose.Date(now.Add(-10 * time.Second)),
		Lineage:   []string{testHandle(1), testHandle(2)},
		Assurance: &jose.Assurance{Human: &jose.HumanAssurance{Rung: 3, At: jose.Date(now), Present: true}},
	}
	if key != nil {
		c.Confirmation = &jose.Confirmation{JKT: key.Thumbprint()}
	}
	return c
}

// Token signs claims.
func (i *TestIssuer) Token(c jose.AccessTokenClaims) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sign(jose.TypAccessToken, c)
}

func (i *TestIssuer) sign(typ string, claims any) string {
	s, err := i.signer(typ).Sign(claims)
	if err != nil {
		panic(err)
	}
	return s
}

func testHandle(n int) string { return fmt.Sprintf("AAAAAAAA%04d", n) }

func (i *TestIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		reply(w, 200, Metadata{
			Issuer: i.URL, AuthorizationEndpoint: i.URL + "/authorize", TokenEndpoint: i.URL + "/token", JWKSURI: i.URL + "/jwks",
			IntrospectionEndpoint: i.URL + "/introspect", RevocationEndpoint: i.URL + "/revoke",
		})
	case "/jwks":
		i.keyReads++
		if i.keyFail {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", i.keyAge)
		reply(w, 200, &jose.JWKSet{Keys: []jose.JWK{{Key: i.key.Public(), KeyID: i.kid, Algorithm: jose.ES256}}})
	case "/token":
		i.token(w, r)
	case "/introspect":
		i.asked++
		if i.askFail || !i.client(r) {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		i.introspect(w, r.PostFormValue("token"))
	case "/revoke":
		i.ended[r.PostFormValue("token")] = true
	default:
		i.feed(w, r)
	}
}

// client checks client_secret_basic or private_key_jwt.
func (i *TestIssuer) client(r *http.Request) bool {
	if a := r.PostFormValue("client_assertion"); a != "" {
		got, err := jose.VerifyClientAssertion(a, i.clientPK, jose.ClientAssertionWant{Issuer: i.URL, ClientID: i.clientID, Now: time.Now()})
		return err == nil && got.ClientID == i.clientID
	}
	if id, secret, ok := r.BasicAuth(); ok {
		id, err1 := url.QueryUnescape(id)
		secret, err2 := url.QueryUnescape(secret)
		return err1 == nil && err2 == nil && id == i.clientID && secret == i.secret
	}
	return r.PostFormValue("client_id") == "public"
}

func (i *TestIssuer) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	i.forms = append(i.forms, r.PostForm)
	if !i.client(r) {
		reply(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	typ, jkt := "Bearer", ""
	if p := r.Header.Get("DPoP"); p != "" {
		proof, err := jose.VerifyDPoP(p, jose.DPoPWant{Method: "POST", URL: i.URL + "/token", Now: time.Now()})
		if err != nil {
			reply(w, 400, map[string]string{"error": "invalid_dpop_proof", "error_description": err.Error()})
			return
		}
		if i.nonce != "" && proof.Nonce != i.nonce {
			w.Header().Set("DPoP-Nonce", i.nonce)
			reply(w, 400, map[string]string{"error": "use_dpop_nonce"})
			return
		}
		typ, jkt = "DPoP", proof.JKT
	}
	aud := r.PostForm.Get("resource")
	c := i.Claims(aud, nil, i.scope)
	if jkt != "" {
		c.Confirmation = &jose.Confirmation{JKT: jkt}
	}
	doc := map[string]any{"token_type": typ, "expires_in": 300, "scope": i.scope}
	switch r.PostForm.Get("grant_type") {
	case "client_credentials":
		c.Scope = r.PostForm.Get("scope")
		c.Subject, c.ClientID, c.ACR, c.AuthTime, c.AMR, c.Assurance = "svc_rs", i.clientID, "", 0, nil, nil
	case "authorization_code":
		if r.PostForm.Get("code") != "code1" || r.PostForm.Get("code_verifier") != "verifier1" {
			reply(w, 400, map[string]string{"error": "invalid_grant"})
			return
		}
		doc["refresh_token"] = i.NewRefresh()
	case "refresh_token":
		i.refreshN++
		if i.slow > 0 {
			i.mu.Unlock()
			time.Sleep(i.slow)
			i.mu.Lock()
		}
		rt := r.PostForm.Get("refresh_token")
		if i.notNow != nil {
			reply(w, 400, i.notNow)
			return
		}
		if i.refresh[rt] == "" {
			w.Header().Set("Countersign-Ref", "ABCDEF")
			reply(w, 400, map[string]string{"error": "invalid_grant", "error_description": "That refresh token does not count."})
			return
		}
		delete(i.refresh, rt)
		doc["refresh_token"] = i.NewRefresh()
	}
	doc["access_token"] = i.sign(jose.TypAccessToken, c)
	reply(w, 200, doc)
}

// NewRefresh makes a refresh token; i.mu is held, or nobody else is here.
func (i *TestIssuer) NewRefresh() string {
	rt := "rt_" + rand.Text()
	i.refresh[rt] = "usr_dana"
	return rt
}

func (i *TestIssuer) introspect(w http.ResponseWriter, token string) {
	set := &jose.JWKSet{Keys: []jose.JWK{{Key: i.key.Public(), KeyID: i.kid}}}
	var body struct {
		Aud jose.Audience
	}
	c, err := jose.VerifyAccessToken(token, set, jose.AccessTokenWant{Issuer: i.URL, Audiences: []string{testAudience, "https://api.example.com/", "http://api.test"}, Now: time.Now()})
	_ = body
	if err != nil || i.ended[token] {
		reply(w, 200, map[string]bool{"active": false})
		return
	}
	reply(w, 200, Introspection{Active: true, Subject: c.Subject, ClientID: c.ClientID})
}

func (i *TestIssuer) feed(w http.ResponseWriter, r *http.Request) {
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	set := &jose.JWKSet{Keys: []jose.JWK{{Key: i.key.Public(), KeyID: i.kid}}}
	c, err := jose.VerifyAccessToken(raw, set, jose.AccessTokenWant{Issuer: i.URL, Audiences: []string{i.URL + "/v1"}, Now: time.Now()})
	if err != nil || scheme != "DPoP" || c.Scope != "feed" {
		w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`)
		http.Error(w, "who", http.StatusUnauthorized)
		return
	}
	p, err := jose.VerifyDPoP(r.Header.Get("DPoP"), jose.DPoPWant{Method: r.Method, URL: i.URL + r.URL.Path, AccessToken: raw, Now: time.Now()})
	if err != nil || p.JKT != c.Confirmation.JKT {
		http.Error(w, "proof", http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case "/v1/revocations/snapshot":
		i.snaps++
		if i.noSnapshot {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, i.frame(i.seq, i.seq, 0, i.entries...))
		z.Close()
	case "/v1/revocations/stream":
		i.opened = append(i.opened, r.URL.Query().Get("after"))
		if i.gone || r.URL.Query().Get("epoch") != strconv.FormatInt(i.epoch, 10) {
			w.WriteHeader(http.StatusGone)
			return
		}
		i.stream(w, r)
	case "/v1/revocations/ack":
		var body struct{ Epoch, Seq int64 }
		_ = json.NewDecoder(r.Body).Decode(&body)
		i.acks = append(i.acks, body.Seq)
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func (i *TestIssuer) stream(w http.ResponseWriter, r *http.Request) {
	ch := make(chan string, 64)
	i.streams[ch] = true
	i.mu.Unlock()
	defer func() { i.mu.Lock(); delete(i.streams, ch) }()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(200)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case f, ok := <-ch:
			if !ok {
				return
			}
			if _, err := io.WriteString(w, ": comment\nid: 1\ndata: "+f+"\n\n"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (i *TestIssuer) frame(prev, seq int64, all int64, entries ...jose.Entry) string {
	aud := i.frameAud
	if aud == "" {
		aud = testAudience
	}
	if entries == nil {
		entries = []jose.Entry{}
	}
	return i.sign(jose.TypFeed, jose.FeedFrame{
		Issuer: i.URL, Audience: jose.Audience{aud}, Epoch: i.epoch, Seq: seq, Prev: prev,
		IssuedAt: jose.Date(time.Now()), Entries: entries, All: jose.NumericDate(all),
	})
}

// Send gives every stream a frame.
func (i *TestIssuer) Send(frame string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for ch := range i.streams {
		ch <- frame
	}
}

// Heartbeat sends one; End ends handles in the next frame.
func (i *TestIssuer) Heartbeat() {
	i.mu.Lock()
	f := i.frame(i.seq, i.seq, 0)
	i.mu.Unlock()
	i.Send(f)
}

// End ends handles.
func (i *TestIssuer) End(handles ...string) {
	i.mu.Lock()
	var e []jose.Entry
	for _, h := range handles {
		e = append(e, jose.Ended(h))
	}
	i.entries = append(i.entries, e...)
	f := i.frame(i.seq, i.seq+3, 0, e...)
	i.seq += 3
	i.mu.Unlock()
	i.Send(f)
}

// Drop ends all streams.
func (i *TestIssuer) Drop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for ch := range i.streams {
		close(ch)
		delete(i.streams, ch)
	}
}

func (i *TestIssuer) with(f func()) { i.mu.Lock(); defer i.mu.Unlock(); f() }

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

const testAudience = "https://api.example.com"

// direct answers requests in process, streaming, without sockets: for tests
// whose clock is not the world's.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pw: pw, ready: make(chan int, 1)}
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	go func() {
		d.h.ServeHTTP(w, in)
		w.WriteHeader(200)
		pw.Close()
	}()
	select {
	case status := <-w.ready:
		stop := context.AfterFunc(r.Context(), func() { pr.CloseWithError(r.Context().Err()) })
		return &http.Response{
			StatusCode: status, Header: w.header, Request: r, ProtoMajor: 1,
			Body: &pipeBody{pr, func() { stop(); cancel() }},
		}, nil
	case <-r.Context().Done():
		cancel()
		return nil, r.Context().Err()
	}
}

type pipeBody struct {
	*io.PipeReader
	done func()
}

func (b *pipeBody) Close() error { b.done(); return b.PipeReader.Close() }

type pipeWriter struct {
	header http.Header
	pw     *io.PipeWriter
	ready  chan int
	wrote  bool
}

func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) Flush()              {}
func (w *pipeWriter) WriteHeader(status int) {
	if !w.wrote {
		w.wrote = true
		w.ready <- status
	}
}

func (w *pipeWriter) Write(b []byte) (int, error) { w.WriteHeader(200); return w.pw.Write(b) }
