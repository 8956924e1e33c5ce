package feed_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/feed"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// log is a source that numbers what it is given at once.
type log struct {
	mu    sync.Mutex
	lines []lineage.Revocation
}

func (l *log) end(node string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := uint64(len(l.lines) + 1)
	l.lines = append(l.lines, lineage.Revocation{Seq: seq, Node: node, Kind: lineage.Session, At: time.Now()})
	return seq
}

func (l *log) Revocations(_ context.Context, after uint64, n int) ([]lineage.Revocation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.lines[after:]
	return slices.Clone(rest[:min(n, len(rest))]), nil
}

func (l *log) RevocationsSince(context.Context, time.Time) ([]lineage.Revocation, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines), uint64(len(l.lines)), nil
}

func (l *log) RevocationHead(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.lines)), nil
}

// world is an issuer with a hub behind real sockets, and enforcement points
// with the SDK.
type world struct {
	url    string
	hub    *feed.Hub
	log    *log
	signer func(typ string) *jose.Signer
	srv    *httptest.Server
	asked  sync.Map
}

var audiences = []string{"https://a.example", "https://b.example"}

func newWorld(t *testing.T, edit ...func(*feed.Config)) *world {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{log: &log{}}
	w.signer = func(typ string) *jose.Signer {
		s, err := jose.NewSigner(k, jose.ES256, "k1", typ)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	keys := &jose.JWKSet{Keys: []jose.JWK{{Key: k.Public(), KeyID: "k1"}}}
	mux := http.NewServeMux()
	w.srv = httptest.NewServer(mux)
	w.url = w.srv.URL
	frames := w.signer(jose.TypFeed)
	cfg := feed.Config{
		Issuer: w.url, Epoch: 1, Source: w.log,
		AudienceKey: func(aud string) ([]byte, error) { return lineage.AudienceKey([]byte("key"), aud) },
		Signer:      func() (*jose.Signer, error) { return frames, nil },
		Authenticate: func(r *http.Request) (feed.Caller, error) {
			_, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			c, err := jose.VerifyAccessToken(raw, keys, jose.AccessTokenWant{Issuer: w.url, Audiences: []string{w.url + "/v1"}, Now: time.Now()})
			if err != nil {
				return feed.Caller{}, err
			}
			p, err := jose.VerifyDPoP(r.Header.Get("DPoP"), jose.DPoPWant{Method: r.Method, URL: w.url + r.URL.Path, AccessToken: raw, Now: time.Now()})
			if err != nil || p.JKT != c.Confirmation.JKT {
				return feed.Caller{}, errors.Join(problem.Unauthenticated, err)
			}
			return feed.Caller{Client: c.ClientID, Instance: p.JKT, Audiences: audiences}, nil
		},
	}
	for _, e := range edit {
		e(&cfg)
	}
	w.hub = feed.New(cfg)
	w.hub.Mount(mux, func(rw http.ResponseWriter, _ *http.Request, err error) {
		http.Error(rw, err.Error(), web.StatusOf(err))
	})
	answer := func(rw http.ResponseWriter, v any) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(v)
	}
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, map[string]string{"issuer": w.url, "token_endpoint": w.url + "/token", "jwks_uri": w.url + "/jwks", "introspection_endpoint": w.url + "/introspect"})
	})
	mux.HandleFunc("/jwks", func(rw http.ResponseWriter, _ *http.Request) { answer(rw, keys) })
	mux.HandleFunc("/introspect", func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Store(r.PostFormValue("token"), true)
		answer(rw, map[string]bool{"active": false})
	})
	mux.HandleFunc("/token", func(rw http.ResponseWriter, r *http.Request) {
		p, err := jose.VerifyDPoP(r.Header.Get("DPoP"), jose.DPoPWant{Method: "POST", URL: w.url + "/token", Now: time.Now()})
		client, _, ok := r.BasicAuth()
		if err != nil || !ok {
			http.Error(rw, "no", http.StatusUnauthorized)
			return
		}
		tok, err := w.signer(jose.TypAccessToken).Sign(jose.AccessTokenClaims{
			Issuer: w.url, Subject: "svc_" + client, Audience: jose.Audience{r.PostFormValue("resource")},
			ExpiresAt: jose.Date(time.Now().Add(time.Minute)), IssuedAt: jose.Date(time.Now()), JTI: rand.Text(), ClientID: client, Confirmation: &jose.Confirmation{JKT: p.JKT},
		})
		if err != nil {
			t.Error(err)
		}
		answer(rw, map[string]any{"access_token": tok, "token_type": "DPoP", "expires_in": 60})
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.hub.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; w.srv.CloseClientConnections(); w.srv.Close() })
	return w
}

