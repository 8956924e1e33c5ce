package server

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

const problemNotFound = problem.NotFound

// CLIClient is the client_id of the command line.
const CLIClient = "countersign-cli"

// system are the references of an act of the server itself.
func system(target ...string) act.Refs { return act.Refs{Kind: policy.KindSystem, Target: target} }

func changes(list ...act.Change) func(*act.Facts, policy.Decision) (act.Effect, error) {
	return func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: list}, nil }
}

// found makes the identity of a new deployment: the first entry of its log.
func (s *State) found(ctx context.Context) error {
	born := store.BornProduction
	if s.Config.Development {
		born = store.BornDevelopment
	}
	list := []act.Change{store.Found{Deployment: store.Deployment{ID: id.New("dpl_"), Born: born, Issuer: s.Config.Issuer, CreatedAt: s.now()}}}
	if place, ok := s.Store.DatabasePlace(); ok {
		list = append(list, store.KeepPlace{Place: place})
	}
	_, err := s.Do.Do(ctx, act.Intent{Action: policy.SandboxSeed, Kind: audit.LogOpened, Refs: system(), Changes: changes(list...)})
	if errors.Is(err, problem.Conflict) { // another replica was first
		return nil
	}
	return err
}

// builtIns makes what every deployment has: keys, the administrators group, the
// /v1 resource, the command line's client. Another replica may be first: then
// there is nothing left to make.
func (s *State) builtIns(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.makeKeys, s.makeGroup, s.makeSelf, s.makeCLI} {
		if err := step(ctx); err != nil && !errors.Is(err, problem.Conflict) {
			return err
		}
	}
	return s.Store.IndexServers(ctx) // those of an older release, which may still run beside this one
}

func (s *State) makeKeys(ctx context.Context) error {
	missing, err := s.Ring.Missing()
	if err != nil || len(missing) == 0 {
		return err
	}
	return s.publish(ctx, missing...)
}

// publish stores keys, which by that are in the JWKS; one that another process made
// at the same moment is as good.
func (s *State) publish(ctx context.Context, keys ...keyring.Key) error {
	for _, k := range keys {
		_, err := s.Do.Do(ctx, act.Intent{
			Action: policy.KeyRotate, Kind: audit.KeyPublished, Refs: system(),
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{Changes: []act.Change{keyring.Add{Key: k}}, Parts: keyPart(k)}, nil
			},
		})
		if err != nil && !errors.Is(err, problem.Conflict) {
			return err
		}
	}
	return s.Ring.Reload(ctx)
}

// Demand has a key of an algorithm that a client is about to need, published before
// that client is.
func (s *State) Demand(ctx context.Context, p keyring.Purpose, alg string) error {
	k, ok, err := s.Ring.Demanded(p, alg)
	if err != nil || !ok {
		return err
	}
	return s.publish(ctx, k)
}

// keyPart names a key in the log.
func keyPart(k keyring.Key) []audit.Part {
	return []audit.Part{{Body: map[string]any{"kid": k.ID, "purpose": string(k.Purpose), "alg": k.Alg, "signs_from": k.ActivateAt.UTC().Format(time.RFC3339)}}}
}

func (s *State) makeGroup(ctx context.Context) error {
	if _, err := s.Store.GroupByName(ctx, group.Administrators); !errors.Is(err, problem.NotFound) {
		return err
	}
	return s.Seed(ctx, audit.GroupCreated, group.Create{Group: group.Group{ID: id.New(id.Group), Name: group.Administrators, Kind: group.Plain, CreatedAt: s.now()}})
}

// makeSelf makes the resource of the management API, and brings its scopes up to
// date after an upgrade.
func (s *State) makeSelf(ctx context.Context) error {
	have, err := s.Store.ResourceByURI(ctx, s.Config.Issuer+"/v1")
	want := admin.Resource(s.Config.Issuer)
	switch {
	case err == nil && !reflect.DeepEqual(have.Scopes, want.Scopes):
		have.Scopes = want.Scopes
		return s.Seed(ctx, audit.ResourceUpdated, resource.Update{Resource: have})
	case !errors.Is(err, problem.NotFound):
		return err
	}
	return s.Seed(ctx, audit.ResourceCreated, admin.Create(s.Config.Issuer, s.now()))
}

// makeCLI makes the command line's client, which may sign in by code once the
// deployment lets devices do that.
func (s *State) makeCLI(ctx context.Context) error {
	have, err := s.Store.ClientByClientID(ctx, CLIClient)
	byCode := s.Config.DeviceAuthorization.Enabled
	switch {
	case err == nil && byCode && !have.Allows(client.DeviceCode):
		have.GrantTypes, have.DeviceConfirm = append(have.GrantTypes, client.DeviceCode), true
		return s.Seed(ctx, audit.ClientUpdated, client.Update{Client: have})
	case !errors.Is(err, problem.NotFound):
		return err
	}
	grants := []client.GrantType{client.AuthorizationCode, client.RefreshToken}
	if byCode {
		grants = append(grants, client.DeviceCode)
	}
	return s.Seed(ctx, audit.ClientCreated, client.Create{Client: client.Client{
		ID: id.New(id.Client), ClientID: CLIClient, Name: "Countersign command line", AuthMethod: client.AuthNone,
		RedirectURIs: []string{"http://127.0.0.1/callback", "http://[::1]/callback", "http://localhost/callback"},
		GrantTypes:   grants, Scopes: []string{"*"}, Resources: []string{"*"}, Metadata: client.Metadata{Decoupled: client.Decoupled{DeviceConfirm: byCode}},
		FirstParty: true, Native: true, RequireDPoP: true, ManagedBy: "built-in", CreatedAt: s.now(),
	}})
}

// Seed makes something at the server's own word: built-in things, and the
// sandbox's samples. The record names it.
func (s *State) Seed(ctx context.Context, kind audit.Kind, list ...act.Change) error {
	named := map[string]any{}
	for _, c := range list {
		switch c := c.(type) {
		case client.Create:
			named["client"] = c.Name
		case client.Update:
			named["client"] = c.Name
		case resource.Create:
			named["resource"] = c.Name
		case resource.Update:
			named["resource"] = c.Name
		case group.Create:
			named["group"] = c.Name
		case ruleset.Publish:
			named["policy"], named["version"] = c.Hash, c.N
		}
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.SandboxSeed, Kind: kind, Refs: system(),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: list, Parts: []audit.Part{{Body: named}}}, nil
		},
	})
	return err
}

// RotateKey publishes a successor for the signing key of a purpose.
func (s *State) RotateKey(ctx context.Context, p keyring.Purpose, alg string, as act.Refs) (keyring.Key, error) {
	add, retire, err := s.Ring.Rotation(p, alg)
	if err != nil {
		return keyring.Key{}, problem.New(problem.Invalid, "key_not_rotated", "Keys of that purpose are not rotated this way.").Because(err)
	}
	list := []act.Change{add}
	var ids []string
	for _, r := range retire {
		list = append(list, r)
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.KeyRotate, Kind: audit.KeyPublished, Refs: as,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: list, Detail: map[string]any{"replaces": ids}, Parts: keyPart(add.Key)}, nil
		},
	})
	if err != nil {
		return keyring.Key{}, err
	}
	return add.Key, s.Ring.Reload(ctx)
}
