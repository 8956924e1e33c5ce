package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// recovery opens a recovery that began a day ago and can be completed.
func (r *rig) recovery(m recovery.Method, person string, change func(*recovery.Recovery)) recovery.Recovery {
	r.t.Helper()
	v := recovery.New(m, person, r.at.Add(-24*time.Hour))
	v.Claim, v.ReadyAt, v.ExpiresAt = "CLAIM"+v.ID, r.at.Add(-time.Hour), r.at.Add(time.Hour)
	if change != nil {
		change(&v)
	}
	r.do(recovery.Start{Recovery: v})
	return v
}

func testRecovery(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	k := r.passkey(dana.ID)
	v, _ := r.session(dana.ID, k.ID)
	c := r.client("app")
	g, f := r.grant(dana.ID, c.ID, v.ID, k.ID)
	theirs, _ := r.session(sam.ID, r.passkey(sam.ID).ID)

	waits := r.recovery(recovery.ByCode, dana.ID, func(v *recovery.Recovery) { v.ReadyAt = r.at.Add(30 * time.Minute) })
	same(t, must(r.s.Recovery(r.ctx, waits.ID))(t), waits)
	same(t, must(r.s.RecoveryByClaim(r.ctx, waits.Claim))(t), waits)
	_, err := r.s.RecoveryByClaim(r.ctx, "")
	refused(t, err, problem.NotFound, "recovery_not_found")
	again := recovery.New(recovery.ByCode, dana.ID, r.at)
	again.ExpiresAt = r.at.Add(time.Hour)
	refused(t, r.try(recovery.Start{Recovery: again}), problem.Conflict, "recovery_open")
	refused(t, r.try(recovery.Complete{ID: waits.ID, Person: dana.ID}), problem.Conflict, "recovery_waiting")
	refused(t, r.try(recovery.Complete{ID: waits.ID, Person: sam.ID}), problem.Conflict, "recovery_over")
	r.do(recovery.Cancel{ID: waits.ID})
	refused(t, r.try(recovery.Cancel{ID: waits.ID}), problem.Conflict, "recovery_over")
	refused(t, r.try(recovery.Complete{ID: waits.ID, Person: dana.ID}), problem.Conflict, "recovery_over")
	_, err = r.s.Recovery(r.ctx, "rcv_none")
	refused(t, err, problem.NotFound, "recovery_not_found")

	// One whose time is over makes room, and cannot be completed any more.
	over := r.recovery(recovery.ByCode, dana.ID, func(v *recovery.Recovery) { v.ExpiresAt = r.at.Add(-time.Minute) })
	refused(t, r.try(recovery.Complete{ID: over.ID, Person: dana.ID}), problem.Conflict, "recovery_over")
	ready := r.recovery(recovery.ByCode, dana.ID, nil)
	if got := must(r.s.Recovery(r.ctx, over.ID))(t); got.State != recovery.Expired || got.EndedAt != over.ExpiresAt {
		t.Errorf("after its time: %+v", got)
	}
	other := r.recovery(recovery.ByPeople, dana.ID, func(v *recovery.Recovery) { v.ReadyAt = time.Time{} })
	pass := r.recovery(recovery.ByPass, dana.ID, func(v *recovery.Recovery) {
		v.Claim, v.Lasts, v.Reason, v.OpenedBy = "", 8*time.Hour, "forgot it", sam.ID
	})
	same(t, must(r.s.Recovery(r.ctx, pass.ID))(t), pass)
	if list := must(r.s.OpenRecoveries(r.ctx, r.at, "", 10))(t); len(list) != 3 || list[0].ID != ready.ID {
		t.Errorf("open: %+v", list)
	}
	if list := must(r.s.OpenRecoveries(r.ctx, r.at, ready.ID, 1))(t); len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("the next page: %+v", list)
	}
	r.do(recovery.Complete{ID: ready.ID, Person: dana.ID, Made: "cred_x"}, recovery.EndAll{Person: dana.ID, Why: "recovered"})
	if got := must(r.s.Recovery(r.ctx, ready.ID))(t); got.State != recovery.Completed || got.Made != "cred_x" || got.EndedAt.IsZero() {
		t.Errorf("completed: %+v", got)
	}
	for id, want := range map[string]recovery.State{other.ID: recovery.Cancelled, pass.ID: recovery.Cancelled} {
		if got := must(r.s.Recovery(r.ctx, id))(t); got.State != want {
			t.Errorf("beside a completed one: %+v", got)
		}
	}
	for _, id := range []string{v.ID, g.ID, f.ID} {
		if n := node(t, r, id); n.Live() || n.Why != "recovered" {
			t.Errorf("after a recovery: %+v", n)
		}
	}
	if n := node(t, r, theirs.ID); !n.Live() {
		t.Errorf("somebody else's session: %+v", n)
	}
	if list := must(r.s.RecoveriesOf(r.ctx, dana.ID))(t); len(list) != 5 || list[0].ID != pass.ID {
		t.Errorf("of one person: %+v", list)
	}
	// Another issuer, or a restore: what was under way is over.
	r.do(store.EndIssued{Why: "renamed"})
	if got := must(r.s.Recovery(r.ctx, pass.ID))(t); got.State != recovery.Cancelled {
		t.Errorf("after everything issued ended: %+v", got)
	}
}

