package oauth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// accessToken is what an access token is to say (contract, RFC 9068).
type accessToken struct {
	subject  string
	client   client.Client
	audience string
	scopes   []string
	life     time.Duration
	bound    binding
	details  []resource.Element
	nodes    []lineage.Node // every ancestor that can be revoked alone
	session  string         // "" for machines
	pair     assurance.Pair // of a person; zero for machines (F6)
	acr      string
	mayAct   *jose.Actor // see tokenRequest.mayAct
	acting   *acting     // nil: nobody acts for the subject
}

// acting is what a token says of who acts for its subject (mechanisms G1).
type acting struct {
	actor      *jose.Actor
	assurance  *jose.Assurance
	delegation lineage.Node
}

// sign makes the token; its jti is the record's id. iat was taken before
// anything was read (mechanisms C6).
func (s *Server) sign(seal act.Sealing, t accessToken) (string, error) {
	key, err := s.Keys.AudienceKey(s.handlesFor(t.audience, t.client))
	if err != nil {
		return "", err
	}
	lin, err := s.handles.of(key, t.nodes)
	if err != nil {
		return "", err
	}
	c := jose.AccessTokenClaims{
		Issuer: s.Issuer, Subject: t.subject, Audience: jose.Audience{t.audience}, ClientID: t.client.ClientID,
		IssuedAt: jose.Date(seal.At), ExpiresAt: jose.Date(seal.At.Add(t.life)), JTI: seal.RecordID,
		Scope: strings.Join(t.scopes, " "), Lineage: lin,
	}
	c.Confirmation = t.bound.confirmation()
	if len(t.details) > 0 {
		if c.AuthorizationDetails, err = json.Marshal(t.details); err != nil {
			return "", err
		}
	}
	if t.acr != "" {
		c.ACR, c.AMR, c.AuthTime = t.acr, t.pair.AMR, date(t.pair.AuthTime)
	}
	if t.session != "" {
		for _, n := range t.nodes {
			if n.ID == t.session {
				one, err := lineage.Handles(key, []lineage.Node{n})
				if err != nil {
					return "", err
				}
				c.SessionID = one[0]
			}
		}
	}
	c.MayAct = t.mayAct
	if a := t.acting; a != nil {
		one, err := lineage.Handles(key, []lineage.Node{a.delegation})
		if err != nil {
			return "", err
		}
		c.Actor, c.Assurance, c.Depth, c.Delegation = a.actor, a.assurance, a.actor.Depth(), one[0]
	}
	signer, err := s.Keys.Signer(keyring.Token, "ES256", "at+jwt")
	if err != nil {
		return "", err
	}
	return signer.Sign(c)
}

// handleCache remembers handles: a name towards an audience never changes while
// the lineage key does not, and a machine asks for the same ones again and again.
type handleCache struct {
	mu    sync.RWMutex
	known map[string][]string
}

const maxHandles = 4096

func (c *handleCache) of(key []byte, nodes []lineage.Node) ([]string, error) {
	name := make([]byte, 0, len(key)+30*len(nodes))
	name = append(name, key...)
	for _, n := range nodes {
		if n.Kind.Named() {
			name = append(append(name, n.ID...), byte(n.Kind))
		}
	}
	c.mu.RLock()
	lin, ok := c.known[string(name)]
	c.mu.RUnlock()
	if ok {
		return lin, nil
	}
	lin, err := lineage.Handles(key, nodes)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxHandles {
		c.known = make(map[string][]string)
	}
	c.known[string(name)] = lin
	return lin, nil
}

// identityScopes belong to the authorization server itself (OpenID Connect Core
// §5.4), not to a resource.
var identityScopes = []string{"openid", "profile", "email", "offline_access"}

func isIdentity(scope string) bool { return slices.Contains(identityScopes, scope) }

func without(list, drop []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		if !slices.Contains(drop, s) {
			out = append(out, s)
		}
	}
	return out
}

// replayed is the answer to an assertion or proof that was seen before.
func replayed(used *once.Used) *problem.Error {
	if used.Purpose == once.Assertion {
		return errClient.Because(used)
	}
	return problem.New(problem.Invalid, "invalid_dpop_proof", "This DPoP proof was used before.").Because(used)
}

// notLive is a programming error kept from becoming a token.
func mustHave(nodes []lineage.Node, id string) error {
	if !slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.ID == id }) {
		return fmt.Errorf("the lineage of a token lacks %s", id)
	}
	return nil
}
