package portal

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// typedRoutes are signing in and confirming with what is typed. All of it is
// plain forms, so that it works without JavaScript.
func (s *Server) typedRoutes(handle func(string, web.Handler)) {
	handle("POST /signin/password", s.signInPassword)
	handle("GET /signin/code", s.signInCode)
	handle("POST /signin/code", s.signInCoded)
	handle("GET /signin/app", s.signInApp)
	handle("POST /signin/app", s.signInApped)
	handle("POST /step-up/typed", s.stepUpTyped)
}

var errTypedOff = problem.New(problem.Denied, "factor_kind_off", "Signing in with a password is switched off here.").
	WithHint("Use a passkey, or ask an administrator.")

// typedAllowed refuses where an administrator has switched passwords or codes
// off. The act that follows checks it again when it commits.
func (s *Server) typedAllowed(ctx context.Context) error {
	on, err := s.Store.Allowed(ctx)
	if err == nil && !on.Typed() {
		err = errTypedOff
	}
	return err
}

// typedPart is the form for a password on the sign-in page; nil where it is off.
func (s *Server) typedPart(ctx context.Context, tx, next, username string) (*view.Typed, error) {
	if err := s.typedAllowed(ctx); err != nil {
		if problem.Refusal(err) {
			err = nil
		}
		return nil, err
	}
	return &view.Typed{
		Form: view.Form{Action: "/signin/password", Hidden: flow(tx, next)}, Username: view.Input{Value: username},
	}, nil
}

// found is whoever has a user name, with their password; zero for nobody, and
// for what is no user name.
func (s *Server) found(ctx context.Context, username string) (p account.Person, pw factor.Secret, err error) {
	if name, err := account.CheckUsername(username); err == nil {
		p, err = s.Store.PersonByUsername(ctx, name)
		if err != nil && !problem.Refusal(err) {
			return p, pw, err
		}
	}
	all, err := s.Store.SecretsOf(ctx, p.ID, factor.KindPassword)
	if err == nil && len(all) > 0 {
		pw = all[0]
	}
	return p, pw, err
}

// signInPassword is the first step of a sign-in with a password. Whether there is
// such an account, whether it has a password and whether this is it are one
// answer, in words, status and time.
func (s *Server) signInPassword(w http.ResponseWriter, r *http.Request) error {
	began := time.Now()
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	if err := s.typedAllowed(r.Context()); err != nil {
		return err
	}
	username := strings.TrimSpace(f.Get("username"))
	if username == "" || !f.Has("password") { // no guess
		return s.wrongPassword(w, r, f, "Enter both, your user name and your password.", 0, nil)
	}
	p, pw, err := s.found(r.Context(), username)
	if err != nil {
		return err
	}
	g := passwordGuess(username, p.ID)
	ok, err := s.tryPassword(r, g, pw, factor.Type(f.Get("password")))
	if err == nil && ok {
		s.evenly(r, began)
		t := s.begin(p, f.Get("tx"), f.Get("next"))
		t.Password, t.Proofs = pw.ID, []assurance.Proof{pw.Proof(assurance.Password, t.At)}
		return s.advance(w, r, t)
	}
	_, _, slow := s.throttled(err)
	if err != nil && !slow {
		return err
	}
	left := 0
	if !slow {
		var failed error
		if left, failed = s.missed(r, g); failed != nil {
			return failed
		}
	}
	s.evenly(r, began)
	return s.wrongPassword(w, r, f, "That user name and password don't belong together.", left, err)
}

// wrongPassword shows the sign-in page again: with what was wrong, or that
// nothing is looked at for a while.
func (s *Server) wrongPassword(w http.ResponseWriter, r *http.Request, f web.Form, wrong string, left int, slow error) error {
	m, err := s.signInPage(w, r, f.Get("tx"), f.Get("next"))
	if err != nil {
		return err
	}
	m.Until, m.Off, _ = s.throttled(slow)
	if m.Typed != nil {
		m.Typed.Username.Value = strings.TrimSpace(f.Get("username"))
		if slow == nil {
			m.Typed.Wrong, m.Typed.Left = wrong, left
		}
	}
	return s.show(w, r, nil, "", m)
}

// tryPassword pays for a guess at a password and looks at it.
func (s *Server) tryPassword(r *http.Request, g guess, pw factor.Secret, typed factor.Typed) (bool, error) {
	if err := s.pay(r, g); err != nil {
		return false, err
	}
	ok, stronger, err := s.Passwords.Verify(r.Context(), pw, typed)
	if err != nil || !ok || stronger == nil {
		return ok, err
	}
	return true, s.note(r, g, audit.FactorRefreshed, factor.Used{ID: pw.ID, Kind: factor.KindPassword, Sealed: stronger, At: s.now()})
}

// tryCode pays for a guess at a code and looks at it. The use that it gives is
// for the act that follows.
func (s *Server) tryCode(r *http.Request, person, typed string) (assurance.Proof, factor.Used, error) {
	if err := s.pay(r, codeGuess(person)); err != nil {
		return assurance.Proof{}, factor.Used{}, err
	}
	all, err := s.Store.SecretsOf(r.Context(), person, factor.KindTOTP)
	if err != nil {
		return assurance.Proof{}, factor.Used{}, err
	}
	app, use, err := s.Codes.Verify(all, typed, s.now())
	return app.Proof(assurance.TOTP, s.now()), use, err
}

// codePage is the page for the code.
func (s *Server) codePage(w http.ResponseWriter, r *http.Request, t signingIn, sealed string) (view.Code, error) {
	m := view.Code{
		Form: view.Form{Action: "/signin/code", Hidden: []view.Field{{Name: "st", Value: sealed}}}, Account: t.Username,
		Other: "/signin?" + flowQuery(t.Tx, t.Next), Deadline: view.Deadline{At: t.At.Add(signInTime)},
	}
	return m, s.signInLeadsOut(w, r, t)
}

