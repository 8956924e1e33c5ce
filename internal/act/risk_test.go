package act_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/session"
)

// scored is a Doer, one of several replicas, that scores risk.
func (r *rig) scored() *act.Doer {
	d := r.doer()
	d.Risk = &profile.Profiles{Store: r.store, Settings: risk.Default()}
	d.Slow = func(context.Context, time.Duration) {}
	return d
}

// reads is what somebody asks in a browser.
func reads(p account.Person, s session.Session, transaction string) act.Intent {
	return act.Intent{
		Action: policy.SelfRead, Kind: audit.TokenRefused, For: transaction, From: act.Origin{Asked: true},
		Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: s.ID, Owner: p.ID},
	}
}

// band is what a decision of one's own account is made on.
func (r *rig) band(d *act.Doer, in act.Intent) (now, before string) {
	r.t.Helper()
	_, f, err := d.Judge(context.Background(), in)
	r.ok(err)
	return f.Input.Context.Risk.Band, f.Input.Context.RiskBefore.Band
}

// TestA14BandOfTheChallenge is mechanisms A14: for one transaction the band of its
// challenge stays, at every replica at once; its own prompts do not count in it; and
// failures do.
func TestA14BandOfTheChallenge(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	s := r.session(p.ID, r.proof(p.ID))
	one, two := r.scored(), r.scored()
	if now, before := r.band(two, reads(p, s, "tx")); now != risk.Low || before != "" {
		t.Fatalf("%q after %q before anything happened", now, before)
	}
	r.ok(one.Challenge(t.Context(), r.store, act.Challenge{Person: p.ID, Session: s.ID, Class: "read", Ref: "REF", For: "tx", Band: risk.High}))
	for _, tc := range []struct{ tx, before string }{{"tx", risk.High}, {"another", ""}, {"", ""}} {
		if now, before := r.band(two, reads(p, s, tc.tx)); now != risk.Low || before != tc.before {
			t.Errorf("%q: %q after %q", tc.tx, now, before)
		}
	}
	dec, _, err := two.Judge(t.Context(), reads(p, s, "tx"))
	r.ok(err)
	if dec.Outcome != policy.Allow { // the proof of a moment ago outweighs it
		t.Errorf("%v %v", dec.Outcome, dec.Reasons)
	}
	r.pass(16 * time.Minute) // and after that it does not
	dec, _, err = two.Judge(t.Context(), reads(p, s, "tx"))
	r.ok(err)
	if dec.Outcome != policy.StepUp || dec.Reasons[0].Policy != "risk.high" {
		t.Errorf("%v %v", dec.Outcome, dec.Reasons)
	}
	if dec, _, err = two.Judge(t.Context(), reads(p, s, "another")); err != nil || dec.Outcome != policy.Allow {
		t.Errorf("another transaction: %v %v", dec.Outcome, err)
	}
	for range 12 { // wrong proofs count, whatever the transaction
		two.Risk.Miss(p.ID, "", r.time())
	}
	_, f, err := two.Judge(t.Context(), reads(p, s, "tx"))
	r.ok(err)
	if len(f.Risk.Terms) != 1 || f.Risk.Terms[0].Signal != risk.Failures {
		t.Errorf("%+v", f.Risk.Terms)
	}
}

// TestPromptsCount: step-ups that nobody answers are counted by every replica; those
// that were answered, at whichever, are not.
func TestPromptsCount(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	s := r.session(p.ID, r.proof(p.ID))
	one, two := r.scored(), r.scored()
	prompt := func(tx string) {
		r.ok(one.Challenge(t.Context(), r.store, act.Challenge{Person: p.ID, Session: s.ID, Class: tx, Ref: "REF", For: tx, Band: risk.Low}))
	}
	signals := func() (out []risk.Signal) {
		_, f, err := two.Judge(t.Context(), reads(p, s, ""))
		r.ok(err)
		for _, x := range f.Risk.Terms {
			out = append(out, x.Signal)
		}
		return out
	}
	for i := range 5 {
		prompt(fmt.Sprint("answered", i))
		answer := system()
		answer.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Answers: []act.Answer{{Person: p.ID, Ref: act.Transaction(fmt.Sprint("answered", i), s.ID, "")}}}, nil
		}
		_, err := two.Do(t.Context(), answer)
		r.ok(err)
		prompt(fmt.Sprint("ignored", i))
	}
	if got := signals(); got != nil {
		t.Errorf("%v while they wait", got)
	}
	r.pass(11 * time.Minute)
	if got := signals(); len(got) != 1 || got[0] != risk.Prompts {
		t.Errorf("%v when nobody answered", got)
	}
	_, f, err := two.Judge(t.Context(), reads(p, s, ""))
	r.ok(err)
	if want := "5 prompts in the last hour that nobody answered, or with a no."; f.Risk.Terms[0].Words != want {
		t.Errorf("%q, want %q", f.Risk.Terms[0].Words, want)
	}
	r.pass(time.Hour)
	if got := signals(); got != nil {
		t.Errorf("%v an hour later", got)
	}
}

