package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

func (s *Store) secretChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case factor.Add:
		u.allowed(c.Kind)
		u.room(c.Person, c.Kind)
		u.addSecret(c.Secret)
	case factor.Replace:
		u.allowed(c.New.Kind)
		u.lock(c.New.Person, "person")
		u.touched = append(u.touched, c.Old)
		u.must(1, func(context.Context) error { return missing("factor") }, `INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), n.id, n.kind, CAST($2 AS BIGINT), 0 FROM node n JOIN factor f ON f.id = n.id
WHERE n.id = $3 AND f.person = $4 AND f.kind = $5 AND n.ended_at IS NULL`, u.record, u.at.UnixMicro(), c.Old, c.New.Person, string(c.New.Kind))
		u.ended(c.Old, "replaced")
		u.addSecret(c.New)
	case factor.Used:
		s.useSecret(u, c)
	case factor.Allow:
		u.then(`INSERT INTO factor_kind (kind, allowed) VALUES ($1, $2) ON CONFLICT (kind) DO UPDATE SET allowed = EXCLUDED.allowed`,
			string(c.Kind), flag(c.On))
	case factor.Take:
		for _, b := range c.Budgets {
			s.take(u, b)
		}
	case factor.Refund:
		u.then(`UPDATE attempt SET n = CASE WHEN n > $1 THEN n - $2 ELSE 0 END WHERE bucket = $3`, int64(c.Paid), int64(c.Paid), c.Bucket[:])
	case factor.Forgive:
		u.then(`DELETE FROM attempt WHERE bucket = $1`, c.Bucket[:])
		for _, b := range c.Elsewhere {
			u.then(`UPDATE attempt SET total = 0 WHERE bucket = $1`, b[:])
		}
	default:
		return false
	}
	return true
}

func (u *unit) addSecret(c factor.Secret) {
	u.node(c.ID, lineage.Credential, c.Person)
	u.then(`INSERT INTO factor (id, person, kind, name, sealed, form, step, probation_until, created_at, used_at)
VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9)`,
		c.ID, c.Person, string(c.Kind), c.Name, c.Sealed, c.Step, micros(c.ProbationUntil), orNow(c.CreatedAt, u.at).UnixMicro(), micros(c.UsedAt))
}

// allowed refuses the act if the kind is off when it commits.
func (u *unit) allowed(k factor.Kind) {
	u.check(0, refused(problem.New(problem.Denied, "factor_kind_off", "Your administrators have switched this way of signing in off.")),
		`SELECT COUNT(*) FROM factor_kind WHERE kind = $1 AND allowed = 0`, string(k))
}

// useSecret remembers a use. Of a code the row count says whether its step is
// still to be had: the one conditional write that makes it single use.
func (s *Store) useSecret(u *unit, c factor.Used) {
	u.allowed(c.Kind)
	if c.Step != 0 {
		u.must(1, refused(problem.New(problem.Conflict, "code_used", "That code was already used.").WithHint("Wait for the next one.")),
			`UPDATE factor SET step = $1, used_at = $2 WHERE id = $3 AND step < $4`, c.Step, micros(c.At), c.ID, c.Step)
	} else {
		u.changeOne("factor", `UPDATE factor SET used_at = $1 WHERE id = $2`, micros(c.At), c.ID)
	}
	if c.Sealed != nil {
		u.then(`UPDATE factor SET sealed = $1 WHERE id = $2`, c.Sealed, c.ID)
	}
}

// take pays for a guess with one conditional write, or refuses it.
func (s *Store) take(u *unit, b factor.Budget) {
	now := u.at.UnixMicro()
	u.must(1, func(ctx context.Context) error { return s.spentGuesses(ctx, b) }, `INSERT INTO attempt (bucket, n, until, total, keep) VALUES ($1, 1, $2, 1, $3)
ON CONFLICT (bucket) DO UPDATE SET n = CASE WHEN attempt.until <= $4 THEN 1 ELSE attempt.n + 1 END,
until = CASE WHEN attempt.until <= $4 THEN EXCLUDED.until ELSE attempt.until END, total = attempt.total + 1, keep = EXCLUDED.keep
WHERE (attempt.until <= $4 OR attempt.n < $5) AND ($6 = 0 OR attempt.total < $6)`,
		b.Bucket[:], u.at.Add(factor.GuessWindow).UnixMicro(), u.at.Add(b.Keep).UnixMicro(), now, int64(b.Most), int64(b.Row))
}

