package jose

import (
	"encoding/json"
	"time"
)

// TypAccessToken is the typ of an access token (RFC 9068 §2.1).
const TypAccessToken = "at+jwt"

// AccessTokenClaims are the claims of our access tokens (RFC 9068; contract).
type AccessTokenClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  Audience    `json:"aud"`
	ExpiresAt NumericDate `json:"exp"`
	IssuedAt  NumericDate `json:"iat"`
	JTI       string      `json:"jti"`
	ClientID  string      `json:"client_id"`
	Scope     string      `json:"scope,omitempty"` // separated by single spaces

	// The authentication of the subject, one pair from one evaluation; absent
	// where there was none (mechanisms A17, G4).
	ACR      string      `json:"acr,omitempty"`
	AMR      []string    `json:"amr,omitempty"`
	AuthTime NumericDate `json:"auth_time,omitempty"`

	Confirmation *Confirmation `json:"cnf,omitempty"` // nil: a bearer token
	Lineage      []string      `json:"lin,omitempty"` // handles of ancestors that can be ended (mechanisms C3)
	SessionID    string        `json:"sid,omitempty"`

	Actor      *Actor     `json:"act,omitempty"`
	MayAct     *Actor     `json:"may_act,omitempty"` // who alone may act with it (RFC 8693 §4.4); nil: not said
	Assurance  *Assurance `json:"asr,omitempty"`
	Delegation string     `json:"dlg,omitempty"`
	Run        string     `json:"run,omitempty"`
	Depth      int        `json:"depth,omitempty"` // number of actors

	AuthorizationDetails json.RawMessage `json:"authorization_details,omitempty"` // an array (RFC 9396)
	Organization         string          `json:"org,omitempty"`
}

// Present reports whether the token comes from its person's own sign-in (mechanisms G3):
// what acts for a person is never the person present. An issuer that says no asr at all
// has no delegations to tell apart: then acr and auth_time stand alone.
func (c *AccessTokenClaims) Present() bool {
	return c.Actor == nil && (c.Assurance == nil || c.Assurance.Human != nil && c.Assurance.Human.Present)
}

// MachineRung is what the outermost actor, or the machine itself, proved: m1 to m4; "" if
// the token does not say.
func (c *AccessTokenClaims) MachineRung() string {
	if c.Assurance == nil || len(c.Assurance.Actors) == 0 {
		return ""
	}
	return c.Assurance.Actors[0].Rung
}

// Confirmation names the key a token is bound to (RFC 7800).
type Confirmation struct {
	JKT     string `json:"jkt,omitempty"`      // RFC 9449 §6.1
	X5TS256 string `json:"x5t#S256,omitempty"` // RFC 8705 §3.1
}

// Actor is who acts for the subject: identity only (RFC 8693 §4.1). The
// outermost is the current one.
type Actor struct {
	Subject    string `json:"sub"`
	Issuer     string `json:"iss,omitempty"` // if foreign
	SubProfile string `json:"sub_profile,omitempty"`
	Actor      *Actor `json:"act,omitempty"`
}

// Assurance is what was shown by whom (mechanisms G1).
type Assurance struct {
	Human  *HumanAssurance  `json:"h,omitempty"`
	Actors []ActorAssurance `json:"a,omitempty"` // outermost first
}

// HumanAssurance is the person's part.
type HumanAssurance struct {
	Rung    int         `json:"rung"`
	At      NumericDate `json:"at"`
	Present bool        `json:"present"` // mechanisms G3
}

// ActorAssurance is one actor's part.
type ActorAssurance struct {
	Subject string      `json:"sub"`
	Rung    string      `json:"rung"` // m1 to m4
	At      NumericDate `json:"at"`
}

// AccessTokenWant is what an access token is held against.
type AccessTokenWant struct {
	Issuer    string   // equal byte by byte
	Audiences []string // one of them must be in aud; every spelling that is meant
	// AnyAudience accepts every audience: for the issuer itself, which judges the
	// audience of its own tokens afterwards (introspection, userinfo).
	AnyAudience bool
	Algorithms  []string      // nil: ES256 only
	Now         time.Time     // the time of the check
	Leeway      time.Duration // for clocks that differ
}

var onlyES256 = []string{ES256}

// VerifyAccessToken checks form, type, algorithm, signature, issuer, audience
// and time of an access token. Its errors are problem.Unauthenticated with
// codes token_malformed (a missing or ill-typed claim included), token_type,
// token_algorithm, token_key, token_signature, token_issuer, token_audience,
// token_expired and token_not_yet_valid. Sender constraint, lineage and replay
// are the caller's.
func VerifyAccessToken(token string, keys KeySet, want AccessTokenWant) (*AccessTokenClaims, error) {
	r := &rowAccessToken
	algs := want.Algorithms
	if algs == nil {
		algs = onlyES256
	}
	top, fault := r.signed(token, keys, algs, MaxToken)
	if fault != nil {
		return nil, fault
	}
	c := claims{object: top}
	t := readAccessToken(&c)
	if fault := r.complete(&c, "iss", "sub", "aud", "exp", "iat", "jti", "client_id"); fault != nil {
		return nil, fault
	}
	if t.Issuer != want.Issuer {
		return nil, r.fail("issuer", "is from another issuer")
	}
	if !want.AnyAudience && !t.Audience.Has(want.Audiences...) || len(t.Audience) == 0 {
		return nil, r.fail("audience", "is for another audience")
	}
	if fault := r.timely(&c, t.IssuedAt, t.ExpiresAt, want.Now, want.Leeway); fault != nil {
		return nil, fault
	}
	return t, nil
}