// signInLeadsOut lets the forms of a sign-in's pages end up at its app.
func (s *Server) signInLeadsOut(w http.ResponseWriter, r *http.Request, t signingIn) error {
	if t.Tx == "" {
		return nil
	}
	p, err := s.Oauth.Pending(w, r, t.Tx, nil)
	if err == nil {
		leadsOut(w, p)
	}
	return err
}

func (s *Server) signInCode(w http.ResponseWriter, r *http.Request) error {
	st := r.URL.Query().Get("st")
	t, _, err := s.openSignIn(w, r, st)
	if err != nil {
		return err
	}
	m, err := s.codePage(w, r, t, st)
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", m)
}

// signInCoded is the second step: the code.
func (s *Server) signInCoded(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	t, p, err := s.openSignIn(w, r, f.Get("st"))
	if err != nil {
		return err
	}
	proof, use, err := s.tryCode(r, p.ID, f.Get("code"))
	if err == nil {
		t.Proofs = append(t.Proofs, proof)
		err = s.advance(w, r, t, use)
	}
	until, off, slow := s.throttled(err)
	if !slow && !wrongAnswer(err) {
		return err
	}
	m, err2 := s.codePage(w, r, t, f.Get("st"))
	if err2 != nil {
		return err2
	}
	m.Until, m.Off = until, off
	if !slow {
		m.Wrong = codeWords(err)
		if m.Left, err = s.missed(r, codeGuess(p.ID)); err != nil {
			return err
		}
	}
	return s.show(w, r, nil, "", m)
}

// codeWords are what a code that was not taken is told.
func codeWords(err error) string {
	if problem.CodeOf(err) == "code_used" {
		return "That code was used before. Enter the next one."
	}
	return "Wrong code."
}

// stepUpTyped confirms with a password and a code, both now.
func (s *Server) stepUpTyped(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	if err := s.typedAllowed(r.Context()); err != nil {
		return err
	}
	tx, next := f.Get("tx"), f.Get("next")
	proofs, changes, left, err := s.bothTyped(r, v, factor.Type(f.Get("password")), f.Get("code"))
	if err == nil {
		err = s.proveTyped(r, v, tx, proofs, changes)
	}
	if err == nil {
		return seeOther(w, r, after(tx, next))
	}
	until, off, slow := s.throttled(err)
	if !slow && !wrongAnswer(err) {
		return err
	}
	m, done, err2 := s.stepUpPage(w, r, v, tx, next, f.Get("why"))
	if err2 != nil || done {
		return orTo(w, r, after(tx, next), err2)
	}
	m.Until, m.Off = until, off
	if m.Typed != nil && !slow {
		m.Typed.Left, m.Typed.Wrong = left, "The password or the code is wrong."
		if problem.CodeOf(err) == "code_used" {
			m.Typed.Wrong, m.Typed.Left = codeWords(err), 0
		}
	}
	return s.show(w, r, v, "", m)
}

// bothTyped looks at a password and a code together: which of them was wrong is
// not said.
func (s *Server) bothTyped(r *http.Request, v *visitor, typed factor.Typed, code string) (proofs []assurance.Proof, changes []act.Change, left int, err error) {
	_, pw, err := s.found(r.Context(), v.person.Username)
	if err != nil {
		return nil, nil, 0, err
	}
	g := passwordGuess(v.person.Username, v.person.ID)
	ok, err := s.tryPassword(r, g, pw, typed)
	if err != nil {
		return nil, nil, 0, err
	}
	proof, use, err := s.tryCode(r, v.person.ID, code)
	if err == nil && !ok {
		err = problem.New(problem.Unauthenticated, "code_wrong", "The password or the code is wrong.")
	}
	if err != nil {
		if !wrongAnswer(err) {
			return nil, nil, 0, err
		}
		left, noteErr := s.missed(r, codeGuess(v.person.ID))
		if noteErr != nil {
			err = noteErr
		}
		return nil, nil, left, err
	}
	forgive, err := s.forgiven(r, signingIn{Person: v.person.ID, Username: v.person.Username})
	changes = append(forgive, use, factor.Used{ID: pw.ID, Kind: factor.KindPassword, At: s.now()})
	return []assurance.Proof{pw.Proof(assurance.Password, s.now()), proof}, changes, 0, err
}

// proveTyped adds the fresh proofs to the session, for what they were asked for.
func (s *Server) proveTyped(r *http.Request, v *visitor, tx string, proofs []assurance.Proof, changes []act.Change) error {
	purpose := portalItself
	if tx != "" {
		purpose = s.For(tx)
	}
	refs := self(v.ses, []string{v.ses.ID})
	for i := range proofs {
		proofs[i].For = purpose
		refs.Credential = append(refs.Credential, proofs[i].Credential)
	}
	from := s.Origin(r)
	_, err := s.Do.Do(r.Context(), act.Intent{
		Action: policy.SessionProve, Kind: audit.StepUpDone, Refs: refs, For: purpose, From: from, Proofs: proofs,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append(changes, session.Prove{ID: v.ses.ID, Proofs: merged(v.ses.Proofs, s.now(), proofs...)}),
				Parts: []audit.Part{{Person: v.person.ID, Body: map[string]any{
					"session": v.ses.ID, "with": "password and code", "for": map[bool]string{true: "app", false: "account"}[tx != ""],
				}}},
				Answers: []act.Answer{{Person: v.person.ID, Ref: act.Transaction(purpose, v.ses.ID, from.Device)}},
			}, nil
		},
	})
	return err
}
