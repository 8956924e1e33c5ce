// Package review owns reviews: what a decision refused and asked somebody to look
// at, until an administrator has said what it was. It owns when one is opened, how
// many there may be, and what a resolution does. That something is refused is
// policy's; a resolution lowers no rule of it.
package review

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/risk"
)

// State is how a review stands.
type State string

// The states. Every one but Open is for good.
const (
	Open    State = "open"
	Allowed State = "allowed" // it was them: what is unusual there counts as high at most, for a while
	Refused State = "refused" // it was not them
	Closed  State = "closed"  // nothing follows
)

// States lists them.
var States = []State{Open, Allowed, Refused, Closed}

const (
	// MaxOpen is how many reviews of one actor are open at most. What is refused
	// beyond stands in the log alone.
	MaxOpen = 16
	// MaxAllow is how long the word of an administrator counts at most.
	MaxAllow = 24 * time.Hour
	// Life is how long a review that is over is kept.
	Life = 400 * 24 * time.Hour
)

// Review is what was refused to one actor, of one action through one client, as
// often as it was until somebody looked.
type Review struct {
	ID       string
	Kind     string // of the actor: policy.KindPerson, …
	Actor    string
	Client   string // by id, "" if none
	Action   policy.Action
	State    State
	Count    int64  // refusals
	Ref      string // of the first request, "" if there was none
	Record   string // of its refusal
	OpenedAt time.Time
	LastAt   time.Time // of the last refusal
	Seen     Evidence
	By       string // who resolved it
	Note     string // in their words
	OverAt   time.Time
	Until    time.Time // Allowed: until when
}

