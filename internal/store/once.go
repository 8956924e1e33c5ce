package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/once"
)

func (s *Store) onceChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case once.Put:
		u.put(c.Value)
	case once.Replace:
		u.then(`DELETE FROM once WHERE purpose = $1 AND bound = $2 AND bound <> '' AND used_at IS NULL`, int64(c.Purpose), c.Bound)
		u.put(c.Value)
	case once.Miss:
		u.then(`UPDATE once SET misses = misses + 1 WHERE purpose = $1 AND hash = $2 AND used_at IS NULL`, int64(c.Purpose), c.Key[:])
	case once.Burn:
		u.then(`DELETE FROM once WHERE purpose = $1 AND hash = $2 AND used_at IS NULL`, int64(c.Purpose), c.Key[:])
	default:
		return false
	}
	return true
}

func (u *unit) put(v once.Value) {
	u.then(`INSERT INTO once (purpose, hash, bound, data, made_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		int64(v.Purpose), v.Key[:], v.Bound, v.Data, v.MadeAt.UnixMicro(), v.ExpiresAt.UnixMicro())
}

const (
	spendSQL = `UPDATE once SET used_at = $1, used_by = $2, ref = $3
WHERE purpose = $4 AND hash = $5 AND used_at IS NULL AND expires_at > $6 AND misses < 5`
	markSQL = `INSERT INTO once (purpose, hash, made_at, expires_at, used_at, used_by, ref) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (purpose, hash) DO NOTHING`
)

// spend adds the one conditional write whose row count is the answer.
func (s *Store) spend(u *unit, sp once.Spend) {
	key := sp.Key
	at := u.at.UnixMicro()
	fail := func(ctx context.Context) error { return s.spent(ctx, sp.Purpose, key) }
	if sp.Mark {
		u.must(1, fail, markSQL, int64(sp.Purpose), key[:], at, sp.Until.UnixMicro(), at, u.record, sp.Ref)
		return
	}
	u.must(1, fail, spendSQL, at, u.record, sp.Ref, int64(sp.Purpose), key[:], at)
}

// whyNot is the time to read why a write did not count. The caller may have given up
// by now, and the database may be busy; the answer must not be lost to either.
func whyNot(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

// spent says why a value could not be spent.
func (s *Store) spent(ctx context.Context, p once.Purpose, key once.Key) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	v, ok, err := one(ctx, s.db, scanOnce, onceSQL+`WHERE purpose = $1 AND hash = $2`, int64(p), key[:])
	switch {
	case err != nil:
		return fmt.Errorf("store: read a spent value: %w", err)
	case !ok || v.UsedAt.IsZero():
		return &once.Gone{Purpose: p}
	}
	return &once.Used{Purpose: p, By: v.UsedBy, Ref: v.Ref, At: v.UsedAt}
}

const onceSQL = `SELECT purpose, hash, bound, data, made_at, expires_at, COALESCE(used_at, 0), used_by, ref, misses FROM once `

func scanOnce(row Row) (once.Value, error) {
	var v once.Value
	var purpose, made, expires, used, misses int64
	var hash []byte
	err := row.Scan(&purpose, &hash, &v.Bound, &v.Data, &made, &expires, &used, &v.UsedBy, &v.Ref, &misses)
	copy(v.Key[:], hash)
	v.Purpose, v.MadeAt, v.ExpiresAt, v.UsedAt, v.Misses = once.Purpose(purpose), moment(made), moment(expires), moment(used), int(misses)
	return v, err
}

// OnceValue reads a value, spent or not, expired or not. *once.Gone if it was
// never there, was burnt, or is long forgotten.
func (s *Store) OnceValue(ctx context.Context, p once.Purpose, key once.Key) (once.Value, error) {
	v, ok, err := one(ctx, s.db, scanOnce, onceSQL+`WHERE purpose = $1 AND hash = $2`, int64(p), key[:])
	if err != nil {
		return once.Value{}, fmt.Errorf("store: read a single-use value: %w", err)
	}
	if !ok {
		return once.Value{}, &once.Gone{Purpose: p}
	}
	return v, nil
}

// OncePending lists the values of a purpose that can still be spent now, oldest
// first, at most 1,000.
func (s *Store) OncePending(ctx context.Context, p once.Purpose) ([]once.Value, error) {
	return all(ctx, s.db, scanOnce, onceSQL+`WHERE purpose = $1 AND used_at IS NULL AND expires_at > $2 AND misses < 5
ORDER BY made_at, hash LIMIT 1000`, int64(p), s.now().UnixMicro())
}

// OnceBound lists the values of a purpose that are bound to somebody, the newest
// first, at most 1000: spent ones, and expired ones for as long as they are kept, too.
func (s *Store) OnceBound(ctx context.Context, p once.Purpose, bound string) ([]once.Value, error) {
	list, err := all(ctx, s.db, scanOnce, onceSQL+`WHERE purpose = $1 AND bound = $2 AND bound <> '' ORDER BY made_at DESC, hash LIMIT 1000`, int64(p), bound)
	if err != nil {
		return nil, fmt.Errorf("store: list single-use values: %w", err)
	}
	return list, nil
}
