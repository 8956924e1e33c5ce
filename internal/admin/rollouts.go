package admin

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// Rollouts reads rollouts, and who is ready for one.
type Rollouts interface {
	ruleset.RolloutStore
	// Readiness looks at the people behind after, at most n.
	Readiness(ctx context.Context, r *ruleset.Rollout, inForce, candidate *policy.Set, after string, n int) (ruleset.Readiness, error)
}

// WaveSpec is a wave of a rollout that is to begin.
type WaveSpec struct {
	Groups    []string  `json:"groups,omitempty" maxItems:"20" doc:"By name: their members, but for those of waves before"`
	Everybody bool      `json:"everybody,omitempty" doc:"Everybody who is in no wave before; only of the last"`
	From      time.Time `json:"from" doc:"From then on the policies decide for it, if the waves before are not held"`
	Prompts   int       `json:"prompts" minimum:"0" doc:"How often its people may be asked for more than the version in force asks, in any 24 hours"`
	Denials   int       `json:"denials" minimum:"0" doc:"How often they may be refused what it would not refuse"`
}

// RolloutSpec is a set that comes into force in waves.
type RolloutSpec struct {
	PolicySpec
	Waves []WaveSpec `json:"waves" minItems:"1" maxItems:"8" nullable:"false"`
}

// RolloutCost is what a rule cost somebody, within what is counted.
type RolloutCost struct {
	Person  string `json:"person,omitempty" doc:"Absent: they were erased, or whoever asks may not read people"`
	Rule    string `json:"rule"`
	Prompts int    `json:"prompts"`
	Denials int    `json:"denials"`
}

// Wave is a wave of a rollout.
type Wave struct {
	Wave int `json:"wave" doc:"From 1"`
	WaveSpec
	State string         `json:"state" enum:"waiting,enforced,held,behind" doc:"behind: a wave before it is held"`
	Held  string         `json:"held,omitempty" enum:"paused,undone,reverted" doc:"reverted: it took itself back"`
	Since *time.Time     `json:"since,omitempty" doc:"What came before is not counted"`
	Spent *policy.Budget `json:"spent,omitempty" doc:"What counts of the budget, in the last 24 hours: of what one person met, a share at most; absent once the rollout has ended"`
	Costs []RolloutCost  `json:"costs,omitempty" doc:"Whom it cost what, the most first, without the shares; absent in lists"`
}

