package portal

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const signedOutPath = "/signed-out"

func (s *Server) accountRoutes(handle func(string, web.Handler)) {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request, *visitor) error{
		"GET /account":                   s.overview,
		"GET /account/activity":          s.activity,
		"POST /account/notme":            s.notMe,
		"GET /account/passkeys":          s.passkeys,
		"GET /account/passkeys/add":      s.passkeyAdd,
		"POST /account/passkeys/options": s.passkeyOptions,
		"POST /account/passkeys/finish":  s.passkeyFinish,
		"POST /account/passkeys/rename":  s.passkeyRename,
		"GET /account/passkeys/remove":   s.passkeyRemove,
		"POST /account/passkeys/remove":  s.passkeyRemoved,
		"GET " + passwordPath:            s.passwordPage,
		"POST " + passwordPath:           s.passwordSet,
		"GET " + appPath:                 s.appAdd,
		"POST " + appPath:                s.appShown,
		"GET /account/sessions":          s.sessionsPage,
		"GET /account/end":               s.endPage,
		"POST /account/end":              s.end,
		"GET /signout":                   s.signOut,
	} {
		handle(pattern, s.signedIn(h))
	}
	handle("POST /signout/here", s.signOutThis)
	handle("POST /signout/everything", s.signOutAll)
	handle("POST "+leavePath, s.leave)
	handle("GET "+signedOutPath, s.signedOut)
	handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error { return seeOther(w, r, view.PathHome) })
}

// lookBack is how far the overview looks for security events, and in how many
// records at most.
const (
	lookBack     = 30 * 24 * time.Hour
	lookBackMost = 200
	showUnusual  = 8
)

// overview is the check-up: what to mend, then what was unusual.
func (s *Server) overview(w http.ResponseWriter, r *http.Request, v *visitor) error {
	all, err := s.Store.FactorsOf(r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	keys, typed := keysOf(all)
	m := view.Overview{Passkeys: keys, Sessions: len(t.sessions), Apps: t.apps()}
	if m.Todo, err = s.requestsTodo(r.Context(), v.person.ID); err != nil {
		return err
	}
	waiting, err := s.publicationsTodo(r.Context(), v)
	if err != nil {
		return err
	}
	m.Todo = append(m.Todo, waiting...)
	todo := view.Todo{
		Text: "Add a second passkey", Why: "If the only one is lost, you can't get back in by yourself.", Takes: "about 30 seconds",
		Action: view.Link{Text: "Add a passkey", URL: addPasskey}, Done: keys > 1 || keys == 1 && typed,
	}
	if keys == 0 {
		todo.Text, todo.Why = "Add a passkey", "Some actions ask for one: a password and a code can be typed into a page that only looks like ours."
	}
	m.Todo = append(m.Todo, todo)
	if s.Mails {
		m.Todo = append(m.Todo, view.Todo{
			Text: "Prove your e-mail address", Why: "Then you're told at once when somebody changes how you sign in.", Takes: "about a minute",
			Action: view.Link{Text: "Go to e-mail", URL: view.PathEmail}, Done: v.person.Verified,
		})
	}
	codes, err := s.codesTodo(r.Context(), v)
	if err != nil {
		return err
	}
	m.Todo = append(m.Todo, codes...)
	if v.admin {
		alone, err := s.onlyAdministrator(r.Context(), v.person.ID)
		if err != nil {
			return err
		}
		m.Todo = append(m.Todo, view.Todo{
			Text: "Have a second administrator", Why: "If you can't sign in, only somebody on the server itself can let you back in.", Takes: "about a minute",
			Action: view.Link{Text: "Invite somebody", URL: invitePath}, Done: !alone,
		})
	}
	slices.SortStableFunc(m.Todo, func(a, b view.Todo) int {
		switch {
		case a.Done == b.Done:
			return 0
		case a.Done:
			return 1
		}
		return -1
	})
	if m.Exceptions, err = s.exceptions(r.Context(), v); err != nil {
		return err
	}
	lines, _, err := s.Log.Page(r.Context(), v.person.ID, "", lookBackMost)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if s.now().Sub(l.At) > lookBack || len(m.Unusual) == showUnusual {
			break
		}
		if notice.Shown(l) {
			e := event(l)
			e.NotMe = &view.Form{Action: "/account/notme"}
			m.Unusual = append(m.Unusual, e)
		}
	}
	return s.show(w, r, v, view.PathHome, m)
}

