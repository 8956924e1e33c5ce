package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Fixture is what somebody else's test of a policy decision point needs to find: a
// resource server that may ask, and people with names of the test's choice.
type Fixture struct {
	Audience string            // the resource, by its identifier
	Client   string            // the client_id of whoever asks
	People   map[string]string // the group of each, by the subject of their tokens
}

// SeedFixture makes the fixture in a sandbox, where it is not there yet, and gives the
// client's secret, which is another at each start (mechanisms I25). The people cannot
// sign in. problem.Denied if this is a real deployment, problem.Conflict (policies_own) if
// the policies in force have nothing that is decided for the audience.
func (s *State) SeedFixture(ctx context.Context, f Fixture) (secret.Value, error) {
	v := secret.New(secret.ClientSecret)
	hash := v.Hash()
	if !s.Config.Development {
		return v, problem.New(problem.Denied, "not_a_sandbox", "Fixtures are for development mode.")
	}
	set, _, err := s.policiesInForce(ctx)
	if err != nil {
		return v, err
	}
	if len(set.Places(f.Audience)) == 0 {
		return v, problem.New(problem.Conflict, "policies_own", "Somebody published policies in this sandbox, which are left alone, and they say nothing of "+f.Audience+".").
			WithHint("Start one in another folder: countersignd sandbox --authzen --dir FOLDER")
	}
	for _, sub := range slices.Sorted(maps.Keys(f.People)) {
		if err := s.seedMember(ctx, sub, f.People[sub]); err != nil {
			return v, err
		}
	}
	c, err := s.Store.ClientByClientID(ctx, f.Client)
	if err == nil {
		return v, s.Seed(ctx, audit.ClientUpdated, client.RotateSecret{ID: c.ID, SecretHash: hash})
	}
	if !errors.Is(err, problem.NotFound) {
		return v, err
	}
	c = client.Client{
		ID: id.New(id.Client), ClientID: f.Client, Name: f.Client, AuthMethod: client.AuthSecretBasic, SecretHash: &hash,
		GrantTypes: []client.GrantType{client.ClientCredentials}, ManagedBy: "built-in", CreatedAt: s.now(),
	}
	svc := client.Service{
		ID: id.New(id.Service), Subject: id.Random(id.Service), Name: f.Client, Purpose: "asks about " + f.Audience,
		ReviewBy: s.now().Add(90 * 24 * time.Hour), CreatedAt: s.now(),
	}
	c.Service = svc.ID
	res := resource.Resource{ID: id.New(id.Resource), URI: f.Audience, Name: f.Audience, Servers: []string{c.ID}, ManagedBy: "built-in", CreatedAt: s.now()}
	return v, s.Seed(ctx, audit.ClientCreated, client.Create{Client: c, NewService: &svc}, act.Change(resource.Create{Resource: res}))
}

// seedMember makes a person, and the group that they are in, where they are not there.
func (s *State) seedMember(ctx context.Context, sub, name string) error {
	if _, err := s.Store.PersonBySubject(ctx, sub); !errors.Is(err, problem.NotFound) {
		return err
	}
	g, err := s.Store.GroupByName(ctx, name)
	if errors.Is(err, problem.NotFound) {
		g = group.Group{ID: id.New(id.Group), Name: name, Kind: group.Plain, CreatedAt: s.now()}
		err = s.Seed(ctx, audit.GroupCreated, group.Create{Group: g})
	}
	if err != nil {
		return err
	}
	p := account.Person{ID: id.New(id.Person), Subject: sub, Name: strings.ToUpper(sub[:1]) + sub[1:], Username: "authzen-" + sub, CreatedAt: s.now()}
	return s.Seed(ctx, audit.PersonCreated, account.Create{Person: p, Groups: []string{g.ID}})
}
