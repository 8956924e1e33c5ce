// Package policy answers whether an act may happen: Allow, StepUp with the ask
// that would do, or Deny, with reasons. It owns the words of a decision, the
// climb (mechanisms A), and what a set of Cedar policies must be to be enforced.
// It is pure: everything that a decision may see is in the Input, the time
// included. Loading facts, recording decisions, counting challenges and
// rendering them belong to others; the text of the default policies is in
// policies.
package policy

import (
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/risk"
)

// The kinds of principal. A client is not one: it is software that asks on
// somebody's behalf, and stands beside the principal.
const (
	KindPerson    = "person"
	KindService   = "service"
	KindWorkload  = "workload" // a running instance of a service
	KindAgent     = "agent"    // an agent that acts for a person
	KindDevice    = "device"
	KindOperator  = "operator"  // local root, on the host
	KindSystem    = "system"    // the server's own loops
	KindAnonymous = "anonymous" // nobody yet: a setup or invitation link, a failed login
)

// OfHost reports whether what a kind of principal may do is fixed by the program:
// no set that is published changes it.
func OfHost(kind string) bool { return ofHost(kinds[kind]) }

// Administrators is the group whose members manage the deployment.
const Administrators = "administrators"

// Helpers is the group whose members may give a temporary pass.
const Helpers = "helpers"

// Entity is somebody or something in a decision.
type Entity struct {
	Kind   string
	ID     string
	Groups []string // names of the groups it belongs to
}

// In reports whether the entity belongs to a group.
func (e Entity) In(group string) bool {
	for _, g := range e.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Resource is what is acted on. Owner is the actor whose thing it is, "" if it
// is nobody's in particular. Attributes are what else is said of a thing of the
// deployment's own: as its type declares them, or the act is refused.
type Resource struct {
	Type       string
	ID         string
	Owner      string
	Attributes attribute.Values
}

// Risk is the band of the signals seen. What is not known is said by Known
// false with band high, never by absence (mechanisms A3).
type Risk struct {
	Known bool
	Band  string // low, medium, high, extreme
}

// The bands of risk.
const (
	RiskLow     = risk.Low
	RiskMedium  = risk.Medium
	RiskHigh    = risk.High
	RiskExtreme = risk.Extreme
)

// bands are the bands of risk, ascending.
var bands = []string{RiskLow, RiskMedium, RiskHigh, RiskExtreme}

// UnknownRisk is the risk of a deployment that scores none.
var UnknownRisk = Risk{Known: false, Band: RiskHigh}

// worse is the higher of two risks. What is not known gives way to what is; a
// band that does not exist is the highest.
func (r Risk) worse(o Risk) Risk {
	rank := func(r Risk) int {
		switch i := slices.Index(bands, r.Band); {
		case !r.Known:
			return -1
		case i < 0:
			return len(bands) - 1
		default:
			return i
		}
	}
	i := max(rank(r), rank(o))
	if i < 0 {
		return UnknownRisk
	}
	return Risk{Known: true, Band: bands[i]}
}

// Network is where the request came from, as far as an authenticated source
// says so.
type Network struct {
	Known bool
	Zone  string
}

// Token is the access token that the request came with, where one did.
type Token struct {
	Known bool
	Age   time.Duration
	Bound bool // to a key that was shown now
	Depth int  // how many actors stand between the person and the caller
}

// Agent is the run of an agent that asks, where one does.
type Agent struct {
	Known   bool
	Purpose string
	Run     string
	Budget  int64 // what is left of the run's
}

// ScopeAsk is one requested scope with what its resource demands for it. An
// unmet ask withholds a conditional scope (mechanisms D12); it becomes part of
// the decision's own ask when the scope is Required or not Conditional. What is
// left of a met ask's age limits the life of what is issued; a scope that may be
// withheld is, rather than leave less than MinLife.
type ScopeAsk struct {
	Name        string
	Ask         assurance.Ask
	Groups      []string // who may have it: a member of any; empty: anyone
	Conditional bool     // may be left out now and asked for later
	Required    bool     // the client asked for it in an interaction, now
}

// Context is the state of the world that a decision sees. Every attribute is
// always present; the zero value is the one that grants least.
type Context struct {
	Assurance assurance.State // of the principal, or of the person an agent acts for
	Now       time.Time       // MUST be set; a zero time is refused
	NoPasskey bool            // of changes of factors and of the address: the account they belong to has no passkey that counts
	Presented bool            // a live setup or invitation link was presented for this very act
	Scopes    []ScopeAsk      // in the order asked for

	Approvals     int  // valid approvals of this action, by members of the group its policy names
	Approvers     int  // eligible persons, distinct from and independent of the requester (A7)
	Confirmed     bool // the person on whose behalf the chain acts said yes to this action
	Confirmable   bool // they can be asked for that yes (A7)
	DeviceKnown   bool
	DeviceManaged bool
	DevicesUsed   bool // the deployment manages devices, so that policy may ask for one
	Risk          Risk
	RiskBefore    Risk // when this transaction was challenged; the worse of the two counts (A14). Zero: it was not
	Network       Network
	Token         Token
	Details       Details
	Agent         Agent

	Challenges int // already given to this actor, client and class of action in the last five minutes (A15)

	Ended      string // what ended or froze: the actor, the client or an ancestor; "" if nothing
	OwnerEnded string // the ended owner of an actor that is not a person; "" if none
	Quarantine bool   // the server answers only its operator (after a restore)
}

// Input is one question.
type Input struct {
	Principal Entity
	Client    Entity
	Action    Action
	Resource  Resource
	Context   Context

	// Waived are the exceptions that count for the principal. Decide fills it in,
	// whatever it holds.
	Waived []*Exception
}

// Outcome is the kind of answer. The zero value is Deny.
type Outcome int

// The outcomes.
const (
	Deny Outcome = iota
	StepUp
	Allow
)

// String gives deny, step_up or allow.
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "allow"
	case StepUp:
		return "step_up"
	default:
		return "deny"
	}
}

