package storetest

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// managed says that the device of a session is the operator's.
func (r *rig) managed(v session.Session, by string) session.Managed {
	m := session.Managed{Device: v.Device, Person: v.Person, Until: r.at.Add(time.Hour), Asset: "LT-0042", By: by, At: start}
	r.do(session.Manage{Managed: m})
	return m
}

// testManaged: what is said of a device is of one person there, stands in the facts of
// every way to act on it, and moves the version that guards them.
func testManaged(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam, c := r.person("dana"), r.person("sam"), r.client("app")
	v, _ := r.session(dana.ID)
	same(t, must(r.s.DevicesOf(r.ctx, dana.ID))(t), []session.Known{{Device: must(r.s.Device(r.ctx, v.Device))(t), Network: "192.0.2.0/24", SeenAt: start}})
	g, f := r.grant(dana.ID, c.ID, v.ID)
	there := g
	there.ID, there.Device = id.New(id.Grant), v.Device
	r.do(grant.Open{Grant: there})
	same(t, must(r.s.Grant(r.ctx, there.ID))(t).Device, v.Device)

	person := act.Refs{Kind: policy.KindPerson, Actor: dana.ID}
	ways := map[string]func(*act.Refs){
		"session":       func(x *act.Refs) { x.Session = v.ID },
		"grant":         func(x *act.Refs) { x.Grant, x.Client = there.ID, c.ID },
		"sign-in":       func(x *act.Refs) { x.Under = []string{v.Device} },
		"code redeemed": func(x *act.Refs) { x.Client, x.Under = c.ID, []string{v.ID, c.ID} },
	}
	want := func(what string, list []act.Managed) {
		t.Helper()
		for name, way := range ways {
			refs := person
			way(&refs)
			facts := must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t)
			if len(list) != len(facts.Managed) || len(list) == 1 && facts.Managed[0] != list[0] {
				t.Errorf("%s, %s: %+v", what, name, facts.Managed)
			}
			if (name == "grant" || name == "session") && facts.Device != v.Device {
				t.Errorf("%s: it is on device %q", what, facts.Device)
			}
		}
	}
	want("before", nil)
	before := node(t, r, v.Device).Version
	m := r.managed(v, "usr_boss")
	if got := node(t, r, v.Device).Version; got != before+1 {
		t.Errorf("the version went from %d to %d", before, got)
	}
	same(t, must(r.s.DevicesOf(r.ctx, dana.ID))(t)[0].Managed, m)
	want("managed", []act.Managed{{Device: v.Device, Until: m.Until}})
	// A grant that went elsewhere is on no device, and of others there nothing was said.
	if facts := must(r.s.Load(r.ctx, policy.TokenRefresh, act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Grant: g.ID, Family: f.ID, Client: c.ID}))(t); facts.Device != "" || facts.Managed != nil {
		t.Errorf("elsewhere: %q %+v", facts.Device, facts.Managed)
	}
	theirs := v
	theirs.ID, theirs.Person = id.New(id.Session), sam.ID
	r.do(session.Open{Session: theirs, SecretHash: hash()})
	if facts := must(r.s.Load(r.ctx, policy.SelfRead, act.Refs{Kind: policy.KindPerson, Actor: sam.ID, Session: theirs.ID}))(t); facts.Managed != nil {
		t.Errorf("of somebody else: %+v", facts.Managed)
	}

	m.Until, m.Asset = m.Until.Add(time.Hour), ""
	r.do(session.Manage{Managed: m})
	same(t, must(r.s.DevicesOf(r.ctx, dana.ID))(t)[0].Managed, m)
	version := node(t, r, v.Device).Version
	r.do(session.Unmanage{Device: v.Device, Person: dana.ID})
	want("taken back", nil)
	if got := node(t, r, v.Device).Version; got != version+1 {
		t.Errorf("taken back, the version went from %d to %d", version, got)
	}

	// Only a device that they signed in from, and only while both are there.
	alien, _ := r.session(sam.ID)
	gone, _ := r.session(dana.ID)
	r.do(lineage.End{ID: gone.Device, Why: "ended"})
	off := r.person("off")
	theirs, _ = r.session(off.ID)
	r.do(lineage.Freeze{ID: off.ID, Why: "disabled"})
	for name, bad := range map[string]session.Managed{
		"another's":     {Device: alien.Device, Person: dana.ID},
		"ended":         {Device: gone.Device, Person: dana.ID},
		"of a disabled": {Device: theirs.Device, Person: off.ID},
		"none":          {Device: id.New(id.Device), Person: dana.ID},
		"of nobody":     {Device: v.Device, Person: id.New(id.Person)},
	} {
		bad.Until, bad.At = m.Until, start
		if err := r.try(session.Manage{Managed: bad}); problem.CodeOf(err) != "device_not_found" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testMarked: what is said of devices is found by who said it, page by page, as long as
// it counts and the device has not ended.
func testMarked(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	var all []session.Managed
	for i, by := range []string{"svc_mdm", "usr_boss", "svc_mdm", "svc_mdm", "svc_mdm"} {
		v, _ := r.session([]string{dana.ID, sam.ID}[i%2])
		all = append(all, r.managed(v, by))
	}
	r.do(lineage.End{ID: all[3].Device, Why: "ended"})
	over := all[4]
	over.Until = r.at.Add(time.Minute)
	r.do(session.Manage{Managed: over})
	read := func(by string, at time.Time, n int) (out []session.Managed) {
		t.Helper()
		for after := ""; ; {
			page := must(r.s.Marked(r.ctx, by, at, after, n))(t)
			for i := range page {
				after = page[i].Managed.MarkKey()
				if out = append(out, page[i].Managed); page[i].ID != page[i].Managed.Device || page[i].Network != "192.0.2.0/24" {
					t.Errorf("%+v", page[i])
				}
			}
			if len(page) < n {
				return out
			}
		}
	}
	for _, n := range []int{1, 2, 100} {
		same(t, read("svc_mdm", r.at, n), []session.Managed{all[0], all[2], over})
		same(t, read("", r.at, n), []session.Managed{all[0], all[1], all[2], over})
	}
	same(t, read("usr_boss", r.at, 9), all[1:2])
	same(t, read("svc_mdm", r.at.Add(time.Minute), 9), []session.Managed{all[0], all[2]})
	same(t, len(read("svc_none", r.at, 9)), 0)
}

// testManyDevices: who signs in where no cookie is kept has a device of each sign-in, and
// what was said of the first can be taken back still.
func testManyDevices(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	many := r.person("many")
	oldest, _ := r.session(many.ID)
	r.managed(oldest, "svc_mdm")
	for range 5 {
		var opens []act.Change
		for range 100 {
			d := session.Device{ID: id.New(id.Device), Label: "Chrome on Linux", CreatedAt: start}
			x := oldest
			x.ID, x.Device = id.New(id.Session), d.ID
			opens = append(opens, session.Open{Session: x, SecretHash: hash(), NewDevice: &d, DeviceHash: hash()})
		}
		r.do(opens...)
	}
	if list := must(r.s.DevicesOf(r.ctx, many.ID))(t); len(list) != 500 || list[499].ID != oldest.Device || list[0].ID <= list[1].ID || r.manages(many.ID) != 1 {
		t.Errorf("of 501 devices %d are listed, and %d are managed", len(list), r.manages(many.ID))
	}
}

// testManagedRaces: a mark that is made while the person is stopped, or what they had
// ends, is not there afterwards, whichever was first.
func testManagedRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	for i := range 20 {
		dana := r.person("dana" + strconv.Itoa(i))
		v, _ := r.session(dana.ID)
		m := session.Managed{Device: v.Device, Person: dana.ID, Until: r.at.Add(time.Hour), By: "svc_mdm", At: start}
		stop := act.Change(lineage.Freeze{ID: dana.ID, Why: "disabled"})
		for n, err := range race(2, func(n int) error {
			c := []act.Change{session.Manage{Managed: m}, stop}[n]
			for {
				if err := rs[n%len(rs)].s.Commit(context.Background(), rs[n%len(rs)].write(audit.DeviceManaged, "", nil, c)); !errors.Is(err, act.ErrStale) {
					return err
				}
			}
		}) {
			if err != nil && (n == 1 || problem.CodeOf(err) != "device_not_found") {
				t.Fatal(err)
			}
		}
		if r.manages(dana.ID) != 0 {
			t.Fatalf("round %d: somebody who is disabled has a managed device", i)
		}
	}
}

