package act_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
)

// rig is a Doer over a real database.
type rig struct {
	t      *testing.T
	store  *store.Store
	keys   *store.RecordKeys
	do     *act.Doer
	now    atomic.Pointer[time.Time]
	admins group.Group
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t}
	start := time.Now().UTC().Truncate(time.Second)
	r.now.Store(&start)
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "db"), Migrate: true, Now: r.time})
	r.ok(err)
	t.Cleanup(func() { r.ok(s.Close()) })
	kek, err := hsm.OpenOrCreateFile(filepath.Join(dir, "kek"))
	r.ok(err)
	r.store, r.keys = s, s.RecordKeys(kek)
	r.do = r.doer()
	r.admins = group.Group{ID: id.New(id.Group), Name: group.Administrators, Kind: group.Plain, CreatedAt: start}
	r.seed(group.Create{Group: r.admins})
	return r
}

// doer makes a Doer of its own, as another replica has.
func (r *rig) doer() *act.Doer {
	return &act.Doer{Store: r.store, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: r.keys, Now: r.time}
}

func (r *rig) time() time.Time { return *r.now.Load() }

func (r *rig) pass(d time.Duration) {
	n := r.time().Add(d)
	r.now.Store(&n)
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// system is an act of the server itself that makes changes.
func system(changes ...act.Change) act.Intent {
	return act.Intent{
		Action: policy.SandboxSeed, Kind: audit.GroupCreated, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: changes}, nil },
	}
}

func (r *rig) seed(changes ...act.Change) {
	r.t.Helper()
	_, err := r.doer().Do(context.Background(), system(changes...))
	r.ok(err)
}

func (r *rig) person(username string, groups ...string) account.Person {
	r.t.Helper()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: username, Username: username, CreatedAt: r.time()}
	r.seed(account.Create{Person: p, Groups: groups})
	return p
}

// proof is a passkey shown just now.
func (r *rig) proof(person string) assurance.Proof {
	return assurance.Proof{Method: assurance.Passkey, Subject: person, At: r.time(), UserVerified: true, PhishingResistant: true}
}

func (r *rig) session(person string, proofs ...assurance.Proof) session.Session {
	r.t.Helper()
	d := session.Device{ID: id.New(id.Device), Label: "Chrome on Linux", CreatedAt: r.time()}
	v := session.Session{
		ID: id.New(id.Session), Person: person, Device: d.ID, Proofs: proofs, CreatedAt: r.time(), SeenAt: r.time(),
		ExpiresAt: r.time().Add(session.Lifetime), IdleUntil: r.time().Add(session.IdleLifetime),
	}
	r.seed(session.Open{Session: v, SecretHash: secret.New(secret.Session).Hash(), NewDevice: &d, DeviceHash: secret.New(secret.Device).Hash()})
	return v
}

func newGroup(name string) group.Group {
	return group.Group{ID: id.New(id.Group), Name: name, Kind: group.Plain}
}

// has reports whether a group was made.
func (r *rig) has(g group.Group) bool {
	r.t.Helper()
	_, err := r.store.Group(context.Background(), g.ID)
	if err != nil && !errors.Is(err, problem.NotFound) {
		r.t.Fatal(err)
	}
	return err == nil
}

// records are all there are, newest first.
func (r *rig) records() []store.Record {
	r.t.Helper()
	page, _, err := r.store.AuditPage(context.Background(), store.Filter{}, 200)
	r.ok(err)
	return page
}

// line is a record as people read it.
func (r *rig) line(rec store.Record) audit.Line {
	r.t.Helper()
	l, err := audit.Read(context.Background(), rec.Row, rec.Seq, r.keys, func(x string) string { return x })
	r.ok(err)
	return l
}

// unchanged fails the test if f wrote a record.
func (r *rig) unchanged(f func()) {
	r.t.Helper()
	before := len(r.records())
	f()
	if got := len(r.records()); got != before {
		r.t.Errorf("%d records were written, want none", got-before)
	}
}

// one runs f, which has to write exactly one record, and gives it.
func (r *rig) one(f func()) audit.Line {
	r.t.Helper()
	before := len(r.records())
	f()
	all := r.records()
	if len(all) != before+1 {
		r.t.Fatalf("%d records were written, want one", len(all)-before)
	}
	return r.line(all[0])
}

func (r *rig) code(err error, kind problem.Kind, code string) {
	r.t.Helper()
	if p := problem.From(err); p == nil || p.Kind != kind || p.Code != code {
		r.t.Fatalf("err = %v, want %s %s", err, kind, code)
	}
}

func (r *rig) spent(s once.Spend) bool {
	r.t.Helper()
	v, err := r.store.OnceValue(context.Background(), s.Purpose, s.Key)
	var gone *once.Gone
	if errors.As(err, &gone) {
		return false
	}
	r.ok(err)
	return v.UsedBy != ""
}

func (r *rig) mark(name string) once.Spend {
	return once.Spend{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, name), Mark: true, Until: r.time().Add(time.Hour)}
}
