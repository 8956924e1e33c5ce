package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// whys says why each node is frozen; "" if it is live, "ended" if it ended.
func (r *rig) whys(nodes ...string) (out []string) {
	r.t.Helper()
	for _, id := range nodes {
		n := node(r.t, r, id)
		switch {
		case !n.EndedAt.IsZero():
			out = append(out, "ended")
		case n.Live():
			out = append(out, "")
		default:
			out = append(out, n.Why)
		}
	}
	return out
}

// frozen puts the deployment, which is made, into quarantine.
func (r *rig) frozen() {
	r.t.Helper()
	if _, err := r.s.Deployment(r.ctx); err != nil {
		r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	}
	r.do(store.Quarantine{Why: "a test", Seen: store.Anchor{By: store.ByFile, Epoch: 1, HW: 500}})
}

// suspended checks what waits to be released.
func (r *rig) suspended(want store.Suspended) {
	r.t.Helper()
	if got, err := r.s.Suspended(r.ctx); err != nil || got != want {
		r.t.Errorf("suspended: %+v, %v; want %+v", got, err, want)
	}
}

// issuer makes a trusted issuer that says who somebody is.
func (r *rig) issuer(person string) (issuer.Issuer, issuer.Link) {
	i := issuer.Issuer{ID: id.New(id.Issuer), ManagedBy: "api", CreatedAt: start, Spec: issuer.Spec{Issuer: "https://idp.example.com", Profiles: []string{issuer.JWTBearer}}}
	l := issuer.Link{ID: id.New(id.Link), Issuer: i.ID, Subject: "s", Person: person, CreatedAt: start}
	r.do(issuer.Create{Issuer: i}, issuer.Join{Link: l})
	return i, l
}

// agreed has somebody have agreed to a client.
func (r *rig) agreed(person, client string) grant.Consent {
	c := grant.Consent{ID: id.New("cns_"), Person: person, Client: client, Scopes: []string{"notes:read"}, At: start}
	r.do(grant.Remember{Consent: c})
	return c
}

// testLeave: leaving a quarantine ends everything issued and every single-use value,
// has one-time codes of until now used, forgets what was seen, and suspends who may
// have been revoked; what people agreed to is over. Without one it is refused.
func testLeave(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	refused(t, r.try(store.Leave{}), problem.Conflict, "not_quarantined")
	dana, sam := r.person("dana"), r.person("sam")
	cl, svc := r.service(dana.ID, "robot")
	builtIn := client.Client{
		ID: "cli_builtin", ClientID: "cli", Name: "Command line", AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.AuthorizationCode},
		ManagedBy: "built-in", CreatedAt: start,
	}
	r.do(client.Create{Client: builtIn}, lineage.Freeze{ID: sam.ID, Why: "disabled"})
	k, app := r.passkey(dana.ID), r.secret(dana.ID, factor.KindTOTP)
	v, h := r.session(dana.ID, k.ID)
	g, f := r.grant(dana.ID, cl.ID, v.ID, k.ID)
	code := once.Value{Purpose: once.Invite, Key: once.KeyOf(once.Invite, "x"), Data: []byte("{}"), MadeAt: r.at, ExpiresAt: r.at.Add(time.Hour)}
	r.do(once.Put{Value: code})
	wh := hook("w")
	r.do(notice.CreateWebhook{Webhook: wh})
	idp, link := r.issuer(dana.ID)
	agreed := r.agreed(dana.ID, cl.ID)
	r.frozen()
	r.do(store.Keep{Name: store.FactReplayed, Value: "7"})
	refused(t, r.try(store.Release{}, store.Leave{}, store.Leave{}), problem.Conflict, "not_quarantined") // and nothing of it stays
	if d := must(r.s.Deployment(r.ctx))(t); d.Quarantined.IsZero() {
		t.Error("half of an act ended the quarantine")
	}
	step := func() int64 { return time.Now().Unix() / 30 }
	before := step()
	record := r.do(store.Leave{Suspend: true})

	d := must(r.s.Deployment(r.ctx))(t)
	if !d.Quarantined.IsZero() || d.Why != "" {
		t.Errorf("still in quarantine: %+v", d)
	}
	want := []string{"restored", "disabled", "restored", "restored", "", "ended", "ended", "ended", "", "restored", "restored", "", "ended"}
	same(t, r.whys(dana.ID, sam.ID, cl.ID, svc.ID, builtIn.ID, v.ID, g.ID, f.ID, k.ID, wh.ID, idp.ID, link.ID, agreed.ID), want)
	r.suspended(store.Suspended{People: 1, Services: 1, Clients: 1, Issuers: 1, Webhooks: 1})
	taken := must(r.s.TakenBy(r.ctx, []string{record}))(t)[record]
	for _, id := range []string{dana.ID, cl.ID, svc.ID, v.ID, g.ID, f.ID, idp.ID, agreed.ID} { // the feed tells of each
		if !slices.ContainsFunc(taken, func(x store.Taken) bool { return x.A == id }) {
			t.Errorf("the record does not say that %s was taken: %v", id, taken)
		}
	}
	if _, err := r.s.SessionBySecret(r.ctx, h); err != nil {
		t.Error(err)
	}
	if got := must(r.s.OnceValue(r.ctx, code.Purpose, code.Key))(t); got.ExpiresAt.After(time.Now()) {
		t.Errorf("a link of before is open until %v", got.ExpiresAt)
	}
	if err := r.try(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: before, At: r.at}); problem.CodeOf(err) != "code_used" {
		t.Errorf("a one-time code of before: %v", err)
	}
	r.do(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: step() + 1, At: r.at}) // the next one is good
	same(t, must(r.s.Seen(r.ctx))(t), store.Anchor{})
	if _, ok, err := r.s.Fact(r.ctx, store.FactReplayed); ok || err != nil {
		t.Errorf("it is kept how far was replayed: %v", err)
	}
	refused(t, r.try(store.Leave{}), problem.Conflict, "not_quarantined")
}

