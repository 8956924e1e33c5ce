package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// A proof is used once on all replicas: at the token endpoint, at pushed requests
// and at userinfo, one after the other and many at once.
func TestProofsAreUsedOnceOnAllReplicas(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		p := r.prover()
		tok := r.tokens(p.post("/oauth/token", r.redemption(r.app, r.code(r.app))))
		cc := form("grant_type", "client_credentials")
		at := func(n int, method, path string, f url.Values, opts ...option) answer {
			return r.send(n, method, path, map[bool]string{true: formType}[method == "POST"], strings.NewReader(f.Encode()), opts...)
		}
		once := with("DPoP", p.make("POST", "/oauth/token", ""))
		r.expect("here", 200, "", at(0, "POST", "/oauth/token", cc, r.auth(r.svc), once))
		r.expect("on another replica", 400, "invalid_dpop_proof", at(1, "POST", "/oauth/token", cc, r.auth(r.svc), once))
		once = with("DPoP", p.make("POST", "/oauth/par", ""))
		r.expect("pushed here", 201, "", at(0, "POST", "/oauth/par", r.request(r.web), r.auth(r.web), once))
		r.expect("pushed on another replica", 400, "invalid_dpop_proof", at(1, "POST", "/oauth/par", r.request(r.web), r.auth(r.web), once))

		own := with("Authorization", "DPoP "+tok.AccessToken)
		a := at(0, "GET", "/oauth/userinfo", nil, own, with("DPoP", p.make("GET", "/oauth/userinfo", tok.AccessToken)))
		p.nonce = a.header.Get("DPoP-Nonce") // of the resource server
		once = with("DPoP", p.make("GET", "/oauth/userinfo", tok.AccessToken))
		if a := at(1, "GET", "/oauth/userinfo", nil, own, once); a.status != 200 {
			r.Errorf("a nonce of another replica: %d %q", a.status, a.header.Get("WWW-Authenticate"))
		}
		if a := at(0, "GET", "/oauth/userinfo", nil, own, once); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_dpop_proof") {
			r.Errorf("a proof of another replica: %d %q", a.status, a.header.Get("WWW-Authenticate"))
		}

		// Many at once, on both: one wins.
		p.nonce = at(0, "POST", "/oauth/token", cc, r.auth(r.svc), with("DPoP", p.make("POST", "/oauth/token", ""))).header.Get("DPoP-Nonce")
		race := with("DPoP", p.make("POST", "/oauth/token", ""))
		var wg sync.WaitGroup
		var won atomic.Int64
		for n := range 16 {
			wg.Go(func() {
				switch a := at(n%2, "POST", "/oauth/token", cc, r.auth(r.svc), race); {
				case a.status == 200:
					won.Add(1)
				case a.code() != "invalid_dpop_proof" && a.code() != "temporarily_unavailable":
					r.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			r.Errorf("%d of one proof", won.Load())
		}
	})
}

