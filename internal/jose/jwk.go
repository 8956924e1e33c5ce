package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/countersign-dev/countersign/internal/problem"
)

const (
	minRSA  = 2048
	maxRSA  = 8192 // bits; a larger modulus costs more than it gives
	maxJWKS = 64 << 10
)

// JWK is a public key and what its owner says about it (RFC 7517 §4).
type JWK struct {
	Key       crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	KeyID     string
	Algorithm string // "" is any that the key fits
	// Certificate is the DER of the first certificate of x5c, whose key is Key; nil
	// if there is none. Nothing else about it is checked. It is not written.
	Certificate []byte
}

// JWKSet is a set of public signature keys. It is a KeySet.
type JWKSet struct{ Keys []JWK }

// Key implements KeySet. A kid that two keys share, or no kid where two keys
// would do, is answered with none.
func (s *JWKSet) Key(kid, alg string) (crypto.PublicKey, bool) {
	var found crypto.PublicKey
	for _, k := range s.Keys {
		if kid != "" && k.KeyID != kid || !fits(k.Key, alg) || k.Algorithm != "" && !sameAlg(k.Algorithm, alg) {
			continue
		}
		if found != nil {
			return nil, false
		}
		found = k.Key
	}
	return found, found != nil
}

func sameAlg(a, b string) bool {
	return a == b || (a == EdDSA || a == Ed25519) && (b == EdDSA || b == Ed25519)
}

// ParseJWKSet reads a JWK set of at most 64 KiB. Keys of other kinds or uses,
// weak ones and any that carries private parts are left out (RFC 7517 §5).
// Errors are problem.Invalid with code jwks_invalid.
func ParseJWKSet(data []byte) (*JWKSet, error) {
	bad := problem.New(problem.Invalid, "jwks_invalid", "That is not a JWK set.")
	if len(data) > maxJWKS {
		return nil, bad
	}
	top, ok := readObject(string(data))
	if !ok {
		return nil, bad
	}
	set := &JWKSet{}
	raw, _ := top.get("keys")
	if !each(raw, func(raw string) bool {
		o, ok := readObject(raw)
		if !ok {
			return false
		}
		if k, ok := usable(o); ok {
			set.Keys = append(set.Keys, k)
		}
		return true
	}) {
		return nil, bad
	}
	return set, nil
}

// usable reads a member of a set, if it is a public signature key.
func usable(o object) (JWK, bool) {
	c := claims{object: o}
	use, ops, known := c.str("use"), c.strs("key_ops"), c.has("key_ops")
	k := JWK{KeyID: c.str("kid"), Algorithm: c.str("alg")}
	if c.bad != "" || use != "" && use != "sig" {
		return JWK{}, false
	}
	if known && !Audience(ops).Has("verify") {
		return JWK{}, false
	}
	key, err := publicKey(o)
	if err != nil || k.Algorithm != "" && !fits(key, k.Algorithm) {
		return JWK{}, false
	}
	k.Key = key
	if chain, ok := o.get("x5c"); ok {
		if k.Certificate, ok = certificateOf(chain, key); !ok {
			return JWK{}, false
		}
	}
	return k, true
}

// certificateOf gives the first certificate of an x5c member, nil if it cannot be
// read; one for another key spoils the JWK (RFC 7517 §4.7).
func certificateOf(chain string, key crypto.PublicKey) (der []byte, ok bool) {
	each(chain, func(raw string) bool {
		text := strings.ReplaceAll(strings.Trim(raw, `"`), `\/`, "/")
		der, _ = base64.StdEncoding.Strict().DecodeString(text)
		return false // the first is the key's
	})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, true
	}
	same, is := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return der, is && same.Equal(key)
}

// ParseJWK reads one public key. One with private parts is an error.
func ParseJWK(data []byte) (crypto.PublicKey, error) {
	if len(data) > MaxToken {
		return nil, errKey
	}
	o, ok := readObject(string(data))
	if !ok {
		return nil, errKey
	}
	return publicKey(o)
}

var errKey = errors.New("jose: not a public key that is accepted here")

