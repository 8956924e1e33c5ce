package portal

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// portalItself names the portal's own step-ups: their proofs count for the
// portal's acts, and make no app's silent authorization fresh (mechanisms A21).
const portalItself = "portal"

func (s *Server) signinRoutes(handle func(string, web.Handler)) {
	handle("GET /signin", s.signIn)
	handle("POST /signin/options", s.signInOptions)
	handle("POST /signin/finish", s.signInFinish)
	s.typedRoutes(handle)
	handle("GET /step-up", s.stepUp)
	handle("POST /step-up/options", s.stepUpOptions)
	handle("POST /step-up/finish", s.stepUpFinish)
	handle("GET /consent", s.consent)
	handle("POST /consent", s.consentDecide)
	handle("POST /cancel", s.cancel)
	handle("POST /switch", s.switchAccount)
}

// after is where a finished sign-in or step-up goes: on with the interaction, or
// to a page of ours.
func after(tx, next string) string {
	if tx != "" {
		return "/oauth/continue?tx=" + url.QueryEscape(tx)
	}
	return localPath(next, view.PathHome)
}

// flow is what a page of the sign-in family carries along: the interaction, or
// the path to go back to.
func flow(tx, next string) []view.Field {
	if tx != "" {
		return []view.Field{{Name: "tx", Value: tx}}
	}
	return []view.Field{{Name: "next", Value: localPath(next, view.PathHome)}}
}

// app is how a page names the app of an interaction.
func app(p grant.Pending) view.App {
	a := view.App{Name: p.App.Name, Trust: view.Registered}
	if p.Device != nil || p.Backchannel != nil { // the answer goes elsewhere, not to where a browser is sent
		return a
	}
	switch p.App.Source {
	case client.FromDocument:
		a.Trust, a.Domain, a.Pinned = view.VerifiedDomain, p.App.Group, p.App.Pinned
	case client.FromItself:
		a.Trust = view.Unverified
	}
	if u, err := url.Parse(p.RedirectURI); err == nil {
		h := u.Hostname()
		a.Loopback = u.Scheme == "http"
		if a.Local = h == "127.0.0.1" || h == "localhost" || h == "::1" || u.Scheme != "https" && u.Scheme != "http"; !a.Local {
			a.Return = u.Host
		}
	}
	return a
}

func deadline(p grant.Pending) view.Deadline {
	return view.Deadline{At: answerBy(p)}
}

func cancelForm(tx string) *view.Form {
	if tx == "" {
		return nil
	}
	return &view.Form{Action: "/cancel", Hidden: flow(tx, "")}
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	tx, next := r.URL.Query().Get("tx"), r.URL.Query().Get("next")
	m, err := s.signInPage(w, r, tx, next)
	if err != nil {
		return err
	}
	_, ok, err := s.Session(r)
	if err != nil {
		return err
	}
	if ok {
		http.Redirect(w, r, after(tx, next), http.StatusSeeOther)
		return nil
	}
	return s.show(w, r, nil, "", m)
}

// signInPage is the page with every way to sign in.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request, tx, next string) (view.SignIn, error) {
	m := view.SignIn{
		Ceremony: view.Ceremony{Options: "/signin/options", Finish: "/signin/finish", Hidden: flow(tx, next)},
		LastUsed: len(r.CookiesNamed(s.cookieName(cookieDevice))) > 0, Cancel: cancelForm(tx),
	}
	if tx != "" {
		p, err := s.Oauth.Pending(w, r, tx, nil)
		if err != nil {
			return m, err
		}
		a := app(p)
		m.App, m.Username, m.Deadline = &a, p.LoginHint, deadline(p)
		leadsOut(w, p)
	}
	var err error
	if m.Typed, err = s.typedPart(r.Context(), tx, next, m.Username); err != nil {
		return m, err
	}
	m.LastUsed = m.LastUsed && m.Typed == nil // a device is remembered, not what was used on it
	if _, err := s.Binding(w, r); err != nil {
		return m, err
	}
	if len(r.CookiesNamed(s.cookieName(cookieSession))) > 0 {
		m.Why = "Your session has ended. Sign in again to go on."
	}
	return m, nil
}