// testManagedEnds: what was said of a device ends with the person or the device, and
// where either was in other hands, and nothing brings it back.
func testManagedEnds(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	lee := r.person("lee")
	theirs, _ := r.session(lee.ID)
	n := 0
	for name, end := range map[string]func(dana account.Person, v session.Session) []act.Change{
		"disabled": func(dana account.Person, _ session.Session) []act.Change {
			return []act.Change{lineage.Freeze{ID: dana.ID, Why: "disabled"}}
		},
		"enabled again": func(dana account.Person, _ session.Session) []act.Change {
			r.do(lineage.Freeze{ID: dana.ID, Why: "disabled"})
			return []act.Change{lineage.Thaw{ID: dana.ID}}
		},
		"erased": func(dana account.Person, _ session.Session) []act.Change {
			return []act.Change{account.Erase{ID: dana.ID}}
		},
		"device ended": func(_ account.Person, v session.Session) []act.Change {
			return []act.Change{lineage.End{ID: v.Device, Why: "ended"}}
		},
		"recovered": func(dana account.Person, _ session.Session) []act.Change {
			return []act.Change{recovery.EndAll{Person: dana.ID, Why: "recovered"}}
		},
		"not them": func(dana account.Person, _ session.Session) []act.Change {
			x := r.reviewed(dana.ID, "", policy.TokenExchange)
			r.do(review.Opens{Review: x})
			return []act.Change{review.Resolve{ID: x.ID, State: review.Refused, By: "usr_x"}}
		},
	} {
		n++
		dana := r.person("dana" + string(rune('a'+n)))
		v, _ := r.session(dana.ID)
		r.managed(v, "svc_mdm")
		r.managed(theirs, "svc_mdm")
		r.do(end(dana, v)...)
		if got := r.manages(dana.ID); got != 0 {
			t.Errorf("%s: %d devices are managed still", name, got)
		}
		if got := r.manages(lee.ID); got != 1 {
			t.Errorf("%s: of another %d are", name, got)
		}
	}
	// What somebody said who was in other hands.
	admins := r.group("administrators")
	boss := r.person("boss", admins.ID)
	at, _ := r.session(boss.ID)
	mark := r.managed(at, "svc_mdm")
	for after, want := range map[time.Time]int64{r.at: 1, mark.Until: 0} {
		if got := must(r.s.ManagedIn(r.ctx, "administrators", after))(t); got != want {
			t.Errorf("at %s administrators have %d managed devices", after, got)
		}
	}
	r.managed(theirs, boss.ID)
	version := node(t, r, theirs.Device).Version
	r.do(lineage.Freeze{ID: boss.ID, Why: "disabled"})
	if r.manages(lee.ID) != 1 {
		t.Error("disabling who said it took it back")
	}
	r.do(recovery.EndAll{Person: boss.ID, Why: "recovered"})
	if got := node(t, r, theirs.Device).Version; r.manages(lee.ID) != 0 || got != version+1 {
		t.Errorf("%d devices are managed still, and the version went from %d to %d", r.manages(lee.ID), version, got)
	}
	// A backup may have what was taken back since.
	r.managed(theirs, "svc_mdm")
	r.do(store.Quarantine{Why: "a test", Seen: store.Anchor{By: store.ByFile, Epoch: 1, HW: 500}})
	r.do(store.Leave{})
	if got := r.manages(lee.ID); got != 0 {
		t.Errorf("after a restore %d devices are managed", got)
	}
	// What is over is kept for a while, and then is not.
	r.managed(theirs, "svc_mdm")
	for _, after := range []struct{ days, want int }{{29, 1}, {31, 0}} {
		if err := r.s.DeleteExpired(r.ctx, r.at.Add(time.Duration(after.days)*24*time.Hour)); err != nil || r.manages(lee.ID) != after.want {
			t.Errorf("after %d days %d are kept: %v", after.days, r.manages(lee.ID), err)
		}
	}
}

// manages counts what is said of a person's devices, over or not.
func (r *rig) manages(person string) (n int) {
	r.t.Helper()
	for _, k := range must(r.s.DevicesOf(r.ctx, person))(r.t) {
		if k.Managed.Device != "" {
			n++
		}
	}
	return n
}
