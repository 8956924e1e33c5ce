package policy

import (
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// Action names what is to happen. An action without a rule is denied.
type Action string

// The actions of this release.
const (
	SessionOpen Action = "session.open"
	SessionEnd  Action = "session.end"
	SessionRead Action = "session.read"
	GrantEnd    Action = "grant.end"

	SessionProve Action = "session.prove" // a step-up: a proof is added
	SessionSeen  Action = "session.seen"  // use is remembered, coarsely
	ConsentGive  Action = "consent.give"

	Authorize       Action = "authorize"
	TokenIssue      Action = "token.issue"
	TokenRefresh    Action = "token.refresh"
	TokenIntrospect Action = "token.introspect"
	TokenRevoke     Action = "token.revoke"
	UserInfo        Action = "userinfo"

	SetupComplete    Action = "setup.complete"
	InvitationAccept Action = "invitation.accept"
	FactorEnrol      Action = "factor.enrol"
	FactorRemove     Action = "factor.remove"
	FactorRename     Action = "factor.rename"
	FactorRevoke     Action = "factor.revoke"  // somebody else's is removed
	FactorAllow      Action = "factor.allow"   // which kinds people may use
	FactorTry        Action = "factor.try"     // somebody guesses: it is paid for and recorded before it is looked at
	FactorRefresh    Action = "factor.refresh" // what verifies a password is kept in a stronger form
	FactorReenrol    Action = "factor.reenrol" // with a link of the operator's, without another factor

	SelfRead           Action = "self.read"
	SelfWrite          Action = "self.write"
	PersonRead         Action = "person.read"
	PersonInvite       Action = "person.invite"
	PersonImport       Action = "person.import" // with a password's hash from another system
	PersonDisable      Action = "person.disable"
	PersonEnable       Action = "person.enable"
	PersonErase        Action = "person.erase"
	GroupRead          Action = "group.read"
	GroupWrite         Action = "group.write"
	ClientRead         Action = "client.read"
	ClientWrite        Action = "client.write"
	ClientSecretRotate Action = "client.secret.rotate"
	ResourceRead       Action = "resource.read"
	ResourceWrite      Action = "resource.write"
	KeyRotate          Action = "key.rotate"
	AuditRead          Action = "audit.read"
	AuditExport        Action = "audit.export"

	CodeMissed     Action = "code.missed"     // a code was presented wrongly too often
	CodeReused     Action = "code.reused"     // a code was presented again
	RefreshLost    Action = "refresh.lost"    // the answer to a refresh did not arrive
	ChallengeGive  Action = "challenge.give"  // somebody is asked for a step-up, and that is counted
	RefreshMisused Action = "refresh.misused" // a refresh token was presented by another client or key

	WebhookRead     Action = "webhook.read"
	WebhookWrite    Action = "webhook.write"
	DeliveryResend  Action = "delivery.resend"
	LeakReport      Action = "leak.report"
	EmailChange     Action = "email.change"
	EmailAsk        Action = "email.ask"    // for a link that proves one's address
	EmailVerify     Action = "email.verify" // with that link
	NotificationRun Action = "notification.run"

	DeploymentRename Action = "deployment.rename"
	DeploymentAdopt  Action = "deployment.adopt"

	QuarantineEnter Action = "quarantine.enter" // the database has gone back in time

	AdminRecover  Action = "admin.recover"
	SetupIssue    Action = "setup.issue"
	ProofSpend    Action = "proof.spend" // a DPoP proof or client assertion was used where nothing else changes
	Refusals      Action = "refusals.count"
	Migrate       Action = "migrate"
	SandboxSeed   Action = "sandbox.seed"
	AuditSequence Action = "audit.sequence"
	LogOpen       Action = "log.open"     // a new epoch of the log
	AuditRetain   Action = "audit.retain" // how long records are kept, holds, pruning
	FeedPublish   Action = "feed.publish"
	Expiry        Action = "expiry"
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
