// Package portal serves the pages that people see: setting up, signing in,
// stepping up, consent, invitations, their account, and the administrators'
// pages. What pages look like is in package view; who a request's browser is, in
// browser.go. Pages change state only through act.Do.
package portal

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// Store is what the pages read.
type Store interface {
	account.Store
	group.Store
	factor.Store
	session.Store
	grant.Store
	client.Store
	client.Admissions
	resource.Store
	recovery.Store
	review.Store
	State
}

// State reads single-use values, lineage and the log.
type State interface {
	OnceValue(ctx context.Context, p once.Purpose, k once.Key) (once.Value, error)
	// OncePending lists unspent, unexpired values of a purpose.
	OncePending(ctx context.Context, p once.Purpose) ([]once.Value, error)
	Ancestors(ctx context.Context, ids ...string) ([]lineage.Node, error)
}

// Log reads the audit log as sentences.
type Log interface {
	// Page gives records older than the one with id before ("": the newest),
	// newest first; of one person, or of everybody for "". more is the before of
	// the next page, "" if there is none.
	Page(ctx context.Context, person, before string, n int) (lines []audit.Line, more string, err error)
}

// Sealer seals what travels through a browser from page to page.
type Sealer interface {
	SealState(purpose, bound string, v any) (string, error)
	OpenState(purpose, bound, sealed string, v any) error
}

// Authorizer is what the pages need of the authorization endpoint.
type Authorizer interface {
	// Pending judges an interaction for the person signed in; ses may be nil.
	Pending(w http.ResponseWriter, r *http.Request, reference string, ses *session.Session) (grant.Pending, error)
	// Refuse ends an interaction without a code and sends the browser back.
	Refuse(w http.ResponseWriter, r *http.Request, reference, code, detail string) error
	// Leaving opens an app's request to sign out that this browser brought.
	Leaving(w http.ResponseWriter, r *http.Request, reference string) (grant.Leaving, error)
	// Leave ends such a request: back at the app's address if by, else on a page.
	Leave(w http.ResponseWriter, r *http.Request, l grant.Leaving, by bool)
	// OpenDevice is a person's entering the code of a device; it gives the reference
	// to go on with.
	OpenDevice(w http.ResponseWriter, r *http.Request, ses session.Session, typed string) (reference string, err error)
	// AnswerDevice is their yes or no; typed is what they read from the device where
	// it is elsewhere. Nothing is answered if what it gives waits for something else.
	AnswerDevice(w http.ResponseWriter, r *http.Request, ses session.Session, reference string, yes bool, typed string) (grant.Pending, error)
}

