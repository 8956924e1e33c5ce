package countersign

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Transport is an http.RoundTripper that shows a credential and a proof of its
// key at one resource, and does what a refusal asks for: it supplies a nonce
// once, renews a token that does not count any more once, and has the person
// asked for more proof once. Each retry sends the same body (a request whose
// body cannot be had again, see http.Request.GetBody, is not retried) and the
// same Idempotency-Key.
//
// Requests to anywhere but Resource go out without the credential; so a
// redirect to another host does not carry it there. The fields are set before
// first use and not changed.
type Transport struct {
	Resource string // URL at and below which the credential is shown
	Source   *TokenSource
	Key      *DPoPKey          // of DPoP credentials; may be nil for bearer ones
	Base     http.RoundTripper // nil: http.DefaultTransport
	// StepUp gets what the resource asks for and returns nil once a credential
	// that has it is in the store. One runs at a time. nil: the refusal is
	// returned as it came.
	StepUp func(ctx context.Context, c Challenge) error
	Now    func() time.Time // nil: time.Now

	nonces nonceJar
	asking semaphore
}

// StepUpError says that a resource asked for more proof and that the callback
// did not get it.
type StepUpError struct {
	Challenge Challenge
	Err       error
}

// Error implements error.
func (e *StepUpError) Error() string {
	return fmt.Sprintf("%s %s needs more proof: %v", e.Challenge.Method, e.Challenge.URL, e.Err)
}

// Unwrap gives the callback's error.
func (e *StepUpError) Unwrap() error { return e.Err }

// attempt is one request on its way through its retries.
type attempt struct {
	req  *http.Request // the caller's; never changed
	key  string        // Idempotency-Key, "" for none
	cred Credential
	// what has been tried
	nonce, renewed, asked, joined bool
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	covered, err := t.covers(req.URL)
	if err != nil || !covered {
		if err != nil {
			closeBody(req)
			return nil, err
		}
		return t.base().RoundTrip(req)
	}
	a := &attempt{req: req}
	if a.cred, err = t.Source.Credential(req.Context()); err != nil {
		closeBody(req)
		return nil, err
	}
	if req.Header.Get("Idempotency-Key") == "" && !idempotent(req.Method) {
		a.key = rand.Text()
	}
	for first := true; ; first = false {
		out, err := t.prepare(a, first)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		resp, err := t.base().RoundTrip(out)
		if err != nil {
			return nil, err
		}
		fresh := t.nonces.put(out.URL, resp.Header)
		again, err := t.again(a, resp, fresh)
		if err == nil && !again {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // keeps the connection; the refusal was read from headers
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
	}
}

// prepare makes the request of this attempt.
func (t *Transport) prepare(a *attempt, first bool) (*http.Request, error) {
	out := a.req.Clone(a.req.Context())
	if !first && a.req.GetBody != nil {
		body, err := a.req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("countersign: the body again: %w", err)
		}
		out.Body = body
	}
	if a.key != "" {
		out.Header.Set("Idempotency-Key", a.key)
	}
	out.Header.Set("Authorization", a.cred.TokenType+" "+a.cred.AccessToken)
	out.Header.Del("DPoP")
	if strings.EqualFold(a.cred.TokenType, "DPoP") {
		if t.Key == nil {
			return nil, errors.New("countersign: the credential is bound to a key that is not here")
		}
		now := time.Now
		if t.Now != nil {
			now = t.Now
		}
		u := *out.URL
		if u.Path == "" {
			u.Path = "/" // what is sent
		}
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		proof, err := t.Key.proofAt(method(out), u.String(), a.cred.AccessToken, t.nonces.get(out.URL), now())
		if err != nil {
			return nil, err
		}
		out.Header.Set("DPoP", proof)
	}
	return out, nil
}

// again looks at an answer and does what it asks for, each thing once; true
// means that the request is worth another attempt.
func (t *Transport) again(a *attempt, resp *http.Response, freshNonce bool) (bool, error) {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return false, nil
	}
	if a.req.Body != nil && a.req.Body != http.NoBody && a.req.GetBody == nil {
		return false, nil
	}
	c, ok := challengeOf(resp.Header, a.cred.TokenType)
	if !ok {
		return false, nil
	}
	ctx := a.req.Context()
	switch {
	case c.Error == "use_dpop_nonce":
		if a.nonce || !freshNonce {
			return false, nil
		}
		a.nonce = true
		return true, nil
	case c.Error == "invalid_token":
		if a.renewed {
			return false, nil
		}
		a.renewed = true
		next, err := t.Source.Renew(ctx, a.cred)
		if err != nil || next.AccessToken == a.cred.AccessToken {
			return false, ctx.Err() // the refusal says more than why there is no other token
		}
		a.cred = next
		return true, nil
	case c.Error == "insufficient_user_authentication", c.Error == "insufficient_scope" && c.ClientAssurance == "":
		if a.asked || t.StepUp == nil {
			return false, nil
		}
		a.asked = true
		c.Method, c.URL = method(a.req), a.req.URL.Redacted()
		return t.ask(ctx, a, c)
	}
	return false, nil
}

// ask has the person asked, unless somebody else's asking changed the
// credential meanwhile.
func (t *Transport) ask(ctx context.Context, a *attempt, c Challenge) (bool, error) {
	if err := t.asking.acquire(ctx); err != nil {
		return false, err
	}
	defer t.asking.release()
	if next, err := t.Source.Reload(ctx); err == nil && !a.joined && next.Generation > a.cred.Generation {
		a.cred, a.joined, a.asked = next, true, false // if that does not do, ask after all
		return true, nil
	}
	if err := t.StepUp(ctx, c); err != nil {
		return false, &StepUpError{Challenge: c, Err: err}
	}
	next, err := t.Source.Reload(ctx)
	if err != nil {
		return false, &StepUpError{Challenge: c, Err: err}
	}
	if next.AccessToken == a.cred.AccessToken {
		return false, nil // nothing changed: the same answer would come
	}
	a.cred, a.nonce = next, false // asking takes a while: the nonce may be another by now
	return true, nil
}

// semaphore lets one in at a time. The zero value is free.
type semaphore struct {
	once sync.Once
	slot chan struct{}
}

func (s *semaphore) acquire(ctx context.Context) error {
	s.once.Do(func() { s.slot = make(chan struct{}, 1) })
	select {
	case s.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *semaphore) release() { <-s.slot }

// covers reports whether u is at or below Resource.
func (t *Transport) covers(u *url.URL) (bool, error) {
	r, err := url.Parse(t.Resource)
	if err != nil || !safeURL(r) {
		return false, fmt.Errorf("countersign: transport: resource %q is neither https nor http on loopback", t.Resource)
	}
	if u.Scheme != r.Scheme || !strings.EqualFold(u.Hostname(), r.Hostname()) || portOf(u) != portOf(r) {
		return false, nil
	}
	base := strings.TrimSuffix(r.EscapedPath(), "/")
	p := u.EscapedPath()
	if strings.Contains(u.Path+"/", "/../") {
		return base == "", nil // where that ends up is the server's to say
	}
	return base == "" || p == base || strings.HasPrefix(p, base+"/"), nil
}

func portOf(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

func method(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// idempotent: RFC 9110 section 9.2.2.
func idempotent(m string) bool {
	switch m {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}
