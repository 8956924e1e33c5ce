package portal

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// consent asks whether an app may have what it asks for; or says that policy
// refuses it.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if problem.Refusal(err) {
		http.Redirect(w, r, "/signin?"+r.URL.RawQuery, http.StatusSeeOther)
		return nil
	}
	if err != nil {
		return err
	}
	tx := r.URL.Query().Get("tx")
	p, err := s.Oauth.Pending(w, r, tx, &v.ses)
	if err != nil {
		return err
	}
	switch p.Next {
	case grant.NextConsent:
	case grant.NextDenied:
		words := "Your organisation doesn't allow this for your account."
		if len(p.Reasons) > 0 {
			words = p.Reasons[0]
		}
		refused := problem.New(problem.Denied, "access_denied", words)
		refused.Why = p.Why
		return refused
	default:
		http.Redirect(w, r, after(tx, ""), http.StatusSeeOther)
		return nil
	}
	m := view.Consent{
		App: app(p), Permissions: permissions(p), Lasts: "until you end it, at most 30 days",
		Form:    view.Form{Action: "/consent", Hidden: append(flow(tx, ""), view.Field{Name: "seen", Value: p.App.Digest})},
		Changed: p.Changed,
		Switch:  &view.Form{Action: "/switch", Hidden: flow(tx, "")}, Deadline: deadline(p),
	}
	m.Resource, m.ResourceURL, err = s.about(r, p)
	if err != nil {
		return err
	}
	for _, d := range p.Shown {
		m.Details = append(m.Details, detail(d))
	}
	if p.Remembered != nil && len(p.Shown) == 0 && !slices.ContainsFunc(p.Scopes, func(x grant.Permission) bool { return x.New }) {
		m.ApprovedAt = p.Remembered.At
	}
	leadsOut(w, p)
	return s.show(w, r, v, "", m)
}

// detail is an element of authorization details as the page shows it.
func detail(d grant.Detail) view.Detail {
	v := view.Detail{Resource: d.Resource}
	for _, p := range d.Said {
		v.Said = append(v.Said, view.Said(p))
	}
	for _, f := range d.Fields {
		v.Fields = append(v.Fields, view.Field(f))
	}
	return v
}

// leadsOut lets the forms of a page end up at the app whose interaction it is
// part of: browsers hold the redirects after a form against form-action too.
func leadsOut(w http.ResponseWriter, p grant.Pending) {
	view.Headers(w.Header(), formTarget(p.RedirectURI))
}

