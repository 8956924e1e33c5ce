// Package ruleset owns the versions of the policies that a deployment enforces:
// each immutable, attributed, and published by an act. The highest number is in
// force; 0 is the default set of the program. It owns rollouts too, in which a
// version comes into force wave by wave, and publications: sets that somebody wants in
// force, which a person has to sign. What a policy may say, and what it decides, is
// policy's.
package ruleset

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Version is one version of the policies.
type Version struct {
	N           int64 // from 1, without gaps
	Hash        string
	Source      policy.Source // empty in lists
	By          string        // the person who answers for it: who signed it, or put an earlier one back; "" is the operator of the host
	Note        string        // why, in their words
	Of          int64         // the version that it puts back; -1: none
	Record      string        // of the act
	PublishedAt time.Time
	Carrier     string     // the person or service whose act it was; "" as By, or not known
	Publication string     // that was signed; "": it came into force in another way
	Signature   *Signature // of By, over Publication; nil in lists
}

// NoVersion is the Of of a version that puts none back.
const NoVersion = -1

// Publish puts a version in force, which MUST be the next: problem.Conflict
// (policy_moved) if another one was quicker. Every act that was decided by the
// version before and is not committed yet is decided again.
type Publish struct {
	Version
	// Spends says that its publication, which MUST be signed and in time, is spent by this:
	// problem.Conflict (publication_over). A rollout that is finished has spent it before.
	Spends bool
}

// Change marks Publish as a change.
func (Publish) Change() {}

// Store reads versions.
type Store interface {
	// Ruleset gives a version; problem.NotFound (policy_version_not_found).
	Ruleset(ctx context.Context, n int64) (Version, error)
	// Rulesets lists versions without their source, newest first, those below
	// before; 0 begins with the newest.
	Rulesets(ctx context.Context, before int64, n int) ([]Version, error)
	// PolicyHead is the number of the version in force; 0 is the default set.
	PolicyHead(ctx context.Context) (int64, error)
}

// CheckNote refuses a note that cannot be shown as it is.
func CheckNote(s string) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 400 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl) {
		return problem.New(problem.Invalid, "note_invalid", "A note is a line of at most 400 letters.")
	}
	return nil
}

// Compile makes the set of a source that is to be published; the faults come
// back as a problem, in words.
func Compile(src policy.Source) (*policy.Set, error) {
	set, err := policy.Compile(src)
	if err != nil {
		return nil, problem.New(problem.Invalid, "policy_invalid", "The policies cannot be enforced: "+err.Error()).Because(err)
	}
	return set, nil
}

// CheckExceptions refuses exceptions that last too long, and a set under which a
// statement of its floors is not true, exceptions included.
func CheckExceptions(set *policy.Set, src policy.Source, now time.Time) error {
	for _, e := range src.Exceptions {
		if e.Until.After(now.Add(policy.MaxException)) {
			return problem.Newf(problem.Invalid, "exception_too_long", "The exception %s lasts longer than %d days.", e.ID, int(policy.MaxException.Hours()/24))
		}
	}
	for _, f := range src.Floors {
		file, err := trial.Parse(f.Name, []byte(f.Text))
		if err != nil {
			return problem.New(problem.Invalid, "policy_floor", "A file of statements cannot be read: "+err.Error()).Because(err)
		}
		for _, r := range trial.Check(set, file) {
			if r.Bad() {
				return problem.Newf(problem.Invalid, "policy_floor", "%s: %s: %s: %s", r.File, r.Name, r.Result, r.Detail)
			}
		}
	}
	return nil
}

// Reading is what looking at policies that are to be signed takes: they name people.
var Reading = []policy.Action{policy.PolicyRead, policy.PersonRead}

// Undoable refuses a set under which whoever signs it, with what they have proved now,
// could not submit another, read what is to be signed and sign it: nobody who is present
// could undo it. in is what their own act was decided on.
func Undoable(set *policy.Set, in policy.Input) error {
	for _, a := range append([]policy.Action{policy.PolicyPublish, policy.PolicySubmit}, Reading...) {
		in.Action = a
		if d := set.Decide(in, nil); d.Outcome != policy.Allow {
			return problem.New(problem.Conflict, "policy_locks_out",
				"Under these policies you could not publish others, and nobody who is present could undo them. Keep a policy that lets you.")
		}
	}
	return nil
}

// Book gives the sets of versions and of rollouts, each made once.
type Book struct {
	Store    Store
	Rollouts RolloutStore

	mu   sync.Mutex
	sets map[page]*policy.Set
}

// page is a version, or a rollout.
type page struct {
	rollout bool
	n       int64
}

func (p page) String() string {
	if p.rollout {
		return fmt.Sprintf("rollout %d", p.n)
	}
	return fmt.Sprintf("policy version %d", p.n)
}

// maxSets bounds the book: two or three are in use at a time.
const maxSets = 4

// Set is the set of version n, compiled. A version that is damaged or that this
// program cannot enforce is an error, and whoever asks MUST refuse.
func (b *Book) Set(ctx context.Context, n int64) (*policy.Set, error) {
	if n == 0 {
		return policy.Builtin(), nil
	}
	return b.set(page{n: n}, func() (policy.Source, string, error) {
		v, err := b.Store.Ruleset(ctx, n)
		return v.Source, v.Hash, err
	})
}

// Candidate is the set that a rollout brings; it errs as Set does.
func (b *Book) Candidate(ctx context.Context, rollout int64) (*policy.Set, error) {
	return b.set(page{true, rollout}, func() (policy.Source, string, error) {
		r, err := b.Rollouts.Rollout(ctx, rollout)
		return r.Source, r.Hash, err
	})
}

// Read is Set for whoever only looks at a version: one that is not in use is made each
// time, and no decision waits for that or loses its own set to it.
func (b *Book) Read(ctx context.Context, n int64) (*policy.Set, error) {
	if n == 0 {
		return policy.Builtin(), nil
	}
	p := page{n: n}
	b.mu.Lock()
	s := b.sets[p]
	b.mu.Unlock()
	if s != nil {
		return s, nil
	}
	v, err := b.Store.Ruleset(ctx, n)
	return p.compile(v.Source, v.Hash, err)
}

func (b *Book) set(p page, read func() (policy.Source, string, error)) (*policy.Set, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sets[p]; s != nil {
		return s, nil
	}
	s, err := p.compile(read())
	if err != nil {
		return nil, err
	}
	if b.sets == nil || len(b.sets) >= maxSets {
		b.sets = map[page]*policy.Set{}
	}
	b.sets[p] = s
	return s, nil
}

// compile makes the set of what was read.
func (p page) compile(src policy.Source, hash string, err error) (*policy.Set, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	if src.Hash() != hash {
		return nil, fmt.Errorf("%s is not what was published: its hash is %s and should be %s", p, src.Hash(), hash)
	}
	s, err := policy.Compile(src)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be enforced by this release: %w", p, err)
	}
	return s, nil
}
