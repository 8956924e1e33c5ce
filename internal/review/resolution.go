package review

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
)

// Resolution is what an administrator makes of a review: one of the actions
// ReviewAllow, ReviewEnd, PersonDisable (it was not them, and they are stopped until
// somebody enables them) and ReviewClose.
type Resolution struct {
	Review Review
	Action policy.Action
	By     string
	Note   string
	For    time.Duration // ReviewAllow: how long it counts
}

// Over says that somebody has resolved a review.
var Over = problem.New(problem.Conflict, "review_over", "Somebody has resolved this already.")

// Check refuses what makes no sense of its review, in words.
func (x Resolution) Check() error {
	note := strings.TrimSpace(x.Note)
	allow := x.Action == policy.ReviewAllow
	switch {
	case x.Review.State != Open:
		return Over
	case !utf8.ValidString(note) || utf8.RuneCountInString(note) > 200 || strings.ContainsFunc(note, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }):
		return problem.New(problem.Invalid, "reason_invalid", "A reason has at most 200 characters, and no control characters.")
	case allow && note == "":
		return problem.New(problem.Invalid, "reason_missing", "Say how you know that it was them.")
	case allow && !x.Review.ByRisk():
		return problem.New(problem.Conflict, "review_not_by_risk", "This was not refused for its risk, so nobody can vouch for it.").
			WithHint("What a rule refuses is made possible by an exception to that rule, in the policies. Close the review.")
	case allow && (x.For < time.Minute || x.For > MaxAllow):
		return problem.Newf(problem.Invalid, "duration_invalid", "It counts for at least a minute and at most %d hours.", int(MaxAllow.Hours()))
	case x.Action == policy.PersonDisable && x.Review.Kind != policy.KindPerson:
		return problem.New(problem.Conflict, "review_no_person", "Only people are disabled.").WithHint("Disable the client, or change its secret: countersign client --help")
	case x.Action == policy.PersonDisable && x.Review.Actor == x.By:
		return problem.New(problem.Conflict, "self_disable", "You can't disable yourself.").WithHint("Ask another administrator to do it.")
	}
	return nil
}

// Changes are what it changes, and what is done by it beside, in words for the
// record; "" if nothing is. Of a service that it was not, nothing ends by itself: its
// client has a secret to change.
func (x Resolution) Changes(now time.Time) (list []act.Change, done string) {
	c := Resolve{ID: x.Review.ID, By: x.By, Note: strings.TrimSpace(x.Note)}
	switch person := x.Review.Kind == policy.KindPerson; x.Action {
	case policy.ReviewAllow:
		c.State, c.Until = Allowed, now.Add(x.For)
	case policy.ReviewEnd:
		c.State = Refused
		if person {
			list, done = append(list, recovery.EndAll{Person: x.Review.Actor, Why: "review"}), "everything that was signed in ended"
		}
	case policy.PersonDisable:
		c.State = Refused
		list = append(list, lineage.Freeze{ID: x.Review.Actor, Why: "disabled"})
	default:
		c.State = Closed
	}
	return append(list, c), done
}

// Said is what the record says of it to whom it concerns. Of a service it stands in
// the clear, so the note is not in it: the review keeps that.
func (x Resolution) Said(now time.Time) map[string]any {
	said := map[string]any{"review": x.Review.ID, "action": string(x.Review.Action)}
	for name, v := range map[string]string{"ref": x.Review.Ref, "client": x.Review.Client} {
		if v != "" {
			said[name] = v
		}
	}
	if note := strings.TrimSpace(x.Note); note != "" && x.Review.Kind == policy.KindPerson {
		said["reason"] = note
	}
	if x.Action == policy.ReviewAllow {
		said["until"] = now.Add(x.For).UTC().Format("15:04 UTC on 2 January 2006")
	}
	if _, done := x.Changes(now); done != "" {
		said["done"] = done
	}
	if x.Review.Kind != policy.KindPerson {
		said["service"] = x.Review.Actor
	}
	return said
}

// MayResolve says why an administrator may not resolve a review, nil if they may:
// their own, and that of a service they answer for, is for another one, if there is any.
// That they are one is policy's.
func MayResolve(ctx context.Context, s Store, r Review, by string) error {
	whose := r.Actor
	if r.Kind == policy.KindService {
		owner, err := s.ServiceOwner(ctx, r.Actor)
		if err != nil {
			return err
		}
		whose = owner
	}
	if whose != by {
		return nil
	}
	others, err := s.OtherAdministrators(ctx, by)
	if err == nil && others {
		err = problem.New(problem.Denied, "review_own", "This is about you, or a service of yours: another administrator has to look at it.")
	}
	return err
}
