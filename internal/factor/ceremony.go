package factor

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Ceremony runs WebAuthn registrations and assertions (WebAuthn Level 3 §7) for
// one relying party. It keeps nothing: challenges are checked by their MAC and
// spent by the act that uses what the ceremony yields.
type Ceremony struct {
	web    *webauthn.WebAuthn
	rpID   string
	origin string
	keys   func() [][]byte
}

// NewCeremony makes the ceremonies of a relying party: its id, the one origin
// that may run them, byte for byte and port included, and the keys of
// challenges, newest first.
func NewCeremony(rpID, origin string, keys func() [][]byte) (*Ceremony, error) {
	w, err := webauthn.New(&webauthn.Config{
		RPID: rpID, RPDisplayName: "Countersign", RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferDirectAttestation,
		// Outputs nobody asked for are not signed and never read; some browsers and
		// password managers send them, so they do not fail a ceremony.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, err
	}
	return &Ceremony{web: w, rpID: rpID, origin: origin, keys: keys}, nil
}

// Holder is for whom a ceremony runs.
type Holder struct {
	Handle   []byte // WebAuthn user handle: random, says nothing about the person
	Username string
	Name     string
	Passkeys []Passkey // live ones
}

// HandleOf is the user handle of a person: the bytes of the random subject.
func HandleOf(subject string) []byte {
	b, _ := id.Parse(id.Person, subject)
	return b[:]
}

// holder adapts Holder to the library.
type holder struct{ Holder }

func (h holder) WebAuthnID() []byte          { return h.Handle }
func (h holder) WebAuthnName() string        { return h.Username }
func (h holder) WebAuthnDisplayName() string { return h.Name }
func (h holder) WebAuthnCredentials() []webauthn.Credential {
	out := make([]webauthn.Credential, 0, len(h.Passkeys))
	for _, p := range h.Passkeys {
		c := webauthn.Credential{ID: p.CredentialID, PublicKey: p.PublicKey}
		c.Flags.UserPresent, c.Flags.UserVerified = true, p.UserVerified
		c.Flags.BackupEligible, c.Flags.BackupState = p.BackupEligible, p.BackupState
		c.Authenticator.SignCount = p.SignCount
		for _, t := range p.Transports {
			c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
		}
		out = append(out, c)
	}
	return out
}

func descriptors(h Holder) []protocol.CredentialDescriptor {
	var out []protocol.CredentialDescriptor
	for _, c := range (holder{h}).WebAuthnCredentials() {
		out = append(out, c.Descriptor())
	}
	return out
}

// EnrolOptions are the creation options for a new passkey of h, bound to bound.
func (c *Ceremony) EnrolOptions(h Holder, bound string, now time.Time) (json.RawMessage, error) {
	o, _, err := c.web.BeginRegistration(holder{h},
		webauthn.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		}),
		webauthn.WithExclusions(descriptors(h)))
	if err != nil {
		return nil, err
	}
	o.Response.Challenge = NewChallenge(c.keys()[0], once.Enrol, bound, now)
	o.Response.Timeout = int(ChallengeLifetime.Milliseconds())
	return json.Marshal(o)
}

// Enrolled verifies a registration and gives the passkey to enrol, the proof
// that making it was, and the spend of its challenge.
func (c *Ceremony) Enrolled(h Holder, person, bound string, response []byte, now time.Time) (Passkey, assurance.Proof, once.Spend, error) {
	spend, session, err := c.session(once.Enrol, bound, response, now)
	if err != nil {
		return Passkey{}, assurance.Proof{}, once.Spend{}, err
	}
	session.UserID = h.Handle
	session.CredParams = webauthn.CredentialParametersDefault()
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Passkey{}, assurance.Proof{}, once.Spend{}, refused(err)
	}
	if parsed.Response.CollectedClientData.Origin != c.origin { // the library forgives letter case and a slash
		return Passkey{}, assurance.Proof{}, once.Spend{}, refused(nil)
	}
	cred, err := c.web.CreateCredential(holder{h}, session, parsed)
	if err != nil {
		return Passkey{}, assurance.Proof{}, once.Spend{}, refused(err)
	}
	if len(cred.ID) > 1023 {
		return Passkey{}, assurance.Proof{}, once.Spend{}, refused(nil)
	}
	aaguid, _ := uuid.FromBytes(cred.Authenticator.AAGUID)
	p := Passkey{
		ID: id.New(id.Credential), Person: person, CredentialID: cred.ID, PublicKey: cred.PublicKey, AAGUID: aaguid.String(),
		SignCount: cred.Authenticator.SignCount, UserVerified: cred.Flags.UserVerified, BackupEligible: cred.Flags.BackupEligible,
		BackupState: cred.Flags.BackupState, Attestation: attestation(cred), AttestationObj: cred.Attestation.Object,
		ClientData: cred.Attestation.ClientDataJSON, RPID: c.rpID, CreatedAt: now, UsedAt: now,
	}
	for _, t := range cred.Transport {
		p.Transports = append(p.Transports, string(t))
	}
	return p, p.proof(now, cred.Flags.UserVerified), spend, nil
}

// attestation is what the attestation statement is worth: "verified" needs a
// trusted root (the authenticator metadata, which an operator supplies); a
// statement that only verifies against itself says no more than "self".
func attestation(c *webauthn.Credential) string {
	if c.AttestationFormat == "none" || c.AttestationFormat == "" {
		return "none"
	}
	return "self"
}

// SignInOptions are the request options of a sign-in: discoverable, so that no
// account is named and none can be probed.
func (c *Ceremony) SignInOptions(bound string, now time.Time) (json.RawMessage, error) {
	return c.options(once.SignIn, nil, bound, now)
}

