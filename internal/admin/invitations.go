package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Invitation is a link that was made for somebody and not used yet.
type Invitation struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Username  string    `json:"username,omitempty"`
	Email     string    `json:"email,omitempty"`
	Groups    []string  `json:"groups" nullable:"false" doc:"Names"`
	InvitedBy string    `json:"invited_by" doc:"Person"`
	ExpiresAt time.Time `json:"expires_at"`
	URL       string    `json:"url,omitempty" doc:"The link, told once: whoever has it can join"`
}

type (
	inviteBody struct {
		Name     string   `json:"name" maxLength:"320"`
		Username string   `json:"username,omitempty" maxLength:"64"`
		Email    string   `json:"email,omitempty" maxLength:"254"`
		Groups   []string `json:"groups,omitempty" maxItems:"20" doc:"Names"`
	}
	inviteIn struct {
		KeyParam
		Body inviteBody
	}
	inviteOut struct {
		Location string `header:"Location"`
		Body     Invitation
	}
)

func (a *API) invitations() {
	const tag = "invitations"
	register(a, operation{
		id: "create-invitation", method: http.MethodPost, path: "/v1/invitations", summary: "Make a link with which a person joins", tag: tag,
		scope: ScopeWrite, action: policy.PersonInvite, kind: audit.PersonInvited, status: http.StatusCreated,
	}, a.invite)
	register(a, operation{
		id: "list-invitations", method: http.MethodGet, path: "/v1/invitations", summary: "List invitations that were not used yet", tag: tag,
		scope: ScopeRead, action: policy.PersonRead, kind: audit.TokenRefused,
	}, a.listInvitations)
	register(a, operation{
		id: "withdraw-invitation", method: http.MethodDelete, path: "/v1/invitations/{id}", summary: "Withdraw an invitation", tag: tag,
		scope: ScopeWrite, action: policy.PersonInvite, kind: audit.InvitationWithdrawn, status: http.StatusNoContent,
	}, a.withdraw)
}

// invited reads and checks who is to be invited.
func (a *API) invited(ctx context.Context, c *call, b inviteBody) (account.Invitation, []string, error) {
	inv := account.Invitation{ID: id.New(id.Invitation), InvitedBy: c.Person.ID}
	var err error
	if inv.Name, err = account.CheckName(b.Name); err != nil {
		return inv, nil, err
	}
	if b.Username != "" {
		if inv.Username, err = account.CheckUsername(b.Username); err != nil {
			return inv, nil, err
		}
		if _, err := a.Directory.PersonByUsername(ctx, inv.Username); err == nil {
			return inv, nil, problem.New(problem.Conflict, "username_taken", "That user name is taken.")
		} else if !problem.Refusal(err) {
			return inv, nil, err
		}
	}
	if inv.Email, err = account.CheckEmail(b.Email); err != nil {
		return inv, nil, err
	}
	names := slices.Compact(slices.Sorted(slices.Values(b.Groups)))
	for _, name := range names {
		g, err := a.groupNamed(ctx, name)
		if err != nil {
			return inv, nil, err
		}
		inv.Groups = append(inv.Groups, g.ID)
	}
	return inv, names, nil
}

// groupNamed finds a live group that a request names.
func (a *API) groupNamed(ctx context.Context, name string) (group.Group, error) {
	g, err := a.Directory.GroupByName(ctx, name)
	if err == nil && g.Node.Live() {
		return g, nil
	}
	if err != nil && !problem.Refusal(err) {
		return g, err
	}
	return g, problem.Newf(problem.Invalid, "group_unknown", "There is no group %.64q.", name)
}

func (a *API) invite(ctx context.Context, c *call, in *inviteIn) (*inviteOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.inviteAgain, func(key *idempotency) (*inviteOut, error) {
		inv, names, err := a.invited(ctx, c, in.Body)
		if err != nil {
			return nil, err
		}
		put, link := account.NewInvitation(a.Issuer, inv, a.now())
		if inv, err = account.ReadInvitation(put.Value); err != nil {
			return nil, err
		}
		_, err = a.carryOut(ctx, c, change{
			whom: inv.PersonID(), said: map[string]any{"name": inv.Name, "invitation": inv.ID}, target: inv.Groups,
			make: func(*act.Facts) ([]act.Change, error) { return key.remember(inv.ID, a.now(), put), nil },
		})
		if err != nil {
			return nil, err
		}
		v := viewInvitation(inv, func(string) string { return "" })
		v.Groups, v.URL = append([]string{}, names...), link
		return &inviteOut{"/v1/invitations/" + inv.ID, v}, nil
	})
}

