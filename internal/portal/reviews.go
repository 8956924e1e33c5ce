package portal

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/web"
)

const showReviewPath = view.PathReviews + "/show"

// reviewsRoutes are the pages of what was refused.
func (s *Server) reviewsRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathReviews, s.signedIn(s.reviews))
	handle("GET "+showReviewPath, s.signedIn(s.showReview))
	for path, made := range resolutions {
		handle("POST "+view.PathReviews+"/"+path, s.signedIn(func(w http.ResponseWriter, r *http.Request, v *visitor) error {
			return s.resolveReview(w, r, v, made)
		}))
	}
}

// made is what may be made of a review.
type made struct {
	action policy.Action
	kind   audit.Kind
	done   string // the notice
}

// resolutions are those by the end of their path.
var resolutions = map[string]made{
	"allow":   {policy.ReviewAllow, audit.ReviewAllowed, "review-allowed"},
	"end":     {policy.ReviewEnd, audit.ReviewRefused, "review-refused"},
	"suspend": {policy.PersonDisable, audit.PersonDisabled, "disabled"},
	"close":   {policy.ReviewClose, audit.ReviewClosed, "review-closed"},
}

var reviewStates = map[review.State]view.ReviewState{
	review.Open: view.ReviewOpen, review.Allowed: view.ReviewAllowed, review.Refused: view.ReviewRefused, review.Closed: view.ReviewClosed,
}

// reviewLists are the lists of the page, the first of which is shown unasked.
var reviewLists = []struct {
	state review.State
	name  string
	text  string
}{{review.Open, "open", "Open"}, {review.Allowed, "allowed", "It was them"}, {review.Refused, "refused", "It was not them"}, {review.Closed, "closed", "Closed"}, {"", "all", "All"}}

func showReviewURL(id string) string { return withQuery(showReviewPath, "id", id) }

// reviews lists what was refused.
func (s *Server) reviews(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.ReviewRead, 0), r.URL.RequestURI(), "reviews"); !ok {
		return err
	}
	var m view.Reviews
	chosen := reviewLists[0]
	for _, l := range reviewLists {
		if l.name == r.URL.Query().Get("state") {
			chosen = l
		}
	}
	for _, l := range reviewLists {
		m.States = append(m.States, view.Choice{Text: l.text, URL: withQuery(view.PathReviews, "state", l.name), On: l.name == chosen.name})
	}
	before := r.URL.Query().Get("before")
	list, err := s.Store.Reviews(r.Context(), chosen.state, before, perPage+1)
	if err != nil {
		return err
	}
	if len(list) > perPage {
		list = list[:perPage]
		m.Older = withQuery(view.PathReviews, "state", chosen.name, "before", list[perPage-1].ID)
	}
	if before != "" {
		m.Newer = withQuery(view.PathReviews, "state", chosen.name)
	}
	for _, x := range list {
		row, err := s.reviewRow(r.Context(), x)
		if err != nil {
			return err
		}
		m.Items = append(m.Items, row)
	}
	return s.show(w, r, v, view.PathReviews, m)
}

// actionWords are what was refused, in words; of others the action is named.
var actionWords = map[policy.Action]string{
	policy.SessionOpen: "Signing in", policy.Authorize: "Letting an app act", policy.TokenIssue: "A token", policy.TokenRefresh: "A new token for an app",
	policy.TokenExchange: "A token for another service", policy.DeviceOpen: "Entering the code of a device", policy.DeviceApprove: "Letting a device act",
	policy.ConsentGive: "Allowing an app", policy.FactorEnrol: "Adding a way to sign in", policy.FactorRemove: "Removing a way to sign in",
	policy.PersonRead: "Looking at people", policy.AuditRead: "Looking at the log", policy.ReviewRead: "Looking at reviews",
}

// reviewRow is how pages show a review.
func (s *Server) reviewRow(ctx context.Context, x review.Review) (view.ReviewRow, error) {
	row := view.ReviewRow{
		What: actionWords[x.Action], Risk: x.Seen.Band, Count: x.Count, LastAt: x.LastAt, State: reviewStates[x.State], Until: x.Until, URL: showReviewURL(x.ID), Who: x.Actor,
	}
	if row.What == "" {
		row.What = string(x.Action)
	}
	if x.Client != "" {
		c, err := s.Store.Client(ctx, x.Client)
		if err != nil && !problem.Refusal(err) {
			return row, err
		}
		row.App = c.Name
	}
	var err error
	switch x.Kind {
	case policy.KindPerson:
		row.Who, err = s.nameOf(ctx, x.Actor)
	case policy.KindService:
		row.Who, err = s.sayer(ctx, x.Actor)
	}
	return row, err
}

// aroundIt is how many records around a refusal a page shows.
const aroundIt = 12

