package server

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// harsh asks for a passkey every half hour.
const harsh = `@id("harsh") @reason("r") forbid (principal is Person, action == Action::"token.refresh", resource) unless { context.assurance.age.phr <= duration("30m") };`

func more(text string) policy.Source {
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "99-more.cedar", Text: text})
	return src
}

// group makes a group.
func (n *newsroom) group(name string) string {
	n.t.Helper()
	g := group.Group{ID: id.New(id.Group), Name: name, CreatedAt: n.now()}
	n.record(audit.GroupCreated, nil, group.Create{Group: g})
	return g.ID
}

// rollOut begins a rollout by nobody in particular.
func (n *newsroom) rollOut(src policy.Source, waves ...policy.Wave) ruleset.Rollout {
	n.t.Helper()
	last, err := n.Store.Rollouts(n.t.Context(), 0, 1)
	check(n.t, err)
	head, err := n.Store.PolicyHead(n.t.Context())
	check(n.t, err)
	r := ruleset.Rollout{N: int64(len(last)) + 1, Hash: src.Hash(), Source: src, Base: head, Waves: waves}
	if len(last) > 0 {
		r.N = last[0].N + 1
	}
	n.record(audit.RolloutStarted, nil, ruleset.Start{Rollout: r})
	return n.rollout(r.N)
}

func (n *newsroom) rollout(number int64) ruleset.Rollout {
	n.t.Helper()
	r, err := n.Store.Rollout(n.t.Context(), number)
	check(n.t, err)
	return r
}

// steer changes a rollout by nobody in particular.
func (n *newsroom) steer(s ruleset.Steer, err error) {
	n.t.Helper()
	check(n.t, err)
	n.record(audit.RolloutResumed, nil, s)
}

// refreshes has somebody's token refreshed who proved themselves an hour ago, and
// gives the code of the answer, "" if they got one.
func refreshes(t *testing.T, s *Server, who account.Person) string {
	t.Helper()
	_, err := s.Do.Do(t.Context(), act.Intent{
		Action: policy.TokenRefresh, Kind: audit.TokenRefreshed, Refs: act.Refs{Kind: policy.KindPerson, Actor: who.ID},
		Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: who.ID, At: s.now().Add(-time.Hour), UserVerified: true, PhishingResistant: true, Source: "passkey:1"}},
	})
	if err != nil && problem.From(err) == nil {
		t.Fatal(err)
	}
	return problem.CodeOf(err)
}

// lines are the records of a kind.
func (n *newsroom) lines(kind audit.Kind) []audit.Line {
	n.t.Helper()
	lines, _, err := n.Lines(n.t.Context(), store.Filter{Kinds: []audit.Kind{kind}}, 20)
	check(n.t, err)
	return lines
}

// TestAHarshPolicyUndoesItself: with the clock turned to its date, a wave is asked by
// the policies that are rolled out; those who come later are not, and what they would
// have been asked is on record. What it costs in a day is counted as people meet it.
// One more than it may, and the version in force decides again for the wave, whichever
// process looks first; the record and the administrators' mail name the rule and the
// people. Let go, it is counted afresh.
func TestAHarshPolicyUndoesItself(t *testing.T) {
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		two := n.Server
		if onPostgres {
			two = n.open()
		}
		pilots := n.group("pilots")
		boss := n.person("boss", n.admins())
		sam, kim, eva := n.person("sam", pilots), n.person("kim", pilots), n.person("eva")
		n.run(n.notices.Run)
		n.begun()
		turn := func(d time.Duration) { n.ahead.Add(int64(d)) }
		ask := func(who account.Person, want string) {
			t.Helper()
			if got := refreshes(t, n.Server, who); got != want {
				t.Fatalf("%s: %q, want %q", who.Username, got, want)
			}
		}
		const asked = "insufficient_user_authentication"
		begins := n.now().Add(time.Hour)
		r := n.rollOut(more(harsh), policy.Wave{Groups: []string{"pilots"}, From: begins, Budget: policy.Budget{Prompts: 3}},
			policy.Wave{Rest: true, From: begins.AddDate(0, 0, 30), Budget: policy.Budget{Prompts: 1000}})
		ask(sam, "")
		if rec := n.lines(audit.TokenRefreshed); len(rec) != 1 || rec[0].Rollout != "1, wave 1, in monitor: step_up: harsh" {
			t.Errorf("what would have been asked is not on record: %+v", rec)
		}

		turn(time.Hour + time.Minute)
		ask(sam, asked)
		ask(eva, "")
		if rec := n.lines(audit.TokenRefreshed); !strings.HasPrefix(rec[1].Rollout, "1, wave 1, enforced: allow") {
			t.Errorf("%+v", rec[1])
		}
		ask(sam, asked) // again, within five minutes
		for range 5 {   // one a day is none too many
			turn(25 * time.Hour)
			ask(kim, asked)
			check(t, n.checkRollout(t.Context()))
		}
		if r = n.rollout(1); r.Waves[0].Held != "" {
			t.Fatalf("%+v", r.Waves)
		}

		turn(25 * time.Hour)
		n.run(n.tendRollout)
		if two != n.Server {
			n.run(two.tendRollout)
		}
		for range 2 {
			turn(policy.BudgetSpan)
			ask(sam, asked)
			if got := refreshes(t, two, kim); got != asked {
				t.Errorf("at the other process: %q", got)
			}
		}
		waitFor(t, func() bool { return n.rollout(1).Waves[0].Held == policy.Reverted })
		ask(sam, "")
		check(t, two.readPolicy(t.Context()))
		if got := refreshes(t, two, kim); got != "" {
			t.Errorf("at the other process: %q", got)
		}
		rec := n.lines(audit.RolloutReverted)
		if len(rec) != 1 || len(rec[0].Persons) != 2 || !strings.Contains(rec[0].Sentence, "4 prompts of 3, 0 refusals of 0 in a day, by harsh, of Name of ") {
			t.Errorf("%+v", rec)
		}
		waitFor(t, func() bool { return len(n.relay.Messages()) > 0 })
		mail := n.relay.Messages()[0]
		for _, want := range []string{"took itself back", "harsh", sam.Name, kim.Name} {
			if !strings.Contains(mail.Plain, want) {
				t.Errorf("the mail to %v does not say %q:\n%s", mail.To, want, mail.Plain)
			}
		}
		if !strings.Contains(mail.To, boss.Email) {
			t.Errorf("told to %v", mail.To)
		}

		r = n.rollout(1)
		n.steer(r.Resume(1, &policy.Budget{Prompts: 1}, n.now()))
		ask(sam, asked)
		check(t, n.checkRollout(t.Context()))
		if r = n.rollout(1); r.Waves[0].Held != "" {
			t.Errorf("what it cost before is counted: %+v", r.Waves)
		}
		ask(kim, asked)
		waitFor(t, func() bool { return n.rollout(1).Waves[0].Held == policy.Reverted })
		ask(kim, "")
	})
}

