package portal

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	openRecoveryPath = view.PathRecoveries + "/open"
	showRecoveryPath = view.PathRecoveries + "/show"
)

// recoveriesRoutes are the pages of administrators and helpers.
func (s *Server) recoveriesRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathRecoveries, s.signedIn(s.recoveries))
	handle("GET "+openRecoveryPath, s.signedIn(s.openRecovery))
	handle("POST "+openRecoveryPath, s.signedIn(s.openedRecovery))
	handle("GET "+showRecoveryPath, s.signedIn(s.showRecovery))
	handle("POST "+view.PathRecoveries+"/confirm", s.signedIn(s.confirmRecovery))
	handle("POST "+view.PathRecoveries+"/cancel", s.signedIn(s.cancelRecovery))
	handle("GET "+view.PathPass, s.signedIn(s.passPage))
	handle("POST "+view.PathPass, s.signedIn(s.passMade))
}

func showRecoveryURL(id string) string { return withQuery(showRecoveryPath, "id", id) }

// recoveryRow is how pages show an open recovery.
func (s *Server) recoveryRow(ctx context.Context, rec recovery.Recovery, p account.Person) (view.OpenRecovery, error) {
	row := view.OpenRecovery{
		ID: rec.ID, What: whatWords[rec.Method], Account: p.Username, StartedAt: rec.StartedAt, ReadyAt: rec.ReadyAt, ExpiresAt: rec.ExpiresAt,
		Reason: rec.Reason, Confirmed: rec.Confirmed, URL: showRecoveryURL(rec.ID),
	}
	if rec.Method == recovery.ByPeople {
		row.Quorum = recovery.Quorum
	}
	if rec.OpenedBy == "" {
		return row, nil
	}
	by, err := s.nameOf(ctx, rec.OpenedBy)
	row.By = by
	return row, err
}

// nameOf is the name of a person who may be gone.
func (s *Server) nameOf(ctx context.Context, person string) (string, error) {
	p, err := s.Store.Person(ctx, person)
	if pr := problem.From(err); pr != nil && pr.Kind == problem.NotFound {
		return "an erased person", nil
	}
	return p.Name, err
}

// recoveries lists what is open.
func (s *Server) recoveries(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryRead, 0), r.URL.RequestURI(), "recoveries"); !ok {
		return err
	}
	m := view.Recoveries{OpenURL: openRecoveryPath, PassURL: view.PathPass, Told: "No mail is configured here: nobody is told by message, so print the cancel link and hand it over."}
	if s.Recovery.Told != nil {
		m.Told = "Each is told wherever they can be reached."
	}
	after := r.URL.Query().Get("after")
	list, err := s.Store.OpenRecoveries(r.Context(), s.now(), after, perPage+1)
	if err != nil {
		return err
	}
	if len(list) > perPage {
		list = list[:perPage]
		m.Older = withQuery(view.PathRecoveries, "after", list[perPage-1].ID)
	}
	if after != "" {
		m.Newer = view.PathRecoveries
	}
	for _, rec := range list {
		p, err := s.Store.Person(r.Context(), rec.Person)
		if err != nil {
			return err
		}
		row, err := s.recoveryRow(r.Context(), rec, p)
		if err != nil {
			return err
		}
		m.Items = append(m.Items, row)
	}
	return s.show(w, r, v, view.PathRecoveries, m)
}

func openForm(username, code, reason view.Input) view.OpenForm {
	return view.OpenForm{Form: view.Form{Action: openRecoveryPath}, Username: username, Code: code, Reason: reason, Back: view.PathRecoveries}
}

func (s *Server) openRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	// Whether it is allowed for whom, the form says: here it is for nobody yet.
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryOpen, 0), openRecoveryPath, "recoveries"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathRecoveries, openForm(view.Input{}, view.Input{}, view.Input{}))
}

// personNamed finds whom a form is about; what is wrong with the name is for the
// form's field.
func (s *Server) personNamed(ctx context.Context, username string) (p account.Person, in view.Input, err error) {
	p, err = s.Store.PersonByUsername(ctx, username)
	in = view.Input{Value: username}
	switch pr := problem.From(err); {
	case pr != nil && pr.Kind == problem.NotFound:
		in.Error, err = "Nobody has this user name.", nil
	case err == nil && !p.Node.Live():
		in.Error = "This account is disabled. Enable it first."
	}
	return p, in, err
}

// confirmer says whether v may confirm a recovery of a person: it is judged
// before each try of the act.
func (s *Server) confirmer(ctx context.Context, v *visitor, person string) error {
	return recovery.MayConfirm(ctx, s.Store, v.person.ID, person, s.now())
}

