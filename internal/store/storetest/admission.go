package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// testAdmissions: what is said of clients that nobody registered, and how they are
// found, by a name that is longer than what is stored of it.
func testAdmissions(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	same(t, must(r.s.Openness(r.ctx))(t), client.Openness{})
	for _, o := range []client.Openness{{Documents: client.Listed, Registration: true, Resources: []string{"*"}, Scopes: []string{"a", "b"}}, {Documents: client.Anyone}} {
		r.do(client.SetOpenness{Openness: o})
		same(t, must(r.s.Openness(r.ctx))(t), o)
	}
	rule := client.Rule{Source: client.FromDocument, Group: "app.example.com", Trust: client.Allowed, Name: "App", At: start}
	r.do(client.SetRule{Rule: rule})
	rule.Trust = client.Blocked
	group := client.Rule{Source: client.FromItself, Group: "fingerprint", Trust: client.Blocked, At: start}
	r.do(client.SetRule{Rule: rule}, client.SetRule{Rule: group})
	same(t, must(r.s.Rules(r.ctx))(t), []client.Rule{rule, group})
	group.Trust = client.Unsaid
	r.do(client.SetRule{Rule: group})
	same(t, must(r.s.Rules(r.ctx))(t), []client.Rule{rule})

	a, b := client.Document{ClientID: "https://a.example/c", Body: []byte(`{"a":1}`), At: start}, client.Document{ClientID: "https://b.example/c", Body: []byte(`{}`), At: start}
	r.do(client.PinDocument{Document: b}, client.PinDocument{Document: a})
	a.Body = []byte(`{"a":2}`)
	r.do(client.PinDocument{Document: a})
	same(t, must(r.s.Document(r.ctx, a.ClientID))(t), a)
	same(t, must(r.s.Documents(r.ctx, "", 10))(t), []client.Document{a, b})
	same(t, must(r.s.Documents(r.ctx, a.ClientID, 10))(t), []client.Document{b})
	r.do(client.UnpinDocument{ClientID: a.ClientID})
	_, err := r.s.Document(r.ctx, a.ClientID)
	refused(t, err, problem.NotFound, "document_not_found")
	refused(t, r.try(client.UnpinDocument{ClientID: a.ClientID}), problem.NotFound, "document_not_found")

	long := client.DynamicPrefix + strings.Repeat("x", 2000)
	self := client.Client{
		ID: id.New(id.Client), ClientID: long, Name: "Self", AuthMethod: client.AuthNone, RedirectURIs: []string{"http://127.0.0.1/cb"}, GrantTypes: []client.GrantType{client.AuthorizationCode},
		Scopes: []string{}, Resources: []string{}, ManagedBy: "dynamic", Origin: client.Origin{Source: client.FromItself, Group: "fp", Digest: "d1"},
	}
	r.do(client.Create{Client: self})
	got := must(r.s.ClientByClientID(r.ctx, long))(t)
	if got.ClientID != long || got.Source != client.FromItself || got.Group != "fp" || got.Digest != "d1" {
		t.Errorf("%+v", got)
	}
	if c := must(r.s.Client(r.ctx, self.ID))(t); c.ClientID != client.StoredID(long) {
		t.Errorf("stored as %s", c.ClientID)
	}
	refused(t, r.try(client.Create{Client: client.Client{ID: id.New(id.Client), ClientID: long}}), problem.Conflict, "client_id_taken")
	web := self
	web.ID, web.ClientID, web.Group, web.RedirectURIs = id.New(id.Client), long+"w", "fw", []string{"https://in.evil.example/cb"}
	doc := self
	doc.ID, doc.ClientID, doc.Source, doc.Group = id.New(id.Client), "https://app.evil.example/c", client.FromDocument, "app.evil.example"
	r.do(client.Create{Client: web}, client.Create{Client: doc})
	for _, c := range []struct {
		source client.Source
		group  string
		want   []string
	}{
		{client.FromItself, "fp", []string{self.ID}},
		{client.FromDocument, "fp", nil},
		{client.FromItself, "app.evil.example", nil},
		{client.FromDocument, "app.evil.example", []string{doc.ID}},
		{client.FromDocument, "*.evil.example", []string{web.ID, doc.ID}}, // whatever redirects there, too
		{client.FromDocument, "in.evil.example", []string{web.ID}},
		{client.FromDocument, "evil.example", nil},
		{client.FromDocument, "*.vil.example", nil},
		{client.FromDocument, "127.0.0.1", nil},
	} {
		var ids []string
		for _, x := range must(r.s.Under(r.ctx, client.Rule{Source: c.source, Group: c.group}))(t) {
			ids = append(ids, x.ID)
		}
		slices.Sort(ids)
		slices.Sort(c.want)
		if !slices.Equal(ids, c.want) {
			t.Errorf("under %s: %q, want %q", c.group, ids, c.want)
		}
	}

	// What was agreed to with one registration is found for the group.
	p := r.person("dana")
	_, err = r.s.ConsentOfGroup(r.ctx, p.ID, "fp")
	refused(t, err, problem.NotFound, "consent_not_found")
	c := grant.Consent{ID: id.New("cns_"), Person: p.ID, Client: self.ID, Resources: []string{}, Scopes: []string{"openid"}, Digest: "d1", At: start}
	r.do(grant.Remember{Consent: c})
	if have := must(r.s.ConsentOfGroup(r.ctx, p.ID, "fp"))(t); have.ID != c.ID || have.Digest != "d1" || have.Client != self.ID {
		t.Errorf("%+v", have)
	}
	_, err = r.s.ConsentOfGroup(r.ctx, r.person("sam").ID, "fp")
	refused(t, err, problem.NotFound, "consent_not_found")
}

