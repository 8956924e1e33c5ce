package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

// Recovery is what the pages of recovery need beside the store.
type Recovery struct {
	Settings recovery.Settings
	// CancelKeys are the keys that cancel links are made with, the newest first.
	CancelKeys func() [][]byte
	// Told says in words how a person is told of a recovery outside these pages:
	// "by e-mail to d…@example.com"; nil, or nothing: in no way.
	Told func(context.Context, account.Person) ([]string, error)
}

// Where recovery is.
const (
	recoverPath  = view.PathRecover
	statusPath   = recoverPath + "/status"
	codePath     = recoverPath + "/code"
	askPath      = recoverPath + "/ask"
	passPath     = recoverPath + "/pass"
	passkeyPath  = recoverPath + "/passkey"
	pastePath    = recoverPath + "/paste"
	confirmPath  = recovery.CancelPath + "/confirm"
	cancelPasted = recovery.CancelPath + "/paste"
)

// cookieRecover holds the claim of the browser that began a recovery.
const cookieRecover = "cs_recover"

// sealedRecover types what is bound to the pages of a recovery, sealedCancel the
// sealed state of a cancel link's.
const (
	sealedRecover = "recover"
	sealedCancel  = "recover-cancel"
)

func (s *Server) recoverRoutes(handle func(string, web.Handler)) {
	handle("GET "+recoverPath, s.recover)
	handle("GET "+codePath, func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", s.codeForm(false, view.Input{}, view.Input{}))
	})
	handle("POST "+codePath, s.codePosted)
	handle("GET "+askPath, s.ask)
	handle("GET "+statusPath, s.status)
	handle("POST "+recoverPath+"/stop", s.statusStop)
	handle("GET "+recoverPath+"/open", func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", view.OpenLink{Kind: view.RecoverLink, PostURL: recoverPath + "/open", PasteURL: statusPath})
	})
	handle("POST "+recoverPath+"/open", s.claimOpened)
	handle("POST "+pastePath, s.claimPasted)
	handle("GET "+passkeyPath, s.recoverPasskey)
	handle("POST "+recoverPath+"/options", s.recoverOptions)
	handle("POST "+recoverPath+"/finish", s.recoverFinish)
	handle("GET "+passPath, func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", s.codeForm(true, view.Input{}, view.Input{}))
	})
	handle("POST "+passPath, s.passPosted)
	s.cancelRoutes(handle)
	s.ownRecoveryRoutes(handle)
	s.recoveriesRoutes(handle)
}

// claim is this browser's; zero if it has none.
func (s *Server) claim(r *http.Request) secret.Value {
	return s.cookie(r, cookieRecover, secret.Recover)
}

// claimLife is how long a browser remembers what it began.
func (s *Server) claimLife() time.Duration {
	return max(s.Recovery.Settings.OrDefaults().Wait, recovery.AdminWait) + 2*recovery.Window
}

// begun is the recovery that this browser began, with whose it is. ok is false if
// there is none, or the person is gone.
func (s *Server) begun(r *http.Request) (rec recovery.Recovery, p account.Person, ok bool, err error) {
	c := s.claim(r)
	if c.IsZero() {
		return rec, p, false, nil
	}
	rec, err = s.Store.RecoveryByClaim(r.Context(), recovery.ClaimOf(c).Reveal())
	if err == nil {
		p, err = s.Store.Person(r.Context(), rec.Person)
	}
	if pr := problem.From(err); pr != nil && pr.Kind == problem.NotFound {
		return recovery.Recovery{}, account.Person{}, false, nil
	}
	return rec, p, err == nil, err
}

func (s *Server) recover(w http.ResponseWriter, r *http.Request) error {
	rec, _, ok, err := s.begun(r)
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", view.Recover{
		Wait: s.Recovery.Settings.OrDefaults().Wait, Under: ok && rec.Live(s.now()), SignIn: view.PathSignIn, Code: codePath, People: askPath, Pass: passPath, Status: statusPath,
	})
}

