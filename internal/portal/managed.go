package portal

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	devicesPath  = view.PathPeople + "/devices"
	managePath   = devicesPath + "/manage"
	unmanagePath = devicesPath + "/unmanage"
)

// usualDays is for how long a device is called managed unless something else is chosen.
const usualDays = 90

func (s *Server) deviceMarkRoutes(handle func(string, web.Handler)) {
	handle("GET "+devicesPath, s.signedIn(s.devicesOf))
	handle("GET "+managePath, s.signedIn(s.manage))
	handle("POST "+managePath, s.signedIn(s.managePosted))
	handle("POST "+unmanagePath, s.signedIn(s.unmanagePosted))
}

// devicesOf lists the devices of a person.
func (s *Server) devicesOf(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.DeviceRead, 0), r.URL.RequestURI(), "people"); !ok {
		return err
	}
	p, list, err := s.theirDevices(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	m := view.Devices{Whose: p.Name, Asked: s.Do.ManagesDevices, Back: view.PathPeople}
	for _, k := range list {
		m.Items = append(m.Items, s.device(p, k))
	}
	slices.SortStableFunc(m.Items, func(a, b view.Device) int { return b.LastUsedAt.Compare(a.LastUsedAt) })
	return s.show(w, r, v, view.PathPeople, m)
}

func (s *Server) theirDevices(ctx context.Context, person string) (account.Person, []session.Known, error) {
	p, err := s.Store.Person(ctx, person)
	if err != nil {
		return p, nil, orNothing(err, problem.New(problem.NotFound, "person_not_found", "There is no such person."))
	}
	list, err := s.Store.DevicesOf(ctx, p.ID)
	return p, list, err
}

// device is how pages show one.
func (s *Server) device(p account.Person, k session.Known) view.Device {
	d := view.Device{ID: k.ID, Name: k.Label, Network: k.Network, StartedAt: k.CreatedAt, LastUsedAt: k.SeenAt, URL: withQuery(managePath, "id", p.ID, "device", k.ID)}
	if k.Managed.Counts(s.now()) {
		d.Until, d.Asset = k.Managed.Until, k.Managed.Asset
	}
	return d
}

// marking is a device of a person's that an administrator looks at.
type marking struct {
	person account.Person
	known  session.Known
	page   view.DeviceMark
	here   string
	form   web.Form
}

// marking finds the device that a request names; ok is false once something was answered.
func (s *Server) marking(w http.ResponseWriter, r *http.Request, v *visitor) (x marking, ok bool, err error) {
	if x.form, err = web.ParseForm(r, maxBody); err != nil {
		return x, false, err
	}
	person, device := x.form.Get("id"), x.form.Get("device")
	x.here = withQuery(managePath, "id", person, "device", device)
	if ok, err := s.may(w, r, asAdmin(v, policy.DeviceRead, 0), x.here, "people"); !ok {
		return x, false, err
	}
	p, list, err := s.theirDevices(r.Context(), person)
	if err != nil {
		return x, false, err
	}
	i := slices.IndexFunc(list, func(k session.Known) bool { return k.ID == device })
	if i < 0 {
		return x, false, problem.New(problem.NotFound, "device_not_found", "They haven't signed in from such a device, or it was ended.")
	}
	x.person, x.known = p, list[i]
	both := fields("id", p.ID, "device", device)
	x.page = view.DeviceMark{
		Whose: p.Name, Device: s.device(p, x.known), Manage: view.Form{Action: managePath, Hidden: both}, Days: usualDays,
		Back: withQuery(devicesPath, "id", p.ID),
	}
	if !x.page.Device.Until.IsZero() {
		x.page.Asset.Value, x.page.Unmanage = x.known.Managed.Asset, &view.Form{Action: unmanagePath, Hidden: both}
		x.page.Device.By, err = s.sayer(r.Context(), x.known.Managed.By)
	}
	return x, err == nil, err
}

// sayer names the person or service that said something.
func (s *Server) sayer(ctx context.Context, ref string) (string, error) {
	if strings.HasPrefix(ref, id.Person) {
		return s.nameOf(ctx, ref)
	}
	sv, err := s.Store.Service(ctx, ref)
	if problem.Refusal(err) {
		return ref, nil
	}
	return sv.Name, err
}

// manage asks for how long a device is a managed one.
func (s *Server) manage(w http.ResponseWriter, r *http.Request, v *visitor) error {
	x, ok, err := s.marking(w, r, v)
	if !ok {
		return err
	}
	return s.show(w, r, v, view.PathPeople, x.page)
}

func (s *Server) managePosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	x, ok, err := s.marking(w, r, v)
	if !ok {
		return err
	}
	n, err := strconv.Atoi(x.form.Get("days"))
	if err != nil || !slices.Contains(view.ManagedDays, n) {
		n = usualDays
	}
	now := s.now()
	m := session.Managed{
		Device: x.known.ID, Person: x.person.ID, Until: now.Add(time.Duration(n) * 24 * time.Hour).UTC().Truncate(time.Microsecond),
		Asset: strings.TrimSpace(x.form.Get("asset")), By: v.person.ID, At: now,
	}
	if err := m.Check(now); err != nil {
		x.page.Days = n
		if x.page.Asset, err = wrong(x.form.Get("asset"), err); err != nil {
			return err
		}
		return s.show(w, r, v, view.PathPeople, x.page)
	}
	in := asAdmin(v, policy.DeviceManage, audit.DeviceManaged, m.Person, m.Device)
	return s.marked(w, r, v, x, in, session.Manage{Managed: m}, m.Said(x.known.Label))
}

func (s *Server) unmanagePosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	x, ok, err := s.marking(w, r, v)
	if !ok {
		return err
	}
	if x.page.Unmanage == nil { // somebody else was faster, or it ran out
		return seeOther(w, r, x.page.Back)
	}
	in := asAdmin(v, policy.DeviceUnmanage, audit.DeviceUnmanaged, x.person.ID, x.known.ID)
	return s.marked(w, r, v, x, in, session.Unmanage{Device: x.known.ID, Person: x.person.ID}, map[string]any{"device": x.known.ID, "name": x.known.Label})
}

// marked carries out an act on a device of somebody's, and says so to both.
func (s *Server) marked(w http.ResponseWriter, r *http.Request, v *visitor, x marking, in act.Intent, c act.Change, said map[string]any) error {
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		eff := act.Effect{Changes: []act.Change{c}, Parts: append(about(v), audit.Part{Person: x.person.ID, Body: said})}
		if x.person.ID == v.person.ID {
			said["whom"] = v.person.ID
			eff.Parts = []audit.Part{{Person: v.person.ID, Body: said}}
		}
		return eff, nil
	}
	if ok, err := s.perform(w, r, in, x.here, "people"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(devicesPath, "id", x.person.ID, "done", in.Kind.Name()))
}
