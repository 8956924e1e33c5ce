package countersign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/jose"
)

// Rung is a step of the ladder of assurance; 0 is none.
type Rung = assurance.Rung

// The rungs of a person.
const (
	Single   = assurance.Single   // one factor
	Multi    = assurance.Multi    // two factors, of which one may be typed
	Phishing = assurance.Phishing // phr: a user-verified passkey or security key
	Hardware = assurance.Hardware // phrh: the same, in attested hardware
)

var ladder = assurance.Default()

// Actor is who acts for the subject of a token (RFC 8693 section 4.1). Only
// the outermost decides anything.
type Actor = jose.Actor

// Token is a verified access token. It is shared between requests: what it
// holds is read, not changed.
type Token struct {
	Subject   string
	ClientID  string
	ID        string // jti: the id of the issuer's record
	Audience  string // the registered spelling
	IssuedAt  time.Time
	ExpiresAt time.Time

	ACR       string    // "" if the token is of no person, or says nothing
	AMR       []string  // RFC 8176
	AuthTime  time.Time // of the oldest event that ACR needed; zero if not said
	Act       *Actor    // nil: the subject itself
	SessionID string
	Details   json.RawMessage // authorization_details: a JSON array (RFC 9396); nil if there are none
	Lin       []string        // handles of the ancestors whose end ends this token
	Scheme    string          // "DPoP" if bound to a key, else "Bearer"

	scopes  []string
	rung    Rung
	machine Rung // proved by the outermost actor, or the machine itself
	present bool // mechanisms G3
	bound   bool // to a key or certificate
	handles []handle
	raw     string
}

// Scope gives the scopes of the token.
func (t *Token) Scope() []string { return t.scopes }

// HasScope reports whether the token has the scope.
func (t *Token) HasScope(scope string) bool {
	for _, s := range t.scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// Rung is the rung that ACR names; an unknown value is 0.
func (t *Token) Rung() Rung { return t.rung }

// Person reports whether the token carries a person's authority, be it used by
// themselves or by somebody for them.
func (t *Token) Person() bool {
	return strings.HasPrefix(t.Subject, "usr_") || !t.AuthTime.IsZero() || t.ACR != ""
}

// Claims decodes the claims of the token into v, for those that Token does not
// name, as encoding/json does.
func (t *Token) Claims(v any) error {
	_, rest, _ := strings.Cut(t.raw, ".")
	payload, _, _ := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func newToken(raw string, c *jose.AccessTokenClaims) *Token {
	t := &Token{
		Subject: c.Subject, ClientID: c.ClientID, ID: c.JTI, Audience: c.Audience[0],
		IssuedAt: c.IssuedAt.Time(), ExpiresAt: c.ExpiresAt.Time(),
		ACR: c.ACR, AMR: c.AMR, AuthTime: c.AuthTime.Time(), Act: c.Actor, SessionID: c.SessionID, Details: c.AuthorizationDetails,
		Lin: c.Lineage, Scheme: "Bearer", scopes: strings.Fields(c.Scope), rung: ladder.RungOf(c.ACR), raw: raw,
	}
	if c.Confirmation != nil && c.Confirmation.JKT != "" { // one bound to a certificate alone is presented as Bearer
		t.Scheme = "DPoP"
	}
	t.bound = c.Confirmation != nil
	t.present, t.machine = c.Present(), assurance.MachineRung(c.MachineRung())
	return t
}

type tokenKey struct{}

// admitted is a request that Protect let through.
type admitted struct {
	token    *Token
	verifier *Verifier
}

// TokenFrom gives the token of a request that Protect let through; nil
// otherwise.
func TokenFrom(ctx context.Context) *Token {
	if a, ok := ctx.Value(tokenKey{}).(*admitted); ok {
		return a.token
	}
	return nil
}
