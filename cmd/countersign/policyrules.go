package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// policyRule is a rule of a version as the server lists it.
type policyRule struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Mode   string `json:"mode"`
	Reason string `json:"reason"`
	Owner  string `json:"owner"`
	Review string `json:"review"`
	Due    string `json:"due"`
}

// rules reads those of the version in force.
func (x *api) rules(ctx context.Context) (version int64, raw []json.RawMessage, rules []policyRule, err error) {
	if version, err = x.head(ctx); err != nil {
		return 0, nil, nil, err
	}
	r, err := x.do(ctx, http.MethodGet, "/policies/"+strconv.FormatInt(version, 10)+"/rules", nil, "")
	if err != nil {
		return 0, nil, nil, err
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	if json.Unmarshal(r.body, &page) != nil {
		return 0, nil, nil, badPolicies()
	}
	for _, item := range page.Items {
		var p policyRule
		if json.Unmarshal(item, &p) != nil {
			return 0, nil, nil, badPolicies()
		}
		rules = append(rules, p)
	}
	return version, page.Items, rules, nil
}

func (a *app) policyRules() *cobra.Command {
	var due bool
	c := &cobra.Command{
		Use:   "rules",
		Short: "List the rules in force: who answers for each, and when it is looked at again",
		Long: `List the rules of the policies in force: the file that each stands in, whether it is
enforced or in monitor, who answers for it (@owner), and the date by which it is looked
at again (@review). With --due only those whose date has passed or comes within 30
days, the longest overdue first.`,
		Example: "  countersign policy rules --due",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&due, "due", false, "only rules whose review is overdue, or comes within 30 days")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		version, raw, rules, err := x.rules(ctx)
		if err != nil {
			return err
		}
		order := make([]int, 0, len(rules))
		for i := range rules {
			if !due || rules[i].Due != "" {
				order = append(order, i)
			}
		}
		if due {
			slices.SortStableFunc(order, func(i, j int) int { return strings.Compare(rules[i].Review, rules[j].Review) })
		}
		items, rows := []json.RawMessage{}, [][]string{}
		for _, i := range order {
			p := &rules[i]
			review := p.Review
			if p.Due != "" {
				review += " (" + p.Due + ")"
			}
			items = append(items, raw[i])
			rows = append(rows, []string{p.ID, p.File, p.Mode, p.Owner, review, p.Reason})
		}
		if a.json {
			return a.document("policy.rules/v1", map[string]any{"version": version, "items": items})
		}
		if due && len(rows) == 0 {
			a.say("No rule of version %d is to be looked at within 30 days.", version)
			return nil
		}
		a.table([]string{"ID", "FILE", "MODE", "OWNER", "REVIEW", "REASON"}, rows)
		return nil
	})
	return c
}