// Evidence is what the first refusal saw.
type Evidence struct {
	Code     string   `json:"code"`
	Reasons  []Reason `json:"reasons,omitempty"`
	Score    int      `json:"score,omitempty"`
	Band     string   `json:"band,omitempty"` // "" if no risk was scored
	Terms    []Term   `json:"terms,omitempty"`
	Network  string   `json:"network,omitempty"`
	Device   string   `json:"device,omitempty"` // that was shown
	Session  string   `json:"session,omitempty"`
	Grant    string   `json:"grant,omitempty"`
	Resource string   `json:"resource,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	Methods  []string `json:"methods,omitempty"`
}

// Reason is a policy that refused, or what was unusual, in words.
type Reason struct {
	Policy string `json:"policy,omitempty"`
	Text   string `json:"text"`
}

// Term is a risk.Term as it is kept.
type Term struct {
	Signal string `json:"signal"`
	Points int    `json:"points"`
	Words  string `json:"words"`
}

// ByRisk reports whether it was refused for its risk, which an administrator can
// vouch for. What a rule refuses is made possible by an exception to that rule.
func (r Review) ByRisk() bool { return r.Seen.Band == risk.Extreme && r.Seen.Code == policy.CodeDenied }

// Vouches reports whether an administrator's word holds now for a use: of the same
// device, if one was shown, and from the same network, or through the same client
// where the network is not known; and only while nothing speaks against it that they
// did not see. The time of day and the age of a token come by themselves.
func (r Review) Vouches(client string, o act.Origin, a risk.Assessment, at time.Time) bool {
	if r.State != Allowed || !at.Before(r.Until) || r.Seen.Device != "" && r.Seen.Device != o.Device {
		return false
	}
	for _, t := range a.Terms {
		seen := func(s Term) bool { return s.Signal == string(t.Signal) }
		if t.Points > 0 && t.Signal != risk.UnusualHour && t.Signal != risk.OldToken && !slices.ContainsFunc(r.Seen.Terms, seen) {
			return false
		}
	}
	if r.Seen.Network != "" {
		return o.Network == r.Seen.Network
	}
	return o.Network == "" && client == r.Client
}

// Opens opens a review: problem.Conflict if one of the like is open (review_open),
// or as many as an actor may have (review_full).
type Opens struct{ Review }

// Again counts a refusal on the review that is open of the like; nothing where there
// is none.
type Again struct {
	Actor, Client string
	Action        policy.Action
}

// Resolve ends a review that is open; problem.Conflict (review_over) if it is not.
type Resolve struct {
	ID    string
	State State
	By    string
	Note  string
	Until time.Time // of Allowed
}

// Change marks Opens as a change.
func (Opens) Change() {}

// Change marks Again as a change.
func (Again) Change() {}

// Change marks Resolve as a change.
func (Resolve) Change() {}

// Store reads reviews.
type Store interface {
	// Review gives one; problem.NotFound (review_not_found).
	Review(ctx context.Context, id string) (Review, error)
	// Reviews lists those of a state ("": all), newest first, those below before; ""
	// begins with the newest.
	Reviews(ctx context.Context, s State, before string, n int) ([]Review, error)
	// ReviewsOf lists those of an actor that are open or Allowed until after at.
	ReviewsOf(ctx context.Context, actor string, at time.Time) ([]Review, error)
	// ServiceOwner is the person who answers for a service, "" if there is none.
	ServiceOwner(ctx context.Context, service string) (string, error)
	// OtherAdministrators reports whether anybody else who is live administers.
	OtherAdministrators(ctx context.Context, person string) (bool, error)
}

// Book keeps reviews; it implements act.Reviews.
type Book struct{ Store Store }

var _ act.Reviews = Book{}

// Again implements act.Reviews.
func (Book) Again(r act.Refusal) act.Change { return Again{r.Actor, r.Client, r.Action} }

// Opening implements act.Reviews.
func (b Book) Opening(ctx context.Context, r act.Refusal) (string, act.Change, map[string]any, error) {
	list, err := b.Store.ReviewsOf(ctx, r.Actor, r.At)
	if err != nil {
		return "", nil, nil, err
	}
	open := 0
	for _, x := range list {
		if x.State != Open {
			continue
		}
		if open++; x.Client == r.Client && x.Action == r.Action {
			return x.ID, nil, nil, nil
		}
	}
	if open >= MaxOpen {
		return "", nil, nil, nil
	}
	v := of(r)
	said := map[string]any{"review": v.ID, "action": string(v.Action), "record": v.Record}
	if v.Ref != "" {
		said["ref"] = v.Ref
	}
	if v.Client != "" {
		said["client"] = v.Client
	}
	if v.Kind != policy.KindPerson {
		said["service"] = v.Actor
	}
	return v.ID, Opens{v}, said, nil
}

// of is the review that a refusal opens.
func of(r act.Refusal) Review {
	v := Review{
		ID: id.New(id.Review), Kind: r.Kind, Actor: r.Actor, Client: r.Client, Action: r.Action, State: Open, Count: 1,
		Ref: r.Ref, Record: r.Record, OpenedAt: r.At, LastAt: r.At,
		Seen: Evidence{
			Code: r.Code, Score: r.Risk.Score, Band: r.Risk.Band, Network: r.From.Network, Device: r.From.Device,
			Session: r.Session, Grant: r.Grant, Resource: r.Resource, ACR: r.ACR, Methods: r.Methods,
		},
	}
	for _, x := range r.Reasons {
		if x.Policy != "" { // what is unusual stands in the terms
			v.Seen.Reasons = append(v.Seen.Reasons, Reason{x.Policy, x.Text})
		}
	}
	for _, t := range r.Risk.Terms {
		v.Seen.Terms = append(v.Seen.Terms, Term{string(t.Signal), t.Points, t.Words})
	}
	return v
}

// Vouched implements act.Reviews.
func (b Book) Vouched(ctx context.Context, actor, client string, o act.Origin, a risk.Assessment, at time.Time) (string, error) {
	list, err := b.Store.ReviewsOf(ctx, actor, at)
	if err != nil {
		return "", err
	}
	for _, r := range list {
		if r.Vouches(client, o, a, at) {
			return fmt.Sprintf("An administrator looked at this and said, until %s, that it is this account itself (%s).", r.Until.UTC().Format("15:04 UTC on 2 January"), r.ID), nil
		}
	}
	return "", nil
}
