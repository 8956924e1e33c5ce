package factor

import (
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Kind is what sort of factor one is. The text is stored and in the API, and
// never changes.
type Kind string

// The kinds.
const (
	KindPasskey  Kind = "passkey"
	KindPassword Kind = "password"
	KindTOTP     Kind = "totp"
)

type kindInfo struct {
	max    int  // how many live ones a person may have
	choice bool // an administrator decides whether it may be used
	word   string
}

var kinds = map[Kind]kindInfo{
	KindPasskey:  {20, false, "passkey"}, // always allowed: it is what nobody can be locked out of by guessing
	KindPassword: {1, true, "password"},
	KindTOTP:     {3, true, "authenticator app"},
}

// Probation is how long a passkey that was added with no more than a password and
// a code counts for no more than these: whoever got hold of both gains nothing
// by adding one, and the person is told and can remove it.
const Probation = 24 * time.Hour

// Max is how many live factors of the kind a person may have; 0 for a kind that
// is not known.
func (k Kind) Max() int { return kinds[k].max }

// Word is what people call the kind.
func (k Kind) Word() string { return kinds[k].word }

// Full is the problem of a person who has as many factors of the kind as they
// may.
func (k Kind) Full() *problem.Error {
	return problem.Newf(problem.Conflict, "factors_full", "There can be %d of this sort and no more: %s.", k.Max(), k.Word()).
		WithHint("Remove one that is no longer used first.")
}

// Kinds are the kinds that may be used; a passkey always may.
type Kinds map[Kind]bool

// Typed reports whether people may sign in with a password and a code.
func (k Kinds) Typed() bool { return k[KindPassword] && k[KindTOTP] }

// ByDefault are the kinds that may be used where no administrator has decided.
// A password with a code is among them: nobody is shut out for want of a
// passkey or of JavaScript, it opens nothing that asks for phishing resistance,
// and one act turns it off.
func ByDefault() Kinds { return Kinds{KindPasskey: true, KindPassword: true, KindTOTP: true} }

// CheckAllow reads the name of a kind that an administrator may allow or not.
func CheckAllow(name string) (Kind, error) {
	k := Kind(name)
	if !kinds[k].choice {
		return "", problem.Newf(problem.Invalid, "factor_kind_invalid", "%q is no kind of factor that can be switched on or off.", name).
			WithHint("The kinds are password and totp.")
	}
	return k, nil
}

// Allow lets people use a kind of factor, or not. While it is off nobody signs in
// with it, and sessions that began with it can do nothing; what apps were given
// before goes on until it is ended.
type Allow struct {
	Kind Kind
	On   bool
}

// Change marks Allow as a change.
func (Allow) Change() {}

// Factor is what factors of every kind have in common.
type Factor struct {
	ID             string // cred_…, the lineage node
	Person         string
	Kind           Kind
	Name           string
	CreatedAt      time.Time
	UsedAt         time.Time // zero: never
	ProbationUntil time.Time // until then it counts for two factors and no more; zero: no probation
	Node           lineage.Node
}

// Secret is a factor that a sealed secret of the deployment's verifies.
type Secret struct {
	Factor
	Sealed []byte // see SecretData
	Step   int64  // of a one-time code: the last step that was accepted; no step is accepted twice
}

// SecretData names a secret's row, column and form in what it is sealed with
// (security, invariant 10): nothing that was sealed for one factor opens as
// another's.
func SecretData(id string, k Kind) []byte {
	return []byte("factor\x00" + id + "\x00sealed\x00" + string(k) + "\x001")
}

// Add gives a person a further secret factor, if they have fewer than its kind's
// Max and the kind is allowed.
type Add struct{ Secret }

// Replace ends a factor of a person's for another of the same kind; sessions that
// descend from the old one end.
type Replace struct {
	Old string
	New Secret
}

// Used remembers that a secret factor was accepted. A Step that is not greater
// than the last one loses: the same code is accepted once, however many present
// it at once (code_used). A kind that is off meanwhile is refused. A Sealed that
// is given takes the place of the old form.
type Used struct {
	ID     string
	Kind   Kind
	Step   int64 // 0: the kind has none
	Sealed []byte
	At     time.Time
}

// Change marks Add as a change.
func (Add) Change() {}

// Change marks Replace as a change.
func (Replace) Change() {}

// Change marks Used as a change.
func (Used) Change() {}

// Proof is what accepting the factor at a time proves. A proof made with a
// factor on probation is worth two factors at most until the probation ends.
func (f Factor) Proof(m assurance.Method, at time.Time) assurance.Proof {
	return probation(assurance.Proof{Method: m, Subject: f.Person, Credential: f.ID, At: at.UTC().Truncate(time.Microsecond)}, f.ProbationUntil)
}

func probation(p assurance.Proof, until time.Time) assurance.Proof {
	if !until.IsZero() && p.At.Before(until) {
		p.Cap, p.CapUntil = assurance.Multi, until
	}
	return p
}

// Reach is the highest rung that a person can show with factors.
func Reach(all []Factor, allowed Kinds, now time.Time) assurance.Rung {
	have := map[Kind]bool{}
	for _, f := range all {
		have[f.Kind] = true
		if f.Kind == KindPasskey && !now.Before(f.ProbationUntil) {
			return assurance.Phishing
		}
	}
	switch typed := allowed.Typed() && have[KindPassword] && have[KindTOTP]; {
	case have[KindPasskey], typed:
		return assurance.Multi
	case len(all) > 0:
		return assurance.Single
	}
	return assurance.None
}

// Best is the highest rung that a person can show with all factors that they have
// enrolled; keys are the passkeys among them, with what was said of each.
func Best(all []Factor, keys []Passkey, allowed Kinds, now time.Time) assurance.Rung {
	for _, k := range keys {
		if !k.BackupEligible && k.Attestation == "verified" && !now.Before(k.ProbationUntil) {
			return assurance.Hardware
		}
	}
	return Reach(all, allowed, now)
}

// Can says which asks somebody can meet whose highest rung is best.
func Can(best assurance.Rung) func(assurance.Ask) bool {
	return func(a assurance.Ask) bool { return a.Rung <= best && a.Approval == assurance.Approval{} }
}
