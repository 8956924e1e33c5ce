package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
)

// bank is a client that is held to the FAPI 2.0 Security Profile.
type bank struct {
	r   *rig
	c   client.Client
	key crypto.Signer
	alg string
	p   *prover
}

func (r *rig) bank(name string, edit func(*client.Client)) *bank {
	r.Helper()
	b := &bank{r: r, key: r.ecKey(), alg: jose.ES256, p: r.prover()}
	b.c = r.certified(name, func(c *client.Client) {
		c.AuthMethod, c.Profile, c.RequireDPoP = client.AuthPrivateKeyJWT, client.FAPI2, true
		c.JWKS = b.set(b.key)
		edit(c)
	})
	return b
}

func (b *bank) set(keys ...crypto.Signer) json.RawMessage {
	set := &jose.JWKSet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JWK{Key: k.Public()})
	}
	return got(json.Marshal(set))(b.r)
}

// asserted adds a client assertion to a form.
func (b *bank) asserted(f url.Values, edits ...func(map[string]any)) url.Values {
	b.r.Helper()
	now := b.r.clock.now()
	claims := map[string]any{"iss": b.c.ClientID, "sub": b.c.ClientID, "aud": issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	for _, e := range edits {
		e(claims)
	}
	s := got(jose.NewSigner(b.key, b.alg, "", jose.TypClientAssertion))(b.r)
	return change(f, "client_assertion_type", assertionType, "client_assertion", got(s.Sign(claims))(b.r))
}

func (b *bank) push(pairs ...string) answer {
	b.r.Helper()
	return b.r.post("/oauth/par", b.asserted(b.r.request(b.c, pairs...)))
}

// bring takes a pushed request to the authorization endpoint.
func (b *bank) bring(uri string, pairs ...string) answer {
	b.r.Helper()
	return b.r.authorize(change(form("client_id", b.c.ClientID, "request_uri", uri), pairs...), in(b.r.ses))
}

// code goes the whole way to a code.
func (b *bank) code(pairs ...string) string {
	b.r.Helper()
	a := b.push(pairs...)
	uri, _ := a.json(b.r)["request_uri"].(string)
	q := b.bring(uri).to(b.r).Query()
	if q.Get("code") == "" {
		b.r.Fatalf("no code: %s %v", a.body, q)
	}
	return q.Get("code")
}

func (b *bank) redemption(code string) url.Values {
	return form("grant_type", "authorization_code", "code", code, "code_verifier", b.r.verifier, "redirect_uri", b.c.RedirectURIs[0])
}

// post sends a form with an assertion and a proof, each made anew for the nonce.
func (b *bank) post(f url.Values) answer {
	b.r.Helper()
	if a := b.p.post("/oauth/token", b.asserted(form("grant_type", "client_credentials", "resource", "https://nowhere.example"))); a.code() != "invalid_target" {
		b.r.Fatalf("the nonce: %d %s", a.status, a.body)
	}
	return b.r.post("/oauth/token", b.asserted(f), with("DPoP", b.p.make("POST", "/oauth/token", "")))
}

// A test for each clause of the FAPI 2.0 Security Profile (final, February 2025)
// that an authorization server answers for; docs/flows/fapi.md has the same list.
func TestFAPI(t *testing.T) {
	t.Parallel()
	for clause, f := range map[string]func(*rig, *bank){
		"5.2.2 https only": func(r *rig, b *bank) {
			if !strings.HasPrefix(issuer, "https://") {
				r.Error("the issuer is not https")
			}
			c := b.c
			for _, uri := range []string{"http://127.0.0.1/cb", "http://bank.example.com/cb", "com.example.bank:/cb"} {
				c.RedirectURIs, c.Native = []string{uri}, true
				if client.Check(c) == nil {
					r.Errorf("registered with %s", uri)
				}
			}
		},
		"5.3.2.1 discovery, code flow only": func(r *rig, b *bank) {
			m := r.get("/.well-known/openid-configuration").json(r)
			if m["issuer"] != issuer || len(m["response_types_supported"].([]any)) != 1 || m["response_types_supported"].([]any)[0] != "code" || m["pushed_authorization_request_endpoint"] == nil {
				r.Errorf("%v", m)
			}
			r.expect("password", 400, "unsupported_grant_type", b.post(form("grant_type", "password", "username", "x", "password", "y")))
			if a := b.push("response_type", "code token"); a.code() != "unsupported_response_type" {
				r.Errorf("response_type: %s", a.body)
			}
		},
		"5.3.2.1 confidential clients by key or certificate": func(r *rig, b *bank) {
			c := b.c
			for _, m := range []client.AuthMethod{client.AuthNone, client.AuthSecretBasic, client.AuthSecretPost} {
				if c.AuthMethod = m; m != client.AuthNone {
					r.secretOf(&c)
				}
				if client.Check(c) == nil {
					r.Errorf("registered with %s", m)
				}
			}
			// A row that says so all the same opens nothing.
			c = b.c
			c.AuthMethod = client.AuthSecretPost
			text := r.secretOf(&c)
			r.do(audit.ClientUpdated, client.Update{Client: c})
			r.expect("by secret", 401, "invalid_client", r.post("/oauth/token", form("grant_type", "client_credentials", "client_id", c.ClientID, "client_secret", text)))
		},
		"5.3.2.1 sender-constrained tokens only": func(r *rig, b *bank) {
			c := b.c
			if c.RequireDPoP = false; client.Check(c) == nil {
				r.Error("registered without a bond")
			}
			r.do(audit.ClientUpdated, client.Update{Client: c}) // a row that says so all the same
			f := b.redemption(b.code())
			r.expect("without a proof", 400, "invalid_dpop_proof", r.post("/oauth/token", b.asserted(f)))
			tok := r.tokens(b.post(f))
			if tok.TokenType != "DPoP" || r.claims(tok.AccessToken).Confirmation.JKT != b.p.jkt() {
				r.Errorf("%+v", tok)
			}
			r.expect("a service without a proof", 400, "invalid_dpop_proof", r.post("/oauth/token", b.asserted(form("grant_type", "client_credentials"))))
			r.expect("refresh without a proof", 400, "invalid_dpop_proof", r.post("/oauth/token", b.asserted(form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken))))
		},
		"5.3.2.1 the issuer as the only audience, as a string": func(r *rig, b *bank) {
			for name, aud := range map[string]any{
				"a list of one": []string{issuer}, "a list": []string{issuer, "https://x.example"}, "the token endpoint": issuer + "/oauth/token", "the pushed request endpoint": issuer + "/oauth/par",
				"with a slash": issuer + "/",
			} {
				f := b.asserted(r.request(b.c), func(m map[string]any) { m["aud"] = aud })
				r.expect(name, 401, "invalid_client", r.post("/oauth/par", f))
			}
			r.expect("the issuer", 201, "", b.push())
		},
		"5.3.2.1 clocks: 10 s ahead is taken, 60 s is not": func(r *rig, b *bank) {
			for ahead, status := range map[time.Duration]int{8 * time.Second: 201, 10 * time.Second: 201, 61 * time.Second: 401} {
				for _, claim := range []string{"iat", "nbf"} {
					f := b.asserted(r.request(b.c), func(m map[string]any) {
						m[claim] = r.clock.now().Add(ahead).Unix()
						m["exp"] = r.clock.now().Add(90 * time.Second).Unix()
					})
					if a := r.post("/oauth/par", f); a.status != status {
						r.Errorf("%s %s ahead: %d %s", claim, ahead, a.status, a.body)
					}
				}
			}
			f := b.asserted(r.request(b.c), func(m map[string]any) { m["exp"] = r.clock.now().Unix() })
			r.expect("expired", 401, "invalid_client", r.post("/oauth/par", f))
		},
		"5.3.2.1 no rotation of refresh tokens": func(r *rig, b *bank) {
			tok := r.tokens(b.post(b.redemption(b.code())))
			for range 3 {
				next := r.tokens(b.post(form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken)))
				if next.RefreshToken != tok.RefreshToken || next.TokenType != "DPoP" {
					r.Errorf("rotated: %+v", next)
				}
			}
		},
		"5.3.2.1 nonces for proofs": func(r *rig, b *bank) {
			f := b.redemption(b.code())
			a := r.post("/oauth/token", b.asserted(f), with("DPoP", r.prover().make("POST", "/oauth/token", "")))
			r.expect("without one", 400, "use_dpop_nonce", a)
			if a.header.Get("DPoP-Nonce") == "" {
				r.Error("no nonce")
			}
			r.expect("with one", 200, "", b.post(f))
		},
		"5.3.2.2 pushed requests only": func(r *rig, b *bank) {
			q := r.authorize(r.request(b.c), in(r.ses)).to(r).Query()
			if q.Get("error") != "invalid_request" || q.Get("code") != "" || q.Get("iss") != issuer {
				r.Errorf("a request that was not pushed: %v", q)
			}
			r.expect("not authenticated", 401, "invalid_client", r.post("/oauth/par", change(r.request(b.c), "client_id", b.c.ClientID)))
			if a := b.push("request_uri", "urn:x"); a.code() != "invalid_request" {
				r.Errorf("a request_uri within: %s", a.body)
			}
			a := b.push()
			m := a.json(r)
			if a.status != 201 || m["expires_in"].(float64) >= 600 {
				r.Errorf("expires_in %v", m["expires_in"])
			}
			uri := m["request_uri"].(string)
			if a := r.authorize(form("client_id", "app", "request_uri", uri), in(r.ses)); a.status < 400 {
				r.Errorf("by another client: %d", a.status)
			}
			if code := b.bring(uri, "scope", "vault:open", "redirect_uri", "https://evil.example/").to(r); !strings.HasPrefix(code.String(), b.c.RedirectURIs[0]) {
				r.Errorf("what is outside counts: %s", code)
			}
			if a := b.bring(uri); a.status < 400 {
				r.Errorf("used twice: %d %s", a.status, a.header.Get("Location"))
			}
			// A request from before the client was held to the profile is not answered.
			plain := b.c
			plain.Profile = ""
			r.do(audit.ClientUpdated, client.Update{Client: plain})
			r.clock.move(time.Minute)
			_, ref := r.authorize(r.request(b.c, "prompt", "login"), in(r.ses)).page(r)
			r.do(audit.ClientUpdated, client.Update{Client: b.c})
			r.prove(ref, false)
			if a := r.resume(ref); strings.Contains(a.header.Get("Location"), "code=") {
				r.Errorf("an older request is answered: %s", a.header.Get("Location"))
			}
		},
		"5.3.2.2 PKCE with S256": func(r *rig, b *bank) {
			r.expect("plain", 400, "invalid_request", b.push("code_challenge_method", "plain", "code_challenge", r.verifier))
			r.expect("none", 400, "invalid_request", b.push("code_challenge", "", "code_challenge_method", ""))
			f := b.redemption(b.code())
			r.expect("another verifier", 400, "invalid_grant", b.post(change(f, "code_verifier", strings.Repeat("x", 43))))
			r.expect("no verifier", 400, "invalid_grant", b.post(change(f, "code_verifier", "")))
			r.expect("the verifier", 200, "", b.post(f))
		},
		"5.3.2.2 redirect_uri is there and exact": func(r *rig, b *bank) {
			r.expect("none", 400, "invalid_request", b.push("redirect_uri", ""))
			for _, uri := range []string{b.c.RedirectURIs[0] + "/", b.c.RedirectURIs[0] + "?x=1", strings.ToUpper(b.c.RedirectURIs[0]), "https://evil.example/cb", "http://127.0.0.1:1/cb"} {
				if a := b.push("redirect_uri", uri); a.status != 400 {
					r.Errorf("%s: %d", uri, a.status)
				}
			}
		},
		"5.3.2.2 iss in every answer": func(r *rig, b *bank) {
			uri := b.push().json(r)["request_uri"].(string)
			if q := b.bring(uri).to(r).Query(); q.Get("iss") != issuer || q.Get("code") == "" {
				r.Errorf("success: %v", q)
			}
			r.clock.move(time.Minute)
			uri = b.push("prompt", "none", "max_age", "0").json(r)["request_uri"].(string)
			if q := b.bring(uri).to(r).Query(); q.Get("iss") != issuer || q.Get("error") == "" {
				r.Errorf("error: %v", q)
			}
		},
		"5.3.2.2 303 after a POST, never 307": func(r *rig, b *bank) {
			uri := b.push().json(r)["request_uri"].(string)
			if a := r.post("/oauth/authorize", form("client_id", b.c.ClientID, "request_uri", uri), in(r.ses)); a.status != 303 {
				r.Errorf("%d", a.status)
			}
		},
		"5.3.2.2 codes live 60 s at most and once": func(r *rig, b *bank) {
			if grant.CodeLifetime > time.Minute {
				r.Errorf("a code lives %s", grant.CodeLifetime)
			}
			f := b.redemption(b.code())
			r.clock.move(time.Minute)
			r.expect("too late", 400, "invalid_grant", b.post(f))
			f = b.redemption(b.code())
			r.expect("once", 200, "", b.post(f))
			r.expect("twice", 400, "invalid_grant", b.post(f))
		},
		"5.3.2.2 a nonce of 64 characters": func(r *rig, b *bank) {
			n := strings.Repeat("n", 64)
			tok := r.tokens(b.post(b.redemption(b.code("nonce", n))))
			if c := r.idToken(tok.IDToken, b.c.ClientID); c.Nonce != n {
				r.Errorf("nonce %q", c.Nonce)
			}
		},
		"5.3.2.2 codes bound to a key (RFC 9449 §10)": func(r *rig, b *bank) {
			f := b.redemption(b.code("dpop_jkt", b.p.jkt()))
			other := *b
			other.p = r.prover()
			r.expect("another key", 400, "invalid_grant", other.post(f))
			r.expect("the key", 200, "", b.post(f))
		},
		"5.3.3 the scheme of Authorization in any case": func(r *rig, b *bank) {
			tok := r.tokens(b.post(b.redemption(b.code())))
			for _, scheme := range []string{"DPoP", "dpop", "DPOP"} {
				if a := b.p.send("GET", "/oauth/userinfo", nil, tok.AccessToken, with("Authorization", scheme+" "+tok.AccessToken)); a.status != 200 {
					r.Errorf("%s: %d", scheme, a.status)
				}
			}
			if a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken)); a.status != 401 {
				r.Errorf("as a bearer token: %d", a.status)
			}
			if a := r.get("/oauth/userinfo?access_token=" + tok.AccessToken); a.status != 401 {
				r.Errorf("in the query: %d", a.status)
			}
		},
		"5.4.1 algorithms": func(r *rig, b *bank) {
			rsaKey := got(rsa.GenerateKey(rand.Reader, 2048))(r)
			_, ed, err := ed25519.GenerateKey(rand.Reader)
			ok(r, err)
			p384 := got(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(r)
			c := b.c
			c.JWKS = b.set(b.key, rsaKey, ed, p384)
			r.do(audit.ClientUpdated, client.Update{Client: c})
			for _, k := range []struct {
				alg    string
				key    crypto.Signer
				status int
			}{{"ES256", b.key, 201}, {"PS256", rsaKey, 201}, {"EdDSA", ed, 201}, {"RS256", rsaKey, 401}, {"ES384", p384, 401}} {
				as := *b
				as.key, as.alg = k.key, k.alg
				if a := as.push(); a.status != k.status {
					r.Errorf("an assertion with %s: %d %s", k.alg, a.status, a.body)
				}
			}
			// Proofs, too: a client that is not held to the profile may use ES384.
			weak := *b
			weak.p = &prover{r: r, key: p384}
			f := b.redemption(b.code())
			r.expect("a proof with ES384", 400, "invalid_dpop_proof", weak.p.post("/oauth/token", b.asserted(f)))
			for _, alg := range []string{"RS256"} {
				c := b.c
				if c.IDTokenAlg = alg; client.Check(c) == nil {
					r.Errorf("ID tokens with %s", alg)
				}
			}
			head, _, _ := strings.Cut(r.tokens(b.post(f)).IDToken, ".")
			if h := decoded(r, head); !slices.Contains(client.FAPIAlgorithms, h["alg"].(string)) {
				r.Errorf("ID token: %v", h)
			}
		},
		"5.4.2 RSA of 2048 bits": func(r *rig, b *bank) {
			c := b.c
			if c.JWKS = json.RawMessage(`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("v", 171) + `","e":"AQAB"}]}`); client.Check(c) == nil {
				r.Error("a key of 1024 bits is registered")
			}
		},
	} {
		t.Run(clause, func(t *testing.T) {
			r := onSQLite(t)
			f(r, r.bank("bank", func(*client.Client) {}))
		})
	}
}