func (s *Server) signInOptions(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, "signin", b.get("tx"))
	if err != nil {
		return err
	}
	o, err := s.Ceremony.SignInOptions(bound, s.now())
	if err != nil {
		return err
	}
	return publicKey(w, o)
}

// find gives whose passkey was used. Who is unknown and whose passkey was
// removed get the same answer.
func (s *Server) find(ctx context.Context, credentialID []byte) (account.Person, factor.Passkey, error) {
	unknown := problem.New(problem.Unauthenticated, "passkey_unknown", "This passkey isn't known here.").
		WithHint("It may have been removed. Use another passkey, or ask an administrator for an invitation.")
	k, err := s.Store.PasskeyByCredentialID(ctx, credentialID)
	if problem.Refusal(err) || err == nil && !k.Node.Live() {
		return account.Person{}, k, unknown
	}
	if err != nil {
		return account.Person{}, k, err
	}
	p, err := s.Store.Person(ctx, k.Person)
	if problem.Refusal(err) {
		return p, k, unknown
	}
	return p, k, err
}

// signInFinish opens a session: the passkey's use, the session and its record
// are one act.
func (s *Server) signInFinish(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, "signin", b.get("tx"))
	if err != nil {
		return err
	}
	var who account.Person
	got, err := s.Ceremony.Assert(once.SignIn, bound, b.Credential, s.now(), func(cred, handle []byte) (factor.Holder, factor.Passkey, error) {
		p, k, err := s.find(r.Context(), cred)
		if err != nil {
			return factor.Holder{}, k, err
		}
		who = p
		return factor.Holder{Handle: factor.HandleOf(p.Subject), Username: p.Username, Name: p.Name}, k, nil
	})
	if err != nil {
		s.wrongPasskey(r, who.ID, err)
		s.refusedQuietly(policy.SessionOpen, err)
		return err
	}
	open, finish, err := s.newSession(r, who.ID, []assurance.Proof{got.Proof})
	if err != nil {
		return err
	}
	refs := act.Refs{Kind: policy.KindPerson, Actor: who.ID, Credential: []string{got.Use.ID}}
	if open.NewDevice == nil {
		refs.Under = []string{open.Device}
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.SessionOpen, Kind: audit.SessionOpened, Refs: refs, From: arrival(r, open), Proofs: []assurance.Proof{got.Proof}, Spend: []once.Spend{got.Spend},
		Changes: func(_ *act.Facts, d policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append([]act.Change{open.Within(d.MaxGrant), got.Use}, pardoned(who.Username, who.ID)...), Leaf: open.ID,
				Parts: []audit.Part{{Person: who.ID, Body: map[string]any{"session": open.ID, "device": open.Device, "new_device": open.NewDevice != nil, "with": "passkey", "network": open.Network}}},
			}, nil
		},
	})
	if err != nil {
		return spentAsExpired(err)
	}
	finish(w)
	return location(w, after(b.get("tx"), b.get("next")))
}

// spentAsExpired says a used challenge in words that help.
func spentAsExpired(err error) error {
	if used, ok := act.Spent(err); ok {
		return problem.New(problem.Conflict, "challenge_used", "This passkey prompt was already used.").
			WithHint("Load the page again and use your passkey once more.").Because(used)
	}
	if p := problem.From(err); p != nil && p.Kind == problem.Denied && p.Code == policy.CodeEnded {
		return problem.New(problem.Denied, "account_disabled", "This account can't be used to sign in.").
			WithHint("Ask an administrator.").Because(err)
	}
	return err
}

// wrongPasskey remembers an assertion that was refused though its passkey is known:
// another one's, or signed by somebody else, or without the person.
func (s *Server) wrongPasskey(r *http.Request, whose string, err error) {
	if whose != "" && problem.Refusal(err) {
		s.wrong(r, act.WayPasskey, whose)
	}
}

