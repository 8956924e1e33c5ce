package portal

import (
	"net/http"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/web"
)

func (s *Server) cancelRoutes(handle func(string, web.Handler)) {
	handle("GET "+recovery.CancelPath, func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", view.OpenLink{Kind: view.CancelLink, PostURL: recovery.CancelPath + "/open", PasteURL: cancelPasted})
	})
	handle("POST "+recovery.CancelPath+"/open", s.cancelOpened)
	handle("GET "+cancelPasted, func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", pasteCancel(view.Input{}))
	})
	handle("POST "+cancelPasted, s.cancelPasted)
	handle("GET "+confirmPath, s.cancelPage)
	handle("POST "+confirmPath, s.cancelled)
}

func pasteCancel(link view.Input) view.PasteLink {
	return view.PasteLink{Headline: "Stop a recovery", Form: view.Form{Action: cancelPasted}, Link: link, Back: recoverPath}
}

// cancelTo is the page for the secret of a cancel link. Nothing is stopped yet:
// whoever previews a link spends nothing.
func (s *Server) cancelTo(w http.ResponseWriter, r *http.Request, text string) (page string, err error) {
	ref, err := recovery.ReadCancel(s.Recovery.CancelKeys(), text)
	if err != nil {
		return "", err
	}
	tx, err := s.seal(w, r, sealedCancel, opened{Person: ref})
	return withQuery(confirmPath, "tx", tx), err
}

func (s *Server) cancelOpened(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	to, err := s.cancelTo(w, r, b.Secret)
	if err != nil {
		return err
	}
	return location(w, to)
}

func (s *Server) cancelPasted(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	to, err := s.cancelTo(w, r, fragment(f.Get("link")))
	if p := problem.From(err); p != nil && p.Kind == problem.Invalid {
		return s.show(w, r, nil, "", pasteCancel(view.Input{Error: p.Detail}))
	}
	if err != nil {
		return err
	}
	return seeOther(w, r, to)
}

// errCancelPage says that a page to stop a recovery is not this browser's. It must
// not say that nothing is left to stop: nobody has looked.
var errCancelPage = problem.New(problem.Invalid, "transaction_unknown", "This page belongs to another browser, or was changed on the way.").
	WithHint("Open the link of your message once more.")

// toCancel is what a cancel link is for; m.Over if there is no such thing any more.
func (s *Server) toCancel(w http.ResponseWriter, r *http.Request, tx string) (rec recovery.Recovery, m view.RecoverCancel, err error) {
	m = view.RecoverCancel{Over: true, SignIn: view.PathSignIn}
	o, ok, err := s.unseal(w, r, sealedCancel, tx)
	if err == nil && !ok {
		err = errCancelPage
	}
	if err != nil {
		return rec, m, err
	}
	rec, err = s.Store.Recovery(r.Context(), o.Person)
	var p account.Person
	if err == nil {
		p, err = s.Store.Person(r.Context(), rec.Person)
	}
	if pr := problem.From(err); pr != nil && pr.Kind == problem.NotFound {
		return rec, m, nil
	}
	if err != nil {
		return rec, m, err
	}
	m.Account, m.StartedAt, m.Pass, m.Completed = p.Username, rec.StartedAt, rec.Method == recovery.ByPass, rec.State == recovery.Completed
	m.Form = view.Form{Action: confirmPath, Hidden: []view.Field{{Name: "tx", Value: tx}}}
	m.Over = !rec.Live(s.now())
	if m.Pass && m.Completed { // the session that it opened can be ended still
		live, err := s.live(r.Context(), rec.Made)
		if err != nil {
			return rec, m, orNothing(err, nil)
		}
		m.Used, m.Over = true, !live
	}
	return rec, m, nil
}

func (s *Server) cancelPage(w http.ResponseWriter, r *http.Request) error {
	_, m, err := s.toCancel(w, r, r.URL.Query().Get("tx"))
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", m)
}

// cancelled stops what the link is for, without anybody being signed in.
func (s *Server) cancelled(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	rec, m, err := s.toCancel(w, r, f.Get("tx"))
	if err != nil {
		return err
	}
	if !m.Over {
		in := act.Intent{Refs: act.Refs{Kind: policy.KindAnonymous, Presented: true}, Quiet: true}
		err = s.stop(r.Context(), in, rec, "its cancel link", nil)
	}
	over := m.Over
	if problem.CodeOf(err) == "recovery_over" { // somebody was quicker: a pass that was just used can be taken back still
		over = true
		_, m, err = s.toCancel(w, r, f.Get("tx"))
	}
	if err != nil {
		return err
	}
	if over {
		return s.show(w, r, nil, "", m)
	}
	done := view.Done{Headline: "The recovery is stopped", Text: "Nothing was changed. If somebody else began it, they have one of your recovery codes: sign in and replace them.", Next: &view.Link{Text: "Sign in", URL: view.PathSignIn}}
	if m.Pass {
		done.Headline, done.Text = "The pass is taken back", "Nobody can sign in with it, and the session that it opened, if any, has ended."
	} else if rec.Method == recovery.ByPeople {
		done.Text = "Nothing was changed. If you didn't ask your administrators for it, tell them now."
	}
	return s.show(w, r, nil, "", done)
}
