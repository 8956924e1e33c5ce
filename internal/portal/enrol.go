package portal

import (
	"net/http"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// sealedApp types the sealed state of an app that is being added to an account.
const sealedApp = "app"

// addingApp is an authenticator app that was shown a seed and has not shown a
// code yet.
type addingApp struct {
	Person   string    `json:"person"`
	Session  string    `json:"session"`
	Replaces string    `json:"replaces,omitempty"`
	Seed     []byte    `json:"seed"`
	At       time.Time `json:"at"`
}

// appPage shows a seed, as a picture and as text.
func (s *Server) appPage(seed factor.Seed, username string, f view.Form) (view.NewApp, error) {
	uri := seed.URI(s.host(), username)
	path, width, err := factor.Picture(uri)
	return view.NewApp{Form: f, Account: username, Path: path, Width: width, Secret: seed.Text(), URI: uri}, err
}

// choose checks a password that somebody chooses, and makes the factor of it. in
// is what the field shows where it is wrong.
func (s *Server) choose(r *http.Request, person, text string, least int, about ...string) (pw factor.Secret, in view.Input, err error) {
	typed := factor.Type(text)
	if err := s.Passwords.Check(typed, least, append(about, s.host())...); err != nil {
		in, err := wrong("", err)
		return pw, in, err
	}
	pw, err = s.Passwords.New(r.Context(), person, typed, s.now())
	return pw, in, err
}

// choosePassword keeps a chosen password's factor in what a link's pages carry.
func (o *opened) choosePassword(pw factor.Secret) {
	o.PasswordID, o.Password, o.Seed = pw.ID, pw.Sealed, factor.NewSeed().Bytes()
}

// chosen is the password that a link's pages carry; ok is false before one was
// chosen.
func (o opened) chosen(now time.Time) (pw factor.Secret, seed factor.Seed, ok bool) {
	seed, ok = factor.SeedOf(o.Seed)
	return factor.Secret{
		Factor: factor.Factor{ID: o.PasswordID, Person: o.Person, Kind: factor.KindPassword, Name: "Password", CreatedAt: now, UsedAt: now}, Sealed: o.Password,
	}, seed, ok && o.PasswordID != "" && len(o.Password) > 0
}

// typedNewcomer prepares the account of somebody who comes in by a link with a
// password and an authenticator app; both are proofs of this moment.
func (s *Server) typedNewcomer(r *http.Request, o opened, code string) (n newcomer, err error) {
	n = newcomer{opened: o, at: s.now(), with: "password and code"}
	pw, seed, ok := o.chosen(n.at)
	if !ok {
		return n, problem.New(problem.Invalid, "password_missing", "Choose a password first.")
	}
	app, err := s.Codes.New(o.Person, browserApp, seed, code, n.at)
	if err != nil {
		s.refusedQuietly(policy.FactorEnrol, err)
		return n, err
	}
	n.factors = []act.Change{factor.Add{Secret: pw}, factor.Add{Secret: app}}
	return n, s.welcome(r, &n, []assurance.Proof{pw.Proof(assurance.Password, n.at), app.Proof(assurance.TOTP, n.at)})
}

// browserApp is what an app is called that nobody has named.
const browserApp = "Authenticator app"

// signInApp lets somebody who came from another system with a password and
// nothing else add the second factor, on their first way in.
func (s *Server) signInApp(w http.ResponseWriter, r *http.Request) error {
	t, p, err := s.openSignIn(w, r, r.URL.Query().Get("st"))
	if err != nil {
		return err
	}
	t.Seed = factor.NewSeed().Bytes()
	return s.showSignInApp(w, r, t, p, view.Input{})
}

func (s *Server) showSignInApp(w http.ResponseWriter, r *http.Request, t signingIn, p account.Person, code view.Input) error {
	seed, ok := factor.SeedOf(t.Seed)
	if !ok {
		return errSignInOver
	}
	sealed, err := s.sealSignIn(w, r, t)
	if err != nil {
		return err
	}
	m, err := s.appPage(seed, p.Username, view.Form{Action: "/signin/app", Hidden: []view.Field{{Name: "st", Value: sealed}}})
	if err != nil {
		return err
	}
	if err := s.signInLeadsOut(w, r, t); err != nil {
		return err
	}
	m.Code, m.Why, m.Deadline = code, "Your password is right. Here it takes a second factor too: an app that shows a new code every 30 seconds.", view.Deadline{At: t.At.Add(signInTime)}
	return s.show(w, r, nil, "", m)
}

// signInApped adds the app and opens the session. The app is an act of its own,
// decided by the password and the code that were shown just now: what is decided
// on is that the account has no passkey, and so protects no more than two factors.
func (s *Server) signInApped(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	t, p, err := s.openSignIn(w, r, f.Get("st"))
	if err != nil {
		return err
	}
	seed, ok := factor.SeedOf(t.Seed)
	if !ok {
		return errSignInOver
	}
	app, err := s.Codes.New(p.ID, browserApp, seed, f.Get("code"), s.now())
	if wrongAnswer(err) {
		return s.showSignInApp(w, r, t, p, view.Input{Error: codeWords(err)})
	}
	if err != nil {
		return err
	}
	proof := app.Proof(assurance.TOTP, s.now())
	t.Proofs = append(t.Proofs, proof)
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.FactorEnrol, Kind: audit.FactorEnrolled, Proofs: t.Proofs,
		Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID, Owner: p.ID, Credential: []string{t.Password}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			had, err := s.Store.FactorsOf(r.Context(), p.ID) // what it says is guarded: the person's version moves with it
			if err == nil && len(had) != 1 {                 // only who has a password and nothing else adds one on the way in
				err = errSignInOver
			}
			if err != nil {
				return act.Effect{}, err
			}
			return act.Effect{
				Changes: []act.Change{factor.Add{Secret: app}}, Leaf: app.ID,
				Parts: []audit.Part{{Person: p.ID, Body: map[string]any{"with": factor.KindTOTP.Word(), "name": app.Name, "factor": app.ID}}},
			}, nil
		},
	})
	if err != nil {
		return spentAsExpired(err)
	}
	return s.advance(w, r, t)
}

// typedURL is where the pages of a link offer a password and an app; "" where an
// administrator has switched them off.
func (s *Server) typedURL(r *http.Request, path, tx string) (string, error) {
	on, err := s.Store.Allowed(r.Context())
	if err != nil || !on.Typed() {
		return "", err
	}
	return withQuery(path, "tx", tx), nil
}

// linkForm is a form of the pages behind a link.
func linkForm(action, tx string) view.Form {
	return view.Form{Action: action, Hidden: []view.Field{{Name: "tx", Value: tx}}}
}

// pasted is the secret of a link, of which somebody pasted the whole or the part
// after the # sign.
func pasted(text string) string {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '#' {
			text = text[i+1:]
			break
		}
	}
	if t, err := url.PathUnescape(text); err == nil {
		return t
	}
	return text
}
