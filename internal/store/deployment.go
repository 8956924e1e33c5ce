package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
)

// Deployment is what a database belongs to. Born is "development" or
// "production" and never changes (mechanisms I24).
type Deployment struct {
	ID        string
	Born      string
	Issuer    string
	CreatedAt time.Time
	AdoptedAt time.Time // of a development deployment that became a real one; zero otherwise
	// Epoch is the restore epoch, 1 for a database that never went back in time
	// (mechanisms I10): the log and the feed go by it.
	Epoch   int64
	EpochAt time.Time // when it began: tokens issued before are refused; zero for the first
	// Quarantined is when the deployment stopped issuing, because its database has
	// gone back in time (mechanisms I8), and Why; zero if it has not.
	Quarantined time.Time
	Why         string
}

// How a deployment may be born.
const (
	BornDevelopment = "development"
	BornProduction  = "production"
)

// Found writes the single row of a new deployment; problem.Conflict
// (deployment_exists) if there is one.
type Found struct{ Deployment }

// Adopt says that a development deployment became a real one (mechanisms I24):
// how it was born stays. What else that takes is the caller's.
type Adopt struct{ Issuer string }

// Change marks Found as a change.
func (Found) Change() {}

// Change marks Adopt as a change.
func (Adopt) Change() {}

func (s *Store) deploymentChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case Found:
		u.then(`INSERT INTO deployment (one, id, born, issuer, created_at) VALUES (1, $1, $2, $3, $4)`,
			c.ID, c.Born, c.Issuer, orNow(c.CreatedAt, u.at).UnixMicro())
		u.node(c.ID, 0)
	case Adopt:
		u.endRollout()
		u.changeOne("deployment", `UPDATE deployment SET adopted_at = $1, issuer = $2 WHERE one = 1 AND born = $3 AND adopted_at IS NULL`,
			u.at.UnixMicro(), c.Issuer, BornDevelopment)
	default:
		return s.handoverChange(u, c) || s.restoreChange(u, c)
	}
	return true
}

// Deployment reads what this database belongs to; problem.NotFound if it is
// empty.
func (s *Store) Deployment(ctx context.Context) (Deployment, error) {
	return readDeployment(ctx, s.db)
}

func readDeployment(ctx context.Context, r Reader) (Deployment, error) {
	return need(ctx, r, "deployment", func(row Row) (Deployment, error) {
		var d Deployment
		var at, adopted, epochAt, frozen int64
		err := row.Scan(&d.ID, &d.Born, &d.Issuer, &at, &adopted, &d.Epoch, &epochAt, &frozen, &d.Why)
		d.CreatedAt, d.AdoptedAt, d.EpochAt, d.Quarantined = moment(at), moment(adopted), moment(epochAt), moment(frozen)
		return d, err
	}, `SELECT d.id, d.born, d.issuer, d.created_at, COALESCE(d.adopted_at, 0), d.epoch, COALESCE(d.epoch_at, 0), COALESCE(n.frozen_at, 0), n.why
FROM deployment d JOIN node n ON n.id = d.id WHERE d.one = 1`)
}
