package portal

import (
	"context"
	"net/http"
	"net/url"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

const leavePath = "/signout/app"

// signOutHere ends the cookie of this browser's session, and what Grant.Partakes says
// of it; asked is the client that asked for it, "" if none. What other apps hold lives
// on until they or the person end it. The apps that are told hear of it from the
// record.
func (s *Server) signOutHere(ctx context.Context, ses session.Session, asked string) error {
	ends, err := s.partaking(ctx, ses, asked)
	if err != nil {
		return err
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.SessionEnd, Kind: audit.SessionEnded, Refs: self(ses, append([]string{ses.ID}, ends...)),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			said := map[string]any{"session": ses.ID, "why": "signed_out"}
			eff := act.Effect{
				Changes: []act.Change{session.SignOut{ID: ses.ID}},
				Parts:   []audit.Part{{Person: ses.Person, Body: said}},
			}
			if asked != "" {
				said["client"] = asked
			}
			for _, id := range ends {
				eff.Changes = append(eff.Changes, lineage.End{ID: id, Why: "signed_out"})
			}
			return eff, nil
		},
	})
	return err
}

// partaking are the grants that end when a session is signed out.
func (s *Server) partaking(ctx context.Context, ses session.Session, asked string) (ends []string, err error) {
	all, err := s.Store.GrantsOf(ctx, ses.Person)
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		if g.Session != ses.ID {
			continue
		}
		c, err := s.Store.Client(ctx, g.Client)
		if err != nil {
			return nil, err
		}
		if g.Partakes(c, asked) {
			ends = append(ends, g.ID)
		}
	}
	return ends, nil
}

// ConfirmSignOut asks whether to sign out, as an app wants.
func (s *Server) ConfirmSignOut(w http.ResponseWriter, r *http.Request, l grant.Leaving, ref string) {
	err := s.confirmSignOut(w, r, l, ref)
	if err != nil {
		s.RenderError(w, r, err)
	}
}

func (s *Server) confirmSignOut(w http.ResponseWriter, r *http.Request, l grant.Leaving, ref string) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	ends, err := s.partaking(r.Context(), v.ses, l.Client)
	if err != nil {
		return err
	}
	m := view.LeaveApp{
		App: l.App.Name, Back: host(l.Back),
		Form: view.Form{Action: leavePath, Hidden: flow(ref, "")}, Stay: view.PathHome,
	}
	if n := len(ends); n > 0 {
		m.Ends = count(n, "app")
	}
	view.Headers(w.Header(), formTarget(l.Back))
	return s.show(w, r, v, "", m)
}

// host names where an address leads, for a page; "" for none.
func host(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Host
}

// leave is the answer to that page. Another session than the one it was about is not
// signed out.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	l, err := s.Oauth.Leaving(w, r, f.Get("tx"))
	if err != nil {
		return err
	}
	ses, ok, err := s.Session(r)
	if err != nil {
		return err
	}
	if ok && ses.ID != l.Session {
		return problem.New(problem.Conflict, "session_changed", "Somebody signed in here since, so nothing was signed out.").WithHint("Sign out on the account's page.")
	}
	if ok {
		if err := s.SignOut(w, r, ses, l); err != nil {
			return err
		}
	}
	s.Oauth.Leave(w, r, l, true)
	return nil
}

// SignOut ends the browser's session at an app's word.
func (s *Server) SignOut(w http.ResponseWriter, r *http.Request, ses session.Session, l grant.Leaving) error {
	if err := s.signOutHere(r.Context(), ses, l.Client); err != nil {
		return err
	}
	s.clearCookie(w, cookieSession)
	return nil
}

// SignedOut shows that nobody is signed in here, with the way back to an app.
func (s *Server) SignedOut(w http.ResponseWriter, r *http.Request, l grant.Leaving) {
	m := view.Done{Headline: "You're signed out", Text: "Nobody is signed in here in this browser. You can close this tab.", Next: &view.Link{Text: "Sign in again", URL: view.PathSignIn}}
	if l.Back != "" {
		m.Next = &view.Link{Text: "Back to " + view.Visible(l.App.Name, 80), URL: l.Address()}
	}
	if err := s.show(w, r, nil, "", m); err != nil {
		s.RenderError(w, r, err)
	}
}
