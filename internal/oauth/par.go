package oauth

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// PushedLifetime is how long a pushed request waits for the browser that brings
// its request_uri (RFC 9126 §2.2; FAPI 2.0 §5.3.2.2: less than 600 s).
const PushedLifetime = 90 * time.Second

// pushedPrefix begins every request_uri of ours (RFC 9126 §2.2).
const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushedPurpose types the sealed form of a pushed request.
const pushedPurpose = "pushed_request"

// pushed is a pushed authorization request. Like every login transaction it is
// sealed and handed out instead of stored, so that nobody can fill the database
// with requests; the act that answers it spends the mark of its reference.
type pushed struct {
	Request carried   `json:"request"`
	Prompts []string  `json:"prompts,omitempty"`
	Until   time.Time `json:"until"`
}

var errRequestURI = invalid("invalid_request_uri", "The request_uri is unknown, expired or was used before.").
	WithHint("Go back to the app and start again.")

// par is the pushed authorization request endpoint (RFC 9126): the client
// authenticates as at the token endpoint, and its request is judged before any
// browser sees it.
func (s *Server) par(w http.ResponseWriter, r *http.Request) error {
	out, err := s.push(w, r)
	if err != nil {
		s.refusedQuietly(r, "par", err)
		return renderError(w, r, err)
	}
	return web.JSON(w, http.StatusCreated, out)
}

// pushedAnswer is RFC 9126 §2.2.
type pushedAnswer struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

func (s *Server) push(w http.ResponseWriter, r *http.Request) (*pushedAnswer, error) {
	ctx := r.Context()
	f, err := web.ParseForm(r, maxForm, "resource")
	if err != nil {
		return nil, err
	}
	c, err := s.authenticate(ctx, r, f, s.met(r))
	if err != nil {
		return nil, err
	}
	note(r, "client", shortID(c.Client))
	if f.Has("request_uri") {
		return nil, invalid("invalid_request", "A pushed request names no request_uri (RFC 9126 section 2.1).")
	}
	key, err := s.dpop(w, r, "")
	if err != nil {
		return nil, err
	}
	if !proofAllowed(c.Client, key) {
		return nil, invalid("invalid_dpop_proof", "This client's proofs are signed with PS256, ES256 or EdDSA (FAPI 2.0 section 5.4.1).")
	}
	a := &authRequest{in: grant.Interaction{Client: c.ID}, client: c.Client}
	if !c.Known() {
		a.in.Name = c.ClientID
	}
	if f, err = s.requestObject(ctx, a, f); err != nil {
		return nil, err
	}
	if err := s.readParameters(ctx, a, f); err != nil {
		return nil, err
	}
	if key != nil { // it binds the code as dpop_jkt does, and both must agree (RFC 9449 §10.1)
		if a.in.JKT != "" && !hmac.Equal([]byte(a.in.JKT), []byte(key.jkt)) {
			return nil, invalid("invalid_dpop_proof", "dpop_jkt names another key than the DPoP proof shows (RFC 9449 section 10.1).")
		}
		a.in.JKT = key.jkt
		c.spend = append(c.spend, key.spend)
	}
	if c.ID == "" { // whom nobody agreed to writes nothing: what it could push again changes nothing either
		c.spend = nil
	}
	if err := s.spendCaller(ctx, c); err != nil {
		return nil, err
	}
	ref, err := s.Keys.SealState(pushedPurpose, nameOf(c.Client), pushed{Request: carry(a.in), Prompts: a.prompts, Until: s.now().Add(PushedLifetime)})
	if err != nil {
		return nil, err
	}
	return &pushedAnswer{RequestURI: pushedPrefix + ref, ExpiresIn: int64(PushedLifetime.Seconds())}, nil
}

// pushedRequest reads the request behind a request_uri of ours. Every other
// parameter is ignored (RFC 9126 §4); the client must be the one that pushed it,
// and still what it was then. A reload before the answer is the same request.
func (s *Server) pushedRequest(ctx context.Context, a *authRequest, uri string) error {
	ref := strings.TrimPrefix(uri, pushedPrefix)
	var p pushed
	if err := s.Keys.OpenState(pushedPurpose, nameOf(a.client), ref, &p); err != nil {
		if !problem.Refusal(err) {
			return err
		}
		return errRequestURI.Because(err)
	}
	if !onlySpelling(ref) || !s.now().Before(p.Until) {
		return errRequestURI
	}
	var gone *once.Gone
	key := once.KeyOf(once.Pushed, ref)
	if _, err := s.State.OnceValue(ctx, once.Pushed, key); err == nil {
		return errRequestURI
	} else if !errors.As(err, &gone) {
		return err
	}
	started := a.in.Started
	a.in, a.prompts = p.Request.interaction(), p.Prompts
	a.in.Started, a.in.Pushed, a.in.Client = started, base64.RawURLEncoding.EncodeToString(key[:]), a.client.ID
	if err := s.registered(a); err != nil {
		return err
	}
	a.redirect = a.in.RedirectURI
	return nil
}

// spendPushed are the marks that answering a pushed request spends, kept until
// nobody can bring it any more.
func spendPushed(in grant.Interaction) []once.Spend {
	if in.Pushed == "" {
		return nil
	}
	key := once.KeyOf(once.Pushed, in.Pushed) // an earlier release carried the reference itself
	if b, err := base64.RawURLEncoding.DecodeString(in.Pushed); err == nil && len(b) == len(key) {
		key = once.Key(b)
	}
	return []once.Spend{{
		Purpose: once.Pushed, Key: key, Mark: true,
		Until: in.Started.Add(grant.InteractionLifetime + PushedLifetime + time.Minute),
	}}
}
