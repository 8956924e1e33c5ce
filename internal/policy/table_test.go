package policy

// The rules as they were before they were Cedar, to compare with.

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// whose says whose things a rule is about.
type whose string

const (
	anybodys whose = ""
	own      whose = "own"
	others   whose = "others"
)

// rule permits its actions to its kinds, once everything it names holds. Rules
// only permit; any one is enough. They are plain data, so that the set's version
// is the hash of exactly what is enforced.
type rule struct {
	ID        string
	Kinds     []string
	Actions   []Action
	Whose     whose          `json:",omitempty"`
	Group     string         `json:",omitempty"` // the principal must be a member
	NoPasskey bool           `json:",omitempty"` // only for an account without a passkey that counts
	Presented bool           `json:",omitempty"` // the act presents a live setup or invitation link
	Machine   assurance.Rung `json:",omitempty"` // at least this rung of a machine
	Ask       assurance.Ask
	Text      string // why, for the signed-in person and the log
	Public    string `json:",omitempty"` // why, for callers
}

func rung(r assurance.Rung, maxAge time.Duration) assurance.Ask {
	return assurance.Ask{Rung: r, MaxAge: maxAge}
}

var (
	person  = []string{KindPerson}
	service = []string{KindService}
)

// builtin is the table.
var builtin = []rule{
	// Sessions.
	{
		ID: "session.open", Kinds: person, Actions: []Action{SessionOpen},
		Ask:    rung(assurance.Multi, 0),
		Text:   "A session opens when the sign-in has shown all its factors.",
		Public: "This needs a finished sign-in",
	},
	{
		ID: "session.end.own", Kinds: person, Actions: []Action{SessionEnd, GrantEnd}, Whose: own,
		Ask:  rung(assurance.Multi, 0),
		Text: "Anybody may end their own sessions and grants.",
	},
	{
		ID: "session.end.others", Kinds: person, Actions: []Action{SessionEnd, GrantEnd}, Whose: others,
		Group: Administrators, Ask: rung(assurance.Phishing, 15*time.Minute),
		Text:   "Ending somebody else's session or grant needs an administrator's phishing-resistant sign-in from the last 15 minutes.",
		Public: "This needs a recent phishing-resistant sign-in",
	},

	// OAuth.
	{
		ID: "authorize", Kinds: person, Actions: []Action{Authorize},
		Ask:    rung(assurance.Multi, 0),
		Text:   "Authorizing a client needs a finished sign-in.",
		Public: "This needs a finished sign-in",
	},
	{
		ID: "token.person", Kinds: person, Actions: []Action{TokenIssue, TokenRefresh, TokenIntrospect, TokenRevoke, UserInfo},
		Ask:    rung(assurance.Single, 0),
		Text:   "Tokens carry the sign-in that their grant was given with.",
		Public: "This needs a sign-in",
	},
	{
		ID: "token.machine", Kinds: service, Actions: []Action{TokenIssue, TokenIntrospect, TokenRevoke},
		Machine: 1,
		Text:    "A service or resource server acts as itself once its client has authenticated.",
	},

	{
		ID: "session.own", Kinds: person, Actions: []Action{SessionProve, ConsentGive, SelfWrite}, Whose: own,
		Ask:    rung(assurance.Multi, 0),
		Text:   "Anybody signed in may prove again that it is them, consent for themselves, and change their own names.",
		Public: "This needs a finished sign-in",
	},

	// First steps.
	{
		ID: "link", Kinds: []string{KindAnonymous}, Actions: []Action{SetupComplete, InvitationAccept, FactorReenrol}, Presented: true,
		Text: "Whoever holds a live setup, invitation or re-enrolment link may enrol with it, once.",
	},

	{
		ID: "email.link", Kinds: []string{KindAnonymous}, Actions: []Action{EmailVerify}, Presented: true,
		Text: "Whoever holds a live link that was sent to an address proves that address, and nothing else.",
	},

	// One's own account.
	{
		ID: "email", Kinds: person, Actions: []Action{EmailChange, EmailAsk}, Whose: own,
		Ask:    rung(assurance.Multi, 5*time.Minute),
		Text:   "Changing where notices of your account go needs a sign-in with two factors from the last 5 minutes.",
		Public: "This needs a recent sign-in",
	},
	{
		ID: "leak", Kinds: person, Actions: []Action{LeakReport},
		Ask:    rung(assurance.Multi, 0),
		Text:   "Anybody signed in may report a leaked secret: who can show it could do worse with it.",
		Public: "This needs a finished sign-in",
	},
	{
		ID: "factor", Kinds: person, Actions: []Action{FactorEnrol, FactorRemove, FactorRename}, Whose: own,
		Ask:    rung(assurance.Phishing, 5*time.Minute),
		Text:   "Changing how you sign in needs a phishing-resistant sign-in from the last 5 minutes.",
		Public: "This needs a recent phishing-resistant sign-in",
	},
	{
		ID: "factor.typed", Kinds: person, Actions: []Action{FactorEnrol, FactorRemove, FactorRename}, Whose: own, NoPasskey: true,
		Ask:    rung(assurance.Multi, 5*time.Minute),
		Text:   "Changing how you sign in needs a sign-in with two factors from the last 5 minutes, as long as you have no passkey.",
		Public: "This needs a recent sign-in with two factors",
	},
	{
		ID: "self", Kinds: person, Actions: []Action{SelfRead}, Whose: own,
		Ask:    rung(assurance.Single, 0),
		Text:   "Anybody signed in may read what is theirs.",
		Public: "This needs a sign-in",
	},

	// Management.
	{
		ID: "admin.read", Kinds: person, Group: Administrators,
		Actions: []Action{PersonRead, GroupRead, ClientRead, ResourceRead, SessionRead, AuditRead},
		Ask:     rung(assurance.Multi, 12*time.Hour),
		Text:    "Reading the deployment's state needs an administrator's sign-in with two factors from the last 12 hours.",
		Public:  "This needs a sign-in of today",
	},
	{
		ID: "admin.write", Kinds: person, Group: Administrators,
		Actions: []Action{
			PersonInvite, PersonImport, PersonDisable, PersonEnable, FactorAllow, GroupWrite, ClientWrite, ClientSecretRotate, ResourceWrite, KeyRotate,
		},
		Ask:    rung(assurance.Phishing, 15*time.Minute),
		Text:   "Changing the deployment needs an administrator's phishing-resistant sign-in from the last 15 minutes.",
		Public: "This needs a recent phishing-resistant sign-in",
	},
	{
		ID: "admin.erase", Kinds: person, Group: Administrators, Actions: []Action{PersonErase, FactorRevoke},
		Ask:    rung(assurance.Phishing, 5*time.Minute),
		Text:   "Erasing a person, or taking a way to sign in from them, needs an administrator's phishing-resistant sign-in from the last 5 minutes.",
		Public: "This needs a recent phishing-resistant sign-in",
	},

	// Notices: receivers, and what could not be delivered.
	{
		ID: "notice.read", Kinds: person, Group: Administrators, Actions: []Action{WebhookRead},
		Ask:    rung(assurance.Multi, 12*time.Hour),
		Text:   "Reading the deployment's state needs an administrator's sign-in with two factors from the last 12 hours.",
		Public: "This needs a sign-in of today",
	},
	{
		ID: "notice.write", Kinds: person, Group: Administrators, Actions: []Action{WebhookWrite, DeliveryResend},
		Ask:    rung(assurance.Phishing, 15*time.Minute),
		Text:   "Changing the deployment needs an administrator's phishing-resistant sign-in from the last 15 minutes.",
		Public: "This needs a recent phishing-resistant sign-in",
	},
	{
		ID: "notice.deliver", Kinds: []string{KindSystem}, Actions: []Action{NotificationRun},
		Text: "The server tells what happened, by itself.",
	},

	// The host and the server itself.
	{
		ID: "operator", Kinds: []string{KindOperator},
		Actions: []Action{AdminRecover, SetupIssue, KeyRotate, Migrate, SandboxSeed, AuditExport, DeploymentRename, DeploymentAdopt, QuarantineEnter, LogOpen, AuditRetain},
		Text:    "Whoever is root on the host may do this, loudly.",
	},
	{
		ID: "system", Kinds: []string{KindSystem},
		Actions: []Action{
			AuditSequence, FeedPublish, Expiry, SessionEnd, SessionSeen, GrantEnd, CodeMissed, CodeReused, RefreshMisused, RefreshLost, ChallengeGive,
			KeyRotate, SandboxSeed, SetupIssue, ProofSpend, Refusals, QuarantineEnter, FactorTry, FactorRefresh,
		},
		Text: "The server does this by itself.",
	},
}

