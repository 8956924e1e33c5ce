package oauth

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const maxState = 4 << 10

// authRequest is an authorization request as far as it has been read. redirect
// is set once errors may go there.
type authRequest struct {
	in       grant.Interaction
	client   client.Client
	prompts  []string
	required []string // acr values that are essential, as asked
	redirect string   // "": errors are shown on a page, never redirected
}

// authorize is the authorization endpoint (RFC 6749 §4.1.1, OpenID Connect Core
// §3.1.2). It validates, seals the request to this browser and goes on with
// resume's steps; it writes nothing.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	a, err := s.readRequest(r)
	if err == nil {
		var binding, ref string
		if binding, err = s.Browser.Binding(w, r); err == nil {
			if ref, err = s.Keys.SealState(statePurpose, binding, carry(a.in)); err == nil {
				return s.proceed(w, r, a, ref)
			}
		}
	}
	return s.authError(w, r, a, err)
}

// answer sends the browser back to the client with an answer: in the query,
// keeping what the redirect URI was registered with (RFC 6749 §3.1.2), or in a
// form that the browser posts (Form Post Response Mode §2).
func (s *Server) answer(w http.ResponseWriter, r *http.Request, a *authRequest, q url.Values) {
	q.Set("iss", s.Issuer) // on success and on error (RFC 9207)
	if a.in.State != "" {
		q.Set("state", a.in.State)
	}
	if a.in.ResponseMode == formPost {
		s.Browser.Deliver(w, r, a.redirect, q)
		return
	}
	sep := "?"
	if strings.Contains(a.redirect, "?") {
		sep = "&"
	}
	// Not every client reads + as a space; all read %20. 303: a POST must not be
	// repeated there.
	to := a.redirect + sep + strings.ReplaceAll(q.Encode(), "+", "%20")
	if isLoopback(a.redirect) && q.Has("code") && r.URL.Path != authorizePath && r.URL.Query().Get(deliver) == deliverCopy {
		s.Browser.Deliver(w, r, to, nil)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// How the consent page says that an answer is not followed but shown: the app
// that waits for it on a loopback address is on another computer (clients.md §2.11).
// An authorization request cannot ask for it: whoever sends somebody here would have
// them look at a code, and ask them for it.
const (
	deliver       = "deliver"
	deliverCopy   = "copy"
	authorizePath = "/oauth/authorize"
)

// formPost is the response mode in which the browser posts the answer.
const formPost = "form_post"

// authError answers at the redirect URI where that is known to be the client's,
// and on a page otherwise (RFC 6749 §4.1.2.1, RFC 9207).
func (s *Server) authError(w http.ResponseWriter, r *http.Request, a *authRequest, err error) error {
	p := problem.From(err)
	if p == nil {
		return err
	}
	note(r, "error", p.Code)
	if a == nil || a.redirect == "" || p.Kind == problem.Unavailable || a.stranger() {
		s.Browser.Fail(w, r, p)
		return nil
	}
	code := oauthCode(p)
	if p.Kind == problem.StepUp { // RFC 9470 has no such error here
		code = "interaction_required"
	}
	q := url.Values{"error": {code}}
	if p.Detail != "" {
		q.Set("error_description", asciiOnly(p.Detail))
	}
	s.answer(w, r, a, q)
	return nil
}

// stranger reports whether errors are shown instead of sent back: to a host that
// nobody vouches for a browser is sent only after its person did something, else
// any address could borrow this server's name (RFC 9700 §4.11.2).
func (a *authRequest) stranger() bool {
	return !a.client.Known() && a.client.Trust != client.Trusted && strings.HasPrefix(a.redirect, "https:")
}

func asciiOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return ' '
		}
		return r
	}, s)
}

