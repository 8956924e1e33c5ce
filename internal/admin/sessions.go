package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

// Session is a signed-in browser with what hangs below it.
type Session struct {
	ID         string     `json:"id"`
	Device     string     `json:"device" doc:"What the browser calls itself"`
	DeviceID   string     `json:"device_id"`
	ACR        string     `json:"acr,omitempty"`
	AuthTime   *time.Time `json:"auth_time,omitempty"`
	Network    string     `json:"network,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	LastSeenAt time.Time  `json:"last_seen_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	SignedIn   bool       `json:"signed_in" doc:"The browser may still act; what hangs below lives on its own"`
	Current    bool       `json:"current" doc:"The caller's own grant hangs below it"`
	Grants     []Grant    `json:"grants" nullable:"false"`
}

// Grant is what a client may do below a session.
type Grant struct {
	ID         string    `json:"id"`
	ClientID   string    `json:"client_id"`
	Client     string    `json:"client" doc:"Its name"`
	Scopes     []string  `json:"scopes" nullable:"false"`
	ACR        string    `json:"acr,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Current    bool      `json:"current"`
}

// Ended is what came of ending something.
type Ended struct {
	ID      string `json:"id"`
	Record  string `json:"record" doc:"Of the log"`
	Applied *bool  `json:"applied,omitempty" doc:"With wait: whether every connected enforcement point has applied it"`
}

type (
	sessionsIn struct {
		Person string `query:"person" maxLength:"64" doc:"Somebody else's, for administrators with admin:read"`
		PageParams
	}
	endSessionIn struct {
		ID     string `path:"id" maxLength:"64" doc:"A session, grant or device"`
		Person string `query:"person" maxLength:"64" doc:"Of a device: end the sessions of this person there"`
		Wait   string `query:"wait" enum:"peps" doc:"Answer when the connected enforcement points have applied it, or after a few seconds"`
	}
	endedOut struct{ Body Ended }
)

func (a *API) sessions() {
	const tag = "sessions"
	register(a, operation{
		id: "list-sessions", method: http.MethodGet, path: "/v1/sessions", summary: "List sessions, newest first, with the grants below them", tag: tag,
		scope: ScopeSelf, action: policy.SelfRead, kind: audit.TokenRefused, own: true,
	}, a.listSessions)
	register(a, operation{
		id: "end-session", method: http.MethodPost, path: "/v1/sessions/{id}/end", tag: tag,
		summary: "End a session, grant or device, and everything below it, for ever",
		scope:   ScopeSelf, action: policy.SessionEnd, kind: audit.SessionEnded, own: true, status: http.StatusOK,
	}, a.endSession)
}

func (a *API) listSessions(ctx context.Context, c *call, in *sessionsIn) (*pageOut[Session], error) {
	person := c.Person.ID
	if in.Person != "" && in.Person != person {
		if err := a.may(ctx, c, policy.SessionRead, audit.TokenRefused, "", ScopeRead); err != nil {
			return nil, err
		}
		p, err := a.Directory.Person(ctx, in.Person)
		if err != nil {
			return nil, err
		}
		person = p.ID
	}
	list, err := a.Access.SessionsOf(ctx, person)
	if err != nil {
		return nil, err
	}
	grants, err := a.Access.GrantsOf(ctx, person)
	if err != nil {
		return nil, err
	}
	devices := map[string]session.Device{}
	for _, s := range list {
		if _, ok := devices[s.Device]; ok {
			continue
		}
		if devices[s.Device], err = a.Access.Device(ctx, s.Device); err != nil {
			return nil, err
		}
	}
	key := func(s session.Session) string { return s.ID }
	live := func(s session.Session) bool { return devices[s.Device].Node.Live() && s.Node.Live() }
	clients := map[string]Grant{}
	return paged(in.PageParams, within(list, key, true), key, live, func(s session.Session) (Session, error) {
		v := a.viewSession(s, devices[s.Device])
		for _, g := range grants {
			if g.Session != s.ID || !g.Node.Live() || !a.now().Before(g.ExpiresAt) {
				continue
			}
			w, ok, err := a.viewGrant(ctx, g, clients)
			if err != nil {
				return v, err
			}
			if ok {
				w.Current = g.ID == c.Grant
				v.Current = v.Current || w.Current
				v.Grants = append(v.Grants, w)
			}
		}
		return v, nil
	})
}

func (a *API) viewSession(s session.Session, d session.Device) Session {
	v := Session{
		ID: s.ID, Device: d.Label, DeviceID: s.Device, Network: s.Network, CreatedAt: s.CreatedAt, LastSeenAt: s.SeenAt,
		ExpiresAt: s.ExpiresAt, SignedIn: s.Usable(a.now()), Grants: []Grant{},
	}
	own := slices.DeleteFunc(slices.Clone(s.Proofs), func(p assurance.Proof) bool { return p.For != "" })
	if best := assurance.Evaluate(s.Person, own, a.now()).Best(); best.Rung > 0 {
		at := best.AuthTime.UTC()
		v.ACR, v.AuthTime = a.Do.Ladder.ACR(best.Rung), &at
	}
	return v
}

// viewGrant shows a grant; ok is false for one whose client has ended.
func (a *API) viewGrant(ctx context.Context, g grant.Grant, clients map[string]Grant) (v Grant, ok bool, err error) {
	named, known := clients[g.Client]
	if !known {
		c, err := a.Registry.Client(ctx, g.Client)
		if err != nil {
			return v, false, err
		}
		if c.Node.Live() {
			named = Grant{ClientID: c.ClientID, Client: c.Name}
		}
		clients[g.Client] = named
	}
	v = named
	v.ID, v.Scopes, v.ACR, v.CreatedAt, v.LastUsedAt, v.ExpiresAt = g.ID, append([]string{}, g.Scopes...), g.ACR, g.CreatedAt, g.UsedAt, g.ExpiresAt
	return v, named.ClientID != "", nil
}

// ending is what an id stands for, and what ending it changes.
type ending struct {
	owner  string // person; "" for a device as a whole
	kind   audit.Kind
	action policy.Action
	nodes  []string
	said   map[string]any
}

// toEnd finds what an id stands for. A device is a browser, and may be several
// people's: for one of them, it stands for their sessions there.
func (a *API) toEnd(ctx context.Context, ref, person string) (ending, error) {
	none := problem.New(problem.NotFound, "session_not_found", "There is no such session, grant or device.")
	switch {
	case strings.HasPrefix(ref, id.Session):
		s, err := a.Access.Session(ctx, ref)
		return ending{s.Person, audit.SessionEnded, policy.SessionEnd, []string{ref}, map[string]any{"ended": ref}}, unknownIs(err, none)
	case strings.HasPrefix(ref, id.Grant):
		g, err := a.Access.Grant(ctx, ref)
		return ending{g.Person, audit.GrantEnded, policy.GrantEnd, []string{ref}, map[string]any{"ended": ref, "client": g.Client}}, unknownIs(err, none)
	case strings.HasPrefix(ref, id.Device):
		if _, err := a.Access.Device(ctx, ref); err != nil {
			return ending{}, unknownIs(err, none)
		}
		e := ending{person, audit.DeviceEnded, policy.SessionEnd, nil, map[string]any{"ended": ref}}
		list, err := a.Access.SessionsOf(ctx, person)
		for _, s := range list {
			if s.Device == ref {
				e.nodes = append(e.nodes, s.ID)
			}
		}
		if err == nil && len(e.nodes) == 0 {
			e.owner, e.nodes = "", []string{ref}
		}
		return e, err
	}
	return ending{}, none
}

func (a *API) endSession(ctx context.Context, c *call, in *endSessionIn) (*endedOut, error) {
	if in.Wait != "" && a.Applied == nil {
		return nil, problem.New(problem.Invalid, "wait_unsupported", "This server cannot wait for its enforcement points.")
	}
	person := c.Person.ID
	if in.Person != "" {
		person = in.Person
	}
	e, err := a.toEnd(ctx, in.ID, person)
	if err != nil && !problem.Refusal(err) {
		return nil, err
	}
	if err != nil || e.owner != c.Person.ID {
		// Somebody else's, or nobody's: the same answer to whoever may not see it.
		if err := a.may(ctx, c, policy.SessionEnd, audit.SessionEnded, "", ScopeWrite); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	ch := change{action: e.action, kind: e.kind, owner: e.owner, target: e.nodes, whom: e.owner, said: e.said}
	ch.make = func(*act.Facts) ([]act.Change, error) {
		var list []act.Change
		for _, n := range e.nodes {
			list = append(list, lineage.End{ID: n, Why: "ended"})
		}
		if e.kind == audit.DeviceEnded && e.owner != "" { // it goes on for others, and is not the operator's for this one
			list = append(list, session.Unmanage{Device: in.ID, Person: e.owner})
		}
		return list, nil
	}
	out, err := a.carryOut(ctx, c, ch)
	if err != nil {
		return nil, err
	}
	answer := &endedOut{Ended{ID: in.ID, Record: out.RecordID}}
	if in.Wait != "" {
		applied, err := a.Applied(ctx, out.RecordID)
		if err != nil {
			return nil, err
		}
		answer.Body.Applied = &applied
	}
	return answer, nil
}
