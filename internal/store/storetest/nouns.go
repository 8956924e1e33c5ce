package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// same compares what was read with what was written, the node and derived
// members aside.
func same(t testing.TB, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Node" || p.Last().String() == ".Factors" }, cmp.Ignore())); d != "" {
		t.Errorf("what was read differs from what was written (-want +got):\n%s", d)
	}
}

// refused checks that err is the problem with the code.
func refused(t testing.TB, err error, kind problem.Kind, code string) {
	t.Helper()
	if !errors.Is(err, kind) || problem.CodeOf(err) != code {
		t.Errorf("got error %v, want %s %s", err, kind, code)
	}
}

func node(t testing.TB, r *rig, nodeID string) lineage.Node {
	t.Helper()
	nodes := must(r.s.Ancestors(r.ctx, nodeID))(t)
	return nodes[slices.IndexFunc(nodes, func(n lineage.Node) bool { return n.ID == nodeID })]
}

func parents(t testing.TB, r *rig, nodeID string) []string {
	t.Helper()
	var out []string
	for _, n := range must(r.s.Ancestors(r.ctx, nodeID))(t) {
		if n.ID != nodeID {
			out = append(out, n.ID)
		}
	}
	slices.Sort(out)
	return out
}

func wantParents(t testing.TB, r *rig, nodeID string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := parents(t, r, nodeID); !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("%s descends from %v, want %v", nodeID, got, want)
	}
}

func testPeople(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	if st := must(r.s.SetUp(r.ctx))(t); st.Done {
		t.Error("set-up is done before anything happened")
	}
	p := r.person("Dana")
	same(t, must(r.s.Person(r.ctx, p.ID))(t), p)
	same(t, must(r.s.PersonBySubject(r.ctx, p.Subject))(t), p)
	same(t, must(r.s.PersonByUsername(r.ctx, "dANA"))(t), p)
	_, err := r.s.Person(r.ctx, "usr_nobody")
	refused(t, err, problem.NotFound, "person_not_found")
	refused(t, r.try(account.Create{Person: account.Person{ID: id.New(id.Person), Subject: "s2", Username: "DANA"}}), problem.Conflict, "username_taken")

	name, email := "Dana D.", "dana@example.org"
	r.do(account.Update{ID: p.ID, Name: &name, Email: &email})
	p.Name, p.Email, p.Verified = name, email, false
	got := must(r.s.Person(r.ctx, p.ID))(t)
	same(t, got, p)
	if got.Node.Version != 2 || got.Node.Kind != lineage.Person || !got.Node.Live() {
		t.Errorf("node after an update: %+v", got.Node)
	}
	other := r.person("sam")
	taken := "DANA"
	refused(t, r.try(account.Update{ID: other.ID, Username: &taken}), problem.Conflict, "username_taken")
	refused(t, r.try(account.Update{ID: "usr_nobody", Name: &name}), problem.NotFound, "person_not_found")

	at := start.Add(time.Hour)
	r.do(account.SetUp{Person: p.ID, At: at})
	refused(t, r.try(account.SetUp{Person: other.ID, At: at}), problem.Conflict, "setup_done")
	same(t, must(r.s.SetUp(r.ctx))(t), account.SetUpState{Done: true, Person: p.ID, At: at})

	first := must(r.s.People(r.ctx, "", 1))(t)
	rest := must(r.s.People(r.ctx, first[0].ID, 10))(t)
	if len(first) != 1 || len(rest) != 1 || first[0].ID != p.ID || rest[0].ID != other.ID {
		t.Errorf("pages of people: %v, %v", first, rest)
	}
}

