package ruleset

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Rollout is a version of the policies that comes into force wave by wave. Source
// and hash never change; at most one rollout is open.
type Rollout struct {
	N         int64 // from 1, without gaps
	Hash      string
	Source    policy.Source // empty in lists
	By        string        // the person who signed it
	Note      string        // why, in their words
	Base      int64         // the version in force that it follows
	Waves     []policy.Wave
	Revision  int64 // moves with every change
	State     State
	Version   int64  // that it became; 0: it did not
	Record    string // of the act that started it
	StartedAt time.Time
	EndedAt   time.Time // zero while it is open

	Carrier     string     // the person or service who started it; "" as By
	Publication string     // that was signed; "" of a rollout from before there were any
	Signature   *Signature // of By, over Publication; nil in lists
}

// State is how far a rollout came.
type State string

// The states.
const (
	Open     State = "open"
	Finished State = "finished" // it is a version, which was put in force
	TakenOff State = "undone"   // it is in force for nobody
)

// Plan is what a decision needs of a rollout.
func (r *Rollout) Plan() *policy.Rollout { return &policy.Rollout{N: r.N, Waves: r.Waves} }

// Start begins a rollout, which MUST be the next and follow the version in force:
// problem.Conflict (rollout_running, policy_moved), and spends its publication, which
// MUST be signed and in time (publication_over). Every act that is not committed yet is
// decided again.
type Start struct{ Rollout }

// Steer changes a rollout that is open, or ends it: problem.Conflict (rollout_moved)
// if it was changed since. Every act that is not committed yet is decided again.
type Steer struct {
	N, Revision int64 // as they were
	Waves       []policy.Wave
	State       State
	Version     int64 // of Finished: the version that it becomes, put in force by a Publish behind this
}

// Change marks Start as a change.
func (Start) Change() {}

// Change marks Steer as a change.
func (Steer) Change() {}

// RolloutStore reads rollouts.
type RolloutStore interface {
	// Rollout gives one; problem.NotFound (rollout_not_found).
	Rollout(ctx context.Context, n int64) (Rollout, error)
	// Rollouts lists them without their source, newest first, those below before; 0
	// begins with the newest.
	Rollouts(ctx context.Context, before int64, n int) ([]Rollout, error)
	// Cost is what the waves of one that is open, at a time, spent of their budgets
	// (policy.Budget.Spent), within what is counted of each, in the order of the waves.
	Cost(ctx context.Context, r *Rollout, at time.Time) ([]policy.Spent, error)
	// Costs says of a wave whom it cost what, by which rule: the most first, at most n.
	Costs(ctx context.Context, r *Rollout, wave int, at time.Time, n int) ([]Cost, error)
}

// Cost is what one rule cost one person.
type Cost struct {
	Person string // "": they were erased
	Rule   string
	policy.Budget
}

// Unready is somebody in a wave who could not do any more what they can.
type Unready struct {
	Person string       `json:"person"`
	Name   string       `json:"name"`
	Wave   int          `json:"wave"` // from 1
	Gaps   []policy.Gap `json:"gaps"`
}

// Readiness is a page of the people in waves, as they were looked at.
type Readiness struct {
	Looked  int       // people in waves, ready or not
	Waves   []int     // of them in each wave
	Unready []Unready // of them, who is not ready
	Next    string    // the after of the next page; "": there is none
}

// Bounds of a rollout.
const (
	maxWaves  = 8
	maxGroups = 20
	maxBudget = 1_000_000
	maxAhead  = 366 * 24 * time.Hour
)

func invalid(format string, a ...any) error {
	return problem.Newf(problem.Invalid, "rollout_invalid", format, a...)
}

