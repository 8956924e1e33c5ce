package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

const endPath = "/account/end"

func endURL(id string) string { return withQuery(endPath, "id", id) }

// tree is what runs in a person's name: person → device → session → grant. Only
// what is live, with all it descends from, is in it.
type tree struct {
	person   account.Person
	sessions []session.Session
	grants   map[string][]grant.Grant // by session
	root     view.Node
}

// tree reads what runs in a person's name. here is the session the page is seen
// with, "" for somebody else's tree.
func (s *Server) tree(ctx context.Context, p account.Person, here string) (*tree, error) {
	sessions, err := s.Store.SessionsOf(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	grants, err := s.Store.GrantsOf(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	t := &tree{person: p, grants: map[string][]grant.Grant{}}
	for _, g := range grants {
		if !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt) {
			continue
		}
		live, err := s.live(ctx, g.ID)
		if err != nil {
			return nil, err
		}
		if live {
			t.grants[g.Session] = append(t.grants[g.Session], g)
		}
	}
	for _, ses := range sessions {
		if !ses.Usable(now) && len(t.grants[ses.ID]) == 0 {
			continue
		}
		live, err := s.live(ctx, ses.ID)
		if err != nil {
			return nil, err
		}
		if live {
			t.sessions = append(t.sessions, ses)
		}
	}
	t.root, err = s.nodes(ctx, t, here)
	return t, err
}

// live reports whether a thing and all it descends from are live.
func (s *Server) live(ctx context.Context, id string) (bool, error) {
	nodes, err := s.Store.Ancestors(ctx, id)
	if err != nil {
		return false, err
	}
	_, ended := lineage.FirstEnded(nodes)
	return !ended, nil
}

// nodes draws the tree, devices in the order of their newest session.
func (s *Server) nodes(ctx context.Context, t *tree, here string) (view.Node, error) {
	root := view.Node{Kind: view.PersonNode, Name: t.person.Name, EndURL: endURL(t.person.ID)}
	at := map[string]int{}
	marks := map[string]session.Managed{}
	known, err := s.Store.DevicesOf(ctx, t.person.ID)
	if err != nil {
		return root, err
	}
	for _, k := range known {
		marks[k.ID] = k.Managed
	}
	for _, ses := range t.sessions {
		i, ok := at[ses.Device]
		if !ok {
			d, err := s.Store.Device(ctx, ses.Device)
			if err != nil {
				return root, err
			}
			i = len(root.Children)
			at[ses.Device] = i
			n := view.Node{Kind: view.DeviceNode, Name: d.Label, ID: d.ID, StartedAt: d.CreatedAt, EndURL: endURL(d.ID)}
			if m := marks[d.ID]; m.Counts(s.now()) {
				n.Managed = m.Until
			}
			root.Children = append(root.Children, n)
		}
		n := view.Node{
			Kind: view.SessionNode, Name: browserName(ses.UserAgent), Here: ses.ID == here, Network: ses.Network,
			Assurance: proved(ses.Person, ses.Proofs, s.now()), StartedAt: ses.CreatedAt, LastUsedAt: ses.SeenAt, ExpiresAt: ses.ExpiresAt, EndURL: endURL(ses.ID),
		}
		if !ses.Usable(s.now()) { // the cookie is over, what hangs below goes on
			n.Name, n.Assurance, n.ExpiresAt = n.Name+", signed out", "", time.Time{}
		}
		for _, g := range t.grants[ses.ID] {
			child, err := s.grantNode(ctx, g)
			if err != nil {
				return root, err
			}
			n.Children = append(n.Children, child)
		}
		root.Children[i].Children = append(root.Children[i].Children, n)
	}
	return root, nil
}

func (s *Server) grantNode(ctx context.Context, g grant.Grant) (view.Node, error) {
	n := view.Node{
		Kind: view.GrantNode, Scopes: g.Scopes, Assurance: proved(g.Person, g.Proofs, s.now()), StartedAt: g.CreatedAt, LastUsedAt: g.UsedAt,
		ExpiresAt: g.ExpiresAt, EndURL: endURL(g.ID),
	}
	c, err := s.Store.Client(ctx, g.Client)
	if err != nil {
		return n, err
	}
	n.Name = c.Name
	var names []string
	for _, id := range g.Resources {
		res, err := s.Store.Resource(ctx, id)
		if err != nil {
			return n, err
		}
		names = append(names, res.Name)
	}
	n.Resource = strings.Join(names, ", ")
	return n, nil
}

// proved says in words what proofs establish now.
func proved(person string, proofs []assurance.Proof, now time.Time) string {
	switch assurance.Evaluate(person, proofs, now).Best().Rung {
	case assurance.Hardware:
		return "hardware key, verified"
	case assurance.Phishing:
		return "passkey, verified"
	case assurance.Multi:
		return "two factors"
	case assurance.Single:
		return "one factor"
	}
	return ""
}

// begunWith is the part of the tree that descends from a factor.
func (t *tree) begunWith(credential string) view.Node {
	var root view.Node
	for _, ses := range t.sessions {
		n := view.Node{Kind: view.SessionNode}
		whole := usedWith(ses.Proofs, credential)
		for _, g := range t.grants[ses.ID] {
			if whole || usedWith(g.Proofs, credential) {
				n.Children = append(n.Children, view.Node{Kind: view.GrantNode})
			}
		}
		if whole {
			root.Children = append(root.Children, n)
		} else {
			root.Children = append(root.Children, n.Children...)
		}
	}
	return root
}

// sessionsOn are the person's sessions in a browser.
func (t *tree) sessionsOn(device string) (ids []string) {
	for _, ses := range t.sessions {
		if ses.Device == device {
			ids = append(ids, ses.ID)
		}
	}
	return ids
}

func (t *tree) apps() int {
	n := 0
	for _, ses := range t.sessions {
		n += len(t.grants[ses.ID])
	}
	return n
}

// find gives the node of the tree that the id names.
func find(n view.Node, id string) (view.Node, bool) {
	if n.EndURL == endURL(id) {
		return n, true
	}
	for _, c := range n.Children {
		if got, ok := find(c, id); ok {
			return got, true
		}
	}
	return view.Node{}, false
}

func (s *Server) sessionsPage(w http.ResponseWriter, r *http.Request, v *visitor) error {
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	return s.show(w, r, v, view.PathSessions, view.Sessions{Root: t.root})
}

// endPage asks before something ends.
func (s *Server) endPage(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ref := r.URL.Query().Get("id")
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	m := view.EndNode{Back: view.PathSessions, Form: view.Form{Action: endPath, Hidden: []view.Field{{Name: "id", Value: ref}}}}
	var ok bool
	if m.Node, ok = find(t.root, ref); !ok {
		if m.Node, m.At, err = s.endedNode(r.Context(), v, ref); err != nil {
			return err
		}
		m.Gone = true
	}
	return s.show(w, r, v, view.PathSessions, m)
}

// endedNode is something of v's that runs no more, with the time it was ended
// (zero if it ran out). What is another's looks like nothing.
func (s *Server) endedNode(ctx context.Context, v *visitor, ref string) (n view.Node, at time.Time, err error) {
	nothing := problem.New(problem.NotFound, "not_found", "There is nothing of yours at this address.")
	switch {
	case strings.HasPrefix(ref, id.Session):
		ses, err := s.Store.Session(ctx, ref)
		if err != nil || ses.Person != v.person.ID {
			return n, at, orNothing(err, nothing)
		}
		return view.Node{Kind: view.SessionNode, Name: browserName(ses.UserAgent)}, ses.Node.EndedAt, nil
	case strings.HasPrefix(ref, id.Grant):
		g, err := s.Store.Grant(ctx, ref)
		if err != nil || g.Person != v.person.ID {
			return n, at, orNothing(err, nothing)
		}
		n, err := s.grantNode(ctx, g)
		return view.Node{Kind: n.Kind, Name: n.Name}, g.Node.EndedAt, err
	}
	return n, at, nothing
}

func orNothing(err, nothing error) error {
	if err != nil && !problem.Refusal(err) {
		return err
	}
	return nothing
}

// end ends what v chose, and by that all that hangs below it. Only what is in
// v's own tree can be.
func (s *Server) end(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	ref := f.Get("id")
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	n, ok := find(t.root, ref)
	if !ok {
		if _, _, err := s.endedNode(r.Context(), v, ref); err != nil {
			return err
		}
		return seeOther(w, r, endURL(ref)) // which says that it had already ended
	}
	if n.Kind == view.PersonNode {
		return s.endEverything(w, r, v, t)
	}
	in := act.Intent{Action: policy.SessionEnd, Kind: audit.SessionEnded}
	said, ids := about(v, "ended", ref), []string{ref}
	switch n.Kind {
	case view.DeviceNode: // a browser may be several people's: v's sessions in it end, not the browser
		in.Kind, said, ids = audit.DeviceEnded, about(v, "ended", ref, "name", n.Name), t.sessionsOn(ref)
	case view.GrantNode:
		in.Action, in.Kind = policy.GrantEnd, audit.GrantEnded
		g, err := s.Store.Grant(r.Context(), ref)
		if err != nil {
			return err
		}
		said = about(v, "ended", ref, "client", g.Client)
	}
	in.Refs = self(v.ses, ids)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		eff := act.Effect{Parts: said}
		for _, id := range ids {
			eff.Changes = append(eff.Changes, lineage.End{ID: id, Why: "ended_by_owner"})
		}
		if n.Kind == view.DeviceNode { // whoever parts with a device parts with what was said of it
			eff.Changes = append(eff.Changes, session.Unmanage{Device: ref, Person: v.person.ID})
		}
		return eff, nil
	}
	if ok, err := s.perform(w, r, in, endURL(ref), "session"); !ok {
		return err
	}
	return s.whereNext(w, r, view.PathSessions+"?done=ended")
}

