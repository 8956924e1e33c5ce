package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

// ScopeDevices is by which a service may say which devices are managed.
const ScopeDevices = "devices"

// DeviceView is a browser that a person has signed in from.
type DeviceView struct {
	ID         string    `json:"id" example:"dev_01JD…"`
	Name       string    `json:"name" doc:"What the browser calls itself; it proves nothing"`
	Network    string    `json:"network,omitempty" doc:"Where its newest session began"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at" doc:"Within five minutes or so"`
	Managed    *Managed  `json:"managed,omitempty" doc:"Absent if it is not, or not any more"`
}

// Managed says that a device is the operator's.
type Managed struct {
	Until time.Time `json:"until"`
	Asset string    `json:"asset,omitempty"`
	By    string    `json:"by" doc:"Id of the person or service that said so"`
	At    time.Time `json:"at"`
}

type (
	devicesIn struct {
		ID string `path:"id" maxLength:"64" doc:"Of a person: id, sub or user name"`
		PageParams
	}
	// DeviceParams name a device of a person.
	DeviceParams struct {
		ID     string `path:"id" maxLength:"64" doc:"Of a person: id, sub or user name"`
		Device string `path:"device" maxLength:"64"`
	}
	manageIn struct {
		DeviceParams
		Body struct {
			Until time.Time `json:"until" doc:"It counts before then; 400 days from now at most"`
			Asset string    `json:"asset,omitempty" maxLength:"64" doc:"What an inventory calls it"`
		}
	}
	deviceOut struct{ Body DeviceView }
	markedIn  struct {
		PageParams
		MarkedBy string `query:"marked_by" maxLength:"64" doc:"Only those that this person or service called managed, by id; it may be disabled or gone"`
	}
)

// MarkedDevice is a managed device, and whose it is.
type MarkedDevice struct {
	Person string `json:"person" doc:"Id of who signs in there"`
	DeviceView
}

func (a *API) devices() {
	const tag = "devices"
	register(a, operation{
		id: "list-devices", method: http.MethodGet, path: "/v1/people/{id}/devices", tag: tag,
		summary: "List the devices that a person has signed in from, newest first",
		scope:   ScopeRead, service: ScopeDevices, action: policy.DeviceRead, kind: audit.TokenRefused,
	}, a.listDevices)
	register(a, operation{
		id: "list-managed-devices", method: http.MethodGet, path: "/v1/devices", tag: tag,
		summary: "List the managed devices of everybody, or those that one person or service called so",
		scope:   ScopeRead, service: ScopeDevices, action: policy.DeviceRead, kind: audit.TokenRefused,
	}, a.listMarked)
	register(a, operation{
		id: "manage-device", method: http.MethodPut, path: "/v1/people/{id}/devices/{device}/managed", tag: tag, status: http.StatusOK,
		summary: "Say that a device of a person's is a managed one; said again it takes the place of the earlier",
		scope:   ScopeWrite, service: ScopeDevices, action: policy.DeviceManage, kind: audit.DeviceManaged,
	}, a.manageDevice)
	register(a, operation{
		id: "unmanage-device", method: http.MethodDelete, path: "/v1/people/{id}/devices/{device}/managed", tag: tag, status: http.StatusNoContent,
		summary: "Take back that a device of a person's is a managed one",
		scope:   ScopeWrite, service: ScopeDevices, action: policy.DeviceUnmanage, kind: audit.DeviceUnmanaged,
	}, a.unmanageDevice)
}

func viewDevice(k session.Known, now time.Time) DeviceView {
	v := DeviceView{ID: k.ID, Name: k.Label, Network: k.Network, CreatedAt: k.CreatedAt, LastSeenAt: k.SeenAt}
	if m := k.Managed; m.Counts(now) {
		v.Managed = &Managed{Until: m.Until, Asset: m.Asset, By: m.By, At: m.At}
	}
	return v
}

// owner is the person that a path names. Scripts that manage devices know people by what
// they sign in with.
func (a *API) owner(ctx context.Context, ref string) (account.Person, error) {
	p, err := a.tokenPerson(ctx, ref)
	if errors.Is(err, problem.NotFound) {
		p, err = a.Directory.PersonByUsername(ctx, ref)
	}
	return p, err
}

func (a *API) listDevices(ctx context.Context, _ *call, in *devicesIn) (*pageOut[DeviceView], error) {
	p, err := a.owner(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list, err := a.Access.DevicesOf(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	key := func(k session.Known) string { return k.ID }
	return paged(in.PageParams, within(list, key, true), key, nil, func(k session.Known) (DeviceView, error) { return viewDevice(k, a.now()), nil })
}

func (a *API) listMarked(ctx context.Context, _ *call, in *markedIn) (*pageOut[MarkedDevice], error) {
	now := a.now()
	return paged(in.PageParams, func(after string, n int) ([]session.Known, error) {
		return a.Access.Marked(ctx, in.MarkedBy, now, after, n)
	}, func(k session.Known) string { return k.Managed.MarkKey() }, nil, func(k session.Known) (MarkedDevice, error) {
		return MarkedDevice{k.Managed.Person, viewDevice(k, now)}, nil
	})
}

// deviceOf finds a device that a person has signed in from.
func (a *API) deviceOf(ctx context.Context, person, device string) (session.Known, error) {
	p, err := a.owner(ctx, person)
	if err != nil {
		return session.Known{}, err
	}
	list, err := a.Access.DevicesOf(ctx, p.ID)
	for _, k := range list {
		if k.ID == device {
			k.Managed.Person = p.ID
			return k, err
		}
	}
	if err == nil {
		err = problem.New(problem.NotFound, "device_not_found", "The person has not signed in from such a device.")
	}
	return session.Known{}, err
}

func (a *API) manageDevice(ctx context.Context, c *call, in *manageIn) (*deviceOut, error) {
	k, err := a.deviceOf(ctx, in.ID, in.Device)
	if err != nil {
		return nil, err
	}
	now := a.now()
	m := session.Managed{Device: k.ID, Person: k.Managed.Person, Until: in.Body.Until.UTC().Truncate(time.Microsecond), Asset: in.Body.Asset, By: c.Service.ID, At: now}
	if !c.machine() {
		m.By = c.Person.ID
	}
	if err := m.Check(now); err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{m.Person, m.Device}, whom: m.Person, said: m.Said(k.Label),
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{session.Manage{Managed: m}}, nil },
	})
	k.Managed = m
	return &deviceOut{viewDevice(k, now)}, err
}

func (a *API) unmanageDevice(ctx context.Context, c *call, in *DeviceParams) (*none, error) {
	k, err := a.deviceOf(ctx, in.ID, in.Device)
	if err != nil || k.Managed.Device == "" {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{k.Managed.Person, k.ID}, whom: k.Managed.Person, said: map[string]any{"device": k.ID, "name": k.Label},
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{session.Unmanage{Device: k.ID, Person: k.Managed.Person}}, nil
		},
	})
	return nil, err
}
