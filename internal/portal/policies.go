package portal

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/web"
)

// What the page tells of rules in mode monitor: of a week, out of so many of the newest
// records, with the people whom each would have met the most.
const (
	watchedSpan    = 7 * 24 * time.Hour
	watchedRecords = 20_000
	watchedWho     = 5
)

// policiesRoutes is the page of the rules. It changes nothing: policies are published
// with a proof of their own.
func (s *Server) policiesRoutes(handle func(string, web.Handler)) {
	if s.Rollouts != nil {
		handle("GET "+view.PathPolicies, s.signedIn(s.policies))
	}
}

// policies shows a version of the policies, that in force unless another one is asked
// for: its rules, and of those in monitor what they would have done. It names people, so
// to see it takes what reading people takes.
func (s *Server) policies(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "policies"); !ok {
		return err
	}
	ctx := r.Context()
	head, err := s.Rollouts.Book.Store.PolicyHead(ctx)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil || n < 0 {
		n = head
	}
	m, err := s.policyVersion(ctx, n, head)
	if err != nil {
		return err
	}
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err := s.pastPolicies(ctx, max(before, 0), n, head, &m); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathPolicies, m)
}

// policyVersion is the page of a version, but for the history.
func (s *Server) policyVersion(ctx context.Context, n, head int64) (m view.Policies, err error) {
	m.Version, m.InForce, m.Hash = n, n == head, policy.Builtin().Version()
	if n > 0 {
		v, err := s.Rollouts.Book.Store.Ruleset(ctx, n)
		if err != nil {
			return m, err
		}
		m.Hash, m.PublishedAt, m.Note, m.Restores = v.Hash, v.PublishedAt, v.Note, restored(&v)
		if m.By, err = s.publisher(ctx, v.By); err != nil {
			return m, err
		}
	}
	set, err := s.Rollouts.Book.Read(ctx, n)
	switch {
	case problem.Refusal(err) || errors.Is(err, problem.Unavailable):
		return m, err
	case err != nil: // damaged, or of another release
		m.Broken = true
		return m, nil
	}
	s.rulesOf(set, &m)
	if m.InForce {
		m.Watched, err = s.watched(ctx, set)
	}
	return m, err
}

// publisher is who published a version, by name; "" for the operator of the host.
func (s *Server) publisher(ctx context.Context, by string) (string, error) {
	if by == "" {
		return "", nil
	}
	return s.nameOf(ctx, by)
}

// restored names the version that one puts back, "" if it puts none back.
func restored(v *ruleset.Version) string {
	switch v.Of {
	case ruleset.NoVersion:
		return ""
	case 0:
		return "the default set"
	}
	return "version " + strconv.FormatInt(v.Of, 10)
}

// rulesOf fills in the rules of a set, by file, and those that are due.
func (s *Server) rulesOf(set *policy.Set, m *view.Policies) {
	now := s.now()
	row := func(p *policy.Policy) view.PolicyRule {
		due := map[policy.Due]view.RuleDue{policy.Soon: view.RuleSoon, policy.Overdue: view.RuleOverdue}[p.Due(now)]
		return view.PolicyRule{ID: p.ID, Text: p.Reason, Owner: p.Owner, Review: dayOf(p.Review), Due: due, Monitor: p.Monitor}
	}
	for _, p := range set.Reviews(now) {
		m.Due = append(m.Due, row(&p))
	}
	list := set.Policies()
	for i := range list {
		p := &list[i]
		if n := len(m.Files); n == 0 || m.Files[n-1].Name != p.File {
			m.Files = append(m.Files, view.PolicyFile{Name: p.File, Host: policy.OfHostFile(p.File)})
		}
		f := &m.Files[len(m.Files)-1]
		f.Rules = append(f.Rules, row(p))
	}
}

// dayOf is a day in UTC, YYYY-MM-DD; the zero time if there is none.
func dayOf(date string) time.Time {
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return time.Time{}
	}
	return t
}

// watched says what the rules of a set in mode monitor would have done. Where none is,
// the log is not looked at.
func (s *Server) watched(ctx context.Context, set *policy.Set) (*view.Watched, error) {
	m := &view.Watched{}
	texts, watches := map[string]string{}, map[string]bool{}
	for _, p := range set.Policies() {
		texts[p.ID] = p.Reason
		if p.Monitor {
			watches[p.ID] = true
		}
	}
	if len(watches) == 0 {
		return m, nil
	}
	page, err := s.Rollouts.Monitored(ctx, s.now().Add(-watchedSpan), "", watchedRecords)
	if err != nil {
		return nil, err
	}
	m.Looked, m.Part = page.Read, page.Next != ""
	if page.From != nil {
		m.Since = *page.From
	}
	var tally replay.Tally
	for _, w := range page.Items {
		tally.Add(w)
	}
	rows := tally.Rows()
	for _, r := range tally.Rules() {
		row := view.WatchedRule{
			ID: r.Rule, Text: texts[r.Rule], Gone: !watches[r.Rule], Denied: r.Denied, Prompted: r.Prompted, Allowed: r.Allowed, People: r.People,
			PerDay: r.PerDay, PerDayMax: r.PerDayMax, LastAt: r.LastAt, LastURL: withQuery(view.PathAudit, "before", r.Last+"~"), // from it on: it sorts behind it
		}
		delete(watches, r.Rule)
		if row.Whom, err = s.watchedWho(ctx, r.Rule, rows); err != nil {
			return nil, err
		}
		m.Rules = append(m.Rules, row)
	}
	for _, p := range set.Policies() {
		if watches[p.ID] {
			m.Rules = append(m.Rules, view.WatchedRule{ID: p.ID, Text: p.Reason})
		}
	}
	return m, nil
}

// watchedWho are those whom a rule would have met the most on a day, by name, out of rows
// in the order of a tally.
func (s *Server) watchedWho(ctx context.Context, rule string, rows []replay.Would) (out []view.WatchedWho, err error) {
	for _, w := range rows {
		if w.Rule != rule || w.Met() == 0 {
			continue
		}
		if len(out) == watchedWho {
			break
		}
		var who view.WaivedRule
		if err := s.whom(ctx, w.Who, &who); err != nil {
			return nil, err
		}
		out = append(out, view.WatchedWho{Name: who.Whom, Day: dayOf(w.Day), Times: w.Met()})
	}
	return out, nil
}

// pastPolicies adds the history: the versions below before, 0 being the newest.
func (s *Server) pastPolicies(ctx context.Context, before, shown, head int64, m *view.Policies) error {
	if head == 0 {
		return nil
	}
	list, err := s.Rollouts.Book.Store.Rulesets(ctx, before, perPage+1)
	if err != nil {
		return err
	}
	if shown > 0 {
		m.DefaultURL = withQuery(view.PathPolicies, "n", "0")
	}
	url := func(n int64) string { return withQuery(view.PathPolicies, "n", strconv.FormatInt(n, 10)) }
	if len(list) > perPage {
		list = list[:perPage]
		m.Older = withQuery(view.PathPolicies, "n", strconv.FormatInt(shown, 10), "before", strconv.FormatInt(list[perPage-1].N, 10))
	}
	if before > 0 {
		m.Newer = url(shown)
	}
	for i := range list {
		v := &list[i]
		row := view.PastPolicies{Version: v.N, Note: v.Note, PublishedAt: v.PublishedAt, Restores: restored(v), InForce: v.N == head, Shown: v.N == shown, URL: url(v.N)}
		if row.By, err = s.publisher(ctx, v.By); err != nil {
			return err
		}
		m.Past = append(m.Past, row)
	}
	return nil
}
