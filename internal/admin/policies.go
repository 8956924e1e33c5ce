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

// PolicyFile is a file of Cedar policies.
type PolicyFile struct {
	Name string `json:"name" maxLength:"128" minLength:"1"`
	Text string `json:"text" maxLength:"100000"`
}

// PolicyException is a waiver of a rule for somebody.
type PolicyException struct {
	ID     string    `json:"id" maxLength:"64"`
	Rule   string    `json:"rule" maxLength:"64" doc:"The id of the policy that is waived"`
	For    string    `json:"for" maxLength:"200" doc:"A person (usr_…), a service (svc_…), or group:NAME"`
	Owner  string    `json:"owner" maxLength:"100" doc:"Who answers for it"`
	Reason string    `json:"reason" maxLength:"400" doc:"Why, to whom it concerns"`
	Rung   int       `json:"rung" minimum:"1" maximum:"4" doc:"What is shown instead: this rung at least"`
	MaxAge int64     `json:"max_age,omitempty" minimum:"0" doc:"Reached so many seconds ago at most; 0: any time"`
	Until  time.Time `json:"until" doc:"At most 90 days from when it is published"`
}

// PolicyVersion is a version of the policies. Its source is absent in lists.
type PolicyVersion struct {
	Version     int64      `json:"version" doc:"0 is the default set"`
	Hash        string     `json:"hash"`
	PublishedBy string     `json:"published_by,omitempty" doc:"The person who answers for it: who signed it, or put an earlier one back; absent: the operator of the host"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
	Note        string     `json:"note,omitempty"`
	Restores    *int64     `json:"restores,omitempty" doc:"The version that it puts back"`
	Record      string     `json:"record,omitempty" doc:"Of the act, in the log"`
	SignedVersion
	Schema string       `json:"schema,omitempty"`
	Files  []PolicyFile `json:"files,omitempty"`

	Exceptions []PolicyException `json:"exceptions,omitempty"`
	Floors     []PolicyFile      `json:"floors,omitempty" doc:"Statements that no exception makes false"`

	Warnings []PolicyWarning `json:"warnings,omitempty" doc:"When it is published: where it waits for what cannot happen"`
}

// PolicyWarning is what whoever publishes a policy should know of it.
type PolicyWarning struct {
	Policy string `json:"policy" doc:"Its id"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Code   string `json:"code" doc:"Stable name: approvals_unavailable"`
	Text   string `json:"text" doc:"In words"`
}

// PolicySpec is a set that is to be enforced.
type PolicySpec struct {
	After  int64        `json:"after" minimum:"0" doc:"The version in force that this follows; another one meanwhile is a conflict"`
	Hash   string       `json:"hash" maxLength:"64" doc:"Of schema and files, as the person who publishes has seen it"`
	Schema string       `json:"schema,omitempty" maxLength:"100000" doc:"The deployment's own entity types and actions"`
	Files  []PolicyFile `json:"files" maxItems:"100" nullable:"false"`
	Note   string       `json:"note,omitempty" maxLength:"400"`

	Exceptions []PolicyException `json:"exceptions,omitempty" maxItems:"50"`
	Floors     []PolicyFile      `json:"floors,omitempty" maxItems:"50" doc:"Files of never statements (*.policy.yaml): they are proved, exceptions included"`
}

// PolicyReturn says which version is put back.
type PolicyReturn struct {
	After int64  `json:"after" minimum:"0" doc:"The version in force; another one meanwhile is a conflict"`
	To    int64  `json:"to" minimum:"0" doc:"0 is the default set"`
	Note  string `json:"note,omitempty" maxLength:"400"`
}

type (
	policyIn struct {
		Version int64 `path:"version" minimum:"0"`
	}
	policyOut struct{ Body PolicyVersion }
	publishIn struct{ Body PolicySpec }
	// answerOut is a version or a rollout, or a publication that waits.
	answerOut struct {
		Status int
		Body   any
	}
	rollbackIn struct{ Body PolicyReturn }
)