// testRelease: only what leaving suspended is released, by kind, by group, or one, and
// not what somebody disabled or ended.
func testRelease(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	admins, others := r.group(group.Administrators), r.group("others")
	dana, sam, kim := r.person("dana", admins.ID), r.person("sam", others.ID), r.person("kim")
	disabled, gone := r.person("disabled", admins.ID), r.person("gone", others.ID)
	robot, svc := r.service(dana.ID, "robot")
	web, wh := r.client("web"), hook("w")
	r.do(notice.CreateWebhook{Webhook: wh})
	idp, _ := r.issuer(dana.ID)
	r.do(lineage.Freeze{ID: disabled.ID, Why: "disabled"})
	r.frozen()
	r.do(store.Leave{Suspend: true})
	r.do(lineage.End{ID: gone.ID, Why: "ended"})
	all := []string{dana.ID, sam.ID, kim.ID, disabled.ID, gone.ID, svc.ID, robot.ID, web.ID, wh.ID, idp.ID}
	for _, step := range []struct {
		release store.Release
		want    []string
	}{
		{store.Release{Kind: lineage.Person, Group: admins.ID}, []string{"", "restored", "restored", "disabled", "ended", "restored", "restored", "restored", "restored", "restored"}},
		{store.Release{Kind: lineage.Service, ID: dana.ID}, []string{"", "restored", "restored", "disabled", "ended", "restored", "restored", "restored", "restored", "restored"}},
		{store.Release{Kind: lineage.Person, ID: sam.ID}, []string{"", "", "restored", "disabled", "ended", "restored", "restored", "restored", "restored", "restored"}},
		{store.Release{Kind: lineage.Client, ID: web.ID}, []string{"", "", "restored", "disabled", "ended", "restored", "restored", "", "restored", "restored"}},
		{store.Release{Kind: lineage.Service}, []string{"", "", "restored", "disabled", "ended", "", "restored", "", "restored", "restored"}},
		{store.Release{Kind: lineage.Client}, []string{"", "", "restored", "disabled", "ended", "", "", "", "restored", "restored"}},
		{store.Release{Kind: lineage.Person}, []string{"", "", "", "disabled", "ended", "", "", "", "restored", "restored"}},
		{store.Release{Kind: lineage.Person}, []string{"", "", "", "disabled", "ended", "", "", "", "restored", "restored"}}, // again
		{store.Release{}, []string{"", "", "", "disabled", "ended", "", "", "", "", "restored"}},
		{store.Release{Kind: lineage.Connection, ID: dana.ID}, []string{"", "", "", "disabled", "ended", "", "", "", "", "restored"}},
		{store.Release{Kind: lineage.Connection}, []string{"", "", "", "disabled", "ended", "", "", "", "", ""}},
	} {
		r.do(step.release)
		if got := r.whys(all...); !slices.Equal(got, step.want) {
			t.Fatalf("%+v: %q, want %q", step.release, got, step.want)
		}
	}
	r.suspended(store.Suspended{})
}

