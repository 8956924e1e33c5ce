package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	invitePath = "/admin/invite"
	changePath = view.PathPeople + "/change"
)

func (s *Server) adminRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathPeople, s.signedIn(s.people))
	handle("GET "+invitePath, s.signedIn(s.invite))
	handle("POST "+invitePath, s.signedIn(s.invitePosted))
	handle("GET "+changePath, s.signedIn(s.change))
	handle("POST "+changePath, s.signedIn(s.changePosted))
	handle("GET "+view.PathAudit, s.signedIn(s.auditLog))
	s.kindRoutes(handle)
	s.deviceMarkRoutes(handle)
	s.appRoutes(handle)
	s.reviewsRoutes(handle)
}

// asAdmin is an act of v on the deployment.
func asAdmin(v *visitor, a policy.Action, k audit.Kind, target ...string) act.Intent {
	in := act.Intent{Action: a, Kind: k, Refs: self(v.ses, target)}
	in.Refs.Owner = ""
	if len(target) > 0 {
		in.Refs.Owner = target[0]
	}
	return in
}

// people lists people, and on the first page those who are invited.
func (s *Server) people(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ctx := r.Context()
	if ok, err := s.may(w, r, asAdmin(v, policy.PersonRead, 0), r.URL.RequestURI(), "people"); !ok {
		return err
	}
	admins, err := s.administrators(ctx)
	if err != nil {
		return err
	}
	m := view.People{InviteURL: invitePath}
	after := r.URL.Query().Get("after")
	if after == "" {
		pending, err := s.pending(ctx)
		if err != nil {
			return err
		}
		for _, p := range pending {
			m.Items = append(m.Items, p.row())
		}
	} else {
		m.Newer = view.PathPeople
	}
	all, err := s.Store.People(ctx, after, perPage+1)
	if err != nil {
		return err
	}
	if len(all) > perPage {
		all = all[:perPage]
		m.Older = withQuery(view.PathPeople, "after", all[perPage-1].ID)
	}
	for _, p := range all {
		row, err := s.personRow(ctx, v, p, admins)
		if err != nil {
			return err
		}
		m.Items = append(m.Items, row)
	}
	return s.show(w, r, v, view.PathPeople, m)
}

func (s *Server) personRow(ctx context.Context, v *visitor, p account.Person, admins map[string]bool) (view.Person, error) {
	row := view.Person{
		Name: p.Name, Username: p.Username, Passkeys: p.Factors, You: p.ID == v.person.ID,
		ActURL: withQuery(changePath, "id", p.ID), DevicesURL: withQuery(devicesPath, "id", p.ID),
	}
	if admins[p.ID] {
		row.Role = "administrator"
	}
	if !p.Node.Live() {
		row.State = view.Disabled
	}
	if row.You {
		row.ActURL = ""
	}
	sessions, err := s.Store.SessionsOf(ctx, p.ID)
	if err != nil {
		return row, err
	}
	for _, ses := range sessions {
		row.LastSeenAt = later(row.LastSeenAt, ses.SeenAt)
	}
	keys, err := s.Store.PasskeysOf(ctx, p.ID)
	for _, k := range keys {
		row.LastSeenAt = later(row.LastSeenAt, k.UsedAt)
	}
	return row, err
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// pendingInvitation is an invitation that nobody has accepted yet.
type pendingInvitation struct {
	account.Invitation
	key   once.Key
	admin bool // into the administrators
}

func (s *Server) pending(ctx context.Context) ([]pendingInvitation, error) {
	values, err := s.Store.OncePending(ctx, once.Invite)
	if err != nil {
		return nil, err
	}
	admins, err := s.Store.GroupByName(ctx, group.Administrators)
	if err != nil {
		return nil, err
	}
	var out []pendingInvitation
	for _, v := range values {
		inv, err := account.ReadInvitation(v)
		if err != nil {
			return nil, err
		}
		out = append(out, pendingInvitation{inv, v.Key, slices.Contains(inv.Groups, admins.ID)})
	}
	return out, nil
}

func (p pendingInvitation) row() view.Person {
	row := view.Person{
		Name: p.Name, Username: p.Username, State: view.Invited, ExpiresAt: p.ExpiresAt, ActURL: withQuery(changePath, "id", p.ID),
	}
	if row.Username == "" {
		row.Username = p.Email
	}
	if p.admin {
		row.Role = "administrator"
	}
	return row
}

func inviteForm(name, email view.Input, admin bool) view.Invite {
	return view.Invite{
		Form: view.Form{Action: invitePath}, Name: name, Email: email, Admin: admin, Lasts: account.InvitationLifetime, Back: view.PathPeople,
	}
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.PersonInvite, audit.PersonInvited), invitePath, "people"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathPeople, inviteForm(view.Input{}, view.Input{}, false))
}

