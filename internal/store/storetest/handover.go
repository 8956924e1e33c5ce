package storetest

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

const oldIssuer, newIssuer = "http://localhost:8080", "https://id.example.com"

// sign runs a sequencer once, which then holds the lease; release gives it back.
func (r *rig) sign() (release func()) {
	r.t.Helper()
	q := r.s.Sequencer(store.SequencerOptions{
		Origin: "localhost:8080/log/1", Lease: 3 * time.Second,
		Sign: func(origin string, size uint64, root [32]byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:])), nil
		},
	})
	for more := true; more; {
		var err error
		if more, err = q.Step(r.ctx); err != nil {
			r.t.Fatal(err)
		}
	}
	return func() { // as after a kill: it runs out
		for end := time.Now().Add(time.Minute); must(r.s.Serving(r.ctx))(r.t) && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func ended(t testing.TB, r *rig, id, why string) {
	t.Helper()
	if n := node(t, r, id); n.EndedAt.IsZero() || n.Why != why {
		t.Errorf("%s: ended %v, why %q", id, n.EndedAt, n.Why)
	}
}

func testRename(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: oldIssuer, CreatedAt: start}})
	p := r.person("dana")
	k := r.passkey(p.ID)
	live, _ := r.session(p.ID, k.ID)
	out, _ := r.session(p.ID, k.ID)
	r.do(session.SignOut{ID: out.ID})
	c := r.client("app")
	g, f := r.grant(p.ID, c.ID, live.ID, k.ID)
	self, other := r.resource(oldIssuer+"/v1"), r.resource("https://notes.example.com")
	code := once.Value{Purpose: once.Code, Key: once.KeyOf(once.Code, "x"), Data: []byte("{}"), MadeAt: r.at, ExpiresAt: r.at.Add(time.Hour)}
	invite := code
	invite.Purpose, invite.Key = once.Invite, once.KeyOf(once.Invite, "x")
	r.do(once.Put{Value: code}, once.Put{Value: invite})
	if s, g := twoCounts(t, r); s != 1 || g != 1 {
		t.Errorf("%d sessions, %d grants live", s, g)
	}
	if _, ok, err := r.s.LogOrigin(r.ctx); ok || err != nil {
		t.Errorf("an origin before anything is signed: %v", err)
	}

	release := r.sign()
	if !must(r.s.Serving(r.ctx))(t) {
		t.Error("nobody serves while the lease is held")
	}
	refused(t, r.try(store.Rename{From: oldIssuer, To: newIssuer}), problem.Conflict, "server_running")
	release()
	if must(r.s.Serving(r.ctx))(t) {
		t.Error("somebody serves after the lease has run out")
	}
	refused(t, r.try(store.Rename{From: "https://other.example.com", To: newIssuer}), problem.NotFound, "deployment_not_found")
	r.do(store.Rename{From: oldIssuer, To: newIssuer}, store.EndIssued{Why: "renamed"})

	if d := must(r.s.Deployment(r.ctx))(t); d.Issuer != newIssuer || d.Born != store.BornProduction || !d.AdoptedAt.IsZero() {
		t.Errorf("renamed: %+v", d)
	}
	got := must(r.s.ResourceByURI(r.ctx, newIssuer+"/v1"))(t)
	if got.ID != self.ID || got.URI != newIssuer+"/v1" || got.Node.Version <= self.Node.Version {
		t.Errorf("the management API: %+v", got)
	}
	_, err := r.s.ResourceByURI(r.ctx, oldIssuer+"/v1")
	refused(t, err, problem.NotFound, "resource_not_found")
	same(t, must(r.s.ResourceByURI(r.ctx, other.URI))(t), other)
	for _, id := range []string{live.ID, g.ID, f.ID} {
		ended(t, r, id, "renamed")
	}
	for _, id := range []string{p.ID, k.ID, c.ID, live.Device, out.ID} {
		if n := node(t, r, id); !n.Live() {
			t.Errorf("%s was ended: %s", id, n.Why)
		}
	}
	if s, g := twoCounts(t, r); s != 0 || g != 0 {
		t.Errorf("%d sessions, %d grants live", s, g)
	}
	if _, err := r.s.OnceValue(r.ctx, once.Code, code.Key); err == nil {
		t.Error("the code is still there")
	}
	must(r.s.OnceValue(r.ctx, once.Invite, invite.Key))(t)
	if o, ok, err := r.s.LogOrigin(r.ctx); o != "localhost:8080/log/1" || !ok || err != nil {
		t.Errorf("the log is called %q, %v", o, err)
	}
	r.sign()
	lines := must(r.s.RevocationsSince(r.ctx, 0))(t)
	if len(lines) != 3 {
		t.Errorf("the feed has %+v", lines)
	}
}

