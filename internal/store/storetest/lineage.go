package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/session"
)

func stale(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, act.ErrStale) {
		t.Errorf("got error %v, want act.ErrStale", err)
	}
}

func testLineage(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, c := r.person("dana"), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	w := r.write(audit.TokenIssued, f.ID, []string{p.ID}, lineage.Freeze{ID: v.ID, Why: "lost"}, lineage.Freeze{ID: v.ID, Why: "twice"})
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Fatal(err)
	}
	issued := must(r.s.RecordLeaf(r.ctx, w.Record))(t)
	if issued.Leaf != f.ID || issued.Kind != audit.TokenIssued || !issued.At.Equal(w.At) || len(issued.Nodes) != 7 || issued.Live() {
		t.Errorf("issued under a frozen session: %+v", issued)
	}
	r.do(lineage.Thaw{ID: v.ID})
	r.do(lineage.Thaw{ID: v.ID})
	if issued := must(r.s.RecordLeaf(r.ctx, w.Record))(t); !issued.Live() {
		t.Errorf("issued under a thawed session: %+v", issued)
	}
	r.do(lineage.End{ID: k.ID, Why: "stolen"})
	ended := node(t, r, k.ID)
	r.do(lineage.End{ID: k.ID, Why: "again"}, lineage.Thaw{ID: k.ID}, lineage.Freeze{ID: k.ID, Why: "late"})
	if again := node(t, r, k.ID); again != ended || again.Why != "stolen" || again.Version != 2 {
		t.Errorf("ending twice: first %+v, then %+v", ended, again)
	}
	if issued := must(r.s.RecordLeaf(r.ctx, w.Record))(t); issued.Live() {
		t.Error("what descends from an ended passkey is live")
	}
	if n := node(t, r, g.ID); !n.Live() {
		t.Error("the end of an ancestor was written to a descendant")
	}
	refused(t, r.try(lineage.End{ID: "ses_none", Why: "x"}), problem.NotFound, "node_not_found")
	_, err := r.s.RecordLeaf(r.ctx, "rec_none")
	refused(t, err, problem.NotFound, "record_not_found")
	_, err = r.s.Ancestors(r.ctx, f.ID, "fam_none")
	refused(t, err, problem.NotFound, "node_not_found")

	settle(t, r)
	revs := must(r.s.RevocationsSince(r.ctx, start.UnixMicro()))(t)
	type line struct {
		node   string
		kind   lineage.Kind
		thawed bool
	}
	want := []line{{v.ID, lineage.Session, false}, {v.ID, lineage.Session, true}, {k.ID, lineage.Credential, false}}
	if len(revs) != len(want) {
		t.Fatalf("revocations %+v, want %+v", revs, want)
	}
	for i, x := range revs {
		if (line{x.Node, x.Kind, x.Thawed}) != want[i] || i > 0 && x.Seq <= revs[i-1].Seq {
			t.Errorf("revocation %d is %+v, want %+v", i, x, want[i])
		}
	}
	after := must(r.s.Revocations(r.ctx, revs[0].Seq, 1))(t)
	if len(after) != 1 || after[0] != revs[1] {
		t.Errorf("revocations after %d: %+v", revs[0].Seq, after)
	}
}