// The nonces of the authorization server and of its resources are two spaces.
func TestNonceSpaces(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	tok := r.tokens(p.post("/oauth/token", r.redemption(r.app, r.code(r.app)))) // p has a nonce of the token endpoint now
	own := with("Authorization", "DPoP "+tok.AccessToken)
	a := r.get("/oauth/userinfo", own, with("DPoP", p.make("GET", "/oauth/userinfo", tok.AccessToken)))
	if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "use_dpop_nonce") {
		t.Errorf("a nonce of the token endpoint at userinfo: %d %q", a.status, a.header.Get("WWW-Authenticate"))
	}
	there := a.header.Get("DPoP-Nonce")
	if there == "" || there == p.nonce {
		t.Errorf("nonces %q and %q", p.nonce, there)
	}
	p.nonce = there
	if a := r.get("/oauth/userinfo", own, with("DPoP", p.make("GET", "/oauth/userinfo", tok.AccessToken))); a.status != 200 || a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("its own: %d, nonce %q", a.status, a.header.Get("DPoP-Nonce"))
	}
	r.expect("and back", 400, "use_dpop_nonce", r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc), with("DPoP", p.make("POST", "/oauth/token", ""))))
	for name, proof := range map[string]string{
		"no ath": p.make("GET", "/oauth/userinfo", ""), "another token's ath": p.make("GET", "/oauth/userinfo", tok.IDToken), "another method": p.make("POST", "/oauth/userinfo", tok.AccessToken),
	} {
		if a := r.get("/oauth/userinfo", own, with("DPoP", proof)); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_dpop_proof") {
			t.Errorf("%s: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
}

// Every algorithm that is announced is taken, and none beside them.
func TestProofAlgorithms(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	rsaKey := got(rsa.GenerateKey(rand.Reader, 2048))(r)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	announced := textsOf(r.get("/.well-known/oauth-authorization-server").json(t)["dpop_signing_alg_values_supported"])
	for alg, key := range map[string]crypto.Signer{
		jose.ES256: r.ecKey(), jose.ES384: got(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(r), jose.PS256: rsaKey, jose.EdDSA: ed,
	} {
		if !slices.Contains(announced, alg) {
			t.Errorf("%s is not announced: %v", alg, announced)
		}
		p := &prover{r: r, key: key}
		tok := r.tokens(p.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
		if r.claims(tok.AccessToken).Confirmation.JKT != p.jkt() {
			t.Errorf("%s: bound to another key", alg)
		}
	}
	for name, proof := range map[string]string{
		"none":  "eyJhbGciOiJub25lIiwidHlwIjoiZHBvcCtqd3QiLCJqd2siOnt9fQ.e30.",
		"HS256": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImRwb3Arand0IiwiandrIjp7Imt0eSI6Im9jdCIsImsiOiJBQUFBIn19.e30.AAAA",
	} {
		r.expect(name, 400, "invalid_dpop_proof", r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc), with("DPoP", proof)))
	}
}

// htu is compared as RFC 3986 means it; what differs after that is another address.
func TestProofAddresses(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	r.tokens(p.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
	for htu, good := range map[string]bool{
		issuer + "/oauth/token": true, "https://ID.example.COM:443/oauth/token": true, issuer + "/oauth/%74oken": true, issuer + "/oauth/./token?x=1#y": true, issuer + "/x/../oauth/token": true,
		"http://id.example.com/oauth/token": false, issuer + ":8443/oauth/token": false, issuer + "/oauth/token/": false, issuer + "/oauth/Token": false,
		"https://id.example.com.evil.example/oauth/token": false, "https://u@id.example.com/oauth/token": false, "/oauth/token": false, issuer + "/oauth%2Ftoken": false,
		mtlsOrigin + "/oauth/token": false,
	} {
		claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": htu, "iat": r.clock.now().Unix(), "nonce": p.nonce}
		proof := got(proofOf(r, p.key, claims))(r)
		status, code := 200, ""
		if !good {
			status, code = 400, "invalid_dpop_proof"
		}
		r.expect(htu, status, code, r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc), with("DPoP", proof)))
	}
	for at, good := range map[time.Duration]bool{10 * time.Second: true, -10 * time.Second: true, proofWindow + time.Second: false, -proofWindow - 2*time.Second: false} {
		proof := got(proofOf(r, p.key, map[string]any{"jti": rand.Text(), "htm": "POST", "htu": issuer + "/oauth/token", "iat": r.clock.now().Add(at).Unix(), "nonce": p.nonce}))(r)
		if a := r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc), with("DPoP", proof)); (a.status == 200) != good {
			t.Errorf("iat %s from now: %d %s", at, a.status, a.body)
		}
	}
}

// proofOf signs a proof with claims as they stand, with ES256.
func proofOf(r *rig, key crypto.Signer, claims map[string]any) (string, error) {
	r.Helper()
	made := got(jose.MakeDPoP(key, "POST", issuer, "", "", r.clock.now()))(r)
	head, _, _ := strings.Cut(made, ".")
	text := head + "." + base64.RawURLEncoding.EncodeToString(got(json.Marshal(claims))(r))
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		return "", err
	}
	sig := append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}