// TestA12Probing is mechanisms A12: the twenty-first distinct refused action in five
// minutes is answered slowly and makes a signal, below the same session only.
func TestA12Probing(t *testing.T) {
	r := newRig(t)
	p, other := r.person("dana"), r.person("sam")
	s, theirs := r.session(p.ID, r.proof(p.ID)), r.session(other.ID, r.proof(other.ID))
	d := r.scored()
	slowed := 0
	d.Slow = func(context.Context, time.Duration) { slowed++ }
	refused := func(who account.Person, s session.Session, target string) {
		in := reads(who, s, "")
		in.Action, in.Refs.Owner, in.Refs.Target = policy.PersonDisable, "", []string{target}
		_, err := d.Do(t.Context(), in)
		if problem.From(err) == nil {
			t.Fatalf("not refused: %v", err)
		}
	}
	targets := make([]string, 21)
	for i := range targets {
		targets[i] = r.person(fmt.Sprint("target", i)).ID
	}
	for range 3 {
		for _, x := range targets[:20] {
			refused(p, s, x)
		}
	}
	refused(other, theirs, targets[20])
	if now, _ := r.band(d, reads(p, s, "")); slowed != 0 || now != risk.Low {
		t.Fatalf("twenty distinct actions: %d answers held back, %s", slowed, now)
	}
	refused(p, s, targets[20])
	if now, _ := r.band(d, reads(p, s, "")); slowed != 1 || now != risk.Medium {
		t.Errorf("twenty-one: %d answers held back, %s", slowed, now)
	}
	if now, _ := r.band(d, reads(other, theirs, "")); now != risk.Low {
		t.Errorf("somebody else is %s", now)
	}
	out, err := d.Do(t.Context(), reads(p, s, "")) // what happens next keeps it, for other replicas
	r.ok(err)
	if now, _ := r.band(r.scored(), reads(p, s, "")); now != risk.Medium {
		t.Errorf("another replica: %s after %s", now, out.RecordID)
	}
	r.pass(time.Hour)
	if now, _ := r.band(d, reads(p, s, "")); now != risk.Low {
		t.Errorf("an hour later: %s", now)
	}
}

// TestAnEarlierProofIsOfElsewhere: a use without a proof of its own does not make a
// network known, however fresh the session is; a proof there does.
func TestAnEarlierProofIsOfElsewhere(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	d := r.scored()
	at := func(network string, proved bool) bool {
		t.Helper()
		s := r.session(p.ID, r.proof(p.ID))
		in := reads(p, s, "")
		in.From.Network = network
		if proved {
			in.Proofs = append(in.Proofs, r.proof(p.ID))
		}
		_, err := d.Do(t.Context(), in)
		r.ok(err)
		_, f, err := d.Judge(t.Context(), in)
		r.ok(err)
		for _, x := range f.Risk.Terms {
			if x.Signal == risk.NewNetwork {
				return false
			}
		}
		return true
	}
	for range 40 {
		r.pass(6 * time.Hour)
		at("198.51.100.0/24", true)
	}
	if at("203.0.113.0/24", false) {
		t.Error("a session of a moment ago made another network known")
	}
	if !at("203.0.113.0/24", true) {
		t.Error("a proof there did not")
	}
}

// TestWhence: what is shown of network, device, token and time is what the decision
// sees, and what is not is said to be unknown (mechanisms A3).
func TestWhence(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	s, other := r.session(p.ID, r.proof(p.ID)), r.session(p.ID, r.proof(p.ID))
	d := r.doer()
	d.Zone = func(n netip.Prefix) string {
		if n.String() == "198.51.100.0/24" {
			return "trusted"
		}
		return ""
	}
	for _, tc := range []struct {
		name  string
		from  act.Origin
		token policy.Token
		want  policy.Context
	}{
		{"nothing", act.Origin{}, policy.Token{}, policy.Context{}},
		{"a network", act.Origin{Network: "203.0.113.0/24"}, policy.Token{}, policy.Context{Network: policy.Network{Known: true}}},
		{"a trusted one", act.Origin{Network: "198.51.100.0/24"}, policy.Token{}, policy.Context{Network: policy.Network{Known: true, Zone: "trusted"}}},
		{"this machine", act.Origin{Network: "127.0.0.0/24"}, policy.Token{}, policy.Context{}},
		{"the session's device", act.Origin{Device: s.Device}, policy.Token{}, policy.Context{DeviceKnown: true}},
		{"another device of theirs, with this session's cookie", act.Origin{Device: other.Device}, policy.Token{}, policy.Context{}},
		{"a token", act.Origin{}, policy.Token{Known: true, Age: time.Minute, Bound: true, Depth: 1}, policy.Context{Token: policy.Token{Known: true, Age: time.Minute, Bound: true, Depth: 1}}},
	} {
		in := reads(p, s, "")
		in.From, in.Token = tc.from, tc.token
		_, f, err := d.Judge(t.Context(), in)
		r.ok(err)
		c := f.Input.Context
		if c.Network != tc.want.Network || c.DeviceKnown != tc.want.DeviceKnown || c.Token != tc.want.Token {
			t.Errorf("%s: %+v, device %t, %+v", tc.name, c.Network, c.DeviceKnown, c.Token)
		}
		if c.Now != r.time() || c.DeviceManaged || c.DevicesUsed || c.Agent != (policy.Agent{}) || c.Risk != policy.UnknownRisk {
			t.Errorf("%s: what nothing tells is %+v", tc.name, c)
		}
	}
}