// dueRule is a rule of a directory whose review is due.
type dueRule struct {
	Policy string `json:"policy"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Owner  string `json:"owner,omitempty"`
	Review string `json:"review"`
	Due    string `json:"due"`
}

// dueIn are the rules of a set whose review is overdue or comes soon, and the exceptions
// that end soon.
func (a *app) dueIn(set *policy.Set) (rules []dueRule, ending []policy.Exception) {
	rules, now := []dueRule{}, a.now()
	for _, p := range set.Reviews(now) {
		rules = append(rules, dueRule{p.ID, p.File, p.Line, p.Owner, p.Review, p.Due(now).String()})
	}
	return rules, append([]policy.Exception{}, set.Ending(now)...)
}

// remind says what is due of a set. It is no failure.
func (a *app) remind(rules []dueRule, ending []policy.Exception) {
	ask := func(owner string) string {
		if owner == "" {
			return "."
		}
		return "; ask " + owner + "."
	}
	for _, r := range rules {
		how := "is to be looked at by " + r.Review
		if r.Due == policy.Overdue.String() {
			how = "was to be looked at by " + r.Review
		}
		a.say("warning: %s", clean(fmt.Sprintf("%s:%d: %s %s%s", r.File, r.Line, r.Policy, how, ask(r.Owner))))
	}
	for _, e := range ending {
		a.say("warning: %s", clean(fmt.Sprintf("the exception %s ends on %s%s", e.ID, e.Until.UTC().Format("2006-01-02 15:04 UTC"), ask(e.Owner))))
	}
}

func (a *app) policyMonitored() *cobra.Command {
	var since time.Duration
	var top int
	c := &cobra.Command{
		Use:   "monitored",
		Short: "Say what the rules in mode monitor would have done",
		Long: `Say what the rules in mode monitor would have done in the last days, had they been
enforced: how many decisions each would have refused, asked a sign-in for, or allowed, of
how many people, and how often one of them would have met it on a day. The server tells it
out of its records, the newest first; what is only read is not among them. Rules that are
in force but not in monitor any more are shown as such.`,
		Example: "  countersign policy monitored --since 720h",
		Args:    cobra.NoArgs,
	}
	c.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back to look")
	c.Flags().IntVar(&top, "top", 20, "how many people's days to show")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if since <= 0 || top < 0 {
			return usage("--since is a length of time such as 168h, and --top not negative.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		_, _, rules, err := x.rules(ctx)
		if err != nil {
			return err
		}
		m := monitored{until: a.now().UTC(), rules: rules}
		m.since = m.until.Add(-since)
		if err := m.read(ctx, x); err != nil {
			return err
		}
		return m.print(ctx, x, top)
	})
	return c
}

// monitored is what rules in monitor would have done in a window.
type monitored struct {
	since, until time.Time
	rules        []policyRule // in force
	tally        replay.Tally
	records      int
	from         *time.Time // the oldest record that was looked at
}

// read reads it, page by page.
func (m *monitored) read(ctx context.Context, x *api) error {
	bar := progress{console: &x.app.console}
	defer bar.end()
	for before := ""; ; {
		q := url.Values{"since": {m.since.Format(time.RFC3339Nano)}, "limit": {strconv.Itoa(replayPage)}}
		if before != "" {
			q.Set("before", before)
		}
		r, err := x.do(ctx, http.MethodGet, "/policies/monitored?"+q.Encode(), nil, "")
		if err != nil {
			return err
		}
		var page replay.Monitored
		if json.Unmarshal(r.body, &page) != nil || page.Next != "" && before != "" && page.Next >= before {
			return &failure{exit: exitError, code: "bad_answer", message: "What the server says of monitored rules cannot be read."}
		}
		for _, w := range page.Items {
			m.tally.Add(w)
		}
		m.records += page.Read
		done := 1.0
		if page.From != nil {
			m.from = page.From
			if page.Next != "" {
				done = float64(m.until.Sub(*page.From)) / float64(m.until.Sub(m.since))
			}
		}
		bar.show(done, fmt.Sprintf("%d records", m.records))
		if before = page.Next; before == "" {
			return nil
		}
	}
}

// watches reports whether a rule is in monitor in the version in force.
func (m *monitored) watches(rule string) bool {
	return slices.ContainsFunc(m.rules, func(p policyRule) bool { return p.ID == rule && p.Mode == "monitor" })
}

// all are the rules that would have done something, and those in monitor that would not.
func (m *monitored) all() []replay.RuleWould {
	out := m.tally.Rules()
	for _, p := range m.rules {
		if p.Mode == "monitor" && !slices.ContainsFunc(out, func(r replay.RuleWould) bool { return r.Rule == p.ID }) {
			out = append(out, replay.RuleWould{Rule: p.ID})
		}
	}
	return out
}

func (m *monitored) print(ctx context.Context, x *api, top int) error {
	a, all, rows := x.app, m.all(), m.tally.Rows()
	slices.SortStableFunc(rows, func(p, q replay.Would) int { return q.Met() - p.Met() })
	if a.json {
		items := []map[string]any{}
		for _, r := range all {
			item := map[string]any{
				"rule": r.Rule, "monitored": m.watches(r.Rule), "denied": r.Denied, "prompted": r.Prompted, "allowed": r.Allowed, "people": r.People,
				"per_day": r.PerDay, "per_day_max": r.PerDayMax,
			}
			if r.Last != "" {
				item["last"], item["last_at"] = r.Last, r.LastAt
			}
			items = append(items, item)
		}
		return a.document("policy.monitored/v1", map[string]any{
			"since": m.since, "from": m.from, "records": m.records, "items": items, "rows": rows[:min(len(rows), maxReplayRows)], "cut": m.tally.Cut(),
		})
	}
	if len(all) == 0 {
		a.say("No rule is in mode monitor, and none would have done anything since %s.", m.since.Local().Format(time.DateTime))
		return nil
	}
	table := [][]string{}
	for _, r := range all {
		name := r.Rule
		if !m.watches(r.Rule) {
			name += " (not in monitor now)"
		}
		table = append(table, []string{name, strconv.Itoa(r.Denied), strconv.Itoa(r.Prompted), strconv.Itoa(r.Allowed), strconv.Itoa(r.People), fmt.Sprintf("%.1f, at most %d", r.PerDay, r.PerDayMax), r.Last})
	}
	a.table([]string{"RULE", "REFUSES", "ASKS", "ALLOWS", "PEOPLE", "OF ONE A DAY", "LAST RECORD"}, table)
	names, whom := map[string]string{}, [][]string{}
	for _, w := range rows[:min(top, len(rows))] {
		who := "(erased, or nobody)"
		if w.Who != "" {
			who = x.nameOf(ctx, names, w.Who)
		}
		whom = append(whom, []string{w.Day, who, w.Rule, strconv.Itoa(w.Denied), strconv.Itoa(w.Prompted), strconv.Itoa(w.Allowed)})
	}
	if len(whom) > 0 {
		fmt.Fprintln(a.out)
		a.table([]string{"DAY", "WHO", "RULE", "REFUSES", "ASKS", "ALLOWS"}, whom)
	}
	from := m.since
	if m.from != nil {
		from = *m.from
	}
	a.say("Out of %d records since %s. What is only read is not recorded.", m.records, from.Local().Format(time.DateTime))
	if m.tally.Cut() {
		a.say("There are more than can be counted by person; the totals are of all.")
	}
	return nil
}
