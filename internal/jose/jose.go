// Package jose holds the few JOSE calls the product allows: one signer, and
// one verifier for each kind of JWT, each with its type, key source and
// algorithms pinned (RFC 8725; standards 2.1). There is no general "verify a
// JWT". It is compiled into the public SDK and reaches only go-jose and the
// standard library.
//
// The outer form of a token (size, segments, base64url, header) and JSON are
// read here, strictly and within bounds, because the signature path is hot and
// because a reader that forgives (duplicate members, letter case, line breaks
// in base64) makes two parsers out of one. ES256, Ed25519 and PS256 signatures are
// checked with the standard library, the other algorithms by go-jose; a test
// holds both to the same verdicts, and to those of Wycheproof.
//
// Left to callers: whether a jti or nonce was seen before, whether a frame is
// the next one, and everything the claims mean.
package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/countersign-dev/countersign/internal/problem"
)

// The signature algorithms (RFC 7518, RFC 8037, RFC 9864). Ed25519 is the newer
// name of EdDSA with that curve; a list that takes one should take both.
const (
	ES256   = "ES256"
	ES384   = "ES384"
	ES512   = "ES512"
	PS256   = "PS256"
	RS256   = "RS256"
	EdDSA   = "EdDSA"
	Ed25519 = "Ed25519"
)

// MaxToken is the size in bytes above which no token is even looked at.
const MaxToken = 16 << 10

// KeySet finds the public key for a token. The kid is "" if the token names
// none; then a set MAY answer with its only key for the algorithm. A set MUST
// NOT answer with a key meant for another algorithm.
type KeySet interface {
	Key(kid, alg string) (crypto.PublicKey, bool)
}

// b64 is base64url without padding that accepts one text per value. It skips
// line breaks, so they are refused before it is used.
var b64 = base64.RawURLEncoding.Strict()

// row is one line of the table of JWTs (standards 2.1).
type row struct {
	code    string   // what its problem codes begin with
	noun    string   // for people
	typs    []string // accepted values of typ, without application/
	untyped bool     // typ may be absent
}

var (
	rowAccessToken   = row{code: "token", noun: "access token", typs: []string{"at+jwt"}}
	rowAssertion     = row{code: "assertion", noun: "client assertion", typs: []string{"client-authentication+jwt", "JWT"}, untyped: true}
	rowRequestObject = row{code: "request_object", noun: "request object", typs: []string{TypRequestObject}, untyped: true}
	rowBackchannel   = row{code: "request_object", noun: "signed request", typs: []string{TypRequestObject, "JWT"}, untyped: true}
	rowDPoP          = row{code: "dpop", noun: "DPoP proof", typs: []string{"dpop+jwt"}}
	rowIDToken       = row{code: "id_token", noun: "ID token", typs: []string{"JWT"}, untyped: true}
	rowBundle        = row{code: "bundle", noun: "policy bundle", typs: []string{TypBundle}}
	rowFeed          = row{code: "feed", noun: "revocation frame", typs: []string{"countersign-revocations+jwt"}}
)

// fail makes the row's problem; every verifier's error is one.
func (r *row) fail(what, detail string) *problem.Error {
	return problem.New(problem.Unauthenticated, r.code+"_"+what, "The "+r.noun+" "+detail+".")
}

func (r *row) malformed(detail string) *problem.Error { return r.fail("malformed", detail) }

// opened is a token whose form was read and whose signature was not checked.
type opened struct {
	token     string
	alg, kid  string
	jwk       string // the header's jwk, as JSON; only DPoP reads it
	signed    string // header.payload
	payload   string // JSON
	signature []byte
}