func (s *Server) codeForm(pass bool, username, code view.Input) view.RecoverForm {
	m := view.RecoverForm{
		Pass: pass, Form: view.Form{Action: codePath}, Username: username, Code: view.Input{Error: code.Error},
		Wait: s.Recovery.Settings.OrDefaults().Wait, Back: recoverPath,
	}
	if pass {
		m.Form.Action = passPath
	}
	return m
}

// guessed reads a user name, or an address that was proved, and a code that somebody
// typed, and finds the single-use value that the code names if it is that person's and
// can be used. Whose it is the code says: the name is held against that, and nobody is
// looked for by it. Unknown names, codes of others and used codes are one answer. m is
// the page to show instead; nil if there is none.
func (s *Server) guessed(r *http.Request, purpose once.Purpose) (p account.Person, v once.Value, m view.View, err error) {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return p, v, nil, err
	}
	form := s.codeForm(purpose == once.TemporaryPass, view.Input{Value: capped(f.Get("username"), 254)}, view.Input{})
	code, err := secret.ReadTyped(f.Get("code"), secret.TypedLen)
	if err != nil { // no guess: it can be nobody's
		form.Code.Error = problem.From(err).Detail
		return p, v, form, nil
	}
	wait, err := s.payForGuess(r, purpose)
	if err != nil {
		return p, v, nil, err
	}
	if wait > 0 {
		form.Until = s.now().Add(wait)
		return p, v, form, nil
	}
	v, found, err := s.value(r.Context(), purpose, once.KeyOf(purpose, code.Reveal()))
	if err != nil {
		return p, v, nil, err
	}
	p, err = s.Store.Person(r.Context(), v.Bound)
	if err != nil && !problem.Refusal(err) {
		return p, v, nil, err
	}
	named := p.Called(strings.TrimSpace(capped(f.Get("username"), 254)))
	if _, _, usable := linkState(v, s.now()); err != nil || !found || !usable || !named || !p.Node.Live() {
		s.refusedQuietly(policy.RecoveryStart, errNotTogether)
		s.wrong(r, map[once.Purpose]act.Way{once.RecoveryCode: act.WayRecoveryCode, once.TemporaryPass: act.WayPass}[purpose], v.Bound)
		form.Code.Error = errNotTogether.Detail
		return p, v, form, nil
	}
	return p, v, nil, nil
}

var errNotTogether = problem.New(problem.Unauthenticated, "code_wrong", "This name and this code don't go together, or the code was used.")

// payForGuess takes a guess out of the network's budget; one that cannot be paid
// for is not looked at. The account has none: no number of guesses finds one of 115
// bits, and whoever used the budget up would shut the owner out, who has nothing
// else left.
func (s *Server) payForGuess(r *http.Request, purpose once.Purpose) (wait time.Duration, err error) {
	network := grant.NetworkOf(s.ClientAddr(r))
	if network == "" {
		return 0, nil
	}
	with := map[once.Purpose]string{once.RecoveryCode: "a recovery code", once.TemporaryPass: "a pass"}[purpose]
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.FactorTry, Kind: audit.FactorTried, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{factor.Take{Budgets: []factor.Budget{factor.NetworkBudget(network)}}},
				Parts:   []audit.Part{{Body: map[string]any{"with": with}}},
			}, nil
		},
	})
	if p := problem.From(err); p != nil && p.Kind == problem.Throttled {
		return max(p.RetryAfter, time.Minute), nil
	}
	return 0, err
}

// administers reports whether somebody belongs to the administrators.
func (s *Server) administers(ctx context.Context, person string) (bool, error) {
	groups, err := s.Store.GroupsOf(ctx, person)
	return slices.ContainsFunc(groups, func(g group.Group) bool { return g.Name == group.Administrators && g.Node.Live() }), err
}