func (s *Server) readRequest(r *http.Request) (*authRequest, error) {
	ctx := r.Context()
	f, err := web.ParseForm(r, maxForm, "resource")
	if err != nil {
		return nil, err
	}
	a := &authRequest{in: grant.Interaction{Started: s.now().UTC().Truncate(time.Millisecond)}}
	if a.client, err = s.knownClient(ctx, f.Get("client_id"), s.networkOf(r)); err != nil {
		return nil, err
	}
	a.in.Client = a.client.ID
	if !a.client.Known() {
		a.in.Name = a.client.ClientID
	}
	note(r, "client", shortID(a.client))
	if f.Has("request") && f.Has("request_uri") {
		a.read(f)
		return a, invalid("invalid_request", "A request is sent by value or by reference, not both (RFC 9101 section 5).")
	}
	if uri := f.Get("request_uri"); strings.HasPrefix(uri, pushedPrefix) {
		return a, s.pushedRequest(ctx, a, uri)
	}
	inner, err := s.requestObject(ctx, a, f)
	if err != nil { // the parameters outside say where to say so, if that is registered
		a.read(f)
		return a, err
	}
	if err := s.readParameters(ctx, a, inner); err != nil {
		return a, err
	}
	if mustPush(a.client) {
		return a, invalid("invalid_request", "This app's requests must be pushed first (RFC 9126).")
	}
	return a, nil
}

// read finds where a request is answered; until it is there, errors are shown on
// a page.
func (a *authRequest) read(f web.Form) (err error) {
	if a.in.RedirectURI, err = redirectOf(a.client, f.Get("redirect_uri")); err != nil {
		return err
	}
	if len(f.Get("state")) > maxState {
		return invalid("invalid_request", "state is longer than 4 KB.")
	}
	a.in.State, a.redirect, a.in.ResponseMode = f.Get("state"), a.in.RedirectURI, "query"
	// Nobody can post to an app's own scheme.
	if f.Get("response_mode") == formPost && strings.HasPrefix(a.redirect, "http") {
		a.in.ResponseMode = formPost
	}
	return nil
}

// readParameters reads an authorization request, wherever its parameters came
// from.
func (s *Server) readParameters(ctx context.Context, a *authRequest, f web.Form) error {
	if err := a.read(f); err != nil {
		return err
	}
	if err := a.profiled(f); err != nil {
		return err
	}
	if !a.client.Allows(client.AuthorizationCode) {
		return invalid("unauthorized_client", "This app is not registered to sign people in.")
	}
	for _, step := range []func(context.Context, web.Form) error{
		a.protocol, a.authentication,
		func(ctx context.Context, f web.Form) error { return s.targets(ctx, a, f) },
		func(ctx context.Context, f web.Form) error { return s.details(ctx, a, f) },
		func(_ context.Context, f web.Form) error { return s.hint(a, f) },
		func(_ context.Context, f web.Form) error { return a.claims(f) },
	} {
		if err := step(ctx, f); err != nil {
			return err
		}
	}
	if err := s.require(a); err != nil {
		return err
	}
	a.in.ACRValues = slices.DeleteFunc(a.in.ACRValues, func(v string) bool { return s.Ladder.RungOf(v) == 0 })
	// Any program on a computer can say that it is a native client and send its
	// person here: such requests are never answered silently (RFC 8252 §8.6).
	a.in.Fresh = a.in.Fresh || a.client.Native
	return nil
}

func (s *Server) knownClient(ctx context.Context, clientID, network string) (client.Client, error) {
	if clientID == "" {
		return client.Client{}, invalid("client_missing", "The address has no client_id, so we don't know which app sent you.").
			WithHint("Go back to the app and start again.")
	}
	c, err := s.find(ctx, clientID, network)
	if p := problem.From(err); p != nil && p.Kind != problem.NotFound {
		return client.Client{}, p
	}
	if err == nil && !c.Node.Live() && !c.Known() {
		return client.Client{}, problem.New(problem.Denied, "client_blocked", "Your administrators don't allow this app.")
	}
	if problem.CodeOf(err) == "client_expired" {
		return client.Client{}, problem.New(problem.Invalid, "client_expired", problem.From(err).Detail).
			WithHint("Remove the connection in the app and add it again.")
	}
	if problem.Refusal(err) || err == nil && !c.Node.Live() {
		return client.Client{}, problem.Newf(problem.Invalid, "client_unknown", "We don't know this app (client %q).", clientID).
			WithHint("If it worked before, remove the connection in the app and add it again.")
	}
	return c, err
}