// TestWhatIsSaidOfOthersIsTheirs: a report of somebody's account counts for them, and not
// for whoever does something about it; one of the session that somebody ends counts where
// it is the session that they are in.
func TestWhatIsSaidOfOthersIsTheirs(t *testing.T) {
	r := newRig(t)
	p, boss := r.person("dana"), r.person("sam")
	theirs, own := r.session(p.ID, r.proof(p.ID)), r.session(boss.ID, r.proof(boss.ID))
	third := r.session(boss.ID, r.proof(boss.ID))
	d := r.scored()
	for _, x := range []struct{ id, kind, about, thing string }{{"sig_1", "account_compromised", risk.AboutPerson, p.ID}, {"sig_2", "session_hijacked", risk.AboutSession, theirs.ID}, {"sig_3", "device_compromised", risk.AboutDevice, third.Device}} {
		r.seed(profile.Told{Report: profile.Report{ID: x.id, Kind: x.kind, About: x.about, Thing: x.thing, Points: 60, Source: x.id, Name: "EDR", At: r.time(), Until: r.time().Add(time.Hour)}})
	}
	for _, tc := range []struct {
		name   string
		who    account.Person
		ses    session.Session
		target string
		want   string
	}{
		{"nothing of anybody's", boss, own, "", risk.Low},
		{"the account", boss, own, p.ID, risk.Low},
		{"their session", boss, own, theirs.ID, risk.Low},
		{"the owner, their session", p, theirs, theirs.ID, risk.High},
		{"the owner, themselves", p, theirs, p.ID, risk.High},
		{"another device", boss, own, third.Device, risk.Low},
		{"the device that they are on", boss, third, third.Device, risk.High},
	} {
		in := reads(tc.who, tc.ses, "")
		if in.Action, in.Refs.Owner = policy.SessionEnd, ""; tc.target != "" {
			in.Refs.Target = []string{tc.target}
		}
		if now, _ := r.band(d, in); now != tc.want {
			t.Errorf("%s: %s, not %s", tc.name, now, tc.want)
		}
	}
}

