package storetest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

const issuerOf = "https://id.example.com"

// publication is a set with one more rule, in force after a version.
func (r *rig) publication(by string, after int64, rule string, waves ...policy.Wave) ruleset.Publication {
	r.t.Helper()
	src, _ := candidate(r.t, `@id("`+rule+`") @reason("“ü”") forbid (principal, action == Action::"group.write", resource);`)
	p := ruleset.Publication{After: after, Hash: src.Hash(), Source: src, Waves: waves, Note: "why", By: by, ByKind: policy.KindPerson}
	return p.New(id.New(id.Published), r.at).Publication
}

// signing is what keeps a person's signature of a publication.
func (r *rig) signing(p *ruleset.Publication, by string) ruleset.Sign {
	r.t.Helper()
	ceremony := must(canon.Marshal(map[string]any{"v": 1, "req": p.ID, "by": by, "dec": "publish"}))(r.t)
	challenge := p.Challenge(issuerOf, ceremony)
	data := must(json.Marshal(map[string]any{"type": "webauthn.get", "challenge": base64.RawURLEncoding.EncodeToString(challenge[:])}))(r.t)
	return must(p.Sign(ruleset.Signature{By: by, Credential: "cred_1", Ceremony: ceremony, ClientData: data, AuthenticatorData: []byte{1}, Signature: []byte{2}, Key: []byte{3}}, issuerOf, r.at))(r.t)
}

// submitted and signed do the first, and the first two, of what is done with one.
func (r *rig) submitted(p ruleset.Publication) ruleset.Publication {
	r.t.Helper()
	r.do(ruleset.Submit{Publication: p})
	return must(r.s.Publication(r.ctx, p.ID))(r.t)
}

func (r *rig) signed(p ruleset.Publication, by string) ruleset.Publication {
	r.t.Helper()
	p = r.submitted(p)
	r.do(r.signing(&p, by))
	return must(r.s.Publication(r.ctx, p.ID))(r.t)
}

// carrying is what puts a publication in force.
func (r *rig) carrying(p *ruleset.Publication, by string) []act.Change {
	r.t.Helper()
	d := ruleset.Desk{Issuer: issuerOf, Publications: r.s, Rollouts: r.s, Group: func(context.Context, string) error { return nil }}
	return must(d.CarryOut(r.ctx, p, by, r.at))(r.t).Changes
}