// codePosted begins a recovery with a code: the code is spent and the recovery
// opened by one act, and then it waits.
func (s *Server) codePosted(w http.ResponseWriter, r *http.Request) error {
	p, v, instead, err := s.guessed(r, once.RecoveryCode)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	now, claim := s.now(), secret.New(secret.Recover)
	rec := recovery.New(recovery.ByCode, p.ID, now)
	rec.Claim = recovery.ClaimOf(claim).Reveal()
	prepare := func(ctx context.Context) error {
		path, err := s.Recovery.Settings.PathOf(ctx, s.Store, recovery.ByCode, p.ID)
		rec.ReadyAt, rec.ExpiresAt = path.Times(now)
		return err
	}
	network := grant.NetworkOf(s.ClientAddr(r))
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.RecoveryStart, Kind: audit.RecoveryStarted, Quiet: true, Prepare: prepare,
		Refs:  act.Refs{Kind: policy.KindAnonymous, Presented: true, Under: []string{p.ID}},
		Spend: []once.Spend{{Purpose: once.RecoveryCode, Key: v.Key, Ref: rec.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{recovery.Start{Recovery: rec}}, Parts: []audit.Part{{Person: p.ID, Body: rec.Said("network", network)}}}, nil
		},
	})
	if lost(err, once.RecoveryCode) {
		return s.show(w, r, nil, "", s.codeForm(false, view.Input{Value: p.Username}, view.Input{Error: errNotTogether.Detail}))
	}
	if err != nil {
		return err
	}
	s.setCookie(w, cookieRecover, claim, s.claimLife())
	return seeOther(w, r, statusPath)
}

// ask shows the code of this browser. It makes one, which is nothing but a
// cookie, if there is none that can be used.
func (s *Server) ask(w http.ResponseWriter, r *http.Request) error {
	rec, _, ok, err := s.begun(r)
	if err != nil {
		return err
	}
	if ok && rec.Live(s.now()) {
		return seeOther(w, r, statusPath)
	}
	c := s.claim(r)
	if c.IsZero() || ok { // one that led to something is not used again
		c = secret.New(secret.Recover)
		s.setCookie(w, cookieRecover, c, s.claimLife())
	}
	return s.show(w, r, nil, "", view.RecoverAsk{Code: recovery.ClaimOf(c).Grouped(), Status: statusPath, Back: recoverPath})
}

// stateOf is how a recovery stands, for a page.
func (s *Server) stateOf(ctx context.Context, rec recovery.Recovery) (view.RecoverState, error) {
	now := s.now()
	switch {
	case rec.State == recovery.Completed:
		return view.RecoverDone, nil
	case rec.State == recovery.Cancelled:
		return view.RecoverStopped, nil
	case !rec.Live(now):
		return view.RecoverOver, nil
	}
	if past, err := s.Store.Superseded(ctx, rec.ID); err != nil || past {
		return view.RecoverNotNeeded, err
	}
	switch {
	case rec.Ready(now):
		return view.RecoverReady, nil
	case rec.ReadyAt.IsZero():
		return view.RecoverAsking, nil
	}
	return view.RecoverWaiting, nil
}

func (s *Server) statusPage(r *http.Request, pasted view.Input) (view.RecoverStatus, error) {
	m := view.RecoverStatus{
		Stop: view.Form{Action: recoverPath + "/stop"}, Paste: view.Form{Action: pastePath}, Pasted: pasted, Back: recoverPath, Quorum: recovery.Quorum, Continue: passkeyPath,
	}
	rec, p, ok, err := s.begun(r)
	if err != nil || !ok {
		return m, err
	}
	m.Account, m.StartedAt, m.ReadyAt, m.ExpiresAt, m.Confirmed = p.Username, rec.StartedAt, rec.ReadyAt, rec.ExpiresAt, rec.Confirmed
	m.Link = s.Issuer + recoverPath + "/open#" + s.claim(r).Reveal()
	if m.State, err = s.stateOf(r.Context(), rec); err != nil {
		return m, err
	}
	m.Told, err = s.told(r.Context(), p)
	return m, err
}

