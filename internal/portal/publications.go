package portal

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/web"
)

// publicationRoutes are the pages of policies that are to come into force. They are
// read and signed here; signing.go has the signature.
func (s *Server) publicationRoutes(handle func(string, web.Handler)) {
	if s.Rollouts == nil || s.Rollouts.Desk == nil {
		return
	}
	const one = view.PathPublications + "/{id}"
	handle("GET "+view.PathPublications, s.signedIn(s.publications))
	handle("GET "+one, s.signedIn(s.publication))
	handle("GET "+one+"/text", s.signedIn(s.publicationText))
	handle("POST "+one+"/options", s.signedIn(s.signOptions))
	handle("POST "+one+"/sign", s.signedIn(s.signFinish))
	handle("POST "+one+"/put", s.signedIn(s.putInForce))
	handle("POST "+one+"/withdraw", s.signedIn(s.withdrawPublication))
}

// standings are the states of publications as pages name them.
var standings = map[string]view.PublicationState{
	string(ruleset.Unsigned): view.PublicationUnsigned, string(ruleset.Signed): view.PublicationSigned, string(ruleset.CarriedOut): view.PublicationInForce,
	string(ruleset.Withdrawn): view.PublicationWithdrawn, string(ruleset.Ended): view.PublicationExpired,
	"expired": view.PublicationExpired, "moved": view.PublicationOvertaken,
}

// mayLook reports whether v may look at a page of policies, which name people; what is
// the page's reason to ask for more proof.
func (s *Server) mayLook(w http.ResponseWriter, r *http.Request, v *visitor, what string) (ok bool, err error) {
	for _, a := range ruleset.Reading {
		if ok, err := s.may(w, r, asAdmin(v, a, 0), r.URL.RequestURI(), what); !ok {
			return false, err
		}
	}
	return true, nil
}

// mayAct refuses, before anything is read or tried, whoever may not look at publications
// whatever they prove: what they prove is judged by the act.
func (s *Server) mayAct(r *http.Request, v *visitor) error {
	for _, a := range ruleset.Reading {
		in := asAdmin(v, a, 0)
		in.For, in.From = portalItself, s.Origin(r)
		dec, _, err := s.Do.Judge(r.Context(), in)
		if err != nil {
			return err
		}
		if dec.Outcome == policy.Deny {
			return dec.Problem(s.Ladder)
		}
	}
	return nil
}

// publications lists those that are open, or all, newest first.
func (s *Server) publications(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "publish"); !ok {
		return err
	}
	ctx, before, every := r.Context(), r.URL.Query().Get("before"), r.URL.Query().Get("state") == "all"
	all := withQuery(view.PathPublications, "state", "all")
	m := view.Publications{States: []view.Choice{{Text: "Open", URL: view.PathPublications, On: !every}, {Text: "All", URL: all, On: every}}}
	head, err := s.Rollouts.Book.Store.PolicyHead(ctx)
	if err != nil {
		return err
	}
	var list []ruleset.Publication
	if every {
		list, err = s.Rollouts.Desk.Publications.Publications(ctx, before, perPage+1)
	} else {
		list, err = s.openPublications(ctx, head)
	}
	if err != nil {
		return err
	}
	if every && len(list) > perPage {
		list = list[:perPage]
		m.Older = withQuery(view.PathPublications, "state", "all", "before", list[perPage-1].ID)
	}
	if every && before != "" {
		m.Newer = all
	}
	for i := range list {
		row, err := s.publicationRow(ctx, &list[i], head)
		if err != nil {
			return err
		}
		m.Items = append(m.Items, row)
	}
	return s.show(w, r, v, view.PathPublications, m)
}

func (s *Server) publicationRow(ctx context.Context, p *ruleset.Publication, head int64) (view.PublicationRow, error) {
	row := view.PublicationRow{
		Note: p.Note, At: p.At, Until: p.Until, State: standings[p.Standing(head, s.now())], Waves: len(p.Waves), URL: ruleset.SignPath(p.ID),
	}
	var err error
	row.Who, err = s.sayer(ctx, p.By)
	return row, err
}

// openPublications are those of which something can become, newest first.
func (s *Server) openPublications(ctx context.Context, head int64) ([]ruleset.Publication, error) {
	list, err := s.Rollouts.Desk.Publications.OpenPublications(ctx)
	return slices.DeleteFunc(list, func(p ruleset.Publication) bool {
		return !ruleset.PublicationState(p.Standing(head, s.now())).Open()
	}), err
}

