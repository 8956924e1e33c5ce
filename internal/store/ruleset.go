package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// rulesetChange writes a version. It moves the version of the deployment, which
// every act guards: what was decided by the policies before is decided again.
func (s *Store) rulesetChange(u *unit, c act.Change) bool {
	p, ok := c.(ruleset.Publish)
	if !ok {
		return false
	}
	s.moveSelf(u)
	u.check(p.N-1, refused(policyMoved), headSQL)
	u.check(0, refused(ruleset.Running()), openRolloutsSQL) // one that ends in this act has
	if p.Spends {
		u.spend(p.Publication, p.By, p.Hash, "", p.N-1, p.N)
	}
	u.then(`INSERT INTO ruleset (n, hash, source, author, note, restores, record_id, published_at, carrier, publication, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		p.N, p.Hash, members(p.Source), p.By, p.Note, p.Of, u.record, orNow(p.PublishedAt, u.at).UnixMicro(), p.Carrier, p.Publication, signatureText(p.Signature))
	return true
}

var policyMoved = problem.New(problem.Conflict, "policy_moved", "Somebody else has just published another version. Look at it, then publish again.")

const (
	headSQL    = `SELECT COALESCE(MAX(n), 0) FROM ruleset`
	rulesetSQL = `SELECT n, hash, author, note, restores, record_id, published_at, carrier, publication`
)

// Head of the policies, as of a version of the deployment's node.
type policyHead struct {
	version, n int64
	rollout    *policy.Rollout
}

// policyHead gives the number of the version in force in the snapshot, and the rollout
// that runs, read once for each version of the deployment: publishing moves that.
func (l *loader) policyHead(ctx context.Context, version int64) error {
	if h := l.head.Load(); h != nil && h.version == version {
		l.facts.Ruleset, l.facts.Rollout = h.n, h.rollout
		return nil
	}
	n, _, err := one(ctx, l.r, scanInt, headSQL)
	if err != nil {
		return err
	}
	l.facts.Ruleset = n
	r, runs, err := openRollout(ctx, l.r)
	if err != nil {
		return err
	}
	if runs {
		l.facts.Rollout = r.Plan()
	}
	l.head.Store(&policyHead{version, n, l.facts.Rollout})
	return nil
}

// PolicyHead implements ruleset.Store.
func (s *Store) PolicyHead(ctx context.Context) (int64, error) {
	n, _, err := one(ctx, s.db, scanInt, headSQL)
	return n, err
}

// Forget drops the facts that are remembered of every act, so that the next are
// decided on what is stored now.
func (s *Store) Forget() {
	if self := s.self.Load(); self != nil {
		s.cache.touch([]string{*self})
	}
}

// Ruleset implements ruleset.Store.
func (s *Store) Ruleset(ctx context.Context, n int64) (ruleset.Version, error) {
	return need(ctx, s.db, "policy_version", func(row Row) (ruleset.Version, error) {
		var v ruleset.Version
		var at int64
		var source, signature string
		err := row.Scan(&v.N, &v.Hash, &v.By, &v.Note, &v.Of, &v.Record, &at, &v.Carrier, &v.Publication, &source, &signature)
		if err == nil {
			v.Signature, err = signatureOf(signature)
		}
		if err != nil {
			return ruleset.Version{}, err
		}
		v.PublishedAt = moment(at)
		if err := json.Unmarshal([]byte(source), &v.Source); err != nil {
			return ruleset.Version{}, fmt.Errorf("store: the source of policy version %d: %w", v.N, err)
		}
		return v, nil
	}, rulesetSQL+`, source, signature FROM ruleset WHERE n = $1`, n)
}

// Rulesets implements ruleset.Store.
func (s *Store) Rulesets(ctx context.Context, before int64, n int) ([]ruleset.Version, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return all(ctx, s.db, func(row Row) (ruleset.Version, error) {
		var v ruleset.Version
		var at int64
		err := row.Scan(&v.N, &v.Hash, &v.By, &v.Note, &v.Of, &v.Record, &at, &v.Carrier, &v.Publication)
		v.PublishedAt = moment(at)
		return v, err
	}, rulesetSQL+` FROM ruleset WHERE n < $1 ORDER BY n DESC LIMIT $2`, before, int64(n))
}