func decoded(r *rig, part string) (m map[string]any) {
	r.Helper()
	ok(r, json.Unmarshal(got(base64.RawURLEncoding.DecodeString(part))(r), &m))
	return m
}

// The profile with a certificate in place of proofs: token, refresh and a downgrade.
func TestFAPIByCertificate(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		ca := r.authority("Clients")
		s := r.mutual(ca.pool())[0]
		cert := ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{"bank.example.com"} })
		c := r.certified("bank", func(c *client.Client) {
			c.Profile, c.SanDNS, c.CertificateBound = client.FAPI2, "bank.example.com", true
		})
		a := r.shown(s, &cert, "/oauth/par", r.request(c))
		uri, _ := a.json(r)["request_uri"].(string)
		code := r.authorize(form("client_id", "bank", "request_uri", uri), in(r.ses)).to(r).Query().Get("code")
		f := form("grant_type", "authorization_code", "client_id", "bank", "code", code, "code_verifier", r.verifier)
		r.expect("where no certificate is asked for", 401, "invalid_client", r.post("/oauth/token", f))
		r.expect("a key instead", 401, "invalid_client", r.prover().post("/oauth/token", f))
		tok := r.tokens(r.shown(s, &cert, "/oauth/token", f))
		if cnf := r.claims(tok.AccessToken).Confirmation; cnf == nil || cnf.X5TS256 != jose.CertificateThumbprint(cert.Certificate[0]) {
			r.Errorf("cnf %+v", cnf)
		}
		again := r.tokens(r.shown(s, &cert, "/oauth/token", form("grant_type", "refresh_token", "client_id", "bank", "refresh_token", tok.RefreshToken)))
		if again.RefreshToken != tok.RefreshToken {
			r.Error("rotated")
		}
		for name, cert := range map[string]*tls.Certificate{"none": nil} {
			r.expect("refresh, "+name, 401, "invalid_client", r.shown(s, cert, "/oauth/token", form("grant_type", "refresh_token", "client_id", "bank", "refresh_token", tok.RefreshToken)))
		}
	})
}
