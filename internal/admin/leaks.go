package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Found is what a reported secret turned out to be.
type Found struct {
	What    string       // "a refresh token", "a client secret", …: for people and the log
	Person  string       // whose; "" if nobody's
	Client  string       // id of the client; "" if none
	Target  []string     // nodes that the act is about
	Changes []act.Change // what ends with it; none if nothing is ended
	Done    string       // what that is, in words; "" if nothing is ended
	Next    string       // what to do; "" if nothing
}

// Leaks tells what a reported secret is. It MUST recognise only what is genuine:
// made here, by signature, tag or hash. ok is false for anything else, and for what
// is worth nothing any more.
type Leaks func(ctx context.Context, text string) (f Found, ok bool, err error)

// LeakReport is a secret that somebody found where it should not be.
type LeakReport struct {
	Secret string `json:"secret" maxLength:"16384" doc:"The token or secret, as found; it is not kept, and not logged"`
	Where  string `json:"where,omitempty" maxLength:"800" doc:"Where it was found, in words"`
}

// LeakOutcome is what came of a report.
type LeakOutcome struct {
	Known  bool   `json:"known" doc:"It was one of this deployment, and still worth something"`
	What   string `json:"what,omitempty"`
	Done   string `json:"done,omitempty" doc:"What was ended"`
	Next   string `json:"next,omitempty" doc:"What to do"`
	Record string `json:"record,omitempty"`
}

type (
	leakIn  struct{ Body LeakReport }
	leakOut struct{ Body LeakOutcome }
)

func (a *API) leaks() {
	register(a, operation{
		id: "report-leak", method: http.MethodPost, path: "/v1/leaks", tag: "notices",
		summary: "Report a leaked token or secret: what can be ended at once is, and administrators are alerted",
		scope:   ScopeSelf, action: policy.LeakReport, kind: audit.SecretLeaked,
	}, a.reportLeak)
}

// reportLeak ends what a leaked value is worth. Whoever can show the value could
// do worse with it than report it, so anybody signed in may. A value that is not
// one of ours, or worth nothing any more, changes nothing and is no record.
func (a *API) reportLeak(ctx context.Context, c *call, in *leakIn) (*leakOut, error) {
	f, ok, err := a.Leaks(ctx, strings.TrimSpace(in.Body.Secret))
	if err != nil || !ok {
		return &leakOut{}, err
	}
	said := map[string]any{"what": f.What}
	if f.Done != "" {
		said["done"] = f.Done
	}
	if in.Body.Where != "" && f.Person != "" { // free text stands only in a part that is sealed
		said["where"] = in.Body.Where
	}
	general := map[string]any{}
	if f.Client != "" {
		general["client"] = f.Client
	}
	out, err := a.carryOut(ctx, c, change{
		target: f.Target, whom: f.Person, said: said, general: general,
		make: func(*act.Facts) ([]act.Change, error) { return f.Changes, nil },
	})
	if err != nil {
		return nil, err
	}
	return &leakOut{LeakOutcome{Known: true, What: f.What, Done: f.Done, Next: f.Next, Record: out.RecordID}}, nil
}
