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
		v := Line{
			Ref: l.ID, At: l.At, Kind: l.Kind.Name(), Sentence: l.Sentence, Who: l.Actor, Assurance: l.Assurance, Proofs: l.Proofs,
			Refused: l.Refused, Reason: l.Outcome,
		}
		if l.Seq >= 0 {
			seq := l.Seq
			v.Seq = &seq
		}
		out.Body.Items = append(out.Body.Items, v)
	}
	return out, nil
}
