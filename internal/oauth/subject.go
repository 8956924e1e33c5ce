package oauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/client"
)

// subject is what a client knows a person by: the person's random subject, or for a
// pairwise client one that only its sector has (OpenID Connect Core §8.1). It is an
// HMAC, so that it never changes and nobody without the key can go back, or from one
// sector to another. Access tokens, introspection, userinfo, ID and logout tokens all
// say the same one.
func (s *Server) subject(c client.Client, p *account.Person) (string, error) {
	sector, ok := c.Sector()
	if !ok {
		return p.Subject, nil
	}
	key, err := s.Keys.PairwiseKey()
	if err != nil {
		return "", err
	}
	within := sha256.Sum256([]byte(sector))
	sum := canon.M(key, canon.LabelPairwise, within[:], []byte(p.Subject))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// isSubject reports whether a client knows a person by a subject.
func (s *Server) isSubject(c client.Client, p *account.Person, sub string) (bool, error) {
	own, err := s.subject(c, p)
	return err == nil && hmac.Equal([]byte(own), []byte(sub)), err
}

// handlesFor is whose handles (mechanisms C3) a token has: its audience's. A token
// for this server itself is read by nobody but its client, so those of pairwise
// clients have handles of their own: two of them cannot compare.
func (s *Server) handlesFor(audience string, c client.Client) string {
	if _, pairwise := c.Sector(); pairwise && audience == s.Issuer {
		return audience + " " + c.ClientID
	}
	return audience
}