// testPublications: one is kept as it was submitted, signed once and spent once, and the
// version has its signature.
func testPublications(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.founded()
	dana, sam := r.person("dana"), r.person("sam")
	_, err := r.s.Publication(r.ctx, "pub_1")
	refused(t, err, problem.NotFound, "publication_not_found")

	p := r.publication("svc_ci", 0, "x")
	p.ByKind = policy.KindService
	p.Record = r.do(ruleset.Submit{Publication: p})
	same(t, must(r.s.Publication(r.ctx, p.ID))(t), p)
	again := p
	again.ID = id.New(id.Published)
	refused(t, r.try(ruleset.Submit{Publication: again}), problem.Conflict, "publication_open")
	if got, ok, err := r.s.OpenPublication(r.ctx, 0, p.Hash, "", r.at); err != nil || !ok || got.ID != p.ID {
		t.Errorf("%v %v %+v", err, ok, got)
	}
	for name, c := range map[string]struct {
		after      int64
		hash, plan string
		at         time.Time
	}{"version": {1, p.Hash, "", r.at}, "set": {0, "sha256:x", "", r.at}, "plan": {0, p.Hash, "sha256:x", r.at}, "time": {0, p.Hash, "", p.Until}} {
		if _, ok, err := r.s.OpenPublication(r.ctx, c.after, c.hash, c.plan, c.at); ok || err != nil {
			t.Errorf("of another %s: %v %v", name, ok, err)
		}
	}
	unsigned := ruleset.Publish{Version: ruleset.Version{N: 1, Hash: p.Hash, Source: p.Source, By: dana.ID, Of: ruleset.NoVersion, Publication: p.ID}, Spends: true}
	refused(t, r.try(unsigned), problem.Conflict, "publication_over")

	other := newRig(t, db.Open())
	defer other.s.Close()
	for _, x := range []*rig{r, other} {
		x.judged(dana.ID)
	}
	mine, theirs := r.signing(&p, dana.ID), r.signing(&p, sam.ID)
	for name, spoil := range map[string]func(*ruleset.Sign){
		"set": func(s *ruleset.Sign) { s.Hash = "sha256:x" }, "plan": func(s *ruleset.Sign) { s.Plan = "sha256:x" }, "publication": func(s *ruleset.Sign) { s.ID = "pub_x" },
		"person": func(s *ruleset.Sign) { s.Signature.By = "usr_x" },
	} {
		s := mine
		spoil(&s)
		if err := r.try(s); problem.CodeOf(err) != "publication_over" {
			t.Errorf("of another %s: %v", name, err)
		}
	}
	late := mine
	late.After = 1
	refused(t, r.try(late), problem.Conflict, "policy_moved")
	wins(t, "publication_over", func() error { return r.try(mine) }, func() error { return other.try(theirs) })
	p = must(r.s.Publication(r.ctx, p.ID))(t)
	if p.State != ruleset.Signed || !p.Until.Equal(r.at.Add(ruleset.SignedLife)) || p.Signed == nil || len(p.Signed.Ceremony) == 0 || string(p.Signed.Key) != "\x03" {
		t.Errorf("%+v", p)
	}
	for name, spoil := range map[string]func(*ruleset.Publish){
		"set": func(c *ruleset.Publish) { c.Hash = "sha256:x" }, "signer": func(c *ruleset.Publish) { c.By = "usr_x" }, "publication": func(c *ruleset.Publish) { c.Publication = "pub_x" },
	} {
		c := r.carrying(&p, "svc_ci")[0].(ruleset.Publish)
		spoil(&c)
		if err := r.try(c); problem.CodeOf(err) != "publication_over" {
			t.Errorf("with another %s: %v", name, err)
		}
	}
	refused(t, r.try(ruleset.Start{Rollout: ruleset.Rollout{N: 1, Hash: p.Hash, Source: p.Source, By: p.Signed.By, State: ruleset.Open, Publication: p.ID, Waves: []policy.Wave{{Rest: true}}}}), problem.Conflict, "publication_over")

	carry, too := r.carrying(&p, "svc_ci"), r.carrying(&p, sam.ID)
	wins(t, "policy_moved", func() error { return r.try(carry...) }, func() error { return other.try(too...) })
	v := must(r.s.Ruleset(r.ctx, 1))(t)
	if v.By != p.Signed.By || v.Publication != p.ID || v.Signature == nil || v.Carrier == "" || v.Note != "why" {
		t.Errorf("%+v", v)
	}
	same(t, *v.Signature, *p.Signed)
	done := must(r.s.Publication(r.ctx, p.ID))(t)
	if done.State != ruleset.CarriedOut || done.Became != 1 || done.OverAt.IsZero() {
		t.Errorf("%+v", done)
	}
	// Once more, after whatever else: it was spent.
	next := carry[0].(ruleset.Publish)
	next.N = 2
	refused(t, r.try(next), problem.Conflict, "publication_over")
	refused(t, r.try(ruleset.Withdraw{ID: p.ID}), problem.Conflict, "publication_over")

	// Wave by wave, and what it becomes.
	w := r.signed(r.publication(dana.ID, 1, "y", policy.Wave{Groups: []string{"b", "a"}, From: start, Budget: policy.Budget{Prompts: 5}}, policy.Wave{Rest: true, From: start}), sam.ID)
	begin := r.carrying(&w, dana.ID)[0].(ruleset.Start)
	sooner := begin
	sooner.Waves = []policy.Wave{{Rest: true, From: start}}
	refused(t, r.try(sooner), problem.Conflict, "publication_over")
	r.do(begin)
	refused(t, r.try(ruleset.Submit{Publication: r.publication(dana.ID, 1, "z")}), problem.Conflict, "rollout_running")
	ro := must(r.s.Rollout(r.ctx, 1))(t)
	if ro.By != sam.ID || ro.Carrier != dana.ID || ro.Publication != w.ID || ro.Signature == nil {
		t.Errorf("%+v", ro)
	}
	steer, publish, err := ro.Finish(dana.ID, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r.do(steer, publish)
	if v = must(r.s.Ruleset(r.ctx, 2))(t); v.By != sam.ID || v.Carrier != dana.ID || v.Publication != w.ID || v.Signature == nil {
		t.Errorf("%+v", v)
	}
	list := must(r.s.Publications(r.ctx, "", 10))(t)
	if len(list) != 2 || list[0].ID != w.ID || list[0].Source.Files != nil || list[1].ID != p.ID {
		t.Errorf("%+v", list)
	}
	if list = must(r.s.Publications(r.ctx, w.ID, 10))(t); len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("%+v", list)
	}
}