// told says who is told of a recovery, and plainly if that is hardly anybody.
func (s *Server) told(ctx context.Context, p account.Person) (out []string, err error) {
	if s.Recovery.Told != nil {
		if out, err = s.Recovery.Told(ctx, p); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		out = append(out, "Nobody by message: no mail reaches this account. An administrator can print the cancel link.")
	}
	return append(out, "Whoever is signed in to this account: its pages show it and can stop it.", "The administrators: their pages list it."), nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	m, err := s.statusPage(r, view.Input{})
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", m)
}

// statusStop stops the recovery that this browser began.
func (s *Server) statusStop(w http.ResponseWriter, r *http.Request) error {
	rec, _, ok, err := s.begun(r)
	if err != nil {
		return err
	}
	if ok {
		err = s.stop(r.Context(), act.Intent{Refs: act.Refs{Kind: policy.KindAnonymous, Presented: true}, Quiet: true}, rec, "the browser that began it", nil)
	}
	if err != nil && problem.CodeOf(err) != "recovery_over" {
		return err
	}
	return seeOther(w, r, statusPath)
}

// stop ends a recovery, or takes a pass back with the session that it opened. in
// says who stops it; by is for the record.
func (s *Server) stop(ctx context.Context, in act.Intent, rec recovery.Recovery, by string, said []audit.Part) error {
	in.Action, in.Kind = policy.RecoveryCancel, audit.RecoveryCancelled
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		c := act.Change(recovery.Cancel{ID: rec.ID})
		if rec.Method == recovery.ByPass && rec.State == recovery.Completed {
			c = lineage.End{ID: rec.Made, Why: "pass_withdrawn"}
		}
		parts := append(said[:len(said):len(said)], audit.Part{Person: rec.Person, Body: map[string]any{"recovery": rec.ID}}, audit.Part{Body: map[string]any{"by": by}})
		return act.Effect{Changes: []act.Change{c}, Parts: parts}, nil
	}
	_, err := s.Do.Do(ctx, in)
	return err
}

// claimOpened takes the secret of a private link into this browser.
func (s *Server) claimOpened(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	if err := s.takeClaim(w, r, b.Secret); err != nil {
		return err
	}
	return location(w, statusPath)
}

func (s *Server) claimPasted(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	err = s.takeClaim(w, r, fragment(f.Get("link")))
	if problem.Refusal(err) {
		m, err := s.statusPage(r, view.Input{Error: problem.From(err).Detail})
		if err != nil {
			return err
		}
		return s.show(w, r, nil, "", m)
	}
	if err != nil {
		return err
	}
	return seeOther(w, r, statusPath)
}

// fragment is what is behind the # of a pasted link, or all of it.
func fragment(link string) string {
	if i := strings.LastIndexByte(link, '#'); i >= 0 {
		link = link[i+1:]
	}
	return strings.TrimSpace(link)
}

// takeClaim has this browser continue what another one began. It gives up nothing
// of its own that is still open: a link somebody sent cannot take its place.
func (s *Server) takeClaim(w http.ResponseWriter, r *http.Request, text string) error {
	c, err := secret.Read(secret.Recover, text)
	if err != nil {
		return problem.New(problem.Invalid, "private_link_invalid", "This is not a whole private link of a recovery.")
	}
	rec, _, ok, err := s.begun(r)
	if err != nil {
		return err
	}
	if ok && rec.Live(s.now()) && s.claim(r) != c {
		return problem.New(problem.Conflict, "recovery_here", "This browser has a recovery of its own under way. Finish or stop that one first.")
	}
	if _, err := s.Store.RecoveryByClaim(r.Context(), recovery.ClaimOf(c).Reveal()); err != nil {
		return orNothing(err, problem.New(problem.Invalid, "private_link_invalid", "No recovery belongs to this link."))
	}
	s.setCookie(w, cookieRecover, c, s.claimLife())
	return nil
}