// StepUpOptions are the request options for one person's passkeys.
func (c *Ceremony) StepUpOptions(h Holder, bound string, now time.Time) (json.RawMessage, error) {
	return c.options(once.StepUp, descriptors(h), bound, now)
}

func (c *Ceremony) options(p once.Purpose, allowed []protocol.CredentialDescriptor, bound string, now time.Time) (json.RawMessage, error) {
	return c.asking(NewChallenge(c.keys()[0], p, bound, now), allowed, ChallengeLifetime)
}

// asking are the request options for a challenge, which ends after a time.
func (c *Ceremony) asking(challenge []byte, allowed []protocol.CredentialDescriptor, life time.Duration) (json.RawMessage, error) {
	o, _, err := c.web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, err
	}
	o.Response.Challenge = challenge
	o.Response.Timeout = int(life.Milliseconds())
	o.Response.AllowedCredentials = allowed
	return json.Marshal(o)
}

// Asserted is what an assertion yields.
type Asserted struct {
	Use     Use
	Proof   assurance.Proof
	Spend   once.Spend
	Counter bool // the signature counter went back: an alarm, and a refusal for keys that cannot be copied
}

// Find gives whose passkey an assertion is of, by the names that it brings.
type Find func(credentialID, handle []byte) (Holder, Passkey, error)

// Assert verifies an assertion made for purpose p (once.SignIn or once.StepUp) by
// the passkey that find gives for the credential id and user handle. Everything
// standards 9.3 lists is checked, by the library or here.
func (c *Ceremony) Assert(p once.Purpose, bound string, response []byte, now time.Time, find Find) (Asserted, error) {
	spend, session, err := c.session(p, bound, response, now)
	if err != nil {
		return Asserted{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Asserted{}, refused(err)
	}
	if len(parsed.Response.UserHandle) == 0 && p == once.SignIn {
		return Asserted{}, refused(nil)
	}
	_, got, err := c.assert(session, parsed, now, find)
	if err != nil {
		return got, err
	}
	got.Spend = spend
	return got, nil
}

// assert verifies an assertion of a challenge that is genuine (mechanisms B11, B12),
// and gives the passkey that made it. What it spends is for the caller to say.
func (c *Ceremony) assert(session webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData, now time.Time, find Find) (Passkey, Asserted, error) {
	var none Passkey
	if parsed.Response.CollectedClientData.Origin != c.origin {
		return none, Asserted{}, refused(nil)
	}
	handle := parsed.Response.UserHandle
	h, key, err := find(parsed.RawID, handle)
	if err != nil {
		return none, Asserted{}, err
	}
	if len(handle) > 0 && !bytes.Equal(handle, h.Handle) || !bytes.Equal(parsed.RawID, key.CredentialID) || key.RPID != c.rpID {
		return none, Asserted{}, refused(nil)
	}
	h.Passkeys = []Passkey{key}
	session.UserID = h.Handle
	session.AllowedCredentialIDs = [][]byte{key.CredentialID}
	cred, err := c.web.ValidateLogin(holder{h}, session, parsed)
	if err != nil {
		return none, Asserted{}, refused(err)
	}
	verified := parsed.Response.AuthenticatorData.Flags.HasUserVerified()
	count := parsed.Response.AuthenticatorData.Counter
	back := key.SignCount > 0 && count <= key.SignCount
	if back && !key.BackupEligible {
		return none, Asserted{Counter: true}, problem.New(problem.Denied, "factor_counter", "This passkey's counter went back: a copy of it may exist. It was not accepted.").
			WithHint("Use another passkey, then remove this one.")
	}
	return key, Asserted{
		Use:     Use{ID: key.ID, SignCount: max(count, key.SignCount), BackupState: cred.Flags.BackupState, At: now},
		Proof:   key.proof(now, verified),
		Counter: back,
	}, nil
}

// session is the library's session for a response whose challenge is genuine.
func (c *Ceremony) session(p once.Purpose, bound string, response []byte, now time.Time) (once.Spend, webauthn.SessionData, error) {
	text, err := challengeOf(response)
	if err != nil {
		return once.Spend{}, webauthn.SessionData{}, err
	}
	spend, err := CheckChallenge(c.keys(), p, bound, text, now)
	if err != nil {
		return once.Spend{}, webauthn.SessionData{}, err
	}
	return spend, c.expecting(text), nil
}

// expecting is the library's session for a genuine challenge. When one ends is judged
// by the clock that is given; the library would by that of the machine.
func (c *Ceremony) expecting(challenge string) webauthn.SessionData {
	return webauthn.SessionData{Challenge: challenge, RelyingPartyID: c.rpID, UserVerification: protocol.VerificationRequired}
}

// Proof is what using the passkey at a time proves, by whoever it verified.
func (p Passkey) Proof(at time.Time) assurance.Proof { return p.proof(at, true) }

// proof is what using the passkey proves.
func (p Passkey) proof(at time.Time, verified bool) assurance.Proof {
	return probation(assurance.Proof{
		Method: assurance.Passkey, Subject: p.Person, Credential: p.ID, At: at.UTC().Truncate(time.Microsecond), UserVerified: verified,
		PhishingResistant: true, HardwareBound: !p.BackupEligible, Attested: p.Attestation == "verified", Synced: p.BackupEligible,
	}, p.ProbationUntil)
}

// refused is the one answer to a ceremony that did not verify; why is for the
// log.
func refused(err error) error {
	p := problem.New(problem.Unauthenticated, "passkey_refused", "That passkey could not be verified here.").
		WithHint("Try again, or use another passkey.")
	if err != nil {
		return p.Because(err)
	}
	return p
}