// own finds a passkey that has to be v's. From when it is known, whatever is wrong with the
// assertion is a wrong proof of v, whose ID is then in whose.
func (s *Server) own(r *http.Request, v *visitor, whose *string) factor.Find {
	return func(cred, _ []byte) (factor.Holder, factor.Passkey, error) {
		p, k, err := s.find(r.Context(), cred)
		if err == nil {
			*whose = v.person.ID
		}
		if err == nil && p.ID != v.person.ID {
			err = problem.New(problem.Denied, "passkey_of_another", "That passkey belongs to another account.").WithHint("Use one of your own passkeys.")
		}
		return factor.Holder{Handle: factor.HandleOf(p.Subject)}, k, err
	}
}

func (s *Server) refusedQuietly(a policy.Action, err error) {
	if p := problem.From(err); p != nil && s.Do.Refused != nil {
		s.Do.Refused(a, p.Code)
	}
}

// stepUp asks somebody who is signed in for proof now: for an app's request, or
// for a page of ours (next, with why in words of ours).
func (s *Server) stepUp(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if problem.Refusal(err) {
		http.Redirect(w, r, "/signin?"+r.URL.RawQuery, http.StatusSeeOther)
		return nil
	}
	if err != nil {
		return err
	}
	tx, next := r.URL.Query().Get("tx"), r.URL.Query().Get("next")
	m, done, err := s.stepUpPage(w, r, v, tx, next, r.URL.Query().Get("why"))
	if err != nil || done {
		return orTo(w, r, after(tx, ""), err)
	}
	return s.show(w, r, v, "", m)
}

// stepUpPage is the page that asks v for proof; done says that nothing is to be
// asked any more. It offers what v has and would do.
func (s *Server) stepUpPage(w http.ResponseWriter, r *http.Request, v *visitor, tx, next, why string) (m view.StepUp, done bool, err error) {
	keys, err := s.Store.FactorsOf(r.Context(), v.person.ID)
	if err != nil {
		return m, false, err
	}
	allowed, err := s.Store.Allowed(r.Context())
	if err != nil {
		return m, false, err
	}
	reach := factor.Reach(keys, allowed, s.now())
	own := ownActions[why]
	m = view.StepUp{
		Action: own.words, App: view.App{Name: "your account", Trust: view.Registered, Return: s.host()}, Lasts: 5 * time.Minute,
		Cancel: cancelForm(tx), Switch: &view.Form{Action: "/switch", Hidden: flow(tx, next)}, Ref: web.RecordOf(r).Ref(),
	}
	need := own.need
	if need == assurance.None {
		need = min(reach, assurance.Phishing) // changing factors needs what they protect
	}
	m.Reasons = []string{"This needs " + policy.Words(assurance.Ask{Rung: need, MaxAge: 5 * time.Minute}) + "."}
	if tx != "" {
		p, err := s.Oauth.Pending(w, r, tx, &v.ses)
		if err != nil {
			return m, false, err
		}
		if s.describe(&m, p) {
			return m, true, nil
		}
		need = p.Ask.Rung
		leadsOut(w, p)
	} else if need > reach {
		m.State, m.Missing, m.Reasons = view.StepUpImpossible, policy.Words(assurance.Ask{Rung: need}), nil
		m.Add = &view.Link{Text: "Add a passkey", URL: addPasskey}
	}
	if m.State == view.StepUpImpossible && tx != "" {
		m.Add.URL = withQuery(addPasskey, "tx", tx)
	}
	s.offer(&m, keys, allowed, need, tx, next, why)
	if tx == "" {
		if err = s.onTrial(r.Context(), v, &m); err == nil {
			err = s.unusual(r, v, &m)
		}
	}
	return m, false, err
}