// exceptions are the rules that are waived for somebody, for them to see.
func (s *Server) exceptions(ctx context.Context, v *visitor) ([]view.Exception, error) {
	_, facts, err := s.Do.Judge(ctx, act.Intent{Action: policy.SelfRead, Refs: self(v.ses, nil)})
	if err != nil {
		return nil, err
	}
	list, err := s.Do.Exceptions(ctx, facts)
	if err != nil {
		return nil, err
	}
	var out []view.Exception
	for _, e := range list {
		x := view.Exception{Rule: e.Rule.Reason, Instead: policy.Words(e.Instead()), Why: e.Reason, Owner: e.Owner, Until: e.Until}
		x.Group, _ = strings.CutPrefix(e.For, "group:")
		if x.Group == e.For {
			x.Group = ""
		}
		out = append(out, x)
	}
	return out, nil
}

// onlyAdministrator reports whether no other live administrator is left.
func (s *Server) onlyAdministrator(ctx context.Context, person string) (bool, error) {
	admins, err := s.administrators(ctx)
	if err != nil {
		return false, err
	}
	for id := range admins {
		if id == person {
			continue
		}
		p, err := s.Store.Person(ctx, id)
		if err != nil && !problem.Refusal(err) {
			return false, err
		}
		if err == nil && p.Node.Live() {
			return false, nil
		}
	}
	return true, nil
}

// administrators are the ids of those in the administrators' group.
func (s *Server) administrators(ctx context.Context) (map[string]bool, error) {
	g, err := s.Store.GroupByName(ctx, group.Administrators)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for after := ""; ; {
		ids, err := s.Store.Members(ctx, g.ID, after, 500)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			out[id], after = true, id
		}
		if len(ids) < 500 {
			return out, nil
		}
	}
}

// notMe leads to ending everything: it still asks.
func (s *Server) notMe(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return seeOther(w, r, endURL(v.person.ID))
}

// event is a line of the log in somebody's activity.
func event(l audit.Line) view.Event {
	return view.Event{At: l.At, Text: sentence(l.Sentence), Assurance: l.Assurance, Ref: l.ID}
}

// perPage is how many lines of the log a page shows.
const perPage = 50

// activity is what was done by v and in v's name.
func (s *Server) activity(w http.ResponseWriter, r *http.Request, v *visitor) error {
	before := r.URL.Query().Get("before")
	lines, more, err := s.Log.Page(r.Context(), v.person.ID, before, perPage)
	if err != nil {
		return err
	}
	var m view.Activity
	for _, l := range lines {
		m.Events = append(m.Events, event(l))
	}
	if before != "" {
		m.Newer = view.PathActivity
	}
	if more != "" {
		m.Older = withQuery(view.PathActivity, "before", more)
	}
	return s.show(w, r, v, view.PathActivity, m)
}

// count is "1 session", "3 sessions".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// signOut offers two ways of leaving: this browser only, or everything.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request, v *visitor) error {
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	m := view.SignOut{Here: view.Form{Action: "/signout/here"}, Everything: view.Form{Action: "/signout/everything"}, Back: view.PathHome}
	leaving, err := s.partaking(r.Context(), v.ses, "")
	if err != nil {
		return err
	}
	if n := len(leaving); n > 0 {
		m.HereEnds = count(n, "app")
	}
	if n := len(t.sessions); n > 0 {
		m.Counts = append(m.Counts, count(n, "session"))
	}
	if n := t.apps(); n > 0 {
		m.Counts = append(m.Counts, count(n, "app"))
	}
	return s.show(w, r, v, "", m)
}

// signOutThis ends this browser's session; what apps hold goes on. Somebody who
// is signed out already gets the same answer.
func (s *Server) signOutThis(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	v, err := s.visitor(r)
	if err == nil {
		err = s.signOutHere(r.Context(), v.ses, "")
	}
	if err != nil && !problem.Refusal(err) {
		return err
	}
	s.clearCookie(w, cookieSession)
	return seeOther(w, r, localPath(f.Get("next"), signedOutPath))
}

// signOutAll ends every session, and so everything that the person started.
func (s *Server) signOutAll(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if problem.Refusal(err) {
		s.clearCookie(w, cookieSession)
		return seeOther(w, r, signedOutPath)
	}
	if err != nil {
		return err
	}
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	return s.endEverything(w, r, v, t)
}

func (s *Server) signedOut(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, r, nil, "", view.Done{
		Headline: "You're signed out", Text: "You can close this tab.", Next: &view.Link{Text: "Sign in again", URL: view.PathSignIn},
	})
}