func twoCounts(t testing.TB, r *rig) (sessions, grants int64) {
	t.Helper()
	sessions, grants, err := r.s.Issued(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sessions, grants
}

func testClear(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornDevelopment, Issuer: oldIssuer, CreatedAt: start}})
	admins := r.group(group.Administrators)
	p := r.person("dana", admins.ID) // the last administrator, too
	r.do(account.SetUp{Person: p.ID, At: start})
	w := r.write(audit.PersonUpdated, "", []string{p.ID})
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Fatal(err)
	}
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	r.managed(v, p.ID)
	c, sv := r.service(p.ID, "robot")
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	res := r.resource(oldIssuer + "/v1")
	r.do(once.Put{Value: once.Value{Purpose: once.Invite, Key: once.KeyOf(once.Invite, "x"), Data: []byte("{}"), MadeAt: r.at, ExpiresAt: r.at.Add(time.Hour)}})
	r.do(keyring.Add{Key: keyring.Key{ID: "kid1", Purpose: keyring.Token, Alg: "ES256", Version: 1, Public: []byte(`{}`), Sealed: random(50), CreatedAt: start, ActivateAt: start}})

	release := r.sign()
	refused(t, r.try(store.Adopt{Issuer: newIssuer}, store.Clear{}), problem.Conflict, "server_running")
	same(t, must(r.s.Person(r.ctx, p.ID))(t).ID, p.ID)
	release()
	before := must(r.s.Counts(r.ctx))(t)
	r.do(store.Adopt{Issuer: newIssuer}, store.Clear{})
	refused(t, r.try(store.Adopt{Issuer: newIssuer}, store.Clear{}), problem.NotFound, "deployment_not_found")

	for _, id := range []string{p.ID, k.ID, v.ID, v.Device, c.ID, sv.ID, g.ID, f.ID, res.ID, admins.ID} {
		ended(t, r, id, "adopted")
	}
	if people := must(r.s.People(r.ctx, "", 10))(t); len(people) != 0 {
		t.Errorf("people: %v", people)
	}
	if clients := must(r.s.Clients(r.ctx, "", 10))(t); len(clients) != 0 {
		t.Errorf("clients: %v", clients)
	}
	if res := must(r.s.Resources(r.ctx, "", 10))(t); len(res) != 0 {
		t.Errorf("resources: %v", res)
	}
	if groups := must(r.s.Groups(r.ctx, "", 10))(t); len(groups) != 0 {
		t.Errorf("groups: %v", groups)
	}
	if pending := must(r.s.OncePending(r.ctx, once.Invite))(t); len(pending) != 0 {
		t.Errorf("invitations: %v", pending)
	}
	if _, ok, err := r.s.PseudonymOf(r.ctx, p.ID); ok || err != nil {
		t.Errorf("the key of a person's records is still there, %v", err)
	}
	for _, key := range must(r.s.Keys(r.ctx))(t) {
		if key.WithdrawnAt.IsZero() {
			t.Errorf("key %s is in use", key.ID)
		}
	}
	if st := must(r.s.SetUp(r.ctx))(t); !st.Done {
		t.Error("set-up is open again")
	}
	if _, ok, err := r.s.LogOrigin(r.ctx); ok || err != nil {
		t.Errorf("a checkpoint of the sample key is left, %v", err)
	}
	if after := must(r.s.Counts(r.ctx))(t); after.Records+after.Pending <= before.Records {
		t.Errorf("records: %+v, then %+v", before, after)
	}
	// Nothing stays taken.
	r.do(lineage.End{ID: p.ID})
	again := r.group(group.Administrators)
	r.person("dana", again.ID)
	r.client("robot")
	r.resource(oldIssuer + "/v1")
}
