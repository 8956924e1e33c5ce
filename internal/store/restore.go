package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
)

// Anchor is how far a deployment is known to have been, by something that a
// restored backup does not take back with it (mechanisms I7).
type Anchor struct {
	By    string   `json:"by"` // what remembers, see the constants
	Epoch int64    `json:"epoch"`
	HW    uint64   `json:"hw"`             // size of the log; 0: not known
	Kids  []string `json:"kids,omitempty"` // signing keys that had been withdrawn
}

// What remembers how far a deployment has been.
const (
	ByFile     = "file"     // the side file
	ByWitness  = "witness"  // a witness, or a sink of checkpoints
	ByFeed     = "feed"     // an enforcement point
	ByRefresh  = "refresh"  // a refresh token of a later generation
	ByDatabase = "database" // PostgreSQL's own identity and position
	ByRestore  = "restore"  // whoever ran the restore
	ByOperator = "operator"
)

// Ahead reports whether the anchor has seen more than a database whose epoch and
// log size are these.
func (a Anchor) Ahead(epoch int64, size uint64) bool {
	return a.Epoch > epoch || a.Epoch == epoch && a.HW > size
}

// Quarantine stops issuing (mechanisms I8), and keeps what was seen. In a
// deployment that is in quarantine already it only keeps what was seen.
type Quarantine struct {
	Why  string
	Seen Anchor // the farthest of all that were seen
}

// Change marks Quarantine as a change.
func (Quarantine) Change() {}

// The facts that a deployment keeps about itself, by name.
const (
	FactSeen      = "seen"      // the farthest Anchor of a quarantine
	FactBackup    = "backup"    // the newest backup
	FactRehearsed = "rehearsed" // the newest backup that was rehearsed
	FactAhead     = "ahead"     // a refresh token of a later generation was seen
	FactReplayed  = "replayed"  // how far an export was replayed in this quarantine
)

// Keep keeps a fact.
type Keep struct{ Name, Value string }

// Change marks Keep as a change.
func (Keep) Change() {}

func (s *Store) restoreChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case Quarantine:
		s.touchSelf(u)
		u.then(`UPDATE node SET frozen_at = $1, why = $2, version = version + 1 WHERE frozen_at IS NULL AND id IN (SELECT id FROM deployment)`,
			u.at.UnixMicro(), c.Why)
		u.fact(FactSeen, asJSON(c.Seen))
	case Keep:
		u.fact(c.Name, c.Value)
	case Leave:
		s.leave(u, c)
	case Release:
		u.release(c)
	case Reapply:
		s.reapply(u, c)
	default:
		return s.floorChange(u, c) || s.placeChange(u, c)
	}
	return true
}

// touchSelf forgets what was cached: all of it was decided on the deployment.
func (s *Store) touchSelf(u *unit) {
	if self := s.self.Load(); self != nil {
		u.touched = append(u.touched, *self)
	}
}

const factSQL = `INSERT INTO deployment_fact (name, value, at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at`

func (u *unit) fact(name, value string) { u.then(factSQL, name, value, u.at.UnixMicro()) }

// Fact is something that a deployment knows about itself.
type Fact struct {
	Value string
	At    time.Time
}

// Fact reads a fact; ok is false if it was never kept.
func (s *Store) Fact(ctx context.Context, name string) (f Fact, ok bool, err error) {
	f, ok, err = one(ctx, s.db, func(row Row) (f Fact, err error) {
		var at int64
		err = row.Scan(&f.Value, &at)
		f.At = moment(at)
		return f, err
	}, `SELECT value, at FROM deployment_fact WHERE name = $1`, name)
	if err != nil {
		return f, false, fmt.Errorf("store: read the fact %s: %w", name, err)
	}
	return f, ok, nil
}

// Seen is the farthest that anything has seen this deployment, as far as its
// quarantine knows; the zero value if it never was in one in this epoch.
func (s *Store) Seen(ctx context.Context) (a Anchor, err error) {
	f, ok, err := s.Fact(ctx, FactSeen)
	if err == nil && ok {
		err = json.Unmarshal([]byte(f.Value), &a)
	}
	return a, err
}

// deploymentID is the id of the deployment, "" while there is none.
func (s *Store) deploymentID(ctx context.Context) (string, error) {
	if self := s.self.Load(); self != nil {
		return *self, nil
	}
	self, ok, err := one(ctx, s.db, scanString, `SELECT id FROM deployment WHERE one = 1`)
	if err != nil {
		return "", fmt.Errorf("store: read the deployment: %w", err)
	}
	if ok {
		s.self.Store(&self)
	}
	return self, nil
}
