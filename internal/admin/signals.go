package admin

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// ScopeSignals is by which a service may report signals of risk, and withdraw its own.
const ScopeSignals = "signals"

// SignalAbout is what a signal is about.
type SignalAbout struct {
	Type string `json:"type" enum:"person,service,device,client,session,network"`
	ID   string `json:"id" maxLength:"320" doc:"Its id; of a person or service also the sub, of a client also the client_id, of a network a prefix or an address in it"`
}

// SignalKind is one of risk.Claims.
type SignalKind string

// Schema implements huma.SchemaProvider: the kinds there are.
func (SignalKind) Schema(huma.Registry) *huma.Schema {
	names := make([]string, 0, len(risk.Claims))
	for name := range risk.Claims {
		names = append(names, name)
	}
	slices.Sort(names)
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range names {
		s.Enum = append(s.Enum, name)
	}
	return s
}

// SignalSpec is a signal as it is reported.
type SignalSpec struct {
	Kind     SignalKind  `json:"kind" doc:"What is said; docs/risk.md says what each is worth"`
	About    SignalAbout `json:"about"`
	Points   int         `json:"points,omitempty" minimum:"1" maximum:"100" doc:"What it adds to a score; if left out, what its kind is worth. All signals together add no more than risk.reported_at_most of the configuration"`
	Lifetime int64       `json:"lifetime,omitempty" minimum:"60" maximum:"2592000" doc:"Seconds; a day if left out"`
}

// SignalView is a signal that counts.
type SignalView struct {
	ID     string      `json:"id"`
	Kind   SignalKind  `json:"kind"`
	About  SignalAbout `json:"about"`
	Points int         `json:"points"`
	Source string      `json:"source" doc:"Id of the service or person that said it"`
	At     time.Time   `json:"at"`
	Until  time.Time   `json:"until"`
}

type (
	signalIn  struct{ Body SignalSpec }
	signalOut struct {
		Status int
		Body   SignalView
	}
)

func (a *API) signals() {
	const tag = "signals"
	register(a, operation{
		id: "report-signal", method: http.MethodPost, path: "/v1/signals", tag: tag, status: http.StatusCreated,
		summary: "Report a signal of risk; said again it takes the place of the earlier one (200)",
		scope:   ScopeWrite, service: ScopeSignals, action: policy.SignalReport, kind: audit.SignalReported,
	}, a.reportSignal)
	register(a, operation{
		id: "list-signals", method: http.MethodGet, path: "/v1/signals", tag: tag,
		summary: "List the signals of risk that count; a service sees its own",
		scope:   ScopeRead, service: ScopeSignals, action: policy.SignalRead, kind: audit.TokenRefused,
	}, a.listSignals)
	register(a, operation{
		id: "withdraw-signal", method: http.MethodDelete, path: "/v1/signals/{id}", tag: tag, status: http.StatusNoContent,
		summary: "Withdraw a signal of risk; a service withdraws its own",
		scope:   ScopeWrite, service: ScopeSignals, action: policy.SignalWithdraw, kind: audit.SignalWithdrawn,
	}, a.withdrawSignal)
}

func viewSignal(r profile.Report) (SignalView, error) {
	return SignalView{ID: r.ID, Kind: SignalKind(r.Kind), About: SignalAbout{r.About, r.Thing}, Points: r.Points, Source: r.Source, At: r.At, Until: r.Until}, nil
}

func (a *API) listSignals(ctx context.Context, c *call, in *PageParams) (*pageOut[SignalView], error) {
	return paged(*in, func(after string, n int) ([]profile.Report, error) {
		return a.Reports.Reports(ctx, c.Service.ID, after, n, a.now())
	},
		func(r profile.Report) string { return r.ID }, nil, viewSignal)
}