// Server serves the pages. Fill every member but LogState and Now.
type Server struct {
	Issuer    string
	Do        *act.Doer
	Store     Store
	Log       Log
	Oauth     Authorizer
	Ceremony  *factor.Ceremony
	Passwords *factor.Passwords
	Codes     *factor.Codes
	Sealed    Sealer
	Ladder    assurance.Ladder
	Recovery  Recovery
	// For names an interaction in the proofs of a step-up made for it.
	For        func(reference string) string
	ClientAddr func(*http.Request) netip.Addr
	// LogState says how the log stands; nil: the page does not say.
	LogState func(context.Context) (LogState, error)
	// Mails says that mail is sent. Without it no address can be proved.
	Mails bool
	// Device says that devices may be signed in by code.
	Device bool
	// Requests is what the pages of apps' requests stand on; nil: there are none.
	Requests Requests
	// Notices is what the page of notices stands on; nil: there is none.
	Notices *Notices
	// Rollouts is what the pages of policies stand on; nil: there are none.
	Rollouts *Rollouts
	Now      func() time.Time // nil: time.Now
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

func (s *Server) host() string {
	u, err := url.Parse(s.Issuer)
	if err != nil {
		return s.Issuer
	}
	return u.Host
}

// page is the frame of a page for whoever is signed in.
func (s *Server) page(r *http.Request, v *visitor, here string) view.Page {
	p := view.Page{Issuer: s.host(), Now: s.now(), Here: here, Notice: noticeFor(r)}
	if v != nil {
		p.User = &view.User{Name: v.person.Name, Username: v.person.Username, Admin: v.admin, Helper: v.helper, Asked: s.Requests != nil}
	}
	return p
}

// show writes a page.
func (s *Server) show(w http.ResponseWriter, r *http.Request, v *visitor, here string, m view.View) error {
	return view.Render(r.Context(), w, http.StatusOK, s.page(r, v, here), m)
}

// Fail shows an error as a page; never a redirect.
func (s *Server) Fail(w http.ResponseWriter, r *http.Request, p *problem.Error) {
	s.RenderError(w, r, p)
}

// RenderError shows any error: a page to a browser that navigates, JSON to the
// script of a page.
func (s *Server) RenderError(w http.ResponseWriter, r *http.Request, err error) {
	ref := web.RecordOf(r).Ref()
	web.RecordOf(r).Add(slog.String("error", err.Error()))
	status, f := view.OfError(err, s.now(), ref)
	p := problem.From(err)
	if f.Why != nil { // for the signed-in person only (mechanisms A10)
		if _, ok, err := s.Session(r); !ok || err != nil {
			f.Why = nil
		}
	}
	if p != nil {
		switch p.Code {
		case "interaction_expired":
			status, f = view.RequestExpired("the app", nil, ref)
		case "interaction_done":
			status, f = view.OtherWindow(ref)
		case "transaction_unknown":
			status, f = view.OtherBrowser(ref)
		case "client_unknown", "client_expired":
			name := r.URL.Query().Get("client_id")
			if len(name) > 100 { // a registration is long, and nothing to read
				name = client.StoredID(name)
			}
			status, f = view.UnknownClient(name, ref)
			if p.Code == "client_expired" { // it says which app it was
				f.Detail = p.Detail + " You were not sent back to it."
			}
		case "redirect_invalid":
			status, f = view.BadRedirect(r.URL.Query().Get("client_id"), r.URL.Query().Get("redirect_uri"), ref)
		case "cross_origin":
			status, f = view.CrossSite(ref)
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		body := jsonError{Title: f.Headline, Detail: strings.TrimSpace(f.Detail + " " + f.Next), Ref: ref}
		if p != nil && p.Code == "passkey_unknown" {
			body.Unknown, body.RPID = true, s.rpID()
		}
		if p != nil && p.Detail != "" && p.Kind != problem.NotFound {
			body.Title, body.Detail = p.Detail, p.Hint
		}
		if err := web.JSON(w, status, map[string]any{"error": body}); err != nil {
			slog.Error("render an error", "err", err)
		}
		return
	}
	if err := view.Render(r.Context(), w, status, s.page(r, nil, ""), f); err != nil {
		slog.Error("render an error page", "err", err)
	}
}

func (s *Server) rpID() string {
	u, _ := url.Parse(s.Issuer)
	return u.Hostname()
}

// jsonError is what the pages' script shows.
type jsonError struct {
	Title   string `json:"title"`
	Detail  string `json:"detail,omitempty"`
	Ref     string `json:"ref,omitempty"`
	Unknown bool   `json:"unknown_credential,omitempty"`
	RPID    string `json:"rp_id,omitempty"`
}

// maxBody is the most a form or a ceremony's answer may be.
const maxBody = 64 << 10

// body is what the pages' script posts: the form's fields and a credential.
type body struct {
	fields     map[string]string
	Credential json.RawMessage
	Secret     string
}

func (b body) get(name string) string { return b.fields[name] }

// readBody reads the script's JSON: an object of strings, and the credential.
func readBody(r *http.Request) (body, error) {
	bad := problem.New(problem.Invalid, "body_invalid", "The page sent something that cannot be read.").WithHint("Reload the page and try again.")
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(ct) != "application/json" {
		return body{}, bad
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(raw) > maxBody {
		return body{}, bad.Because(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return body{}, bad.Because(err)
	}
	b := body{fields: map[string]string{}}
	for name, v := range all {
		if name == "credential" {
			b.Credential = v
			continue
		}
		var text string
		if err := json.Unmarshal(v, &text); err != nil || strings.ContainsRune(text, 0) {
			return body{}, bad.Because(err)
		}
		b.fields[name] = text
	}
	b.Secret = b.fields["secret"]
	return b, nil
}

// location tells the script where to go.
func location(w http.ResponseWriter, to string) error {
	return web.JSON(w, http.StatusOK, map[string]string{"location": to})
}

// publicKey gives the script a ceremony's options: {"publicKey": …}.
func publicKey(w http.ResponseWriter, o json.RawMessage) error { return web.JSON(w, http.StatusOK, o) }

// Routes gives the pages' routes.
func (s *Server) Routes(handle func(pattern string, h web.Handler)) {
	s.signinRoutes(handle)
	s.setupRoutes(handle)
	s.inviteRoutes(handle)
	s.reenrolRoutes(handle)
	s.recoverRoutes(handle)
	s.accountRoutes(handle)
	s.emailRoutes(handle)
	s.deviceRoutes(handle)
	s.requestRoutes(handle)
	s.noticeRoutes(handle)
	s.policiesRoutes(handle)
	s.rolloutRoutes(handle)
	s.exceptionsRoutes(handle)
	s.publicationRoutes(handle)
	s.adminRoutes(handle)
}
