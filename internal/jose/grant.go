package jose

import (
	"slices"
	"time"
)

// The types of assertions that are grants.
const (
	// TypGrantAssertion is what rfc7523bis recommends; JWT and none do as well.
	TypGrantAssertion = "authorization-grant+jwt"
	// TypIDJAG is of an Identity Assertion Authorization Grant
	// (draft-ietf-oauth-identity-assertion-authz-grant-04).
	TypIDJAG = "oauth-id-jag+jwt"
)

var (
	rowGrantAssertion = row{code: "grant_assertion", noun: "assertion", typs: []string{TypGrantAssertion, "JWT"}, untyped: true}
	rowIDJAG          = row{code: "id_jag", noun: "identity assertion", typs: []string{TypIDJAG}}
	rowAnyGrant       = row{code: "grant_assertion", noun: "assertion", typs: []string{TypGrantAssertion, TypIDJAG, "JWT"}, untyped: true}
)

// GrantAlgorithms are what a trusted issuer may be registered with.
var GrantAlgorithms = []string{ES256, ES384, EdDSA, Ed25519, PS256, RS256}

// GrantAssertion is a verified assertion of a trusted issuer about a person. That
// its JTI was not used before is the caller's to establish, until ExpiresAt, and so
// is what its claims are worth here.
type GrantAssertion struct {
	Subject   string
	Tenant    string // ID-JAG: whose sub it is, "" if the issuer has one
	ClientID  string // who may present it; "" if it does not say (never so in an ID-JAG)
	JTI       string
	IssuedAt  time.Time
	ExpiresAt time.Time
	Scope     string
	Scoped    bool     // it says scope
	Resources []string // that it may be used for; nil if it does not say
	Details   string   // authorization_details, as JSON; "" if it does not say
	ACR       string
	AMR       []string
	AuthTime  time.Time // zero if it does not say
	Acting    bool      // it names an actor
	Key       *Confirmation
}

// GrantAssertionWant is what an assertion is held against.
type GrantAssertionWant struct {
	Issuer      string   // whose keys are given
	Audiences   []string // ours: one of them MUST be the only audience
	IDJAG       bool     // of that type, instead of a plain one
	Algorithms  []string // of the issuer's registration; nil: AssertionAlgorithms
	MaxLifetime time.Duration
	Now         time.Time
	Leeway      time.Duration
}

// GrantIssuerUnverified gives the issuer that an assertion says it is from, so that
// its keys can be found, and whether it calls itself an ID-JAG. Nothing about it is
// checked.
func GrantIssuerUnverified(assertion string) (issuer string, idJAG bool, err error) {
	r := &rowAnyGrant
	o, fault := r.open(assertion, GrantAlgorithms, MaxToken)
	if fault != nil {
		return "", false, fault
	}
	top, ok := readObject(o.payload)
	c := claims{object: top}
	iss := c.str("iss")
	if !ok || iss == "" {
		return "", false, r.malformed("names no issuer")
	}
	_, named := rowIDJAG.open(assertion, GrantAlgorithms, MaxToken)
	return iss, named == nil, nil
}

// VerifyGrantAssertion checks an assertion that is presented as a grant (RFC 7523
// §3, rfc7523bis; for an ID-JAG its draft, §4.4): type, algorithm, signature, the
// issuer, one audience and no other, times, a jti, and a life that is no longer
// than allowed. An ID-JAG names its client. Its errors are problem.Unauthenticated
// with codes grant_assertion_ or id_jag_ and malformed, type, algorithm, key,
// signature, issuer, audience, expired, not_yet_valid and lifetime.
func VerifyGrantAssertion(assertion string, keys KeySet, want GrantAssertionWant) (GrantAssertion, error) {
	r, required := &rowGrantAssertion, []string{"iss", "sub", "aud", "exp", "iat", "jti"}
	if want.IDJAG {
		r, required = &rowIDJAG, append(required, "client_id")
	}
	algs := want.Algorithms
	if algs == nil {
		algs = AssertionAlgorithms
	}
	top, fault := r.signed(assertion, keys, algs, MaxToken)
	if fault != nil {
		return GrantAssertion{}, fault
	}
	c := claims{object: top}
	iss, aud, exp, iat := c.str("iss"), c.audience(), c.date("exp"), c.date("iat")
	a := readGrant(&c)
	if fault := r.complete(&c, required...); fault != nil {
		return GrantAssertion{}, fault
	}
	switch {
	case len(a.JTI) > maxJTI || len(a.Subject) > MaxSubject || len(a.Tenant) > MaxSubject:
		return GrantAssertion{}, r.malformed("has a jti, sub or tenant that is too long")
	case want.Issuer == "" || iss != want.Issuer:
		return GrantAssertion{}, r.fail("issuer", "is not by this issuer")
	case len(aud) != 1 || !slices.Contains(want.Audiences, aud[0]):
		return GrantAssertion{}, r.fail("audience", "must have this server as its only audience")
	}
	if fault := r.timely(&c, iat, exp, want.Now, want.Leeway); fault != nil {
		return GrantAssertion{}, fault
	}
	a.IssuedAt, a.ExpiresAt = iat.Time(), exp.Time()
	if a.ExpiresAt.Sub(a.IssuedAt) > want.MaxLifetime || a.ExpiresAt.After(want.Now.Add(want.MaxLifetime+want.Leeway)) {
		return GrantAssertion{}, r.fail("lifetime", "is good for longer than its issuer may say")
	}
	return a, nil
}

// MaxSubject is how long a subject or tenant of an assertion may be, in bytes.
const MaxSubject = 255

func readGrant(c *claims) GrantAssertion {
	a := GrantAssertion{
		Subject: c.str("sub"), Tenant: c.str("tenant"), ClientID: c.str("client_id"), JTI: c.str("jti"),
		Scope: c.str("scope"), Scoped: c.has("scope"), Resources: c.texts("resource"),
		Details: c.raw("authorization_details"), ACR: c.str("acr"), AMR: c.strs("amr"), AuthTime: c.date("auth_time").Time(), Acting: c.has("act"),
	}
	if c.has("resource") && len(a.Resources) == 0 { // for none is not for any
		c.wrong("resource")
	}
	if cnf, ok := c.sub("cnf"); ok { // an ill-typed cnf must not read as no cnf
		a.Key = &Confirmation{JKT: cnf.str("jkt"), X5TS256: cnf.str("x5t#S256")}
		if cnf.bad != "" || *a.Key == (Confirmation{}) {
			c.wrong("cnf")
		}
	}
	return a
}
