package oauth

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// Departure is the pages' part of signing out at an app's word.
type Departure interface {
	// ConfirmSignOut shows the page that asks the person. It changes nothing.
	ConfirmSignOut(w http.ResponseWriter, r *http.Request, l grant.Leaving, reference string)
	// SignOut ends the browser's session, and with it what Grant.Partakes says.
	SignOut(w http.ResponseWriter, r *http.Request, ses session.Session, l grant.Leaving) error
	// SignedOut shows that it is done, with a way back that is a link.
	SignedOut(w http.ResponseWriter, r *http.Request, l grant.Leaving)
}

// leavingPurpose types the sealed form of a request to sign out.
const leavingPurpose = "sign_out"

// leaving is a request to sign out as it travels through the browser, its state as bytes (see
// carried). Under another name than a text's: one may be opened by the release before.
type leaving struct {
	grant.Leaving
	Bytes []byte `json:"state_bytes,omitempty"`
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout §2). Whoever
// sends a browser here can be anybody: only a genuine ID token of the very session
// that this browser has ends it at once; otherwise the person is asked. The browser
// goes back to a registered address only, and by itself only with a genuine token.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxForm)
	if err != nil {
		return err
	}
	l, hint, err := s.readLogout(r, f)
	if p := problem.From(err); p != nil {
		note(r, "error", p.Code)
		s.Browser.Fail(w, r, p)
		return nil
	}
	if err != nil {
		return err
	}
	ses, ok, err := s.Browser.Session(r)
	if err != nil {
		return err
	}
	if !ok && r.Method == http.MethodPost { // a form of another site comes without our cookie
		return reopen(w, r, f)
	}
	if !ok {
		s.Leave(w, r, l, hint != nil)
		return nil
	}
	proven, err := s.proves(r.Context(), l.App, ses, hint)
	if err != nil {
		return err
	}
	if proven {
		if err := s.Departure.SignOut(w, r, ses, l); err != nil {
			return err
		}
		s.Leave(w, r, l, true)
		return nil
	}
	binding, err := s.Browser.Binding(w, r)
	if err != nil {
		return err
	}
	l.Session, l.Asked = ses.ID, s.now().UTC()
	travels := leaving{l, []byte(l.State)}
	travels.State = ""
	ref, err := s.Keys.SealState(leavingPurpose, binding, travels)
	if err != nil {
		return err
	}
	s.Departure.ConfirmSignOut(w, r, l, ref)
	return nil
}

