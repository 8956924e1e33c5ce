package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
)

// Recovery is somebody's way back into an account, or a temporary pass.
type Recovery struct {
	ID         string     `json:"id" example:"rcv_01JD…"`
	Person     string     `json:"person"`
	Username   string     `json:"username"`
	Method     string     `json:"method" enum:"code,people,pass"`
	State      string     `json:"state" enum:"open,completed,cancelled,expired"`
	Reason     string     `json:"reason,omitempty"`
	OpenedBy   string     `json:"opened_by,omitempty" doc:"Person"`
	Confirmed  []string   `json:"confirmed" nullable:"false" doc:"Persons who confirmed it"`
	Needed     int        `json:"needed" doc:"How many have to"`
	StartedAt  time.Time  `json:"started_at"`
	ReadyAt    *time.Time `json:"ready_at,omitempty" doc:"From when it can be finished; absent while confirmations are missing"`
	ExpiresAt  time.Time  `json:"expires_at"`
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	CancelURL  string     `json:"cancel_url,omitempty" doc:"Stops it, and does nothing else: to hand to the person"`
	Pass       string     `json:"pass,omitempty" doc:"The temporary pass, told once"`
	EnterURL   string     `json:"enter_url,omitempty" doc:"Where the pass is entered"`
	LastsHours int        `json:"lasts_hours,omitempty" doc:"How long the session of a pass lives at most"`
}

type (
	openRecoveryIn struct {
		ID   string `path:"id" maxLength:"64"`
		Body struct {
			Code   string `json:"code" maxLength:"40" doc:"What the person reads to you from their screen"`
			Reason string `json:"reason" minLength:"1" maxLength:"200"`
		}
	}
	confirmRecoveryIn struct {
		ID   string `path:"id" maxLength:"64"`
		Body struct {
			Code string `json:"code" maxLength:"40" doc:"What the person reads to you from their screen"`
		}
	}
	passIn struct {
		ID   string `path:"id" maxLength:"64"`
		Body struct {
			Reason     string `json:"reason" minLength:"1" maxLength:"200"`
			ValidHours int    `json:"valid_hours,omitempty" minimum:"1" maximum:"24" default:"1" doc:"To be used within"`
			LastsHours int    `json:"lasts_hours,omitempty" minimum:"1" maximum:"12" default:"8" doc:"How long its session lives at most"`
		}
	}
	recoveryOut struct{ Body Recovery }
)

func (a *API) recoveries() {
	const tag = "recoveries"
	register(a, operation{
		id: "list-recoveries", method: http.MethodGet, path: "/v1/recoveries", summary: "List recoveries and temporary passes that are open", tag: tag,
		scope: ScopeRead, action: policy.RecoveryRead, kind: audit.TokenRefused,
	}, a.listRecoveries)
	register(a, operation{
		id: "get-recovery", method: http.MethodGet, path: "/v1/recoveries/{id}", summary: "Read a recovery", tag: tag,
		scope: ScopeRead, action: policy.RecoveryRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*recoveryOut, error) { return a.showRecovery(ctx, in.ID) })
	register(a, operation{
		id: "open-recovery", method: http.MethodPost, path: "/v1/people/{id}/recoveries", summary: "Open a recovery for somebody, which confirms it", tag: tag,
		scope: ScopeWrite, action: policy.RecoveryOpen, kind: audit.RecoveryOpened, status: http.StatusCreated,
	}, a.openRecovery)
	register(a, operation{
		id: "confirm-recovery", method: http.MethodPost, path: "/v1/recoveries/{id}/confirm", summary: "Confirm a recovery that another administrator opened", tag: tag,
		scope: ScopeWrite, action: policy.RecoveryConfirm, kind: audit.RecoveryConfirmed, status: http.StatusOK,
	}, a.confirmRecovery)
	register(a, operation{
		id: "cancel-recovery", method: http.MethodPost, path: "/v1/recoveries/{id}/cancel", summary: "Stop a recovery, or take a temporary pass back with its session", tag: tag,
		scope: ScopeWrite, action: policy.RecoveryCancel, kind: audit.RecoveryCancelled, status: http.StatusOK,
	}, a.cancelRecovery)
	register(a, operation{
		id: "give-temporary-pass", method: http.MethodPost, path: "/v1/people/{id}/temporary-passes", summary: "Give somebody a temporary pass", tag: tag,
		scope: ScopeWrite, action: policy.PassIssue, kind: audit.PassIssued, status: http.StatusCreated,
	}, a.givePass)
}

func (a *API) listRecoveries(ctx context.Context, _ *call, in *PageParams) (*pageOut[Recovery], error) {
	return paged(*in, func(after string, n int) ([]recovery.Recovery, error) {
		return a.Recoveries.OpenRecoveries(ctx, a.now(), after, n)
	},
		func(r recovery.Recovery) string { return r.ID }, nil,
		func(r recovery.Recovery) (Recovery, error) { return a.viewRecovery(ctx, r) })
}

