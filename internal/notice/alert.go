package notice

import (
	"fmt"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/once"
)

// Severity says how an alert is told.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // something is being lost or taken: act now
	Warning  Severity = "warning"  // something is wrong: look today
	Info     Severity = "info"     // worth knowing
)

// Routes says where alerts of a severity go. All stand in the log, which is where
// webhooks hear of them, and in the metrics.
func (s Severity) Routes() (mail bool) { return s == Critical || s == Warning }

// Alert is a rule: what is an alert, how bad it is, and what to do.
type Alert struct {
	Name     string
	Severity Severity
	Title    string
	Next     string     // what to do
	kind     audit.Kind // that raises it; 0: a state or a look at the facts
	State    bool       // it lasts until its state is over
	// Direct says that the state is the log's own: it is told without waiting for
	// the log, which may be what stands still.
	Direct bool
	per    time.Duration // not raised again for the same subject within
}

// perRule is how often a rule raises an alert in an hour, whatever its subjects:
// an attacker cannot bury administrators in mail.
const perRule = 10

// The names of alerts that are not raised by a kind of record.
const (
	BroadToken     = "broad_token"
	LogBehind      = "log_behind"
	DiskHeadroom   = "disk_headroom"
	NotWitnessed   = "checkpoint_not_witnessed"
	PolicyBroken   = "policy_broken"
	DeliveriesDead = "deliveries_dead"
	ReviewOverdue  = "policy_review_overdue"
	ExceptionEnds  = "policy_exception_ends"
)

// alerts is the table.
var alerts = []Alert{
	{
		Name: "refresh_reuse", Severity: Warning, kind: audit.RefreshReused, per: time.Hour, Title: "A refresh token was used twice",
		Next: "A copy of the token exists, or the client stores it wrongly. What it belonged to has ended. Ask the person where the client runs.",
	},
	{
		Name: "code_reuse", Severity: Warning, kind: audit.CodeReused, per: time.Hour, Title: "An authorization code was used twice",
		Next: "What the code gave has ended. Look at the client's redirect and at what sees its URLs.",
	},
	{
		Name: BroadToken, Severity: Warning, per: 24 * time.Hour, Title: "An unusually broad token was issued",
		Next: "Register narrower scopes for the client, or without offline_access.",
	},
	{
		Name: "secret_leaked", Severity: Critical, kind: audit.SecretLeaked, per: time.Minute, Title: "A secret of this deployment leaked",
		Next: "The record says what was ended. A client's secret is not: rotate it, and find where it was kept.",
	},
	{
		Name: "admin_recovered", Severity: Critical, kind: audit.AdminRecovered, per: time.Minute, Title: "An administrator's account is being recovered",
		Next: "Ask whoever has access to the machine. If it was nobody of yours, the machine is taken.",
	},
	{
		Name: "policy_recovered", Severity: Critical, kind: audit.PolicyRecovered, per: time.Minute, Title: "The operator of the machine put policies back",
		Next: "Ask whoever has access to the machine, and see countersign policy history. If it was nobody of yours, the machine is taken.",
	},
	{
		Name: "recovery_started", Severity: Warning, kind: audit.RecoveryStarted, per: time.Minute, Title: "A recovery was started with a recovery code",
		Next: "Ask the person. If it was not them, stop it under Recoveries: somebody has their codes.",
	},
	{
		Name: "recovery_opened", Severity: Warning, kind: audit.RecoveryOpened, per: time.Minute, Title: "An administrator opened a recovery",
		Next: "A second administrator has to confirm it. If nobody asked for it, stop it under Recoveries and ask who opened it.",
	},
	{
		Name: "admin_granted", Severity: Warning, kind: audit.AdminGranted, per: time.Minute, Title: "Somebody became an administrator",
		Next: "Take the role back if it should not be.",
	},
	{
		Name: "review_opened", Severity: Warning, kind: audit.ReviewOpened, per: time.Hour, Title: "Something was refused and waits for your look",
		Next: "Look at it under Reviews, or with countersign review list: say whether it was them.",
	},
	{
		Name: "restored", Severity: Critical, kind: audit.Restored, per: time.Minute, Title: "The deployment was restored from a backup",
		Next: "What happened after the backup is not known to it: see the section on restoring.",
	},
	{
		Name: "audit_lost", Severity: Critical, kind: audit.AuditLost, per: time.Minute, Title: "The audit log is not what the server wrote",
		Next: "Somebody changed the database behind the server. Keep a copy of it, and see who could.",
	},
	{
		Name: LogBehind, Severity: Critical, State: true, Direct: true, Title: "The audit log stands still",
		Next: "Look at the server's log and at the database. Enforcement points stop getting news.",
	},
	{
		Name: DiskHeadroom, Severity: Critical, State: true, Direct: true, Title: "The disk is nearly full",
		Next: "Make room: when it is full no tokens are issued.",
	},
	{
		Name: NotWitnessed, Severity: Warning, State: true, Title: "Checkpoints are not witnessed",
		Next: "Look at the witnesses: until they sign again, going back in time is noticed from this machine only.",
	},
	{
		Name: PolicyBroken, Severity: Critical, State: true, Title: "A policy could not be evaluated",
		Next: "What it speaks of is refused meanwhile. Mend the policy and publish it, or put back what was before: countersignd recover policy.",
	},
	{
		Name: "policy_waits", Severity: Warning, kind: audit.PolicySubmitted, per: time.Minute, Title: "A set of policies waits for a signature",
		Next: "See what differs, and sign it or withdraw it, under Publications; countersign policy publications lists them with their addresses. Nothing of it is in force.",
	},
	{
		Name: "policy_signed", Severity: Warning, kind: audit.PolicySigned, per: time.Minute, Title: "An administrator signed a set of policies",
		Next: "Whoever may submit policies can put it in force within the hour. If whoever signed did not mean to, withdraw it: countersign policy withdraw.",
	},
	{
		Name: "rollout_reverted", Severity: Warning, kind: audit.RolloutReverted, per: time.Minute, Title: "A rollout of policies took itself back",
		Next: "The version in force decides for that wave again. See which rule asked whom with countersign policy rollout status; change the policies, or resume the wave with a larger budget.",
	},
	{
		Name: ReviewOverdue, Severity: Warning, State: true, Title: "Rules of the policies are overdue for review",
		Next: "countersign policy rules --due says who answers for them. Look at each, give it another date in @review or take it out, and publish.",
	},
	{
		Name: ExceptionEnds, Severity: Warning, State: true, Title: "Exceptions from rules end soon",
		Next: "countersign policy exceptions list says for whom and who answers for them. Whoever still needs one has to ask its owner before it ends.",
	},
	{
		Name: DeliveriesDead, Severity: Info, State: true, Title: "Notices could not be delivered",
		Next: "See them with countersign delivery list; send them again once the receiver works.",
	},
}