// protocol reads what every authorization request must have: a code, with PKCE
// S256 (OAuth 2.1 §4.1.1).
func (a *authRequest) protocol(_ context.Context, f web.Form) error {
	switch {
	case f.Has("request_uri"):
		return invalid("request_uri_not_supported", "Only a request_uri that this server gave out is accepted (RFC 9126).")
	case f.Has("registration"):
		return invalid("registration_not_supported", "registration is not accepted.")
	case f.Get("response_type") == "":
		return invalid("invalid_request", "response_type is missing.")
	case f.Get("response_type") != "code":
		return invalid("unsupported_response_type", "Only response_type=code is offered.")
	case f.Has("response_mode") && f.Get("response_mode") != a.in.ResponseMode:
		return invalid("invalid_request", "This response_mode is not offered here: use query, or form_post with an http address.")
	case f.Get("code_challenge_method") != "S256" || !isS256(f.Get("code_challenge")):
		return invalid("invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256 (RFC 7636).")
	case f.Has("dpop_jkt") && !isS256(f.Get("dpop_jkt")):
		return invalid("invalid_request", "dpop_jkt is not a JWK thumbprint (RFC 9449).")
	case len(f.Get("nonce")) > 512:
		return invalid("invalid_request", "nonce is longer than 512 bytes.")
	}
	a.in.Challenge, a.in.JKT, a.in.Nonce = f.Get("code_challenge"), f.Get("dpop_jkt"), f.Get("nonce")
	return nil
}

// isS256 reports whether v is the base64url of 32 bytes.
func isS256(v string) bool {
	if len(v) != 43 {
		return false
	}
	for _, c := range []byte(v) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// authentication reads prompt, max_age, acr_values and hints (OpenID Connect
// Core §3.1.2.1; mechanisms A18, A20).
func (a *authRequest) authentication(_ context.Context, f web.Form) error {
	a.prompts = strings.Fields(f.Get("prompt"))
	for _, p := range a.prompts {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) {
			return invalid("invalid_request", "prompt has a value that is not known.")
		}
	}
	if slices.Contains(a.prompts, "none") && len(a.prompts) > 1 {
		return invalid("invalid_request", "prompt=none goes with no other prompt.")
	}
	// A choice of account is offered where somebody proves again that it is them.
	a.in.Fresh = slices.Contains(a.prompts, "login") || slices.Contains(a.prompts, "select_account")
	a.in.Consent = slices.Contains(a.prompts, "consent")
	if v := f.Get("max_age"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return invalid("invalid_request", "max_age is a number of seconds.")
		}
		a.in.MaxAge = time.Duration(n) * time.Second
		a.in.Fresh = a.in.Fresh || n == 0
	}
	if a.in.ACRValues = strings.Fields(f.Get("acr_values")); len(a.in.ACRValues) > 16 {
		return invalid("invalid_request", "acr_values has too many values.")
	}
	if a.in.LoginHint = f.Get("login_hint"); len(a.in.LoginHint) > 254 {
		return invalid("invalid_request", "login_hint is longer than 254 bytes.")
	}
	return nil
}

// hint reads id_token_hint: a token of ours, for this client, possibly expired.
func (s *Server) hint(a *authRequest, f web.Form) error {
	text := f.Get("id_token_hint")
	if text == "" {
		return nil
	}
	c, err := jose.VerifyIDTokenHint(text, s.Keys, jose.IDTokenWant{Issuer: s.Issuer, ClientID: a.client.ClientID, Algorithms: client.SignedAlgs(), Now: s.now()})
	if err != nil {
		return invalid("invalid_request", "id_token_hint is not an ID token of this server.").Because(err)
	}
	a.in.Subject = c.Subject
	return nil
}