// testReapply: each thing that an act took is taken again, what is not known is passed
// over, and a second time changes nothing.
func testReapply(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	admins := r.group(group.Administrators)
	dana, sam, gone := r.person("dana", admins.ID), r.person("sam", admins.ID), r.person("gone")
	app, web := r.client("app"), r.client("web")
	k := r.passkey(dana.ID)
	r.passkey(gone.ID)
	r.do(client.SetOpenness{Openness: client.Openness{Documents: client.Anyone, Registration: true}})
	for group, trust := range map[string]client.Trust{"a.example": client.Trusted, "b.example": client.Trusted, "c.example": client.Blocked, "d.example": client.Allowed} {
		r.do(client.SetRule{Rule: client.Rule{Source: client.FromDocument, Group: group, Trust: trust, Name: "App"}})
	}
	const doc, kept = "https://a.example/app", "https://d.example/app"
	for _, name := range []string{doc, kept} {
		r.do(client.PinDocument{Document: client.Document{ClientID: name, Body: []byte("{}")}})
	}
	far := r.at.Add(time.Hour)
	key := func(id string, version int) keyring.Key {
		return keyring.Key{ID: id, Purpose: keyring.Token, Alg: "ES256", Version: version, Public: []byte("p"), Sealed: random(50), CreatedAt: start, ActivateAt: start}
	}
	r.do(keyring.Add{Key: key("kid1", 1)}, keyring.Add{Key: key("kid2", 2)}, keyring.Add{Key: key("kid3", 3)})
	r.frozen()
	list := []store.Taken{
		{What: store.TookPerson, A: gone.ID},
		{What: store.TookEnd, A: gone.ID},
		{What: store.TookEnd, A: k.ID},
		{What: store.TookFreeze, A: web.ID},
		{What: store.TookClient, A: app.ID},
		{What: store.TookMember, A: admins.ID, B: sam.ID},
		{What: store.TookKey, A: "kid1"},
		{What: store.TookRetired, A: "kid2", B: far.Format(time.RFC3339Nano)},
		{What: store.TookRetired, A: "kid3", B: "no time"}, // no later than now
		{What: store.TookKind, A: string(factor.KindPassword)},
		{What: store.TookBlocked, A: string(client.FromDocument), B: "a.example"},
		{What: store.TookTrust, A: string(client.FromDocument), B: "b.example"},
		{What: store.TookTrust, A: string(client.FromDocument), B: "c.example"}, // stays blocked
		{What: store.TookBlocked, A: string(client.FromDocument), B: "e.example"},
		{What: store.TookDocument, A: doc},
		{What: store.TookOpenness},
	}
	for _, what := range []string{store.TookEnd, store.TookFreeze, store.TookClient, store.TookMember, store.TookKey, store.TookRetired, store.TookPerson, store.TookTrust, store.TookDocument} {
		list = append(list, store.Taken{What: what, A: "never_here", B: "never_here"})
	}
	check := func() {
		t.Helper()
		same(t, r.whys(gone.ID, k.ID, web.ID, app.ID, dana.ID, sam.ID), []string{"ended", "ended", "replayed", "restored", "", ""})
		_, err := r.s.Person(r.ctx, gone.ID)
		refused(t, err, problem.NotFound, "person_not_found")
		if _, ok, err := r.s.PseudonymOf(r.ctx, gone.ID); ok || err != nil {
			t.Errorf("the record key of somebody erased is back: %v", err)
		}
		same(t, must(r.s.Members(r.ctx, admins.ID, "", 9))(t), []string{dana.ID})
		for _, v := range must(r.s.Keys(r.ctx))(t) {
			if v.ID == "kid1" && v.WithdrawnAt.IsZero() || v.ID == "kid2" && !v.RetireAt.Equal(far) || v.ID == "kid3" && v.RetireAt.After(time.Now()) {
				t.Errorf("%+v", v)
			}
		}
		said := map[string]client.Trust{}
		for _, rule := range must(r.s.Rules(r.ctx))(t) {
			said[rule.Group] = rule.Trust
		}
		same(t, said, map[string]client.Trust{"a.example": client.Blocked, "c.example": client.Blocked, "d.example": client.Allowed, "e.example": client.Blocked})
		if docs := must(r.s.Documents(r.ctx, "", 9))(t); len(docs) != 1 || docs[0].ClientID != kept {
			t.Errorf("documents that are kept: %+v", docs)
		}
		same(t, must(r.s.Openness(r.ctx))(t), client.Openness{})
		if kinds := must(r.s.Allowed(r.ctx))(t); kinds[factor.KindPassword] || !kinds[factor.KindTOTP] {
			t.Errorf("%v", kinds)
		}
	}
	if n := must(r.s.PasskeysOf(r.ctx, dana.ID))(t); len(n) != 1 || !n[0].Node.Live() { // positive control
		t.Fatalf("%+v", n)
	}
	r.do(store.Reapply{Taken: list})
	check()
	versions := func() (out []int64) {
		for _, id := range []string{gone.ID, k.ID, web.ID, app.ID} {
			out = append(out, node(t, r, id).Version)
		}
		return out
	}
	before := versions()
	r.do(store.Reapply{Taken: list})
	check()
	same(t, versions(), before)

	// A client that was changed since waits like one that may have been; what the
	// export says was frozen stays so.
	r.do(store.Leave{})
	r.do(store.Release{Kind: lineage.Client})
	same(t, r.whys(web.ID, app.ID), []string{"replayed", ""})
}