// openedRecovery opens a recovery for somebody: it is the first confirmation.
func (s *Server) openedRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	// Whether somebody has an account is for those who may help them.
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryOpen, 0), openRecoveryPath, "recoveries"); !ok {
		return err
	}
	p, username, err := s.personNamed(r.Context(), f.Get("username"))
	if err != nil {
		return err
	}
	claim, codeErr := recovery.ReadClaim(f.Get("code"))
	code := view.Input{Value: capped(f.Get("code"), 40)}
	if codeErr != nil {
		code.Error = problem.From(codeErr).Detail
	}
	reason, ok := reasonOf(f.Get("reason"), true)
	why := view.Input{Value: f.Get("reason")}
	if !ok {
		why.Error = "Say why, in 1 to 200 characters."
	}
	if username.Error != "" || code.Error != "" || !ok {
		return s.show(w, r, v, view.PathRecoveries, openForm(username, code, why))
	}
	rec := recovery.Opened(p.ID, v.person.ID, claim, reason, s.now())
	in := asAdmin(v, policy.RecoveryOpen, audit.RecoveryOpened, p.ID)
	var refusal func() error
	in.Prepare, refusal = recovery.Judged(func(ctx context.Context) error { return s.confirmer(ctx, v, p.ID) })
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		if err := refusal(); err != nil {
			return act.Effect{}, err
		}
		return act.Effect{Changes: []act.Change{recovery.Start{Recovery: rec}}, Parts: append(about(v), audit.Part{Person: p.ID, Body: rec.Said()})}, nil
	}
	ok, err = s.perform(w, r, in, openRecoveryPath, "recoveries")
	if problem.CodeOf(err) == "recovery_open" {
		username.Error = problem.From(err).Detail
		return s.show(w, r, v, view.PathRecoveries, openForm(username, code, why))
	}
	if !ok {
		return err
	}
	return seeOther(w, r, showRecoveryURL(rec.ID)+"&done=recovery-opened")
}

// detail is the page of one recovery.
func (s *Server) detail(ctx context.Context, v *visitor, rec recovery.Recovery, code view.Input) (m view.RecoveryDetail, err error) {
	p, err := s.Store.Person(ctx, rec.Person)
	if err != nil {
		return m, err
	}
	m.Code, m.Back = code, view.PathRecoveries
	if m.OpenRecovery, err = s.recoveryRow(ctx, rec, p); err != nil {
		return m, err
	}
	if m.State, err = s.stateOf(ctx, rec); err != nil {
		return m, err
	}
	if m.Admin, err = s.administers(ctx, p.ID); err != nil {
		return m, err
	}
	given, err := s.Store.Confirmations(ctx, rec.ID)
	if err != nil {
		return m, err
	}
	mine := false
	for _, c := range given {
		who, err := s.nameOf(ctx, c.By)
		if err != nil {
			return m, err
		}
		m.Confirmers, mine = append(m.Confirmers, who), mine || c.By == v.person.ID
	}
	if !rec.Live(s.now()) {
		return m, nil
	}
	hidden := []view.Field{{Name: "id", Value: rec.ID}}
	m.Cancel = &view.Form{Action: view.PathRecoveries + "/cancel", Hidden: hidden}
	if m.Told, err = s.told(ctx, p); err != nil {
		return m, err
	}
	if m.CancelLink, err = recovery.CancelLink(s.Issuer, s.Recovery.CancelKeys()[0], rec.ID); err != nil {
		return m, err
	}
	if rec.Method != recovery.ByPeople || rec.Confirmed >= recovery.Quorum {
		return m, nil
	}
	err = s.confirmer(ctx, v, p.ID)
	switch {
	case problem.Refusal(err):
		m.Why = problem.From(err).Detail
		return m, nil
	case err != nil:
		return m, err
	case mine:
		m.Why = "You have confirmed this. A second administrator has to do it too."
	default:
		m.Confirm = &view.Form{Action: view.PathRecoveries + "/confirm", Hidden: hidden}
	}
	return m, nil
}

func (s *Server) showRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryRead, 0), r.URL.RequestURI(), "recoveries"); !ok {
		return err
	}
	rec, err := s.Store.Recovery(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	m, err := s.detail(r.Context(), v, rec, view.Input{})
	if err != nil {
		return err
	}
	return s.show(w, r, v, view.PathRecoveries, m)
}

// confirmRecovery is the second administrator's confirmation. The code has to be
// typed: whoever confirms has talked to the person, not to the first one.
func (s *Server) confirmRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryRead, 0), view.PathRecoveries, "recoveries"); !ok {
		return err
	}
	rec, err := s.Store.Recovery(r.Context(), f.Get("id"))
	if err != nil {
		return err
	}
	claim, codeErr := recovery.ReadClaim(f.Get("code"))
	if codeErr != nil || claim != rec.Claim {
		m, err := s.detail(r.Context(), v, rec, view.Input{Error: "That isn't the code of this recovery. Let the person read it to you once more."})
		if err != nil {
			return err
		}
		return s.show(w, r, v, view.PathRecoveries, m)
	}
	in := asAdmin(v, policy.RecoveryConfirm, audit.RecoveryConfirmed, rec.Person)
	var path recovery.Path
	var refusal func() error
	in.Prepare, refusal = recovery.Judged(func(ctx context.Context) (err error) {
		path, err = s.Recovery.Settings.Confirming(ctx, s.Store, rec, v.person.ID, s.now())
		return err
	})
	in.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if err := refusal(); err != nil {
			return act.Effect{}, err
		}
		if err := rec.ForLive(f.Nodes); err != nil {
			return act.Effect{}, err
		}
		change, told := rec.ConfirmedBy(v.person.ID, path, s.now())
		return act.Effect{Changes: []act.Change{change}, Parts: append(about(v), audit.Part{Person: rec.Person, Body: told.Said()})}, nil
	}
	if ok, err := s.perform(w, r, in, showRecoveryURL(rec.ID), "recoveries"); !ok {
		return err
	}
	return seeOther(w, r, showRecoveryURL(rec.ID)+"&done=recovery-confirmed")
}

