package audit

import (
	"slices"
	"sync"
)

// Kind is what a record is about. Its number is in the entry and its name in
// every part, so neither ever changes and neither is ever reused.
type Kind uint16

// The kinds. 0x01 tokens and grants, 0x02 sessions, 0x03 factors, 0x04 people
// and groups, 0x05 approvals, 0x06 clients, resources and services, 0x07 keys,
// 0x08 the installation and its log.
const (
	TokenIssued     Kind = 0x0101
	TokenRefreshed  Kind = 0x0102
	RefreshReplayed Kind = 0x0103 // the same answer again, inside the window (mechanisms D)
	RefreshReused   Kind = 0x0104 // an old generation: the family ends
	CodeIssued      Kind = 0x0105
	CodeReused      Kind = 0x0106 // what the code issued ends
	TokenRevoked    Kind = 0x0107
	TokenRefused    Kind = 0x0108
	GrantOpened     Kind = 0x0109
	GrantEnded      Kind = 0x010a
	ProofSeen       Kind = 0x010b // a DPoP proof or client assertion was used, and cannot be again
	RefreshLost     Kind = 0x010c // the client was gone before it had its answer (mechanisms D9)
	TokenExchanged  Kind = 0x0170 // somebody else's token, for one of their own (RFC 8693)
	AssertionReused Kind = 0x0171 // an assertion that was taken before came again, from elsewhere or too often

	DeviceAsked    Kind = 0x0160 // a device wants to act for somebody, who is not known yet
	DeviceOpened   Kind = 0x0161 // somebody entered its code
	DeviceApproved Kind = 0x0162
	DeviceDenied   Kind = 0x0163
	DeviceTried    Kind = 0x0164 // a code is about to be looked at
	DeviceReused   Kind = 0x0165 // a device code that had been used: what it issued ends

	CIBAAsked    Kind = 0x0180 // a client asked somebody, who has a device of their own
	CIBAApproved Kind = 0x0181
	CIBADenied   Kind = 0x0182
	CIBATried    Kind = 0x0183 // a number is about to be compared
	CIBAReported Kind = 0x0184 // they did not start it: its client may not ask them for a day
	CIBAReused   Kind = 0x0185 // an auth_req_id that had been used: what it issued ends

	SessionOpened    Kind = 0x0201
	SessionEnded     Kind = 0x0202
	SigninRefused    Kind = 0x0203
	StepUpDone       Kind = 0x0204
	ConsentGiven     Kind = 0x0205
	ConsentWithdrawn Kind = 0x0206
	DeviceSeen       Kind = 0x0207 // a device was met for the first time
	DeviceEnded      Kind = 0x0208
	StepUpRefused    Kind = 0x0209
	SessionSeen      Kind = 0x020a // in use, remembered every few minutes
	StepUpAsked      Kind = 0x020b // counted: asked for too often, it is refused (mechanisms A15)

	FactorEnrolled Kind = 0x0301
	FactorRemoved  Kind = 0x0302
	FactorRenamed  Kind = 0x0303
	FactorUsed     Kind = 0x0304

	FactorTried       Kind = 0x0305 // a guess was paid for, before it was looked at
	FactorMissed      Kind = 0x0306 // a guess was wrong
	FactorLocked      Kind = 0x0307 // guesses from one source are not looked at for a while
	FactorOff         Kind = 0x0308 // too many wrong in a row: off for that source
	FactorReplaced    Kind = 0x0309
	FactorRefreshed   Kind = 0x030a // what verifies a password is kept in a stronger form
	FactorAllowed     Kind = 0x030b // an administrator lets people use a kind
	FactorForbidden   Kind = 0x030c
	FactorImported    Kind = 0x030d // with a person who is brought from another system
	RecoveryCodesMade Kind = 0x0320 // the earlier set works no more
	RecoveryStarted   Kind = 0x0321 // with a recovery code: it waits
	RecoveryOpened    Kind = 0x0322 // by an administrator, who confirms it by that
	RecoveryConfirmed Kind = 0x0323
	RecoveryCancelled Kind = 0x0324
	RecoveryCompleted Kind = 0x0325 // a new passkey, on probation; everything else ended
	PassIssued        Kind = 0x0326
	PassUsed          Kind = 0x0327

	PersonCreated       Kind = 0x0401
	PersonInvited       Kind = 0x0402
	InvitationAccepted  Kind = 0x0403
	PersonDisabled      Kind = 0x0404
	PersonEnabled       Kind = 0x0405
	PersonErased        Kind = 0x0406
	PersonUpdated       Kind = 0x0407
	InvitationWithdrawn Kind = 0x0408
	AdminGranted        Kind = 0x0409
	AdminWithdrawn      Kind = 0x040a
	GroupCreated        Kind = 0x0411
	GroupUpdated        Kind = 0x0412
	GroupEnded          Kind = 0x0413
	GroupJoined         Kind = 0x0414
	GroupLeft           Kind = 0x0415

	ApprovalAsked   Kind = 0x0501
	ApprovalDecided Kind = 0x0502

	ClientCreated       Kind = 0x0601
	ClientUpdated       Kind = 0x0602
	ClientEnded         Kind = 0x0603
	ClientSecretRotated Kind = 0x0604
	ClientEnabled       Kind = 0x0605
	ClientSecretAdded   Kind = 0x0680 // the earlier one works on until its time
	ClientSecretRetired Kind = 0x0681 // the earlier one stopped before its time
	ClientsAdmitted     Kind = 0x0690 // which clients may be used that nobody registered
	ClientRuleSet       Kind = 0x0691 // a domain, or a group of clients, was allowed, trusted or blocked
	ClientPinned        Kind = 0x0692 // administrators keep a client's own description
	ClientUnpinned      Kind = 0x0693
	ResourceCreated     Kind = 0x0611
	ResourceUpdated     Kind = 0x0612
	ResourceEnded       Kind = 0x0613
	ServiceCreated      Kind = 0x0621
	ServiceUpdated      Kind = 0x0622
	ServiceEnded        Kind = 0x0623

	IssuerTrusted Kind = 0x0670 // to say who somebody is
	IssuerUpdated Kind = 0x0671
	IssuerRemoved Kind = 0x0672
	IssuerLinked  Kind = 0x0673 // a subject of an issuer is somebody here
	IssuerParted  Kind = 0x0674

	KeyPublished Kind = 0x0701
	KeyActivated Kind = 0x0702
	KeyRetired   Kind = 0x0703

	LogOpened       Kind = 0x0801
	WriterStarted   Kind = 0x0802
	WriterBeat      Kind = 0x0803
	RefusalsCounted Kind = 0x0804
	SetupCompleted  Kind = 0x0805
	AdminRecovered  Kind = 0x0806
	PolicyPublished Kind = 0x0807
	Migrated        Kind = 0x0808
	Restored        Kind = 0x0809
	WriterLost      Kind = 0x080a
	SetupOffered    Kind = 0x080b

	AuditLost    Kind = 0x0840 // a process found that its own records are missing or changed (mechanisms E7)
	LogPruned    Kind = 0x0841 // records were taken out of the database, into an archive
	HoldPlaced   Kind = 0x0842 // nothing of somebody, or of anybody, may be pruned or erased
	HoldReleased Kind = 0x0843
	RetentionSet Kind = 0x0844

	DeploymentRenamed Kind = 0x080c // another issuer: what the old one issued ended
	DeploymentAdopted Kind = 0x080d // a development database became a real one

	AlertRaised          Kind = 0x0820 // something that administrators should look at
	AlertCleared         Kind = 0x0821 // a state that an alert was about is over
	WebhookCreated       Kind = 0x0822
	WebhookUpdated       Kind = 0x0823
	WebhookEnded         Kind = 0x0824
	WebhookSecretRotated Kind = 0x0825
	DeliveryResent       Kind = 0x0826 // a dead letter is tried again
	DeliveryDiscarded    Kind = 0x0827
	SecretLeaked         Kind = 0x0828 // a token or secret of ours was reported as leaked
	EmailChanged         Kind = 0x0829
	EmailAsked           Kind = 0x082a // a link that proves an address was asked for
	EmailLinked          Kind = 0x082b // … and made, to be sent there
	EmailVerified        Kind = 0x082c

	SignalReported  Kind = 0x0870 // of risk, from outside
	SignalWithdrawn Kind = 0x0871

	DeviceManaged   Kind = 0x0876 // an operator called it its own
	DeviceUnmanaged Kind = 0x0877 // and took that back

	PolicySubmitted Kind = 0x0898 // somebody wants a set in force, and it waits to be signed
	PolicySigned    Kind = 0x0899 // with a passkey, by a person who may
	PolicyWithdrawn Kind = 0x089a // what waited, or was signed, comes to nothing

	PolicyRecovered Kind = 0x0850 // the operator of the host put an earlier version back
	PolicyReplayed  Kind = 0x0858 // recorded decisions were read, to try policies on them

	AccessDecided Kind = 0x0890 // a resource server asked whether somebody may do something there
	ReviewOpened  Kind = 0x0860 // something was refused that an administrator has to look at
	ReviewAllowed Kind = 0x0861 // it was them: it counts for less, for a while
	ReviewRefused Kind = 0x0862 // it was not them
	ReviewClosed  Kind = 0x0863 // nothing follows
	PageRefused   Kind = 0x0864 // a page of administration was not shown

	RolloutStarted  Kind = 0x0880 // a version comes into force in waves
	RolloutPaused   Kind = 0x0881 // a wave, and those behind it, is in monitor for now
	RolloutResumed  Kind = 0x0882
	RolloutUndone   Kind = 0x0883 // a wave, or all of it, was taken back
	RolloutReverted Kind = 0x0884 // a wave cost more than it may, and took itself back
	RolloutFinished Kind = 0x0885 // the version is in force for all
	RolloutMet      Kind = 0x0886 // somebody met what is being rolled out, where nothing else was recorded of it

	QuarantineEntered Kind = 0x0830 // the database has gone back in time: nothing is issued
	BackupMade        Kind = 0x0831
	BackupRehearsed   Kind = 0x0832 // a backup was opened aside and holds
	RestoreReplayed   Kind = 0x0833 // what was taken away after a backup was taken away again
	Released          Kind = 0x0834 // what a restore had suspended works again
	KeysReplaced      Kind = 0x0835 // keys were withdrawn at once
	ClockAccepted     Kind = 0x0836 // the operator said that a clock which was not believed is right

	QuarantineDismissed Kind = 0x0837 // the database only moved, said the operator: nothing was lost
	DatabaseMoved       Kind = 0x0838 // where the database is, which it remembers
)

