package notice

import "github.com/countersign-dev/countersign/internal/audit"

// whom says which person a record is about.
type whom int

const (
	nobody whom = iota
	actor       // who acted
	object      // to whom it happened: the second person concerned, else the first
)

// rule says who is told of a kind of record, and how. A rule with a person and no
// title stands on their account page only.
type rule struct {
	to     whom
	title  string                // of the message; templates as audit.Sentence has them
	text   string                // what happened, said to the person
	only   func(audit.Line) bool // nil: always
	admins bool                  // told to administrators' receivers, beside persons
	before bool                  // the address that was is told, too
	proves bool                  // the message carries the link that proves an address
	often  bool                  // may happen often, and is told only so much in an hour
	link   bool                  // the noun may put a link of its own into it
}

// noOne is for what only the log is told: routine, or the log about itself.
var noOne = rule{}

func isNewDevice(l audit.Line) bool { return l.NewDevice }

// table is who is told of what. A kind that is not in it fails a test: whoever
// adds one decides.
var table = map[audit.Kind]rule{
	// Tokens and grants.
	audit.TokenIssued:     noOne,
	audit.TokenRefreshed:  noOne,
	audit.RefreshReplayed: noOne,
	audit.RefreshReused: {to: object, often: true, admins: true, title: "An app was signed out", text: "An old token was used again[ by {client}]. " +
		"It may have been copied, so everything that it belonged to was ended. Sign in to the app again if you use it."},
	audit.CodeIssued: noOne,
	audit.CodeReused: {to: object, often: true, admins: true, title: "An app was signed out", text: "A sign-in code was used twice[ by {client}]. " +
		"It may have been copied, so what it gave was ended. Sign in to the app again if you use it."},
	audit.TokenRevoked:   noOne,
	audit.TokenRefused:   noOne,
	audit.TokenExchanged: noOne,
	audit.GrantOpened:    noOne,
	audit.GrantEnded:     {to: object, often: true, only: byOther, title: "An app can no longer act for you", text: "What [{client}|an app] could do for you was ended by {actor}."},
	audit.DeviceAsked:    noOne,
	audit.DeviceOpened:   {to: actor},
	audit.DeviceApproved: {to: actor, often: true, title: "A device was signed in to your account", text: "You let a device[ that calls itself {host}] use your account[ with {client}]. " +
		"If you did not start that yourself, end it under Sessions and tell an administrator."},
	audit.DeviceDenied: {to: actor},
	audit.DeviceTried:  noOne,
	audit.DeviceReused: {to: object, often: true, admins: true, title: "An app was signed out", text: "The code of a device was used twice[ by {client}]. " +
		"It may have been copied, so what it gave was ended. Sign in to the app again if you use it."},
	audit.CIBAAsked: {to: object, often: true, title: "An app asks you to let it act for you", text: "[{client}|An app] asks you to let it act for you. Look at it under Requests in your account. " +
		"If you did not start that yourself, say so there."},
	audit.CIBAApproved: {to: actor, often: true, title: "An app may act for you", text: "You let [{client}|an app] act for you[ with {scope}], as it had asked. " +
		"If that was not you, end it under Sessions and tell an administrator."},
	audit.CIBADenied:   {to: actor, often: true, title: "An app was told no", text: "You said no to [{client}|an app], which had asked to act for you[: {why}]. It got nothing."},
	audit.CIBATried:    noOne,
	audit.CIBAReported: {to: actor, often: true, admins: true, title: "You reported a request", text: "You said that you did not start what [{client}|an app] asked. It got nothing, it may not ask you for a day, and your administrators can see it."},
	audit.CIBAReused: {to: object, often: true, admins: true, title: "An app was signed out", text: "What you had allowed was fetched twice[ by {client}]. " +
		"It may have been copied, so what it gave was ended. Sign in to the app again if you use it."},
	audit.ProofSeen:   noOne,
	audit.RefreshLost: noOne,

	// Trusted issuers.
	audit.AssertionReused: {often: true, admins: true},
	audit.IssuerTrusted:   {admins: true},
	audit.IssuerUpdated:   {admins: true},
	audit.IssuerRemoved:   {admins: true},
	audit.IssuerLinked:    {to: object, admins: true, title: "Another organisation can say who you are", text: "{actor} let [{name}|another issuer] say who you are: apps that it vouches for can act for you."},
	audit.IssuerParted:    {to: object, admins: true, title: "Another organisation no longer says who you are", text: "{actor} ended that [{name}|another issuer] says who you are."},

	// Sessions.
	audit.SessionOpened: {
		to: actor, often: true, only: isNewDevice, title: "New sign-in to your account",
		text: "Somebody signed in to your account[ with {with}], in a browser that was not used before.",
	},
	audit.SessionEnded:     {to: object, often: true, only: byOther, title: "You were signed out", text: "A session of yours was ended by {actor}."},
	audit.SigninRefused:    {to: actor},
	audit.StepUpDone:       noOne,
	audit.SignalReported:   {often: true, admins: true},
	audit.SignalWithdrawn:  {often: true, admins: true},
	audit.StepUpAsked:      noOne,
	audit.StepUpRefused:    {to: actor},
	audit.ConsentGiven:     {to: actor, often: true, title: "An app may act for you", text: "You let [{client}|an app] use[ {scope}| your account]."},
	audit.ConsentWithdrawn: {to: actor},
	audit.DeviceSeen:       {to: actor, often: true, title: "New device", text: "Your account was used on a new device[, {name}]."},
	audit.DeviceEnded:      {to: object, often: true, only: byOther, title: "A device was signed out", text: "A device of yours[, {name},] was signed out by {actor}."},
	audit.SessionSeen:      noOne,
	audit.DeviceManaged: {to: object, often: true, admins: true, title: "A device of yours is a managed one", text: "{actor} called a device that you sign in from[, {name},] a managed one[ until {until}], " +
		"so the most sensitive changes can be made there. If you do not have such a device, tell an administrator."},
	audit.DeviceUnmanaged: {to: object, often: true, admins: true, title: "A device of yours is not a managed one any more", text: "{actor} took back that a device that you sign in from[, {name},] is a managed one."},

	// Ways to sign in: each change is told on every channel (security, invariant 9).
	audit.FactorEnrolled: {to: object, admins: true, title: "A way to sign in was added", text: "[{with}|A way to sign in][, {name},] was added to your account."},
	audit.FactorRemoved:  {to: object, admins: true, title: "A way to sign in was removed", text: "[{with}|A way to sign in][, {name},] was removed from your account by {actor}."},
	audit.FactorRenamed:  {to: object, admins: true, title: "A way to sign in was renamed", text: "[{with}|A way to sign in] of your account was renamed[ to {name}]."},
	audit.FactorUsed:     noOne,
	audit.FactorReplaced: {to: object, admins: true, title: "A way to sign in was replaced", text: "[{with}|A way to sign in][, {name},] of your account was replaced."},
	audit.FactorTried:    noOne,
	audit.FactorMissed:   {to: object},
	audit.FactorLocked: {to: object, often: true, admins: true, title: "Wrong guesses at your account", text: "Somebody got [{with}|a way to sign in] of your account wrong too often, " +
		"so nothing more is looked at from there for a while. Your passkeys always work."},
	audit.FactorOff: {to: object, admins: true, title: "A hundred wrong guesses at your account", text: "Somebody got [{with}|a way to sign in] of your account wrong a hundred times in a row. " +
		"It does not work from there any more. Your passkeys always work."},
	audit.FactorRefreshed: noOne,
	audit.FactorAllowed:   {admins: true},
	audit.FactorForbidden: {admins: true},
	audit.FactorImported:  {to: object, admins: true},

	// Recovery: whoever can stop one is told of it, with the link that does.
	audit.RecoveryCodesMade: {to: object, admins: true, title: "New recovery codes", text: "New recovery codes were made for your account. Those you had before do not work any more."},
	audit.RecoveryStarted: {to: object, admins: true, link: true, title: "Somebody is recovering your account", text: "A recovery of your account was started with one of your recovery codes[, from {network}]. " +
		"[It can be finished from {ready_at} on. ]If it was not you, stop it with the link below, or sign in and stop it under Recovery."},
	audit.RecoveryOpened: {to: object, admins: true, link: true, title: "A recovery of your account was opened", text: "{actor} opened and confirmed a recovery of your account, which lets somebody make a new passkey for it. " +
		"If you did not ask for it, stop it with the link below, or sign in and stop it under Recovery."},
	audit.RecoveryConfirmed: {to: object, admins: true, link: true, title: "A recovery of your account was confirmed", text: "{actor} confirmed the recovery of your account. " +
		"[It can be finished from {ready_at} on. ]If you did not ask for it, stop it with the link below, or sign in and stop it under Recovery."},
	audit.RecoveryCancelled: {to: object, admins: true, title: "A recovery of your account was stopped", text: "A recovery of your account, or a temporary pass, was stopped[ by {by}]. Nothing comes of it any more."},
	audit.RecoveryCompleted: {to: object, admins: true, title: "Your account was recovered", text: "A new passkey[, {name},] was made for your account[ with {with}], and everything that was signed in has ended. " +
		"If it was not you, sign in with another passkey of yours and remove the new one, or tell an administrator now."},
	audit.PassIssued: {to: object, admins: true, link: true, title: "A temporary pass for your account", text: "{actor} made a temporary pass with which somebody can sign in to your account once. " +
		"If you did not ask for it, take it back with the link below."},
	audit.PassUsed: {to: object, admins: true, title: "Signed in with a temporary pass", text: "Somebody signed in to your account with a temporary pass. If it was not you, end the session under Sessions and tell an administrator."},

	// People and groups.
	audit.PersonCreated:       {admins: true},
	audit.PersonInvited:       {admins: true},
	audit.InvitationAccepted:  {to: actor, admins: true},
	audit.InvitationWithdrawn: {admins: true},
	audit.PersonDisabled:      {to: object, admins: true, title: "Your account was disabled", text: "Your account was disabled by {actor}. You can't sign in until it is enabled again."},
	audit.PersonEnabled:       {to: object, admins: true, title: "Your account was enabled", text: "Your account was enabled by {actor}. You can sign in again."},
	audit.PersonErased:        {admins: true},
	audit.PersonUpdated:       {to: object, admins: true, title: "Your account was changed", text: "The names of your account were changed by {actor}."},
	audit.AdminGranted:        {to: object, admins: true, title: "You are an administrator now", text: "{actor} made you an administrator."},
	audit.AdminWithdrawn:      {to: object, admins: true, title: "You are not an administrator any more", text: "{actor} took the administrator role from you."},
	audit.GroupCreated:        noOne,
	audit.GroupUpdated:        noOne,
	audit.GroupEnded:          noOne,
	audit.GroupJoined:         {to: object, admins: true},
	audit.GroupLeft:           {to: object, admins: true},

	// Reviews.
	audit.ReviewOpened: {to: actor, often: true, admins: true, title: "Something was refused on your account", text: "Something was refused on your account[ with {client}], and an administrator will look at it. " +
		"If it was you, give them the reference [{ref}|{review}]. If it was not, end what you don't know under Sessions."},
	audit.ReviewAllowed: {to: object, admins: true, title: "An administrator vouched for you", text: "{actor} looked at what was refused on your account[ with {client}] and said that it was you. " +
		"Until {until} you are let in from there with a passkey. If it was not you, tell them now."},
	audit.ReviewRefused: {to: object, admins: true, title: "Your account was used by somebody else", text: "{actor} looked at what was refused on your account[ with {client}] and said that it was not you[, so {done}]. Sign in again and look at your passkeys and sessions."},
	audit.ReviewClosed:  {to: object, admins: true, title: "What was refused was looked at", text: "{actor} looked at what was refused on your account[ with {client}]. Nothing was changed."},
	audit.PageRefused:   noOne,

	audit.ApprovalAsked:   {to: actor, admins: true},
	audit.ApprovalDecided: {to: actor, admins: true},

	// Clients, resources and services.
	audit.ClientsAdmitted:     {admins: true},
	audit.ClientRuleSet:       {admins: true},
	audit.ClientPinned:        {admins: true},
	audit.ClientUnpinned:      {admins: true},
	audit.ClientCreated:       {admins: true},
	audit.ClientUpdated:       {admins: true},
	audit.ClientEnded:         {admins: true},
	audit.ClientEnabled:       {admins: true},
	audit.ClientSecretRotated: {admins: true},
	audit.ClientSecretAdded:   {admins: true},
	audit.ClientSecretRetired: {admins: true},
	audit.ResourceCreated:     {admins: true},
	audit.ResourceUpdated:     {admins: true},
	audit.ResourceEnded:       {admins: true},
	audit.ServiceCreated:      {admins: true},
	audit.ServiceUpdated:      {admins: true},
	audit.ServiceEnded:        {admins: true},

	audit.KeyPublished: {admins: true},
	audit.KeyActivated: {admins: true},
	audit.KeyRetired:   {admins: true},

	// The installation.
	audit.LogOpened:         noOne,
	audit.WriterStarted:     noOne,
	audit.WriterBeat:        noOne,
	audit.WriterLost:        {admins: true},
	audit.RefusalsCounted:   noOne,
	audit.SetupOffered:      {admins: true},
	audit.SetupCompleted:    {to: actor, admins: true},
	audit.AdminRecovered:    {to: object, admins: true, title: "Your account was recovered", text: "The operator of the machine made a link with which your account can be entered again."},
	audit.PolicyPublished:   {admins: true},
	audit.PolicySubmitted:   {admins: true},
	audit.PolicySigned:      {admins: true},
	audit.PolicyWithdrawn:   {admins: true},
	audit.PolicyRecovered:   {admins: true},
	audit.PolicyReplayed:    noOne,
	audit.AccessDecided:     noOne,
	audit.RolloutStarted:    {admins: true},
	audit.RolloutPaused:     {admins: true},
	audit.RolloutResumed:    {admins: true},
	audit.RolloutUndone:     {admins: true},
	audit.RolloutReverted:   {admins: true},
	audit.RolloutFinished:   {admins: true},
	audit.RolloutMet:        noOne,
	audit.Migrated:          {admins: true},
	audit.Restored:          {admins: true},
	audit.DeploymentRenamed: {admins: true},
	audit.DeploymentAdopted: {admins: true},
	audit.QuarantineEntered: {admins: true},

	audit.QuarantineDismissed: {admins: true},
	audit.DatabaseMoved:       {admins: true},

	audit.BackupMade:      noOne,
	audit.BackupRehearsed: noOne,
	audit.RestoreReplayed: {admins: true},
	audit.Released:        {admins: true},
	audit.KeysReplaced:    {admins: true},
	audit.ClockAccepted:   {admins: true},
	audit.AuditLost:       {admins: true},
	audit.LogPruned:       {admins: true},
	audit.HoldPlaced:      {admins: true},
	audit.HoldReleased:    {admins: true},
	audit.RetentionSet:    {admins: true},

	// Notices themselves.
	audit.AlertRaised:          {admins: true},
	audit.AlertCleared:         {admins: true},
	audit.WebhookCreated:       {admins: true},
	audit.WebhookUpdated:       {admins: true},
	audit.WebhookEnded:         {admins: true},
	audit.WebhookSecretRotated: {admins: true},
	audit.DeliveryResent:       noOne,
	audit.DeliveryDiscarded:    noOne,
	audit.SecretLeaked: {to: object, admins: true, title: "A token of yours was found by others", text: "It was reported that [{what}|a secret] of yours leaked[, so {done}]. " +
		"Find out where it was kept."},
	audit.EmailChanged: {to: object, admins: true, before: true, title: "Your e-mail address was changed", text: "The e-mail address of your account was changed by {actor}. " +
		"Notices go to the new address once it is proved."},
	audit.EmailAsked:    {to: actor, often: true, proves: true, title: "Is this your e-mail address?", text: "You asked to use this address for notices of your account."},
	audit.EmailLinked:   noOne,
	audit.EmailVerified: {to: actor},
}
