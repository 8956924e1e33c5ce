package portal

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// The pages of the factors that are typed.
const (
	passwordPath = "/account/password"
	appPath      = "/account/app"
)

// newcomer reports whether v's session is the one that made the account: what the
// link of an invitation or of the setup was trusted with goes on in it. Both were
// made in one act; nobody signs in to an account that quickly otherwise.
func (v *visitor) newcomer() bool {
	return v.ses.CreatedAt.Sub(v.person.CreatedAt).Abs() < 2*time.Second
}

// methods fills in the ways to sign in that are no passkey.
func (s *Server) methods(ctx context.Context, v *visitor, m *view.Passkeys, renamed string, name view.Input) error {
	all, err := s.Store.FactorsOf(ctx, v.person.ID)
	if err != nil {
		return err
	}
	on, err := s.Store.Allowed(ctx)
	if err != nil {
		return err
	}
	m.TypedOff, m.SetPassword, m.AddApp = !on.Typed(), passwordPath, appPath
	apps := 0
	for _, f := range all {
		x := view.Method{
			Name: f.Name, AddedAt: f.CreatedAt, LastUsedAt: f.UsedAt, Here: usedWith(v.ses.Proofs, f.ID), RemoveURL: removeURL(f.ID),
		}
		switch f.Kind {
		case factor.KindPassword:
			m.SetPassword, x.ChangeURL = "", passwordPath
		case factor.KindTOTP:
			apps++
			x.App, x.Rename = true, view.Form{Action: view.PathPasskeys + "/rename", Hidden: []view.Field{{Name: "id", Value: f.ID}}}
			if f.ID == renamed {
				x.NewName = name
			}
		default:
			continue
		}
		m.Methods = append(m.Methods, x)
	}
	if apps >= factor.KindTOTP.Max() {
		m.AddApp = ""
	}
	return nil
}

// passwordHave is v's password, and how long a new one must be: longer while
// there is no second factor beside it.
func (s *Server) passwordHave(ctx context.Context, v *visitor) (old factor.Factor, least int, err error) {
	all, err := s.Store.FactorsOf(ctx, v.person.ID)
	least = factor.PasswordAlone
	for _, f := range all {
		switch f.Kind {
		case factor.KindPassword:
			old = f
		case factor.KindTOTP:
			least = factor.PasswordWithCode
		}
	}
	return old, least, err
}

// passwordAct is the act of setting v's password, or changing it: then the old
// one ends, with every session that was begun with it.
func passwordAct(v *visitor, old factor.Factor, pw factor.Secret) act.Intent {
	in := enrolment(v)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		change := act.Change(factor.Add{Secret: pw})
		if old.ID != "" {
			change = factor.Replace{Old: old.ID, New: pw}
		}
		return act.Effect{Changes: []act.Change{change}, Leaf: pw.ID, Parts: about(v, "with", "password", "factor", pw.ID)}, nil
	}
	if old.ID != "" {
		in.Kind = audit.FactorReplaced
	}
	return in
}

func (s *Server) passwordPage(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.showPassword(w, r, v, view.Input{})
}

func (s *Server) showPassword(w http.ResponseWriter, r *http.Request, v *visitor, in view.Input) error {
	if err := s.typedAllowed(r.Context()); err != nil {
		return err
	}
	old, least, err := s.passwordHave(r.Context(), v)
	if err != nil {
		return err
	}
	if ok, err := s.may(w, r, passwordAct(v, old, factor.Secret{}), passwordPath, "passkeys"); !ok {
		return err
	}
	return s.show(w, r, v, "", view.NewPassword{
		Form: view.Form{Action: passwordPath}, Account: v.person.Username, Password: in, Least: least, Replaces: old.ID != "", Back: view.PathPasskeys,
	})
}

func (s *Server) passwordSet(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	old, least, err := s.passwordHave(r.Context(), v)
	if err != nil {
		return err
	}
	// Before anything dear is done: whoever may not is not served.
	if ok, err := s.may(w, r, passwordAct(v, old, factor.Secret{}), passwordPath, "passkeys"); !ok {
		return err
	}
	pw, in, err := s.choose(r, v.person.ID, f.Get("password"), least, v.person.Name, v.person.Username)
	if err != nil {
		return err
	}
	if in.Error != "" {
		return s.showPassword(w, r, v, in)
	}
	if ok, err := s.perform(w, r, passwordAct(v, old, pw), passwordPath, "passkeys"); !ok {
		return err
	}
	return s.whereNext(w, r, view.PathPasskeys+"?done=password-set")
}

