package oauth

import (
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// idTokenFor is whom an ID token is about and for.
type idTokenFor struct {
	subject, name, clientID, nonce string
	pair                           assurance.Pair
	acr, session                   string
	scopes                         []string
}

// idToken makes an ID token (OpenID Connect Core §2). It lives as long as an
// access token and is never accepted as one. Its sid is the session's handle
// towards this client, so that two clients cannot compare.
func (s *Server) idToken(seal act.Sealing, t idTokenFor) (string, error) {
	c := jose.IDTokenClaims{
		Issuer: s.Issuer, Subject: t.subject, Audience: jose.Audience{t.clientID}, Nonce: t.nonce,
		IssuedAt: jose.Date(seal.At), ExpiresAt: jose.Date(seal.At.Add(TokenLifetime)),
		AuthTime: date(t.pair.AuthTime), ACR: t.acr, AMR: t.pair.AMR,
	}
	if slices.Contains(t.scopes, "profile") {
		c.Name = t.name
	}
	key, err := s.Keys.AudienceKey(t.clientID)
	if err != nil {
		return "", err
	}
	if h, err := lineage.Handles(key, []lineage.Node{{ID: t.session, Kind: lineage.Session}}); err == nil {
		c.SessionID = h[0]
	}
	signer, err := s.Keys.Signer(keyring.IDToken, "ES256", "JWT")
	if err != nil {
		return "", err
	}
	return signer.Sign(c)
}

func date(t time.Time) jose.NumericDate {
	if t.IsZero() {
		return 0
	}
	return jose.Date(t)
}