// CheckWaves refuses waves that are no plan: none, without people, out of order.
func CheckWaves(waves []policy.Wave, now time.Time) error {
	if len(waves) == 0 || len(waves) > maxWaves {
		return invalid("A rollout has one wave, and at most %d.", maxWaves)
	}
	seen := map[string]bool{}
	for i, w := range waves {
		switch {
		case w.Rest == (len(w.Groups) > 0):
			return invalid("Wave %d is either of groups or of everybody else.", i+1)
		case w.Rest && i < len(waves)-1:
			return invalid("Wave %d is of everybody else, so nobody is left for the next one.", i+1)
		case len(w.Groups) > maxGroups:
			return invalid("Wave %d is of more than %d groups.", i+1, maxGroups)
		case i > 0 && w.From.Before(waves[i-1].From):
			return invalid("Wave %d begins before wave %d, on which it stands.", i+1, i)
		case w.From.After(now.Add(maxAhead)):
			return invalid("Wave %d begins more than a year from now.", i+1)
		}
		if err := CheckBudget(w.Budget); err != nil {
			return err
		}
		for _, g := range w.Groups {
			if seen[g] || strings.TrimSpace(g) == "" {
				return invalid("The group %q is in two waves, or twice in one, or has no name.", g)
			}
			seen[g] = true
		}
	}
	return nil
}

// CheckBudget refuses what is no budget.
func CheckBudget(b policy.Budget) error {
	if b.Prompts < 0 || b.Denials < 0 || b.Prompts > maxBudget || b.Denials > maxBudget {
		return invalid("A budget is of 0 to %d prompts and of as many denials.", maxBudget)
	}
	return nil
}

var (
	errClosed   = problem.New(problem.Conflict, "rollout_closed", "This rollout has ended.")
	errNoWave   = problem.New(problem.NotFound, "wave_not_found", "The rollout has no such wave.")
	errHeld     = problem.New(problem.Conflict, "wave_held", "This wave is in monitor already.").WithHint("countersign policy rollout resume")
	errNotHeld  = problem.New(problem.Conflict, "wave_not_held", "This wave is not in monitor, so there is nothing to resume.")
	errNotDone  = problem.New(problem.Conflict, "rollout_not_done", "Not every wave is in force yet, so the rollout cannot be finished.").WithHint("countersign policy rollout status")
	errPublish  = problem.New(problem.Conflict, "rollout_running", "A rollout runs. Finish it or take it back first.").WithHint("countersign policy rollout undo")
	errRevision = problem.New(problem.Conflict, "rollout_moved", "The rollout was changed meanwhile. Look at it again first.").WithHint("countersign policy rollout status")
)

// Running is the refusal of what cannot be done while a rollout runs.
func Running() *problem.Error { return errPublish }

// Moved is the refusal of a change to a rollout that was changed meanwhile.
func Moved() *problem.Error { return errRevision }

// steer is a change of an open rollout that keeps its waves.
func (r *Rollout) steer() (Steer, error) {
	if r.State != Open {
		return Steer{}, errClosed
	}
	return Steer{N: r.N, Revision: r.Revision, Waves: slices.Clone(r.Waves), State: Open}, nil
}

// wave is a change of one wave, from 1.
func (r *Rollout) wave(n int) (Steer, *policy.Wave, error) {
	s, err := r.steer()
	if err != nil {
		return s, nil, err
	}
	if n < 1 || n > len(s.Waves) {
		return s, nil, errNoWave
	}
	return s, &s.Waves[n-1], nil
}

// Hold puts a wave, and with it those behind it, into monitor.
func (r *Rollout) Hold(wave int, why policy.Hold) (Steer, error) {
	s, w, err := r.wave(wave)
	switch {
	case err != nil:
		return s, err
	case w.Held != "" && (why != policy.Undone || w.Held == policy.Undone):
		return s, errHeld
	}
	w.Held = why
	return s, nil
}

// Resume lets a wave go. Unless it was only paused it is counted afresh. budget may
// be nil: it stays.
func (r *Rollout) Resume(wave int, budget *policy.Budget, now time.Time) (Steer, error) {
	s, w, err := r.wave(wave)
	switch {
	case err != nil:
		return s, err
	case w.Held == "":
		return s, errNotHeld
	}
	if w.Held != policy.Paused {
		w.Since = now
	}
	w.Held = ""
	if budget != nil {
		w.Budget = *budget
		return s, CheckBudget(*budget)
	}
	return s, nil
}

// Undo ends a rollout: it is in force for nobody.
func (r *Rollout) Undo() (Steer, error) {
	s, err := r.steer()
	s.State = TakenOff
	return s, err
}

