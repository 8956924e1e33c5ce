package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/bench/load"
)

// The workloads, named as in result.json.
const (
	secretToken     = "client credentials, secret"
	assertionToken  = "client credentials, private_key_jwt"
	boundToken      = "client credentials, private_key_jwt, DPoP"
	refresh         = "refresh"
	firstIntrospect = "introspection, first sight"
	nextIntrospect  = "introspection, seen before"
	firstUserinfo   = "userinfo, first sight"
	nextUserinfo    = "userinfo, seen before"
	metadata        = "metadata"
	jwks            = "JWKS"
)

var workloads = []string{secretToken, assertionToken, boundToken, refresh, firstIntrospect, nextIntrospect, firstUserinfo, nextUserinfo, metadata, jwks}

// floorOf names the store of the floor that a workload is compared to: what
// the server must make durable is compared to a durable row.
var floorOf = map[string]string{
	secretToken: "floor-sqlite", assertionToken: "floor-sqlite", boundToken: "floor-sqlite", refresh: "floor-sqlite",
	firstIntrospect: "floor-sqlite", nextIntrospect: "floor-sqlite",
	firstUserinfo: "floor-sqlite", nextUserinfo: "floor-sqlite",
	metadata: "floor-memory", jwks: "floor-memory",
}

// Pools of tokens that are asked about, over all connections. The second must
// have one for each of the most connections that can be asked for.
const (
	firstPool = 10_000
	nextPool  = 1_024
)

// oauth is an authorization server as a client of it sees it. It makes the
// workloads, alike for every server, so that all are asked the same.
type oauth struct {
	Host   string // host:port
	Issuer string // the audience of assertions

	TokenPath, IntrospectionPath, UserinfoPath string
	MetadataPath, JWKSPath                     string

	ClientID, Secret string            // of a client that uses client_secret_basic
	KeyClientID      string            // of one that uses private_key_jwt; "" is the same client
	Key              *ecdsa.PrivateKey // its key
	Extra            url.Values        // added to each token request, such as scope and resource

	// FirstRefreshToken gets a refresh token for one connection; nil: there
	// are none.
	FirstRefreshToken func(ctx context.Context, connection int) (token string, err error)
	// PersonsRefreshToken gets one whose access tokens open userinfo; nil: there are none.
	PersonsRefreshToken func(ctx context.Context) (token string, err error)
}

// Workload implements System.
func (o *oauth) Workload(name string) (load.Workload, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	for k, v := range o.Extra {
		form[k] = v
	}
	token := func(assertion, bound bool) load.Workload {
		return opener(func(context.Context, int, int) (load.Exchange, error) {
			x := &tokenExchange{oauth: o, form: form, assertion: assertion}
			if bound {
				return x, x.bind()
			}
			return x, nil
		})
	}
	switch {
	case name == secretToken:
		return token(false, false), nil
	case name == assertionToken && o.Key != nil:
		return token(true, false), nil
	case name == boundToken && o.Key != nil:
		return token(true, true), nil
	case name == refresh && o.FirstRefreshToken != nil:
		return opener(func(ctx context.Context, connection, _ int) (load.Exchange, error) {
			first, err := o.FirstRefreshToken(ctx, connection)
			return &refreshExchange{oauth: o, token: first}, err
		}), nil
	case name == firstIntrospect && o.IntrospectionPath != "":
		return o.introspection(firstPool, false), nil
	case name == nextIntrospect && o.IntrospectionPath != "":
		return o.introspection(nextPool, true), nil
	case name == firstUserinfo && o.PersonsRefreshToken != nil:
		return o.userinfo(firstPool, false), nil
	case name == nextUserinfo && o.PersonsRefreshToken != nil:
		return o.userinfo(nextPool, true), nil
	case name == metadata && o.MetadataPath != "":
		return o.static(o.MetadataPath), nil
	case name == jwks && o.JWKSPath != "":
		return o.static(o.JWKSPath), nil
	}
	return nil, errNotOffered
}

// opener is a workload whose connections need nothing in common.
type opener func(ctx context.Context, connection, connections int) (load.Exchange, error)

func (f opener) Open(ctx context.Context, connection, connections int) (load.Exchange, error) {
	return f(ctx, connection, connections)
}