// unusual says on a page that asks for proof what is unusual just now.
func (s *Server) unusual(r *http.Request, v *visitor, m *view.StepUp) error {
	if s.Do.Risk == nil {
		return nil
	}
	a, err := s.Do.Risk.Score(r.Context(), v.person.ID, s.Origin(r), s.now())
	if a.Band != risk.Low {
		for _, t := range a.Terms {
			m.Reasons = append(m.Reasons, t.Words)
		}
	}
	return err
}

// offer fills in the ways of confirming that a person has and that would do.
func (s *Server) offer(m *view.StepUp, keys []factor.Factor, allowed factor.Kinds, need assurance.Rung, tx, next, why string) {
	hidden := append(flow(tx, next), view.Field{Name: "why", Value: why})
	var without []factor.Factor
	for _, f := range keys {
		if f.Kind == factor.KindPasskey {
			m.Ceremony = view.Ceremony{Options: "/step-up/options", Finish: "/step-up/finish", Hidden: flow(tx, next)}
			if s.now().Before(f.ProbationUntil) {
				m.Counts = f.ProbationUntil
			}
			continue
		}
		without = append(without, f)
	}
	if need <= assurance.Multi && factor.Reach(without, allowed, s.now()) >= assurance.Multi {
		m.Typed = &view.Typed{Form: view.Form{Action: "/step-up/typed", Hidden: hidden}, Code: true}
	}
}

// ownAction is one of the portal's own step-ups.
type ownAction struct {
	words string
	need  assurance.Rung // None: what the account's factors reach, which is what is changed or guards it
}

// ownActions are those by a fixed key: text in a link never becomes text on this
// page.
var ownActions = map[string]ownAction{
	"passkeys": {"change how you sign in", assurance.None}, "people": {"manage people", assurance.Phishing},
	"session": {"end somebody's session", assurance.Phishing}, "email": {"change where notices go", assurance.None},
	"kinds":   {"change how people may sign in", assurance.Phishing},
	"apps":    {"manage apps", assurance.Phishing},
	"rollout": {"manage a rollout of policies", assurance.Phishing},
	"publish": {"manage policies that are to come into force", assurance.Phishing},
	"notices": {"manage notices", assurance.Phishing}, "codes": {"make recovery codes", assurance.None},
	"policies": {"look at the policies", assurance.Phishing}, "exceptions": {"look at exceptions", assurance.Phishing},
	"log":        {"read the audit log", assurance.Phishing},
	"reviews":    {"look at what was refused", assurance.Phishing},
	"recoveries": {"help somebody back into their account", assurance.Phishing}, "": {"go on", assurance.Phishing},
}

// describe fills a step-up page from an interaction; done says that nothing is
// to be asked any more.
func (s *Server) describe(m *view.StepUp, p grant.Pending) (done bool) {
	m.App, m.Deadline, m.Reasons = app(p), deadline(p), p.Reasons
	m.Action = "go on to " + p.App.Name
	for _, sc := range p.Scopes {
		if p.Explicit && sc.Conditional() && sc.Description != "" {
			m.Action = strings.ToLower(sc.Description[:1]) + sc.Description[1:]
		}
	}
	switch m.Lasts = p.Ask.MaxAge; {
	case p.Fresh && p.MaxAge == 0: // somebody has to be there, that is all
		m.Lasts = 0
		m.Reasons = []string{"Another program on your computer could have sent you here."}
		if p.Device != nil {
			m.Action, m.Reasons = "sign in "+p.App.Name+" on a device", []string{deviceReason}
		} else if p.Backchannel != nil {
			m.Action, m.Reasons = "let "+p.App.Name+" act for you", []string{requestReason}
		} else if p.App.Native {
			m.Action = "sign in to " + p.App.Name
		} else {
			m.Reasons = []string{"The app asked that you sign in again."}
		}
	case len(p.Reasons) == 0 && p.Ask.Demands():
		m.Reasons = []string{"The app asked for " + policy.Words(p.Ask) + "."}
	}
	switch p.Next {
	case grant.NextImpossible:
		m.State, m.Missing = view.StepUpImpossible, policy.Words(p.Ask)
		m.Add = &view.Link{Text: "Add a passkey", URL: view.PathPasskeys}
	case grant.NextWrongUser:
		m.State = view.StepUpWrongUser
	case grant.NextStepUp:
	default:
		return true
	}
	return false
}

