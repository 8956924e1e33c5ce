package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// OpenForAdoption opens a stopped development database in order to make it a real
// deployment (mechanisms I24). The configuration may be the sandbox's, or that of
// the deployment to be. problem.Conflict (not_a_sample) if it is a real one.
func OpenForAdoption(ctx context.Context, cfg *config.Config, o Options, to string) (*State, error) {
	if _, _, err := config.CheckIssuer(to, ""); err != nil {
		return nil, problem.New(problem.Invalid, "issuer_invalid", "The new issuer cannot be used: "+err.Error())
	}
	return openAs(ctx, cfg, o, to, func(c *config.Config, d store.Deployment) error {
		if d.Born != store.BornDevelopment || !d.AdoptedAt.IsZero() {
			return problem.New(problem.Conflict, "not_a_sample", "This database belongs to a real deployment. Nothing was changed.")
		}
		c.Development = true
		return nil
	})
}

// Samples are what adopting would remove.
type Samples struct{ People, Clients, Resources int }

// Samples counts what is there, at most 1,000 of each.
func (s *State) Samples(ctx context.Context) (Samples, error) {
	const most = 1000
	people, err := s.Store.People(ctx, "", most)
	clients, err2 := s.Store.Clients(ctx, "", most)
	resources, err3 := s.Store.Resources(ctx, "", most)
	return Samples{len(people), len(clients), len(resources)}, errors.Join(err, err2, err3)
}

// Adopt makes a real deployment of a development database: in one act its issuer
// is to, its keys are withdrawn, and all that it held is removed. Then what every
// deployment has is made anew; if that is cut short, the next start does it. Set-up
// stays closed if it was done: then link is a recovery link, as RecoverAdmin makes
// it, else "", and the server offers a setup link when it starts.
func (s *State) Adopt(ctx context.Context, to, username string) (link string, err error) {
	from := s.Config.Issuer
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.DeploymentAdopt, Kind: audit.DeploymentAdopted, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
			changes := []act.Change{store.Adopt{Issuer: to}, store.Clear{}}
			if f.Ruleset > 0 { // a sandbox's policies are no real deployment's
				src := policy.Default()
				changes = append(changes, ruleset.Publish{Version: ruleset.Version{N: f.Ruleset + 1, Hash: src.Hash(), Source: src, Note: "adopted"}})
			}
			return act.Effect{
				Changes: changes,
				Parts:   []audit.Part{{Body: map[string]any{"from": from, "to": to}}},
			}, nil
		},
	})
	if err != nil {
		return "", err
	}
	c := *s.Config
	c.Issuer, c.Development = to, false
	if c.RPID, _, err = config.CheckIssuer(to, ""); err != nil {
		return "", err
	}
	s.Config = &c
	// The checkpoint beside the database was signed with the sample key.
	if err := os.Remove(filepath.Join(c.DataDir, "checkpoint")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := errors.Join(s.readEpoch(ctx), s.Ring.Reload(ctx)); err != nil {
		return "", err
	}
	if err := s.builtIns(ctx); err != nil {
		return "", err
	}
	done, err := s.Store.SetUp(ctx)
	if err != nil || !done.Done {
		return "", err
	}
	return s.RecoverAdmin(ctx, username)
}
