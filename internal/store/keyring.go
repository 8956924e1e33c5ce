package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/keyring"
)

func (s *Store) keyChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case keyring.Add:
		u.then(`INSERT INTO keyring (id, purpose, alg, version, public, sealed, created_at, activate_at, retire_at, withdrawn_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			c.ID, string(c.Purpose), c.Alg, int64(c.Version), c.Public, c.Sealed, orNow(c.CreatedAt, u.at).UnixMicro(),
			orNow(c.ActivateAt, u.at).UnixMicro(), micros(c.RetireAt), micros(c.WithdrawnAt))
	case keyring.Retire:
		u.changeOne("key", `UPDATE keyring SET retire_at = $1 WHERE id = $2`, micros(c.At), c.ID)
	case keyring.Withdraw:
		u.changeOne("key", `UPDATE keyring SET withdrawn_at = $1 WHERE id = $2`, micros(c.At), c.ID)
	default:
		return false
	}
	return true
}

func scanKey(row Row) (keyring.Key, error) {
	var k keyring.Key
	var purpose string
	var version, created, activate, retire, withdrawn int64
	err := row.Scan(&k.ID, &purpose, &k.Alg, &version, &k.Public, &k.Sealed, &created, &activate, &retire, &withdrawn)
	k.Purpose, k.Version = keyring.Purpose(purpose), int(version)
	k.CreatedAt, k.ActivateAt, k.RetireAt, k.WithdrawnAt = moment(created), moment(activate), moment(retire), moment(withdrawn)
	return k, err
}

// keyMargin is how long after its retirement a key is still given to callers
// whose clock is behind.
const keyMargin = time.Minute

// Keys implements keyring.Store, by purpose and version ascending.
func (s *Store) Keys(ctx context.Context) ([]keyring.Key, error) {
	return all(ctx, s.db, scanKey, `SELECT id, purpose, alg, version, public, sealed, created_at, activate_at, COALESCE(retire_at, 0), COALESCE(withdrawn_at, 0)
FROM keyring WHERE retire_at IS NULL OR retire_at > $1 OR purpose = 'log' ORDER BY purpose, version, id`, s.now().Add(-keyMargin).UnixMicro())
}

// KeysVersion moves with every change of the keys.
func (s *Store) KeysVersion(ctx context.Context) (int64, error) {
	return need(ctx, s.db, "keys", scanInt, `SELECT COUNT(*) + COUNT(retire_at) + COUNT(withdrawn_at) FROM keyring`)
}
