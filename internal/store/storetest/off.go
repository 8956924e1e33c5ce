package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/session"
)

// testGroupsOff: a group that is switched off gives nothing, to people and to
// services, from memory neither, and not to an act that was decided before.
func testGroupsOff(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	g := r.group("release")
	p, c := r.person("dana", g.ID), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	gr, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	svc := client.Service{ID: id.New(id.Service), Subject: id.Random("svc_"), Name: "Nightly", Owner: p.ID, Purpose: "tests", ReviewBy: start, Groups: []string{g.ID}, CreatedAt: start}
	h := hash()
	sc := client.Client{ID: id.New(id.Client), ClientID: "nightly", Name: "Nightly", AuthMethod: client.AuthSecretBasic, SecretHash: &h, CreatedAt: start}
	r.do(client.Create{Client: sc, NewService: &svc})
	for what, refs := range map[string]act.Refs{
		"a person":  {Kind: policy.KindPerson, Actor: p.ID, Grant: gr.ID, Family: f.ID, Client: c.ID},
		"a service": {Kind: policy.KindService, Actor: svc.ID, Client: sc.ID},
	} {
		before := must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t)
		same(t, before.Input.Principal.Groups, []string{"release"})
		r.do(lineage.Freeze{ID: g.ID, Why: "x"})
		if got := must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t).Input.Principal.Groups; len(got) != 0 {
			t.Errorf("%s is in the frozen group %v", what, got)
		}
		w := r.write(audit.TokenIssued, "", nil)
		w.Guard = before.Guard
		if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
			t.Errorf("%s: an act decided with the group commits after it was frozen: %v", what, err)
		}
		r.do(lineage.Thaw{ID: g.ID})
		same(t, must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t).Input.Principal.Groups, []string{"release"})
	}
	// What is guarded twice over is guarded once: an act about a group that its
	// actor is in commits.
	facts := must(r.s.Load(r.ctx, policy.GroupWrite, act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: v.ID, Target: []string{g.ID, p.ID}}))(t)
	w := r.write(audit.GroupJoined, "", nil, group.Add{Group: g.ID, Person: p.ID})
	w.Guard = facts.Guard
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Errorf("an act about one's own group: %v", err)
	}
}

// testProofsOff: a session keeps nothing of a step-up whose factor was removed
// since; what it began with, it ends with.
func testProofsOff(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	first, second := r.passkey(p.ID), r.passkey(p.ID)
	v, _ := r.session(p.ID, first.ID)
	up := v.Proofs[0]
	up.Credential, up.For, up.At = second.ID, "portal", v.Proofs[0].At.Add(time.Second)
	r.do(session.Prove{ID: v.ID, Proofs: []assurance.Proof{v.Proofs[0], up}})
	refs := act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: v.ID}
	before := must(r.s.Load(r.ctx, policy.FactorEnrol, refs))(t)
	same(t, before.Proofs, []assurance.Proof{v.Proofs[0], up})
	r.do(lineage.End{ID: second.ID, Why: "removed"})
	after := must(r.s.Load(r.ctx, policy.FactorEnrol, refs))(t)
	same(t, after.Proofs, v.Proofs)
	if after.Input.Context.Ended != "" {
		t.Errorf("the session ended with a factor that it did not begin with: %s", after.Input.Context.Ended)
	}
	w := r.write(audit.FactorEnrolled, "", nil)
	w.Guard = before.Guard
	if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
		t.Errorf("an act decided with the proof commits after its factor was removed: %v", err)
	}
}
