package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Group is a named set of people.
type Group struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Kind      string    `json:"kind" enum:"group,organisation"`
	CreatedAt time.Time `json:"created_at"`
}

// Member is somebody in a group.
type Member struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Username string `json:"username"`
}

type (
	groupBody struct {
		Name string `json:"name" maxLength:"64"`
	}
	groupIn struct {
		KeyParam
		Body groupBody
	}
	groupOut struct {
		Location string `header:"Location"`
		Tagged
		Body Group
	}
	memberIn struct {
		ID     string `path:"id" maxLength:"64"`
		Person string `path:"person" maxLength:"64"`
	}
	membersIn struct {
		ID string `path:"id" maxLength:"64"`
		PageParams
	}
)

func (a *API) groups() {
	const tag = "groups"
	register(a, operation{
		id: "list-groups", method: http.MethodGet, path: "/v1/groups", summary: "List groups", tag: tag,
		scope: ScopeRead, action: policy.GroupRead, kind: audit.TokenRefused,
	}, a.listGroups)
	register(a, operation{
		id: "create-group", method: http.MethodPost, path: "/v1/groups", summary: "Make a group", tag: tag,
		scope: ScopeWrite, action: policy.GroupWrite, kind: audit.GroupCreated, status: http.StatusCreated,
	}, a.createGroup)
	register(a, operation{
		id: "list-members", method: http.MethodGet, path: "/v1/groups/{id}/members", summary: "List who is in a group", tag: tag,
		scope: ScopeRead, action: policy.GroupRead, kind: audit.TokenRefused,
	}, a.listMembers)
	register(a, operation{
		id: "add-member", method: http.MethodPost, path: "/v1/groups/{id}/members/{person}", summary: "Add a person to a group", tag: tag,
		scope: ScopeWrite, action: policy.GroupWrite, kind: audit.GroupJoined, status: http.StatusNoContent,
	}, a.addMember)
	register(a, operation{
		id: "remove-member", method: http.MethodDelete, path: "/v1/groups/{id}/members/{person}", summary: "Take a person out of a group", tag: tag,
		scope: ScopeWrite, action: policy.GroupWrite, kind: audit.GroupLeft, status: http.StatusNoContent,
	}, a.removeMember)
}

func viewGroup(g group.Group) Group {
	return Group{ID: g.ID, Name: g.Name, Kind: string(g.Kind), CreatedAt: g.CreatedAt}
}

func (a *API) listGroups(ctx context.Context, _ *call, in *PageParams) (*pageOut[Group], error) {
	return paged(*in, func(after string, n int) ([]group.Group, error) { return a.Directory.Groups(ctx, after, n) },
		func(g group.Group) string { return g.ID }, func(g group.Group) bool { return g.Node.EndedAt.IsZero() },
		func(g group.Group) (Group, error) { return viewGroup(g), nil })
}

// liveGroup finds a group that has not ended.
func (a *API) liveGroup(ctx context.Context, id string) (group.Group, error) {
	g, err := a.Directory.Group(ctx, id)
	if err == nil && !g.Node.EndedAt.IsZero() {
		err = problem.New(problem.NotFound, "group_not_found", "There is no such group.")
	}
	return g, err
}

func (a *API) showGroup(ctx context.Context, id string) (*groupOut, error) {
	g, err := a.liveGroup(ctx, id)
	if err != nil {
		return nil, err
	}
	return &groupOut{"/v1/groups/" + g.ID, Tagged{tag(g.Node)}, viewGroup(g)}, nil
}

func (a *API) createGroup(ctx context.Context, c *call, in *groupIn) (*groupOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showGroup, func(key *idempotency) (*groupOut, error) {
		if err := group.CheckName(in.Body.Name); err != nil {
			return nil, err
		}
		g := group.Group{ID: id.New(id.Group), Name: in.Body.Name, Kind: group.Plain, CreatedAt: a.now()}
		_, err := a.carryOut(ctx, c, change{
			said: map[string]any{"group": g.Name, "group_id": g.ID},
			make: func(*act.Facts) ([]act.Change, error) {
				return key.remember(g.ID, a.now(), group.Create{Group: g}), nil
			},
		})
		if err != nil {
			return nil, err
		}
		return a.showGroup(ctx, g.ID)
	})
}

func (a *API) listMembers(ctx context.Context, _ *call, in *membersIn) (*pageOut[Member], error) {
	g, err := a.liveGroup(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return paged(in.PageParams, func(after string, n int) ([]string, error) { return a.Directory.Members(ctx, g.ID, after, n) },
		func(p string) string { return p }, nil,
		func(p string) (Member, error) {
			v, err := a.Directory.Person(ctx, p)
			return Member{ID: p, Name: v.Name, Username: v.Username}, err
		})
}

// membership finds both sides of a membership, and what its record is called:
// who becomes an administrator stands out.
func (a *API) membership(ctx context.Context, in *memberIn, plain, admin audit.Kind) (change, error) {
	g, err := a.liveGroup(ctx, in.ID)
	if err != nil {
		return change{}, err
	}
	p, err := a.Directory.Person(ctx, in.Person)
	if err != nil {
		return change{}, err
	}
	ch := change{kind: plain, target: []string{g.ID, p.ID}, whom: p.ID, general: map[string]any{"group": g.Name, "group_id": g.ID}}
	if g.Name == group.Administrators {
		ch.kind = admin
	}
	return ch, nil
}

func (a *API) addMember(ctx context.Context, c *call, in *memberIn) (*none, error) {
	ch, err := a.membership(ctx, in, audit.GroupJoined, audit.AdminGranted)
	if err != nil {
		return nil, err
	}
	ch.make = func(*act.Facts) ([]act.Change, error) {
		return []act.Change{group.Add{Group: in.ID, Person: in.Person}}, nil
	}
	_, err = a.carryOut(ctx, c, ch)
	return nil, err
}

func (a *API) removeMember(ctx context.Context, c *call, in *memberIn) (*none, error) {
	ch, err := a.membership(ctx, in, audit.GroupLeft, audit.AdminWithdrawn)
	if err != nil {
		return nil, err
	}
	ch.make = func(*act.Facts) ([]act.Change, error) {
		return []act.Change{group.Remove{Group: in.ID, Person: in.Person}}, nil
	}
	_, err = a.carryOut(ctx, c, ch)
	return nil, err
}