func testConfirmations(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, a, b, c := r.person("dana"), r.person("a"), r.person("b"), r.person("c")
	opened := r.recovery(recovery.ByPeople, dana.ID, func(v *recovery.Recovery) { v.ReadyAt, v.OpenedBy, v.Confirmed = time.Time{}, a.ID, 1 })
	ready, expires := r.at.Add(-time.Minute), r.at.Add(time.Hour)
	confirm := func(by string) recovery.Confirm {
		return recovery.Confirm{ID: opened.ID, By: by, Quorum: 2, ReadyAt: ready, ExpiresAt: expires}
	}
	refused(t, r.try(recovery.Complete{ID: opened.ID, Person: dana.ID}), problem.Conflict, "recovery_waiting")
	refused(t, r.try(confirm(a.ID)), problem.Conflict, "recovery_confirmed")
	r.do(confirm(b.ID))
	got := must(r.s.Recovery(r.ctx, opened.ID))(t)
	if got.Confirmed != 2 || got.ReadyAt != ready || got.ExpiresAt != expires {
		t.Errorf("confirmed: %+v", got)
	}
	refused(t, r.try(confirm(b.ID)), problem.Conflict, "recovery_confirmed")
	refused(t, r.try(confirm(c.ID)), problem.Conflict, "recovery_over") // it has its quorum
	if list := must(r.s.Confirmations(r.ctx, opened.ID))(t); len(list) != 2 || list[0].By != a.ID || list[1].By != b.ID || list[0].At.IsZero() {
		t.Errorf("confirmations: %+v", list)
	}
	r.do(recovery.Complete{ID: opened.ID, Person: dana.ID, Made: "x"})
	byCode := r.recovery(recovery.ByCode, dana.ID, nil)
	refused(t, r.try(recovery.Confirm{ID: byCode.ID, By: a.ID, Quorum: 1, ReadyAt: ready, ExpiresAt: expires}), problem.Conflict, "recovery_over")
}