// publicKey reads the key's numbers. Each must be written in the one way that
// the thumbprint needs (RFC 7518 §6): full length for curves, no leading zero
// for RSA.
func publicKey(o object) (crypto.PublicKey, error) {
	for _, private := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := o.get(private); ok {
			return nil, errKey
		}
	}
	c := claims{object: o}
	switch c.str("kty") {
	case "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[c.str("crv")]
		if !ok {
			return nil, errKey
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := c.bytes("x"), c.bytes("y")
		if c.bad != "" || len(x) != size || len(y) != size {
			return nil, errKey
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append(append(make([]byte, 0, 1+2*size), 4), x...), y...))
		if err != nil {
			return nil, errKey // not on the curve
		}
		return key, nil
	case "OKP":
		x := c.bytes("x")
		if c.bad != "" || c.str("crv") != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errKey
		}
		var k gojose.JSONWebKey // knows the points that verify anything
		if err := k.UnmarshalJSON([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + b64.EncodeToString(x) + `"}`)); err != nil {
			return nil, errKey
		}
		return ed25519.PublicKey(x), nil
	case "RSA":
		n, e := c.bytes("n"), c.bytes("e")
		if c.bad != "" || len(n) == 0 || n[0] == 0 || len(e) == 0 || len(e) > 4 || e[0] == 0 {
			return nil, errKey
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if key.N.Bit(0) == 0 || key.E < 3 || key.E&1 == 0 || key.E > 1<<31-1 || !fits(key, PS256) || factorable(key.N) {
			return nil, errKey
		}
		return key, nil
	}
	return nil, errKey
}

// bytes reads a member that is base64url.
func (c *claims) bytes(name string) []byte {
	s := c.str(name)
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' {
			c.wrong(name)
			return nil
		}
	}
	b, err := b64.DecodeString(s)
	if err != nil {
		c.wrong(name)
	}
	return b
}

// essential is the key with the members RFC 7638 §3.2 demands, in its order.
func essential(key crypto.PublicKey) ([]byte, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("jose: %w", err)
		}
		size := len(point) / 2
		b := append(make([]byte, 0, 256), `{"crv":"`...)
		b = append(append(b, k.Params().Name...), `","kty":"EC","x":"`...)
		b = append(b64.AppendEncode(b, point[1:1+size]), `","y":"`...)
		return append(b64.AppendEncode(b, point[1+size:]), `"}`...), nil
	case ed25519.PublicKey:
		b := b64.AppendEncode([]byte(`{"crv":"Ed25519","kty":"OKP","x":"`), k)
		return append(b, `"}`...), nil
	case *rsa.PublicKey:
		b := b64.AppendEncode([]byte(`{"e":"`), big.NewInt(int64(k.E)).Bytes())
		b = append(b, `","kty":"RSA","n":"`...)
		return append(b64.AppendEncode(b, k.N.Bytes()), `"}`...), nil
	}
	return nil, fmt.Errorf("jose: a key of type %T has no JWK form here", key)
}

// Thumbprint is the SHA-256 thumbprint of a public key (RFC 7638), base64url:
// the jkt of RFC 9449.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	b, err := essential(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return b64.EncodeToString(sum[:]), nil
}

// CertificateThumbprint is the SHA-256 thumbprint of a certificate in DER, base64url:
// the x5t#S256 of RFC 8705 §3.1.
func CertificateThumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return b64.EncodeToString(sum[:])
}

// MarshalJSON writes the public key with kid, alg and use.
func (k JWK) MarshalJSON() ([]byte, error) {
	b, err := essential(k.Key)
	if err != nil {
		return nil, err
	}
	extra, err := json.Marshal(struct {
		Alg string `json:"alg,omitempty"`
		Kid string `json:"kid,omitempty"`
		Use string `json:"use"`
	}{k.Algorithm, k.KeyID, "sig"})
	if err != nil {
		return nil, err
	}
	b[len(b)-1] = ','
	return append(b, extra[1:]...), nil
}

// MarshalJSON writes the set as its owner publishes it.
func (s *JWKSet) MarshalJSON() ([]byte, error) {
	keys := s.Keys
	if keys == nil {
		keys = []JWK{}
	}
	return json.Marshal(map[string][]JWK{"keys": keys})
}
