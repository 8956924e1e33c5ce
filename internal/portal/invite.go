package portal

import (
	"context"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

func (s *Server) inviteRoutes(handle func(string, web.Handler)) {
	handle("GET /invite", func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", view.OpenLink{Kind: view.InviteLink, PostURL: "/invite/open"})
	})
	handle("POST /invite/open", s.openLink(once.Invite, sealedInvite, "/invite/accept"))
	handle("GET /invite/accept", s.invitation)
	handle("POST /invite/options", s.inviteOptions)
	handle("POST /invite/finish", s.inviteFinish)
	handle("GET /invite/password", s.invitePassword)
	handle("POST /invite/password", s.invitePasswordChosen)
	handle("GET /invite/app", s.inviteApp)
	handle("POST /invite/app", s.inviteAppShown)
	handle("GET /invite/second", s.signedIn(s.inviteSecond))
	handle("POST /invite/later", func(w http.ResponseWriter, r *http.Request) error { return seeOther(w, r, "/invite/codes") })
}

// invited is an invitation that can be accepted.
type invited struct {
	opened
	inv   account.Invitation
	by    account.Person // zero if nobody in particular
	admin bool           // into the administrators
}

// inviteLink judges the link behind a page of an invitation. instead is the page
// to show when it does not work; nil if it does.
func (s *Server) inviteLink(w http.ResponseWriter, r *http.Request, tx string) (in invited, instead view.View, err error) {
	page := view.LinkProblem{Kind: view.InviteLink, Ref: web.RecordOf(r).Ref()}
	o, ok, err := s.unseal(w, r, sealedInvite, tx)
	if err != nil || !ok {
		return in, page, err
	}
	v, ok, err := s.value(r.Context(), once.Invite, o.key())
	if err != nil || !ok {
		return in, page, err
	}
	inv, err := account.ReadInvitation(v)
	if err != nil {
		return in, nil, err
	}
	in = invited{opened: o, inv: inv}
	in.Person = inv.PersonID()
	var standing bool
	if in.by, standing, err = s.inviter(r.Context(), inv.InvitedBy); err != nil {
		return in, nil, err
	}
	page.By = in.by.Name
	if page.State, page.At, ok = linkState(v, s.now()); !ok {
		return in, page, nil
	}
	if !standing {
		page.State = view.LinkWithdrawn
		return in, page, nil
	}
	admins, err := s.Store.GroupByName(r.Context(), group.Administrators)
	if err != nil {
		return in, nil, err
	}
	in.admin = slices.Contains(inv.Groups, admins.ID)
	return in, nil, nil
}

// inviter gives who invited, and whether they may still invite: an invitation
// is worth no more than its maker's standing when it is used.
func (s *Server) inviter(ctx context.Context, person string) (p account.Person, standing bool, err error) {
	if person == "" { // the operator of the machine
		return p, true, nil
	}
	p, err = s.Store.Person(ctx, person)
	if pr := problem.From(err); pr != nil && pr.Kind == problem.NotFound {
		return account.Person{}, false, nil
	}
	if err != nil {
		return p, false, err
	}
	groups, err := s.Store.GroupsOf(ctx, person)
	return p, p.Node.Live() && slices.ContainsFunc(groups, func(g group.Group) bool { return g.Name == group.Administrators }), err
}

func (s *Server) invitation(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	in, instead, err := s.inviteLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	hidden := []view.Field{{Name: "tx", Value: tx}}
	m := view.Invitation{
		By: in.by.Name, ByAccount: in.by.Username, Into: s.host(), ExpiresAt: in.inv.ExpiresAt,
		Name: view.Input{Value: in.inv.Name}, Username: view.Input{Value: in.inv.Username},
		Passkey:  view.Input{Value: browserName(r.UserAgent())},
		Ceremony: view.Ceremony{Options: "/invite/options", Finish: "/invite/finish", Hidden: hidden},
	}
	if m.By == "" {
		m.By = "An administrator"
	}
	if in.admin {
		m.Role = "administrator"
	}
	if m.Typed, err = s.typedURL(r, "/invite/password", tx); err != nil {
		return err
	}
	who, err := s.visitor(r)
	if problem.Refusal(err) {
		return s.show(w, r, nil, "", m)
	}
	if err != nil {
		return err
	}
	m.SignedIn = &view.Form{Action: "/signout/here", Hidden: []view.Field{{Name: "next", Value: withQuery("/invite/accept", "tx", tx)}}}
	return s.show(w, r, who, "", m)
}

