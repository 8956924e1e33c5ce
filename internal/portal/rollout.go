package portal

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/web"
)

// Rollouts is what the pages of policies, exceptions and rollouts stand on.
type Rollouts struct {
	Store interface {
		ruleset.RolloutStore
		Readiness(ctx context.Context, r *ruleset.Rollout, inForce, candidate *policy.Set, after string, n int) (ruleset.Readiness, error)
	}
	Book *ruleset.Book
	// Monitored says what rules in mode monitor would have done, out of the newest n
	// records since a time and before one, by its id; "" begins with the newest.
	Monitored func(ctx context.Context, since time.Time, before string, n int) (replay.Monitored, error)
	// Desk is where policies are signed that are to come into force; nil: there are no
	// pages for that.
	Desk *ruleset.Desk
}

const (
	rolloutPath = view.PathRollout + "/change"
	// lookedAt is how many people one page looks at, namedCosts whom it names of a wave.
	lookedAt   = 100
	namedCosts = 10
)

func (s *Server) rolloutRoutes(handle func(string, web.Handler)) {
	if s.Rollouts == nil {
		return
	}
	handle("GET "+view.PathRollout, s.signedIn(s.rollout))
	handle("GET "+rolloutPath, s.signedIn(s.rolloutChange))
	handle("POST "+rolloutPath, s.signedIn(s.rolloutPosted))
}

// rollout shows a rollout, the newest unless another one is asked for: its waves, what
// they cost of their budgets, and, while it runs, who is not ready; and those that were
// before. Who has enrolled what is shown to those only who may read people.
func (s *Server) rollout(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.mayLook(w, r, v, "rollout"); !ok {
		return err
	}
	ctx := r.Context()
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	list, err := s.Rollouts.Store.Rollouts(ctx, max(before, 0), perPage+1)
	if err != nil {
		return err
	}
	which, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	ro, ok, err := s.chosenRollout(ctx, which)
	if err != nil {
		return err
	}
	if !ok {
		return s.show(w, r, v, view.PathRollout, view.Rollout{None: true})
	}
	m, err := s.rolledOut(ctx, &ro)
	if err == nil && ro.State == ruleset.Open {
		err = s.unready(ctx, &ro, r.URL.Query().Get("after"), &m)
	}
	if err != nil {
		return err
	}
	if len(list) > perPage {
		list = list[:perPage]
		m.Older = withQuery(view.PathRollout, "n", strconv.FormatInt(ro.N, 10), "before", strconv.FormatInt(list[perPage-1].N, 10))
	}
	if before > 0 {
		m.Newer = shownRollout(ro.N)
	}
	if m.Past, err = s.pastRollouts(ctx, list, ro.N); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathRollout, m)
}

// chosenRollout is the one that is asked for, the newest if none is; ok is false if there
// never was one.
func (s *Server) chosenRollout(ctx context.Context, n int64) (ro ruleset.Rollout, ok bool, err error) {
	if n > 0 {
		ro, err = s.Rollouts.Store.Rollout(ctx, n)
		return ro, err == nil, err
	}
	last, err := s.Rollouts.Store.Rollouts(ctx, 0, 1)
	if err != nil || len(last) == 0 {
		return ro, false, err
	}
	return last[0], true, nil
}

func shownRollout(n int64) string { return withQuery(view.PathRollout, "n", strconv.FormatInt(n, 10)) }

// pastRollouts are rows of the list; shown is the one above it. Where that is all there
// is, there is no list.
func (s *Server) pastRollouts(ctx context.Context, list []ruleset.Rollout, shown int64) (out []view.PastRollout, err error) {
	if len(list) == 1 && list[0].N == shown {
		return nil, nil
	}
	for i := range list {
		ro := &list[i]
		row := view.PastRollout{Number: ro.N, Note: ro.Note, StartedAt: ro.StartedAt, EndedAt: ro.EndedAt, How: endings[ro.State], Shown: ro.N == shown, URL: shownRollout(ro.N)}
		if ro.Version > 0 {
			row.How += " as version " + strconv.FormatInt(ro.Version, 10)
		}
		if ro.By != "" {
			if row.By, err = s.nameOf(ctx, ro.By); err != nil {
				return nil, err
			}
		}
		out = append(out, row)
	}
	return out, nil
}

