package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/profile"
)

// profileLife is how long an actor's history is kept that does nothing.
const profileLife = 400 * 24 * time.Hour

// profileChange writes what an actor usually does. The last writer wins: each
// joins what the others kept before it writes (profile.Profiles).
func (s *Store) profileChange(u *unit, c act.Change) bool {
	k, ok := c.(profile.Keep)
	if !ok {
		return false
	}
	u.then(`INSERT INTO profile (actor, state, kept_at) VALUES ($1, $2, $3) ON CONFLICT (actor) DO UPDATE SET state = excluded.state, kept_at = excluded.kept_at`,
		k.Actor, k.State, u.at.UnixMicro())
	return true
}

// Profile implements profile.Store.
func (s *Store) Profile(ctx context.Context, actor string) ([]byte, error) {
	b, _, err := one(ctx, s.db, scanBytes, `SELECT state FROM profile WHERE actor = $1`, actor)
	return b, err
}
