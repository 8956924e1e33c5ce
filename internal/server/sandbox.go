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
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// SampleAPIClient is the client_id of the sandbox's sample API.
const SampleAPIClient = "sample-notes"

// Sample is what the sandbox's sample API is.
type Sample struct {
	URI      string           // its address, by which its resource is known
	Key      crypto.PublicKey // of this run
	Schema   string           // of what its policies speak of
	Policies string           // in Cedar
}

// SeedSandbox makes the sample API's resource and client, or gives the client
// this run's key: sample keys are fresh each run (mechanisms I25). Its policies come
// into force beside the default ones.
func (s *State) SeedSandbox(ctx context.Context, sample Sample) error {
	kid, err := jose.Thumbprint(sample.Key)
	if err != nil {
		return err
	}
	jwks, err := json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{Key: sample.Key, KeyID: kid, Algorithm: "ES256"}}})
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
	if err := s.seedSampleResource(ctx, sample.URI, c.ID); err != nil {
		return err
	}
	return s.seedSamplePolicies(ctx, sample)
}

// sampleNote is what a version of the policies says that the sandbox published.
const sampleNote = "the default set, and the sample API's"

// seedSamplePolicies publishes the sample API's policies with the default set, and again
// when either changes or the API has moved: until somebody publishes others.
func (s *State) seedSamplePolicies(ctx context.Context, sample Sample) error {
	src := policy.Default()
	src.Schema, src.Files = sample.Schema, append(src.Files, policy.File{Name: "notes.cedar", Text: sample.Policies})
	head, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return err
	}
	if head > 0 {
		v, err := s.Store.Ruleset(ctx, head)
		if err != nil || v.By != "" || v.Note != sampleNote || v.Hash == src.Hash() {
			return err
		}
	}
	_, runs, err := s.Store.OpenRollout(ctx)
	if err != nil || runs { // nothing is published beside one
		return err
	}
	return s.Seed(ctx, audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: head + 1, Hash: src.Hash(), Source: src, Note: sampleNote, Of: ruleset.NoVersion}})
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