func testGroups(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	admins, ops := r.group(group.Administrators), r.group("operators")
	p := r.person("dana", admins.ID)
	same(t, must(r.s.Group(r.ctx, ops.ID))(t), ops)
	same(t, must(r.s.GroupByName(r.ctx, group.Administrators))(t), admins)
	refused(t, r.try(group.Create{Group: group.Group{ID: id.New(id.Group), Name: "operators"}}), problem.Conflict, "group_taken")
	refused(t, r.try(group.Add{Group: "grp_none", Person: p.ID}), problem.NotFound, "group_not_found")

	before := node(t, r, p.ID).Version
	r.do(group.Add{Group: ops.ID, Person: p.ID})
	r.do(group.Add{Group: ops.ID, Person: p.ID})
	if got := node(t, r, p.ID).Version; got != before+2 {
		t.Errorf("a membership moved the person's version from %d to %d", before, got)
	}
	same(t, must(r.s.GroupsOf(r.ctx, p.ID))(t), []group.Group{admins, ops})
	same(t, must(r.s.Members(r.ctx, ops.ID, "", 10))(t), []string{p.ID})
	same(t, must(r.s.Groups(r.ctx, admins.ID, 10))(t), []group.Group{ops})

	r.do(group.Remove{Group: ops.ID, Person: p.ID})
	same(t, must(r.s.Members(r.ctx, ops.ID, "", 10))(t), []string{})
	refused(t, r.try(group.Remove{Group: ops.ID, Person: p.ID}), problem.NotFound, "membership_not_found")

	refused(t, r.try(group.Remove{Group: admins.ID, Person: p.ID}), problem.Conflict, "last_administrator")
	disabled := r.person("disabled", admins.ID)
	r.do(lineage.Freeze{ID: disabled.ID, Why: "disabled"})
	refused(t, r.try(group.Remove{Group: admins.ID, Person: p.ID}), problem.Conflict, "last_administrator")
	sam := r.person("sam", admins.ID)
	r.do(group.Remove{Group: admins.ID, Person: p.ID})
	refused(t, r.try(group.Remove{Group: admins.ID, Person: sam.ID}), problem.Conflict, "last_administrator")
}

func testClients(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	c := r.client("notes-app")
	same(t, must(r.s.Client(r.ctx, c.ID))(t), c)
	same(t, must(r.s.ClientByClientID(r.ctx, "notes-app"))(t), c)
	_, err := r.s.ClientByClientID(r.ctx, "Notes-App") // bytes, not words
	refused(t, err, problem.NotFound, "client_not_found")
	refused(t, r.try(client.Create{Client: client.Client{ID: id.New(id.Client), ClientID: "notes-app"}}), problem.Conflict, "client_id_taken")

	c.Name, c.Scopes, c.FirstParty, c.JWKS, c.SecretHash = "Notes", []string{"a", "b"}, false, nil, nil
	c.AuthMethod, c.RedirectURIs = client.AuthNone, nil
	r.do(client.Update{Client: c})
	got := must(r.s.Client(r.ctx, c.ID))(t)
	same(t, got, c)
	if got.Node.Version != 2 {
		t.Errorf("an update moved the version to %d", got.Node.Version)
	}
	h := hash()
	r.do(client.RotateSecret{ID: c.ID, SecretHash: h})
	if got := must(r.s.Client(r.ctx, c.ID))(t); got.SecretHash == nil || *got.SecretHash != h || got.Node.Version != 3 {
		t.Errorf("after the rotation: %+v", got)
	}
	refused(t, r.try(client.RotateSecret{ID: "cli_none", SecretHash: h}), problem.NotFound, "client_not_found")
	testSecrets(t, r, c.ID, h)

	owner := r.person("owner")
	robot, sv := r.service(owner.ID, "robot")
	same(t, must(r.s.Client(r.ctx, robot.ID))(t), robot)
	same(t, must(r.s.Service(r.ctx, sv.ID))(t), sv)
	wantParents(t, r, robot.ID, sv.ID, owner.ID)
	same(t, must(r.s.Clients(r.ctx, c.ID, 5))(t), []client.Client{robot})
}

