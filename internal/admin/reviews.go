package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/review"
)

// Review is what was refused, for an administrator to look at.
type Review struct {
	ID         string          `json:"id"`
	State      string          `json:"state" enum:"open,allowed,refused,closed"`
	Kind       string          `json:"kind" doc:"Of who asked: person, service, agent"`
	Actor      string          `json:"actor"`
	Name       string          `json:"name" doc:"What people call them"`
	Action     string          `json:"action"`
	Client     string          `json:"client,omitempty"`
	Count      int64           `json:"count" doc:"How often it was refused"`
	Ref        string          `json:"ref,omitempty" doc:"Reference of the first request"`
	Record     string          `json:"record" doc:"Of its refusal, in the log"`
	OpenedAt   time.Time       `json:"opened_at"`
	LastAt     time.Time       `json:"last_at"`
	Seen       review.Evidence `json:"seen" doc:"What the first refusal saw"`
	CanAllow   bool            `json:"can_allow" doc:"It was refused for its risk, so somebody may vouch for it"`
	ResolvedBy string          `json:"resolved_by,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	ResolvedAt *time.Time      `json:"resolved_at,omitempty"`
	Until      *time.Time      `json:"until,omitempty" doc:"Of allowed: until when it counts"`
}

type (
	reviewsIn struct {
		State string `query:"state" enum:"open,allowed,refused,closed" doc:"Only those"`
		PageParams
	}
	allowReviewIn struct {
		ID   string `path:"id" maxLength:"64"`
		Body struct {
			Reason  string `json:"reason" minLength:"1" maxLength:"200" doc:"How you know that it was them"`
			Minutes int    `json:"minutes,omitempty" minimum:"1" maximum:"1440" default:"60" doc:"How long it counts"`
		}
	}
	reviewOut struct{ Body Review }
)

func (a *API) reviews() {
	const tag = "reviews"
	register(a, operation{
		id: "list-reviews", method: http.MethodGet, path: "/v1/reviews", summary: "List what was refused and is looked at, newest first", tag: tag,
		scope: ScopeRead, action: policy.ReviewRead, kind: audit.TokenRefused,
	}, a.listReviews)
	register(a, operation{
		id: "get-review", method: http.MethodGet, path: "/v1/reviews/{id}", summary: "Read a review", tag: tag,
		scope: ScopeRead, action: policy.ReviewRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*reviewOut, error) { return a.showReview(ctx, in.ID) })
	register(a, operation{
		id: "allow-review", method: http.MethodPost, path: "/v1/reviews/{id}/allow", tag: tag,
		summary: "Say that it was them: from there, for a while, a passkey is enough",
		scope:   ScopeWrite, action: policy.ReviewAllow, kind: audit.ReviewAllowed, status: http.StatusOK,
	}, func(ctx context.Context, c *call, in *allowReviewIn) (*reviewOut, error) {
		return a.resolve(ctx, c, in.ID, in.Body.Reason, time.Duration(in.Body.Minutes)*time.Minute)
	})
	register(a, operation{
		id: "refuse-review", method: http.MethodPost, path: "/v1/reviews/{id}/refuse", tag: tag,
		summary: "Say that it was not them: everything that is signed in for them ends",
		scope:   ScopeWrite, action: policy.ReviewEnd, kind: audit.ReviewRefused, status: http.StatusOK,
	}, a.resolved)
	register(a, operation{
		id: "suspend-review", method: http.MethodPost, path: "/v1/reviews/{id}/suspend", tag: tag,
		summary: "Say that it was not them, and stop them until they are enabled",
		scope:   ScopeWrite, action: policy.PersonDisable, kind: audit.PersonDisabled, status: http.StatusOK,
	}, a.resolved)
	register(a, operation{
		id: "close-review", method: http.MethodPost, path: "/v1/reviews/{id}/close", summary: "Say that nothing follows", tag: tag,
		scope: ScopeWrite, action: policy.ReviewClose, kind: audit.ReviewClosed, status: http.StatusOK,
	}, a.resolved)
}

func (a *API) resolved(ctx context.Context, c *call, in *reasonIn) (*reviewOut, error) {
	reason, err := reasoned(in.Body)
	if err != nil {
		return nil, err
	}
	return a.resolve(ctx, c, in.ID, reason, 0)
}

func (a *API) listReviews(ctx context.Context, _ *call, in *reviewsIn) (*pageOut[Review], error) {
	return paged(in.PageParams, func(before string, n int) ([]review.Review, error) {
		return a.Reviews.Reviews(ctx, review.State(in.State), before, n)
	},
		func(r review.Review) string { return r.ID }, nil,
		func(r review.Review) (Review, error) { return a.viewReview(ctx, r) })
}

func (a *API) showReview(ctx context.Context, id string) (*reviewOut, error) {
	r, err := a.Reviews.Review(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := a.viewReview(ctx, r)
	return &reviewOut{v}, err
}

func (a *API) viewReview(ctx context.Context, r review.Review) (Review, error) {
	v := Review{
		ID: r.ID, State: string(r.State), Kind: r.Kind, Actor: r.Actor, Name: r.Actor, Action: string(r.Action), Count: r.Count, Ref: r.Ref, Record: r.Record,
		OpenedAt: r.OpenedAt, LastAt: r.LastAt, Seen: r.Seen, CanAllow: r.State == review.Open && r.ByRisk(), ResolvedBy: r.By, Reason: r.Note,
	}
	if !r.OverAt.IsZero() {
		v.ResolvedAt = &r.OverAt
	}
	if !r.Until.IsZero() {
		v.Until = &r.Until
	}
	if r.Client != "" {
		c, err := a.Registry.Client(ctx, r.Client)
		if err != nil && !problem.Refusal(err) {
			return v, err
		}
		v.Client = c.ClientID
	}
	var err error
	switch r.Kind {
	case policy.KindPerson:
		p, e := a.Directory.Person(ctx, r.Actor)
		v.Name, err = p.Username, e
	case policy.KindService:
		s, e := a.Registry.Service(ctx, r.Actor)
		v.Name, err = s.Name, e
	}
	if problem.Refusal(err) { // they are gone
		v.Name, err = r.Actor, nil
	}
	return v, err
}

// resolve carries out what the operation's action and kind say. span is how long
// somebody's word counts, where it does.
func (a *API) resolve(ctx context.Context, c *call, id, reason string, span time.Duration) (*reviewOut, error) {
	r, err := a.Reviews.Review(ctx, id)
	if err != nil {
		return nil, err
	}
	x := review.Resolution{Review: r, Action: c.op.action, By: c.Person.ID, Note: reason, For: span}
	if err := x.Check(); err != nil {
		return nil, err
	}
	now := a.now()
	list, _ := x.Changes(now)
	ch := change{
		said:  x.Said(now),
		check: func(ctx context.Context) error { return review.MayResolve(ctx, a.Reviews, r, c.Person.ID) },
		make:  func(*act.Facts) ([]act.Change, error) { return list, nil },
	}
	if r.Kind == policy.KindPerson {
		ch.target, ch.whom = []string{r.Actor}, r.Actor
	}
	if _, err := a.carryOut(ctx, c, ch); err != nil {
		return nil, err
	}
	return a.showReview(ctx, r.ID)
}
