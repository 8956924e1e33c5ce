package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/web"
)

// authority issues certificates, valid around the rig's clock.
type authority struct {
	r    *rig
	cert *x509.Certificate
	key  crypto.Signer
}

func (r *rig) authority(name string) *authority {
	r.Helper()
	key := r.ecKey()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := got(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))(r)
	return &authority{r, got(x509.ParseCertificate(der))(r), key}
}

// issue makes a client's certificate; edit changes what it says.
func (a *authority) issue(edit func(*x509.Certificate)) tls.Certificate {
	a.r.Helper()
	key := a.r.ecKey()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"Example, Inc."}, CommonName: "billing"},
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	edit(c)
	der := got(x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key))(a.r)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// itself is a certificate that its own key signed.
func (r *rig) itself(key crypto.Signer, until time.Time) tls.Certificate {
	r.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "self"}, NotBefore: start.Add(-time.Hour), NotAfter: until}
	return tls.Certificate{Certificate: [][]byte{got(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))(r)}, PrivateKey: key}
}

const mtlsOrigin = "https://mtls.id.example.com"

// mutual has each node served over TLS that asks for a certificate, too.
func (r *rig) mutual(anchors *x509.CertPool, hops ...tls.Certificate) []*httptest.Server {
	r.Helper()
	over := web.ClientCerts{Direct: true, Origin: mtlsOrigin}
	for _, h := range hops {
		over.Hops = append(over.Hops, sha256.Sum256(h.Certificate[0]))
	}
	var out []*httptest.Server
	for _, n := range r.nodes {
		n.server.Certificates, n.server.Anchors, n.server.MTLS, n.server.Origin = web.Certificates, anchors, mtlsOrigin, web.OriginOf
		s := httptest.NewUnstartedServer(over.Wrap(n.http.Config.Handler))
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		r.Cleanup(s.Close)
		out = append(out, s)
	}
	return out
}

// shown posts a form over a connection of its own that shows a certificate.
func (r *rig) shown(s *httptest.Server, cert *tls.Certificate, path string, f url.Values, opts ...option) answer {
	r.Helper()
	conf := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	method, body := "POST", io.Reader(strings.NewReader(f.Encode()))
	if f == nil {
		method, body = "GET", nil
	}
	q := got(http.NewRequest(method, s.URL+path, body))(r)
	if f != nil {
		q.Header.Set("Content-Type", formType)
	}
	for _, o := range opts {
		o(q)
	}
	res := got(c.Do(q))(r)
	defer res.Body.Close()
	return answer{res.StatusCode, res.Header, string(got(io.ReadAll(res.Body))(r))}
}

// certified makes a client that authenticates by a certificate.
func (r *rig) certified(clientID string, edit func(*client.Client)) client.Client {
	r.Helper()
	svc := r.service
	svc.ID, svc.Subject, svc.Name = id.New(id.Service), id.Random("svc_"), clientID
	c := client.Client{
		ID: id.New(id.Client), ClientID: clientID, Name: clientID, AuthMethod: client.AuthTLS, FirstParty: true, Service: svc.ID,
		GrantTypes: []client.GrantType{client.ClientCredentials, client.AuthorizationCode, client.RefreshToken}, Scopes: []string{"notes:read"},
		Resources: []string{r.notes.ID}, RedirectURIs: []string{"https://" + clientID + ".example.com/cb"},
	}
	edit(&c)
	ok(r, client.Check(c))
	create := client.Create{Client: c, NewService: &svc}
	if c.Service == "" {
		create.NewService = nil
	}
	r.do(audit.ClientCreated, create)
	return c
}

func named(dn string) func(*client.Client) {
	return func(c *client.Client) { c.SubjectDN = dn; c.CertificateBound = true }
}