// endings are how rollouts end, in a word or two.
var endings = map[ruleset.State]string{ruleset.Finished: "In force", ruleset.TakenOff: "Taken back"}

// ended says how a rollout ended, in a sentence; "" while it runs.
func ended(ro *ruleset.Rollout) string {
	switch ro.State {
	case ruleset.Open:
		return ""
	case ruleset.Finished:
		return "It is finished, and in force for everybody as version " + strconv.FormatInt(ro.Version, 10) + "."
	}
	return "It was taken back."
}

// rolledOut is the page of a rollout, but for who is ready.
func (s *Server) rolledOut(ctx context.Context, ro *ruleset.Rollout) (view.Rollout, error) {
	m := view.Rollout{Number: ro.N, Note: ro.Note, StartedAt: ro.StartedAt, Ended: ended(ro)}
	now, open := s.now(), ro.State == ruleset.Open
	cost, err := s.Rollouts.Store.Cost(ctx, ro, now)
	if err != nil {
		return m, err
	}
	if open {
		m.UndoURL = rolloutURL(ro, ruleset.Undo, 0)
		if ro.Plan().Enforced(len(ro.Waves)-1, now) {
			m.FinishURL = rolloutURL(ro, ruleset.Finish, 0)
		}
	}
	for i := range ro.Waves {
		x := &ro.Waves[i]
		row := view.Wave{
			Number: i + 1, Who: whoIn(x), From: x.From, State: waveState(ro, i, s),
			Prompts: view.Spent{Met: cost[i].Prompts, Most: x.Budget.Prompts, Over: !open}, Denials: view.Spent{Met: cost[i].Denials, Most: x.Budget.Denials, Over: !open},
		}
		if open && x.Held != "" {
			row.ResumeURL = rolloutURL(ro, ruleset.Resume, i+1)
		} else if open {
			row.PauseURL, row.UndoURL = rolloutURL(ro, ruleset.Pause, i+1), rolloutURL(ro, ruleset.Undo, i+1)
		}
		costs, err := s.Rollouts.Store.Costs(ctx, ro, i+1, now, namedCosts)
		if err != nil {
			return m, err
		}
		for _, c := range costs {
			who, err := s.nameOf(ctx, c.Person)
			if err != nil {
				return m, err
			}
			row.Costs = append(row.Costs, view.Cost{Rule: c.Rule, Person: who, Prompts: c.Prompts, Denials: c.Denials})
		}
		m.Waves = append(m.Waves, row)
	}
	return m, nil
}

func whoIn(w *policy.Wave) string {
	if w.Rest {
		return "everybody else"
	}
	return strings.Join(w.Groups, ", ")
}

func waveState(ro *ruleset.Rollout, wave int, s *Server) view.WaveState {
	switch ro.Plan().State(wave, s.now()) {
	case policy.WaveEnforced:
		return view.WaveEnforced
	case policy.WaveBehind:
		return view.WaveBehind
	case policy.WaveHeld:
		return map[policy.Hold]view.WaveState{policy.Paused: view.WavePaused, policy.Undone: view.WaveUndone, policy.Reverted: view.WaveReverted}[ro.Waves[wave].Held]
	}
	return view.WaveWaiting
}

// unready adds who is not ready. A candidate that cannot be read is ready for nobody,
// and its waves can be taken back all the same.
func (s *Server) unready(ctx context.Context, ro *ruleset.Rollout, after string, m *view.Rollout) error {
	inForce, err := s.Rollouts.Book.Set(ctx, ro.Base)
	if err != nil {
		return err
	}
	candidate, err := s.Rollouts.Book.Candidate(ctx, ro.N)
	if err != nil {
		m.Broken = true
		return nil
	}
	page, err := s.Rollouts.Store.Readiness(ctx, ro, inForce, candidate, after, lookedAt)
	if err != nil {
		return err
	}
	m.Looked, m.NotReady = page.Looked, len(page.Unready)
	for _, u := range page.Unready {
		for _, g := range u.Gaps {
			m.Unready = append(m.Unready, view.Unready{Name: u.Name, Wave: u.Wave, Rule: g.Rule, Needs: g.Words})
		}
	}
	if page.Next != "" {
		m.MoreURL = withQuery(view.PathRollout, "after", page.Next)
	}
	if m.MoreURL != "" || after != "" {
		m.Part = true
	}
	return nil
}