// testRecoveryCodes also looks at sign-ins that make a recovery pointless.
func testRecoveryCodes(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	left := func(person string) int {
		t.Helper()
		n, made, err := r.s.CodesLeft(r.ctx, person)
		if err != nil || (n > 0) == made.IsZero() {
			t.Errorf("codes left: %d, made %s, %v", n, made, err)
		}
		return n
	}
	spend := func(key once.Key) error {
		w := r.write(audit.RecoveryStarted, "", nil)
		w.Spend = []once.Spend{{Purpose: once.RecoveryCode, Key: key}}
		return r.s.Commit(r.ctx, w)
	}
	first, changes := recovery.NewCodes(dana.ID, r.at)
	r.do(changes...)
	_, changes = recovery.NewCodes(sam.ID, r.at)
	r.do(changes...)
	if err := spend(recovery.CodeKey(first[3])); err != nil || left(dana.ID) != recovery.Codes-1 || left(sam.ID) != recovery.Codes {
		t.Errorf("one spent: %d left, %v", left(dana.ID), err)
	}
	if _, used := act.Spent(spend(recovery.CodeKey(first[3]))); !used {
		t.Error("a code works twice")
	}
	second, changes := recovery.NewCodes(dana.ID, r.at)
	r.do(changes...)
	var gone *once.Gone
	if err := spend(recovery.CodeKey(first[0])); !errors.As(err, &gone) || left(dana.ID) != recovery.Codes || left(sam.ID) != recovery.Codes {
		t.Errorf("a code of the earlier set: %v", err)
	}
	r.do(recovery.BurnCodes{Person: dana.ID})
	if err := spend(recovery.CodeKey(second[0])); !errors.As(err, &gone) || left(dana.ID) != 0 || left(sam.ID) != recovery.Codes {
		t.Errorf("a burnt code: %v", err)
	}

	k := r.passkey(dana.ID)
	before := r.recovery(recovery.ByCode, dana.ID, func(v *recovery.Recovery) { v.StartedAt = start.Add(-time.Hour) })
	byPeople := r.recovery(recovery.ByPeople, dana.ID, func(v *recovery.Recovery) { v.StartedAt = start.Add(-time.Hour) })
	r.session(dana.ID) // without a passkey it proves nothing against it
	r.session(dana.ID, k.ID)
	refused(t, r.try(recovery.Complete{ID: before.ID, Person: dana.ID}), problem.Conflict, "recovery_superseded")
	r.do(recovery.Complete{ID: byPeople.ID, Person: dana.ID, Made: "x"})

	admins := r.group(group.Administrators)
	r.do(group.Add{Group: admins.ID, Person: sam.ID})
	if at, ok, err := r.s.MemberSince(r.ctx, admins.ID, sam.ID); err != nil || !ok || time.Since(at) > time.Minute {
		t.Errorf("a member since %s, %v, %v", at, ok, err)
	}
	if _, ok, err := r.s.MemberSince(r.ctx, admins.ID, dana.ID); err != nil || ok {
		t.Errorf("no member: %v, %v", ok, err)
	}
	// A passkey on probation is kept as one.
	until := r.at.Add(72 * time.Hour)
	p := factor.Passkey{ID: "cred_probation", Person: sam.ID, CredentialID: random(16), PublicKey: random(77), RPID: "id.example.com", CreatedAt: start, ProbationUntil: until}
	r.do(factor.Enrol{Passkey: p})
	if got := must(r.s.Passkey(r.ctx, p.ID))(t); got.ProbationUntil != until {
		t.Errorf("on probation until %s, want %s", got.ProbationUntil, until)
	}
	// Erasing somebody leaves nothing of this.
	_, changes = recovery.NewCodes(dana.ID, r.at)
	r.do(changes...)
	r.recovery(recovery.ByPeople, dana.ID, func(v *recovery.Recovery) { v.OpenedBy, v.Confirmed = sam.ID, 1 })
	r.do(account.Erase{ID: dana.ID})
	if list := must(r.s.RecoveriesOf(r.ctx, dana.ID))(t); len(list) != 0 || left(dana.ID) != 0 {
		t.Errorf("an erased person's recoveries: %+v", list)
	}
}