func (s *Server) appAdd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if err := s.typedAllowed(r.Context()); err != nil {
		return err
	}
	if ok, err := s.may(w, r, enrolment(v), appPath, "passkeys"); !ok {
		return err
	}
	have, err := s.Store.SecretsOf(r.Context(), v.person.ID, factor.KindTOTP)
	if err != nil {
		return err
	}
	if len(have) >= factor.KindTOTP.Max() {
		return factor.KindTOTP.Full()
	}
	a := addingApp{Person: v.person.ID, Session: v.ses.ID, Seed: factor.NewSeed().Bytes(), At: s.now()}
	return s.showApp(w, r, v, a, view.Input{Value: browserApp}, view.Input{})
}

func (s *Server) showApp(w http.ResponseWriter, r *http.Request, v *visitor, a addingApp, name, code view.Input) error {
	seed, ok := factor.SeedOf(a.Seed)
	if !ok {
		return errAppOver
	}
	b, err := s.Binding(w, r)
	if err != nil {
		return err
	}
	st, err := s.Sealed.SealState(sealedApp, b, a)
	if err != nil {
		return err
	}
	m, err := s.appPage(seed, v.person.Username, view.Form{Action: appPath, Hidden: []view.Field{{Name: "st", Value: st}}})
	if err != nil {
		return err
	}
	m.Name, m.Named, m.Code, m.Back = name, true, code, view.PathPasskeys
	m.Deadline = view.Deadline{At: a.At.Add(signInTime)}
	return s.show(w, r, v, "", m)
}

var errAppOver = problem.New(problem.Conflict, "app_over", "This page was open for longer than ten minutes, or in another session.").
	WithHint("Open the page for an authenticator app again, and scan the new picture.")

// appShown adds the app once it has shown a code, so that none is added that does
// not work.
func (s *Server) appShown(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	b, err := s.Binding(w, r)
	if err != nil {
		return err
	}
	var a addingApp
	if err := s.Sealed.OpenState(sealedApp, b, f.Get("st"), &a); err != nil {
		if problem.Refusal(err) {
			err = errAppOver.Because(err)
		}
		return err
	}
	if a.Person != v.person.ID || a.Session != v.ses.ID || s.now().Sub(a.At) > signInTime {
		return errAppOver
	}
	name, nameErr := passkeyName(f.Get("app_name"))
	nameIn, err := wrong(f.Get("app_name"), nameErr)
	if err != nil {
		return err
	}
	seed, ok := factor.SeedOf(a.Seed)
	if !ok {
		return errAppOver
	}
	app, err := s.Codes.New(v.person.ID, name, seed, f.Get("code"), s.now())
	if wrongAnswer(err) || nameErr != nil && (err == nil || wrongAnswer(err)) {
		in := view.Input{}
		if err != nil {
			in.Error = codeWords(err)
		}
		return s.showApp(w, r, v, a, nameIn, in)
	}
	if err != nil {
		return err
	}
	in := enrolment(v)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{
			Changes: []act.Change{factor.Add{Secret: app}}, Leaf: app.ID,
			Parts: about(v, "with", factor.KindTOTP.Word(), "name", app.Name, "factor", app.ID),
		}, nil
	}
	if ok, err := s.perform(w, r, in, appPath, "passkeys"); !ok {
		if errors.Is(err, problem.Conflict) {
			err = factor.KindTOTP.Full().Because(err)
		}
		return err
	}
	return seeOther(w, r, view.PathPasskeys+"?done=app-added")
}

// keysOf counts passkeys, and says whether they can sign in without one.
func keysOf(all []factor.Factor) (passkeys int, typed bool) {
	has := func(k factor.Kind) bool {
		return slices.ContainsFunc(all, func(f factor.Factor) bool { return f.Kind == k })
	}
	for _, f := range all {
		if f.Kind == factor.KindPasskey {
			passkeys++
		}
	}
	return passkeys, has(factor.KindPassword) && has(factor.KindTOTP)
}