// inviteForm judges what the page of an invitation sent. again is where to go
// when its link stopped working.
func (s *Server) inviteForm(w http.ResponseWriter, r *http.Request) (b body, in invited, again string, err error) {
	if b, err = readBody(r); err != nil {
		return b, in, "", err
	}
	in, instead, err := s.inviteLink(w, r, b.get("tx"))
	if err != nil {
		return b, in, "", err
	}
	if instead != nil {
		return b, in, withQuery("/invite/accept", "tx", b.get("tx")), nil
	}
	if in.Name, err = account.CheckName(b.get("display_name")); err != nil {
		return b, in, "", err
	}
	if in.Username, err = account.CheckUsername(b.get("username")); err != nil {
		return b, in, "", err
	}
	if _, err = passkeyName(b.get("passkey_name")); err != nil {
		return b, in, "", err
	}
	return b, in, "", s.free(r.Context(), in.Username)
}

func (s *Server) inviteOptions(w http.ResponseWriter, r *http.Request) error {
	_, in, again, err := s.inviteForm(w, r)
	if err != nil {
		return err
	}
	if again != "" {
		return linkOver("invitation")
	}
	return s.enrolOptions(w, r, sealedInvite, in.Person, in.holder())
}

var errWithdrawn = problem.New(problem.Denied, "invitation_withdrawn", "Whoever invited you can't invite people any more.").
	WithHint("Ask an administrator for a new invitation.")

// inviteFinish makes the invited person: account, groups, passkey and session
// are one transaction that spends the invitation.
func (s *Server) inviteFinish(w http.ResponseWriter, r *http.Request) error {
	b, in, again, err := s.inviteForm(w, r)
	if err != nil {
		return err
	}
	if again != "" {
		return location(w, again)
	}
	bound, err := s.bindTo(w, r, sealedInvite, in.Person)
	if err != nil {
		return err
	}
	n, err := s.newcomer(r, in.opened, bound, b)
	if err != nil {
		return err
	}
	taken, err := s.acceptInvitation(r, n, in)
	if err != nil {
		return err
	}
	if taken {
		return location(w, withQuery("/invite/accept", "tx", b.get("tx")))
	}
	n.finish(w)
	return location(w, "/invite/second")
}

// acceptInvitation carries out the act that makes the invited person; taken says
// that the link was spent meanwhile.
func (s *Server) acceptInvitation(r *http.Request, n newcomer, in invited) (taken bool, err error) {
	n.intent.Action, n.intent.Kind = policy.InvitationAccept, audit.InvitationAccepted
	n.intent.Spend = append(n.intent.Spend, once.Spend{Purpose: once.Invite, Key: in.key(), Ref: in.Person})
	standing := true
	if in.inv.InvitedBy != "" {
		n.intent.Refs.Target = []string{in.inv.InvitedBy} // guarded: a change of their standing decides again
		n.intent.Prepare = func(ctx context.Context) (err error) {
			_, standing, err = s.inviter(ctx, in.inv.InvitedBy)
			return err
		}
	}
	n.intent.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if !standing || slices.ContainsFunc(f.Nodes, func(x lineage.Node) bool { return x.ID == in.inv.InvitedBy && !x.Live() }) {
			return act.Effect{}, errWithdrawn
		}
		return n.effect(in.inv.Groups), nil
	}
	_, err = s.Do.Do(r.Context(), n.intent)
	if lost(err, once.Invite) {
		return true, nil
	}
	if err != nil {
		return false, spentAsExpired(err)
	}
	return false, nil
}

// inviteSecond offers a second passkey to somebody who just came in.
func (s *Server) inviteSecond(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.secondPasskey(w, r, v, "/invite/second", "/invite/later", "")
}
