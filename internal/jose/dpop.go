package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// DefaultDPoPWindow is how far a proof's time may be from now, either way.
const DefaultDPoPWindow = 60 * time.Second

const (
	maxJTI   = 256
	maxNonce = 512
)

// DPoPAlgorithms are what a proof may be signed with.
var DPoPAlgorithms = []string{ES256, EdDSA, Ed25519, PS256, ES384}

// DPoPWant is what a proof is held against.
type DPoPWant struct {
	Method      string        // of the request
	URL         string        // of the request as configured, never from Host; query and fragment do not count
	AccessToken string        // the token that came with it; "" at the token endpoint
	Now         time.Time     // the time of the check
	Window      time.Duration // either way; 0: DefaultDPoPWindow
}

// DPoPProof is a verified proof. That its nonce is ours and its JTI new is the
// caller's to establish, and that JKT is the token's key.
type DPoPProof struct {
	JKT      string // thumbprint of the key that signed
	Alg      string // that it was signed with
	JTI      string
	Nonce    string // "" if none
	IssuedAt time.Time
}

// VerifyDPoP checks a DPoP proof (RFC 9449 §4.3, all but nonce and replay).
// Its errors are problem.Unauthenticated with codes dpop_malformed, _type,
// _algorithm, _key, _signature, _method, _url, _time and _ath.
func VerifyDPoP(proof string, want DPoPWant) (DPoPProof, error) {
	r := &rowDPoP
	o, fault := r.open(proof, DPoPAlgorithms, MaxToken)
	if fault != nil {
		return DPoPProof{}, fault
	}
	jwk, ok := readObject(o.jwk)
	if !ok {
		return DPoPProof{}, r.fail("key", "has no key")
	}
	key, err := publicKey(jwk)
	if err != nil {
		return DPoPProof{}, r.fail("key", "has a key that is not accepted")
	}
	if fault := r.check(o, key); fault != nil {
		return DPoPProof{}, fault
	}
	top, ok := readObject(o.payload)
	if !ok {
		return DPoPProof{}, r.malformed("has claims that are not strict JSON")
	}
	c := claims{object: top}
	p := DPoPProof{Alg: o.alg, JTI: c.str("jti"), Nonce: c.str("nonce"), IssuedAt: c.date("iat").Time()}
	htm, htu, ath := c.str("htm"), c.str("htu"), c.str("ath")
	if fault := r.complete(&c, "jti", "htm", "htu", "iat"); fault != nil {
		return DPoPProof{}, fault
	}
	window := want.Window
	if window == 0 {
		window = DefaultDPoPWindow
	}
	switch {
	case len(p.JTI) > maxJTI || len(p.Nonce) > maxNonce:
		return DPoPProof{}, r.malformed("has a jti or nonce that is too long")
	case htm != want.Method:
		return DPoPProof{}, r.fail("method", "is for another method")
	case !sameURL(htu, want.URL):
		return DPoPProof{}, r.fail("url", "is for another URL")
	case p.IssuedAt.Before(want.Now.Truncate(time.Second).Add(-window)) || p.IssuedAt.After(want.Now.Add(window)):
		return DPoPProof{}, r.fail("time", "is too old or from the future")
	case want.AccessToken != "" && ath != tokenHash(want.AccessToken):
		return DPoPProof{}, r.fail("ath", "is for another access token")
	}
	if p.JKT, err = Thumbprint(key); err != nil {
		return DPoPProof{}, r.fail("key", "has a key that is not accepted")
	}
	return p, nil
}

// tokenHash is ath (RFC 9449 §4.2).
func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return b64.EncodeToString(sum[:])
}

type dpopClaims struct {
	JTI      string      `json:"jti"`
	Method   string      `json:"htm"`
	URL      string      `json:"htu"`
	IssuedAt NumericDate `json:"iat"`
	Ath      string      `json:"ath,omitempty"`
	Nonce    string      `json:"nonce,omitempty"`
}

// MakeDPoP makes a proof for a request. The URL's query and fragment are left
// out; nonce and accessToken may be "".
func MakeDPoP(key crypto.Signer, method, url, nonce, accessToken string, now time.Time) (string, error) {
	jwk, err := essential(key.Public())
	if err != nil {
		return "", err
	}
	s, err := newSigner(key, header{Alg: algOf(key.Public()), Typ: "dpop+jwt", JWK: jwk})
	if err != nil {
		return "", err
	}
	c := dpopClaims{JTI: rand.Text(), Method: method, URL: bare(url), IssuedAt: Date(now), Nonce: nonce}
	if accessToken != "" {
		c.Ath = tokenHash(accessToken)
	}
	proof, err := s.Sign(c)
	if err != nil {
		return "", fmt.Errorf("DPoP proof: %w", err)
	}
	return proof, nil
}

// algOf is the algorithm we sign with, given the key.
func algOf(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ES256
		case elliptic.P384():
			return ES384
		}
	case ed25519.PublicKey:
		return EdDSA
	case *rsa.PublicKey:
		return PS256
	}
	return ""
}

// bare is a URL without query and fragment.
func bare(u string) string {
	if i := strings.IndexAny(u, "?#"); i >= 0 {
		return u[:i]
	}
	return u
}

// sameURL compares without query and fragment, after syntax-based and
// scheme-based normalisation (RFC 3986 §6.2.2, §6.2.3).
func sameURL(a, b string) bool {
	a, b = bare(a), bare(b)
	if a == b {
		return a != ""
	}
	x, ok := normalURL(a)
	if !ok {
		return false
	}
	y, ok := normalURL(b)
	return ok && x == y
}

// normalURL normalises an http or https URL without user, query or fragment.
func normalURL(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Opaque != "" || u.Hostname() == "" {
		return "", false
	}
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", false
	case u.Scheme == "http" && port == "80", u.Scheme == "https" && port == "443":
		port = ""
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	return u.Scheme + "://" + host + withoutDots(normalEscapes(u.EscapedPath())), true
}

// normalEscapes writes escapes in upper case and unreserved characters plain.
func normalEscapes(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		c := unhex(s[i+1])<<4 | unhex(s[i+2]) // url.Parse has refused broken escapes
		i += 2
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// withoutDots removes dot segments (RFC 3986 §5.2.4); the empty path is "/".
func withoutDots(path string) string {
	if path == "" {
		return "/"
	}
	var out []string
	segments := strings.Split(path[1:], "/") // with a host the path is empty or begins with "/"
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			fallthrough
		case ".":
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}
