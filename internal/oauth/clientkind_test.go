package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/secret"
)

// kind is a way for a client to authenticate: how it is registered, and how a
// request of it is sent, well and badly.
type kind struct {
	edit func(*client.Client)
	send map[string]func(path string, f url.Values) answer // "" is the good one
}

// kinds are all methods on offer, for the client whose id is me; the walk fails if
// the server announces one that is not here.
func (r *rig) kinds(me *string) map[client.AuthMethod]kind {
	ca, elsewhere := r.authority("Clients"), r.authority("Clients")
	s := r.mutual(ca.pool())[0]
	named := func(c *x509.Certificate) { c.Subject.CommonName = "kind"; c.Subject.Organization = nil }
	mine, forged := ca.issue(named), elsewhere.issue(named)
	other := ca.issue(func(*x509.Certificate) {})
	late := ca.issue(func(c *x509.Certificate) { named(c); c.NotAfter = start.Add(-time.Second) })
	self, stranger := r.itself(r.ecKey(), start.AddDate(0, 1, 0)), r.itself(r.ecKey(), start.AddDate(0, 1, 0))
	key := r.ecKey()
	text := secret.New(secret.ClientSecret)
	h := text.Hash()
	id := func(f url.Values) url.Values { return change(f, "client_id", *me) }
	over := func(cert *tls.Certificate) func(string, url.Values) answer {
		return func(path string, f url.Values) answer { return r.shown(s, cert, path, id(f)) }
	}
	inBody := func(v string) func(string, url.Values) answer {
		return func(path string, f url.Values) answer { return r.post(path, change(id(f), "client_secret", v)) }
	}
	inHeader := func(v string) func(string, url.Values) answer {
		return func(path string, f url.Values) answer { return r.post(path, f, basic(*me, v)) }
	}
	signed := func(k crypto.Signer, edit func(*jose.ClientAssertionClaims)) func(string, url.Values) answer {
		return func(path string, f url.Values) answer {
			c := jose.ClientAssertionClaims{Issuer: *me, Subject: *me, Audience: jose.Audience{issuer}, JTI: rand.Text(), IssuedAt: jose.Date(r.clock.now()), ExpiresAt: jose.Date(r.clock.now().Add(time.Minute))}
			edit(&c)
			j := got(jose.NewSigner(k, jose.ES256, "", jose.TypClientAssertion))(r)
			return r.post(path, change(f, "client_assertion_type", assertionType, "client_assertion", got(j.Sign(c))(r)))
		}
	}
	as := func(*jose.ClientAssertionClaims) {}
	jwk := func(k crypto.Signer, certs ...tls.Certificate) json.RawMessage {
		b := string(got(json.Marshal(jose.JWK{Key: k.Public()}))(r))
		for _, c := range certs {
			b = strings.TrimSuffix(b, "}") + `,"x5c":["` + base64.StdEncoding.EncodeToString(c.Certificate[0]) + `"]}`
		}
		return json.RawMessage(`{"keys":[` + b + `]}`)
	}
	bare := func(path string, f url.Values) answer { return r.post(path, id(f)) }
	method := func(m client.AuthMethod, edit func(*client.Client)) func(*client.Client) {
		return func(c *client.Client) { c.AuthMethod = m; edit(c) }
	}
	secretive := func(c *client.Client) { c.SecretHash = &h }
	wrongSecret := secret.New(secret.ClientSecret).Reveal()
	return map[client.AuthMethod]kind{
		client.AuthNone: {method(client.AuthNone, func(c *client.Client) { c.Service, c.GrantTypes = "", c.GrantTypes[1:3] }), map[string]func(string, url.Values) answer{
			"": bare, "a secret it does not have": inBody(wrongSecret), "another's assertion": signed(r.jwtKey, as),
		}},
		client.AuthSecretBasic: {method(client.AuthSecretBasic, secretive), map[string]func(string, url.Values) answer{
			"": inHeader(text.Reveal()), "wrong secret": inHeader(wrongSecret), "another's secret": inHeader(r.svcSecret), "none": bare, "an assertion": signed(key, as), "a certificate": over(&mine),
		}},
		client.AuthSecretPost: {method(client.AuthSecretPost, secretive), map[string]func(string, url.Values) answer{
			"": inBody(text.Reveal()), "wrong secret": inBody(wrongSecret), "another's secret": inBody(r.svcSecret), "none": bare, "a certificate": over(&self),
		}},
		client.AuthPrivateKeyJWT: {method(client.AuthPrivateKeyJWT, func(c *client.Client) { c.JWKS = jwk(key) }), map[string]func(string, url.Values) answer{
			"": signed(key, as), "wrong key": signed(r.ecKey(), as), "another's key": signed(r.jwtKey, as), "none": bare, "a secret": inBody(wrongSecret), "a certificate": over(&mine),
			"another as issuer": signed(key, func(c *jose.ClientAssertionClaims) { c.Issuer = "jwt" }), "another server's": signed(key, func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{"https://other.example"} }),
			"past its time": signed(key, func(c *jose.ClientAssertionClaims) { c.ExpiresAt = jose.Date(r.clock.now().Add(-time.Second)) }),
		}},
		client.AuthTLS: {method(client.AuthTLS, func(c *client.Client) { c.SubjectDN, c.CertificateBound = "CN=kind", true }), map[string]func(string, url.Values) answer{
			"": over(&mine), "wrong certificate": over(&forged), "another's certificate": over(&other), "past its time": over(&late), "none": over(nil), "its own signature": over(&self),
			"where none is asked for": bare, "an assertion": signed(key, as), "a secret": inBody(wrongSecret),
		}},
		client.AuthSelfSignedTLS: {method(client.AuthSelfSignedTLS, func(c *client.Client) { c.JWKS = jwk(self.PrivateKey.(crypto.Signer), self) }), map[string]func(string, url.Values) answer{
			"": over(&self), "wrong certificate": over(&stranger), "an authority's": over(&mine), "none": over(nil), "where none is asked for": bare,
		}},
	}
}