func (a *API) reportSignal(ctx context.Context, c *call, in *signalIn) (*signalOut, error) {
	now := a.now()
	r := profile.Report{
		ID: id.New(id.Signal), Kind: string(in.Body.Kind), About: in.Body.About.Type, Points: in.Body.Points,
		Source: c.Service.ID, Name: c.Service.Name, At: now, Until: now.Add(time.Duration(in.Body.Lifetime) * time.Second),
	}
	if in.Body.Lifetime == 0 {
		r.Until = now.Add(profile.UsualReport)
	}
	if r.Points == 0 {
		r.Points = risk.Claims[r.Kind].Points
	}
	if !c.machine() {
		r.Source, r.Name = c.Person.ID, "an administrator"
	}
	target, err := a.subject(ctx, in.Body.About, &r)
	if err != nil {
		return nil, err
	}
	if err := r.Check(now); err != nil {
		return nil, err
	}
	status := http.StatusCreated
	ch := change{
		target: target, whom: r.Person, general: map[string]any{"signal": r.ID, "signal_kind": r.Kind},
		said: map[string]any{"about": r.About, "thing": r.Thing, "points": r.Points, "until": r.Until.Format(time.RFC3339)},
	}
	ch.check = func(ctx context.Context) error {
		same, err := a.Reports.SameReport(ctx, r.Source, r.Kind, r.Thing, now)
		if err == nil {
			r.ID, status = same.ID, http.StatusOK
			ch.general["signal"] = r.ID
			return nil
		}
		if !errors.Is(err, problem.NotFound) {
			return err
		}
		return a.roomForSignals(ctx, r.Source)
	}
	ch.make = func(*act.Facts) ([]act.Change, error) { return []act.Change{profile.Told{Report: r}}, nil }
	if _, err := a.carryOut(ctx, c, ch); err != nil {
		return nil, err
	}
	v, err := viewSignal(r)
	return &signalOut{status, v}, err
}

func (a *API) roomForSignals(ctx context.Context, source string) error {
	theirs, all, err := a.Reports.CountReports(ctx, source, a.now())
	if err == nil && (theirs >= profile.MaxOfSource || all >= profile.MaxReports) {
		err = problem.Newf(problem.Conflict, "signals_full", "There are %d signals of this source and %d in all; more than %d or %d do not count at once.", theirs, all, profile.MaxOfSource, profile.MaxReports).
			WithHint("Withdraw those that are over, or give them shorter lifetimes.")
	}
	return err
}

// subject finds what a signal is about, whose it is, and the nodes that an act on it
// guards.
func (a *API) subject(ctx context.Context, about SignalAbout, r *profile.Report) (target []string, err error) {
	r.Thing = about.ID
	switch about.Type {
	case risk.AboutPerson:
		p, err := a.tokenPerson(ctx, about.ID)
		r.Thing, r.Person = p.ID, p.ID
		return []string{p.ID}, err
	case risk.AboutService:
		s, err := a.Registry.Service(ctx, about.ID)
		return []string{s.ID}, err
	case risk.AboutDevice:
		d, err := a.Access.Device(ctx, about.ID)
		return []string{d.ID}, err
	case risk.AboutClient:
		cl, err := a.Registry.Client(ctx, about.ID)
		if errors.Is(err, problem.NotFound) {
			cl, err = a.Registry.ClientByClientID(ctx, about.ID)
		}
		r.Thing = cl.ID
		return []string{cl.ID}, err
	case risk.AboutSession:
		s, err := a.Access.Session(ctx, about.ID)
		r.Person = s.Person
		return []string{s.ID}, err
	}
	if addr, err := netip.ParseAddr(about.ID); err == nil {
		r.Thing = grant.NetworkOf(addr)
	} else if p, err := netip.ParsePrefix(about.ID); err == nil && p.Masked().String() == grant.NetworkOf(p.Addr()) {
		r.Thing = grant.NetworkOf(p.Addr())
	} else {
		return nil, problem.New(problem.Invalid, "signal_network", "A network is an address, or a prefix that counts as one network: /24, or /48 for IPv6.")
	}
	return nil, nil
}

var noSignal = problem.New(problem.NotFound, "signal_not_found", "There is no such signal.")

func (a *API) withdrawSignal(ctx context.Context, c *call, in *idIn) (*struct{}, error) {
	r, err := a.Reports.Report(ctx, in.ID, a.now())
	if err != nil {
		return nil, unknownIs(err, noSignal)
	}
	if c.machine() && r.Source != c.Service.ID { // the same as if it were not there (mechanisms A11)
		return nil, noSignal
	}
	_, err = a.carryOut(ctx, c, change{
		whom: r.Person, general: map[string]any{"signal": r.ID, "signal_kind": r.Kind}, said: map[string]any{"about": r.About, "thing": r.Thing},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{profile.Withdrawn{ID: r.ID}}, nil },
	})
	return nil, err
}