// inviteAgain answers a repeated request. The link was told once and is known to
// nobody here.
func (a *API) inviteAgain(ctx context.Context, id string) (*inviteOut, error) {
	inv, _, err := a.pending(ctx, id)
	if err != nil {
		return nil, err
	}
	names, err := a.groupNames(ctx)
	return &inviteOut{"/v1/invitations/" + id, viewInvitation(inv, names)}, err
}

func viewInvitation(inv account.Invitation, groupName func(string) string) Invitation {
	v := Invitation{
		ID: inv.ID, Name: inv.Name, Username: inv.Username, Email: inv.Email, Groups: []string{}, InvitedBy: inv.InvitedBy, ExpiresAt: inv.ExpiresAt.UTC(),
	}
	for _, g := range inv.Groups {
		if n := groupName(g); n != "" {
			v.Groups = append(v.Groups, n)
		}
	}
	return v
}

// groupNames gives the names of groups by id.
func (a *API) groupNames(ctx context.Context) (func(string) string, error) {
	names := map[string]string{}
	for after := ""; ; {
		list, err := a.Directory.Groups(ctx, after, 200)
		if err != nil {
			return nil, err
		}
		for _, g := range list {
			names[g.ID] = g.Name
			after = g.ID
		}
		if len(list) < 200 {
			return func(id string) string { return names[id] }, nil
		}
	}
}

// open are the invitations that can still be used, by id.
func (a *API) open(ctx context.Context) ([]account.Invitation, []once.Key, error) {
	values, err := a.State.OncePending(ctx, once.Invite)
	if err != nil {
		return nil, nil, err
	}
	type item struct {
		inv account.Invitation
		key once.Key
	}
	var items []item
	for _, v := range values {
		inv, err := account.ReadInvitation(v)
		if err != nil {
			return nil, nil, err
		}
		items = append(items, item{inv, v.Key})
	}
	slices.SortFunc(items, func(x, y item) int { return cmp.Compare(x.inv.ID, y.inv.ID) })
	var list []account.Invitation
	var keys []once.Key
	for _, i := range items {
		list, keys = append(list, i.inv), append(keys, i.key)
	}
	return list, keys, nil
}

func (a *API) pending(ctx context.Context, id string) (account.Invitation, once.Key, error) {
	list, keys, err := a.open(ctx)
	if err != nil {
		return account.Invitation{}, once.Key{}, err
	}
	for i, inv := range list {
		if inv.ID == id {
			return inv, keys[i], nil
		}
	}
	return account.Invitation{}, once.Key{}, problem.New(problem.NotFound, "invitation_not_found", "There is no such invitation, or it was used, withdrawn or has expired.")
}

func (a *API) listInvitations(ctx context.Context, _ *call, in *PageParams) (*pageOut[Invitation], error) {
	list, _, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	names, err := a.groupNames(ctx)
	if err != nil {
		return nil, err
	}
	key := func(i account.Invitation) string { return i.ID }
	return paged(*in, within(list, key, false), key, nil, func(i account.Invitation) (Invitation, error) { return viewInvitation(i, names), nil })
}

// withdraw spends the link, so that either it is used or it is withdrawn.
func (a *API) withdraw(ctx context.Context, c *call, in *idIn) (*none, error) {
	inv, key, err := a.pending(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		whom: inv.PersonID(), said: map[string]any{"name": inv.Name, "invitation": inv.ID},
		spend: []once.Spend{{Purpose: once.Invite, Key: key, Ref: "withdrawn"}},
		make:  func(*act.Facts) ([]act.Change, error) { return nil, nil },
	})
	return nil, err
}
