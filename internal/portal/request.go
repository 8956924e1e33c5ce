package portal

import (
	"context"
	"net/http"

	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	requestOpen   = view.PathRequests + "/open"
	requestAsk    = view.PathRequests + "/ask"
	requestDenied = view.PathRequests + "/denied"
)

// Requests is what the pages need of backchannel authentication (CIBA Core).
type Requests interface {
	// Requests are those that wait for a person, the newest first.
	Requests(ctx context.Context, person string) ([]grant.Request, error)
	// OpenRequest gives the reference to go on with. It MUST change nothing.
	OpenRequest(w http.ResponseWriter, r *http.Request, ses session.Session, name string) (reference string, err error)
	// AnswerRequest is what the person says; typed is the number that the app shows.
	// Nothing is allowed if what it gives waits for something else.
	AnswerRequest(w http.ResponseWriter, r *http.Request, ses session.Session, reference string, what grant.Said, typed string) (grant.Pending, error)
}

// requestRoutes are the pages on which somebody answers what an app asks them that is
// elsewhere.
func (s *Server) requestRoutes(handle func(string, web.Handler)) {
	if s.Requests == nil {
		return
	}
	handle("GET "+view.PathRequests, s.signedIn(s.requestList))
	handle("GET "+requestOpen, s.signedIn(s.requestOpened))
	handle("GET "+requestAsk, s.signedIn(s.requestAsked))
	handle("POST "+requestAsk, s.signedIn(s.requestAnswered))
	handle("GET "+requestDenied, s.signedIn(s.requestDenied))
}

// requestList is what waits for somebody.
func (s *Server) requestList(w http.ResponseWriter, r *http.Request, v *visitor) error {
	all, err := s.Requests.Requests(r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	var m view.Requests
	for _, x := range all {
		m.Items = append(m.Items, view.RequestItem{
			App: view.App{Name: x.App.Name, Trust: view.Registered}, Message: x.Binding, At: x.Started, Until: x.Until,
			Open: view.Form{Action: requestOpen, Hidden: []view.Field{{Name: "id", Value: x.Name}}},
		})
	}
	return s.show(w, r, v, view.PathRequests, m)
}

// requestOpened takes a request to the page that shows it. Nothing happens by opening
// a link.
func (s *Server) requestOpened(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ref, err := s.Requests.OpenRequest(w, r, v.ses, r.URL.Query().Get("id"))
	return orTo(w, r, withQuery(requestAsk, "tx", ref), err)
}

// requestAsked shows who asks for what: before anything is proved, so that a no needs
// nothing but the session.
func (s *Server) requestAsked(w http.ResponseWriter, r *http.Request, v *visitor) error {
	tx := r.URL.Query().Get("tx")
	p, err := s.Oauth.Pending(w, r, tx, &v.ses)
	if err != nil {
		return err
	}
	if p.Backchannel == nil || p.Next == grant.NextWrongUser {
		return seeOther(w, r, after(tx, ""))
	}
	return s.showRequest(w, r, v, tx, p, view.Input{})
}

func (s *Server) showRequest(w http.ResponseWriter, r *http.Request, v *visitor, tx string, p grant.Pending, typed view.Input) error {
	b := p.Backchannel
	m := view.RequestAsk{
		App: app(p), Message: b.Binding, From: b.Address, At: b.Started, Proved: p.Next == grant.NextRequest, Number: b.Number != "", Typed: typed, Permissions: permissions(p),
		Form: view.Form{Action: requestAsk, Hidden: flow(tx, "")}, Switch: &view.Form{Action: "/switch", Hidden: flow(tx, "")}, Deadline: deadline(p),
	}
	for _, d := range p.Shown {
		m.Details = append(m.Details, detail(d))
	}
	if p.Next == grant.NextDenied {
		m.Barred = "Your organisation doesn't allow this for your account."
		if len(p.Reasons) > 0 {
			m.Barred = p.Reasons[0]
		}
	}
	var err error
	if m.Resource, m.ResourceURL, err = s.about(r, p); err != nil {
		return err
	}
	return s.show(w, r, v, "", m)
}

// requestAnswered is what they say. If more proof is needed for a yes, nothing is
// allowed yet and the browser goes to give it.
func (s *Server) requestAnswered(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	tx, what := f.Get("tx"), grant.Said(f.Get("decision"))
	switch what {
	case grant.Allow, grant.Deny, grant.Report:
	default:
		return problem.New(problem.Invalid, "decision_missing", "Choose whether to allow the app.")
	}
	p, err := s.Requests.AnswerRequest(w, r, v.ses, tx, what, f.Get("number"))
	if problem.CodeOf(err) == "number_wrong" {
		e := problem.From(err)
		return s.showRequest(w, r, v, tx, p, view.Input{Error: e.Detail + " " + e.Hint})
	}
	switch {
	case err != nil:
		return err
	case what == grant.Report:
		return seeOther(w, r, withQuery(requestDenied, "reported", "1"))
	case what == grant.Deny:
		return seeOther(w, r, requestDenied)
	case p.Next != grant.NextRequest:
		return seeOther(w, r, after(tx, ""))
	}
	return s.show(w, r, v, "", view.Done{
		Headline: "You allowed it",
		Text:     "Go back to where you started it: the app goes on by itself within seconds. You can close this tab.",
		Next:     &view.Link{Text: "See what is running in your name", URL: view.PathSessions},
	})
}

// requestDenied says that an app was told no.
func (s *Server) requestDenied(w http.ResponseWriter, r *http.Request, v *visitor) error {
	m := view.Done{
		Headline: "Nothing was allowed", Text: "The app was told no.",
		Next: &view.Link{Text: "Back to your requests", URL: view.PathRequests},
	}
	if r.URL.Query().Has("reported") {
		m.Text = "The app was told no, and may not ask you for a day. Your administrators can see that you did not start it. " +
			"If somebody called you or wrote to you about it, don't help them."
	}
	return s.show(w, r, v, "", m)
}

// requestsTodo is what waits, for the overview.
func (s *Server) requestsTodo(ctx context.Context, person string) ([]view.Todo, error) {
	if s.Requests == nil {
		return nil, nil
	}
	all, err := s.Requests.Requests(ctx, person)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return []view.Todo{{
		Text: "Answer what an app asks you", Why: "It waits for a few minutes. If you didn't start it, say so.", Takes: "about ten seconds",
		Action: view.Link{Text: "Look at your requests", URL: view.PathRequests},
	}}, nil
}

// requestReason is why a request needs proof.
const requestReason = "Allowing what an app asks you needs you to confirm here, after it asked."