// testPublicationsBound: so many are open and no more, of many who submit at once too;
// what cannot come into force any more makes room.
func testPublicationsBound(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	r.founded()
	dana := r.person("dana")
	for _, x := range rs {
		x.judged(dana.ID)
	}
	for i := range ruleset.MaxPublications - 1 {
		r.do(ruleset.Submit{Publication: r.publication(dana.ID, 0, "r"+strconv.Itoa(i))})
	}
	full := 0
	for n, err := range race(4, func(n int) error {
		x := rs[n%len(rs)]
		for {
			if err := x.s.Commit(context.Background(), x.write(audit.PolicySubmitted, "", nil, ruleset.Submit{Publication: r.publication(dana.ID, 0, "at"+strconv.Itoa(n))})); !errors.Is(err, act.ErrStale) {
				return err
			}
		}
	}) {
		if problem.CodeOf(err) == "publications_full" {
			full++
		} else if err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
	if full != 3 {
		t.Errorf("of four who were one too many or more, %d were refused", full)
	}
	first := must(r.s.Publications(r.ctx, "", 100))(t)[0]
	if open := must(r.s.OpenPublications(r.ctx))(t); len(open) != ruleset.MaxPublications || open[0].ID != first.ID || open[0].Source.Files != nil || open[0].Note != "why" {
		t.Errorf("%d are open: %+v", len(open), open)
	}
	r.do(ruleset.Withdraw{ID: first.ID})
	if open := must(r.s.OpenPublications(r.ctx))(t); len(open) != ruleset.MaxPublications-1 || open[0].ID == first.ID {
		t.Errorf("one was withdrawn, and %d are open", len(open))
	}
	refused(t, r.try(ruleset.Withdraw{ID: first.ID}), problem.Conflict, "publication_over")
	r.do(ruleset.Submit{Publication: r.publication(dana.ID, 0, "again")})
	refused(t, r.try(ruleset.Submit{Publication: r.publication(dana.ID, 0, "more")}), problem.Conflict, "publications_full")
	src, _ := candidate(t, `@id("o") @reason("r") forbid (principal, action == Action::"group.write", resource);`)
	r.do(ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}})
	refused(t, r.try(ruleset.Submit{Publication: r.publication(dana.ID, 0, "late")}), problem.Conflict, "policy_moved")
	r.do(ruleset.Submit{Publication: r.publication(dana.ID, 1, "next")})
	if got := must(r.s.Publication(r.ctx, must(r.s.Publications(r.ctx, "", 100))(t)[1].ID))(t); got.State != ruleset.Ended {
		t.Errorf("what was to follow version 0 is %s", got.State)
	}
	for _, days := range []struct{ days, want int }{{30, ruleset.MaxPublications + 2}, {32, 0}} {
		if err := r.s.DeleteExpired(r.ctx, r.at.Add(time.Duration(days.days)*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got := len(must(r.s.Publications(r.ctx, "", 100))(t)); got != days.want {
			t.Errorf("after %d days there are %d, want %d", days.days, got, days.want)
		}
	}
}

// testPublicationsOfServices: however many services hand in, people have room.
func testPublicationsOfServices(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.founded()
	dana := r.person("dana")
	ofService := func(n int) ruleset.Submit {
		p := r.publication("svc_"+strconv.Itoa(n%3), 0, "s"+strconv.Itoa(n))
		p.ByKind = policy.KindService
		return ruleset.Submit{Publication: p}
	}
	first := ofService(0)
	r.do(first)
	for n := range ruleset.MaxOfServices - 1 {
		r.do(ofService(n + 1))
	}
	refused(t, r.try(ofService(90)), problem.Conflict, "publications_full")
	for n := range ruleset.MaxPublications - ruleset.MaxOfServices {
		r.do(ruleset.Submit{Publication: r.publication(dana.ID, 0, "p"+strconv.Itoa(n))})
	}
	refused(t, r.try(ruleset.Submit{Publication: r.publication(dana.ID, 0, "more")}), problem.Conflict, "publications_full")
	r.do(ruleset.Withdraw{ID: first.ID})
	r.do(ofService(91))

	// Nor does one that withdraws what it hands in tell people of it for ever.
	for _, p := range must(r.s.OpenPublications(r.ctx))(t) {
		r.do(ruleset.Withdraw{ID: p.ID})
	}
	p := r.publication("svc_busy", 0, "busy")
	p.ByKind = policy.KindService
	again := func(at time.Time) error {
		w := r.write(audit.PolicySubmitted, "", nil, p.New(id.New(id.Published), at))
		w.At = at
		return r.s.Commit(r.ctx, w)
	}
	for range ruleset.MaxOfADay {
		if err := again(r.at); err != nil {
			t.Fatal(err)
		}
		for _, p := range must(r.s.OpenPublications(r.ctx))(t) {
			r.do(ruleset.Withdraw{ID: p.ID})
		}
	}
	refused(t, again(r.at), problem.Conflict, "publications_many")
	r.do(ofService(92))
	if err := again(r.at.Add(ruleset.SubmittedLife)); err != nil {
		t.Error(err)
	}
}

// testPublicationsEnd: what was signed, and what was submitted, comes to nothing where
// whoever did it is stopped, or what they had was in other hands; where another version
// is in force; by the clock; and with a restore or another issuer.
func testPublicationsEnd(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.founded()
	admins := r.group("administrators")
	r.person("boss", admins.ID)
	bystander := r.submitted(r.publication(r.person("lee").ID, 0, "bystander"))
	n := 0
	for name, c := range map[string]struct {
		end       func(dana account.Person, grp string) []act.Change
		submitted ruleset.PublicationState // of what they submitted and did not sign
	}{
		"disabled": {func(d account.Person, _ string) []act.Change {
			return []act.Change{lineage.Freeze{ID: d.ID, Why: "off"}}
		}, ruleset.Withdrawn},
		"erased":    {func(d account.Person, _ string) []act.Change { return []act.Change{account.Erase{ID: d.ID}} }, ruleset.Withdrawn},
		"recovered": {func(d account.Person, _ string) []act.Change { return []act.Change{recovery.EndAll{Person: d.ID}} }, ruleset.Withdrawn},
		"taken out": {func(d account.Person, g string) []act.Change {
			return []act.Change{group.Remove{Group: g, Person: d.ID}}
		}, ruleset.Unsigned},
		"group ends": {func(_ account.Person, g string) []act.Change { return []act.Change{lineage.End{ID: g}} }, ruleset.Unsigned},
		"group off":  {func(_ account.Person, g string) []act.Change { return []act.Change{lineage.Freeze{ID: g}} }, ruleset.Unsigned},
		"off and on": {func(d account.Person, _ string) []act.Change {
			r.do(lineage.Freeze{ID: d.ID})
			return []act.Change{lineage.Thaw{ID: d.ID}}
		}, ruleset.Withdrawn},
		"not them": {func(d account.Person, _ string) []act.Change {
			x := r.reviewed(d.ID, "", policy.TokenExchange)
			r.do(review.Opens{Review: x})
			return []act.Change{review.Resolve{ID: x.ID, State: review.Refused, By: "usr_x"}}
		}, ruleset.Withdrawn},
	} {
		n++
		grp := r.group("signers" + strconv.Itoa(n))
		dana := r.person("dana"+strconv.Itoa(n), grp.ID)
		signed := r.signed(r.publication("svc_ci", 0, "signed"+strconv.Itoa(n)), dana.ID)
		mine := r.submitted(r.publication(dana.ID, 0, "mine"+strconv.Itoa(n)))
		carry := r.carrying(&signed, "svc_ci")
		r.do(c.end(dana, grp.ID)...)
		if err := r.try(carry...); problem.CodeOf(err) != "publication_over" {
			t.Errorf("%s: what they signed was put in force: %v", name, err)
		}
		if got := must(r.s.Publication(r.ctx, signed.ID))(t); got.State != ruleset.Ended {
			t.Errorf("%s: what they signed is %s", name, got.State)
		}
		if got := must(r.s.Publication(r.ctx, mine.ID))(t); got.State != c.submitted {
			t.Errorf("%s: what they submitted is %s", name, got.State)
		}
		if got := must(r.s.Publication(r.ctx, bystander.ID))(t); got.State != ruleset.Unsigned {
			t.Fatalf("%s: what another submitted is %s", name, got.State)
		}
		if got := must(r.s.Publication(r.ctx, mine.ID))(t); got.State.Open() {
			r.do(ruleset.Withdraw{ID: mine.ID})
		}
	}

	// A service that is stopped takes back what it submitted, signed or not.
	dana := r.person("dana")
	for name, end := range map[string]func(string) act.Change{
		"off":   func(id string) act.Change { return lineage.Freeze{ID: id} },
		"ended": func(id string) act.Change { return lineage.End{ID: id} },
	} {
		sv := client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: "ci", Owner: dana.ID, CreatedAt: start}
		r.do(client.Create{Client: client.Client{ID: id.New(id.Client), ClientID: "ci" + name, Name: "ci", AuthMethod: client.AuthNone, CreatedAt: start}, NewService: &sv})
		p := r.signed(r.publication(sv.ID, 0, "of"+name), dana.ID)
		r.do(end(sv.ID))
		if got := must(r.s.Publication(r.ctx, p.ID))(t); got.State != ruleset.Withdrawn {
			t.Errorf("a service is %s: what it submitted is %s", name, got.State)
		}
	}

	// So does one whose owner is stopped: it is stopped with them.
	owner := r.person("owner")
	sv := client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: "ci", Owner: owner.ID, CreatedAt: start}
	r.do(client.Create{Client: client.Client{ID: id.New(id.Client), ClientID: "ciowned", Name: "ci", AuthMethod: client.AuthNone, CreatedAt: start}, NewService: &sv})
	owned := r.signed(r.publication(sv.ID, 0, "owned"), dana.ID)
	r.do(lineage.Freeze{ID: owner.ID})
	if got := must(r.s.Publication(r.ctx, owned.ID))(t); got.State != ruleset.Withdrawn {
		t.Errorf("the owner of a service is off: what it submitted is %s", got.State)
	}

	// By the clock, to the microsecond.
	p := r.signed(r.publication(dana.ID, 0, "clock"), dana.ID)
	carry := r.carrying(&p, dana.ID)
	then := func(at time.Time, changes ...act.Change) error {
		w := r.write(audit.PolicyPublished, "", nil, changes...)
		w.At = at
		return r.s.Commit(r.ctx, w)
	}
	again := r.publication(dana.ID, 0, "clock")
	refused(t, then(p.Until.Add(-time.Microsecond), ruleset.Submit{Publication: again}), problem.Conflict, "publication_open")
	refused(t, then(p.Until, carry...), problem.Conflict, "publication_over")
	refused(t, then(p.Until, ruleset.Withdraw{ID: p.ID}), problem.Conflict, "publication_over")
	if err := then(p.Until, ruleset.Submit{Publication: again}); err != nil { // it makes room for itself
		t.Error(err)
	}

	// Another version is in force.
	p = r.signed(r.publication(dana.ID, 0, "moved"), dana.ID)
	carry = r.carrying(&p, dana.ID)
	src := p.Source
	r.do(ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}})
	refused(t, r.try(carry...), problem.Conflict, "policy_moved")

	for name, end := range map[string][]act.Change{
		"restored": {store.Leave{}},
		"renamed":  {store.EndIssued{Why: "renamed"}},
	} {
		p := r.signed(r.publication(dana.ID, 1, name), dana.ID)
		waits := r.submitted(r.publication(dana.ID, 1, name+".waits"))
		carry := r.carrying(&p, dana.ID)
		if name == "restored" {
			r.do(store.Quarantine{Why: "a test", Seen: store.Anchor{By: store.ByFile, Epoch: 1, HW: 500}})
		}
		r.do(end...)
		refused(t, r.try(carry...), problem.Conflict, "publication_over")
		for _, id := range []string{p.ID, waits.ID} {
			if got := must(r.s.Publication(r.ctx, id))(t); got.State != ruleset.Ended {
				t.Errorf("%s: it is %s", name, got.State)
			}
		}
	}
}

// testPublicationRaces: a signature that is made while its person is stopped puts
// nothing in force afterwards, whichever was first.
func testPublicationRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	r.founded()
	for i := range 10 {
		dana := r.person("dana" + strconv.Itoa(i))
		p := r.submitted(r.publication("svc_ci", 0, "r"+strconv.Itoa(i)))
		sign := act.Change(r.signing(&p, dana.ID))
		for n, err := range race(2, func(n int) error {
			c := []act.Change{sign, lineage.Freeze{ID: dana.ID, Why: "disabled"}}[n]
			for {
				if err := rs[n%len(rs)].s.Commit(context.Background(), rs[n%len(rs)].write(audit.PolicySigned, "", nil, c)); !errors.Is(err, act.ErrStale) {
					return err
				}
			}
		}) {
			if err != nil {
				t.Fatalf("%d: %v", n, err)
			}
		}
		p = must(r.s.Publication(r.ctx, p.ID))(t)
		if p.State == ruleset.Signed {
			refused(t, r.try(r.carrying(&p, "svc_ci")...), problem.Conflict, "publication_over")
			r.do(ruleset.Withdraw{ID: p.ID})
		}
	}
}