// spentGuesses says for how long a budget is used up.
func (s *Store) spentGuesses(ctx context.Context, b factor.Budget) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	type left struct{ until, total int64 }
	l, _, err := one(ctx, s.db, func(row Row) (l left, err error) { err = row.Scan(&l.until, &l.total); return },
		`SELECT until, total FROM attempt WHERE bucket = $1`, b.Bucket[:])
	if err != nil {
		return err
	}
	if b.Row != 0 && l.total >= int64(b.Row) {
		return factor.TooMany(0)
	}
	return factor.TooMany(max(moment(l.until).Sub(s.now()), time.Second))
}

// FactorsOf implements factor.Store.
func (s *Store) FactorsOf(ctx context.Context, person string) ([]factor.Factor, error) {
	return all(ctx, s.db, scanFactor, `SELECT f.person, f.kind, f.name, f.created_at, f.used_at, f.probation, `+nodeCols+` FROM (
SELECT id, person, 'passkey' AS kind, name, created_at, COALESCE(used_at, 0) AS used_at, COALESCE(probation_until, 0) AS probation FROM passkey WHERE person = $1
UNION ALL SELECT id, person, kind, name, created_at, COALESCE(used_at, 0), COALESCE(probation_until, 0) FROM factor WHERE person = $2) f
JOIN node n ON n.id = f.id WHERE n.ended_at IS NULL AND n.frozen_at IS NULL ORDER BY f.id`, person, person)
}

func scanFactor(row Row) (factor.Factor, error) {
	var f factor.Factor
	err := readFactor(row, &f)
	return f, err
}

// readFactor reads the columns that every kind has, and more.
func readFactor(row Row, f *factor.Factor, more ...any) error {
	var n nodeRow
	var kind string
	var created, used, probation int64
	if err := row.Scan(n.dest(append([]any{&f.Person, &kind, &f.Name, &created, &used, &probation}, more...)...)...); err != nil {
		return err
	}
	f.ID, f.Kind, f.CreatedAt, f.UsedAt, f.ProbationUntil, f.Node = n.id, factor.Kind(kind), moment(created), moment(used), moment(probation), n.node()
	return nil
}

// SecretsOf implements factor.Store.
func (s *Store) SecretsOf(ctx context.Context, person string, k factor.Kind) ([]factor.Secret, error) {
	return all(ctx, s.db, func(row Row) (factor.Secret, error) {
		var v factor.Secret
		err := readFactor(row, &v.Factor, &v.Sealed, &v.Step)
		return v, err
	}, `SELECT f.person, f.kind, f.name, f.created_at, COALESCE(f.used_at, 0), COALESCE(f.probation_until, 0), f.sealed, f.step, `+nodeCols+`
FROM factor f JOIN node n ON n.id = f.id WHERE f.person = $1 AND f.kind = $2 AND n.ended_at IS NULL AND n.frozen_at IS NULL ORDER BY f.id`, person, string(k))
}

// Allowed implements factor.Store.
func (s *Store) Allowed(ctx context.Context) (factor.Kinds, error) {
	return allowedKinds(ctx, s.db)
}

func allowedKinds(ctx context.Context, r Reader) (factor.Kinds, error) {
	out := factor.ByDefault()
	err := r.Query(ctx, `SELECT kind, allowed FROM factor_kind`, nil, func(row Row) error {
		var kind string
		var on int64
		err := row.Scan(&kind, &on)
		out[factor.Kind(kind)] = on != 0
		return err
	})
	return out, err
}

// Guessed implements factor.Attempts.
func (s *Store) Guessed(ctx context.Context, b factor.Bucket) (window, row int, err error) {
	type counts struct{ n, until, total int64 }
	c, _, err := one(ctx, s.db, func(row Row) (c counts, err error) { err = row.Scan(&c.n, &c.until, &c.total); return },
		`SELECT n, until, total FROM attempt WHERE bucket = $1`, b[:])
	if err == nil && c.until <= s.now().UnixMicro() {
		c.n = 0
	}
	return int(c.n), int(c.total), err
}

// KnownDevice implements factor.Attempts.
func (s *Store) KnownDevice(ctx context.Context, person, device string) (bool, error) {
	n, err := need(ctx, s.db, "device", scanInt, `SELECT COUNT(*) FROM session s JOIN node n ON n.id = s.device
WHERE s.person = $1 AND s.device = $2 AND n.ended_at IS NULL AND n.frozen_at IS NULL`, person, device)
	return n > 0, err
}