// endEverything ends every session of v, and so everything that v started.
func (s *Server) endEverything(w http.ResponseWriter, r *http.Request, v *visitor, t *tree) error {
	var ids []string
	for _, ses := range t.sessions {
		ids = append(ids, ses.ID)
	}
	if !slices.Contains(ids, v.ses.ID) {
		ids = append(ids, v.ses.ID)
	}
	ok, err := s.perform(w, r, act.Intent{
		Action: policy.SessionEnd, Kind: audit.SessionEnded, Refs: self(v.ses, ids),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			eff := act.Effect{Parts: about(v, "why", "everything_ended")}
			for _, id := range ids {
				eff.Changes = append(eff.Changes, lineage.End{ID: id, Why: "everything_ended"})
			}
			return eff, nil
		},
	}, endURL(v.person.ID), "session")
	if !ok {
		return err
	}
	return s.whereNext(w, r, view.PathSessions)
}

// whereNext goes to page, or to the signed-out page if what was just done ended
// this browser's own session.
func (s *Server) whereNext(w http.ResponseWriter, r *http.Request, page string) error {
	_, ok, err := s.Session(r)
	if err != nil {
		return err
	}
	if ok {
		return seeOther(w, r, page)
	}
	s.clearCookie(w, cookieSession)
	return seeOther(w, r, signedOutPath)
}