// testSecrets has two secrets overlap: two at most, and each found by its hash.
func testSecrets(t *testing.T, r *rig, clientID string, first secret.Hash) {
	t.Helper()
	has := func(n int) client.Client {
		t.Helper()
		c := must(r.s.Client(r.ctx, clientID))(t)
		if list := c.Secrets(r.at); len(list) != n {
			t.Errorf("%d secrets work, want %d", len(list), n)
		}
		return c
	}
	second, third := hash(), hash()
	until := r.at.Add(time.Hour)
	r.do(client.RotateSecret{ID: clientID, SecretHash: second, EarlierUntil: until})
	c := has(2)
	if *c.SecretHash != second || c.Earlier.Hash != first || !c.Earlier.EndsAt.Equal(until) || c.SecretAt.IsZero() || c.Earlier.MadeAt.IsZero() {
		t.Errorf("with two secrets: %+v", c)
	}
	for _, h := range []secret.Hash{first, second} {
		same(t, must(r.s.ClientBySecret(r.ctx, h))(t), c)
	}
	refused(t, r.try(client.RotateSecret{ID: clientID, SecretHash: third, EarlierUntil: until}), problem.Conflict, "two_secrets")
	refused(t, r.try(client.RetireSecret{ID: clientID, Hash: second}), problem.NotFound, "secret_not_found")
	r.do(client.Update{Client: c}) // an update leaves them as they are
	same(t, has(2).Earlier, c.Earlier)
	r.do(client.RetireSecret{ID: clientID, Hash: first})
	has(1)
	r.do(client.RotateSecret{ID: clientID, SecretHash: third, EarlierUntil: r.at.Add(-time.Minute)})
	has(1) // its time has come: nothing had to happen for that
	r.do(client.RotateSecret{ID: clientID, SecretHash: first, EarlierUntil: r.at.Add(time.Hour)})
	if has(2).Earlier.Hash != third {
		t.Error("an earlier secret past its time stood in the way")
	}
	r.do(client.RotateSecret{ID: clientID, SecretHash: second})
	has(1) // at once, and everything earlier with it
	c = has(1)
	c.AuthMethod, c.SecretHash, c.SecretAt = client.AuthNone, nil, time.Time{}
	r.do(client.RotateSecret{ID: clientID, SecretHash: third, EarlierUntil: r.at.Add(time.Hour)})
	r.do(client.Update{Client: c})
	has(0)
}

func testResources(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	v := r.resource("https://API.example.com/")
	same(t, must(r.s.Resource(r.ctx, v.ID))(t), v)
	same(t, must(r.s.ResourceByURI(r.ctx, "https://api.example.com"))(t), v)
	_, err := r.s.ResourceByURI(r.ctx, "https://api.example.com/v2")
	refused(t, err, problem.NotFound, "resource_not_found")
	refused(t, r.try(resource.Create{Resource: resource.Resource{ID: id.New(id.Resource), URI: "https://api.example.com"}}), problem.Conflict, "resource_taken")
	v.Name, v.Scopes, v.Servers, v.DelegationAware = "Renamed", nil, []string{"cli_a", "cli_b"}, true
	r.do(resource.Update{Resource: v})
	got := must(r.s.Resource(r.ctx, v.ID))(t)
	same(t, got, v)
	if got.Node.Version != 2 {
		t.Errorf("an update moved the version to %d", got.Node.Version)
	}
	same(t, must(r.s.Resources(r.ctx, "", 5))(t), []resource.Resource{v})
}

func testFactors(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	a, b := r.passkey(p.ID), r.passkey(p.ID)
	same(t, must(r.s.Passkey(r.ctx, a.ID))(t), a)
	same(t, must(r.s.PasskeyByCredentialID(r.ctx, b.CredentialID))(t), b)
	same(t, must(r.s.PasskeysOf(r.ctx, p.ID))(t), []factor.Passkey{a, b})
	if n := must(r.s.Person(r.ctx, p.ID))(t).Factors; n != 2 {
		t.Errorf("%d factors counted", n)
	}
	again := a
	again.ID = id.New(id.Credential)
	refused(t, r.try(factor.Enrol{Passkey: again}), problem.Conflict, "credential_taken")

	used := start.Add(time.Minute)
	version := node(t, r, a.ID).Version
	r.do(factor.Use{ID: a.ID, SignCount: 4_000_000_001, BackupState: true, At: used})
	if got := node(t, r, a.ID).Version; got != version {
		t.Error("a use of a passkey moved its version")
	}
	r.do(factor.Rename{ID: a.ID, Name: "Laptop"})
	a.SignCount, a.BackupState, a.UsedAt, a.Name = 4_000_000_001, true, used, "Laptop"
	same(t, must(r.s.Passkey(r.ctx, a.ID))(t), a)

	other := r.person("sam")
	refused(t, r.try(factor.Remove{ID: a.ID, Person: other.ID}), problem.NotFound, "factor_not_found")
	record := r.do(factor.Remove{ID: a.ID, Person: p.ID})
	refused(t, r.try(factor.Remove{ID: a.ID, Person: p.ID}), problem.NotFound, "factor_not_found")
	refused(t, r.try(factor.Remove{ID: b.ID, Person: p.ID}), problem.Conflict, "last_factor")
	same(t, must(r.s.PasskeysOf(r.ctx, p.ID))(t), []factor.Passkey{b})
	if n := node(t, r, a.ID); n.Live() || n.Why != "removed" || n.Version != 3 {
		t.Errorf("node of the removed passkey: %+v", n)
	}
	settle(t, r)
	if revs := must(r.s.RevocationsSince(r.ctx, 0))(t); len(revs) != 1 || revs[0].Node != a.ID || revs[0].Kind != lineage.Credential {
		t.Errorf("revocations after %s: %+v", record, revs)
	}
}

