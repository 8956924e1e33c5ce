package jose

import (
	"strings"
	"time"
)

// TypClientAssertion is the typ of a client assertion (rfc7523bis).
const TypClientAssertion = "client-authentication+jwt"

// MaxAssertionLifetime is how far ahead a client assertion may expire.
const MaxAssertionLifetime = 5 * time.Minute

// AssertionAlgorithms are what a client assertion may be signed with unless
// the client's registration says otherwise (FAPI 2.0 §5.4).
var AssertionAlgorithms = []string{ES256, EdDSA, Ed25519, PS256}

// ClientAssertion is a verified client assertion. That its JTI was not used
// before is the caller's to establish, until ExpiresAt.
type ClientAssertion struct {
	ClientID  string
	JTI       string
	IssuedAt  time.Time // zero if it does not say
	ExpiresAt time.Time
}

// ClientAssertionWant is what a client assertion is held against.
type ClientAssertionWant struct {
	Issuer     string   // our issuer identifier: the only audience
	ClientID   string   // whose keys are given
	Algorithms []string // of the client's registration; nil: AssertionAlgorithms
	Now        time.Time
	Leeway     time.Duration
	Ahead      time.Duration // how far iat and nbf may lie ahead, if that is more than Leeway
	// OneAudience refuses an audience that is a list, even of one (FAPI 2.0 §5.3.2.1).
	OneAudience bool
}

// ClientAssertionClaims are the claims a client of ours writes.
type ClientAssertionClaims struct {
	Issuer    string      `json:"iss"` // the client
	Subject   string      `json:"sub"` // the same
	Audience  Audience    `json:"aud"` // the server's issuer identifier
	JTI       string      `json:"jti"`
	IssuedAt  NumericDate `json:"iat"`
	ExpiresAt NumericDate `json:"exp"`
}

// AssertionClientUnverified gives the client that an assertion says it is
// from, so that its keys can be found. Nothing about it is checked.
func AssertionClientUnverified(assertion string) (string, error) {
	r := &rowAssertion
	o, fault := r.open(assertion, []string{ES256, ES384, ES512, PS256, RS256, EdDSA, Ed25519}, MaxToken)
	if fault != nil {
		return "", fault
	}
	top, ok := readObject(o.payload)
	c := claims{object: top}
	id := c.str("sub")
	if !ok || id == "" {
		return "", r.malformed("names no client")
	}
	return id, nil
}

// VerifyClientAssertion checks a client assertion (RFC 7523, rfc7523bis): typ
// client-authentication+jwt, JWT or none; our issuer as the sole audience;
// issuer and subject both the client; a jti; an expiry at most five minutes
// ahead. Its errors are problem.Unauthenticated with codes assertion_malformed,
// _type, _algorithm, _key, _signature, _issuer, _audience, _expired,
// _not_yet_valid and _lifetime.
func VerifyClientAssertion(assertion string, keys KeySet, want ClientAssertionWant) (ClientAssertion, error) {
	r := &rowAssertion
	algs := want.Algorithms
	if algs == nil {
		algs = AssertionAlgorithms
	}
	top, fault := r.signed(assertion, keys, algs, MaxToken)
	if fault != nil {
		return ClientAssertion{}, fault
	}
	c := claims{object: top}
	iss, sub, aud, jti := c.str("iss"), c.str("sub"), c.audience(), c.str("jti")
	exp, iat := c.date("exp"), c.date("iat")
	if fault := r.complete(&c, "iss", "sub", "aud", "exp", "jti"); fault != nil {
		return ClientAssertion{}, fault
	}
	if len(jti) > maxJTI {
		return ClientAssertion{}, r.malformed("has a jti that is too long")
	}
	if want.ClientID == "" || iss != want.ClientID || sub != want.ClientID {
		return ClientAssertion{}, r.fail("issuer", "is not by and for this client")
	}
	if want.Issuer == "" || len(aud) != 1 || aud[0] != want.Issuer {
		return ClientAssertion{}, r.fail("audience", "must have our issuer identifier as its only audience")
	}
	if raw, _ := c.get("aud"); want.OneAudience && strings.HasPrefix(raw, "[") {
		return ClientAssertion{}, r.fail("audience", "must have our issuer identifier as its audience, not a list")
	}
	if fault := r.within(&c, iat, exp, want.Now, want.Leeway, max(want.Leeway, want.Ahead)); fault != nil {
		return ClientAssertion{}, fault
	}
	if exp.Time().After(want.Now.Add(MaxAssertionLifetime + want.Leeway)) {
		return ClientAssertion{}, r.fail("lifetime", "expires more than five minutes from now")
	}
	return ClientAssertion{ClientID: sub, JTI: jti, IssuedAt: iat.Time(), ExpiresAt: exp.Time()}, nil
}