func (w *world) point(t *testing.T, client, aud string) *countersign.Verifier {
	t.Helper()
	v, err := countersign.New(t.Context(), countersign.Config{Issuer: w.url, Audience: aud, AllowBearer: true, Client: countersign.ClientAuth{ID: client, Secret: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := v.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for !v.FeedStatus().Connected && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return v
}

// token is a bearer token towards an audience that descends from a node.
func (w *world) token(t *testing.T, aud, node string) *http.Request {
	t.Helper()
	key, err := lineage.AudienceKey([]byte("key"), aud)
	if err != nil {
		t.Fatal(err)
	}
	lin, err := lineage.Handles(key, []lineage.Node{{ID: node, Kind: lineage.Session}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := w.signer(jose.TypAccessToken).Sign(jose.AccessTokenClaims{
		Issuer: w.url, Subject: "usr_dana", Audience: jose.Audience{aud}, Lineage: lin,
		ExpiresAt: jose.Date(time.Now().Add(5 * time.Minute)), IssuedAt: jose.Date(time.Now()), JTI: rand.Text(), ClientID: "app",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+tok)
	return r
}

// From the numbering of a revocation to the refusal at a connected enforcement
// point, over real sockets. The promise is p99 < 1 s (C18), the aim 100 ms.
func TestLatency(t *testing.T) {
	w := newWorld(t)
	points := []*countersign.Verifier{w.point(t, "a", audiences[0]), w.point(t, "b", audiences[1])}
	n := 200
	if testing.Short() {
		n = 20
	}
	var took []time.Duration
	for range n {
		node := id.New(id.Session)
		reqs := []*http.Request{w.token(t, audiences[0], node), w.token(t, audiences[1], node)}
		for i, v := range points {
			if _, err := v.Verify(reqs[i]); err != nil {
				t.Fatalf("before: %v", err)
			}
		}
		start := time.Now()
		w.log.end(node)
		w.hub.Wake()
		for i, v := range points {
			for {
				if _, err := v.Verify(reqs[i]); err != nil {
					break
				}
				if time.Since(start) > time.Minute {
					t.Fatal("never refused")
				}
				time.Sleep(50 * time.Microsecond)
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	p50 := took[len(took)/2]
	t.Logf("p50 %s, p99 %s, max %s", p50, took[len(took)*99/100], took[len(took)-1])
	if p50 > time.Second { // the slowest are the machine's; test/trust measures them on one that does nothing else
		t.Errorf("p50 %s", p50)
	}
	w.asked.Range(func(any, any) bool { t.Error("the issuer was asked"); return false })
}

// What is acknowledged as applied is refused from then on.
func TestAppliedMeansRefused(t *testing.T) {
	w := newWorld(t)
	v := w.point(t, "a", audiences[0])
	for range 50 {
		node := id.New(id.Session)
		r := w.token(t, audiences[0], node)
		seq := w.log.end(node)
		w.hub.Wake()
		if m := w.hub.WaitApplied(t.Context(), seq, time.Minute); m["a"] < seq {
			t.Fatalf("not applied: %v, want %d", m, seq)
		}
		if _, err := v.Verify(r); err == nil {
			t.Fatal("accepted after it was acknowledged")
		}
	}
}

// An enforcement point that was cut off learns what it missed, and one that
// comes later begins with it.
func TestCutOffAndLate(t *testing.T) {
	w := newWorld(t)
	v := w.point(t, "a", audiences[0])
	first, second := id.New(id.Session), id.New(id.Session)
	w.log.end(first)
	w.srv.CloseClientConnections()
	w.log.end(second)
	deadline := time.Now().Add(time.Minute)
	for _, node := range []string{first, second} {
		for {
			if _, err := v.Verify(w.token(t, audiences[0], node)); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("never refused: %+v", v.FeedStatus())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	late := w.point(t, "b", audiences[1])
	if _, err := late.Verify(w.token(t, audiences[1], second)); err == nil {
		t.Error("accepted by one that came later")
	}
	if _, err := late.Verify(w.token(t, audiences[1], id.New(id.Session))); err != nil {
		t.Errorf("positive control: %v", err)
	}
}

// A key that the issuer withdrew verifies nothing at an enforcement point that hears
// the feed, whatever set of keys it holds; and what the issuer says of how far it is
// comes back to it.
func TestWithdrawnAndMark(t *testing.T) {
	var mu sync.Mutex
	var withdrawn, seen []string
	w := newWorld(t, func(c *feed.Config) {
		c.Withdrawn = func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(withdrawn) }
		c.Mark = func(context.Context) (uint64, string, error) { return 7, "mark7", nil }
		c.Seen = func(_ context.Context, mark string) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, mark)
			return nil
		}
	})
	v := w.point(t, "a", audiences[0])
	r := w.token(t, audiences[0], id.New(id.Session))
	if _, err := v.Verify(r); err != nil {
		t.Fatalf("before: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if time.Now().After(deadline) {
				t.Fatalf("never %s: %+v", what, v.FeedStatus())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("told how far the issuer is", func() bool { return v.FeedStatus().HW == 7 })
	w.srv.CloseClientConnections()
	until("given the mark back", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(seen, "mark7") })
	mu.Lock()
	withdrawn = []string{"k1"}
	mu.Unlock()
	w.hub.Rekey()
	until("refused", func() bool { _, err := v.Verify(r); return err != nil })
}