// review is the page of one review.
func (s *Server) review(ctx context.Context, v *visitor, x review.Review, reason view.Input, hours int) (m view.ReviewDetail, err error) {
	if m.ReviewRow, err = s.reviewRow(ctx, x); err != nil {
		return m, err
	}
	m.OpenedAt, m.Ref, m.Network, m.Score, m.Note, m.Person = x.OpenedAt, x.Ref, x.Seen.Network, x.Seen.Score, x.Note, x.Kind == policy.KindPerson
	m.Reason, m.Hours, m.Back = reason, hours, view.PathReviews
	if m.Proved = x.Seen.ACR; len(x.Seen.Methods) > 0 {
		m.Proved = strings.TrimPrefix(m.Proved+", with "+strings.Join(x.Seen.Methods, ", "), ", ")
	}
	for _, w := range x.Seen.Reasons {
		m.Why = append(m.Why, view.Why{Text: w.Text, Policy: w.Policy})
	}
	for _, t := range x.Seen.Terms {
		m.Terms = append(m.Terms, view.Term{Points: t.Points, Words: t.Words, Signal: t.Signal})
	}
	if x.Seen.Device != "" {
		if d, err := s.Store.Device(ctx, x.Seen.Device); err == nil {
			m.Device = d.Label
		}
	}
	if x.By != "" {
		if m.By, err = s.nameOf(ctx, x.By); err != nil {
			return m, err
		}
	}
	if m.Person {
		m.Links = []view.Link{{Text: "Open the account", URL: withQuery(changePath, "id", x.Actor)}}
		lines, _, err := s.Log.Page(ctx, x.Actor, x.Record+"~", aroundIt)
		if err != nil {
			return m, err
		}
		for _, l := range lines {
			m.Around = append(m.Around, view.Record{At: l.At, Text: sentence(l.Sentence), Outcome: outcome(l)})
		}
	}
	m.Links = append(m.Links, view.Link{Text: "Find it in the log", URL: withQuery(view.PathAudit, "q", x.Record)})
	return m, s.mayResolve(ctx, v, x, &m)
}

// mayResolve fills in what the visitor may make of a review.
func (s *Server) mayResolve(ctx context.Context, v *visitor, x review.Review, m *view.ReviewDetail) error {
	if x.State != review.Open {
		return nil
	}
	err := review.MayResolve(ctx, s.Store, x, v.person.ID)
	if problem.Refusal(err) {
		m.Not = problem.From(err).Detail
		return nil
	}
	if err != nil {
		return err
	}
	form := func(path string) *view.Form {
		return &view.Form{Action: view.PathReviews + "/" + path, Hidden: []view.Field{{Name: "id", Value: x.ID}}}
	}
	m.Close, m.End = form("close"), form("end")
	if x.ByRisk() {
		m.Allow = form("allow")
	} else {
		m.NoAllow = "It was not refused for its risk, so nobody can vouch for it. What a rule refuses is made possible by an exception to that rule, in the policies."
	}
	if x.Kind == policy.KindPerson && x.Actor != v.person.ID {
		m.Suspend = form("suspend")
	}
	return nil
}

func (s *Server) showReview(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.ReviewRead, 0), r.URL.RequestURI(), "reviews"); !ok {
		return err
	}
	x, err := s.Store.Review(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	m, err := s.review(r.Context(), v, x, view.Input{}, 1)
	if err != nil {
		return err
	}
	return s.show(w, r, v, view.PathReviews, m)
}

// resolveReview carries out what an administrator says of a review.
func (s *Server) resolveReview(w http.ResponseWriter, r *http.Request, v *visitor, how made) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.ReviewRead, 0), view.PathReviews, "reviews"); !ok {
		return err
	}
	rev, err := s.Store.Review(r.Context(), f.Get("id"))
	if err != nil {
		return err
	}
	span := chosenHours(f.Get("hours"), review.MaxAllow, time.Hour)
	x := review.Resolution{Review: rev, Action: how.action, By: v.person.ID, Note: f.Get("reason"), For: span}
	switch err := x.Check(); problem.CodeOf(err) {
	case "reason_missing", "reason_invalid":
		m, e := s.review(r.Context(), v, rev, view.Input{Value: capped(f.Get("reason"), 200), Error: problem.From(err).Detail}, int(span/time.Hour))
		if e != nil {
			return e
		}
		return s.show(w, r, v, view.PathReviews, m)
	case "":
	default:
		return err
	}
	target := []string{}
	if rev.Kind == policy.KindPerson {
		target = append(target, rev.Actor)
	}
	in := asAdmin(v, how.action, how.kind, target...)
	var refusal func() error
	in.Prepare, refusal = recovery.Judged(func(ctx context.Context) error { return review.MayResolve(ctx, s.Store, rev, v.person.ID) })
	in.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if err := refusal(); err != nil {
			return act.Effect{}, err
		}
		list, _ := x.Changes(f.Input.Context.Now)
		part := audit.Part{Body: x.Said(f.Input.Context.Now)}
		if rev.Kind == policy.KindPerson {
			part.Person = rev.Actor
		}
		parts := about(v)
		if part.Person == v.person.ID { // one's own, where nobody else administers
			parts = nil
		}
		return act.Effect{Changes: list, Parts: append(parts, part)}, nil
	}
	if ok, err := s.perform(w, r, in, showReviewURL(rev.ID), "reviews"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathReviews, "done", how.done))
}