// AlertNamed finds a rule.
func AlertNamed(name string) (Alert, bool) {
	for _, a := range alerts {
		if a.Name == name {
			return a, true
		}
	}
	return Alert{}, false
}

// AllAlerts lists the table.
func AllAlerts() []Alert { return append([]Alert(nil), alerts...) }

// AlertOf gives the rule that a kind of record raises.
func AlertOf(k audit.Kind) (Alert, bool) {
	for _, a := range alerts {
		if a.kind == k && k != 0 {
			return a, true
		}
	}
	return Alert{}, false
}

// AlertKinds are the kinds of record that raise alerts.
func AlertKinds() (out []audit.Kind) {
	for _, a := range alerts {
		if a.kind != 0 {
			out = append(out, a.kind)
		}
	}
	return out
}

// Subject is what an alert about an event is about: it is raised once for each in
// its time.
func (e Event) Subject() string {
	subject := e.Client
	if len(e.Line.Persons) > 0 {
		subject += " " + e.about(object)
	}
	return subject
}

// Marks are the single-use values of raising an alert: the first for its subject,
// the others are its turns in the hour, of which one has to be free. Both are
// spent by the act that raises it, so that two processes raise it once.
func (a Alert) Marks(subject string, now time.Time) (own once.Spend, turns []once.Spend) {
	mark := func(until time.Time, parts ...string) once.Spend {
		return once.Spend{Purpose: once.AlertMark, Key: once.KeyOf(once.AlertMark, append([]string{a.Name}, parts...)...), Mark: true, Until: until}
	}
	window := func(d time.Duration) (string, time.Time) {
		n := now.UnixMicro() / d.Microseconds()
		return strconv.FormatInt(n, 10), time.UnixMicro((n + 1) * d.Microseconds())
	}
	per := a.per
	if per == 0 {
		per = time.Minute
	}
	n, until := window(per)
	own = mark(until, "subject", subject, n)
	n, until = window(time.Hour)
	for i := range perRule {
		turns = append(turns, mark(until, "turn", strconv.Itoa(i), n))
	}
	return own, turns
}

// BroadScopes is how many scopes of a resource one token may have before it is
// called broad.
const BroadScopes = 12

// Token is what is looked at of a token that was issued.
type Token struct {
	Scopes     []string                // all that it has
	FirstParty bool                    // of a client of the deployment itself
	Elevated   func(scope string) bool // administers or spends, or asks for a phishing-resistant sign-in
	Identity   func(scope string) bool // of OpenID Connect: not counted
}

// Broad says why a token is unusually broad, "" if it is not: it has more than
// BroadScopes scopes, or a client that is not the deployment's own holds a scope
// that administers, spends or asks for a phishing-resistant sign-in for longer
// than the person is there (offline_access).
func (t Token) Broad() string {
	n, offline, elevated := 0, false, ""
	for _, s := range t.Scopes {
		switch {
		case s == "offline_access":
			offline = true
		case t.Identity(s):
		default:
			n++
			if t.Elevated(s) && elevated == "" {
				elevated = s
			}
		}
	}
	switch {
	case n > BroadScopes:
		return fmt.Sprintf("it has %d scopes", n)
	case offline && elevated != "" && !t.FirstParty:
		return "it has " + elevated + " together with offline_access"
	}
	return ""
}
