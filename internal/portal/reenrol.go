package portal

import (
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// sealedReenrol types the sealed state of the re-enrolment's pages.
const sealedReenrol = "reenrol"

// reenrolRoutes are the pages behind the links that `countersignd rename-issuer`
// makes: somebody whose passkeys belong to the old host makes one for this host
// (mechanisms I5). They need no earlier passkey, so only the operator of the
// machine hands such links out.
func (s *Server) reenrolRoutes(handle func(string, web.Handler)) {
	handle("GET /reenrol", func(w http.ResponseWriter, r *http.Request) error {
		return s.show(w, r, nil, "", view.OpenLink{Kind: view.ReenrolLink, PostURL: "/reenrol/open"})
	})
	handle("POST /reenrol/open", s.openLink(once.Reenrol, sealedReenrol, "/reenrol/passkey"))
	handle("GET /reenrol/passkey", s.reenrol)
	handle("POST /reenrol/options", s.reenrolOptions)
	handle("POST /reenrol/finish", s.reenrolFinish)
}

// reenrolLink judges the link behind a page; o is then the person that it is
// for. instead is the page to show when it does not work; nil if it does.
func (s *Server) reenrolLink(w http.ResponseWriter, r *http.Request, tx string) (o opened, v once.Value, instead view.View, err error) {
	page := view.LinkProblem{Kind: view.ReenrolLink, Ref: web.RecordOf(r).Ref()}
	o, ok, err := s.unseal(w, r, sealedReenrol, tx)
	if err != nil || !ok {
		return o, v, page, err
	}
	v, ok, err = s.value(r.Context(), once.Reenrol, o.key())
	if err != nil || !ok {
		return o, v, page, err
	}
	person, err := account.ReadReenrolment(v)
	if err != nil {
		return o, v, nil, err
	}
	if page.State, page.At, ok = linkState(v, s.now()); !ok {
		return o, v, page, nil
	}
	page.State = view.LinkWithdrawn
	p, err := s.Store.Person(r.Context(), person)
	if pr := problem.From(err); pr != nil && pr.Kind == problem.NotFound {
		return o, v, page, nil
	}
	if err != nil {
		return o, v, nil, err
	}
	if !p.Node.Live() {
		return o, v, page, nil
	}
	o.Person, o.Subject, o.Name, o.Username = p.ID, p.Subject, p.Name, p.Username
	return o, v, nil, nil
}

func (s *Server) reenrol(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	o, v, instead, err := s.reenrolLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	return s.show(w, r, nil, "", view.EnrolPasskey{
		Reason: view.EnrolFirst, Account: o.Username, Name: view.Input{Value: browserName(r.UserAgent())},
		Ceremony: view.Ceremony{Options: "/reenrol/options", Finish: "/reenrol/finish", Hidden: []view.Field{{Name: "tx", Value: tx}}},
		Deadline: view.Deadline{At: v.ExpiresAt},
	})
}

func (s *Server) reenrolOptions(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	o, _, instead, err := s.reenrolLink(w, r, b.get("tx"))
	if err != nil {
		return err
	}
	if instead != nil {
		return linkOver("passkey link")
	}
	if _, err := passkeyName(b.get("passkey_name")); err != nil {
		return err
	}
	return s.enrolOptions(w, r, sealedReenrol, o.Person, o.holder())
}

// reenrolFinish adds the passkey and opens a session, in one transaction that
// spends the link. The person is guarded: disabled meanwhile, they are refused.
func (s *Server) reenrolFinish(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	back := withQuery("/reenrol/passkey", "tx", b.get("tx"))
	o, _, instead, err := s.reenrolLink(w, r, b.get("tx"))
	if err != nil {
		return err
	}
	if instead != nil {
		return location(w, back)
	}
	bound, err := s.bindTo(w, r, sealedReenrol, o.Person)
	if err != nil {
		return err
	}
	n, err := s.newcomer(r, o, bound, b)
	if err != nil {
		return err
	}
	n.intent.Action, n.intent.Kind = policy.FactorReenrol, audit.FactorEnrolled
	n.intent.Refs.Under = append(n.intent.Refs.Under, o.Person)
	n.intent.Spend = append(n.intent.Spend, once.Spend{Purpose: once.Reenrol, Key: o.key(), Ref: o.Person})
	n.intent.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if !slices.ContainsFunc(f.Nodes, func(x lineage.Node) bool { return x.ID == o.Person && x.Live() }) {
			return act.Effect{}, problem.New(problem.Denied, policy.CodeEnded, "This account was ended.")
		}
		return act.Effect{
			Changes: append(slices.Clone(n.factors), n.session),
			Leaf:    n.session.ID,
			Parts: []audit.Part{{Person: o.Person, Body: map[string]any{
				"session": n.session.ID, "device": n.session.Device, "with": "passkey", "name": n.name, "network": n.session.Network, "by": "link",
			}}},
		}, nil
	}
	_, err = s.Do.Do(r.Context(), n.intent)
	if lost(err, once.Reenrol) {
		return location(w, back)
	}
	if err != nil {
		return spentAsExpired(err)
	}
	n.finish(w)
	return location(w, "/invite/second")
}
