package portal

import (
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	emailSend  = view.PathEmail + "/send"
	emailProve = "/email"
)

// emailRoutes are the pages of somebody's e-mail address, and of the link that
// proves one. The link signs nobody in and is worth nothing else (security,
// invariant 9); a GET spends nothing.
func (s *Server) emailRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathEmail, s.signedIn(s.email))
	handle("POST "+view.PathEmail, s.signedIn(s.emailPosted))
	handle("POST "+emailSend, s.signedIn(s.emailAsked))
	handle("GET "+emailProve, s.emailLink)
	handle("POST "+emailProve, s.emailProved)
}

func (s *Server) emailPage(v *visitor) view.Email {
	return view.Email{
		Current: v.person.Email, Proved: v.person.Verified, Mails: s.Mails, Address: view.Input{Value: v.person.Email},
		Form: view.Form{Action: view.PathEmail}, Send: view.Form{Action: emailSend},
	}
}

func (s *Server) email(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.show(w, r, v, view.PathEmail, s.emailPage(v))
}

// emailAct is an act of v on their own address.
func emailAct(v *visitor, a policy.Action, k audit.Kind, said map[string]any, changes ...act.Change) act.Intent {
	said["session"] = v.ses.ID
	return act.Intent{
		Action: a, Kind: k, Refs: self(v.ses, []string{v.person.ID}), For: portalItself,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: changes, Parts: []audit.Part{{Person: v.person.ID, Body: said}}}, nil
		},
	}
}

// emailPosted changes the address. The one that was is told, if it was proved; it
// stands in the record, in the part that is sealed for its person.
func (s *Server) emailPosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	address, bad := account.CheckEmail(f.Get("email"))
	if bad != nil {
		m := s.emailPage(v)
		if m.Address, err = wrong(f.Get("email"), bad); err != nil {
			return err
		}
		return s.show(w, r, v, view.PathEmail, m)
	}
	if address == v.person.Email {
		return seeOther(w, r, view.PathEmail)
	}
	said := map[string]any{}
	if v.person.Verified {
		said["before"] = v.person.Email
	}
	in := emailAct(v, policy.EmailChange, audit.EmailChanged, said, account.Update{ID: v.person.ID, Email: &address})
	if ok, err := s.perform(w, r, in, view.PathEmail, "email"); !ok {
		return err
	}
	switch {
	case address == "":
		return seeOther(w, r, withQuery(view.PathEmail, "done", "email-none"))
	case !s.Mails:
		return seeOther(w, r, view.PathEmail)
	}
	v.person.Email = address
	if _, err := s.Do.Do(r.Context(), s.asking(v)); err != nil && !lost(err, once.EmailVerify) {
		return err
	}
	return seeOther(w, r, withQuery(view.PathEmail, "done", "email"))
}

// asking asks for a link to the address of v. The link is made when it is sent:
// here is only the record that says so.
func (s *Server) asking(v *visitor) act.Intent {
	in := emailAct(v, policy.EmailAsk, audit.EmailAsked, map[string]any{"address": v.person.Email})
	in.Spend = []once.Spend{account.EmailAsked(v.person.ID, s.now())}
	return in
}

func (s *Server) emailAsked(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if _, err := web.ParseForm(r, maxBody); err != nil {
		return err
	}
	if !s.Mails || v.person.Email == "" || v.person.Verified {
		return seeOther(w, r, view.PathEmail)
	}
	ok, err := s.perform(w, r, s.asking(v), view.PathEmail, "email")
	if lost(err, once.EmailVerify) {
		return problem.New(problem.Throttled, "email_just_asked", "A link was asked for a moment ago.").WithHint("Look for it, also among unwanted mail, before you ask for another in two minutes.")
	}
	if !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathEmail, "done", "email-sent"))
}

// proof judges a link to an address. instead is the page to show when it does not
// work; nil if it does.
func (s *Server) proof(r *http.Request, text string) (p account.EmailProof, k once.Key, instead view.View, err error) {
	page := view.LinkProblem{Kind: view.EmailLink, Ref: web.RecordOf(r).Ref()}
	if _, err := secret.Read(secret.Email, text); err != nil {
		return p, k, page, nil
	}
	k = once.KeyOf(once.EmailVerify, text)
	v, ok, err := s.value(r.Context(), once.EmailVerify, k)
	if err != nil || !ok {
		return p, k, page, err
	}
	if p, err = account.ReadEmailProof(v); err != nil {
		return p, k, nil, err
	}
	if page.State, page.At, ok = linkState(v, s.now()); !ok {
		return p, k, page, nil
	}
	return p, k, nil, nil
}

func (s *Server) emailLink(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("link")
	p, _, instead, err := s.proof(r, text)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	return s.show(w, r, nil, "", view.EmailProve{Address: p.Email, Form: view.Form{Action: emailProve, Hidden: []view.Field{{Name: "link", Value: text}}}})
}

// emailProved spends the link. It proves the address that it was sent to, if that
// is still the account's.
func (s *Server) emailProved(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	p, k, instead, err := s.proof(r, f.Get("link"))
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.EmailVerify, Kind: audit.EmailVerified, Quiet: true,
		Refs:  act.Refs{Kind: policy.KindAnonymous, Presented: true, Target: []string{p.Person}},
		Spend: []once.Spend{{Purpose: once.EmailVerify, Key: k, Ref: p.Person}},
		Changes: func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
			if !slices.ContainsFunc(f.Nodes, func(x lineage.Node) bool { return x.ID == p.Person && x.Live() }) {
				return act.Effect{}, problem.New(problem.Denied, policy.CodeEnded, "This account was ended.")
			}
			return act.Effect{
				Changes: []act.Change{account.ProveEmail{ID: p.Person, Email: p.Email}},
				Parts:   []audit.Part{{Person: p.Person}},
			}, nil
		},
	})
	if lost(err, once.EmailVerify) || problem.CodeOf(err) == "email_changed" {
		return s.show(w, r, nil, "", view.LinkProblem{Kind: view.EmailLink, State: view.LinkWithdrawn, Ref: web.RecordOf(r).Ref()})
	}
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", view.Done{Headline: "The address is proved", Text: "Notices of your account go there now."})
}
