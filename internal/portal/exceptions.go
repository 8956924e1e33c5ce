package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/web"
)

// exceptionsRoutes is the page of the rules that are waived. It changes nothing: an
// exception is part of the policies, which are published with a proof of their own.
func (s *Server) exceptionsRoutes(handle func(string, web.Handler)) {
	if s.Rollouts != nil {
		handle("GET "+view.PathExceptions, s.signedIn(s.allExceptions))
	}
}

// allExceptions lists the exceptions of the policies in force, and of those that are
// being rolled out. It names people, so to see it takes what reading people takes.
func (s *Server) allExceptions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "exceptions"); !ok {
		return err
	}
	ctx := r.Context()
	var m view.Exceptions
	last, err := s.Rollouts.Book.Store.Rulesets(ctx, 0, 1)
	if err != nil {
		return err
	}
	if len(last) > 0 {
		m.Version, m.PublishedAt = last[0].N, last[0].PublishedAt
		if last[0].By != "" {
			if m.By, err = s.nameOf(ctx, last[0].By); err != nil {
				return err
			}
		}
	}
	set, err := s.Rollouts.Book.Set(ctx, m.Version)
	if err != nil {
		return err
	}
	rows, err := s.waived(ctx, set)
	if err != nil {
		return err
	}
	over := slices.IndexFunc(rows, func(x view.WaivedRule) bool { return x.State == view.WaivedOver })
	if over < 0 {
		over = len(rows)
	}
	m.InForce, m.Ended = rows[:over], rows[over:]
	if m.Rollout, err = s.waivedByRollout(ctx); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathExceptions, m)
}

// waivedByRollout are the exceptions that a rollout brings, nil if none runs.
func (s *Server) waivedByRollout(ctx context.Context) (*view.RolloutExceptions, error) {
	last, err := s.Rollouts.Store.Rollouts(ctx, 0, 1)
	if err != nil || len(last) == 0 || last[0].State != ruleset.Open {
		return nil, err
	}
	ro := &last[0]
	out := &view.RolloutExceptions{Number: ro.N, PageURL: shownRollout(ro.N)}
	var groups []string
	for i := range ro.Waves {
		if ro.Plan().Enforced(i, s.now()) {
			groups = append(groups, whoIn(&ro.Waves[i]))
		}
	}
	out.For = strings.Join(groups, ", ")
	set, err := s.Rollouts.Book.Candidate(ctx, ro.N)
	if err != nil {
		out.Broken = true // as the page of rollouts says
		return out, nil
	}
	out.Items, err = s.waived(ctx, set)
	for i := range out.Items {
		if len(groups) == 0 && out.Items[i].State != view.WaivedOver {
			out.Items[i].State = view.WaivedLater
		}
	}
	return out, err
}

// waived are the exceptions of a set: those in force first, the soonest over before the
// others, then those that have ended, the latest first.
func (s *Server) waived(ctx context.Context, set *policy.Set) ([]view.WaivedRule, error) {
	reasons := map[string]string{}
	for _, p := range set.Policies() {
		reasons[p.ID] = p.Reason
	}
	now := s.now()
	var out []view.WaivedRule
	for _, e := range set.Exceptions() {
		x := view.WaivedRule{ID: e.ID, RuleID: e.Rule, Rule: reasons[e.Rule], Instead: policy.Words(e.Instead()), Why: e.Reason, Owner: e.Owner, Until: e.Until}
		switch e.Due(now) {
		case policy.Overdue:
			x.State = view.WaivedOver
		case policy.Soon:
			x.State = view.WaivedSoon
		}
		if err := s.whom(ctx, e.For, &x); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b view.WaivedRule) int {
		over, other := a.State == view.WaivedOver, b.State == view.WaivedOver
		switch {
		case over && other:
			return b.Until.Compare(a.Until)
		case over:
			return 1
		case other:
			return -1
		}
		return a.Until.Compare(b.Until)
	})
	return out, nil
}

// whom fills in for whom an exception is, or whom a rule would have met. Whoever was
// erased has no name any more.
func (s *Server) whom(ctx context.Context, who string, x *view.WaivedRule) error {
	if name, ok := strings.CutPrefix(who, "group:"); ok {
		x.Whom, x.Kind = name, "group"
		g, err := s.Store.GroupByName(ctx, name)
		x.Gone = problem.Refusal(err) || err == nil && !g.Node.Live()
		return orNothing(err, nil)
	}
	if strings.HasPrefix(who, "svc_") {
		v, err := s.Store.Service(ctx, who)
		x.Whom, x.Kind, x.Gone = v.Name, "service", problem.Refusal(err) || err == nil && !v.Node.Live()
		if problem.Refusal(err) {
			x.Whom = who
		}
		return orNothing(err, nil)
	}
	p, err := s.Store.Person(ctx, who)
	x.Whom, x.Kind, x.Gone = p.Name, "person", problem.Refusal(err) || err == nil && !p.Node.Live()
	if problem.Refusal(err) {
		x.Whom = "an erased person"
	}
	return orNothing(err, nil)
}
