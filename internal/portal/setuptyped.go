package portal

import (
	"net/http"

	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// setupPassword is step 2 for somebody without a passkey or without JavaScript.
func (s *Server) setupPassword(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	o, v, instead, err := s.setupLink(w, r, tx)
	if err == nil {
		err = s.typedAllowed(r.Context())
	}
	switch {
	case err != nil:
		return err
	case instead != nil:
		return s.show(w, r, nil, "", instead)
	case o.Username == "":
		return seeOther(w, r, withQuery("/setup/name", "tx", tx))
	}
	m := setupPasswordPage(o, tx, view.Input{})
	m.Deadline = view.Deadline{At: v.ExpiresAt}
	return s.show(w, r, nil, "", m)
}

func setupPasswordPage(o opened, tx string, in view.Input) view.NewPassword {
	return view.NewPassword{
		Form: linkForm("/setup/password", tx), Account: o.Username, Password: in, Least: factor.PasswordWithCode, Setup: true,
		Back: withQuery("/setup/passkey", "tx", tx),
	}
}

func (s *Server) setupPasswordChosen(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	o, _, instead, err := s.setupLink(w, r, f.Get("tx"))
	if err == nil {
		err = s.typedAllowed(r.Context())
	}
	switch {
	case err != nil:
		return err
	case instead != nil:
		return s.show(w, r, nil, "", instead)
	case o.Username == "":
		return seeOther(w, r, withQuery("/setup/name", "tx", f.Get("tx")))
	}
	pw, in, err := s.choose(r, o.Person, f.Get("password"), factor.PasswordWithCode, o.Name, o.Username)
	if err != nil {
		return err
	}
	if in.Error != "" {
		return s.show(w, r, nil, "", setupPasswordPage(o, f.Get("tx"), in))
	}
	o.choosePassword(pw)
	tx, err := s.seal(w, r, sealedSetup, o)
	if err != nil {
		return err
	}
	return seeOther(w, r, withQuery("/setup/app", "tx", tx))
}

// setupApp shows the seed that the app is to have.
func (s *Server) setupApp(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	o, v, instead, err := s.setupLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	return s.linkApp(w, r, o, "/setup/app", tx, withQuery("/setup/password", "tx", tx), view.Input{}, view.Deadline{At: v.ExpiresAt}, true)
}

// linkApp is the page for an app behind a link. back is where a password is
// chosen, which comes first.
func (s *Server) linkApp(w http.ResponseWriter, r *http.Request, o opened, action, tx, back string, code view.Input, until view.Deadline, setup bool) error {
	_, seed, ok := o.chosen(s.now())
	if !ok {
		return seeOther(w, r, back)
	}
	m, err := s.appPage(seed, o.Username, linkForm(action, tx))
	if err != nil {
		return err
	}
	m.Code, m.Deadline, m.Setup = code, until, setup
	return s.show(w, r, nil, "", m)
}

// setupAppShown makes the first administrator with a password and an app, in the
// one transaction that spends the link.
func (s *Server) setupAppShown(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	tx := f.Get("tx")
	o, v, instead, err := s.setupLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	admins, err := s.Store.GroupByName(r.Context(), group.Administrators)
	if err != nil {
		return err
	}
	n, err := s.typedNewcomer(r, o, f.Get("code"))
	if problem.CodeOf(err) == "password_missing" {
		return seeOther(w, r, withQuery("/setup/password", "tx", tx))
	}
	if wrongAnswer(err) {
		return s.linkApp(w, r, o, "/setup/app", tx, withQuery("/setup/password", "tx", tx), view.Input{Error: codeWords(err)}, view.Deadline{At: v.ExpiresAt}, true)
	}
	if err != nil {
		return err
	}
	taken, err := s.completeSetup(r, n, admins.ID)
	if err != nil {
		return err
	}
	if taken {
		return seeOther(w, r, withQuery("/setup/name", "tx", tx))
	}
	n.finish(w)
	return seeOther(w, r, "/setup/codes")
}