// Class is what retention is set by.
type Class string

// The classes, from the shortest kept to the longest.
const (
	Routine   Class = "routine"   // tokens issued and refreshed
	Access    Class = "access"    // sign-ins, sessions, refusals, reuse
	Identity  Class = "identity"  // people, groups, factors
	Authority Class = "authority" // approvals, clients, resources, keys, policy
	Log       Class = "log"       // the log about itself
)

type kindInfo struct {
	name     string
	class    Class
	critical bool
	words    string // see Sentence
}

const plain, critical = false, true

var kinds = map[Kind]kindInfo{
	TokenIssued:     {"token.issued", Routine, plain, "<a token was issued|no token was issued>[ to {client}][ for {resource}][ with {scope}][ in the name of {who}]"},
	TokenRefreshed:  {"token.refreshed", Routine, plain, "[{client} ]<refreshed a token|could not refresh a token>[ for {resource}][ in the name of {who}]"},
	RefreshReplayed: {"refresh.replayed", Routine, plain, "[{client} ]repeated a refresh and <got the same answer|got nothing>[ in the name of {who}]"},
	RefreshReused:   {"refresh.reused", Access, plain, "an old refresh token was used again[ by {client}], so what it belonged to was ended[ for {who}]"},
	CodeIssued:      {"code.issued", Routine, plain, "{who} <let|was not allowed to let> [{client}|an application] act for them[ with {scope}]"},
	CodeReused:      {"code.reused", Access, plain, "an authorization code was used twice[ by {client}], so what it issued was ended[ for {who}]"},
	TokenRevoked:    {"token.revoked", Access, plain, "a token <was|was not> revoked[ by {client}][ for {who}]"},
	TokenRefused:    {"token.refused", Access, plain, "a token was refused[ to {client}][ for {resource}][ in the name of {who}]"},
	TokenExchanged:  {"token.exchanged", Access, plain, "[{client}|an application] <got|was not given> a token[ for {resource}][ to act in the name of {who}]"},
	AssertionReused: {"assertion.reused", Access, plain, "an assertion that was taken before came again[ from {client}]"},
	GrantOpened:     {"grant.opened", Access, plain, "[{client}|an application] <may act|may not act>[ with {scope}][ in the name of {who}]"},
	ProofSeen:       {"proof.seen", Access, plain, "{who} proved possession of a key"},
	RefreshLost:     {"refresh.lost", Routine, plain, "the answer to a refresh did not arrive[ in the name of {who}]"},
	DeviceAsked:     {"device.asked", Routine, plain, "[{client}|an application] <asked|was not allowed to ask> to be signed in by code[, from {network}]"},
	DeviceOpened:    {"device.opened", Access, plain, "{who} <entered|was not allowed to enter> the code of a device[ for {client}][, which asked from {network}]"},
	DeviceApproved:  {"device.approved", Access, plain, "{who} <let|was not allowed to let> a device[ that calls itself {host}] act for them[ with {client}][ with {scope}]"},
	DeviceDenied:    {"device.denied", Access, plain, "{who} said no to a device[ that calls itself {host}][ for {client}]"},
	DeviceTried:     {"device.tried", Access, plain, "{who} <typed|typed too often> a code of a device"},
	DeviceReused:    {"device.reused", Access, plain, "a device code was used twice[ by {client}], so what it issued was ended[ for {who}]"},
	CIBAAsked:       {"ciba.asked", Access, plain, "[{client}|an application] <asked|was not allowed to ask> [{who}|somebody] to let it act for them[, from {network}]"},
	CIBAApproved:    {"ciba.approved", Access, plain, "{who} <let|was not allowed to let> [{client}|an application] act for them, as it had asked[ with {scope}]"},
	CIBADenied:      {"ciba.denied", Access, plain, "{who} said no to [{client}|an application][: {why}]"},
	CIBATried:       {"ciba.tried", Access, plain, "{who} <typed|typed too often> the number that [{client}|an application] shows"},
	CIBAReported:    {"ciba.reported", Access, plain, "{who} <reported|was not allowed to report> that they did not start what [{client}|an application] asked"},
	CIBAReused:      {"ciba.reused", Access, plain, "a backchannel authentication was fetched twice[ by {client}], so what it gave was ended[ for {who}]"},
	GrantEnded:      {"grant.ended", Access, plain, "{who} <took back|was not allowed to take back> what [{client}|an application] may do[ for {whom}]"},

	SessionOpened:    {"session.opened", Access, plain, "{who} <signed in|was not allowed to sign in>[ with {with}][ ({acr})]"},
	SessionEnded:     {"session.ended", Access, plain, "{who} <ended|was not allowed to end> a session[ of {whom}]"},
	SigninRefused:    {"signin.refused", Access, plain, "{who} was not let in[ with {with}]"},
	StepUpDone:       {"stepup.done", Access, plain, "{who} <proved again|was not allowed to prove again> that it is them[ with {with}][ ({acr})]"},
	ConsentGiven:     {"consent.given", Access, plain, "{who} <agreed|was not allowed to agree> that [{client}|an application] may use[ {scope}| their account]"},
	ConsentWithdrawn: {"consent.withdrawn", Access, plain, "{who} <withdrew|was not allowed to withdraw> their consent[ for {client}]"},
	DeviceSeen:       {"device.seen", Access, plain, "{who} used a new device[, {name}]"},
	DeviceEnded:      {"device.ended", Access, plain, "{who} <signed out|was not allowed to sign out> a device[ of {whom}][, {name}]"},
	SessionSeen:      {"session.seen", Access, plain, "{who} used a session"},
	StepUpAsked:      {"stepup.asked", Access, plain, "{who} <was asked|was asked too often> to prove again that it is them[ by {client}]"},
	StepUpRefused:    {"stepup.refused", Access, plain, "{who} did not prove again that it is them[ with {with}]"},

	FactorEnrolled: {"factor.enrolled", Identity, critical, "{who} <added|was not allowed to add> [{with}|a way to sign in][, {name}]"},
	FactorRemoved:  {"factor.removed", Identity, critical, "{who} <removed|was not allowed to remove> [{with}|a way to sign in][, {name}][ of {whom}]"},
	FactorRenamed:  {"factor.renamed", Identity, plain, "{who} <renamed|was not allowed to rename> [{with}|a way to sign in][ to {name}]"},
	FactorUsed:     {"factor.used", Access, plain, "{who} <used|could not use> [{with}|a way to sign in][, {name}]"},

	FactorTried:       {"factor.tried", Access, plain, "somebody tried [{with}|a way to sign in] for [{who}|an account]"},
	FactorMissed:      {"factor.missed", Access, plain, "somebody got [{with}|a way to sign in] wrong for [{who}|an account][ from {network}]"},
	FactorLocked:      {"factor.locked", Access, plain, "[{with}|a way to sign in] was got wrong too often for [{who}|an account], so no more is looked at from there for a while[, last from {network}]"},
	FactorOff:         {"factor.off", Identity, plain, "[{with}|a way to sign in] of [{who}|an account] was got wrong a hundred times in a row and is off from there"},
	FactorReplaced:    {"factor.replaced", Identity, critical, "{who} <replaced|was not allowed to replace> [{with}|a way to sign in][, {name}]"},
	FactorRefreshed:   {"factor.refreshed", Identity, plain, "the password of {who} is kept in a stronger form"},
	FactorAllowed:     {"factor.allowed", Authority, critical, "{who} <allowed|could not allow> people to sign in with [{with}|a further factor]"},
	FactorForbidden:   {"factor.forbidden", Authority, critical, "{who} <stopped|could not stop> people from signing in with [{with}|a factor]"},
	FactorImported:    {"factor.imported", Identity, critical, "{who} <brought|was not allowed to bring> {whom} from another system with [{with}|a factor]"},
	RecoveryCodesMade: {"recovery.codes_made", Identity, critical, "{who} <made|was not allowed to make> new recovery codes"},
	RecoveryStarted:   {"recovery.started", Identity, critical, "a recovery of the account of {who} <was started|was not started> with a recovery code[, from {network}]"},
	RecoveryOpened:    {"recovery.opened", Authority, critical, "{who} <opened and confirmed|was not allowed to open> a recovery[ of the account of {whom}]"},
	RecoveryConfirmed: {"recovery.confirmed", Authority, critical, "{who} <confirmed|was not allowed to confirm> the recovery[ of the account of {whom}]"},
	RecoveryCancelled: {"recovery.cancelled", Authority, critical, "a recovery[ of the account of {whom}| of the account of {who}] <was|was not> cancelled[ by {by}]"},
	RecoveryCompleted: {"recovery.completed", Authority, critical, "{who} <got back|did not get back> into their account[ with {with}]; every session of theirs ended"},
	PassIssued:        {"pass.issued", Authority, critical, "{who} <gave|was not allowed to give> [{whom}|somebody] a temporary pass"},
	PassUsed:          {"pass.used", Access, plain, "{who} <signed in|was not allowed to sign in> with a temporary pass"},

	PersonCreated:       {"person.created", Identity, plain, "{who} <created|was not allowed to create> an account[ for {whom}]"},
	PersonInvited:       {"person.invited", Identity, plain, "{who} <invited|was not allowed to invite> {whom}"},
	InvitationAccepted:  {"invitation.accepted", Identity, critical, "{who} <accepted|could not accept> an invitation"},
	PersonDisabled:      {"person.disabled", Identity, plain, "{who} <disabled|was not allowed to disable> the account of {whom}"},
	PersonEnabled:       {"person.enabled", Identity, plain, "{who} <enabled|was not allowed to enable> the account of {whom}"},
	PersonErased:        {"person.erased", Authority, critical, "{who} <erased|was not allowed to erase> a person"},
	PersonUpdated:       {"person.updated", Identity, plain, "{who} <changed|was not allowed to change> the account[ of {whom}]"},
	InvitationWithdrawn: {"invitation.withdrawn", Identity, plain, "{who} <withdrew|was not allowed to withdraw> an invitation[ of {whom}]"},
	AdminGranted:        {"admin.granted", Authority, critical, "{who} <made|was not allowed to make> {whom} an administrator"},
	AdminWithdrawn:      {"admin.withdrawn", Authority, critical, "{who} <took|was not allowed to take> the administrator role[ from {whom}]"},
	GroupCreated:        {"group.created", Identity, plain, "{who} <created|was not allowed to create> [group {group}|a group]"},
	GroupUpdated:        {"group.updated", Identity, plain, "{who} <changed|was not allowed to change> [group {group}|a group]"},
	GroupEnded:          {"group.ended", Identity, plain, "{who} <removed|was not allowed to remove> [group {group}|a group]"},
	GroupJoined:         {"group.joined", Identity, plain, "{who} <added|was not allowed to add> {whom} to [group {group}|a group]"},
	GroupLeft:           {"group.left", Identity, plain, "{who} <took|was not allowed to take> {whom} out of [group {group}|a group]"},

	ApprovalAsked:   {"approval.asked", Authority, plain, "approval <was|was not> asked[ of {who}][ for {name}]"},
	ApprovalDecided: {"approval.decided", Authority, critical, "{who} <decided|was not allowed to decide>[ {decision} on] [{name}|an approval]"},

	ClientCreated:       {"client.created", Authority, plain, "{who} <registered|was not allowed to register> [{client}|an application]"},
	ClientUpdated:       {"client.updated", Authority, plain, "{who} <changed|was not allowed to change> [{client}|an application]"},
	ClientEnded:         {"client.ended", Authority, plain, "{who} <ended|was not allowed to end> [{client}|an application]"},
	ClientSecretRotated: {"client.secret_rotated", Authority, plain, "{who} <changed|was not allowed to change> the secret of [{client}|an application]"},
	ClientSecretAdded:   {"client.secret_added", Authority, plain, "{who} <gave|was not allowed to give> [{client}|an application] another secret[; the earlier one works until {until}]"},
	ClientSecretRetired: {"client.secret_retired", Authority, plain, "{who} <retired|was not allowed to retire> the earlier secret of [{client}|an application]"},
	ClientEnabled:       {"client.enabled", Authority, plain, "{who} <enabled|was not allowed to enable> [{client}|an application]"},
	ClientsAdmitted:     {"clients.admitted", Authority, plain, "{who} <changed|was not allowed to change> which applications may be used that nobody registered"},
	ClientRuleSet:       {"client.rule_set", Authority, plain, "{who} <decided|was not allowed to decide> about [{name}|{group}|a group of applications][: {trust}]"},
	ClientPinned:        {"client.pinned", Authority, plain, "{who} <pinned|was not allowed to pin> the description of [{name}|an application]"},
	ClientUnpinned:      {"client.unpinned", Authority, plain, "{who} <unpinned|was not allowed to unpin> the description of [{client_id}|an application]"},
	ResourceCreated:     {"resource.created", Authority, plain, "{who} <registered|was not allowed to register> [{resource}|a resource]"},
	ResourceUpdated:     {"resource.updated", Authority, plain, "{who} <changed|was not allowed to change> [{resource}|a resource]"},
	ResourceEnded:       {"resource.ended", Authority, plain, "{who} <ended|was not allowed to end> [{resource}|a resource]"},
	ServiceCreated:      {"service.created", Authority, plain, "{who} <registered|was not allowed to register> [service {service}|a service]"},
	ServiceUpdated:      {"service.updated", Authority, plain, "{who} <changed|was not allowed to change> [service {service}|a service]"},
	ServiceEnded:        {"service.ended", Authority, plain, "{who} <ended|was not allowed to end> [service {service}|a service]"},

	IssuerTrusted: {"issuer.trusted", Authority, critical, "{who} <made|was not allowed to make> [{name}|another issuer] one that says who people are"},
	IssuerUpdated: {"issuer.updated", Authority, critical, "{who} <changed|was not allowed to change> what [{name}|another issuer] is trusted with"},
	IssuerRemoved: {"issuer.removed", Authority, critical, "{who} <stopped|was not allowed to stop> trusting [{name}|another issuer]"},
	IssuerLinked:  {"issuer.linked", Authority, critical, "{who} <let|was not allowed to let> [{name}|another issuer] say who {whom} is"},
	IssuerParted:  {"issuer.parted", Authority, critical, "{who} <ended|was not allowed to end> that [{name}|another issuer] says who {whom} is"},

	KeyPublished: {"key.published", Authority, critical, "a key was published[ for {purpose}][, {kid}]"},
	KeyActivated: {"key.activated", Authority, critical, "a key began to sign[ for {purpose}][, {kid}]"},
	KeyRetired:   {"key.retired", Authority, critical, "a key was retired[ for {purpose}][, {kid}]"},

	LogOpened:       {"log.opened", Log, critical, "the log was opened[, {origin}]"},
	WriterStarted:   {"writer.started", Log, plain, "a server process started[, version {version}]"},
	WriterBeat:      {"writer.beat", Log, plain, "a server process vouched for what it wrote"},
	RefusalsCounted: {"refusals.counted", Log, plain, "requests of unknown callers were refused[: {total}][ between {from}][ and {to}]"},
	SetupOffered:    {"setup.offered", Log, plain, "A setup link was made"},
	SetupCompleted:  {"setup.completed", Authority, critical, "{who} completed the setup and <became|did not become> the first administrator"},
	PolicyRecovered: {"policy.recovered", Authority, critical, "the operator of the machine <put back|could not put back> [policy {policy}|an earlier policy]"},
	PolicyReplayed:  {"policy.replayed", Authority, plain, "{who} <read|was not allowed to read> recorded decisions[, to try policies {policy} on them]"},
	RolloutStarted:  {"rollout.started", Authority, critical, "[{service}|{who}|someone] <began|was not allowed to begin> to roll out [policy {policy}|a policy][, {publication}, which {whom} had signed|, {publication}, which {who} had signed]"},
	RolloutPaused:   {"rollout.paused", Authority, critical, "{who} <paused|was not allowed to pause> [wave {wave} of ]a rollout"},
	RolloutResumed:  {"rollout.resumed", Authority, critical, "{who} <resumed|was not allowed to resume> [wave {wave} of ]a rollout"},
	RolloutUndone:   {"rollout.undone", Authority, critical, "{who} <took back|was not allowed to take back> [wave {wave} of ]a rollout"},
	RolloutReverted: {"rollout.reverted", Authority, critical, "[wave {wave} of ]a rollout took itself back[: {why}][, of {people}]"},
	RolloutFinished: {"rollout.finished", Authority, critical, "{who} <finished|was not allowed to finish> a rollout[, so policy {policy} is in force]"},
	RolloutMet:      {"rollout.met", Access, plain, "{who} met policies that are being rolled out"},
	AdminRecovered:  {"admin.recovered", Authority, critical, "the operator of the machine <recovered|could not recover> an administrator[, {who}]"},
	PolicyPublished: {"policy.published", Authority, critical, "[{service}|{who}|someone] <published|was not allowed to publish> [policy {policy}|a policy][, {publication}, which {whom} had signed|, {publication}, which {who} had signed]"},
	PolicySubmitted: {"policy.submitted", Authority, plain, "[{service}|{who}|someone] <wants|was not allowed to ask for> [policy {policy}|a policy] in force[, {publication}, which waits for a signature]"},
	PolicySigned:    {"policy.signed", Authority, critical, "{who} <signed|was not allowed to sign> [policy {policy}|a policy][, {publication}]"},
	PolicyWithdrawn: {"policy.withdrawn", Authority, plain, "[{service}|{who}|someone] <withdrew|was not allowed to withdraw> [policy {policy}|a policy] that was to come into force[, {publication}]"},
	Migrated:        {"migrated", Log, plain, "the database was migrated[ from {from}][ to {to}]"},
	Restored:        {"restored", Log, critical, "the installation was restored from a backup"},
	WriterLost:      {"writer.lost", Log, plain, "a server process stopped without closing"},

	AuditLost:    {"audit.lost", Log, plain, "a server process found records of its own missing or changed"},
	LogPruned:    {"log.pruned", Log, critical, "[{removed} ]records were moved out of the database[ into {archive}]"},
	HoldPlaced:   {"hold.placed", Authority, plain, "the operator of the machine <placed|could not place> a legal hold[, {hold}]"},
	HoldReleased: {"hold.released", Authority, plain, "the operator of the machine <released|could not release> a legal hold[, {hold}]"},
	RetentionSet: {"retention.set", Authority, plain, "the operator of the machine <set|could not set> how long records are kept"},

	DeploymentRenamed: {"deployment.renamed", Authority, critical, "the operator of the machine <renamed|could not rename> the issuer[ from {from}][ to {to}]"},
	DeploymentAdopted: {"deployment.adopted", Authority, critical, "the operator of the machine <made|could not make> a real deployment of a sample[, {to}]"},

	AlertRaised:          {"alert.raised", Log, plain, "alert: [{title}|something needs a look][, {detail}]"},
	AlertCleared:         {"alert.cleared", Log, plain, "over: [{title}|what an alert was about]"},
	WebhookCreated:       {"webhook.created", Authority, plain, "{who} <made|was not allowed to make> [webhook {name}|a webhook]"},
	WebhookUpdated:       {"webhook.updated", Authority, plain, "{who} <changed|was not allowed to change> [webhook {name}|a webhook]"},
	WebhookEnded:         {"webhook.ended", Authority, plain, "{who} <removed|was not allowed to remove> [webhook {name}|a webhook]"},
	WebhookSecretRotated: {"webhook.secret_rotated", Authority, plain, "{who} <changed|was not allowed to change> the secret of [webhook {name}|a webhook]"},
	DeliveryResent:       {"delivery.resent", Log, plain, "{who} <sent|was not allowed to send> a notice again"},
	DeliveryDiscarded:    {"delivery.discarded", Log, plain, "{who} <discarded|was not allowed to discard> a notice that could not be delivered"},
	SecretLeaked:         {"secret.leaked", Authority, critical, "{who} <reported|was not allowed to report> that [{what}|a secret] leaked[, of {client}][, so {done}]"},
	SignalReported:       {"signal.reported", Access, plain, "{who} <reported|was not allowed to report> a signal of risk[: {signal_kind}][, about {whom}]"},
	SignalWithdrawn:      {"signal.withdrawn", Access, plain, "{who} <withdrew|was not allowed to withdraw> a signal of risk[: {signal_kind}][, about {whom}]"},
	DeviceManaged:        {"device.managed", Authority, critical, "[{service}|{who}|someone] <called|was not allowed to call> a device[, {name},][ of {whom}| of {who}] a managed one[ until {until}]"},
	DeviceUnmanaged:      {"device.unmanaged", Authority, plain, "[{service}|{who}|someone] <took|was not allowed to take> back that a device[, {name},][ of {whom}| of {who}] is a managed one"},
	EmailChanged:         {"email.changed", Identity, plain, "{who} <changed|was not allowed to change> the e-mail address[ of {whom}]"},
	EmailAsked:           {"email.asked", Access, plain, "{who} <asked|was not allowed to ask> for a link that proves an e-mail address"},
	EmailLinked:          {"email.linked", Access, plain, "a link that proves an e-mail address was made[ for {who}]"},
	EmailVerified:        {"email.verified", Identity, plain, "{who} <proved|could not prove> an e-mail address"},

	AccessDecided: {"access.decided", Access, plain, "{who} <may do|may not do> [{action}|something] at [{resource}|a resource server]"},
	ReviewOpened:  {"review.opened", Access, plain, "a review was opened of what was refused[ to {who}| to {service}][ with {client}][: {action}]"},
	ReviewAllowed: {"review.allowed", Authority, critical, "{who} <vouched|was not allowed to vouch> for what was refused[ to {whom}| to {service}][, until {until}]"},
	ReviewRefused: {"review.refused", Authority, plain, "{who} <said|was not allowed to say> that what was refused[ to {whom}| to {service}] was not them[, so {done}]"},
	ReviewClosed:  {"review.closed", Authority, plain, "{who} <closed|was not allowed to close> the review of what was refused[ to {whom}| to {service}]"},
	PageRefused:   {"page.refused", Access, plain, "{who} <looked|was not allowed to look> at a page"},

	QuarantineEntered:   {"quarantine.entered", Log, plain, "the server went into quarantine"},
	QuarantineDismissed: {"quarantine.dismissed", Authority, critical, "the operator of the machine <said|could not say> that nothing was lost when the database moved, which ended the quarantine"},
	DatabaseMoved:       {"database.moved", Log, plain, "the database [is on {to}|moved][, no longer on {from}]"},
	BackupMade:          {"backup.made", Log, plain, "the operator of the machine <made|could not make> a backup"},
	RestoreReplayed:     {"restore.replayed", Authority, critical, "the operator of the machine <replayed|could not replay> an export of the log over a restored backup[: {taken} times something was taken away]"},
	Released:            {"restore.released", Authority, critical, "the operator of the machine <released|could not release> what a restore had suspended[: {what}]"},
	KeysReplaced:        {"keys.replaced", Authority, critical, "the operator of the machine <replaced|could not replace> all keys at once"},
	ClockAccepted:       {"clock.accepted", Log, plain, "the operator of the machine <accepted|could not accept> the clock as it is[: {reason}]"},
	BackupRehearsed:     {"backup.rehearsed", Log, plain, "the operator of the machine <rehearsed|could not rehearse> restoring a backup"},
}

// Known reports whether k is in the table.
func (k Kind) Known() bool { _, ok := kinds[k]; return ok }

// Name is the stable name, "" for a number that is not in the table.
func (k Kind) Name() string { return kinds[k].name }

// String is Name.
func (k Kind) String() string { return k.Name() }

// Class is what the retention of k is set by.
func (k Kind) Class() Class { return kinds[k].class }

// Critical reports whether an act of this kind is answered only when its record
// is in a checkpoint (mechanisms E9). Everything else is answered at commit.
func (k Kind) Critical() bool { return kinds[k].critical }

var byName = sync.OnceValue(func() map[string]Kind {
	m := make(map[string]Kind, len(kinds))
	for k, i := range kinds {
		m[i.name] = k
	}
	return m
})

// KindOf finds a kind by its name.
func KindOf(name string) (Kind, bool) { k, ok := byName()[name]; return k, ok }

// Kinds lists the table by number.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds))
	for k := range kinds {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