// rolloutURL is where something is done with a rollout as it was seen: the next one
// begins with the same revisions.
func rolloutURL(ro *ruleset.Rollout, verb ruleset.Verb, wave int) string {
	return withQuery(rolloutPath, stepPairs(ro, verb, wave)...)
}

// stepPairs are the parameters that stepOf reads.
func stepPairs(ro *ruleset.Rollout, verb ruleset.Verb, wave int) []string {
	return []string{"rollout", strconv.FormatInt(ro.N, 10), "do", string(verb), "wave", strconv.Itoa(wave), "revision", strconv.FormatInt(ro.Revision, 10)}
}

// step is what a link or a form wants done with the rollout that runs.
type step struct {
	verb    ruleset.Verb
	wave    int
	rollout ruleset.Rollout
}

// stepOf reads it; get gives a parameter.
func (s *Server) stepOf(ctx context.Context, get func(string) string) (x step, err error) {
	x.verb = ruleset.Verb(get("do"))
	wave, err1 := strconv.Atoi(get("wave"))
	revision, err2 := strconv.ParseInt(get("revision"), 10, 64)
	n, err3 := strconv.ParseInt(get("rollout"), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || x.verb.Kind() == 0 {
		return x, problem.New(problem.Invalid, "request_invalid", "This link is not whole.")
	}
	if x.wave = wave; x.verb == ruleset.Finish { // it is of all of it, whatever a link says
		x.wave = 0
	}
	last, err := s.Rollouts.Store.Rollouts(ctx, 0, 1)
	if err != nil {
		return x, err
	}
	if len(last) == 0 || last[0].N != n || last[0].Revision != revision {
		return x, ruleset.Moved()
	}
	x.rollout, err = s.Rollouts.Store.Rollout(ctx, last[0].N)
	return x, err
}

// rolloutChange asks before something is done.
func (s *Server) rolloutChange(w http.ResponseWriter, r *http.Request, v *visitor) error {
	x, err := s.stepOf(r.Context(), r.URL.Query().Get)
	if err != nil {
		return err
	}
	if _, err := x.rollout.Apply(x.verb, x.wave, nil, v.person.ID, s.now()); err != nil {
		return err
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.PolicyPublish, 0), rolloutURL(&x.rollout, x.verb, x.wave), "rollout"); !ok {
		return err
	}
	m := view.RolloutChange{Verb: string(x.verb), Wave: x.wave, Back: view.PathRollout}
	m.Form = view.Form{Action: rolloutPath, Hidden: fields(stepPairs(&x.rollout, x.verb, x.wave)...)}
	if x.wave > 0 && x.wave <= len(x.rollout.Waves) {
		wave := &x.rollout.Waves[x.wave-1]
		m.Who, m.Wrong = whoIn(wave), wave.Held == policy.Reverted
	}
	return s.show(w, r, v, view.PathRollout, m)
}

func (s *Server) rolloutPosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	x, err := s.stepOf(r.Context(), f.Get)
	if err != nil {
		return err
	}
	changes, err := x.rollout.Apply(x.verb, x.wave, nil, v.person.ID, s.now())
	if err != nil {
		return err
	}
	if x.verb == ruleset.Finish { // its policies are proved, which takes a while: not for anybody
		if ok, err := s.may(w, r, asAdmin(v, policy.PolicyPublish, 0), rolloutURL(&x.rollout, x.verb, x.wave), "rollout"); !ok {
			return err
		}
	}
	check, err := s.Rollouts.Book.Step(r.Context(), &x.rollout, x.verb, s.now())
	if err != nil {
		return err
	}
	in := asAdmin(v, policy.PolicyPublish, x.verb.Kind())
	in.Changes = func(facts *act.Facts, _ policy.Decision) (act.Effect, error) {
		if err := check(facts.Input); err != nil {
			return act.Effect{}, err
		}
		return act.Effect{Changes: changes, Parts: append(about(v), audit.Part{Body: x.rollout.Said(x.verb, x.wave)})}, nil
	}
	if ok, err := s.perform(w, r, in, rolloutURL(&x.rollout, x.verb, x.wave), "rollout"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathRollout, "done", x.verb.Kind().Name()))
}
