package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Line is a record of the log in words.
type Line struct {
	Seq       *int64    `json:"seq,omitempty" doc:"Index in the log; absent for the moment until it has one"`
	Ref       string    `json:"ref" doc:"The record's id"`
	At        time.Time `json:"at"`
	Kind      string    `json:"kind"`
	Sentence  string    `json:"sentence"`
	Who       string    `json:"who"`
	Assurance string    `json:"assurance,omitempty" doc:"What who acted had reached"`
	Proofs    string    `json:"proofs,omitempty" doc:"How"`
	Refused   bool      `json:"refused,omitempty"`
	Reason    string    `json:"reason,omitempty" doc:"What policy decided: allow, step_up or deny"`
	Code      string    `json:"code,omitempty" doc:"Of a refusal"`
	Policies  []string  `json:"policies,omitempty" doc:"That decided, or asked for proof, by id"`
	Why       []string  `json:"why,omitempty" doc:"Why it was refused or asked for, in words"`
	Needs     string    `json:"needs,omitempty" doc:"What would have done"`
	Monitored string    `json:"monitored,omitempty" doc:"What the rules in mode monitor would have made of it, and which, as in deny: no-nights; absent: the same"`
	Rollout   string    `json:"rollout,omitempty" doc:"What a rollout made of it: its number and wave, whether it was enforced, and the answer that was not given"`
	Owners    []Owner   `json:"owners,omitempty" doc:"Of an explanation: who answers for the policies, as those in force say"`
	Device    string    `json:"device,omitempty" enum:"managed,known,unknown" doc:"What was known of the device of who acted"`
	ProvedAgo *int64    `json:"proved_ago,omitempty" doc:"How many seconds before it they had proved themselves"`
	TokenAge  *int64    `json:"token_age,omitempty" doc:"How many seconds old the access token was that they came with"`
	Risk      string    `json:"risk,omitempty" enum:"medium,high,extreme" doc:"The band, where it was not low"`
	Signals   []string  `json:"signals,omitempty" doc:"What made it so"`
	Request   string    `json:"request_ref,omitempty" doc:"Reference of the request, of what was refused"`
	Review    string    `json:"review,omitempty" doc:"That was opened of it"`
}

// viewLine is a line as the API shows it.
func viewLine(l audit.Line) Line {
	v := Line{
		Ref: l.ID, At: l.At, Kind: l.Kind.Name(), Sentence: l.Sentence, Who: l.Actor, Assurance: l.Assurance, Proofs: l.Proofs, Refused: l.Refused, Reason: l.Outcome,
		Code: l.Code, Policies: l.Reasons, Why: l.Why, Needs: l.Needs, Device: l.Shown.Device, Risk: l.Risk, Signals: l.Signals, Request: l.Ref, Review: l.Review,
		Monitored: l.Monitored, Rollout: l.Rollout,
	}
	if l.Seq >= 0 {
		seq := l.Seq
		v.Seq = &seq
	}
	seconds := func(d time.Duration) *int64 {
		n := int64(d / time.Second)
		return &n
	}
	if l.Shown.Device != "" && l.Shown.ProvedAgo >= 0 {
		v.ProvedAgo = seconds(l.Shown.ProvedAgo)
	}
	if l.Shown.HasToken {
		v.TokenAge = seconds(l.Shown.TokenAge)
	}
	return v
}

type (
	logIn struct {
		Before string `query:"before" maxLength:"64" doc:"The next of the page before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
		Person string `query:"person" maxLength:"64" doc:"Only what concerns this person"`
		Kind   string `query:"kind" maxLength:"400" doc:"Only these kinds, separated by commas, e.g. session.opened"`
	}
	logOut struct{ Body Page[Line] }
)

func (a *API) log() {
	register(a, operation{
		id: "read-log", method: http.MethodGet, path: "/v1/audit", summary: "Read the log, newest first", tag: "audit",
		scope: ScopeRead, action: policy.AuditRead, kind: audit.TokenRefused,
	}, a.readLog)
	register(a, operation{
		id: "explain", method: http.MethodGet, path: "/v1/explanations/{ref}", tag: "audit",
		summary: "Why a request was refused or asked for proof: your own, or for administrators with admin:read anybody's",
		scope:   ScopeSelf, action: policy.SelfRead, kind: audit.TokenRefused, own: true,
	}, a.explain)
}

type (
	explainIn struct {
		Ref string `path:"ref" pattern:"^[0-9A-Fa-f]{6}$" doc:"Reference of the request, as in Countersign-Ref" example:"7F3A9C"`
	}
	explainOut struct{ Body Page[Line] }
)

// explainMost is how many lines explain a reference at most, which after months may be
// that of more than one request; explainScan how many records are looked through of
// those that were written before references were kept beside them.
const (
	explainMost = 50
	explainScan = 20000
)

// explain gives what the log says of a request that was refused. Whoever is no
// administrator gets what concerns themselves.
func (a *API) explain(ctx context.Context, c *call, in *explainIn) (*explainOut, error) {
	ref := strings.ToUpper(in.Ref)
	items, err := a.referred(ctx, ref, c.Person.ID)
	if err == nil && len(items) == 0 && c.facts.Input.Principal.In(policy.Administrators) {
		if err := a.may(ctx, c, policy.AuditRead, audit.TokenRefused, "", ScopeRead); err != nil {
			return nil, err
		}
		items, err = a.referred(ctx, ref, "")
	}
	if err == nil && len(items) == 0 {
		err = problem.New(problem.NotFound, "ref_unknown", "Nothing of late that concerns you was refused under this reference.").
			WithHint("Only what this server refused or asked proof for is kept under its reference: what an API refused by itself is in that API's log. Administrators may ask for anybody's, with admin:read.")
	}
	if err != nil {
		return nil, err
	}
	if err := a.owned(ctx, items); err != nil {
		return nil, err
	}
	return &explainOut{Page[Line]{Items: items}}, nil
}

// referred finds the records of a request; person "": anybody's.
func (a *API) referred(ctx context.Context, ref, person string) ([]Line, error) {
	out := []Line{}
	list, since, err := a.Log.Referred(ctx, ref, person, explainMost)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		if l.Ref == ref { // the record's own word counts
			out = append(out, viewLine(l))
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	q := LogQuery{Person: person, Before: since}
	for looked := 0; looked < explainScan; {
		const step = 500
		lines, next, err := a.Log.AuditPage(ctx, q, step)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l.Ref == ref {
				out = append(out, viewLine(l))
			}
		}
		if next == "" || len(out) > 0 { // the records of one request stand together
			break
		}
		looked, q.Before = looked+max(len(lines), 1), next
	}
	return out, nil
}

func (a *API) readLog(ctx context.Context, _ *call, in *logIn) (*logOut, error) {
	q := LogQuery{Person: in.Person, Before: in.Before}
	if in.Kind != "" {
		for name := range strings.SplitSeq(in.Kind, ",") {
			k, ok := audit.KindOf(name)
			if !ok {
				return nil, problem.Newf(problem.Invalid, "kind_unknown", "There is no kind of record %.60q.", name)
			}
			q.Kinds = append(q.Kinds, k)
		}
	}
	lines, next, err := a.Log.AuditPage(ctx, q, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &logOut{Page[Line]{Items: []Line{}, Next: next}}
	for _, l := range lines {
		out.Body.Items = append(out.Body.Items, viewLine(l))
	}
	return out, nil
}