// testRecoveryRaces has one winner each: codes, confirmations of one person,
// completing against cancelling, two beginnings.
func testRecoveryRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	dana := r.person("dana")
	commit := func(i int, w act.Write) error {
		for {
			if err := rs[i%len(rs)].s.Commit(context.Background(), w); !errors.Is(err, act.ErrStale) {
				return err
			}
		}
	}
	code := func(want string) func(error) bool { return func(err error) bool { return problem.CodeOf(err) == want } }
	codes, changes := recovery.NewCodes(dana.ID, r.at)
	r.do(changes...)
	oneWinner(t, race(64, func(i int) error {
		w := rs[i%len(rs)].write(audit.RecoveryStarted, "", nil)
		w.Spend = []once.Spend{{Purpose: once.RecoveryCode, Key: recovery.CodeKey(codes[0])}}
		return commit(i, w)
	}), func(err error) bool { _, used := act.Spent(err); return used })

	oneWinner(t, race(16, func(i int) error {
		v := recovery.New(recovery.ByCode, dana.ID, r.at.Add(-time.Hour))
		v.ReadyAt, v.ExpiresAt = r.at.Add(-time.Minute), r.at.Add(time.Hour)
		return commit(i, rs[i%len(rs)].write(audit.RecoveryStarted, "", nil, recovery.Start{Recovery: v}))
	}), code("recovery_open"))

	opened := must(r.s.RecoveriesOf(r.ctx, dana.ID))(t)[0]
	oneWinner(t, race(32, func(i int) error {
		var c act.Change = recovery.Cancel{ID: opened.ID}
		if i%2 == 0 {
			c = recovery.Complete{ID: opened.ID, Person: dana.ID, Made: "x"}
		}
		return commit(i, rs[i%len(rs)].write(audit.RecoveryCompleted, "", nil, c))
	}), code("recovery_over"))

	sam := r.person("sam")
	two := r.recovery(recovery.ByPeople, dana.ID, func(v *recovery.Recovery) { v.ReadyAt = time.Time{} })
	confirm := recovery.Confirm{ID: two.ID, By: sam.ID, Quorum: 2, ReadyAt: r.at, ExpiresAt: r.at.Add(time.Hour)}
	oneWinner(t, race(16, func(i int) error {
		return commit(i, rs[i%len(rs)].write(audit.RecoveryConfirmed, "", nil, confirm))
	}), code("recovery_confirmed"))
	if got := must(r.s.Recovery(r.ctx, two.ID))(t); got.Confirmed != 1 || !got.ReadyAt.IsZero() {
		t.Errorf("one person counts %d times", got.Confirmed)
	}
}

// testProbationProofs: what counts for less proves nothing where factors change,
// whether or not the account has a passkey that counts.
func testProbationProofs(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana := r.person("dana")
	k := r.passkey(dana.ID)
	v := session.Session{ID: id.New(id.Session), Person: dana.ID, CreatedAt: r.at, ExpiresAt: r.at.Add(time.Hour), IdleUntil: r.at.Add(time.Hour)}
	plain := proofs(dana.ID, k.ID)[0]
	trial, over, pass := plain, plain, assurance.Proof{Method: assurance.TemporaryPass, Subject: dana.ID, At: r.at, Cap: recovery.Cap}
	trial.Cap, trial.CapUntil = recovery.Cap, r.at.Add(time.Hour)
	over.Cap, over.CapUntil = recovery.Cap, r.at.Add(-time.Minute)
	v.Proofs = []assurance.Proof{plain, trial, over, pass}
	d := session.Device{ID: id.New(id.Device), CreatedAt: r.at}
	v.Device = d.ID
	r.do(session.Open{Session: v, SecretHash: hash(), NewDevice: &d, DeviceHash: hash(), Credentials: []string{k.ID}})
	for action, want := range map[policy.Action]int{policy.FactorEnrol: 2, policy.FactorRemove: 2, policy.FactorRename: 2, policy.EmailChange: 2, policy.SessionProve: 4, policy.PersonInvite: 4} {
		f := must(r.s.Load(r.ctx, action, act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Session: v.ID, Owner: dana.ID}))(t)
		if len(f.Proofs) != want {
			t.Errorf("%s is judged by %d proofs, want %d", action, len(f.Proofs), want)
		}
	}
}
