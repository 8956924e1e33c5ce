package jose

import "time"

// TypRequestObject is the typ of a request object (RFC 9101 §10.8).
const TypRequestObject = "oauth-authz-req+jwt"

// MaxRequestObjectLifetime is how long a request object may be good for, and how
// far back it may begin (FAPI 2.0 Message Signing §5.3).
const MaxRequestObjectLifetime = time.Hour

// RequestObject is a verified request object: the authorization request that a
// client signed. Values are as a form would have them: strings as they are,
// numbers and JSON in their text, arrays of strings one by one.
type RequestObject struct {
	Parameters []Parameter
	JTI        string    // "" if it has none
	IssuedAt   time.Time // zero if it does not say
	ExpiresAt  time.Time
}

// Parameter is one parameter with its values.
type Parameter struct {
	Name   string
	Values []string
}

// RequestObjectWant is what a request object is held against.
type RequestObjectWant struct {
	Issuer     string   // our issuer identifier: must be among the audiences
	ClientID   string   // whose keys are given
	Algorithms []string // of the client's registration; nil: AssertionAlgorithms
	Now        time.Time
	Leeway     time.Duration
	// Backchannel says that it is a signed authentication request (CIBA Core §7.1.1):
	// one that has all of iat, nbf and jti, and need not name its client twice.
	Backchannel bool
}

// aboutJWT are the claims that are about the request object itself, not
// parameters of the request.
var aboutJWT = map[string]bool{"iss": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true, "sub": true}

// VerifyRequestObject checks a request object (RFC 9101 §6): typ
// oauth-authz-req+jwt or none; signed by the client; by the client, for us;
// an expiry at most an hour ahead; and no sub, which would make a client
// assertion of it (RFC 9101 §10.8). Its errors are problem.Unauthenticated with
// codes request_object_malformed, _type, _algorithm, _key, _signature, _issuer,
// _audience, _expired, _not_yet_valid and _lifetime.
func VerifyRequestObject(object string, keys KeySet, want RequestObjectWant) (RequestObject, error) {
	r, needs := &rowRequestObject, []string{"iss", "aud", "exp", "client_id"}
	if want.Backchannel {
		r, needs = &rowBackchannel, []string{"iss", "aud", "exp", "iat", "nbf", "jti"}
	}
	algs := want.Algorithms
	if algs == nil {
		algs = AssertionAlgorithms
	}
	top, fault := r.signed(object, keys, algs, MaxToken)
	if fault != nil {
		return RequestObject{}, fault
	}
	c := claims{object: top}
	iss, aud, client, jti := c.str("iss"), c.audience(), c.str("client_id"), c.str("jti")
	exp, iat, nbf := c.date("exp"), c.date("iat"), c.date("nbf")
	if fault := r.complete(&c, needs...); fault != nil {
		return RequestObject{}, fault
	}
	switch {
	case len(jti) > maxJTI:
		return RequestObject{}, r.malformed("has a jti that is too long")
	case want.ClientID == "" || iss != want.ClientID || (c.has("client_id") || !want.Backchannel) && client != want.ClientID || c.has("sub"):
		return RequestObject{}, r.fail("issuer", "is not by this client")
	case want.Issuer == "" || !aud.Has(want.Issuer):
		return RequestObject{}, r.fail("audience", "is not for this server")
	}
	if fault := r.timely(&c, iat, exp, want.Now, want.Leeway); fault != nil {
		return RequestObject{}, fault
	}
	limit := MaxRequestObjectLifetime + want.Leeway
	if exp.Time().After(want.Now.Add(limit)) || nbf != 0 && nbf.Time().Before(want.Now.Add(-limit)) {
		return RequestObject{}, r.fail("lifetime", "is good for more than an hour")
	}
	list, ok := parameters(top)
	if !ok {
		return RequestObject{}, r.malformed("has a parameter that is no parameter")
	}
	return RequestObject{Parameters: list, JTI: jti, IssuedAt: iat.Time(), ExpiresAt: exp.Time()}, nil
}

// parameters reads the members that are parameters of the request.
func parameters(top object) (out []Parameter, ok bool) {
	for _, m := range top {
		if aboutJWT[m.name] {
			continue
		}
		p := Parameter{Name: m.name}
		switch m.raw[0] {
		case '"':
			v, _ := text(m.raw)
			p.Values = []string{v}
		case '[': // of strings: a repeated parameter; anything else is JSON
			if !each(m.raw, func(raw string) bool {
				v, ok := text(raw)
				p.Values = append(p.Values, v)
				return ok
			}) {
				p.Values = []string{m.raw}
			}
		case '{', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			p.Values = []string{m.raw}
		default: // true, false and null are no value of any parameter
			return nil, false
		}
		out = append(out, p)
	}
	return out, true
}