// testMet: groups of clients that nobody registered, with who uses them.
func testMet(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	made := func(source client.Source, group, name string) client.Client {
		c := client.Client{
			ID: id.New(id.Client), ClientID: id.New("x-"), Name: name, AuthMethod: client.AuthNone, RedirectURIs: []string{"http://127.0.0.1/cb"}, GrantTypes: []client.GrantType{client.AuthorizationCode},
			Scopes: []string{}, Resources: []string{}, Origin: client.Origin{Source: source, Group: group},
		}
		r.do(client.Create{Client: c})
		return c
	}
	a1, a2 := made(client.FromDocument, "a.example", "A"), made(client.FromDocument, "a.example", "A, newer")
	b := made(client.FromItself, "fp", "B")
	made(client.Registered, "", "an administrator's")
	gone := made(client.FromItself, "gone", "C")
	dana, sam := r.person("dana"), r.person("sam")
	agreed := func(who, c string, at time.Time) grant.Consent {
		x := grant.Consent{ID: id.New("cns_"), Person: who, Client: c, Resources: []string{"res_1"}, Scopes: []string{"openid"}, At: at}
		r.do(grant.Remember{Consent: x})
		return x
	}
	agreed(dana.ID, a1.ID, start)
	agreed(dana.ID, a2.ID, start.Add(time.Minute))
	over := agreed(sam.ID, a1.ID, start.Add(2*time.Minute))
	agreed(sam.ID, b.ID, start)
	used := start.Add(time.Hour)
	g := grant.Grant{ID: id.New(id.Grant), Person: dana.ID, Client: a1.ID, Consent: "", Resources: []string{}, Scopes: []string{}, CreatedAt: start, ExpiresAt: start.Add(24 * time.Hour), UsedAt: used}
	r.do(grant.Open{Grant: g}, lineage.End{ID: gone.ID, Why: "test"})

	met := must(r.s.Met(r.ctx, "", 10))(t)
	same(t, met, []client.Met{
		{Source: client.FromItself, Group: "fp", Name: "B", Newest: b.ID, Clients: 1, People: 1},
		{Source: client.FromDocument, Group: "a.example", Name: "A, newer", Newest: a2.ID, Clients: 2, People: 2, UsedAt: used},
	})
	same(t, must(r.s.Met(r.ctx, "", 1))(t), met[:1])
	same(t, must(r.s.Met(r.ctx, met[0].Newest, 10))(t), met[1:])

	uses := must(r.s.Uses(r.ctx, client.FromDocument, "a.example", 10))(t)
	if len(uses) != 3 || uses[0].Person != sam.ID || uses[1].Client != a2.ID || !uses[1].UsedAt.IsZero() {
		t.Errorf("%+v", uses)
	}
	same(t, uses[2], client.Use{Client: a1.ID, Person: dana.ID, Resources: []string{"res_1"}, Scopes: []string{"openid"}, At: start, UsedAt: used})
	r.do(lineage.End{ID: over.ID, Why: "test"})
	if left := must(r.s.Uses(r.ctx, client.FromDocument, "a.example", 10))(t); len(left) != 2 {
		t.Errorf("what was taken back is listed: %+v", left)
	}
	if met := must(r.s.Met(r.ctx, "", 10))(t); met[1].People != 1 {
		t.Errorf("who took it back is counted: %+v", met[1])
	}
	if none := must(r.s.Uses(r.ctx, client.FromItself, "a.example", 10))(t); len(none) != 0 {
		t.Errorf("of another source: %+v", none)
	}
}
