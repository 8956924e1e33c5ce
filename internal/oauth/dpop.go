package oauth

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Windows of DPoP at the authorization server (RFC 9449 §8, §11).
const (
	nonceStep   = 2 * time.Minute // a nonce works in its own and the next step
	proofWindow = 5 * time.Minute // of iat around now; the nonce bounds it tighter
)

// proof is a verified DPoP proof and the mark that its use spends.
type proof struct {
	jkt   string
	alg   string
	spend once.Spend
}

// dpop reads the DPoP header, if there is one: exactly one, verified, with a
// nonce of ours. The nonce keeps proofs from being made ahead; the mark keeps
// them from being used twice, on any replica.
//
// With an access token we are a resource server, whose nonces are a space of their
// own (RFC 9449 §9): one of the token endpoint's is none here.
func (s *Server) dpop(w http.ResponseWriter, r *http.Request, accessToken string) (*proof, error) {
	h := r.Header.Values("DPoP")
	if len(h) == 0 {
		return nil, nil
	}
	bad := problem.New(problem.Invalid, "invalid_dpop_proof", "The DPoP proof is not valid (RFC 9449).")
	if len(h) > 1 {
		return nil, bad
	}
	now := s.now()
	p, err := jose.VerifyDPoP(h[0], jose.DPoPWant{
		Method: r.Method, URL: s.origin(r) + r.URL.EscapedPath(), AccessToken: accessToken, Now: now, Window: proofWindow,
	})
	if err != nil {
		return nil, bad.Because(err)
	}
	keys := s.Keys.Nonces()
	if len(keys) == 0 {
		return nil, problem.New(problem.Unavailable, "no_keys", "The server has no keys yet.")
	}
	space := canon.LabelDPoPNonce
	if accessToken != "" {
		space = canon.LabelDPoPNonceResource
	}
	w.Header().Set("DPoP-Nonce", nonceAt(keys[0], space, now))
	if !nonceValid(keys, space, p.Nonce, now) {
		return nil, problem.New(problem.Invalid, "use_dpop_nonce", "Use the nonce in the DPoP-Nonce header.")
	}
	return &proof{jkt: p.JKT, alg: p.Alg, spend: once.Spend{
		Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, p.JKT, p.JTI), Mark: true, Until: now.Add(2*nonceStep + time.Minute),
	}}, nil
}

// origin is where the client reached us: the issuer, or where connections ask for
// a certificate. The Host header is never asked.
func (s *Server) origin(r *http.Request) string {
	if s.Origin != nil {
		if o := s.Origin(r); o != "" {
			return o
		}
	}
	return s.Issuer
}

// nonceAt is the nonce of the step that now is in, in one space: no state, the same
// on every replica.
func nonceAt(key []byte, space string, now time.Time) string {
	step := now.Unix() / int64(nonceStep/time.Second)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(step))
	m := canon.M(key, space, b[:])
	return base64.RawURLEncoding.EncodeToString(m[:18])
}

func nonceValid(keys [][]byte, space, nonce string, now time.Time) bool {
	ok := false
	for _, k := range keys {
		for _, t := range []time.Time{now, now.Add(-nonceStep)} {
			ok = hmac.Equal([]byte(nonceAt(k, space, t)), []byte(nonce)) || ok
		}
	}
	return ok
}
