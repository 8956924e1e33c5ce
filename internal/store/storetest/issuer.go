package storetest

import (
	"encoding/json"
	"testing"

	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// testIssuers: one of an iss and one link of a subject, until it is removed; what
// was given by a link hangs on it, on the issuer and on the person.
func testIssuers(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, c := r.person("dana"), r.client("app")
	i := issuer.Issuer{ID: id.New(id.Issuer), ManagedBy: "api", CreatedAt: start, Spec: issuer.Spec{
		Issuer: "https://idp.example.com", Name: "IdP", JWKS: json.RawMessage(`{"keys":[]}`), Profiles: []string{issuer.IDJAG}, Clients: []string{c.ID},
		Resources: []string{"res_a"}, Scopes: []string{"a"}, MaxLifetime: 60, Replay: issuer.SameClient, ACR: map[string]string{"x": "phr"},
	}}
	r.do(issuer.Create{Issuer: i})
	same(t, must(r.s.TrustedIssuer(r.ctx, i.ID))(t), i)
	other := i
	other.ID = id.New(id.Issuer)
	refused(t, r.try(issuer.Create{Issuer: other}), problem.Conflict, "issuer_taken")
	i.Name, i.ManagedBy = "Other", "apply"
	r.do(issuer.Update{Issuer: i})
	got := must(r.s.TrustedIssuerByName(r.ctx, i.Spec.Issuer))(t)
	same(t, got, i)
	if got.Node.Version != 2 || got.Node.Kind != lineage.Connection {
		t.Errorf("its node: %+v", got.Node)
	}

	l := issuer.Link{ID: id.New(id.Link), Issuer: i.ID, Tenant: "t", Subject: "s", Person: p.ID, CreatedAt: start}
	r.do(issuer.Join{Link: l})
	same(t, must(r.s.LinkOf(r.ctx, i.ID, "t", "s"))(t), l)
	for _, q := range [][2]string{{"", "s"}, {"t", ""}, {"s", "t"}, {"t", "S"}, {`t","s`, ""}} {
		_, err := r.s.LinkOf(r.ctx, i.ID, q[0], q[1])
		refused(t, err, problem.NotFound, "subject_not_found")
	}
	twice := l
	twice.ID = id.New(id.Link)
	refused(t, r.try(issuer.Join{Link: twice}), problem.Conflict, "subject_taken")
	g := grant.Grant{ID: id.New(id.Grant), Person: p.ID, Client: c.ID, CreatedAt: start}
	r.do(grant.Open{Grant: g, Link: l.ID})
	wantParents(t, r, g.ID, p.ID, c.ID, l.ID, i.ID)
	if all := must(r.s.Links(r.ctx, i.ID, "", 10))(t); len(all) != 1 || all[0].ID != l.ID {
		t.Errorf("links: %+v", all)
	}

	r.do(issuer.Part{ID: l.ID})
	_, err := r.s.LinkOf(r.ctx, i.ID, "t", "s")
	refused(t, err, problem.NotFound, "subject_not_found")
	r.do(issuer.Join{Link: twice})
	same(t, must(r.s.Link(r.ctx, twice.ID))(t), twice)
	r.do(issuer.Remove{ID: i.ID})
	_, err = r.s.TrustedIssuerByName(r.ctx, i.Spec.Issuer)
	refused(t, err, problem.NotFound, "issuer_not_found")
	r.do(issuer.Create{Issuer: other})
	r.do(lineage.End{ID: other.ID, Why: "replayed"})
	third := i
	third.ID = id.New(id.Issuer)
	r.do(issuer.Create{Issuer: third})
	if all := must(r.s.TrustedIssuers(r.ctx, "", 10))(t); len(all) != 3 {
		t.Errorf("issuers: %+v", all)
	}
}
