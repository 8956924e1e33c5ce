package portal

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/web"
)

const codesPath = view.PathRecovery + "/codes"

func (s *Server) ownRecoveryRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathRecovery, s.signedIn(s.ownRecovery))
	handle("POST "+view.PathRecovery+"/stop", s.signedIn(s.ownStop))
	handle("POST "+codesPath, s.signedIn(s.codesMade))
	handle("GET "+codesPath, s.signedIn(func(w http.ResponseWriter, r *http.Request, _ *visitor) error {
		return seeOther(w, r, view.PathRecovery)
	}))
	handle("GET /setup/codes", s.signedIn(s.offerCodes("setup", "/setup/codes/later")))
	handle("POST /setup/codes/later", func(w http.ResponseWriter, r *http.Request) error { return seeOther(w, r, "/setup/done") })
	handle("GET /invite/codes", s.signedIn(s.offerCodes("invite", "/invite/codes/later")))
	handle("POST /invite/codes/later", func(w http.ResponseWriter, r *http.Request) error { return seeOther(w, r, view.PathHome) })
}

// afterCodes is where saving the codes leads.
var afterCodes = map[string]view.Link{
	"":       {Text: "I saved them", URL: view.PathRecovery},
	"setup":  {Text: "I saved them", URL: "/setup/done"},
	"invite": {Text: "I saved them", URL: view.PathHome},
}

// offerCodes offers recovery codes to somebody who has just come in.
func (s *Server) offerCodes(then, later string) func(http.ResponseWriter, *http.Request, *visitor) error {
	return func(w http.ResponseWriter, r *http.Request, v *visitor) error {
		left, _, err := s.Store.CodesLeft(r.Context(), v.person.ID)
		if err != nil {
			return err
		}
		if left > 0 {
			return seeOther(w, r, afterCodes[then].URL)
		}
		path, _ := s.Recovery.Settings.Path(recovery.ByCode, v.admin)
		return s.show(w, r, v, "", view.OfferCodes{
			Form:  view.Form{Action: codesPath, Hidden: []view.Field{{Name: "then", Value: then}}},
			Later: view.Form{Action: later}, Setup: then == "setup", Wait: path.Wait,
		})
	}
}

// makingCodes is the act of making a set of codes: it needs what adding a factor
// needs.
func makingCodes(v *visitor) act.Intent {
	return act.Intent{Action: policy.FactorEnrol, Kind: audit.RecoveryCodesMade, Refs: self(v.ses, nil)}
}

// codesMade makes a set of codes and shows it, this once.
func (s *Server) codesMade(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	codes, changes := recovery.NewCodes(v.person.ID, s.now())
	in := makingCodes(v)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: changes, Parts: about(v)}, nil
	}
	page := view.PathRecovery
	if then := f.Get("then"); then != "" && afterCodes[then].URL != "" {
		page = "/" + then + "/codes"
	}
	if ok, err := s.perform(w, r, in, page, "codes"); !ok {
		return err
	}
	next, ok := afterCodes[f.Get("then")]
	if !ok {
		next = afterCodes[""]
	}
	m := view.RecoveryCodes{Account: v.person.Username, Next: next, Setup: f.Get("then") == "setup"}
	for _, c := range codes {
		m.Codes = append(m.Codes, c.Grouped())
	}
	return s.show(w, r, v, "", m)
}

// whatWords name a recovery on a page.
var whatWords = map[recovery.Method]string{
	recovery.ByCode: "A recovery with a recovery code", recovery.ByPeople: "A recovery by two administrators", recovery.ByPass: "A temporary pass",
}

