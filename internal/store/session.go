package store

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

func (s *Store) sessionChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case session.Open:
		u.openSession(c)
	case session.Prove:
		u.bump(c.ID)
		u.changeOne("session", `UPDATE session SET proofs = $1 WHERE id = $2`, text(c.Proofs), c.ID)
		u.parents(c.ID, c.Credentials...)
	case session.Touch: // only moves the idle end on: no version moves
		u.then(`UPDATE session SET seen_at = $1, idle_until = $2 WHERE id = $3 AND signed_out_at IS NULL`,
			micros(c.SeenAt), micros(c.IdleUntil), c.ID)
	case session.SignOut:
		u.bump(c.ID)
		u.then(`UPDATE session SET signed_out_at = $1 WHERE id = $2 AND signed_out_at IS NULL`, orNow(c.At, u.at).UnixMicro(), c.ID)
	case session.Manage:
		u.manage(c.Managed)
	case session.Unmanage:
		u.bump(c.Device)
		u.then(`DELETE FROM managed_device WHERE device = $1 AND person = $2`, c.Device, c.Person)
	default:
		return false
	}
	return true
}

func (u *unit) openSession(c session.Open) {
	if d := c.NewDevice; d != nil {
		u.node(d.ID, lineage.Device)
		u.then(`INSERT INTO device (id, secret_hash, label, created_at) VALUES ($1, $2, $3, $4)`,
			d.ID, c.DeviceHash[:], d.Label, orNow(d.CreatedAt, u.at).UnixMicro())
		if c.Device == "" {
			c.Device = d.ID
		}
	}
	u.node(c.ID, lineage.Session, append([]string{c.Person, c.Device}, c.Credentials...)...)
	u.then(`INSERT INTO session (id, secret_hash, person, device, proofs, network, user_agent, created_at, seen_at, expires_at, idle_until, signed_out_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		c.ID, c.SecretHash[:], c.Person, c.Device, text(c.Proofs), c.Network, c.UserAgent, orNow(c.CreatedAt, u.at).UnixMicro(),
		micros(orNow(c.SeenAt, u.at)), micros(c.ExpiresAt), micros(c.IdleUntil), micros(c.SignedOutAt))
}

const sessionSQL = `SELECT s.person, s.device, s.proofs, s.network, s.user_agent, s.created_at, COALESCE(s.seen_at, 0), COALESCE(s.expires_at, 0),
COALESCE(s.idle_until, 0), COALESCE(s.signed_out_at, 0), ` + nodeCols + ` FROM session s JOIN node n ON n.id = s.id `

func scanSession(row Row) (session.Session, error) {
	var v session.Session
	var n nodeRow
	var proofs string
	var created, seen, expires, idle, out int64
	if err := row.Scan(n.dest(&v.Person, &v.Device, &proofs, &v.Network, &v.UserAgent, &created, &seen, &expires, &idle, &out)...); err != nil {
		return session.Session{}, err
	}
	v.ID, v.CreatedAt, v.SeenAt, v.ExpiresAt, v.IdleUntil, v.SignedOutAt, v.Node =
		n.id, moment(created), moment(seen), moment(expires), moment(idle), moment(out), n.node()
	return v, list(proofs, &v.Proofs)
}

// SessionBySecret implements session.Store.
func (s *Store) SessionBySecret(ctx context.Context, h secret.Hash) (session.Session, error) {
	return need(ctx, s.db, "session", scanSession, sessionSQL+`WHERE s.secret_hash = $1`, h[:])
}

// Session implements session.Store.
func (s *Store) Session(ctx context.Context, id string) (session.Session, error) {
	return need(ctx, s.db, "session", scanSession, sessionSQL+`WHERE s.id = $1`, id)
}

// SessionsOf implements session.Store; at most 500.
func (s *Store) SessionsOf(ctx context.Context, person string) ([]session.Session, error) {
	return all(ctx, s.db, scanSession, sessionSQL+`WHERE s.person = $1 AND n.ended_at IS NULL ORDER BY s.id DESC LIMIT 500`, person)
}

const deviceSQL = `SELECT d.label, d.created_at, ` + nodeCols + ` FROM device d JOIN node n ON n.id = d.id `

func scanDevice(row Row) (session.Device, error) {
	var d session.Device
	var n nodeRow
	var created int64
	err := row.Scan(n.dest(&d.Label, &created)...)
	d.ID, d.CreatedAt, d.Node = n.id, moment(created), n.node()
	return d, err
}

// DeviceBySecret implements session.Store.
func (s *Store) DeviceBySecret(ctx context.Context, h secret.Hash) (session.Device, error) {
	return need(ctx, s.db, "device", scanDevice, deviceSQL+`WHERE d.secret_hash = $1`, h[:])
}

// Device implements session.Store.
func (s *Store) Device(ctx context.Context, id string) (session.Device, error) {
	return need(ctx, s.db, "device", scanDevice, deviceSQL+`WHERE d.id = $1`, id)
}