// reopen has the browser come again by itself, with its cookies.
func reopen(w http.ResponseWriter, r *http.Request, f web.Form) error {
	q := url.Values{}
	for _, name := range logoutParameters {
		if f.Has(name) {
			q.Set(name, f.Get(name))
		}
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/oauth/logout?"+q.Encode(), http.StatusSeeOther)
	return nil
}

var logoutParameters = []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"}

// readLogout reads a request to sign out. hint is nil without a genuine ID token.
func (s *Server) readLogout(r *http.Request, f web.Form) (l grant.Leaving, hint *jose.IDTokenClaims, err error) {
	named := f.Get("client_id")
	bad := false
	if text := f.Get("id_token_hint"); text != "" {
		hint, err = jose.VerifyIDTokenHint(text, s.Keys, jose.IDTokenWant{Issuer: s.Issuer, Algorithms: client.SignedAlgs(), Now: s.now()})
		switch {
		case err != nil: // it may be older than its key: the person is asked
			bad, hint = true, nil
		case named != "" && !hint.Audience.Has(named):
			return l, nil, invalid("invalid_request", "id_token_hint is for another app than client_id names.")
		case named == "":
			named = hint.Audience[0]
		}
	}
	if named != "" {
		if l.App, err = s.knownClient(r.Context(), named, s.networkOf(r)); err != nil {
			return l, nil, err
		}
		l.Client = l.App.ID
		note(r, "client", shortID(l.App))
	}
	if l.Back = f.Get("post_logout_redirect_uri"); l.Back != "" && !slices.Contains(l.App.PostLogoutURIs, l.Back) {
		return l, nil, invalid("redirect_invalid", "The address this app wants to send you back to is not registered for it.").
			WithHint("Sign out on your account's page. If you run the app, register the exact post_logout_redirect_uri.")
	}
	if l.State = f.Get("state"); len(l.State) > maxState {
		return l, nil, invalid("invalid_request", "state is longer than 4 KB.")
	}
	if bad {
		l.Back, l.State = "", ""
	}
	return l, hint, nil
}

// proves reports whether an ID token is of the session that the browser has: the
// client's own name of it, and the person.
func (s *Server) proves(ctx context.Context, c client.Client, ses session.Session, hint *jose.IDTokenClaims) (bool, error) {
	if hint == nil || hint.SessionID == "" {
		return false, nil
	}
	sid, err := s.sessionAt(c, ses.ID)
	if err != nil || sid != hint.SessionID {
		return false, err
	}
	who, err := s.State.Person(ctx, ses.Person)
	if err != nil {
		return false, err
	}
	return s.isSubject(c, &who, hint.Subject)
}

// Leave ends a request to sign out: back at the app's address, or on a page that has
// it as a link.
func (s *Server) Leave(w http.ResponseWriter, r *http.Request, l grant.Leaving, by bool) {
	if l.Back == "" || !by {
		s.Departure.SignedOut(w, r, l)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, l.Address(), http.StatusSeeOther)
}

// Leaving opens a request to sign out that this browser brought, as it is now.
func (s *Server) Leaving(w http.ResponseWriter, r *http.Request, ref string) (l grant.Leaving, err error) {
	binding, err := s.Browser.Binding(w, r)
	if err != nil {
		return l, err
	}
	var travelled leaving
	if err := s.Keys.OpenState(leavingPurpose, binding, ref, &travelled); err != nil {
		return l, err
	}
	if l = travelled.Leaving; len(travelled.Bytes) > 0 {
		l.State = string(travelled.Bytes)
	}
	if s.now().Sub(l.Asked) > grant.LeavingLifetime {
		return l, invalid("interaction_expired", "This request waited longer than ten minutes, so it has expired.").WithHint("Sign out on your account's page.")
	}
	if l.Client == "" {
		return l, nil
	}
	if l.App, err = s.Clients.Client(r.Context(), l.Client); err == nil && l.Back != "" && !slices.Contains(l.App.PostLogoutURIs, l.Back) {
		l.Back = "" // taken back since
	}
	return l, err
}

// Times of a logout token: long enough for clocks, too short to be kept.
const logoutTokenLife = 2 * time.Minute

// logoutClaims are the claims of a logout token (Back-Channel Logout §2.4). There is
// never a nonce.
type logoutClaims struct {
	Issuer    string                    `json:"iss"`
	Subject   string                    `json:"sub,omitempty"`
	Audience  jose.Audience             `json:"aud"`
	IssuedAt  jose.NumericDate          `json:"iat"`
	ExpiresAt jose.NumericDate          `json:"exp"`
	JTI       string                    `json:"jti"`
	SessionID string                    `json:"sid"`
	Events    map[string]map[string]any `json:"events"`
}

// logoutEvent is what a logout token is about.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// TypLogoutToken keeps a logout token from being taken for another one of ours.
const TypLogoutToken = "logout+jwt"

// LogoutToken tells a client that a session has ended, by the names under which it
// knows session and person; of somebody who was erased only the session is named.
func (s *Server) LogoutToken(ctx context.Context, c client.Client, ses session.Session) (string, error) {
	now := s.now()
	t := logoutClaims{
		Issuer: s.Issuer, Audience: jose.Audience{c.ClientID}, IssuedAt: jose.Date(now), ExpiresAt: jose.Date(now.Add(logoutTokenLife)),
		JTI: id.Random("lgt_"), Events: map[string]map[string]any{logoutEvent: {}},
	}
	var err error
	if t.SessionID, err = s.sessionAt(c, ses.ID); err != nil {
		return "", err
	}
	who, err := s.State.Person(ctx, ses.Person)
	switch {
	case err == nil:
		if t.Subject, err = s.subject(c, &who); err != nil {
			return "", err
		}
	case !problem.Refusal(err):
		return "", err
	}
	signer, err := s.Keys.Signer(keyring.IDToken, c.SignedWith(), TypLogoutToken)
	if err != nil {
		return "", err
	}
	return signer.Sign(t)
}