func testSessions(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	k := r.passkey(p.ID)
	v, h := r.session(p.ID, k.ID)
	same(t, must(r.s.SessionBySecret(r.ctx, h))(t), v)
	same(t, must(r.s.Session(r.ctx, v.ID))(t), v)
	_, err := r.s.SessionBySecret(r.ctx, hash())
	refused(t, err, problem.NotFound, "session_not_found")
	same(t, must(r.s.Device(r.ctx, v.Device))(t), session.Device{ID: v.Device, Label: "Chrome on Linux", CreatedAt: start})
	wantParents(t, r, v.ID, p.ID, v.Device, k.ID)

	version := node(t, r, v.ID).Version
	seen := r.at.Add(time.Minute)
	r.do(session.Touch{ID: v.ID, SeenAt: seen, IdleUntil: seen.Add(time.Hour)})
	if got := node(t, r, v.ID).Version; got != version {
		t.Error("a touch moved the session's version")
	}
	second := r.passkey(p.ID)
	v.SeenAt, v.IdleUntil = seen, seen.Add(time.Hour)
	v.Proofs = append(v.Proofs, proofs(p.ID, second.ID)...)
	r.do(session.Prove{ID: v.ID, Proofs: v.Proofs, Credentials: []string{k.ID, second.ID}})
	got := must(r.s.Session(r.ctx, v.ID))(t)
	same(t, got, v)
	if got.Node.Version != version+1 {
		t.Errorf("a proof moved the version from %d to %d", version, got.Node.Version)
	}
	wantParents(t, r, v.ID, p.ID, v.Device, k.ID, second.ID)

	w, _ := r.session(p.ID, k.ID)
	same(t, must(r.s.SessionsOf(r.ctx, p.ID))(t), []session.Session{w, v})
	out := seen.Add(time.Minute)
	r.do(session.SignOut{ID: v.ID, At: out})
	r.do(session.SignOut{ID: v.ID, At: out.Add(time.Hour)})
	if got := must(r.s.Session(r.ctx, v.ID))(t); !got.SignedOutAt.Equal(out) || !got.Node.Live() {
		t.Errorf("after signing out: %+v", got)
	}
	r.do(lineage.End{ID: w.ID, Why: "ended_by_user"})
	if got := must(r.s.SessionsOf(r.ctx, p.ID))(t); len(got) != 1 || got[0].ID != v.ID {
		t.Errorf("sessions after one was ended: %+v", got)
	}
}

func testGrants(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, c := r.person("dana"), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	same(t, must(r.s.Grant(r.ctx, g.ID))(t), g)
	same(t, must(r.s.Family(r.ctx, f.ID))(t), f)
	wantParents(t, r, f.ID, g.ID, c.ID, p.ID, v.ID, v.Device, k.ID)
	r.do(grant.Touch{ID: g.ID, At: start.Add(time.Minute)})
	g.UsedAt = start.Add(time.Minute)
	same(t, must(r.s.GrantsOf(r.ctx, p.ID))(t), []grant.Grant{g})

	_, err := r.s.Consent(r.ctx, p.ID, c.ID)
	refused(t, err, problem.NotFound, "consent_not_found")
	cn := grant.Consent{ID: id.New("cns_"), Person: p.ID, Client: c.ID, Resources: []string{"res_a"}, Scopes: []string{"a"}, At: start}
	r.do(grant.Remember{Consent: cn})
	cn.Scopes, cn.At = []string{"a", "b"}, start.Add(time.Hour)
	r.do(grant.Remember{Consent: cn})
	got := must(r.s.Consent(r.ctx, p.ID, c.ID))(t)
	same(t, got, cn)
	if got.Node.Version != 2 || got.Node.Kind != lineage.Grant {
		t.Errorf("node of the wider consent: %+v", got.Node)
	}
	wantParents(t, r, cn.ID, p.ID, c.ID)
	r.do(lineage.End{ID: cn.ID, Why: "withdrawn"})
	_, err = r.s.Consent(r.ctx, p.ID, c.ID)
	refused(t, err, problem.NotFound, "consent_not_found")
	cn.ID = id.New("cns_")
	r.do(grant.Remember{Consent: cn})
	same(t, must(r.s.Consent(r.ctx, p.ID, c.ID))(t), cn)

	rotation(t, r, f)
	r.do(lineage.End{ID: g.ID, Why: "ended_by_user"})
	same(t, must(r.s.GrantsOf(r.ctx, p.ID))(t), []grant.Grant{})
}