// Rollout is a set on its way into force.
type Rollout struct {
	Rollout   int64      `json:"rollout"`
	State     string     `json:"state" enum:"open,finished,undone"`
	Hash      string     `json:"hash"`
	Note      string     `json:"note,omitempty"`
	After     int64      `json:"after" doc:"The version in force that it follows"`
	Version   int64      `json:"version,omitempty" doc:"The version that it became"`
	StartedBy string     `json:"started_by,omitempty" doc:"The person who signed it"`
	StartedAt time.Time  `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Revision  int64      `json:"revision" doc:"Moves with every change"`
	Record    string     `json:"record,omitempty" doc:"Of the act that started it, in the log"`
	SignedVersion
	Waves []Wave `json:"waves" nullable:"false"`
}

// RolloutStep says what is done with a rollout.
type RolloutStep struct {
	Revision int64 `json:"revision" minimum:"1" doc:"As it was seen; another one meanwhile is a conflict"`
	Wave     int   `json:"wave,omitempty" minimum:"0" maximum:"8" doc:"From 1. Absent: pause is of the first, and with it of all; undo is of the whole, for good"`
	Prompts  *int  `json:"prompts,omitempty" minimum:"0" doc:"Of resume, with denials: another budget"`
	Denials  *int  `json:"denials,omitempty" minimum:"0"`
}

// Unready is somebody in a wave who lacks what the policies would ask of them.
type Unready struct {
	Person string       `json:"person"`
	Name   string       `json:"name"`
	Wave   int          `json:"wave"`
	Gaps   []policy.Gap `json:"gaps" nullable:"false"`
}

// Readiness is a page of it.
type Readiness struct {
	Looked int       `json:"looked" doc:"People in waves of this page, ready or not"`
	Waves  []int     `json:"waves" nullable:"false" doc:"Of them, in each wave"`
	Items  []Unready `json:"items" nullable:"false" doc:"Of them, who is not ready"`
	Next   string    `json:"next,omitempty" doc:"What after has to be for the next page; absent on the last one"`
}

type (
	rolloutIn struct {
		Rollout int64 `path:"rollout" minimum:"1"`
	}
	rolloutOut struct{ Body Rollout }
	startIn    struct{ Body RolloutSpec }
	stepIn     struct {
		Rollout int64 `path:"rollout" minimum:"1"`
		Body    RolloutStep
	}
	readinessIn struct {
		PageParams
		Rollout int64 `path:"rollout" minimum:"1"`
	}
	readinessOut struct{ Body Readiness }
)

// maxCosts is how many costs of a wave are told.
const maxCosts = 50

func (a *API) rollouts() {
	const tag = "policies"
	register(a, operation{
		id: "list-rollouts", method: http.MethodGet, path: "/v1/rollouts", summary: "List the rollouts of policies, newest first", tag: tag,
		scope: ScopeRead, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, a.listRollouts)
	register(a, operation{
		id: "get-rollout", method: http.MethodGet, path: "/v1/rollouts/{rollout}", summary: "Read a rollout, with what each wave cost whom", tag: tag,
		scope: ScopeRead, service: ScopePolicies, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, c *call, in *rolloutIn) (*rolloutOut, error) {
		return a.readRollout(ctx, c, in.Rollout)
	})
	register(a, operation{
		id: "read-readiness", method: http.MethodGet, path: "/v1/rollouts/{rollout}/readiness", summary: "Read who lacks what a rollout would ask of them, by what they have enrolled", tag: tag,
		scope: ScopeRead, action: policy.PersonRead, kind: audit.TokenRefused,
	}, a.readReadiness)
	register(a, operation{
		id: "start-rollout", method: http.MethodPost, path: "/v1/rollouts", tag: tag,
		summary: "Put a set of policies in force wave by wave that a person has signed, or hand it in to be signed",
		scope:   ScopeWrite, service: ScopePolicies, action: policy.PolicySubmit, kind: audit.PolicySubmitted, status: http.StatusCreated,
		answers: map[int]reflect.Type{http.StatusOK: reflect.TypeFor[Rollout](), http.StatusCreated: reflect.TypeFor[Rollout](), http.StatusAccepted: reflect.TypeFor[Publication]()},
	}, a.startRollout)
	for verb, summary := range map[ruleset.Verb]string{
		ruleset.Pause:  "Put a wave of a rollout, and those behind it, into monitor for now",
		ruleset.Resume: "Let a wave of a rollout go on",
		ruleset.Undo:   "Take back a wave of a rollout and those behind it, or all of it",
		ruleset.Finish: "Put the policies of a rollout in force for all, as a version",
	} {
		register(a, operation{
			id: string(verb) + "-rollout", method: http.MethodPost, path: "/v1/rollouts/{rollout}/" + string(verb), summary: summary, tag: tag,
			scope: ScopeWrite, action: policy.PolicyPublish, kind: verb.Kind(),
		}, func(ctx context.Context, c *call, in *stepIn) (*rolloutOut, error) {
			return a.stepRollout(ctx, c, in.Rollout, verb, in.Body)
		})
	}
}

func (a *API) viewRollout(r *ruleset.Rollout, spent []policy.Spent) Rollout {
	out := Rollout{
		Rollout: r.N, State: string(r.State), Hash: r.Hash, Note: r.Note, After: r.Base, Version: r.Version, StartedBy: r.By, StartedAt: r.StartedAt,
		Revision: r.Revision, Record: r.Record, Waves: []Wave{}, SignedVersion: viewSigned(r.Publication, r.By, r.Carrier, r.Signature),
	}
	if !r.EndedAt.IsZero() {
		out.EndedAt = &r.EndedAt
	}
	for i := range r.Waves {
		w := &r.Waves[i]
		v := Wave{
			Wave: i + 1, WaveSpec: WaveSpec{Groups: w.Groups, Everybody: w.Rest, From: w.From, Prompts: w.Budget.Prompts, Denials: w.Budget.Denials},
			State: r.Plan().State(i, a.now()), Held: string(w.Held),
		}
		if !w.Since.IsZero() {
			v.Since = &w.Since
		}
		if r.State == ruleset.Open && spent != nil {
			v.Spent = &spent[i].Budget
		}
		out.Waves = append(out.Waves, v)
	}
	return out
}

func (a *API) listRollouts(ctx context.Context, _ *call, in *PageParams) (*pageOut[Rollout], error) {
	return paged(*in, func(after string, n int) ([]ruleset.Rollout, error) {
		before, err := numbered(after)
		if err != nil {
			return nil, err
		}
		return a.Rollouts.Rollouts(ctx, before, n)
	}, func(r ruleset.Rollout) string { return strconv.FormatInt(r.N, 10) }, nil,
		func(r ruleset.Rollout) (Rollout, error) { return a.viewRollout(&r, nil), nil })
}

// readRollout reads one. It names people to those who may read people.
func (a *API) readRollout(ctx context.Context, c *call, n int64) (*rolloutOut, error) {
	people, _, err := a.Do.Judge(ctx, a.intent(c, policy.PersonRead, audit.TokenRefused, ""))
	if err != nil {
		return nil, err
	}
	named := people.Outcome == policy.Allow && c.Has(ScopeRead)
	r, err := a.Rollouts.Rollout(ctx, n)
	if err != nil {
		return nil, err
	}
	spent, err := a.Rollouts.Cost(ctx, &r, a.now())
	if err != nil {
		return nil, err
	}
	out := a.viewRollout(&r, spent)
	for i := range out.Waves {
		costs, err := a.Rollouts.Costs(ctx, &r, i+1, a.now(), maxCosts)
		if err != nil {
			return nil, err
		}
		for _, c := range costs {
			if !named {
				c.Person = ""
			}
			out.Waves[i].Costs = append(out.Waves[i].Costs, RolloutCost{c.Person, c.Rule, c.Prompts, c.Denials})
		}
	}
	return &rolloutOut{out}, nil
}

func (a *API) readReadiness(ctx context.Context, _ *call, in *readinessIn) (*readinessOut, error) {
	r, err := a.Rollouts.Rollout(ctx, in.Rollout)
	if err != nil {
		return nil, err
	}
	inForce, err := a.Book.Set(ctx, r.Base)
	if err != nil {
		return nil, err
	}
	candidate, err := a.Book.Candidate(ctx, r.N)
	if err != nil {
		return nil, err
	}
	page, err := a.Rollouts.Readiness(ctx, &r, inForce, candidate, in.After, in.Limit)
	out := &readinessOut{Readiness{Looked: page.Looked, Waves: page.Waves, Items: []Unready{}, Next: page.Next}}
	for _, u := range page.Unready {
		out.Body.Items = append(out.Body.Items, Unready(u))
	}
	return out, err
}

// startRollout begins a rollout that a person has signed, or hands it in to be signed.
func (a *API) startRollout(ctx context.Context, c *call, in *startIn) (*answerOut, error) {
	waves := []policy.Wave{}
	for _, w := range in.Body.Waves {
		waves = append(waves, policy.Wave{Groups: w.Groups, Rest: w.Everybody, From: w.From.UTC().Truncate(time.Microsecond), Budget: policy.Budget{Prompts: w.Prompts, Denials: w.Denials}})
	}
	return a.putForward(ctx, c, in.Body.PolicySpec, waves)
}

func (a *API) stepRollout(ctx context.Context, c *call, n int64, verb ruleset.Verb, step RolloutStep) (*rolloutOut, error) {
	r, err := a.Rollouts.Rollout(ctx, n)
	if err != nil {
		return nil, err
	}
	if r.Revision != step.Revision {
		return nil, ruleset.Moved()
	}
	if verb == ruleset.Finish {
		step.Wave = 0
	}
	var budget *policy.Budget
	if (step.Prompts == nil) != (step.Denials == nil) || step.Prompts != nil && verb != ruleset.Resume {
		return nil, problem.New(problem.Invalid, codeInvalid, "Another budget is of resume, and has both prompts and denials.")
	}
	if step.Prompts != nil {
		budget = &policy.Budget{Prompts: *step.Prompts, Denials: *step.Denials}
	}
	changes, err := r.Apply(verb, step.Wave, budget, c.Person.ID, a.now())
	if err != nil {
		return nil, err
	}
	check, err := a.Book.Step(ctx, &r, verb, a.now())
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{general: r.Said(verb, step.Wave), make: func(f *act.Facts) ([]act.Change, error) {
		return changes, check(f.Input)
	}})
	if err != nil {
		return nil, err
	}
	return a.readRollout(ctx, c, n)
}