// post writes a form as a whole request.
func (o *oauth) post(path string, form url.Values, header ...string) []byte {
	body := form.Encode()
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", path, o.Host, len(body))
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// get writes a request for a document as a whole.
func (o *oauth) get(path string, header ...string) []byte {
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: " + o.Host}, header...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// basic is the client's authentication by secret (RFC 6749 §2.3.1).
func (o *oauth) basic() string {
	pair := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.Secret)
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// tokenExchange asks for a token by client credentials.
type tokenExchange struct {
	*oauth
	form      url.Values
	assertion bool
	fixed     []byte            // the question, where it is always the same
	proofKey  *ecdsa.PrivateKey // nil: no DPoP
	jwk       string
	nonce     string
}

// bind gives the exchange a DPoP key of its own.
func (x *tokenExchange) bind() (err error) {
	if x.proofKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	point, err := x.proofKey.PublicKey.Bytes()
	if err != nil {
		return err
	}
	x.jwk = fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}`, b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:]))
	return nil
}

func (x *tokenExchange) Question() ([]byte, error) {
	if !x.assertion {
		if x.fixed == nil {
			x.fixed = x.post(x.TokenPath, x.form, x.basic())
		}
		return x.fixed, nil
	}
	now := time.Now().Unix()
	id := x.KeyClientID
	if id == "" {
		id = x.ClientID
	}
	form := url.Values{}
	for k, v := range x.form {
		form[k] = v
	}
	form.Set("client_id", id)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	assertion, err := sign(x.Key, map[string]any{"alg": "ES256", "typ": "JWT"},
		map[string]any{"iss": id, "sub": id, "aud": x.Issuer, "jti": rand.Text(), "iat": now, "exp": now + 60})
	if err != nil {
		return nil, err
	}
	form.Set("client_assertion", assertion)
	if x.proofKey == nil {
		return x.post(x.TokenPath, form), nil
	}
	claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": x.Issuer + x.TokenPath, "iat": now}
	if x.nonce != "" {
		claims["nonce"] = x.nonce
	}
	proof, err := sign(x.proofKey, map[string]any{"alg": "ES256", "typ": "dpop+jwt", "jwk": json.RawMessage(x.jwk)}, claims)
	if err != nil {
		return nil, err
	}
	return x.post(x.TokenPath, form, "DPoP: "+proof), nil
}

func (x *tokenExchange) Answer(status int, header http.Header, body []byte) error {
	if nonce := header.Get("DPoP-Nonce"); nonce != "" && nonce != x.nonce {
		x.nonce = nonce
		if status == http.StatusBadRequest || status == http.StatusUnauthorized {
			return load.ErrAgain // RFC 9449 §8
		}
	}
	_, err := readToken(status, body)
	return err
}

// tokenAnswer is what of RFC 6749 §5.1 is used here.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// readToken checks a token endpoint's answer.
func readToken(status int, body []byte) (a tokenAnswer, err error) {
	if status != http.StatusOK {
		return a, fmt.Errorf("status %d: %.200s", status, body)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, err
	}
	if strings.Count(a.AccessToken, ".") != 2 {
		return a, fmt.Errorf("no JWT access token in %.200s", body)
	}
	return a, nil
}

// refreshExchange trades each refresh token for the next.
type refreshExchange struct {
	*oauth
	token string
}

func (x *refreshExchange) Question() ([]byte, error) {
	return x.post(x.TokenPath, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {x.token}}, x.basic()), nil
}

func (x *refreshExchange) Answer(status int, _ http.Header, body []byte) error {
	a, err := readToken(status, body)
	if err != nil {
		return err
	}
	if a.RefreshToken == "" || a.RefreshToken == x.token {
		return errors.New("no new refresh token")
	}
	x.token = a.RefreshToken
	return nil
}

// floorRefreshToken gets one from the floor, which gives it for the asking.
func (o *oauth) floorRefreshToken(ctx context.Context) (string, error) {
	a, err := o.fetchToken(ctx, url.Values{"grant_type": {"client_credentials"}, "refresh": {""}})
	return a.RefreshToken, err
}

// fetchToken asks outside of any measurement.
func (o *oauth) fetchToken(ctx context.Context, form url.Values) (a tokenAnswer, err error) {
	status, body, err := o.send(ctx, o.post(o.TokenPath, form, o.basic()))
	if err != nil {
		return a, err
	}
	return readToken(status, body)
}

var caller = &http.Client{
	Timeout:   20 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 8},
}

// send sends a whole request outside of any measurement.
func (o *oauth) send(ctx context.Context, question []byte) (status int, body []byte, err error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(question)))
	if err != nil {
		return 0, nil, err
	}
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", o.Host
	answer, err := caller.Do(r.WithContext(ctx))
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, body, err
}

// tokens asks about the tokens of a pool: each once, or again and again after a
// first time that is not measured.
type tokens struct {
	*oauth
	pool   int
	repeat bool
	source func(context.Context) (next func() (string, error), err error)
	ask    func(token string) []byte
	check  func(status int, body []byte) error
	text   []string
}

// introspection asks about a service's tokens (RFC 7662).
func (o *oauth) introspection(pool int, repeat bool) *tokens {
	form := url.Values{"grant_type": {"client_credentials"}}
	for k, v := range o.Extra {
		form[k] = v
	}
	return &tokens{
		oauth: o, pool: pool, repeat: repeat, check: active,
		source: func(ctx context.Context) (func() (string, error), error) {
			return func() (string, error) {
				a, err := o.fetchToken(ctx, form)
				return a.AccessToken, err
			}, nil
		},
		ask: func(token string) []byte {
			return o.post(o.IntrospectionPath, url.Values{"token": {token}}, o.basic())
		},
	}
}

// userinfo presents a person's tokens (OpenID Connect Core §5.3.1), which are
// refreshed one from the other.
func (o *oauth) userinfo(pool int, repeat bool) *tokens {
	return &tokens{
		oauth: o, pool: pool, repeat: repeat, check: described,
		source: func(ctx context.Context) (func() (string, error), error) {
			refresh, err := o.PersonsRefreshToken(ctx)
			return func() (string, error) {
				a, err := o.fetchToken(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
				refresh = a.RefreshToken
				return a.AccessToken, err
			}, err
		},
		ask: func(token string) []byte {
			return o.get(o.UserinfoPath, "Authorization: Bearer "+token)
		},
	}
}

// Open fetches the whole pool for the first connection; the others share it.
func (w *tokens) Open(ctx context.Context, connection, connections int) (load.Exchange, error) {
	if w.text == nil {
		if err := w.fill(ctx); err != nil {
			return nil, err
		}
	}
	return &tokensExchange{tokens: w, first: connection, next: connection, stride: connections}, nil
}

// fill fetches the pool over a few connections at once.
func (w *tokens) fill(ctx context.Context) error {
	text := make([]string, w.pool)
	var taken atomic.Int64
	var wg sync.WaitGroup
	var faults [8]error
	for i := range faults {
		wg.Go(func() {
			next, err := w.source(ctx)
			for n := taken.Add(1) - 1; n < int64(w.pool) && err == nil; n = taken.Add(1) - 1 {
				if text[n], err = next(); err == nil && w.repeat {
					err = w.askOnce(ctx, text[n])
				}
			}
			faults[i] = err
		})
	}
	wg.Wait()
	w.text = text
	return errors.Join(faults[:]...)
}

// askOnce has a token seen for the first time.
func (w *tokens) askOnce(ctx context.Context, token string) error {
	status, body, err := w.send(ctx, w.ask(token))
	if err != nil {
		return err
	}
	return w.check(status, body)
}

// tokensExchange takes every stride-th token of the pool.
type tokensExchange struct {
	*tokens
	first, next, stride int
}

func (x *tokensExchange) Question() ([]byte, error) {
	if x.next >= len(x.text) {
		if !x.repeat {
			return nil, io.EOF
		}
		x.next = x.first
	}
	token := x.text[x.next]
	x.next += x.stride
	return x.ask(token), nil
}

func (x *tokensExchange) Answer(status int, _ http.Header, body []byte) error {
	return x.check(status, body)
}

// active checks an introspection answer (RFC 7662 §2.2).
func active(status int, body []byte) error {
	var a struct{ Active bool }
	if err := json.Unmarshal(body, &a); err != nil || status != http.StatusOK || !a.Active {
		return fmt.Errorf("status %d: %.200s", status, body)
	}
	return nil
}

// described checks a userinfo answer (OpenID Connect Core §5.3.2).
func described(status int, body []byte) error {
	var a struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(body, &a); err != nil || status != http.StatusOK || a.Subject == "" {
		return fmt.Errorf("status %d: %.200s", status, body)
	}
	return nil
}

// static asks for a document that is always the same.
func (o *oauth) static(path string) load.Workload {
	return opener(func(context.Context, int, int) (load.Exchange, error) {
		return &staticExchange{question: o.get(path)}, nil
	})
}

type staticExchange struct {
	question []byte
	size     int
}

func (x *staticExchange) Question() ([]byte, error) { return x.question, nil }

func (x *staticExchange) Answer(status int, _ http.Header, body []byte) error {
	if x.size == 0 && json.Valid(body) {
		x.size = len(body)
	}
	if status != http.StatusOK || len(body) == 0 || len(body) != x.size {
		return errors.New("status " + strconv.Itoa(status) + ", or no JSON, or another document than before")
	}
	return nil
}

var b64 = base64.RawURLEncoding

// sign makes an ES256 JWT.
func sign(key *ecdsa.PrivateKey, header, claims map[string]any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(c)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64.EncodeToString(signature[:]), nil
}
