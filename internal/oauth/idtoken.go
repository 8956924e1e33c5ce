package oauth

import (
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// idTokenFor is whom an ID token is about and for.
type idTokenFor struct {
	subject, nonce string
	who            *account.Person
	client         client.Client
	pair           assurance.Pair
	acr, session   string
	scopes         []string
	asked          []grant.ClaimAsked
}

// idToken makes an ID token (OpenID Connect Core §2), signed with the algorithm that
// its client is registered for and with no other. It lives as long as an
// access token and is never accepted as one. Its sid is the session's handle
// towards this client, so that two clients cannot compare.
func (s *Server) idToken(seal act.Sealing, t idTokenFor) (string, error) {
	c := jose.IDTokenClaims{
		Issuer: s.Issuer, Subject: t.subject, Audience: jose.Audience{t.client.ClientID}, Nonce: t.nonce,
		IssuedAt: jose.Date(seal.At), ExpiresAt: jose.Date(seal.At.Add(TokenLifetime)),
		AuthTime: date(t.pair.AuthTime), ACR: t.acr, AMR: t.pair.AMR,
	}
	if slices.Contains(t.scopes, "profile") { // the others are userinfo's
		c.Name = t.who.Name
	}
	some := told(t.who, nil, t.asked)
	if v, ok := some["name"].(string); ok {
		c.Name = v
	}
	c.PreferredUsername, _ = some["preferred_username"].(string)
	c.Email, _ = some["email"].(string)
	c.EmailVerified, _ = some["email_verified"].(bool)
	var err error
	if c.SessionID, err = s.sessionAt(t.client, t.session); err != nil {
		return "", err
	}
	signer, err := s.Keys.Signer(keyring.IDToken, t.client.SignedWith(), jose.TypIDToken)
	if err != nil {
		return "", err
	}
	return signer.Sign(c)
}

// sessionAt is the sid by which a client knows a session (Front-Channel Logout §3).
func (s *Server) sessionAt(c client.Client, session string) (string, error) {
	key, err := s.Keys.AudienceKey(c.ClientID)
	if err != nil {
		return "", err
	}
	h, err := lineage.Handles(key, []lineage.Node{{ID: session, Kind: lineage.Session}})
	if err != nil {
		return "", err
	}
	return h[0], nil
}

func date(t time.Time) jose.NumericDate {
	if t.IsZero() {
		return 0
	}
	return jose.Date(t)
}
