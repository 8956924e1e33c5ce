package jose

import "time"

// TypIDToken is the typ we write into ID tokens.
const TypIDToken = "JWT"

// IDTokenClaims are the claims of our ID tokens (OpenID Connect Core §2).
type IDTokenClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  Audience    `json:"aud"` // the client
	ExpiresAt NumericDate `json:"exp"`
	IssuedAt  NumericDate `json:"iat"`
	AuthTime  NumericDate `json:"auth_time,omitempty"`
	Nonce     string      `json:"nonce,omitempty"`
	ACR       string      `json:"acr,omitempty"`
	AMR       []string    `json:"amr,omitempty"`
	AZP       string      `json:"azp,omitempty"`
	SessionID string      `json:"sid,omitempty"`

	Name              string `json:"name,omitempty"`
	PreferredUsername string `json:"preferred_username,omitempty"`
	Email             string `json:"email,omitempty"`
	EmailVerified     bool   `json:"email_verified,omitempty"`
}

// IDTokenWant is what an ID token is held against.
type IDTokenWant struct {
	Issuer     string
	ClientID   string   // "" for a hint: whom it was for is then the caller's to judge
	Nonce      string   // must be equal if not ""
	Algorithms []string // nil: ES256 only
	Now        time.Time
	Leeway     time.Duration
}

// VerifyIDToken checks an ID token as the client it is for (OpenID Connect
// Core §3.1.3.7). Its errors are problem.Unauthenticated with codes
// id_token_malformed, _type, _algorithm, _key, _signature, _issuer, _audience,
// _expired, _not_yet_valid and _nonce.
func VerifyIDToken(token string, keys KeySet, want IDTokenWant) (*IDTokenClaims, error) {
	r := &rowIDToken
	t, c, err := r.idToken(token, keys, want)
	if err != nil {
		return nil, err
	}
	if want.ClientID == "" || !t.Audience.Has(want.ClientID) || len(t.Audience) > 1 && t.AZP == "" || t.AZP != "" && t.AZP != want.ClientID {
		return nil, r.fail("audience", "is for another client")
	}
	if want.Nonce != "" && t.Nonce != want.Nonce {
		return nil, r.fail("nonce", "answers another request")
	}
	if err := r.timely(c, t.IssuedAt, t.ExpiresAt, want.Now, want.Leeway); err != nil {
		return nil, err
	}
	return t, nil
}

// VerifyIDTokenHint checks that we issued an ID token, at whatever time: it
// may have expired (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2). A
// ClientID in want must be in the audience. It proves nothing about who
// presents it.
func VerifyIDTokenHint(token string, keys KeySet, want IDTokenWant) (*IDTokenClaims, error) {
	r := &rowIDToken
	t, _, err := r.idToken(token, keys, want)
	if err != nil {
		return nil, err
	}
	if want.ClientID != "" && !t.Audience.Has(want.ClientID) {
		return nil, r.fail("audience", "is for another client")
	}
	return t, nil
}

func (r *row) idToken(token string, keys KeySet, want IDTokenWant) (*IDTokenClaims, *claims, error) {
	algs := want.Algorithms
	if algs == nil {
		algs = onlyES256
	}
	top, fault := r.signed(token, keys, algs, MaxToken)
	if fault != nil {
		return nil, nil, fault
	}
	c := &claims{object: top}
	t := &IDTokenClaims{
		Issuer: c.str("iss"), Subject: c.str("sub"), Audience: c.audience(),
		ExpiresAt: c.date("exp"), IssuedAt: c.date("iat"), AuthTime: c.date("auth_time"),
		Nonce: c.str("nonce"), ACR: c.str("acr"), AMR: c.strs("amr"), AZP: c.str("azp"), SessionID: c.str("sid"),
		Name: c.str("name"), PreferredUsername: c.str("preferred_username"),
		Email: c.str("email"), EmailVerified: c.bool("email_verified"),
	}
	if err := r.complete(c, "iss", "sub", "aud", "exp", "iat"); err != nil {
		return nil, nil, err
	}
	if t.Issuer != want.Issuer {
		return nil, nil, r.fail("issuer", "is from another issuer")
	}
	return t, c, nil
}