func testOnce(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	spend := func(ref string, sp once.Spend, changes ...act.Change) (string, error) {
		w := r.write(audit.TokenIssued, "", nil, changes...)
		sp.Ref = ref
		w.Spend = []once.Spend{sp}
		return w.Record, r.s.Commit(r.ctx, w)
	}
	value := func(name string, life time.Duration) once.Value {
		return once.Value{
			Purpose: once.Code, Key: once.KeyOf(once.Code, name), Bound: "cli_a", Data: []byte(`{"a":1}`),
			MadeAt: r.at, ExpiresAt: r.at.Add(life),
		}
	}
	v := value("a", time.Minute)
	r.do(once.Put{Value: v})
	same(t, must(r.s.OnceValue(r.ctx, v.Purpose, v.Key))(t), v)
	if err := r.try(once.Put{Value: v}); !errors.Is(err, problem.Conflict) {
		t.Errorf("a second value of the same key: %v", err)
	}
	rec, err := spend("gnt_1", once.Spend{Purpose: v.Purpose, Key: v.Key})
	if err != nil {
		t.Fatal(err)
	}
	_, err = spend("gnt_2", once.Spend{Purpose: v.Purpose, Key: v.Key})
	if u, ok := act.Spent(err); !ok || u.By != rec || u.Ref != "gnt_1" || u.At.IsZero() || u.Purpose != once.Code {
		t.Errorf("the second spend: %v, %+v", err, u)
	}
	gone := func(name string, sp once.Spend) {
		t.Helper()
		var g *once.Gone
		if _, err := spend("x", sp); !errors.As(err, &g) {
			t.Errorf("%s: %v, want once.Gone", name, err)
		}
	}
	gone("another purpose", once.Spend{Purpose: once.Interaction, Key: v.Key})
	gone("never there", once.Spend{Purpose: once.Code, Key: once.KeyOf(once.Code, "nothing")})
	old := value("old", -time.Second)
	r.do(once.Put{Value: old})
	gone("expired", once.Spend{Purpose: once.Code, Key: old.Key})
	missed := value("missed", time.Minute)
	r.do(once.Put{Value: missed})
	for range once.MaxMisses {
		r.do(once.Miss{Purpose: missed.Purpose, Key: missed.Key})
	}
	gone("missed too often", once.Spend{Purpose: once.Code, Key: missed.Key})
	burnt := value("burnt", time.Minute)
	r.do(once.Put{Value: burnt}, once.Burn{Purpose: burnt.Purpose, Key: burnt.Key})
	gone("burnt", once.Spend{Purpose: once.Code, Key: burnt.Key})

	replaced, newest := value("r1", time.Minute), value("r2", time.Minute)
	replaced.Bound, newest.Bound = "cli_b", "cli_b"
	r.do(once.Replace{Value: replaced})
	r.do(once.Replace{Value: newest})
	gone("replaced", once.Spend{Purpose: once.Code, Key: replaced.Key})
	same(t, must(r.s.OncePending(r.ctx, once.Code))(t), []once.Value{newest})

	// What is bound to somebody, spent and expired ones too, and nothing of another's.
	var theirs []once.Value
	for i, life := range []time.Duration{-time.Minute, time.Minute, time.Hour} {
		x := value("b"+string(rune('0'+i)), life)
		x.Purpose, x.Bound, x.MadeAt = once.BackchannelAsked, "usr_b", x.MadeAt.Add(time.Duration(i)*time.Second)
		r.do(once.Put{Value: x})
		theirs = append([]once.Value{x}, theirs...)
	}
	other := value("b9", time.Hour)
	other.Purpose, other.Bound = once.BackchannelAsked, "usr_c"
	r.do(once.Put{Value: other})
	same(t, must(r.s.OnceBound(r.ctx, once.BackchannelAsked, "usr_b"))(t), theirs)
	if rec, err := spend("denied", once.Spend{Purpose: once.BackchannelAsked, Key: theirs[0].Key}); err != nil {
		t.Error(err)
	} else if got := must(r.s.OnceBound(r.ctx, once.BackchannelAsked, "usr_b"))(t); len(got) != 3 || got[0].Ref != "denied" || got[0].UsedBy != rec || got[0].UsedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if n := len(must(r.s.OnceBound(r.ctx, once.BackchannelAsked, ""))(t)) + len(must(r.s.OnceBound(r.ctx, once.Backchannel, "usr_b"))(t)); n != 0 {
		t.Errorf("%d values of nobody, or of another purpose", n)
	}

	mark := once.Spend{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, "jkt", "jti"), Mark: true, Until: r.at.Add(time.Minute)}
	if _, err := spend("", mark); err != nil {
		t.Errorf("first sight of a proof: %v", err)
	}
	if _, err := spend("", mark); err == nil {
		t.Error("a proof was accepted twice")
	} else if _, ok := act.Spent(err); !ok {
		t.Errorf("a proof a second time: %v", err)
	}
}