// formTarget is where a form of a page may end up that answers at a redirect URI.
func formTarget(redirect string) string {
	u, err := url.Parse(redirect)
	switch {
	case err != nil, redirect == "":
		return ""
	case u.Scheme != "http" && u.Scheme != "https": // whatever follows: an app's scheme has no hosts
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

// Deliver shows the page that posts an answer to a client's address (Form Post
// Response Mode): by itself, or at a press of its button where scripts are off.
func (s *Server) Deliver(w http.ResponseWriter, r *http.Request, to string, answer url.Values) {
	if answer == nil {
		s.byHand(w, r, to)
		return
	}
	m := view.FormPost{Form: view.Form{Action: to}}
	if u, err := url.Parse(to); err == nil {
		m.To = u.Host
	}
	for _, name := range slices.Sorted(maps.Keys(answer)) {
		m.Form.Hidden = append(m.Form.Hidden, view.Field{Name: name, Value: answer.Get(name)})
	}
	view.Headers(w.Header(), formTarget(to))
	if err := s.show(w, r, nil, "", m); err != nil {
		s.RenderError(w, r, err)
	}
}

// about names the resources that consent is for.
func (s *Server) about(r *http.Request, p grant.Pending) (names, uri string, err error) {
	var list []string
	for _, id := range p.Resources {
		res, err := s.Store.Resource(r.Context(), id)
		if err != nil {
			return "", "", err
		}
		list, uri = append(list, res.Name), res.URI
	}
	if len(list) > 1 {
		uri = ""
	}
	return strings.Join(list, ", "), uri, nil
}

func permissions(p grant.Pending) []view.Permission {
	var out []view.Permission
	for _, sc := range p.Scopes {
		g, ok := map[string]view.Group{"read": view.Read, "change": view.Change, "spend": view.Spend, "admin": view.Admin}[sc.Kind]
		if !ok {
			g = view.Change
		}
		x := view.Permission{Group: g, Text: sc.Description, Scope: sc.Name, New: sc.New}
		if x.Text == "" {
			x.Text = sc.Name
		}
		if sc.Conditional() {
			x.Again = policy.Words(sc.Ask)
		}
		out = append(out, x)
	}
	return out
}

// consentDecide remembers what the person allowed, or tells the app they said
// no. The interaction is then judged again.
func (s *Server) consentDecide(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	tx := f.Get("tx")
	p, err := s.Oauth.Pending(w, r, tx, &v.ses)
	if err != nil {
		return err
	}
	switch {
	case f.Get("decision") == "deny":
		return s.Oauth.Refuse(w, r, tx, "access_denied", "The person said no.")
	case f.Get("decision") != "allow" && f.Get("decision") != "copy":
		return problem.New(problem.Invalid, "decision_missing", "Choose whether to allow the app.")
	case p.Next != grant.NextConsent:
		http.Redirect(w, r, after(tx, ""), http.StatusSeeOther)
		return nil
	}
	if f.Get("seen") != p.App.Digest { // what they allowed is not what it says now that it is
		http.Redirect(w, r, after(tx, ""), http.StatusSeeOther)
		return nil
	}
	err = s.agree(r, v, p)
	if errors.Is(err, problem.Conflict) { // somebody else was the first to allow it, just now
		if p, err = s.Oauth.Pending(w, r, tx, &v.ses); err == nil && p.Next == grant.NextConsent && f.Get("seen") == p.App.Digest {
			err = s.agree(r, v, p)
		}
	}
	if err != nil {
		return err
	}
	to := after(tx, "")
	if f.Get("decision") == "copy" {
		to += "&deliver=copy"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// byHand shows an answer's address to whoever said that the app is on another
// computer. People are also talked into handing such addresses over: the page says
// what it is worth.
func (s *Server) byHand(w http.ResponseWriter, r *http.Request, address string) {
	view.Headers(w.Header())
	if err := s.show(w, r, nil, "", view.Done{
		Headline: "Give this address to your app",
		Text:     "Paste it into the app that you started yourself, within a minute, and nowhere else: whoever has it acts in your name. Nobody who helps you needs it.",
		Commands: []view.Command{{What: "the address", Line: address}},
	}); err != nil {
		s.RenderError(w, r, err)
	}
}

// agree remembers what a person allowed an app. A client that nobody registered
// is stored with the first consent to it, and as it said then that it is.
func (s *Server) agree(r *http.Request, v *visitor, p grant.Pending) error {
	app := p.App
	var list []act.Change
	switch {
	case app.Known():
	case app.ID == "":
		app.ID, app.CreatedAt = id.New(id.Client), s.now()
		list = append(list, client.Create{Client: app})
	case app.Source == client.FromDocument:
		list = append(list, client.Update{Client: app})
	}
	c := grant.Consent{ID: id.New("cns_"), Person: v.person.ID, Client: app.ID}
	refs := self(v.ses, nil)
	refs.Client = p.App.ID
	if have := p.Remembered; have != nil {
		if c.Resources, c.Scopes = have.Resources, have.Scopes; have.Client == app.ID {
			c.ID = have.ID
			refs.Under = []string{c.ID}
		}
		if p.Changed { // what they allowed it then they allowed to something else
			c.Resources, c.Scopes = nil, nil
		}
	}
	c.At, c.Digest = s.now(), app.Digest
	c.Widen(p)
	c.Details, c.For = p.Details, s.For(p.Reference) // for this time only
	about := map[string]any{"client": app.ID, "scopes": c.Scopes, "resources": c.Resources, "consent": c.ID}
	if len(c.Details) > 0 {
		about["authorization_details"] = c.Details
	}
	if !app.Known() {
		about["client_id"], about["name"] = client.StoredID(app.ClientID), app.Name
	}
	_, err := s.Do.Do(r.Context(), act.Intent{
		Action: policy.ConsentGive, Kind: audit.ConsentGiven, Refs: refs, From: s.Origin(r),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append(list[:len(list):len(list)], grant.Remember{Consent: c}),
				Parts:   []audit.Part{{Person: v.person.ID, Body: about}},
			}, nil
		},
	})
	return err
}
