package portal

import (
	"context"
	"net/http"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// invitePassword accepts an invitation without a passkey or without JavaScript:
// names and a password first.
func (s *Server) invitePassword(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	in, instead, err := s.inviteLink(w, r, tx)
	if err == nil {
		err = s.typedAllowed(r.Context())
	}
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	name, username := in.Name, in.Username
	if name == "" {
		name = in.inv.Name
	}
	if username == "" {
		username = in.inv.Username
	}
	return s.show(w, r, nil, "", invitePasswordPage(tx, view.Input{Value: name}, view.Input{Value: username}, view.Input{}))
}

func invitePasswordPage(tx string, name, username, password view.Input) view.NewPassword {
	return view.NewPassword{
		Form: linkForm("/invite/password", tx), Joining: true, Name: name, Username: username, Password: password, Least: factor.PasswordWithCode,
		Back: withQuery("/invite/accept", "tx", tx),
	}
}

// joining reads the names that somebody joins with.
func (s *Server) joining(ctx context.Context, f web.Form) (name, username string, nameIn, usernameIn view.Input, err error) {
	name, nameErr := account.CheckName(f.Get("display_name"))
	username, usernameErr := account.CheckUsername(f.Get("username"))
	if usernameErr == nil {
		usernameErr = s.free(ctx, username)
	}
	if nameIn, err = wrong(f.Get("display_name"), nameErr); err != nil {
		return name, username, nameIn, usernameIn, err
	}
	usernameIn, err = wrong(f.Get("username"), usernameErr)
	return name, username, nameIn, usernameIn, err
}

func (s *Server) invitePasswordChosen(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	in, instead, err := s.inviteLink(w, r, f.Get("tx"))
	if err == nil {
		err = s.typedAllowed(r.Context())
	}
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	name, username, nameIn, usernameIn, err := s.joining(r.Context(), f)
	if err != nil {
		return err
	}
	pw, passwordIn, err := s.choose(r, in.Person, f.Get("password"), factor.PasswordWithCode, f.Get("display_name"), f.Get("username"))
	if err != nil {
		return err
	}
	if nameIn.Error != "" || usernameIn.Error != "" || passwordIn.Error != "" {
		return s.show(w, r, nil, "", invitePasswordPage(f.Get("tx"), nameIn, usernameIn, passwordIn))
	}
	in.Name, in.Username = name, username
	in.choosePassword(pw)
	tx, err := s.seal(w, r, sealedInvite, in.opened)
	if err != nil {
		return err
	}
	return seeOther(w, r, withQuery("/invite/app", "tx", tx))
}

func (s *Server) inviteApp(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	in, instead, err := s.inviteLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	return s.inviteAppPage(w, r, in, tx, view.Input{})
}

func (s *Server) inviteAppPage(w http.ResponseWriter, r *http.Request, in invited, tx string, code view.Input) error {
	return s.linkApp(w, r, in.opened, "/invite/app", tx, withQuery("/invite/password", "tx", tx), code, view.Deadline{}, false)
}

// inviteAppShown makes the invited person with a password and an app.
func (s *Server) inviteAppShown(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	in, instead, err := s.inviteLink(w, r, f.Get("tx"))
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	n, err := s.typedNewcomer(r, in.opened, f.Get("code"))
	if problem.CodeOf(err) == "password_missing" {
		return seeOther(w, r, withQuery("/invite/password", "tx", f.Get("tx")))
	}
	if wrongAnswer(err) {
		return s.inviteAppPage(w, r, in, f.Get("tx"), view.Input{Error: codeWords(err)})
	}
	if err != nil {
		return err
	}
	taken, err := s.acceptInvitation(r, n, in)
	if err != nil {
		return err
	}
	if taken {
		return seeOther(w, r, withQuery("/invite/accept", "tx", f.Get("tx")))
	}
	n.finish(w)
	return seeOther(w, r, "/invite/codes")
}