func testLoad(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	ops := r.group("operators")
	p, c := r.person("dana", ops.ID), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	res := r.resource("https://api.example.com")

	refs := act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: v.ID, Client: c.ID, Resource: res.ID, Scopes: []string{"openid", "keys:rotate"}, Required: true, Target: []string{g.ID}}
	facts := must(r.s.Load(r.ctx, policy.GrantEnd, refs))(t)
	in := facts.Input
	same(t, in.Principal, policy.Entity{Kind: "person", ID: p.ID, Groups: []string{"operators"}})
	same(t, in.Client, policy.Entity{Kind: "client", ID: c.ID})
	same(t, in.Resource, policy.Resource{Type: "grant", ID: g.ID, Owner: p.ID})
	same(t, facts.Proofs, v.Proofs)
	same(t, facts.Expiry, []act.Expiry{{ID: v.ID, At: v.IdleUntil}})
	same(t, in.Context.Scopes, []policy.ScopeAsk{
		{Name: "openid"},
		{Name: "keys:rotate", Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}, Groups: []string{"operators"}, Conditional: true, Required: true},
	})
	// person, session, device, passkey, client, resource, grant; the group is guarded only
	if len(facts.Guard) != 8 || len(facts.Nodes) != 7 || in.Context.Ended != "" {
		t.Errorf("guard %v, ended %q", facts.Guard, in.Context.Ended)
	}
	refused(t, second(r.s.Load(r.ctx, policy.Authorize, act.Refs{Kind: "person", Actor: p.ID, Resource: res.ID, Scopes: []string{"other"}})), problem.Invalid, "invalid_scope")
	refused(t, second(r.s.Load(r.ctx, policy.Authorize, act.Refs{Kind: "person", Actor: "usr_none"})), problem.NotFound, "person_not_found")
	refused(t, second(r.s.Load(r.ctx, policy.Authorize, act.Refs{Kind: "person", Actor: p.ID, Target: []string{"ses_none"}})), problem.NotFound, "target_not_found")

	under := act.Refs{Kind: policy.KindPerson, Actor: p.ID, Grant: g.ID, Family: f.ID, Client: c.ID}
	for range 2 { // the second from the cache
		facts = must(r.s.Load(r.ctx, policy.TokenRefresh, under))(t)
		same(t, facts.Proofs, g.Proofs)
		same(t, facts.Expiry, []act.Expiry{{ID: g.ID, At: g.ExpiresAt}, {ID: f.ID, At: f.IdleUntil}})
	}
	out := r.at.Add(-time.Second)
	r.do(session.SignOut{ID: v.ID, At: out})
	facts = must(r.s.Load(r.ctx, policy.GrantEnd, refs))(t)
	same(t, facts.Expiry, []act.Expiry{{ID: v.ID, At: out}})

	r.do(lineage.End{ID: g.ID, Why: "x"})
	if e := must(r.s.Load(r.ctx, policy.GrantEnd, refs))(t).Input.Context.Ended; e != "" {
		t.Errorf("an ended target refuses the act: %s", e)
	}
	if e := must(r.s.Load(r.ctx, policy.TokenRefresh, under))(t).Input.Context.Ended; e != g.ID {
		t.Errorf("ended is %q under an ended grant", e)
	}
	r.do(lineage.Freeze{ID: k.ID, Why: "lost"})
	if e := must(r.s.Load(r.ctx, policy.GrantEnd, refs))(t).Input.Context.Ended; e != k.ID {
		t.Errorf("ended is %q below a frozen passkey", e)
	}
	self := must(r.s.Load(r.ctx, policy.SelfRead, act.Refs{Kind: "person", Actor: p.ID}))(t)
	same(t, self.Input.Resource, policy.Resource{Type: "person", ID: p.ID, Owner: p.ID})
	if other := must(r.s.Load(r.ctx, policy.SessionEnd, act.Refs{Kind: "person", Actor: p.ID}))(t); other.Input.Resource.Owner != "" {
		t.Error("an act without a target is one's own")
	}
}

func second[T any](_ T, err error) error { return err }

func testGuard(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	ops := r.group("operators")
	p, c := r.person("dana"), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	res := r.resource("https://api.example.com")
	refs := act.Refs{Kind: policy.KindPerson, Actor: p.ID, Grant: g.ID, Family: f.ID, Client: c.ID, Resource: res.ID, Scopes: []string{"notes:read"}}
	name := "D"
	// Everything that a decision reads moves a version that it guards.
	for what, change := range map[string]act.Change{
		"a membership":       group.Add{Group: ops.ID, Person: p.ID},
		"the person's name":  account.Update{ID: p.ID, Name: &name},
		"a proof":            session.Prove{ID: v.ID, Proofs: v.Proofs},
		"a new factor":       factor.Enrol{Passkey: factor.Passkey{ID: id.New(id.Credential), Person: p.ID, CredentialID: random(8), PublicKey: random(8)}},
		"a client's update":  client.Update{Client: c},
		"a client's secret":  client.RotateSecret{ID: c.ID, SecretHash: hash()},
		"a client's second":  client.RotateSecret{ID: c.ID, SecretHash: hash(), EarlierUntil: r.at.Add(-time.Hour)},
		"a resource's scope": resource.Update{Resource: res},
		"signing out":        session.SignOut{ID: v.ID, At: r.at},
		"a freeze":           lineage.Freeze{ID: p.ID, Why: "x"},
		"a thaw":             lineage.Thaw{ID: p.ID},
		"an end":             lineage.End{ID: k.ID, Why: "x"},
	} {
		if what == "a thaw" {
			r.do(lineage.Freeze{ID: p.ID, Why: "x"})
		}
		facts := must(r.s.Load(r.ctx, policy.TokenRefresh, refs))(t)
		r.do(change)
		w := r.write(audit.TokenRefreshed, f.ID, nil)
		w.Guard = facts.Guard
		if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
			t.Errorf("%s after the decision: %v, want act.ErrStale", what, err)
		}
		w.Guard = must(r.s.Load(r.ctx, policy.TokenRefresh, refs))(t).Guard
		if err := r.s.Commit(r.ctx, w); err != nil {
			t.Errorf("decided again after %s: %v", what, err)
		}
	}
	// What no decision reads does not.
	facts := must(r.s.Load(r.ctx, policy.TokenRefresh, refs))(t)
	r.do(session.Touch{ID: v.ID, SeenAt: r.at, IdleUntil: r.at}, grant.Touch{ID: g.ID, At: r.at}, factor.Use{ID: k.ID, At: r.at})
	r.do(grant.Rotate{ID: f.ID, Presented: f.CurHash, Next: hash()})
	w := r.write(audit.TokenRefreshed, f.ID, nil)
	w.Guard = facts.Guard
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Errorf("a touch made a decision stale: %v", err)
	}
}