func (a *API) policies() {
	const tag = "policies"
	register(a, operation{
		id: "list-policies", method: http.MethodGet, path: "/v1/policies", summary: "List the versions of the policies, newest first", tag: tag,
		scope: ScopeRead, service: ScopePolicies, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, a.listPolicies)
	register(a, operation{
		id: "get-policies", method: http.MethodGet, path: "/v1/policies/{version}", summary: "Read a version of the policies; 0 is the default set", tag: tag,
		scope: ScopeRead, service: ScopePolicies, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *policyIn) (*policyOut, error) {
		v, err := a.policyVersion(ctx, in.Version)
		return &policyOut{viewPolicy(v)}, err
	})
	register(a, operation{
		id: "publish-policies", method: http.MethodPost, path: "/v1/policies", tag: tag,
		summary: "Put a set of policies in force that a person has signed, or hand it in to be signed",
		scope:   ScopeWrite, service: ScopePolicies, action: policy.PolicySubmit, kind: audit.PolicySubmitted, status: http.StatusCreated,
		answers: map[int]reflect.Type{http.StatusOK: reflect.TypeFor[PolicyVersion](), http.StatusCreated: reflect.TypeFor[PolicyVersion](), http.StatusAccepted: reflect.TypeFor[Publication]()},
	}, func(ctx context.Context, c *call, in *publishIn) (*answerOut, error) {
		return a.putForward(ctx, c, in.Body, nil)
	})
	register(a, operation{
		id: "roll-back-policies", method: http.MethodPost, path: "/v1/policies/rollback", summary: "Put an earlier version back, as a new one", tag: tag,
		scope: ScopeWrite, action: policy.PolicyPublish, kind: audit.PolicyPublished, status: http.StatusCreated,
	}, a.rollBackPolicies)
}

func viewPolicy(v ruleset.Version) PolicyVersion {
	out := PolicyVersion{Version: v.N, Hash: v.Hash, PublishedBy: v.By, Note: v.Note, Record: v.Record, Schema: v.Source.Schema, SignedVersion: viewSigned(v.Publication, v.By, v.Carrier, v.Signature)}
	if !v.PublishedAt.IsZero() {
		out.PublishedAt = &v.PublishedAt
	}
	if v.Of != ruleset.NoVersion {
		out.Restores = &v.Of
	}
	for _, f := range v.Source.Files {
		out.Files = append(out.Files, PolicyFile(f))
	}
	for _, f := range v.Source.Floors {
		out.Floors = append(out.Floors, PolicyFile(f))
	}
	for _, e := range v.Source.Exceptions {
		out.Exceptions = append(out.Exceptions, PolicyException(e))
	}
	return out
}

// policyVersion reads a version; 0 is the default set.
func (a *API) policyVersion(ctx context.Context, n int64) (ruleset.Version, error) {
	if n != 0 {
		return a.Policies.Ruleset(ctx, n)
	}
	src := policy.Default()
	return ruleset.Version{Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}, nil
}

func (a *API) listPolicies(ctx context.Context, _ *call, in *PageParams) (*pageOut[PolicyVersion], error) {
	return paged(*in, func(after string, n int) ([]ruleset.Version, error) {
		before, err := numbered(after)
		if err != nil {
			return nil, err
		}
		return a.Policies.Rulesets(ctx, before, n)
	}, func(v ruleset.Version) string { return strconv.FormatInt(v.N, 10) }, nil,
		func(v ruleset.Version) (PolicyVersion, error) { return viewPolicy(v), nil })
}

// source is what is to be enforced, whose hash is what was sent with it.
func (p *PolicySpec) source() (policy.Source, error) {
	src := policy.Source{Schema: p.Schema}
	for _, f := range p.Files {
		src.Files = append(src.Files, policy.File(f))
	}
	for _, f := range p.Floors {
		src.Floors = append(src.Floors, policy.File(f))
	}
	for _, e := range p.Exceptions {
		src.Exceptions = append(src.Exceptions, policy.Exception(e))
	}
	if src.Hash() != p.Hash {
		return src, problem.Newf(problem.Invalid, "policy_hash", "The hash is not that of these policies, which is %s.", src.Hash())
	}
	return src, nil
}

func (a *API) rollBackPolicies(ctx context.Context, c *call, in *rollbackIn) (*policyOut, error) {
	if in.Body.To >= in.Body.After {
		return nil, problem.New(problem.Invalid, codeInvalid, "What is put back is earlier than what is in force.")
	}
	v, err := a.policyVersion(ctx, in.Body.To)
	if err != nil {
		return nil, err
	}
	return a.putBack(ctx, c, ruleset.Version{N: in.Body.After + 1, Source: v.Source, Note: in.Body.Note, Of: in.Body.To})
}

// putBack puts a version in force again, which was signed when it was new or is the
// default set. Under it the caller has to be able to publish another, with what they have
// proved now.
func (a *API) putBack(ctx context.Context, c *call, v ruleset.Version) (*policyOut, error) {
	set, err := a.Desk.Check(ctx, &ruleset.Publication{Source: v.Source, Note: v.Note}, a.now())
	if err != nil {
		return nil, err
	}
	v.Hash, v.By = v.Source.Hash(), c.Person.ID
	said := map[string]any{"policy": v.Hash, "version": v.N, "restores": v.Of}
	_, err = a.carryOut(ctx, c, change{general: said, make: func(f *act.Facts) ([]act.Change, error) {
		if err := ruleset.Undoable(set, f.Input); err != nil {
			return nil, err
		}
		return []act.Change{ruleset.Publish{Version: v}}, nil
	}})
	if err != nil {
		return nil, err
	}
	v, err = a.Policies.Ruleset(ctx, v.N)
	out := viewPolicy(v)
	out.Warnings = warningsOf(set)
	return &policyOut{out}, err
}

// warningsOf is what whoever publishes a set should know of it.
func warningsOf(set *policy.Set) (out []PolicyWarning) {
	for _, w := range set.Warnings() {
		out = append(out, PolicyWarning{Policy: w.Policy, File: w.File, Line: w.Line, Code: w.Code, Text: w.Text})
	}
	return out
}
