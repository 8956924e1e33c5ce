package notice

import "github.com/countersign-dev/countersign/internal/audit"

// Departures are the kinds of record by which sessions of persons end: at their own
// word, an administrator's, or by a recovery. Which sessions a record ended, storage
// knows.
func Departures() []audit.Kind {
	return []audit.Kind{
		audit.SessionEnded, audit.DeviceEnded, audit.FactorRemoved, audit.RecoveryCompleted, audit.PersonDisabled, audit.PersonErased,
	}
}

// Answers are the kinds of record by which somebody answered what a client asked
// them over the backchannel (CIBA Core).
func Answers() []audit.Kind {
	return []audit.Kind{audit.CIBAApproved, audit.CIBADenied, audit.CIBAReported}
}

// MaxApps is how many clients are told when a session ends, or somebody answers.
const MaxApps = 500