// invitePosted makes an invitation and shows its link, this once.
func (s *Server) invitePosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	inv := account.Invitation{ID: id.New(id.Invitation), InvitedBy: v.person.ID}
	var nameErr, emailErr error
	inv.Name, nameErr = account.CheckName(f.Get("display_name"))
	inv.Email, emailErr = account.CheckEmail(f.Get("email"))
	if name, err := account.CheckUsername(inv.Email); emailErr == nil && err == nil {
		inv.Username = name
		emailErr = s.free(r.Context(), name)
	}
	admin := f.Get("role") == "administrator"
	nameIn, err := wrong(f.Get("display_name"), nameErr)
	if err != nil {
		return err
	}
	emailIn, err := wrong(f.Get("email"), emailErr)
	if err != nil {
		return err
	}
	if nameErr != nil || emailErr != nil {
		return s.show(w, r, v, view.PathPeople, inviteForm(nameIn, emailIn, admin))
	}
	if admin {
		g, err := s.Store.GroupByName(r.Context(), group.Administrators)
		if err != nil {
			return err
		}
		inv.Groups = []string{g.ID}
	}
	put, link := account.NewInvitation(s.Issuer, inv, s.now())
	in := asAdmin(v, policy.PersonInvite, audit.PersonInvited)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: []act.Change{put}, Parts: append(about(v), audit.Part{Person: inv.PersonID(), Body: map[string]any{
			"invitation": inv.ID, "name": inv.Name, "administrator": admin,
		}})}, nil
	}
	if ok, err := s.perform(w, r, in, invitePath, "people"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathPeople, view.InviteMade{For: inv.Name, Link: link, ExpiresAt: put.ExpiresAt, Back: view.PathPeople})
}

// subject is whom a change is about: a person or an invitation.
type subject struct {
	page    view.PersonChange
	person  account.Person
	pending *pendingInvitation
	action  policy.Action
	kind    audit.Kind
}

// subject finds whom a change is about, and what the change is.
func (s *Server) subject(ctx context.Context, v *visitor, ref string) (subject, error) {
	var x subject
	x.page = view.PersonChange{Form: view.Form{Action: changePath, Hidden: []view.Field{{Name: "id", Value: ref}}}, Back: view.PathPeople}
	nobody := problem.New(problem.NotFound, "person_not_found", "There is no such person or invitation. It may have been used or withdrawn.")
	if strings.HasPrefix(ref, id.Invitation) {
		all, err := s.pending(ctx)
		if err != nil {
			return x, err
		}
		i := slices.IndexFunc(all, func(p pendingInvitation) bool { return p.ID == ref })
		if i < 0 {
			return x, nobody
		}
		x.pending, x.action, x.kind = &all[i], policy.PersonInvite, audit.InvitationWithdrawn
		x.page.Person = all[i].row()
		return x, nil
	}
	var err error
	if x.person, err = s.Store.Person(ctx, ref); err != nil {
		return x, orNothing(err, nobody)
	}
	admins, err := s.administrators(ctx)
	if err != nil {
		return x, err
	}
	if x.page.Person, err = s.personRow(ctx, v, x.person, admins); err != nil {
		return x, err
	}
	if x.page.Person.State == view.Disabled {
		x.action, x.kind = policy.PersonEnable, audit.PersonEnabled
		return x, nil
	}
	x.action, x.kind = policy.PersonDisable, audit.PersonDisabled
	if admins[x.person.ID] {
		if x.page.Last, err = s.onlyAdministrator(ctx, x.person.ID); err != nil {
			return x, err
		}
	}
	marks, err := s.Store.Marked(ctx, x.person.ID, s.now(), "", perPage)
	if err != nil {
		return x, err
	}
	if slices.ContainsFunc(marks, func(k session.Known) bool { return k.Managed.Person != x.person.ID }) { // their own end with them
		x.page.Marks = "countersign person device marked --by " + x.person.ID
	}
	t, err := s.tree(ctx, x.person, "")
	if err == nil {
		x.page.Ends = t.root.Ends()
	}
	return x, err
}

// intent is the change as an act.
func (x subject) intent(v *visitor, reason string) act.Intent {
	if x.pending != nil {
		in := asAdmin(v, x.action, x.kind)
		// Spending it decides between withdrawing and accepting: one of them happens.
		in.Spend = []once.Spend{{Purpose: once.Invite, Key: x.pending.key, Ref: withdrawn}}
		in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
			said := map[string]any{"invitation": x.pending.ID, "reason": reason}
			return act.Effect{Parts: append(about(v), audit.Part{Person: x.pending.PersonID(), Body: said})}, nil
		}
		return in
	}
	in := asAdmin(v, x.action, x.kind, x.person.ID)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		eff := act.Effect{Parts: append(about(v), audit.Part{Person: x.person.ID, Body: map[string]any{"reason": reason}})}
		if x.action == policy.PersonEnable {
			eff.Changes = []act.Change{lineage.Thaw{ID: x.person.ID}}
		} else {
			eff.Changes = []act.Change{lineage.Freeze{ID: x.person.ID, Why: "disabled"}}
		}
		return eff, nil
	}
	return in
}