// table evaluates rules that are plain data. It cannot fail to evaluate.
type table struct {
	rules  []rule
	reason [][]Reason       // of each rule, made once
	of     map[Action][]int // rules of an action
}



// newSet makes a set of rules. Its version is the SHA-256 of their JSON.
func newSet(rules []rule) *Set {
	t := &table{rules: rules, of: map[Action][]int{}}
	for i, r := range rules {
		t.reason = append(t.reason, []Reason{{Policy: r.ID, Text: r.Text, Public: r.Public}})
		for _, a := range r.Actions {
			t.of[a] = append(t.of[a], i)
		}
	}
	content, _ := json.Marshal(rules) // strings and numbers only: cannot fail
	sum := sha256.Sum256(content)
	return &Set{eval: t, version: "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])}
}


func (t *table) evaluate(in Input, _ bool) verdict {
	var why []Reason
	for _, i := range t.of[in.Action] {
		r := &t.rules[i]
		switch {
		case !slices.Contains(r.Kinds, in.Principal.Kind) || !r.about(&in):
		case !r.to(&in):
			why = append(why, Reason{Policy: r.ID, Text: "This is for members of " + r.Group + "."})
		case r.met(&in):
			return verdict{allow: true, reasons: t.reason[i]}
		default:
			why = append(why, t.reason[i]...)
			if !in.Context.onDevice(r.Ask.Device) {
				why = append(why, Reason{Policy: r.ID, Text: "This needs " + Words(assurance.Ask{Device: r.Ask.Device}) + "."})
			}
		}
	}
	if why == nil {
		why = byDefault
	}
	return verdict{reasons: why}
}

func (t *table) top(Input) (int, bool) { return 0, true }

func (t *table) candidates(in Input) []assurance.Ask {
	var out []assurance.Ask
	for _, i := range t.of[in.Action] {
		r := &t.rules[i]
		if slices.Contains(r.Kinds, in.Principal.Kind) && r.about(&in) && r.to(&in) {
			out = append(out, r.Ask)
		}
	}
	return out
}

// about reports whether the rule speaks of this resource. What has no owner is
// nobody's own.
func (r *rule) about(in *Input) bool {
	if r.NoPasskey && !in.Context.NoPasskey {
		return false
	}
	mine := in.Principal.ID != "" && in.Resource.Owner == in.Principal.ID
	switch r.Whose {
	case own:
		return mine
	case others:
		return !mine
	default:
		return true
	}
}

// to reports whether the principal is one that the rule permits.
func (r *rule) to(in *Input) bool { return r.Group == "" || in.Principal.In(r.Group) }

// met reports whether what must be shown has been.
func (r *rule) met(in *Input) bool {
	return in.Context.meets(r.Ask) &&
		in.Context.Assurance.MachineRung >= r.Machine &&
		(in.Context.Presented || !r.Presented)
}