// open reads the outer form: size, three segments, header, type, algorithm.
func (r *row) open(token string, algs []string, size int) (*opened, *problem.Error) {
	if len(token) > size {
		return nil, r.malformed("is too long")
	}
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	if first < 0 || last == first || strings.IndexByte(token[first+1:last], '.') >= 0 || strings.ContainsAny(token, "\r\n") {
		return nil, r.malformed("is not a compact JWS")
	}
	head, err1 := b64.DecodeString(token[:first])
	payload, err2 := b64.DecodeString(token[first+1 : last])
	signature, err3 := b64.DecodeString(token[last+1:])
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, r.malformed("is not base64url")
	}
	o := &opened{token: token, signed: token[:last], payload: string(payload), signature: signature}
	h, ok := readObject(string(head))
	if !ok {
		return nil, r.malformed("has a header that is not strict JSON")
	}
	if _, ok := h.get("crit"); ok {
		return nil, r.malformed("demands an extension that is not supported")
	}
	c := claims{object: h}
	o.alg, o.kid, o.jwk = c.str("alg"), c.str("kid"), c.raw("jwk")
	typ, typed := c.str("typ"), c.has("typ")
	if c.bad != "" {
		return nil, r.malformed("has a bad header parameter " + c.bad)
	}
	if !r.accepts(typ, typed) {
		return nil, r.fail("type", "is of another type")
	}
	if !slices.Contains(algs, o.alg) {
		return nil, r.fail("algorithm", "is signed with an algorithm that is not allowed here")
	}
	return o, nil
}

// accepts compares media types: without regard to case, with or without
// application/ (RFC 7515 §4.1.9).
func (r *row) accepts(typ string, present bool) bool {
	if !present {
		return r.untyped
	}
	if prefix := "application/"; len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	return slices.ContainsFunc(r.typs, func(t string) bool { return strings.EqualFold(t, typ) })
}

// signed opens a token of at most size bytes, checks its signature, and reads its
// claims, in this order.
func (r *row) signed(token string, keys KeySet, algs []string, size int) (object, *problem.Error) {
	o, fault := r.open(token, algs, size)
	if fault == nil {
		fault = r.verify(o, keys)
	}
	if fault != nil {
		return nil, fault
	}
	top, ok := readObject(o.payload)
	if !ok {
		return nil, r.malformed("has claims that are not strict JSON")
	}
	return top, nil
}

// verify finds the key and checks the signature.
func (r *row) verify(o *opened, keys KeySet) *problem.Error {
	key, ok := keys.Key(o.kid, o.alg)
	if !ok {
		return r.fail("key", "is signed with an unknown key")
	}
	return r.check(o, key)
}

func (r *row) check(o *opened, key crypto.PublicKey) *problem.Error {
	if !fits(key, o.alg) || !genuine(o, key) {
		return r.fail("signature", "has a wrong signature")
	}
	return nil
}

// fits reports whether a key may be used with an algorithm.
func fits(key crypto.PublicKey, alg string) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch alg {
		case ES256:
			return k.Curve == elliptic.P256()
		case ES384:
			return k.Curve == elliptic.P384()
		case ES512:
			return k.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == EdDSA || alg == Ed25519
	case *rsa.PublicKey:
		return (alg == PS256 || alg == RS256) && k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA
	}
	return false
}

// genuine checks the signature; the key fits the algorithm.
func genuine(o *opened, key crypto.PublicKey) bool {
	switch o.alg {
	case ES256:
		if len(o.signature) != 64 {
			return false
		}
		digest := sha256.Sum256([]byte(o.signed))
		return ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], derECDSA(o.signature))
	case EdDSA, Ed25519:
		return ed25519.Verify(key.(ed25519.PublicKey), []byte(o.signed), o.signature)
	case PS256: // go-jose takes a salt of any length; RFC 7518 §3.5 has one
		digest := sha256.Sum256([]byte(o.signed))
		salt := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.VerifyPSS(key.(*rsa.PublicKey), crypto.SHA256, digest[:], o.signature, salt) == nil
	}
	jws, err := gojose.ParseSignedCompact(o.token, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(o.alg)})
	if err != nil {
		return false
	}
	_, err = jws.Verify(key)
	return err == nil
}

// derECDSA turns r ‖ s, 32 bytes each, into SEQUENCE{r, s}.
func derECDSA(raw []byte) []byte {
	der := append(make([]byte, 0, 72), 0x30, 0)
	for _, n := range [2][]byte{raw[:32], raw[32:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0] >= 0x80 { // INTEGER is signed
			der = append(der, 2, byte(len(n)+1), 0)
		} else {
			der = append(der, 2, byte(len(n)))
		}
		der = append(der, n...)
	}
	der[1] = byte(len(der) - 2)
	return der
}