func (s *Server) stepUpOptions(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	b, err := readBody(r)
	if err != nil {
		return err
	}
	h, err := s.holder(r.Context(), v.person)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, "stepup", b.get("tx"), v.ses.ID)
	if err != nil {
		return err
	}
	o, err := s.Ceremony.StepUpOptions(h, bound, s.now())
	if err != nil {
		return err
	}
	return publicKey(w, o)
}

// stepUpFinish adds a fresh proof to the session, for what it was asked for
// only. It grants nothing: the request is decided again from nothing.
func (s *Server) stepUpFinish(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	b, err := readBody(r)
	if err != nil {
		return err
	}
	tx := b.get("tx")
	bound, err := s.bindTo(w, r, "stepup", tx, v.ses.ID)
	if err != nil {
		return err
	}
	whose := ""
	got, err := s.Ceremony.Assert(once.StepUp, bound, b.Credential, s.now(), s.own(r, v, &whose))
	if err != nil {
		s.wrongPasskey(r, whose, err)
		s.refusedQuietly(policy.SessionProve, err)
		return err
	}
	proof := got.Proof
	proof.For = portalItself
	if tx != "" {
		proof.For = s.For(tx)
	}
	refs := self(v.ses, []string{v.ses.ID})
	refs.Credential = []string{got.Use.ID}
	from := s.Origin(r)
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.SessionProve, Kind: audit.StepUpDone, Refs: refs, For: proof.For, From: from, Proofs: []assurance.Proof{proof}, Spend: []once.Spend{got.Spend},
		Changes: func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append([]act.Change{session.Prove{ID: v.ses.ID, Proofs: merged(v.ses.Proofs, s.now(), proof)}, got.Use}, pardoned(v.person.Username, v.person.ID)...),
				Parts:   []audit.Part{{Person: v.person.ID, Body: map[string]any{"session": v.ses.ID, "with": "passkey", "for": map[bool]string{true: "app", false: "account"}[tx != ""]}}},
				Answers: []act.Answer{{Person: v.person.ID, Ref: act.Transaction(proof.For, v.ses.ID, from.Device)}},
			}, nil
		},
	})
	if err != nil {
		return spentAsExpired(err)
	}
	return location(w, after(tx, b.get("next")))
}

// merged is the session's proofs with new ones, all for the same thing; step-ups
// too old to be of use are dropped, so that the list stays short.
func merged(have []assurance.Proof, now time.Time, add ...assurance.Proof) []assurance.Proof {
	var out []assurance.Proof
	for _, p := range have {
		if p.For == "" || p.For != add[0].For && now.Sub(p.At) < 15*time.Minute {
			out = append(out, p)
		}
	}
	return append(out, add...)
}

// cancel ends an interaction at the person's word: the app gets access_denied.
func (s *Server) cancel(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	return s.Oauth.Refuse(w, r, f.Get("tx"), "access_denied", "The person said no.")
}

// switchAccount signs this browser out and starts the same flow again.
func (s *Server) switchAccount(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	switch v, err := s.visitor(r); {
	case err == nil:
		if err := s.signOutHere(r.Context(), v.ses, ""); err != nil {
			return err
		}
	case !problem.Refusal(err):
		return err // there may be a session that lives on, and so does its cookie
	}
	s.clearCookie(w, cookieSession)
	q := url.Values{}
	for _, name := range []string{"tx", "next"} {
		if f.Has(name) {
			q.Set(name, f.Get(name))
		}
	}
	http.Redirect(w, r, "/signin?"+q.Encode(), http.StatusSeeOther)
	return nil
}