func TestCertificateAuthentication(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		ca, elsewhere := r.authority("Clients"), r.authority("Clients")
		s := r.mutual(ca.pool())[0]
		r.certified("billing", named(`CN=billing, O=Example\, Inc.`))
		r.certified("dns", func(c *client.Client) { c.SanDNS = "worker.example.com" })
		r.certified("uri", func(c *client.Client) { c.SanURI = "spiffe://example.com/worker" })
		r.certified("address", func(c *client.Client) { c.SanIP = "2001:db8::1" })
		r.certified("mail", func(c *client.Client) { c.SanEmail = "worker@example.com" })
		cc := func(id string) url.Values { return form("grant_type", "client_credentials", "client_id", id) }
		good := ca.issue(func(*x509.Certificate) {})
		with := func(edit func(*x509.Certificate)) *tls.Certificate { c := ca.issue(edit); return &c }
		uri, other := got(url.Parse("spiffe://example.com/worker"))(r), got(url.Parse("spiffe://example.com/worker/"))(r)
		forged := elsewhere.issue(func(*x509.Certificate) {})
		for name, c := range map[string]struct {
			client string
			cert   *tls.Certificate
			ok     bool
		}{
			"by subject":                  {"billing", &good, true},
			"another of the same subject": {"billing", with(func(*x509.Certificate) {}), true},
			"none":                        {"billing", nil, false},
			"the same subject under another authority": {"billing", &forged, false},
			"expired":            {"billing", with(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) }), false},
			"not valid yet":      {"billing", with(func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }), false},
			"for servers":        {"billing", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
			"an authority":       {"billing", with(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), false},
			"another subject":    {"billing", with(func(c *x509.Certificate) { c.Subject.CommonName = "billing2" }), false},
			"another letter":     {"billing", with(func(c *x509.Certificate) { c.Subject.CommonName = "Billing" }), false},
			"more of a subject":  {"billing", with(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }), false},
			"less of a subject":  {"billing", with(func(c *x509.Certificate) { c.Subject.Organization = nil }), false},
			"a name in one part": {"billing", with(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "billing,O=Example, Inc."} }), false},
			"another client's":   {"dns", &good, false},
			"by DNS":             {"dns", with(func(c *x509.Certificate) { c.DNSNames = []string{"x.example.com", "Worker.example.com"} }), true},
			"a wildcard":         {"dns", with(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }), false},
			"in the common name": {"dns", with(func(c *x509.Certificate) { c.Subject.CommonName = "worker.example.com" }), false},
			"by URI":             {"uri", with(func(c *x509.Certificate) { c.URIs = []*url.URL{uri} }), true},
			"nearly":             {"uri", with(func(c *x509.Certificate) { c.URIs = []*url.URL{other} }), false},
			"by address":         {"address", with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8:0::1")} }), true},
			"another address":    {"address", with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::2")} }), false},
			"by mail":            {"mail", with(func(c *x509.Certificate) { c.EmailAddresses = []string{"worker@example.com"} }), true},
			"another mail":       {"mail", with(func(c *x509.Certificate) { c.EmailAddresses = []string{"worker@example.com.evil.example"} }), false},
		} {
			status, code := 200, ""
			if !c.ok {
				status, code = 401, "invalid_client"
			}
			r.expect(name, status, code, r.shown(s, c.cert, "/oauth/token", cc(c.client)))
		}
		f := cc("billing")
		r.expect("without naming itself", 401, "invalid_client", r.shown(s, &good, "/oauth/token", change(f, "client_id", "")))
		r.expect("and a secret", 401, "invalid_client", r.shown(s, &good, "/oauth/token", change(f, "client_secret", "x")))
		r.expect("at the address that asks for none", 401, "invalid_client", r.post("/oauth/token", f))
		r.expect("a secret's client shows a certificate, too", 200, "", r.shown(s, &good, "/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
		r.expect("a secret's client shows only that", 401, "invalid_client", r.shown(s, &good, "/oauth/token", cc("nightly")))
		for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
			r.expect(path, 200, "", r.shown(s, &good, path, form("client_id", "billing", "token", "x")))
			r.expect(path+", none", 401, "invalid_client", r.shown(s, nil, path, form("client_id", "billing", "token", "x")))
		}
		a := r.shown(s, &good, "/oauth/token", f)
		if c := r.claims(r.tokens(a).AccessToken); c.Confirmation == nil || c.Confirmation.X5TS256 != jose.CertificateThumbprint(good.Certificate[0]) || c.Confirmation.JKT != "" {
			r.Errorf("cnf %+v", c.Confirmation)
		}
		r.clock.move(25 * time.Hour)
		r.expect("past its time", 401, "invalid_client", r.shown(s, &good, "/oauth/token", f))
		r.nodes[0].server.Anchors = nil
		r.expect("no authority at all", 401, "invalid_client", r.shown(s, with(func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 1, 0) }), "/oauth/token", f))
	})
}

