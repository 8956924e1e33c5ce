package server

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// SampleAPIClient is the client_id of the sandbox's sample API.
const SampleAPIClient = "sample-notes"

// SeedSandbox makes the sample API's resource and client, or gives the client
// this run's key: sample keys are fresh each run (mechanisms I25).
func (s *State) SeedSandbox(ctx context.Context, uri string, key crypto.PublicKey) error {
	kid, err := jose.Thumbprint(key)
	if err != nil {
		return err
	}
	jwks, err := json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{Key: key, KeyID: kid, Algorithm: "ES256"}}})
	if err != nil {
		return err
	}
	c, err := s.Store.ClientByClientID(ctx, SampleAPIClient)
	switch {
	case err == nil:
		c.JWKS = jwks
		err = s.Seed(ctx, audit.ClientUpdated, client.Update{Client: c})
	case errors.Is(err, problem.NotFound):
		c, err = s.seedSampleClient(ctx, jwks)
	}
	if err != nil {
		return err
	}
	return s.seedSampleResource(ctx, uri, c.ID)
}

// seedSampleClient makes the client; its service has no owner yet, because
// nobody has set the sandbox up.
func (s *State) seedSampleClient(ctx context.Context, jwks json.RawMessage) (client.Client, error) {
	self, err := s.Store.ResourceByURI(ctx, s.Config.Issuer+"/v1")
	if err != nil {
		return client.Client{}, err
	}
	now := s.now()
	svc := client.Service{
		ID: id.New(id.Service), Subject: id.Random(id.Service), Name: "Sample notes API", Purpose: "The sandbox's sample API: hears of revocations",
		ReviewBy: now.Add(90 * 24 * time.Hour), CreatedAt: now,
	}
	c := client.Client{
		ID: id.New(id.Client), ClientID: SampleAPIClient, Name: "Sample notes API", AuthMethod: client.AuthPrivateKeyJWT, JWKS: jwks,
		GrantTypes: []client.GrantType{client.ClientCredentials}, Scopes: []string{"feed"}, Resources: []string{self.ID},
		RequireDPoP: true, Service: svc.ID, ManagedBy: "built-in", CreatedAt: now,
	}
	return c, s.Seed(ctx, audit.ClientCreated, client.Create{Client: c, NewService: &svc})
}

func (s *State) seedSampleResource(ctx context.Context, uri, server string) error {
	if _, err := s.Store.ResourceByURI(ctx, uri); !errors.Is(err, problem.NotFound) {
		return err
	}
	return s.Seed(ctx, audit.ResourceCreated, act.Change(resource.Create{Resource: resource.Resource{
		ID: id.New(id.Resource), URI: uri, Name: "Sample notes", Servers: []string{server}, RequireDPoP: true, DelegationAware: true,
		ManagedBy: "built-in", CreatedAt: s.now(),
		Scopes: []resource.Scope{
			{Name: "notes:read", Description: "Read your notes", Kind: "read", Default: true},
			{Name: "notes:write", Description: "Write notes", Kind: "change", Default: true},
			{
				Name: "keys:rotate", Description: "Rotate the key", Kind: "admin",
				Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute},
			},
		},
	}}))
}