// cancelRecovery stops somebody's recovery, or takes a pass back.
func (s *Server) cancelRecovery(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.RecoveryRead, 0), view.PathRecoveries, "recoveries"); !ok {
		return err
	}
	rec, err := s.Store.Recovery(r.Context(), f.Get("id"))
	if err != nil {
		return err
	}
	in := asAdmin(v, policy.RecoveryCancel, audit.RecoveryCancelled, rec.Person)
	if ok, err := s.may(w, r, in, showRecoveryURL(rec.ID), "recoveries"); !ok {
		return err
	}
	in.For = portalItself
	if err := s.stop(r.Context(), in, rec, "an administrator", about(v)); err != nil && problem.CodeOf(err) != "recovery_over" {
		return err
	}
	return seeOther(w, r, view.PathRecoveries+"?done=recovery-stopped")
}

func passForm(v *visitor, username, reason view.Input, valid, lasts int) view.PassForm {
	m := view.PassForm{Form: view.Form{Action: view.PathPass}, Username: username, Reason: reason, Valid: valid, Lasts: lasts}
	if v.admin {
		m.Back = view.PathRecoveries
	}
	return m
}

func (s *Server) passPage(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.PassIssue, 0), view.PathPass, "recoveries"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathPass, passForm(v, view.Input{}, view.Input{}, 1, 8))
}

// chosenHours reads a choice of hours; what is not offered is the default.
func chosenHours(text string, most, otherwise time.Duration) time.Duration {
	n, err := strconv.Atoi(text)
	if d := time.Duration(n) * time.Hour; err == nil && d >= time.Hour && d <= most {
		return d
	}
	return otherwise
}

// passMade makes a temporary pass and shows it, this once.
func (s *Server) passMade(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	// Whether somebody has an account is for those who may help them.
	if ok, err := s.may(w, r, asAdmin(v, policy.PassIssue, 0), view.PathPass, "recoveries"); !ok {
		return err
	}
	valid, lasts := chosenHours(f.Get("valid"), recovery.MaxPass, recovery.PassLifetime), chosenHours(f.Get("lasts"), recovery.MaxPassSession, recovery.PassSession)
	p, username, err := s.personNamed(r.Context(), f.Get("username"))
	if err != nil {
		return err
	}
	why := view.Input{Value: f.Get("reason")}
	reason, ok := reasonOf(f.Get("reason"), true)
	if !ok {
		why.Error = "Say why, in 1 to 200 characters."
	}
	if username.Error == "" {
		if err := recovery.MayGive(r.Context(), s.Store, v.person.ID, p.ID); problem.Refusal(err) {
			username.Error = problem.From(err).Detail
		} else if err != nil {
			return err
		}
	}
	again := func() error {
		return s.show(w, r, v, view.PathPass, passForm(v, username, why, int(valid/time.Hour), int(lasts/time.Hour)))
	}
	if username.Error != "" || !ok {
		return again()
	}
	now := s.now()
	rec := recovery.Given(p.ID, v.person.ID, reason, valid, lasts, now)
	code, put := recovery.NewPass(rec, now)
	in := asAdmin(v, policy.PassIssue, audit.PassIssued, p.ID)
	var refusal func() error
	in.Prepare, refusal = recovery.Judged(func(ctx context.Context) error { return recovery.MayGive(ctx, s.Store, v.person.ID, p.ID) })
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		if err := refusal(); err != nil {
			return act.Effect{}, err
		}
		return act.Effect{Changes: []act.Change{recovery.Start{Recovery: rec}, put}, Parts: append(about(v), audit.Part{Person: p.ID, Body: rec.Said()})}, nil
	}
	done, err := s.perform(w, r, in, view.PathPass, "recoveries")
	if problem.CodeOf(err) == "recovery_open" {
		username.Error = "They have an unused pass already. Take that one back first."
		return again()
	}
	if !done {
		return err
	}
	m := view.PassMade{For: p.Name, Code: code.Grouped(), Enter: s.Issuer + passPath, ExpiresAt: rec.ExpiresAt, Lasts: lasts}
	if v.admin {
		m.Back = view.PathRecoveries
	}
	if m.Told, err = s.told(r.Context(), p); err != nil {
		return err
	}
	if m.CancelLink, err = recovery.CancelLink(s.Issuer, s.Recovery.CancelKeys()[0], rec.ID); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathPass, m)
}
