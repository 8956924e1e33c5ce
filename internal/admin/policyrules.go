package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// PolicyRule is one policy of a version.
type PolicyRule struct {
	ID      string          `json:"id"`
	File    string          `json:"file" doc:"That it stands in; host.cedar is part of every version"`
	Line    int             `json:"line"`
	Effect  string          `json:"effect" enum:"permit,forbid"`
	Mode    string          `json:"mode" enum:"enforce,monitor" doc:"monitor: it takes no part in the answer"`
	Reason  string          `json:"reason" doc:"For the signed-in person, administrators and the log"`
	Public  string          `json:"public_reason,omitempty" doc:"For callers"`
	Owner   string          `json:"owner,omitempty" doc:"Who answers for it"`
	Review  string          `json:"review,omitempty" doc:"The date by which it is looked at again, YYYY-MM-DD"`
	Due     string          `json:"due,omitempty" enum:"soon,overdue" doc:"How that stands now: soon is within 30 days"`
	Actions []policy.Action `json:"actions" nullable:"false" doc:"That it speaks of"`
}

// Owner is who answers for a policy.
type Owner struct {
	Policy string `json:"policy"`
	Owner  string `json:"owner"`
}

type (
	policyRulesOut struct {
		Body struct {
			Version int64        `json:"version"`
			Items   []PolicyRule `json:"items" nullable:"false"`
		}
	}
	monitoredIn struct {
		Since  time.Time `query:"since" doc:"Only what was decided from then on; seven days ago if left out"`
		Before string    `query:"before" maxLength:"64" doc:"The next of the page before"`
		Limit  int       `query:"limit" minimum:"1" maximum:"5000" default:"2000" doc:"How many records are looked at"`
	}
	monitoredOut struct{ Body replay.Monitored }
)

// monitoredSpan is how far back is looked where nobody says.
const monitoredSpan = 7 * 24 * time.Hour

func (a *API) policyRules() {
	const tag = "policies"
	register(a, operation{
		id: "list-policy-rules", method: http.MethodGet, path: "/v1/policies/{version}/rules", summary: "List the rules of a version of the policies, with who answers for each and when it is looked at again", tag: tag,
		scope: ScopeRead, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, a.listPolicyRules)
	register(a, operation{
		id: "read-monitored", method: http.MethodGet, path: "/v1/policies/monitored", summary: "Read what the rules in mode monitor would have done, newest records first", tag: tag,
		scope: ScopeRead, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, a.readMonitored)
}

func (a *API) listPolicyRules(ctx context.Context, _ *call, in *policyIn) (*policyRulesOut, error) {
	set, err := a.Book.Read(ctx, in.Version)
	if problem.Refusal(err) || errors.Is(err, problem.Unavailable) { // there is none, or the store is away
		return nil, err
	}
	if err != nil {
		return nil, problem.Newf(problem.Unavailable, "policy_unavailable", "Version %d of the policies cannot be read by this server.", in.Version).Because(err)
	}
	out := &policyRulesOut{}
	out.Body.Version, out.Body.Items = in.Version, []PolicyRule{}
	now := a.now()
	for _, p := range set.Policies() {
		mode := "enforce"
		if p.Monitor {
			mode = "monitor"
		}
		out.Body.Items = append(out.Body.Items, PolicyRule{
			ID: p.ID, File: p.File, Line: p.Line, Effect: p.Effect, Mode: mode, Reason: p.Reason, Public: p.Public,
			Owner: p.Owner, Review: p.Review, Due: p.Due(now).String(), Actions: append([]policy.Action{}, p.Actions...),
		})
	}
	return out, nil
}

// readMonitored gives a page. It names people, so it takes what reading people takes.
func (a *API) readMonitored(ctx context.Context, c *call, in *monitoredIn) (*monitoredOut, error) {
	if err := a.may(ctx, c, policy.PersonRead, audit.TokenRefused, "", ScopeRead); err != nil {
		return nil, err
	}
	since := in.Since
	if since.IsZero() {
		since = a.now().Add(-monitoredSpan)
	}
	page, err := a.Log.Monitored(ctx, since, in.Before, in.Limit)
	return &monitoredOut{page}, err
}

// owned says of explanations who answers for their policies: as the set in force says,
// or the one that is being rolled out. Whoever sees the ids of policies may know;
// callers see neither (mechanisms A10). Policies that cannot be read are nobody's.
func (a *API) owned(ctx context.Context, lines []Line) error {
	sets, err := a.setsInUse(ctx)
	if err != nil {
		return err
	}
	for i := range lines {
		l := &lines[i]
		for _, id := range l.Policies {
			if slices.ContainsFunc(l.Owners, func(o Owner) bool { return o.Policy == id }) {
				continue
			}
			for _, set := range sets {
				if owner := set.OwnerOf(id); owner != "" {
					l.Owners = append(l.Owners, Owner{id, owner})
					break
				}
			}
		}
	}
	return nil
}

// setsInUse are the set in force and, while one runs, that of a rollout, as far as they
// can be read.
func (a *API) setsInUse(ctx context.Context) (out []*policy.Set, err error) {
	n, err := a.Policies.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	if set, err := a.Book.Set(ctx, n); err == nil {
		out = append(out, set)
	}
	rolled, err := a.Rollouts.Rollouts(ctx, 0, 1)
	if err != nil {
		return nil, err
	}
	if len(rolled) > 0 && rolled[0].State == ruleset.Open {
		if set, err := a.Book.Candidate(ctx, rolled[0].N); err == nil {
			out = append(out, set)
		}
	}
	return out, nil
}
