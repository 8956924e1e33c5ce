package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

type (
	decisionsIn struct {
		From   time.Time `query:"from" doc:"Only what was decided from then on"`
		Until  time.Time `query:"until" doc:"Only what was decided before"`
		After  string    `query:"after" maxLength:"64" doc:"The next of the page before"`
		Limit  int       `query:"limit" minimum:"1" maximum:"5000" default:"2000" doc:"How many records are looked at"`
		Policy string    `query:"policy" maxLength:"64" doc:"The hash of the policies that are tried, for the log"`
	}
	decisionsOut struct{ Body replay.Decisions }
)

func (a *API) decisions() {
	register(a, operation{
		id: "read-decisions", method: http.MethodGet, path: "/v1/decisions", summary: "Read what was decided and what was seen then, oldest first, to try other policies on it", tag: "policies",
		scope: ScopeRead, action: policy.PolicyReplay, kind: audit.PolicyReplayed,
	}, a.readDecisions)
}

// readDecisions gives a page, once it is recorded that it was read: what people did
// is told to nobody silently.
func (a *API) readDecisions(ctx context.Context, c *call, in *decisionsIn) (*decisionsOut, error) {
	page, err := a.Log.Decisions(ctx, in.From, in.Until, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	said := map[string]any{"decisions": len(page.Items)}
	if in.Policy != "" {
		said["policy"] = in.Policy
	}
	if page.At != nil {
		said["until"] = page.At.Format(time.RFC3339)
	}
	_, err = a.carryOut(ctx, c, change{general: said, make: func(*act.Facts) ([]act.Change, error) { return nil, nil }})
	if err != nil {
		return nil, err
	}
	return &decisionsOut{page}, nil
}
