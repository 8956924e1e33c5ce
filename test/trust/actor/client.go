package actor

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// Client is an OAuth client of the issuer.
type Client struct {
	Issuer, ID string
	Secret     string       // client_secret_basic; "" with Signer
	Signer     *jose.Signer // of client assertions
	Redirect   string
	HTTP       *http.Client
	Now        func() time.Time // nil: time.Now
}

// Pooled is an HTTP client for load: n connections are kept.
func Pooled(n int, timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: n, MaxConnsPerHost: 0}}
}

// Tokens is an answer of the token endpoint.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
}

// JTI is the token's id, which is that of its record; "" if it is no token.
func (t Tokens) JTI() string {
	var c struct{ JTI string }
	if parts := strings.Split(t.Access, "."); len(parts) == 3 {
		if b, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(b, &c) == nil {
			return c.JTI
		}
	}
	return ""
}

// Refusal is an answer that is not a success.
type Refusal struct {
	Status      int
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Body        string `json:"-"`
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Description) }

// Refused reports whether err is an answer of the server, with that code if one
// is given. Anything else left it unknown what happened.
func Refused(err error, codes ...string) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return false
	}
	for _, c := range codes {
		if r.Code == c {
			return true
		}
	}
	return len(codes) == 0
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Assertion makes a client assertion; it works once.
func (c *Client) Assertion() (string, error) {
	now := c.now()
	return c.Signer.Sign(jose.ClientAssertionClaims{
		Issuer: c.ID, Subject: c.ID, Audience: jose.Audience{c.Issuer}, JTI: rand.Text(),
		IssuedAt: jose.Date(now), ExpiresAt: jose.Date(now.Add(time.Minute)),
	})
}

// Form sends a form to an endpoint, authenticated by what the form or the
// client's secret says, and gives the answer's body.
func (c *Client) Form(path string, form url.Values) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, c.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.Secret != "" {
		req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		r := &Refusal{Status: resp.StatusCode, Body: string(body)}
		_ = json.Unmarshal(body, r) // a body without an error code is a refusal too
		return nil, r
	}
	return body, nil
}

// Token sends a token request.
func (c *Client) Token(form url.Values) (t Tokens, err error) {
	body, err := c.Form("/oauth/token", form)
	if err == nil {
		err = json.Unmarshal(body, &t)
	}
	return t, err
}

// Credentials asks for a token of the client's own. assertion is for clients
// with a key.
func (c *Client) Credentials(assertion string) (Tokens, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	c.assert(form, assertion)
	return c.Token(form)
}

func (c *Client) assert(form url.Values, assertion string) {
	if assertion == "" {
		return
	}
	form.Set("client_id", c.ID)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
}

// Refresh presents a refresh token.
func (c *Client) Refresh(token string) (Tokens, error) {
	return c.Token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// Introspect asks whether a token stands.
func (c *Client) Introspect(token string) (active bool, err error) {
	form := url.Values{"token": {token}}
	if c.Signer != nil {
		a, err := c.Assertion()
		if err != nil {
			return false, err
		}
		c.assert(form, a)
	}
	body, err := c.Form("/oauth/introspect", form)
	if err != nil {
		return false, err
	}
	var out struct{ Active bool }
	err = json.Unmarshal(body, &out)
	return out.Active, err
}

// Request is an authorization request and what its code is redeemed with.
type Request struct {
	Query    url.Values
	verifier string
}

// NewRequest makes an authorization request with PKCE.
func (c *Client) NewRequest(resource string, scopes ...string) Request {
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {c.Redirect}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {resource}, "scope": {strings.Join(scopes, " ")},
	}
	return Request{q, verifier}
}

// Redeem redeems the code that answered a request.
func (c *Client) Redeem(r Request, code string) (Tokens, error) {
	return c.Token(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.Redirect}, "code_verifier": {r.verifier},
	})
}