// ownRecovery is the section Recovery of the account.
func (s *Server) ownRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ctx, now := r.Context(), s.now()
	path, _ := s.Recovery.Settings.Path(recovery.ByCode, v.admin)
	m := view.OwnRecovery{Of: recovery.Codes, Make: view.Form{Action: codesPath}, Wait: path.Wait}
	var err error
	if m.Left, m.MadeAt, err = s.Store.CodesLeft(ctx, v.person.ID); err != nil {
		return err
	}
	keys, err := s.Store.PasskeysOf(ctx, v.person.ID)
	if err != nil {
		return err
	}
	m.Trial = trial(keys, s)
	m.Limited = limited(v, s)
	list, err := s.Store.RecoveriesOf(ctx, v.person.ID)
	if err != nil {
		return err
	}
	for _, rec := range list {
		if rec.Live(now) {
			row, err := s.recoveryRow(ctx, rec, v.person)
			if err != nil {
				return err
			}
			row.Stop = &view.Form{Action: view.PathRecovery + "/stop", Hidden: []view.Field{{Name: "id", Value: rec.ID}}}
			m.Open = append(m.Open, row)
			continue
		}
		past := view.PastRecovery{What: whatWords[rec.Method], How: string(rec.State), At: rec.EndedAt}
		if rec.State == recovery.Open {
			past.How, past.At = string(recovery.Expired), rec.ExpiresAt
		}
		m.Past = append(m.Past, past)
	}
	return s.show(w, r, v, view.PathRecovery, m)
}

// trial is until when one of the passkeys is on probation; zero if none is.
func trial(keys []factor.Passkey, s *Server) (until time.Time) {
	for _, k := range keys {
		if s.now().Before(k.ProbationUntil) {
			until = later(until, k.ProbationUntil)
		}
	}
	return until
}

// onTrial has a step-up of the account's own pages say which passkey does not do,
// and that none does when all are on probation and nothing else would.
func (s *Server) onTrial(ctx context.Context, v *visitor, m *view.StepUp) error {
	keys, err := s.Store.PasskeysOf(ctx, v.person.ID)
	until := trial(keys, s)
	if err != nil || until.IsZero() {
		return err
	}
	why := "A passkey of yours is on probation, because it was made without another one: it counts in full from " + until.Format("2 January 2006, 15:04 MST") + " on."
	m.Reasons = append(m.Reasons, why)
	if slices.ContainsFunc(keys, func(k factor.Passkey) bool { return !s.now().Before(k.ProbationUntil) }) {
		return nil
	}
	m.Ceremony = view.Ceremony{}
	if m.Typed == nil {
		m.State, m.Missing, m.Help, m.Add = view.StepUpImpossible, "a passkey that isn't on probation", why, nil
	}
	return nil
}

// limited reports whether everything that v has shown counts for less now: no
// factor can be changed with it.
func limited(v *visitor, s *Server) bool {
	for _, p := range v.ses.Proofs {
		if p.Cap == 0 || !p.CapUntil.IsZero() && !s.now().Before(p.CapUntil) {
			return false
		}
	}
	return true
}

// ownStop stops a recovery of v's own account, or takes a pass back: any live
// session may.
func (s *Server) ownStop(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	rec, err := s.Store.Recovery(r.Context(), f.Get("id"))
	if err != nil || rec.Person != v.person.ID {
		return orNothing(err, problem.New(problem.NotFound, "recovery_not_found", "There is no such recovery of your account."))
	}
	err = s.stop(r.Context(), act.Intent{Refs: self(v.ses, nil), For: portalItself}, rec, "a session of theirs", nil)
	if err != nil && problem.CodeOf(err) != "recovery_over" {
		return err
	}
	return s.whereNext(w, r, view.PathRecovery+"?done=recovery-stopped")
}

// codesTodo is what the check-up says of recovery: first that one is under way.
func (s *Server) codesTodo(ctx context.Context, v *visitor) (out []view.Todo, err error) {
	list, err := s.Store.RecoveriesOf(ctx, v.person.ID)
	if err != nil {
		return nil, err
	}
	for _, rec := range list {
		if rec.Live(s.now()) {
			out = append(out, view.Todo{
				Text: whatWords[rec.Method] + " is under way", Why: "If it isn't you, somebody else may soon be in your account.",
				Action: view.Link{Text: "Look at it", URL: view.PathRecovery},
			})
		}
	}
	left, _, err := s.Store.CodesLeft(ctx, v.person.ID)
	return append(out, view.Todo{
		Text: "Make recovery codes", Why: "If every passkey is lost, one of them gets you back in.", Takes: "about a minute",
		Action: view.Link{Text: "Make codes", URL: view.PathRecovery}, Done: left > 0,
	}), err
}