// A chain through an authority in between: from the connection, and from a hop.
func TestCertificateChains(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	root := r.authority("Root")
	key := r.ecKey()
	mid := &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "Mid"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := got(x509.CreateCertificate(rand.Reader, mid, root.cert, key.Public(), root.key))(r)
	between := &authority{r, got(x509.ParseCertificate(der))(r), key}
	leaf, hop := between.issue(func(*x509.Certificate) {}), r.itself(r.ecKey(), start.AddDate(1, 0, 0))
	s := r.mutual(root.pool(), hop)[0]
	r.certified("billing", named(`CN=billing,O=Example\, Inc.`))
	f := form("grant_type", "client_credentials", "client_id", "billing")
	field := func(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
	r.expect("the leaf alone", 401, "invalid_client", r.shown(s, &leaf, "/oauth/token", f))
	whole := leaf
	whole.Certificate = append(whole.Certificate[:1:1], der)
	r.expect("with its chain", 200, "", r.shown(s, &whole, "/oauth/token", f))
	said := with("Client-Cert", field(leaf.Certificate[0]))
	r.expect("a hop, the leaf alone", 401, "invalid_client", r.shown(s, &hop, "/oauth/token", f, said))
	r.expect("a hop, with its chain", 200, "", r.shown(s, &hop, "/oauth/token", f, said, with("Client-Cert-Chain", field(der))))
	r.expect("the hop is no client", 401, "invalid_client", r.shown(s, &hop, "/oauth/token", f))
	if a := r.shown(s, &leaf, "/oauth/token", f, said); a.status != 400 {
		t.Errorf("a client that speaks like a hop: %d %s", a.status, a.body)
	}
}

func TestSelfSignedCertificates(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		s := r.mutual(nil)[0]
		key := r.ecKey()
		mine := r.itself(key, start.Add(24*time.Hour))
		set := func(certs ...tls.Certificate) json.RawMessage {
			var list []json.RawMessage
			for _, c := range certs {
				b := string(got(json.Marshal(jose.JWK{Key: c.PrivateKey.(crypto.Signer).Public()}))(r))
				list = append(list, json.RawMessage(strings.TrimSuffix(b, "}")+`,"x5c":["`+base64.StdEncoding.EncodeToString(c.Certificate[0])+`"]}`))
			}
			return got(json.Marshal(map[string]any{"keys": list}))(r)
		}
		c := r.certified("self", func(c *client.Client) {
			c.AuthMethod, c.JWKS, c.CertificateBound = client.AuthSelfSignedTLS, set(mine), true
		})
		f := form("grant_type", "client_credentials", "client_id", "self")
		again, others := r.itself(key, start.Add(48*time.Hour)), r.itself(r.ecKey(), start.Add(24*time.Hour))
		r.expect("its own", 200, "", r.shown(s, &mine, "/oauth/token", f))
		r.expect("another of the same key", 401, "invalid_client", r.shown(s, &again, "/oauth/token", f))
		r.expect("another key's of the same name", 401, "invalid_client", r.shown(s, &others, "/oauth/token", f))
		r.expect("none", 401, "invalid_client", r.shown(s, nil, "/oauth/token", f))

		// By address, with a new one that is published later.
		var body atomic.Value
		body.Store(string(set(mine)))
		p := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body.Load().(string)) }))
		defer p.Close()
		r.nodes[0].server.Published = &jwks.Source{HTTP: p.Client(), Now: r.clock.now}
		c.JWKS, c.JWKSURI = nil, p.URL
		r.do(audit.ClientUpdated, client.Update{Client: c})
		r.expect("by address", 200, "", r.shown(s, &mine, "/oauth/token", f))
		body.Store(string(set(mine, others)))
		r.clock.move(jwks.MissingPause)
		r.expect("by address, a new one", 200, "", r.shown(s, &others, "/oauth/token", f))
		r.clock.move(25 * time.Hour)
		r.expect("past its time", 401, "invalid_client", r.shown(s, &mine, "/oauth/token", f))
	})
}