// TestManagedDevice: a device that the operator called its own is one where it is shown,
// and below a grant that was given out on it, until its time is over; of a token that
// somebody else brings it says nothing. Only where it is shown does it speak for whoever
// does something unusual.
func TestManagedDevice(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	s := r.session(p.ID, r.proof(p.ID))
	g := grant.Grant{ID: id.New(id.Grant), Person: p.ID, Session: s.ID, Device: s.Device, CreatedAt: r.time(), ExpiresAt: r.time().Add(90 * 24 * time.Hour)}
	r.seed(grant.Open{Grant: g})
	until := r.time().Add(40 * 24 * time.Hour)
	r.seed(session.Manage{Managed: session.Managed{Device: s.Device, Person: p.ID, Until: until, By: "svc_mdm"}})
	d := r.scored()
	d.ManagesDevices = true
	judge := func(in act.Intent) *act.Facts {
		t.Helper()
		_, f, err := d.Judge(t.Context(), in)
		r.ok(err)
		return f
	}
	shown := reads(p, s, "")
	shown.From.Shown, shown.From.Device = true, s.Device
	alone := reads(p, s, "")
	alone.From.Shown = true
	below := act.Intent{Action: policy.SelfRead, Kind: audit.TokenRefused, Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID, Owner: p.ID, Grant: g.ID}, Token: policy.Token{Known: true}}
	passed := below
	passed.Token.Depth = 1
	other := r.session(p.ID, r.proof(p.ID))
	r.seed(session.Manage{Managed: session.Managed{Device: other.Device, Person: p.ID, Until: until, By: "svc_mdm"}})
	about := shown // another device of theirs, which the act is about
	about.From.Device, about.Refs.Target = other.Device, []string{other.Device}
	own := shown
	own.Refs.Target = []string{s.Device}
	for name, c := range map[string]struct {
		in   act.Intent
		want bool
	}{"shown": {shown, true}, "a session's cookie alone": {alone, false}, "below a grant": {below, true}, "by somebody else": {passed, false}, "the target's": {about, false}, "its own is the target": {own, true}} {
		if got := judge(c.in).Input.Context; got.DeviceManaged != c.want || got.DeviceKnown != c.want || !got.DevicesUsed {
			t.Errorf("%s: %t %t %t", name, got.DeviceKnown, got.DeviceManaged, got.DevicesUsed)
		}
	}

	for range 40 { // so that there is something that is usual
		r.pass(6 * time.Hour)
		s = r.session(p.ID, r.proof(p.ID))
		in := reads(p, s, "")
		in.From.Network, in.From.Shown, in.From.Device = "198.51.100.0/24", true, s.Device
		in.Proofs = append(in.Proofs, r.proof(p.ID))
		_, err := d.Do(t.Context(), in)
		r.ok(err)
	}
	elsewhere := reads(p, s, "")
	elsewhere.From.Network, elsewhere.From.Shown, elsewhere.From.Device = "203.0.113.0/24", true, s.Device
	before := judge(elsewhere).Risk
	r.seed(session.Manage{Managed: session.Managed{Device: s.Device, Person: p.ID, Until: until, By: "svc_mdm"}})
	after := judge(elsewhere).Risk
	i := slices.IndexFunc(after.Terms, func(x risk.Term) bool { return x.Signal == risk.ManagedDevice })
	if before.Score == 0 || after.Score != max(0, before.Score-10) || i < 0 || after.Terms[i].Words != "The device is a managed one." || after.Terms[i].Points != -10 {
		t.Errorf("the score was %d and is %d: %+v", before.Score, after.Score, after.Terms)
	}
	r.pass(until.Sub(r.time()))
	s = r.session(p.ID, r.proof(p.ID))
	r.seed(session.Manage{Managed: session.Managed{Device: s.Device, Person: p.ID, Until: r.time().Add(time.Minute), By: "svc_mdm"}})
	shown = reads(p, s, "")
	shown.From.Shown, shown.From.Device = true, s.Device
	if !judge(shown).Input.Context.DeviceManaged {
		t.Error("a minute before its end it is not managed")
	}
	r.pass(time.Minute)
	if got := judge(shown).Input.Context; got.DeviceManaged || !got.DeviceKnown {
		t.Error("at its end it is managed")
	}
	if judge(below).Input.Context.DeviceManaged {
		t.Error("a grant outlives the mark")
	}
}

// TestAskedOfSomebodyCountsForNobody: what a resource server asks about somebody without a
// token of theirs, and is refused, is neither probing of theirs nor theirs to be looked at.
func TestAskedOfSomebodyCountsForNobody(t *testing.T) {
	r := newRig(t)
	src := policy.Default()
	actions := make([]policy.Action, 21)
	for i := range actions {
		actions[i] = policy.Action(fmt.Sprint("far", i))
		src.Schema += fmt.Sprintf("action %q appliesTo { principal: [Person], resource: [Thing], context: Context };\n", actions[i])
	}
	src.Files = append(src.Files, policy.File{Name: "own.cedar", Text: `@id("far") @reason("r") @opens("review") forbid (principal is Person, action, resource) when { resource.kind == "far" };`})
	set, err := policy.Compile(src)
	r.ok(err)
	d, slowed := r.scored(), 0
	d.Policy, d.Reviews, d.Slow = set, review.Book{Store: r.store}, func(context.Context, time.Duration) { slowed++ }
	p := r.person("dana")
	ask := func(asked bool) {
		for _, a := range actions {
			_, err := d.Do(t.Context(), act.Intent{
				Action: a, Kind: audit.AccessDecided, From: act.Origin{Asked: asked}, Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID},
				Elsewhere: &act.Elsewhere{On: policy.Resource{Type: "far", ID: "x"}},
			})
			r.code(err, problem.Denied, policy.CodeDenied)
		}
	}
	band := func() string {
		now, _ := r.band(d, act.Intent{Action: policy.SelfRead, Kind: audit.TokenRefused, From: act.Origin{Asked: true}, Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID, Owner: p.ID}})
		return now
	}
	ask(false)
	if n := len(r.reviews("")); slowed != 0 || n != 0 || band() != risk.Low {
		t.Errorf("%d answers held back, %d reviews, %s", slowed, n, band())
	}
	ask(true) // the control: a token of theirs was shown
	if n := len(r.reviews("")); slowed != 1 || n != review.MaxOpen || band() != risk.Medium {
		t.Errorf("with a token: %d answers held back, %d reviews, %s", slowed, n, band())
	}
}
