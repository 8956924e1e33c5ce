package policy

// Action names what is to happen. An action that no policy permits is denied.
// The product's own are declared in policies/schema.cedarschema, which says who
// may be the principal of each; a deployment declares more beside its policies.
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
	TokenExchange   Action = "token.exchange" // for somebody else's token; the client is who acts
	TokenAssert     Action = "token.assert"   // for somebody, at a trusted issuer's word
	TokenIntrospect Action = "token.introspect"
	TokenRevoke     Action = "token.revoke"
	UserInfo        Action = "userinfo"

	DeviceStart   Action = "device.start"   // a device asks; nobody is known yet
	DeviceOpen    Action = "device.open"    // somebody enters its code
	DeviceApprove Action = "device.approve" // and lets it act for them
	DeviceDeny    Action = "device.deny"    // or does not

	CIBAStart   Action = "ciba.start"   // a client asks somebody who has a device of their own
	CIBAApprove Action = "ciba.approve" // who lets it act for them
	CIBADeny    Action = "ciba.deny"    // or does not

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

	RecoveryStart    Action = "recovery.start"    // with a recovery code; it waits
	RecoveryOpen     Action = "recovery.open"     // for somebody else, which confirms it
	RecoveryConfirm  Action = "recovery.confirm"  // somebody else's
	RecoveryCancel   Action = "recovery.cancel"   // also takes a temporary pass back
	RecoveryComplete Action = "recovery.complete" // the passkey is made
	RecoveryRead     Action = "recovery.read"     // those of others
	PassIssue        Action = "pass.issue"        // a temporary pass, for somebody else

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
	IssuerRead         Action = "issuer.read"
	IssuerWrite        Action = "issuer.write" // who is trusted to say who somebody is
	KeyRotate          Action = "key.rotate"
	AuditRead          Action = "audit.read"
	AuditExport        Action = "audit.export"

	CodeMissed     Action = "code.missed"        // a code was presented wrongly too often
	CodeReused     Action = "code.reused"        // a code was presented again
	RefreshLost    Action = "refresh.lost"       // the answer to a refresh did not arrive
	ChallengeGive  Action = "challenge.give"     // somebody is asked for a step-up, and that is counted
	AssertReplayed Action = "assertion.replayed" // an assertion was presented again, by whom it was not made for
	RefreshMisused Action = "refresh.misused"    // a refresh token was presented by another client or key

	WebhookRead    Action = "webhook.read"
	WebhookWrite   Action = "webhook.write"
	DeliveryResend Action = "delivery.resend"
	LeakReport     Action = "leak.report"
	DeviceRead     Action = "device.read"     // which devices somebody signs in from
	DeviceManage   Action = "device.manage"   // one of them is the operator's
	DeviceUnmanage Action = "device.unmanage" // or is not any more

	SignalReport    Action = "signal.report" // of risk, from outside
	SignalRead      Action = "signal.read"
	SignalWithdraw  Action = "signal.withdraw"
	EmailChange     Action = "email.change"
	EmailAsk        Action = "email.ask"    // for a link that proves one's address
	EmailVerify     Action = "email.verify" // with that link
	NotificationRun Action = "notification.run"

	PolicyRead    Action = "policy.read"
	PolicyPublish Action = "policy.publish" // a set is signed, or what was signed before is put back or taken back
	PolicySubmit  Action = "policy.submit"  // a set is handed in to be signed, or carried out once it is
	PolicyReplay  Action = "policy.replay"  // recorded decisions are read, to try other policies on them
	PolicyRecover Action = "policy.recover" // by the operator of the host: the publishers are locked out
	RolloutTend   Action = "rollout.tend"   // the server counts what a rollout costs, and undoes a wave

	ReviewOpen  Action = "review.open"  // something was refused that somebody has to look at
	ReviewRead  Action = "review.read"  // those of anybody
	ReviewAllow Action = "review.allow" // it was them: it counts for less, for a while
	ReviewEnd   Action = "review.end"   // it was not them: everything signed in ends
	ReviewClose Action = "review.close" // nothing follows

	DeploymentRename Action = "deployment.rename"
	DeploymentAdopt  Action = "deployment.adopt"

	QuarantineEnter   Action = "quarantine.enter"   // the database has gone back in time
	QuarantineDismiss Action = "quarantine.dismiss" // it has not, says the operator: it only moved
	DatabaseNote      Action = "database.note"      // where the database is, for it to remember

	AdminRecover  Action = "admin.recover"
	SetupIssue    Action = "setup.issue"
	ProofSpend    Action = "proof.spend" // a DPoP proof or client assertion was used where nothing else changes
	Refusals      Action = "refusals.count"
	Migrate       Action = "migrate"
	SandboxSeed   Action = "sandbox.seed"
	AuditSequence Action = "audit.sequence"
	LogOpen       Action = "log.open"     // a new epoch of the log
	AuditRetain   Action = "audit.retain" // how long records are kept, holds, pruning

	BackupMake     Action = "backup.make"
	BackupRehearse Action = "backup.rehearse"
	BackupRestore  Action = "backup.restore"
	BackupReplay   Action = "backup.replay"   // an export of the log is applied to a restored backup
	RestoreRelease Action = "restore.release" // what leaving a quarantine suspended works again
	KeysReplace    Action = "keys.replace"
	ClockAccept    Action = "clock.accept" // the operator says that the clock is right
	FeedPublish    Action = "feed.publish"
	Expiry         Action = "expiry"
)