// Reason is why, in words. Policy and Text go to the signed-in person, to
// administrators and to the log, and Owner, whom they may ask, to the first two; callers
// get only Public (mechanisms A10).
type Reason struct {
	Policy string `json:"policy"`
	Text   string `json:"text"`
	Public string `json:"public,omitempty"`
	Owner  string `json:"owner,omitempty"`
}

// MinLife is the shortest life that a scope which may be left out imposes on a
// token: with less than this left of its ask, it is withheld and asked for again.
const MinLife = 30 * time.Second

// The codes of a decision; Allow has none.
const (
	CodeStepUp       = "insufficient_user_authentication" // RFC 9470
	CodeDenied       = "denied"                           // no proof would change it
	CodeUnattainable = "unattainable"                     // a proof would do that this actor cannot give; Ask says which
	CodeEnded        = "ended"                            // the actor, its owner, its client or an ancestor was ended
	CodeQuarantine   = "quarantine"                       // the server issues nothing for now
	CodeTooMany      = "too_many_challenges"              // A15
	CodeError        = "policy_error"                     // a policy failed to evaluate; alarm
	CodeInconsistent = "policy_inconsistent"              // policies contradict each other; alarm
)

// Decision is the answer. It shares its Reasons with the policy set: read them,
// do not change them.
type Decision struct {
	Outcome       Outcome
	Ask           assurance.Ask // StepUp: exactly what would do. CodeUnattainable: the same, for the page
	Reasons       []Reason
	Review        bool   // somebody should look at this
	Code          string // "" for Allow
	Released      []string
	Withheld      []string      // scopes asked for and not given now, with a reason each in Reasons; empty where all is refused
	MaxLife       time.Duration // tokens and codes live no longer than this (A23, @life); 0: no limit from here
	MaxGrant      time.Duration // grants and sessions live no longer than this (@grant_life); 0: no limit from here
	PolicyVersion string
	// Monitored is what the answer would be if the policies in mode monitor were
	// enforced; nil if the same (mechanisms A6: they take no part in the answer).
	Monitored *Decision
	// Tried is what a rollout makes of it; nil if none runs, or it makes no difference.
	Tried *Tried
}

// Attainable says whether this actor could satisfy an ask. It is nil wherever
// the answer leaves the server before the person has signed in, so that nobody
// learns who enrolled what (mechanisms A8, A9).
type Attainable func(assurance.Ask) bool

// Set is a policy set. The zero Set refuses everything.
type Set struct {
	eval       evaluator
	version    string
	policies   []Policy
	exceptions []Exception
	monitor    *Set // the same with the policies in mode monitor; nil if there are none
}

// evaluator is what evaluates policies on given facts. It MUST be pure, and MUST
// report any policy that failed to evaluate, permit or forbid (mechanisms A4).
type evaluator interface {
	// evaluate MAY leave out the reasons of a refusal unless it is to explain.
	evaluate(in Input, explain bool) verdict
	// candidates gives the asks that the policies name for this input, in any
	// order; joined with those of scopes they are all that the climb tries.
	candidates(Input) []assurance.Ask
	// top says how many approvals the policies name at most, for the top of the
	// lattice. climbs is false if a policy that may take something away as
	// assurance rises speaks of this input: it is then allowed or denied, never
	// asked for more (mechanisms A5).
	top(Input) (approvals int, climbs bool)
}

// verdict is the answer of policies to one set of facts.
type verdict struct {
	allow   bool
	reasons []Reason
	lives   lives
	review  bool // a policy that refuses wants somebody to look
	err     error
}

// Version is the hash of the set's content; every decision carries it.
func (s *Set) Version() string {
	if s == nil {
		return ""
	}
	return s.version
}
