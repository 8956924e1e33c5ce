package store

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
)

func (s *Store) delegationChange(u *unit, c act.Change) bool {
	d, ok := c.(grant.Delegate)
	if !ok {
		return false
	}
	// Two that make the first one at once wait for each other at what is exchanged;
	// the second finds the first's, and decides again.
	u.lock(d.Parent, "ancestor")
	u.check(0, nil, `SELECT COUNT(*) FROM delegation d JOIN node n ON n.id = d.id WHERE d.parent = $1 AND d.client = $2 AND n.ended_at IS NULL`, d.Parent, d.Client)
	u.node(d.ID, lineage.Delegation, d.Parent, d.Client)
	u.then(`INSERT INTO delegation (id, parent, grant_id, subject, origin, client, actor, depth, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		d.ID, d.Parent, d.Grant, d.Subject, d.Origin, d.Client, d.Actor, int64(d.Depth), orNow(d.CreatedAt, u.at).UnixMicro())
	return true
}

const delegationSQL = `SELECT d.parent, d.grant_id, d.subject, d.origin, d.client, d.actor, d.depth, d.created_at, ` + nodeCols +
	` FROM delegation d JOIN node n ON n.id = d.id `

func scanDelegation(row Row) (grant.Delegation, error) {
	var d grant.Delegation
	var n nodeRow
	var depth, created int64
	if err := row.Scan(n.dest(&d.Parent, &d.Grant, &d.Subject, &d.Origin, &d.Client, &d.Actor, &depth, &created)...); err != nil {
		return grant.Delegation{}, err
	}
	d.ID, d.Depth, d.CreatedAt, d.Node = n.id, int(depth), moment(created), n.node()
	return d, nil
}

// Delegation implements grant.Store.
func (s *Store) Delegation(ctx context.Context, parent, client string) (grant.Delegation, error) {
	return need(ctx, s.db, "delegation", scanDelegation, delegationSQL+`WHERE d.parent = $1 AND d.client = $2 AND n.ended_at IS NULL
ORDER BY d.id DESC LIMIT 1`, parent, client)
}

// DelegationByID implements grant.Store.
func (s *Store) DelegationByID(ctx context.Context, id string) (grant.Delegation, error) {
	return need(ctx, s.db, "delegation", scanDelegation, delegationSQL+`WHERE d.id = $1`, id)
}