// testTaken: an act's record says what it took away that is no revocation, as it stands
// now; what gives says nothing.
func testTaken(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana := r.person("dana")
	idp, _ := r.issuer(dana.ID)
	app := r.client("app")
	rule := func(trust client.Trust) client.SetRule {
		return client.SetRule{Rule: client.Rule{Source: client.FromDocument, Group: "a.example", Trust: trust}}
	}
	taken := func(record string) []store.Taken { return must(r.s.TakenBy(r.ctx, []string{record}))(t)[record] }
	const doc = "https://a.example/app"
	for name, c := range map[string]struct {
		act  act.Change
		want store.Taken
	}{
		"a registration of an issuer": {issuer.Update{Issuer: idp}, store.Taken{What: store.TookClient, A: idp.ID}},
		"a registration of a client":  {client.Update{Client: app}, store.Taken{What: store.TookClient, A: app.ID}},
		"who is trusted":              {rule(client.Trusted), store.Taken{What: store.TookTrust, A: string(client.FromDocument), B: "a.example"}},
		"openness":                    {client.SetOpenness{}, store.Taken{What: store.TookOpenness}},
		"a document":                  {client.PinDocument{Document: client.Document{ClientID: doc, Body: []byte("{}")}}, store.Taken{What: store.TookDocument, A: doc}},
	} {
		if got := taken(r.do(c.act)); !slices.Equal(got, []store.Taken{c.want}) || !c.want.Known() {
			t.Errorf("%s: %+v", name, got)
		}
	}
	same(t, taken(r.do(client.UnpinDocument{ClientID: doc})), []store.Taken{{What: store.TookDocument, A: doc}})
	blocked := r.do(rule(client.Blocked))
	same(t, taken(blocked), []store.Taken{{What: store.TookBlocked, A: string(client.FromDocument), B: "a.example"}})
	r.do(rule(client.Unsaid))
	if got := taken(blocked); len(got) != 0 {
		t.Errorf("what is not blocked any more was taken: %+v", got)
	}
	if got := taken(r.do(factor.Allow{Kind: factor.KindTOTP, On: true})); len(got) != 0 {
		t.Errorf("what was given was taken: %+v", got)
	}
}