func readAccessToken(c *claims) *AccessTokenClaims {
	t := &AccessTokenClaims{
		Issuer: c.str("iss"), Subject: c.str("sub"), Audience: c.audience(),
		ExpiresAt: c.date("exp"), IssuedAt: c.date("iat"), JTI: c.str("jti"),
		ClientID: c.str("client_id"), Scope: c.str("scope"),
		ACR: c.str("acr"), AMR: c.strs("amr"), AuthTime: c.date("auth_time"),
		Lineage: c.strs("lin"), SessionID: c.str("sid"),
		Delegation: c.str("dlg"), Run: c.str("run"), Depth: int(c.int("depth")),
		Organization: c.str("org"),
	}
	// An ill-typed cnf must not read as no cnf: that would be a bearer token.
	if cnf, ok := c.sub("cnf"); ok {
		t.Confirmation = &Confirmation{JKT: cnf.str("jkt"), X5TS256: cnf.str("x5t#S256")}
		if cnf.bad != "" || *t.Confirmation == (Confirmation{}) {
			c.wrong("cnf")
		}
	}
	t.Actor, t.MayAct = c.actor("act"), c.actor("may_act")
	if asr, ok := c.sub("asr"); ok {
		t.Assurance = asr.assurance()
		if asr.bad != "" {
			c.wrong("asr")
		}
	}
	if raw, ok := c.get("authorization_details"); ok {
		if raw[0] != '[' {
			c.wrong("authorization_details")
		}
		t.AuthorizationDetails = json.RawMessage(raw)
	}
	return t
}

// actor reads act or may_act; its depth is bounded by the reader's.
func (c *claims) actor(name string) *Actor {
	act, ok := c.sub(name)
	if !ok {
		return nil
	}
	a := &Actor{Subject: act.str("sub"), Issuer: act.str("iss"), SubProfile: act.str("sub_profile"), Actor: act.actor("act")}
	if act.bad != "" || a.Subject == "" {
		c.wrong(name)
	}
	return a
}

// Depth is how many actors the chain has; 0 for none.
func (a *Actor) Depth() (n int) {
	for ; a != nil; a = a.Actor {
		n++
	}
	return n
}

// Names reports whether somebody is in the chain: by the subject, and the issuer
// if foreign.
func (a *Actor) Names(subject, issuer string) bool {
	for ; a != nil; a = a.Actor {
		if a.Subject == subject && a.Issuer == issuer {
			return true
		}
	}
	return false
}

func (c *claims) assurance() *Assurance {
	a := &Assurance{}
	if h, ok := c.sub("h"); ok {
		a.Human = &HumanAssurance{Rung: int(h.int("rung")), At: h.date("at"), Present: h.bool("present")}
		if h.bad != "" {
			c.wrong("h")
		}
	}
	if raw, ok := c.get("a"); ok && !each(raw, func(raw string) bool {
		o, ok := readObject(raw)
		m := claims{object: o}
		a.Actors = append(a.Actors, ActorAssurance{Subject: m.str("sub"), Rung: m.str("rung"), At: m.date("at")})
		return ok && m.bad == ""
	}) {
		c.wrong("a")
	}
	return a
}

// complete refuses ill-typed claims, and required ones that are absent or
// empty.
func (r *row) complete(c *claims, required ...string) error {
	for _, name := range required {
		if raw, ok := c.get(name); !ok || raw == `""` || raw == `[]` {
			return r.malformed("has no " + name)
		}
	}
	if c.bad != "" {
		return r.malformed("has a bad " + c.bad)
	}
	return nil
}

// timely judges exp, iat and, if there is one, nbf. A date of 0 stands for an
// absent claim; complete has refused those that must not be.
func (r *row) timely(c *claims, iat, exp NumericDate, now time.Time, leeway time.Duration) error {
	return r.within(c, iat, exp, now, leeway, leeway)
}

// within is timely with two leeways: for an end that has passed, and for a beginning
// that lies ahead.
func (r *row) within(c *claims, iat, exp NumericDate, now time.Time, late, ahead time.Duration) error {
	nbf := c.date("nbf")
	if c.bad != "" {
		return r.malformed("has a bad " + c.bad)
	}
	if !now.Before(time.Unix(int64(exp), 0).Add(late)) {
		return r.fail("expired", "has expired")
	}
	if latest := now.Add(ahead).Unix(); int64(iat) > latest || int64(nbf) > latest {
		return r.fail("not_yet_valid", "is not valid yet")
	}
	return nil
}