// publicationsTodo is what waits to be signed, for the overview of an administrator.
func (s *Server) publicationsTodo(ctx context.Context, v *visitor) ([]view.Todo, error) {
	if !v.admin || s.Rollouts == nil || s.Rollouts.Desk == nil {
		return nil, nil
	}
	head, err := s.Rollouts.Book.Store.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.openPublications(ctx, head)
	n := 0
	for i := range list {
		if list[i].State == ruleset.Unsigned {
			n++
		}
	}
	if err != nil || n == 0 {
		return nil, err
	}
	text := "Look at policies that wait to be signed"
	if n > 1 {
		text = "Look at " + strconv.Itoa(n) + " sets of policies that wait to be signed"
	}
	return []view.Todo{{
		Text: text, Why: "Somebody wants them in force. They come to nothing unless an administrator signs them within a day.", Takes: "a few minutes",
		Action: view.Link{Text: "Look at them", URL: view.PathPublications},
	}}, nil
}

// shown is a publication as it stands, and what is said of it to whoever signs.
type shown struct {
	ruleset.Publication
	head      int64
	state     view.PublicationState
	statement view.Statement
	text      string
}

// shownPublication reads one, and puts in words what is signed of it.
func (s *Server) shownPublication(ctx context.Context, id string) (shown, error) {
	x, err := s.standing(ctx, id)
	if err == nil {
		err = s.put(ctx, &x)
	}
	return x, err
}

// standing reads a publication, and how it stands.
func (s *Server) standing(ctx context.Context, id string) (x shown, err error) {
	if x.Publication, err = s.Rollouts.Desk.Publications.Publication(ctx, id); err != nil {
		return x, err
	}
	x.head, err = s.Rollouts.Book.Store.PolicyHead(ctx)
	x.state = standings[x.Standing(x.head, s.now())]
	return x, err
}

// put puts in words what is signed of a publication.
func (s *Server) put(ctx context.Context, x *shown) (err error) {
	x.statement, err = s.statement(ctx, &x.Publication)
	x.text = x.statement.Text()
	return err
}

// publication is the page on which one is read and signed.
func (s *Server) publication(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "publish"); !ok {
		return err
	}
	ctx := r.Context()
	x, err := s.standing(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	var keys signers
	var not error // why they may not sign
	if x.state == view.PublicationUnsigned {
		if keys, not = s.signers(r, v, x.ID); not != nil && !problem.Refusal(not) {
			return not
		}
	}
	if err := s.put(ctx, &x); err != nil {
		return err
	}
	here := ruleset.SignPath(x.ID)
	m := view.Publication{State: x.state, Statement: x.statement, TextURL: here + "/text", Until: x.Until, InForce: x.head}
	if x.ByKind == policy.KindService {
		if m.Service, err = s.sayer(ctx, x.By); err != nil {
			return err
		}
	}
	if sig := x.Signed; sig != nil {
		m.SignedByYou, m.SignedAt, m.SignedUntil = sig.By == v.person.ID, sig.At, sig.Until
		if m.SignedBy, err = s.nameOf(ctx, sig.By); err != nil {
			return err
		}
	}
	switch x.state {
	case view.PublicationUnsigned:
		maySign(&x, keys, not, &m)
	case view.PublicationSigned:
		m.PutInForce = &view.Form{Action: here + "/put"}
	case view.PublicationInForce:
		m.Became = view.Link{Text: "version " + strconv.FormatInt(x.Became, 10)}
		if x.Waves != nil {
			m.Became = view.Link{Text: "rollout " + strconv.FormatInt(x.Became, 10), URL: shownRollout(x.Became)}
		}
	}
	if x.state == view.PublicationUnsigned || x.state == view.PublicationSigned {
		m.Withdraw = &view.Form{Action: here + "/withdraw"}
	}
	return s.show(w, r, v, view.PathPublications, m)
}

// publicationText is all of what is signed, as plain text: the bytes that are hashed.
func (s *Server) publicationText(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "publish"); !ok {
		return err
	}
	x, err := s.shownPublication(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	view.Headers(w.Header())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write([]byte(x.text))
	return err
}

// maySign fills in how it is signed or, if the visitor may not, why and what would do.
func maySign(x *shown, keys signers, not error, m *view.Publication) {
	switch p := problem.From(not); {
	case problem.Refusal(not):
		m.Not = p.Detail
		for _, w := range p.Why {
			m.Would = append(m.Would, view.Why{Text: w.Text, Policy: w.Policy})
		}
		return
	case len(keys.counting) == 0:
		m.Not, m.AddURL = "You have no passkey that counts for this.", addPasskey
		if keys.later != (time.Time{}) {
			m.Not, m.AddURL = "Your passkey was added a short time ago, and counts for this from "+view.Moment(keys.later)+" on.", ""
		}
		return
	}
	here := ruleset.SignPath(x.ID)
	sign := func(then string) *view.Ceremony {
		return &view.Ceremony{Options: here + "/options", Finish: here + "/sign", Hidden: fields("view", viewOf(x.text), "then", then)}
	}
	m.SignAndPut, m.SignAndLeave = sign("put"), sign("leave")
}