// Finish ends a rollout of which every wave is enforced: it becomes the version that
// the second change puts in force for all.
func (r *Rollout) Finish(by string, now time.Time) (Steer, Publish, error) {
	s, err := r.steer()
	switch {
	case err != nil:
		return s, Publish{}, err
	case !r.Plan().Enforced(len(r.Waves)-1, now):
		return s, Publish{}, errNotDone
	}
	s.State, s.Version = Finished, r.Base+1
	v := Version{N: s.Version, Hash: r.Hash, Source: r.Source, By: by, Note: r.Note, Of: NoVersion}
	if r.Signature != nil {
		v.By, v.Carrier, v.Publication, v.Signature = r.By, by, r.Publication, r.Signature
	}
	return s, Publish{Version: v}, nil
}

// Verb is what is done with a rollout that runs.
type Verb string

// The verbs.
const (
	Pause  Verb = "pause"  // a wave, and those behind it; 0 is the first
	Resume Verb = "resume" // a wave
	Undo   Verb = "undo"   // a wave, and those behind it; 0 is all of it, for good
	Finish Verb = "finish" // all of it: it is the version in force
)

// Kind is the kind of its record.
func (v Verb) Kind() audit.Kind {
	return map[Verb]audit.Kind{Pause: audit.RolloutPaused, Resume: audit.RolloutResumed, Undo: audit.RolloutUndone, Finish: audit.RolloutFinished}[v]
}

// Forward reports whether more people are decided by the candidate than before: then
// whoever does it must be able to undo it.
func (v Verb) Forward() bool { return v == Resume || v == Finish }

// Step gives what the policies of a rollout have to hold to for a verb, beside what the
// verb itself demands: check refuses whoever does it. Where they decide for more people
// than before, whoever does it must be able to undo it. Where they become a version, its
// source is what was started, to the letter, and its statements are proved again, by the
// program that enforces it now.
func (b *Book) Step(ctx context.Context, r *Rollout, v Verb, now time.Time) (check func(policy.Input) error, err error) {
	if !v.Forward() {
		return func(policy.Input) error { return nil }, nil
	}
	var set *policy.Set
	if v == Finish {
		set, err = r.provable(now)
	} else {
		set, err = b.Candidate(ctx, r.N)
	}
	if err != nil {
		return nil, err
	}
	return func(in policy.Input) error { return Undoable(set, in) }, nil
}

// provable is the set of a rollout's source, which is checked as when it was started.
func (r *Rollout) provable(now time.Time) (*policy.Set, error) {
	if h := r.Source.Hash(); h != r.Hash {
		return nil, problem.Newf(problem.Conflict, "rollout_altered", "The policies of rollout %d are not those that were started: their hash is %s and should be %s. Take the rollout back.", r.N, h, r.Hash).
			WithHint("countersign policy rollout undo")
	}
	set, err := Compile(r.Source)
	if err != nil {
		return nil, err
	}
	return set, CheckExceptions(set, r.Source, now)
}

// Apply gives the changes of a verb; budget is of Resume and may be nil.
func (r *Rollout) Apply(v Verb, wave int, budget *policy.Budget, by string, now time.Time) ([]act.Change, error) {
	var s Steer
	var err error
	switch {
	case v == Pause:
		s, err = r.Hold(max(wave, 1), policy.Paused)
	case v == Resume:
		s, err = r.Resume(wave, budget, now)
	case v == Undo && wave == 0:
		s, err = r.Undo()
	case v == Undo:
		s, err = r.Hold(wave, policy.Undone)
	case v == Finish:
		var p Publish
		if s, p, err = r.Finish(by, now); err == nil {
			return []act.Change{s, p}, nil
		}
	default:
		err = invalid("A rollout is not %q.", v)
	}
	if err != nil {
		return nil, err
	}
	return []act.Change{s}, nil
}

// Said is what the record of a verb says, of nobody.
func (r *Rollout) Said(v Verb, wave int) map[string]any {
	said := map[string]any{"rollout": r.N, "policy": r.Hash}
	if wave > 0 {
		said["wave"] = wave
	}
	if v == Finish {
		said["version"] = r.Base + 1
	}
	return said
}