// Tokens bound to a certificate: at refresh, at userinfo and in introspection; and
// beside a DPoP key, both.
func TestCertificateBoundTokens(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		ca := r.authority("Clients")
		s := r.mutual(ca.pool())[0]
		mine, others := ca.issue(func(*x509.Certificate) {}), ca.issue(func(*x509.Certificate) {})
		c := r.certified("billing", named(`CN=billing,O=Example\, Inc.`))
		thumb := jose.CertificateThumbprint(mine.Certificate[0])
		code := func() url.Values { return change(r.redemption(c, r.code(c)), "client_id", "billing") }
		tok := r.tokens(r.shown(s, &mine, "/oauth/token", code()))
		if tok.TokenType != "Bearer" || r.claims(tok.AccessToken).Confirmation.X5TS256 != thumb {
			r.Errorf("%+v", tok)
		}
		ask := r.post("/oauth/introspect", form("token", tok.AccessToken), r.auth(r.rs)).json(r)
		if cnf, _ := ask["cnf"].(map[string]any); cnf["x5t#S256"] != thumb || ask["token_type"] != "Bearer" {
			r.Errorf("introspection: %v", ask)
		}
		bearer := with("Authorization", "Bearer "+tok.AccessToken)
		for name, a := range map[string]answer{
			"no connection asks": r.get("/oauth/userinfo", bearer), "no certificate": r.shown(s, nil, "/oauth/userinfo", nil, bearer),
			"another of the same client": r.shown(s, &others, "/oauth/userinfo", nil, bearer),
			"as DPoP":                    r.shown(s, &mine, "/oauth/userinfo", nil, with("Authorization", "DPoP "+tok.AccessToken)),
		} {
			if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				r.Errorf("userinfo, %s: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
			}
		}
		r.expect("userinfo", 200, "", r.shown(s, &mine, "/oauth/userinfo", nil, bearer))
		// A confidential client's refresh tokens are bound to its authentication: it may
		// renew its certificate, and its tokens follow.
		refresh := form("grant_type", "refresh_token", "client_id", "billing", "refresh_token", tok.RefreshToken)
		next := r.tokens(r.shown(s, &others, "/oauth/token", refresh))
		if r.claims(next.AccessToken).Confirmation.X5TS256 != jose.CertificateThumbprint(others.Certificate[0]) || next.RefreshToken != tok.RefreshToken {
			r.Errorf("renewed: %+v", next)
		}
		r.expect("refresh without", 401, "invalid_client", r.shown(s, nil, "/oauth/token", refresh))

		// A public client's are bound to the certificate itself.
		public := r.app
		public.CertificateBound = true
		r.do(audit.ClientUpdated, client.Update{Client: public})
		f := r.redemption(public, r.code(public))
		r.expect("public, without one", 400, "invalid_request", r.post("/oauth/token", f))
		tok = r.tokens(r.shown(s, &mine, "/oauth/token", f))
		refresh = form("grant_type", "refresh_token", "client_id", public.ClientID, "refresh_token", tok.RefreshToken)
		r.expect("public, refresh with another", 400, "invalid_grant", r.shown(s, &others, "/oauth/token", refresh))
		r.expect("public, refresh", 200, "", r.shown(s, &mine, "/oauth/token", refresh))
		tok = r.tokens(r.shown(s, &mine, "/oauth/token", r.redemption(public, r.code(public))))
		public.CertificateBound = false // a change of the registration takes no bond away
		r.do(audit.ClientUpdated, client.Update{Client: public})
		refresh.Set("refresh_token", tok.RefreshToken)
		r.expect("public, not demanded any more", 400, "invalid_grant", r.post("/oauth/token", refresh))

		// Bound to both, each is needed.
		p := r.prover()
		dpop := func(method, path, token string) option {
			return with("DPoP", got(jose.MakeDPoP(p.key, method, mtlsOrigin+path, p.nonce, token, r.clock.now()))(r))
		}
		f = code()
		first := r.shown(s, &mine, "/oauth/token", f, dpop("POST", "/oauth/token", ""))
		r.expect("a nonce first", 400, "use_dpop_nonce", first)
		p.nonce = first.header.Get("DPoP-Nonce")
		r.expect("a proof for the issuer's address", 400, "invalid_dpop_proof", r.shown(s, &mine, "/oauth/token", f, with("DPoP", p.make("POST", "/oauth/token", ""))))
		tok = r.tokens(r.shown(s, &mine, "/oauth/token", f, dpop("POST", "/oauth/token", "")))
		if cnf := r.claims(tok.AccessToken).Confirmation; cnf.JKT != p.jkt() || cnf.X5TS256 != thumb || tok.TokenType != "DPoP" {
			r.Errorf("bound to both: %+v", cnf)
		}
		bound := with("Authorization", "DPoP "+tok.AccessToken)
		p.nonce = r.shown(s, &mine, "/oauth/userinfo", nil, bound, dpop("GET", "/oauth/userinfo", tok.AccessToken)).header.Get("DPoP-Nonce")
		r.expect("both", 200, "", r.shown(s, &mine, "/oauth/userinfo", nil, bound, dpop("GET", "/oauth/userinfo", tok.AccessToken)))
		if a := r.shown(s, &others, "/oauth/userinfo", nil, bound, dpop("GET", "/oauth/userinfo", tok.AccessToken)); a.status != 401 {
			r.Errorf("the key alone: %d", a.status)
		}
		if a := r.shown(s, &mine, "/oauth/userinfo", nil, with("Authorization", "Bearer "+tok.AccessToken)); a.status != 401 {
			r.Errorf("the certificate alone: %d", a.status)
		}
	})
}