// signers are somebody's passkeys by what a signature of theirs is worth.
type signers struct {
	counting []factor.Passkey // with which they may sign
	later    time.Time        // when the first one on probation counts; zero: none is
}

// signers finds the passkeys with which v may sign a publication: what one of them
// proves has to be allowed by the policies in force, and to do under those that are
// signed. Where none does though one would count, the refusal says why.
func (s *Server) signers(r *http.Request, v *visitor, id string) (out signers, err error) {
	ctx, now, from := r.Context(), s.now(), s.Origin(r)
	_, check, err := s.Rollouts.Desk.Signing(ctx, id, now)
	if err != nil {
		return out, err
	}
	keys, err := s.Store.PasskeysOf(ctx, v.person.ID)
	if err != nil {
		return out, err
	}
	var refused error
	for _, k := range keys {
		proof := k.Proof(now)
		if assurance.Evaluate(v.person.ID, []assurance.Proof{proof}, now).Best().Rung < assurance.Phishing {
			if k.ProbationUntil.After(now) && (out.later.IsZero() || k.ProbationUntil.Before(out.later)) {
				out.later = k.ProbationUntil
			}
			continue
		}
		in := signing(v)
		in.For, in.From, in.Proofs = portalItself, from, []assurance.Proof{proof}
		dec, facts, err := s.Do.Judge(ctx, in)
		if err != nil {
			return out, err
		}
		if dec.Outcome == policy.Allow {
			err = check(facts.Input)
		} else if p := dec.Problem(s.Ladder); p != nil {
			err = p
		}
		switch {
		case err == nil:
			out.counting = append(out.counting, k)
		case !problem.Refusal(err):
			return out, err
		default:
			refused = err
		}
	}
	if len(out.counting) == 0 && refused != nil {
		return out, refused
	}
	return out, nil
}

// posted is the publication that a form of its page is about.
func (s *Server) posted(r *http.Request, v *visitor) (p ruleset.Publication, err error) {
	if _, err := web.ParseForm(r, maxBody); err != nil {
		return p, err
	}
	if err := s.mayAct(r, v); err != nil {
		return p, err
	}
	return s.Rollouts.Desk.Publications.Publication(r.Context(), r.PathValue("id"))
}

// putInForce carries out what was signed.
func (s *Server) putInForce(w http.ResponseWriter, r *http.Request, v *visitor) error {
	p, err := s.posted(r, v)
	if err != nil {
		return err
	}
	in, err := s.carrying(r.Context(), v, &p)
	if err != nil {
		return err
	}
	if ok, err := s.perform(w, r, in, ruleset.SignPath(p.ID), "publish"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(ruleset.SignPath(p.ID), "done", "policy-put"))
}

// carrying is the act of putting a publication in force that was signed.
func (s *Server) carrying(ctx context.Context, v *visitor, p *ruleset.Publication) (act.Intent, error) {
	x, err := s.Rollouts.Desk.CarryOut(ctx, p, v.person.ID, s.now())
	if err != nil {
		return act.Intent{}, err
	}
	in := asAdmin(v, policy.PolicySubmit, x.Kind)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		parts := about(v)
		if x.Signer != v.person.ID {
			parts = append(parts, audit.Part{Person: x.Signer, Body: map[string]any{"signed": p.ID}})
		}
		return act.Effect{Changes: x.Changes, Parts: append(parts, audit.Part{Body: x.Said})}, nil
	}
	return in, nil
}

// withdrawPublication has nothing come of one.
func (s *Server) withdrawPublication(w http.ResponseWriter, r *http.Request, v *visitor) error {
	p, err := s.posted(r, v)
	if err != nil {
		return err
	}
	in := asAdmin(v, policy.PolicySubmit, audit.PolicyWithdrawn)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: []act.Change{ruleset.Withdraw{ID: p.ID}}, Parts: append(about(v), audit.Part{Body: p.Said()})},
			p.MayWithdraw(v.person.ID, policy.KindPerson)
	}
	if ok, err := s.perform(w, r, in, ruleset.SignPath(p.ID), "publish"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(ruleset.SignPath(p.ID), "done", "policy-withdrawn"))
}