// TestRolloutAndTheHost: a rollout whose policies let nobody do anything is ended by
// root on the host, the version in force stays; one that cannot be read refuses those
// in its wave and takes itself back. Nothing else is published while one runs.
func TestRolloutAndTheHost(t *testing.T) {
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		sam := n.person("sam")
		nobody := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") forbid (principal, action, resource);`}}}
		all := policy.Wave{Rest: true, From: n.now()}
		all.Budget = policy.Budget{Prompts: 1000, Denials: 1000}
		n.rollOut(nobody, all)
		if got := refreshes(t, n.Server, sam); got != "denied" {
			t.Errorf("%q", got)
		}
		src := more(harsh)
		_, err := n.Do.Do(t.Context(), act.Intent{
			Action: policy.SandboxSeed, Kind: audit.PolicyPublished, Refs: system(),
			Changes: changes(ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}}),
		})
		if problem.CodeOf(err) != "rollout_running" {
			t.Errorf("published beside a rollout: %v", err)
		}
		if v, err := n.RecoverPolicy(t.Context(), 0); err != nil || v != 0 {
			t.Errorf("%d %v", v, err)
		}
		if got := refreshes(t, n.Server, sam); got != "" || n.rollout(1).State != ruleset.TakenOff {
			t.Errorf("%q %+v", got, n.rollout(1))
		}

		// Judged only, as a page does: it is counted, once for as long as it is the same.
		n.rollOut(nobody, all)
		for range 3 {
			d, _, err := n.Do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindPerson, Actor: sam.ID}})
			if err != nil || d.Outcome != policy.Deny {
				t.Fatalf("%+v %v", d, err)
			}
		}
		if rec := n.lines(audit.RolloutMet); len(rec) != 1 || rec[0].Persons[0] != sam.ID {
			t.Errorf("%+v", rec)
		}
		r := n.rollout(2)
		if cost, err := n.Store.Cost(t.Context(), &r, n.now()); err != nil || cost[0].Budget != (policy.Budget{Denials: 1}) {
			t.Errorf("%+v %v", cost, err)
		}
		n.steer(r.Undo())

		bad := nobody
		bad.Files = []policy.File{{Name: "a.cedar", Text: "permit ("}}
		n.rollOut(bad, all)
		if got := refreshes(t, n.Server, sam); got != "policy_unavailable" {
			t.Errorf("decided by other policies: %q", got)
		}
		check(t, n.checkRollout(t.Context()))
		if got := refreshes(t, n.Server, sam); got != "" || n.rollout(3).Waves[0].Held != policy.Reverted {
			t.Errorf("%q %+v", got, n.rollout(3).Waves)
		}
		if rec := n.lines(audit.RolloutReverted); len(rec) != 1 || !strings.Contains(rec[0].Sentence, "cannot be read") {
			t.Errorf("%+v", rec)
		}
	})
}
