package store

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// A rotation and a replay move no version: their own conditions are what they
// depend on, and parallel refreshes must not make each other decide again.

func (s *Store) familyChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case grant.OpenFamily:
		u.node(c.ID, lineage.Family, c.Grant, c.Client)
		u.then(`INSERT INTO refresh_family (id, grant_id, client, person, jkt, static, gen, cur_hash, prev_hash, salt, rotated_at, window_until, net_until,
replays, network, key_version, created_at, expires_at, idle_until, x5t)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
			c.ID, c.Grant, c.Client, c.Person, c.JKT, flag(c.Static), int64(c.Gen), c.CurHash[:], c.PrevHash[:], c.Salt, micros(c.RotatedAt),
			micros(c.WindowUntil), micros(c.NetUntil), int64(c.Replays), c.Network, int64(c.KeyVersion), orNow(c.CreatedAt, u.at).UnixMicro(),
			micros(c.ExpiresAt), micros(c.IdleUntil), c.X5T)
	case grant.Rotate:
		u.must(1, nil, `UPDATE refresh_family SET gen = gen + 1, prev_hash = cur_hash, cur_hash = $1, salt = $2, rotated_at = $3, window_until = $4,
net_until = $5, replays = 0, network = $6, idle_until = $7
WHERE id = $8 AND cur_hash = $9 AND id IN (SELECT n.id FROM node n WHERE n.id = $8 AND n.ended_at IS NULL)`,
			c.Next[:], c.Salt, micros(c.RotatedAt), micros(c.WindowUntil), micros(c.NetUntil), c.Network, micros(c.IdleUntil), c.ID, c.Presented[:])
	case grant.Replay:
		u.must(1, nil, `UPDATE refresh_family SET replays = replays + 1 WHERE id = $1 AND gen = $2 AND replays < $3`,
			c.ID, int64(c.Gen), int64(grant.MaxReplays))
	case grant.Lost:
		u.then(`UPDATE refresh_family SET net_until = $1 WHERE id = $2 AND gen = $3 AND net_until < $4 AND salt IS NOT NULL`,
			micros(c.NetUntil), c.ID, int64(c.Gen), micros(c.NetUntil))
	default:
		return false
	}
	return true
}

const familySQL = `SELECT f.grant_id, f.client, f.person, f.jkt, f.static, f.gen, f.cur_hash, f.prev_hash, f.salt, COALESCE(f.rotated_at, 0),
COALESCE(f.window_until, 0), COALESCE(f.net_until, 0), f.replays, f.network, f.key_version, f.created_at, COALESCE(f.expires_at, 0),
COALESCE(f.idle_until, 0), f.x5t, ` + nodeCols + ` FROM refresh_family f JOIN node n ON n.id = f.id `

func scanFamily(row Row) (grant.Family, error) {
	var f grant.Family
	var n nodeRow
	var cur, prev []byte
	var static, gen, rotated, window, net, replays, version, created, expires, idle int64
	if err := row.Scan(n.dest(&f.Grant, &f.Client, &f.Person, &f.JKT, &static, &gen, &cur, &prev, &f.Salt, &rotated, &window, &net,
		&replays, &f.Network, &version, &created, &expires, &idle, &f.X5T)...); err != nil {
		return grant.Family{}, err
	}
	copy(f.CurHash[:], cur)
	copy(f.PrevHash[:], prev)
	f.ID, f.Static, f.Gen, f.Replays, f.KeyVersion, f.Node = n.id, static != 0, uint32(gen), int(replays), int(version), n.node()
	f.RotatedAt, f.WindowUntil, f.NetUntil = moment(rotated), moment(window), moment(net)
	f.CreatedAt, f.ExpiresAt, f.IdleUntil = moment(created), moment(expires), moment(idle)
	return f, nil
}

// Family implements grant.Store.
func (s *Store) Family(ctx context.Context, id string) (grant.Family, error) {
	return need(ctx, s.db, "family", scanFamily, familySQL+`WHERE f.id = $1`, id)
}

// FamiliesOf lists the refresh families of a grant, oldest first.
func (s *Store) FamiliesOf(ctx context.Context, grantID string) ([]grant.Family, error) {
	return all(ctx, s.db, scanFamily, familySQL+`WHERE f.grant_id = $1 ORDER BY f.id`, grantID)
}