func rotation(t *testing.T, r *rig, f grant.Family) {
	version := node(t, r, f.ID).Version
	rot := grant.Rotate{
		ID: f.ID, Presented: f.CurHash, Next: hash(), Salt: random(32), RotatedAt: start, WindowUntil: start.Add(10 * time.Second),
		NetUntil: start.Add(time.Minute), Network: "198.51.100.0/24", IdleUntil: r.at.Add(time.Hour),
	}
	stale(t, r.try(grant.Rotate{ID: f.ID, Presented: rot.Next, Next: rot.Presented}))
	r.do(rot)
	stale(t, r.try(rot))
	stale(t, r.try(grant.Replay{ID: f.ID, Gen: 0}))
	r.do(grant.Replay{ID: f.ID, Gen: 1})
	f.Gen, f.PrevHash, f.CurHash, f.Salt, f.Replays = 1, rot.Presented, rot.Next, rot.Salt, 1
	f.RotatedAt, f.WindowUntil, f.NetUntil, f.Network, f.IdleUntil = rot.RotatedAt, rot.WindowUntil, rot.NetUntil, rot.Network, rot.IdleUntil
	same(t, must(r.s.Family(r.ctx, f.ID))(t), f)
	if got := node(t, r, f.ID).Version; got != version {
		t.Error("a rotation moved the family's version")
	}
	r.do(lineage.End{ID: f.ID, Why: "reused"})
	stale(t, r.try(grant.Rotate{ID: f.ID, Presented: f.CurHash, Next: hash()}))
}

func testKeys(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	far := r.at.Add(time.Hour)
	k := keyring.Key{ID: "kid1", Purpose: keyring.Token, Alg: "ES256", Version: 1, Public: []byte(`{"kty":"EC"}`), Sealed: random(50), CreatedAt: start, ActivateAt: start}
	l := keyring.Key{ID: "kid2", Purpose: keyring.Log, Alg: "EdDSA", Version: 1, Public: []byte(`{}`), Sealed: random(50), CreatedAt: start, ActivateAt: start}
	m := keyring.Key{ID: "kid3", Purpose: keyring.Lineage, Version: 1, Sealed: random(50), CreatedAt: start, ActivateAt: start}
	r.do(keyring.Add{Key: k}, keyring.Add{Key: l}, keyring.Add{Key: m})
	same(t, must(r.s.Keys(r.ctx))(t), []keyring.Key{m, l, k})
	twin := k
	twin.ID = "kid4"
	refused(t, r.try(keyring.Add{Key: twin}), problem.Conflict, "key_taken")
	r.do(keyring.Retire{ID: k.ID, At: far}, keyring.Withdraw{ID: m.ID, At: start}, keyring.Retire{ID: l.ID, At: start})
	k.RetireAt, m.WithdrawnAt, l.RetireAt = far, start, start
	same(t, must(r.s.Keys(r.ctx))(t), []keyring.Key{m, l, k})
	r.do(keyring.Retire{ID: k.ID, At: start})
	same(t, must(r.s.Keys(r.ctx))(t), []keyring.Key{m, l})
	refused(t, r.try(keyring.Withdraw{ID: "none", At: start}), problem.NotFound, "key_not_found")
}

func testDeployment(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	_, err := r.s.Deployment(r.ctx)
	refused(t, err, problem.NotFound, "deployment_not_found")
	d := store.Deployment{ID: "dpl_1", Born: store.BornDevelopment, Issuer: "http://localhost:8080", CreatedAt: start, Epoch: 1}
	r.do(store.Found{Deployment: d})
	refused(t, r.try(store.Found{Deployment: d}), problem.Conflict, "deployment_exists")
	same(t, must(r.s.Deployment(r.ctx))(t), d)
	r.do(store.Adopt{Issuer: "https://id.example.com"})
	got := must(r.s.Deployment(r.ctx))(t)
	if got.Born != store.BornDevelopment || got.Issuer != "https://id.example.com" || got.AdoptedAt.IsZero() {
		t.Errorf("adopted: %+v", got)
	}
}