func TestMetadataOfCertificates(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	if m := r.get("/.well-known/oauth-authorization-server").json(t); m["mtls_endpoint_aliases"] != nil || strings.Contains(strings.Join(textsOf(m["token_endpoint_auth_methods_supported"]), " "), "tls_client_auth") {
		t.Error("certificates are on offer where no connection asks for one")
	}
	r = onSQLite(t)
	r.mutual(nil)
	m := r.get("/.well-known/openid-configuration").json(t)
	methods := strings.Join(textsOf(m["token_endpoint_auth_methods_supported"]), " ")
	aliases, _ := m["mtls_endpoint_aliases"].(map[string]any)
	if !strings.HasSuffix(methods, "private_key_jwt self_signed_tls_client_auth") || m["tls_client_certificate_bound_access_tokens"] != true || aliases["token_endpoint"] != mtlsOrigin+"/oauth/token" {
		t.Errorf("%s %v", methods, aliases)
	}
	for name, at := range aliases { // every one is an endpoint of the document, elsewhere
		if main, _ := m[name].(string); strings.TrimPrefix(main, issuer) != strings.TrimPrefix(at.(string), mtlsOrigin) {
			t.Errorf("%s: %v is not %s", name, at, main)
		}
	}
}

func textsOf(v any) (out []string) {
	list, _ := v.([]any)
	for _, s := range list {
		out = append(out, s.(string))
	}
	return out
}