func (s *Server) change(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ref := r.URL.Query().Get("id")
	// Whether there is such a person is for those who may change people.
	if ok, err := s.may(w, r, asAdmin(v, policy.PersonDisable, 0), withQuery(changePath, "id", ref), "people"); !ok {
		return err
	}
	x, err := s.subject(r.Context(), v, ref)
	if err != nil {
		return err
	}
	return s.show(w, r, v, view.PathPeople, x.page)
}

// changed is the notice of each change.
var changed = map[audit.Kind]string{audit.PersonDisabled: "disabled", audit.PersonEnabled: "enabled", audit.InvitationWithdrawn: "withdrawn"}

func (s *Server) changePosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	ref := f.Get("id")
	here := withQuery(changePath, "id", ref)
	if ok, err := s.may(w, r, asAdmin(v, policy.PersonDisable, 0), here, "people"); !ok {
		return err
	}
	x, err := s.subject(r.Context(), v, ref)
	if err != nil {
		return err
	}
	if x.page.Last {
		return s.show(w, r, v, view.PathPeople, x.page)
	}
	if x.person.ID == v.person.ID { // so one administrator always remains: who acts
		return problem.New(problem.Conflict, "self_disable", "You can't disable yourself.").WithHint("Ask another administrator to do it.")
	}
	reason, ok := reasonOf(f.Get("reason"), x.kind == audit.PersonDisabled)
	if !ok {
		x.page.Reason = view.Input{Value: f.Get("reason"), Error: "Say why, in 1 to 200 characters."}
		return s.show(w, r, v, view.PathPeople, x.page)
	}
	ok, err = s.perform(w, r, x.intent(v, reason), here, "people")
	if lost(err, once.Invite) {
		return problem.New(problem.Conflict, "invitation_used", "The invitation was used or withdrawn just now. Nothing was changed.")
	}
	if !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathPeople, "done", changed[x.kind]))
}

// reasonOf reads why something is done: at most 200 characters, none of them a
// control character, and some if it is needed.
func reasonOf(text string, needed bool) (reason string, ok bool) {
	reason = strings.TrimSpace(text)
	return reason, len([]rune(reason)) <= 200 && !strings.ContainsFunc(reason, unicode.IsControl) && (reason != "" || !needed)
}

// searchMost is how many records one search looks through; its page then leads
// on from there.
const searchMost = 2000

// LogState is what the last check of the log found.
type LogState struct {
	Size     int64     // entries of the last signed checkpoint
	SignedAt time.Time // when it was signed
	Broken   string    // a sentence; "" while the log holds
}

// auditLog shows the log, newest first.
func (s *Server) auditLog(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.AuditRead, 0), r.URL.RequestURI(), "log"); !ok {
		return err
	}
	before, query := r.URL.Query().Get("before"), strings.TrimSpace(capped(r.URL.Query().Get("q"), 200))
	m := view.AuditLog{Query: query}
	lines, more, err := s.search(r.Context(), query, before)
	if err != nil {
		return err
	}
	for _, l := range lines {
		m.Records = append(m.Records, view.Record{
			Index: l.Seq, At: l.At, Actor: l.Actor, Text: sentence(l.Sentence), Outcome: outcome(l), Refused: l.Refused,
			Assurance: l.Assurance, Proofs: l.Proofs, Ref: l.ID,
		})
	}
	if s.LogState != nil {
		st, err := s.LogState(r.Context())
		if err != nil {
			return err
		}
		m.Size, m.SignedAt, m.Broken = st.Size, st.SignedAt, st.Broken
	}
	if before != "" {
		m.Newer = withQuery(view.PathAudit, "q", query)
	}
	if more != "" {
		m.Older = withQuery(view.PathAudit, "q", query, "before", more)
	}
	return s.show(w, r, v, view.PathAudit, m)
}

func outcome(l audit.Line) string {
	switch {
	case l.Refused && l.Outcome == policy.StepUp.String():
		return "asked for proof"
	case l.Refused:
		return "denied"
	}
	return "allowed"
}

// search gives the lines that mention the query, "" for all.
func (s *Server) search(ctx context.Context, query, before string) (out []audit.Line, more string, err error) {
	if query == "" {
		return s.Log.Page(ctx, "", before, perPage)
	}
	more = before
	for looked := 0; looked < searchMost && len(out) < perPage; {
		const step = 200
		lines, next, err := s.Log.Page(ctx, "", more, step)
		if err != nil {
			return nil, "", err
		}
		for _, l := range lines {
			if mentions(l, query) {
				if out = append(out, l); len(out) == perPage {
					return out, l.ID, nil
				}
			}
		}
		looked += max(len(lines), 1)
		if more = next; more == "" {
			break
		}
	}
	return out, more, nil
}

func mentions(l audit.Line, query string) bool {
	q := strings.ToLower(query)
	return slices.ContainsFunc([]string{l.Sentence, l.Actor, l.ID, l.Kind.Name()}, func(text string) bool {
		return strings.Contains(strings.ToLower(text), q)
	})
}
