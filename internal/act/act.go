// Package act is the one way to change anything: load one snapshot, decide on
// it, seal what will be handed out, commit everything in one transaction that
// re-checks what the decision saw (pipeline). It owns the order of those steps
// and nothing else: rules are in policy and assurance, nouns own their changes,
// store owns the SQL.
package act

import (
	"context"
	"errors"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/risk"
)

// Change is a plain value owned by its noun: grant.Rotate, session.Open,
// lineage.End. The store knows how each is written.
type Change interface{ Change() }

// Version is a row the decision saw and the commit re-checks.
type Version struct {
	ID string // lineage node
	N  int64
}

// Refs names what a decision is about; the store loads it all, with every
// ancestor, in one snapshot.
type Refs struct {
	Kind       string   // kind of the principal: person, service, operator, system, anonymous
	Actor      string   // the principal: person or service id
	Session    string   // the session it acts in; its own expiry counts
	Grant      string   // the grant it acts under; its own expiry counts
	Family     string   // the refresh family presented; its own expiry counts
	Client     string   // client by id (cli_…)
	Credential []string // factors used just now
	Resource   string   // resource by id (res_…) that the act is for; its scopes' asks are loaded
	Resources  []string // further resources whose scopes are asked for
	Scopes     []string // scopes asked for
	Required   bool     // the caller is interactive: a conditional scope steps up instead of being withheld
	Under      []string // further ancestors of what is issued: must be live, guarded; their own expiry does not count
	Owner      string   // whose thing the act is about, "" if nobody's in particular
	Target     []string // things the act is about: guarded, need not be live
	Presented  bool     // a single-use link (setup, invitation) was presented and is spent by this act
}

// Facts is all that a decision may see.
type Facts struct {
	Input  policy.Input
	Proofs []assurance.Proof // remembered by the session or grant
	Nodes  []lineage.Node    // every referenced node and ancestor
	Expiry []Expiry          // of what was referenced directly
	// Ruleset is the version of the policies in force; 0 is the default set. It
	// moves with the version of the deployment, which is in Guard.
	Ruleset int64
	// Rollout is the one that runs, nil if none does. It moves in the same way, and is
	// shared: nobody changes it.
	Rollout *policy.Rollout
	// Device is the one that the session is on or, without one, that the grant was given out
	// on, for use there; "" if that is not known.
	Device  string
	Managed []Managed // devices of the actor's that are the operator's, among those that the act may be on
	Guard   []Version
	Risk    risk.Assessment // zero if none was scored
}

// Managed is a device that is the operator's before Until.
type Managed struct {
	Device string
	Until  time.Time
}

// Expiry is when a referenced session, grant or family stops being usable.
type Expiry struct {
	ID string
	At time.Time
}

// Effect is what a decided act does.
type Effect struct {
	Changes []Change
	Spend   []once.Spend // beside Intent.Spend, when it depends on the facts
	Kind    audit.Kind   // replaces Intent.Kind when set
	Leaf    string       // lineage node of what was issued, for introspection
	Parts   []audit.Part // beside the general part
	Detail  any          // members of the general part's facts, e.g. scopes
	Asks    []Prompt     // that the act puts before people
	Answers []Answer     // that it gives to such
	// Review, of an act that its Changes refuse, is what somebody has to look at; nil
	// if nothing is.
	Review *Refusal
	// Against says that who asked is refused, and that this is what was done: it tells
	// nothing of what the actor does.
	Against bool
	Met     *policy.Met // what a rollout cost the first whom the parts concern, where that was not this act's own answer
}

// Intent is all that a grant type, page or admin handler supplies.
type Intent struct {
	Action policy.Action
	Kind   audit.Kind // of the record
	Refs   Refs
	Proofs []assurance.Proof // verified just now
	From   Origin            // what its risk is judged by
	// Attainable judges asks by what the actor can do; nil outside an
	// authenticated browser (mechanisms A8, A9).
	Attainable policy.Attainable
	// For is the interaction this act belongs to: proofs of a step-up made for
	// another one do not count (mechanisms A21).
	For string
	// Token is the access token that was presented to be acted with, where one was.
	Token policy.Token
	// Details are what the act is about in an app's own terms, where it said so.
	Details policy.Details
	Spend   []once.Spend
	// Elsewhere is what an act at somebody else's resource server is about; nil: it is
	// an act of ours.
	Elsewhere *Elsewhere
	// Prepare reads what only this act needs; it runs in each try, after the facts
	// were loaded, so that a change of anything guarded has it read again.
	Prepare func(context.Context) error
	// Changes is pure; a problem it returns refuses the act and is recorded, with
	// the parts returned beside it.
	Changes func(*Facts, policy.Decision) (Effect, error)
	// Seal makes what is handed out, e.g. signs the token; its jti is the
	// record's id. It runs before Commit, and nothing leaves before Commit.
	Seal func(Sealing) (any, error)
	// Quiet refusals are counted, not recorded: callers that are not
	// authenticated yet.
	Quiet bool
}

// Elsewhere is an act that a resource server asks about before it carries it out.
type Elsewhere struct {
	On policy.Resource
	// Said is what was said of it. The policies that decide take of it what their schema
	// declares (attribute.Types.Take); where that cannot be taken, they refuse.
	Said map[string]any
	// Shown is what the token that came with it shows, in the place of proofs: what
	// else is known of its owner here, they do not know there.
	Shown assurance.State
	// Who is whom it is about, where storage knows nobody by that name: they are in no group,
	// and are told what anybody in none would be. Refs are then of nobody.
	Who *policy.Entity
}

// theirs reports whether it is the actor who tries. Of what a resource server asks about
// somebody without a token of theirs they know nothing, and nothing follows for them.
func (in *Intent) theirs() bool { return in.Elsewhere == nil || in.From.Asked }

// Sealing is what Seal may use.
type Sealing struct {
	RecordID string
	At       time.Time // taken before anything was read (mechanisms C6)
	Facts    *Facts
	Decision policy.Decision
}

// Write is what a commit makes durable, all or nothing.
type Write struct {
	At      time.Time
	Record  string
	Guard   []Version
	Spend   []once.Spend
	Changes []Change
	Row     audit.Row
	Met     *policy.Met // what a rollout cost the first whom the record concerns, to be found by; nil: nothing
}

// ErrStale says that a guarded row moved between Load and Commit, or that a
// conditional change found its row changed.
var ErrStale = errors.New("act: what was decided on has changed")

// ErrNotWritten is in the chain of an Unavailable of Commit that wrote nothing for
// certain. Without it, nobody knows (CodeUnknown).
var ErrNotWritten = errors.New("act: nothing was written")

// CodeUnknown is the code of an act of which nobody knows whether it was done: the
// database did not say whether it committed.
const CodeUnknown = "outcome_unknown"

// Store is what Do needs of storage.
type Store interface {
	// Load MUST read one snapshot. A missing row errs (problem.NotFound); an
	// ended one is a fact that the decision refuses.
	Load(context.Context, policy.Action, Refs) (Facts, error)
	// Commit MUST be all or nothing, and durable on return.
	// ErrStale: a guarded or conditionally changed row moved. *once.Used:
	// already spent, and by which record. *once.Gone: never there, or expired.
	Commit(context.Context, Write) error
}
