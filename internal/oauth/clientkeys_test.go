package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/web"
)

// publisher is a client's web server, which publishes a key set.
type publisher struct {
	*httptest.Server
	body  atomic.Pointer[string] // nil: it fails
	reads atomic.Int64
}

func (r *rig) publisher(kids map[string]crypto.Signer) *publisher {
	r.Helper()
	p := &publisher{}
	p.says(r, kids)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.reads.Add(1)
		if b := p.body.Load(); b != nil {
			w.Write([]byte(*b))
			return
		}
		http.Error(w, "no", http.StatusBadGateway)
	}))
	r.Cleanup(p.Close)
	return p
}

func (p *publisher) says(r *rig, kids map[string]crypto.Signer) {
	r.Helper()
	set := &jose.JWKSet{}
	for kid, k := range kids {
		set.Keys = append(set.Keys, jose.JWK{KeyID: kid, Algorithm: "ES256", Key: k.Public()})
	}
	b := string(got(json.Marshal(set))(r))
	p.body.Store(&b)
}

func (r *rig) ecKey() crypto.Signer {
	r.Helper()
	return got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r)
}

func TestKeysByAddress(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	first, second := r.ecKey(), r.ecKey()
	p := r.publisher(map[string]crypto.Signer{"k1": first})
	c := r.jwt
	c.JWKS, c.JWKSURI = nil, p.URL
	r.do(audit.ClientUpdated, client.Update{Client: c})
	s := r.nodes[0].server
	s.Published = &jwks.Source{HTTP: p.Client(), Now: r.clock.now}
	sign := func(key crypto.Signer, kid string) string {
		j := got(jose.NewSigner(key, "ES256", kid, jose.TypClientAssertion))(r)
		return got(j.Sign(jose.ClientAssertionClaims{
			Issuer: "jwt", Subject: "jwt", Audience: jose.Audience{issuer}, JTI: rand.Text(), IssuedAt: jose.Date(r.clock.now()), ExpiresAt: jose.Date(r.clock.now().Add(time.Minute)),
		}))(r)
	}
	try := func(key crypto.Signer, kid string) answer {
		return r.post("/oauth/token", form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", sign(key, kid)))
	}
	r.expect("a published key", 200, "", try(first, "k1"))
	r.expect("without its name", 200, "", try(first, ""))
	r.expect("another key under its name", 401, "invalid_client", try(second, "k1"))
	r.expect("a key not published yet", 401, "invalid_client", try(second, "k2"))
	p.says(r, map[string]crypto.Signer{"k2": second})
	r.clock.move(jwks.MissingPause)
	r.expect("a new key", 200, "", try(second, "k2"))
	r.expect("the old key", 401, "invalid_client", try(first, "k1"))
	if n := p.reads.Load(); n != 2 {
		t.Errorf("%d reads, want 2", n)
	}
	r.expect("introspection", 200, "", r.post("/oauth/introspect", form("token", "x", "client_assertion_type", assertionType, "client_assertion", sign(second, "k2"))))

	// While the publisher is out its last set serves; after that nobody is let in, and
	// it is said whose fault it is.
	p.body.Store(nil)
	r.clock.move(time.Hour)
	r.expect("an outage", 200, "", try(second, "k2"))
	r.clock.move(jwks.MaxStale)
	r.expect("a long outage", 503, "temporarily_unavailable", try(second, "k2"))
	r.expect("a long outage, introspection", 503, "temporarily_unavailable", r.post("/oauth/introspect", form("token", "x", "client_assertion_type", assertionType, "client_assertion", sign(second, "k2"))))

	// Behind the guard an address of this machine is never reached.
	before := p.reads.Load()
	p.says(r, map[string]crypto.Signer{"k2": second})
	s.Published = &jwks.Source{HTTP: web.Egress{}.Client(), Now: r.clock.now}
	r.expect("a private address", 503, "temporarily_unavailable", try(second, "k2"))
	if p.reads.Load() != before {
		t.Error("a private address was reached")
	}
	s.Published = nil
	r.expect("no fetcher", 503, "temporarily_unavailable", try(second, "k2"))
	s.Published = &jwks.Source{HTTP: p.Client(), Now: r.clock.now}
	r.expect("the control", 200, "", try(second, "k2"))

	// Signed requests find the same keys.
	claims := func() map[string]any {
		out := map[string]any{"iss": "jwt", "aud": issuer, "nbf": r.clock.now().Unix(), "exp": r.clock.now().Add(time.Minute).Unix()}
		for k, v := range r.request(c) {
			out[k] = v[0]
		}
		return out
	}
	for name, k := range map[string]crypto.Signer{"": second, "invalid_request_object": first} {
		j := got(jose.NewSigner(k, "ES256", "k2", jose.TypRequestObject))(r)
		f := form("client_assertion_type", assertionType, "client_assertion", sign(second, "k2"), "request", got(j.Sign(claims()))(r))
		if a := r.post("/oauth/par", f); a.code() != name {
			t.Errorf("a pushed signed request: %d %s, want %q", a.status, a.body, name)
		}
	}
}