func (a *API) showRecovery(ctx context.Context, id string) (*recoveryOut, error) {
	r, err := a.Recoveries.Recovery(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := a.viewRecovery(ctx, r)
	return &recoveryOut{v}, err
}

func (a *API) viewRecovery(ctx context.Context, r recovery.Recovery) (Recovery, error) {
	p, err := a.Directory.Person(ctx, r.Person)
	if err != nil {
		return Recovery{}, err
	}
	given, err := a.Recoveries.Confirmations(ctx, r.ID)
	if err != nil {
		return Recovery{}, err
	}
	v := Recovery{
		ID: r.ID, Person: r.Person, Username: p.Username, Method: string(r.Method), State: string(r.State), Reason: r.Reason, OpenedBy: r.OpenedBy,
		Confirmed: []string{}, StartedAt: r.StartedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), LastsHours: int(r.Lasts / time.Hour),
	}
	for _, c := range given {
		v.Confirmed = append(v.Confirmed, c.By)
	}
	if r.Method == recovery.ByPeople {
		v.Needed = recovery.Quorum
	}
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	v.ReadyAt, v.EndedAt = moment(r.ReadyAt), moment(r.EndedAt)
	switch {
	case r.Live(a.now()):
		v.CancelURL, err = recovery.CancelLink(a.Issuer, a.CancelKeys()[0], r.ID)
	case r.State == recovery.Open:
		v.State, v.EndedAt = string(recovery.Expired), moment(r.ExpiresAt)
	}
	return v, err
}

// helped finds whom a recovery or pass is for: somebody who is not disabled.
func (a *API) helped(ctx context.Context, id string) (account.Person, error) {
	p, err := a.Directory.Person(ctx, id)
	if err == nil && !p.Node.Live() {
		err = problem.New(problem.Conflict, "person_disabled", "This account is disabled.").WithHint("countersign person enable " + p.Username)
	}
	return p, err
}

func (a *API) openRecovery(ctx context.Context, c *call, in *openRecoveryIn) (*recoveryOut, error) {
	claim, err := recovery.ReadClaim(in.Body.Code)
	if err != nil {
		return nil, err
	}
	reason, err := reasoned(&reasonBody{in.Body.Reason})
	if err != nil {
		return nil, err
	}
	p, err := a.helped(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	r := recovery.Opened(p.ID, c.Person.ID, claim, reason, a.now())
	_, err = a.carryOut(ctx, c, change{
		target: []string{p.ID}, whom: p.ID, said: r.Said(),
		check: func(ctx context.Context) error {
			return recovery.MayConfirm(ctx, a.standings(), c.Person.ID, p.ID, a.now())
		},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{recovery.Start{Recovery: r}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showRecovery(ctx, r.ID)
}

// standings reads what those who help are judged by.
func (a *API) standings() recovery.Standings {
	return struct {
		Directory
		recovery.Store
	}{a.Directory, a.Recoveries}
}

func (a *API) confirmRecovery(ctx context.Context, c *call, in *confirmRecoveryIn) (*recoveryOut, error) {
	claim, err := recovery.ReadClaim(in.Body.Code)
	if err != nil {
		return nil, err
	}
	r, err := a.Recoveries.Recovery(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if r.Method != recovery.ByPeople || r.Claim != claim {
		return nil, problem.New(problem.Invalid, "claim_wrong", "That isn't the code of this recovery.").WithHint("Let the person read it to you once more.")
	}
	var path recovery.Path
	var told recovery.Recovery
	ch := change{target: []string{r.Person}, whom: r.Person, said: map[string]any{}}
	ch.check = func(ctx context.Context) (err error) {
		path, err = a.Recovery.Confirming(ctx, a.standings(), r, c.Person.ID, a.now())
		return err
	}
	ch.make = func(f *act.Facts) ([]act.Change, error) {
		if err := r.ForLive(f.Nodes); err != nil {
			return nil, err
		}
		var done recovery.Confirm
		done, told = r.ConfirmedBy(c.Person.ID, path, a.now())
		for k, v := range told.Said() {
			ch.said[k] = v
		}
		return []act.Change{done}, nil
	}
	if _, err = a.carryOut(ctx, c, ch); err != nil {
		return nil, err
	}
	return a.showRecovery(ctx, r.ID)
}

func (a *API) cancelRecovery(ctx context.Context, c *call, in *idIn) (*recoveryOut, error) {
	r, err := a.Recoveries.Recovery(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	done := act.Change(recovery.Cancel{ID: r.ID})
	if r.Method == recovery.ByPass && r.State == recovery.Completed {
		done = lineage.End{ID: r.Made, Why: "pass_withdrawn"}
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{r.Person}, whom: r.Person, said: map[string]any{"recovery": r.ID}, general: map[string]any{"by": "an administrator"},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{done}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showRecovery(ctx, r.ID)
}

func (a *API) givePass(ctx context.Context, c *call, in *passIn) (*recoveryOut, error) {
	reason, err := reasoned(&reasonBody{in.Body.Reason})
	if err != nil {
		return nil, err
	}
	p, err := a.helped(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	r := recovery.Given(p.ID, c.Person.ID, reason, time.Duration(in.Body.ValidHours)*time.Hour, time.Duration(in.Body.LastsHours)*time.Hour, a.now())
	code, put := recovery.NewPass(r, a.now())
	_, err = a.carryOut(ctx, c, change{
		target: []string{p.ID}, whom: p.ID, said: r.Said(),
		check: func(ctx context.Context) error { return recovery.MayGive(ctx, a.standings(), c.Person.ID, p.ID) },
		make:  func(*act.Facts) ([]act.Change, error) { return []act.Change{recovery.Start{Recovery: r}, put}, nil },
	})
	if err != nil {
		return nil, err
	}
	out, err := a.showRecovery(ctx, r.ID)
	if err == nil {
		out.Body.Pass, out.Body.EnterURL = code.Grouped(), a.Issuer+"/recover/pass"
	}
	return out, err
}