// Every kind of client × everything that it may present wrongly × each endpoint:
// invalid_client, and after that the same request succeeds: a failed
// authentication spends nothing (clients.md §2.5, mechanisms D15).
func TestEveryKindOfClient(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		me := ""
		kinds := r.kinds(&me)
		for _, m := range r.nodes[0].server.authMethods() {
			if _, ok := kinds[client.AuthMethod(m)]; !ok {
				r.Errorf("the walk does not know the method %s", m)
			}
		}
		for m, k := range kinds {
			me = strings.ReplaceAll(string(m), "_", "-")
			c := r.certified(me, func(c *client.Client) {
				c.GrantTypes = append(c.GrantTypes, client.CIBA)
				k.edit(c)
			})
			tok := r.tokens(k.send[""]("/oauth/token", r.redemption(client.Client{AuthMethod: client.AuthSecretPost}, r.code(c))))
			for name, ask := range map[string]struct {
				path string
				form url.Values
			}{
				"code":    {"/oauth/token", r.redemption(client.Client{AuthMethod: client.AuthSecretPost}, r.code(c))},
				"refresh": {"/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken)},
				"itself":  {"/oauth/token", form("grant_type", "client_credentials")},
				"push":    {"/oauth/par", change(r.request(c), "client_id", "")},
				"ask":     {"/oauth/introspect", form("token", tok.AccessToken)},
				"revoke":  {"/oauth/revoke", form("token", "x")},
				"person":  {backchannelPath, form("login_hint", "nobody of "+me, "scope", "openid", "binding_message", "W4SCT")},
			} {
				if m == client.AuthNone && (name == "itself" || name == "ask" || name == "person") {
					continue // not for public clients
				}
				for how, send := range k.send {
					if how != "" {
						r.expect(string(m)+", "+name+", "+how, 401, "invalid_client", send(ask.path, ask.form))
					}
				}
				status := 200
				if name == "push" {
					status = 201
				}
				r.expect(string(m)+", "+name, status, "", k.send[""](ask.path, ask.form))
			}
			r.end(c.ID)
			r.expect(string(m)+", ended", 401, "invalid_client", k.send[""]("/oauth/revoke", form("token", "x")))
		}
	})
}
