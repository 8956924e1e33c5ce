package storetest

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// testDelegations: one of a credential to a client that has not ended, whoever
// makes it first.
func testDelegations(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, c := r.person("dana"), r.client("app")
	hop := r.client("hop")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	g, f := r.grant(p.ID, c.ID, v.ID, k.ID)
	_, err := r.s.Delegation(r.ctx, f.ID, hop.ID)
	refused(t, err, problem.NotFound, "delegation_not_found")
	d := grant.Delegation{
		ID: id.New(id.Delegation), Parent: f.ID, Grant: g.ID, Subject: p.ID, Origin: c.ID, Client: hop.ID, Actor: "svc_x", Depth: 1, CreatedAt: start,
	}
	before := node(t, r, f.ID).Version
	r.do(grant.Delegate{Delegation: d})
	if node(t, r, f.ID).Version == before {
		t.Error("what is exchanged did not move: two could make a delegation of it at once")
	}
	got := must(r.s.Delegation(r.ctx, f.ID, hop.ID))(t)
	same(t, got, d)
	if got.Node.Kind != lineage.Delegation {
		t.Errorf("its node: %+v", got.Node)
	}
	wantParents(t, r, d.ID, f.ID, g.ID, c.ID, p.ID, v.ID, v.Device, k.ID, hop.ID)
	again := d
	again.ID = id.New(id.Delegation)
	stale(t, r.try(grant.Delegate{Delegation: again}))
	r.do(lineage.Freeze{ID: d.ID, Why: "looked at"})
	stale(t, r.try(grant.Delegate{Delegation: again})) // a frozen one is not got round
	r.do(lineage.End{ID: d.ID, Why: "revoked_by_client"})
	r.do(grant.Delegate{Delegation: again})
	same(t, must(r.s.Delegation(r.ctx, f.ID, hop.ID))(t), again)
	same(t, must(r.s.DelegationByID(r.ctx, d.ID))(t), d)
	other := d
	other.ID, other.Parent = id.New(id.Delegation), again.ID
	r.do(grant.Delegate{Delegation: other})
	same(t, must(r.s.Delegation(r.ctx, again.ID, hop.ID))(t), other)
}