func testCache(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	owner := r.person("owner")
	c, sv := r.service(owner.ID, "robot")
	res := r.resource("https://api.example.com")
	refs := act.Refs{Kind: policy.KindService, Actor: sv.ID, Client: c.ID, Resource: res.ID, Scopes: []string{"notes:read"}}
	load := func() act.Facts { return must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t) }
	first := load()
	if first.Input.Context.Ended != "" || first.Proofs != nil || len(first.Guard) != 4 {
		t.Fatalf("facts of a machine: %+v", first)
	}
	same(t, load(), first)
	r.do(lineage.Freeze{ID: c.ID, Why: "x"})
	if e := load().Input.Context.Ended; e != c.ID {
		t.Errorf("a local commit did not reach the cache: ended %q", e)
	}
	r.do(lineage.Thaw{ID: c.ID})
	r.do(lineage.End{ID: owner.ID, Why: "left"})
	if e := load().Input.Context.OwnerEnded; e != owner.ID {
		t.Errorf("the owner's end: %q", e)
	}
	if !db.Nodes {
		return
	}
	other := open(t, db) // another process ends what this one has cached
	defer other.s.Close()
	facts := load()
	other.do(lineage.End{ID: sv.ID, Why: "elsewhere"})
	w := r.write(audit.TokenIssued, c.ID, nil)
	w.Guard = facts.Guard
	stale(t, r.s.Commit(r.ctx, w))
	if e := load().Input.Context.Ended; e != sv.ID {
		t.Errorf("the cache outlived a stale commit: ended %q", e)
	}
}

func testAtomic(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	v := once.Value{Purpose: once.Code, Key: once.KeyOf(once.Code, "a"), MadeAt: r.at, ExpiresAt: r.at.Add(time.Minute)}
	r.do(once.Put{Value: v})
	// The spend holds, the last change does not: nothing of it may stay.
	w := r.write(audit.GrantOpened, "", []string{p.ID}, group.Create{Group: group.Group{ID: id.New(id.Group), Name: "g"}},
		account.Create{Person: account.Person{ID: id.New(id.Person), Subject: "s", Username: "DANA"}})
	w.Spend = []once.Spend{{Purpose: v.Purpose, Key: v.Key}}
	refused(t, r.s.Commit(r.ctx, w), problem.Conflict, "username_taken")
	if got := must(r.s.OnceValue(r.ctx, v.Purpose, v.Key))(t); !got.UsedAt.IsZero() {
		t.Error("a failed act spent its value")
	}
	if _, err := r.s.GroupByName(r.ctx, "g"); !errors.Is(err, problem.NotFound) {
		t.Errorf("a failed act left a group: %v", err)
	}
	if _, err := r.s.RecordByID(r.ctx, w.Record); !errors.Is(err, problem.NotFound) {
		t.Errorf("a failed act left a record: %v", err)
	}
	// A record that cannot be written fails its act.
	again := r.write(audit.GrantOpened, "", nil, group.Create{Group: group.Group{ID: id.New(id.Group), Name: "h"}})
	first := r.do()
	again.Row.ID = first
	if err := r.s.Commit(r.ctx, again); err == nil {
		t.Error("an act was committed without its record")
	}
	if _, err := r.s.GroupByName(r.ctx, "h"); !errors.Is(err, problem.NotFound) {
		t.Errorf("an act without its record left a group: %v", err)
	}
}
