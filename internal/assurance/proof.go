// Package assurance turns proofs into a rung and facts: a pure function of a
// set of Proofs and the time (product, mechanisms A). It knows no storage, no
// protocol and no policy.
package assurance

import "time"

// Method names how something was proved.
type Method string

// The methods of this release; others are added by their issues.
const (
	Passkey       Method = "passkey"
	SecurityKey   Method = "security_key"
	Password      Method = "password"
	TOTP          Method = "totp"
	ClientSecret  Method = "client_secret"
	PrivateKeyJWT Method = "private_key_jwt"
	MTLS          Method = "mtls" // a client certificate of the connection
	DPoP          Method = "dpop"
	Invitation    Method = "invitation" // a single-use link: never a factor, it names who may enrol
	Setup         Method = "setup"      // the setup link: likewise
	TemporaryPass Method = "pass"       // typed by the person, and vouched for by another's passkey when it was made
	LocalRoot     Method = "local_root" // the operator on the host
	Federated     Method = "federated"  // a trusted issuer says so; it counts for what the issuer's registration says
)

// Proof is one event that established something. Everything that establishes
// identity yields Proofs and nothing else does.
type Proof struct {
	Method            Method    `json:"m"`
	Subject           string    `json:"s"`            // who was proved: an actor's id
	Credential        string    `json:"c,omitempty"`  // the factor or key, by id
	At                time.Time `json:"at"`           // when
	Until             time.Time `json:"u,omitzero"`   // when it stops counting; zero: as long as what remembers it lives
	UserVerified      bool      `json:"uv,omitempty"` // WebAuthn UV
	PhishingResistant bool      `json:"pr,omitempty"`
	HardwareBound     bool      `json:"hw,omitempty"`  // backup-ineligible
	Attested          bool      `json:"att,omitempty"` // attestation verified against a trusted root
	Synced            bool      `json:"syn,omitempty"` // backup eligible
	SenderBound       bool      `json:"sb,omitempty"`
	Cap               Rung      `json:"cap,omitempty"` // this event alone reaches no more; None: what its method reaches
	CapUntil          time.Time `json:"cu,omitzero"`   // when Cap stops: a factor on probation. Zero: it never does
	Source            string    `json:"src,omitempty"` // which independent authority vouches (mechanisms F1)
	For               string    `json:"for,omitempty"` // the interaction a step-up was made for; it counts for that one only (mechanisms A21)
}

// Rung is a step of the ladder. The zero value is no assurance at all.
type Rung int

// The rungs of a person; a machine's are m1 to m4 (mechanisms F, issue of its own).
const (
	None     Rung = 0
	Single   Rung = 1
	Multi    Rung = 2
	Phishing Rung = 3 // phr
	Hardware Rung = 4 // phrh
)

// Approval is the kind of a person's sign-off that an ask demands.
type Approval struct {
	Kind  string `json:"kind,omitempty"` // "", "confirm", "approve"
	M     int    `json:"m,omitempty"`
	Group string `json:"group,omitempty"`
}

// Device is what an ask demands of the device.
type Device int

// The device demands, ascending.
const (
	AnyDevice Device = iota
	KnownDevice
	ManagedDevice
)

// Ask is a point of the lattice: what must be shown (product: Freshness,
// approvals and device are separate dimensions, asked for together with a
// rung). MaxAge 0 means any age.
type Ask struct {
	Rung     Rung          `json:"rung"`
	MaxAge   time.Duration `json:"max_age,omitempty"` // nanoseconds
	Approval Approval      `json:"approval,omitzero"`
	Device   Device        `json:"device,omitempty"`
}
