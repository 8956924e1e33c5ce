package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
)

var (
	recoveryOver       = problem.New(problem.Conflict, "recovery_over", "This recovery is over: it was finished, cancelled, or its time has passed.")
	recoveryWaiting    = problem.New(problem.Conflict, "recovery_waiting", "This recovery can't be finished yet.")
	recoveryConfirmed  = problem.New(problem.Conflict, "recovery_confirmed", "You have confirmed this already. Somebody else has to do it too.")
	recoverySuperseded = problem.New(problem.Conflict, "recovery_superseded", "Somebody has signed in to this account with a passkey since, so it isn't lost.").
				WithHint("Sign in with that passkey. If it wasn't you, ask an administrator.")
)

func (s *Store) recoveryChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case recovery.Start:
		u.startRecovery(c.Recovery)
	case recovery.Confirm:
		s.confirmRecovery(u, c)
	case recovery.Cancel:
		u.must(1, refused(recoveryOver), `UPDATE recovery SET state = 'cancelled', ended_at = $1 WHERE id = $2 AND state = 'open'`, u.at.UnixMicro(), c.ID)
	case recovery.Complete:
		s.completeRecovery(u, c)
	case recovery.EndAll:
		u.endWhere(`ended_at IS NULL AND id IN (SELECT id FROM session WHERE person = $3
UNION ALL SELECT id FROM access_grant WHERE person = $3 UNION ALL SELECT id FROM refresh_family WHERE person = $3)`, c.Why, c.Person)
		u.unvouch(`CAST($2 AS TEXT)`, c.Person)
		u.disown(`person = $1 OR source = $1`, c.Person)
	case recovery.BurnCodes:
		u.then(`DELETE FROM once WHERE purpose = $1 AND bound = $2 AND used_at IS NULL`, int64(once.RecoveryCode), c.Person)
	default:
		return false
	}
	return true
}

// startRecovery makes room for it first: one whose time is over is no longer
// open. The unique index decides between two that start at once.
func (u *unit) startRecovery(r recovery.Recovery) {
	u.then(`UPDATE recovery SET state = 'expired', ended_at = expires_at WHERE person = $1 AND method = $2 AND state = 'open' AND expires_at <= $3`,
		r.Person, string(r.Method), u.at.UnixMicro())
	u.then(`INSERT INTO recovery (id, person, method, claim, state, reason, opened_by, confirmed, started_at, ready_at, expires_at, lasts)
VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10, $11)`,
		r.ID, r.Person, string(r.Method), r.Claim, r.Reason, r.OpenedBy, int64(r.Confirmed), orNow(r.StartedAt, u.at).UnixMicro(),
		micros(r.ReadyAt), r.ExpiresAt.UnixMicro(), int64(r.Lasts/time.Second))
	if r.Confirmed > 0 {
		u.then(`INSERT INTO recovery_confirmation (recovery, person, at) VALUES ($1, $2, $3)`, r.ID, r.OpenedBy, u.at.UnixMicro())
	}
}

// confirmRecovery counts on the row, so that two who confirm at once see each
// other; the key of the confirmations keeps one person from counting twice.
func (s *Store) confirmRecovery(u *unit, c recovery.Confirm) {
	u.must(1, func(ctx context.Context) error { return s.notConfirmed(ctx, c) },
		`UPDATE recovery SET confirmed = confirmed + 1,
ready_at = CASE WHEN confirmed + 1 >= $1 THEN CAST($2 AS BIGINT) ELSE ready_at END,
expires_at = CASE WHEN confirmed + 1 >= $1 THEN CAST($3 AS BIGINT) ELSE expires_at END
WHERE id = $4 AND method = 'people' AND state = 'open' AND expires_at > $5 AND confirmed < $1
AND NOT EXISTS (SELECT 1 FROM recovery_confirmation x WHERE x.recovery = $4 AND x.person = $6)`,
		int64(c.Quorum), c.ReadyAt.UnixMicro(), c.ExpiresAt.UnixMicro(), c.ID, u.at.UnixMicro(), c.By)
	u.then(`INSERT INTO recovery_confirmation (recovery, person, at) VALUES ($1, $2, $3)`, c.ID, c.By, u.at.UnixMicro())
}

// notConfirmed says why a confirmation did not count.
func (s *Store) notConfirmed(ctx context.Context, c recovery.Confirm) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	n, err := need(ctx, s.db, "recovery", scanInt, `SELECT COUNT(*) FROM recovery_confirmation WHERE recovery = $1 AND person = $2`, c.ID, c.By)
	switch {
	case err != nil:
		return err
	case n > 0:
		return recoveryConfirmed
	}
	return recoveryOver
}

// sinceSQL holds for a recovery by code after whose beginning somebody signed in
// with a passkey.
const sinceSQL = `(recovery.method = 'code' AND EXISTS (SELECT 1 FROM session v JOIN edge e ON e.child = v.id JOIN passkey k ON k.id = e.parent
WHERE v.person = recovery.person AND v.created_at > recovery.started_at))`

// completeRecovery is one conditional write; the person's other recoveries are
// over with it.
func (s *Store) completeRecovery(u *unit, c recovery.Complete) {
	now := u.at.UnixMicro()
	u.must(1, func(ctx context.Context) error { return s.notCompleted(ctx, c, now) },
		`UPDATE recovery SET state = 'completed', ended_at = $1, made = $2
WHERE id = $3 AND person = $4 AND state = 'open' AND expires_at > $1 AND ready_at IS NOT NULL AND ready_at <= $1 AND NOT `+sinceSQL,
		now, c.Made, c.ID, c.Person)
	u.then(`UPDATE recovery SET state = 'cancelled', ended_at = $1 WHERE person = $2 AND state = 'open' AND id <> $3
AND EXISTS (SELECT 1 FROM recovery x WHERE x.id = $3 AND x.method <> 'pass')`, now, c.Person, c.ID)
}

// notCompleted says why a recovery was not completed.
func (s *Store) notCompleted(ctx context.Context, c recovery.Complete, now int64) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	r, err := s.Recovery(ctx, c.ID)
	switch {
	case err != nil:
		return err
	case r.Person != c.Person || !r.Live(moment(now)):
		return recoveryOver
	case !r.Ready(moment(now)):
		return recoveryWaiting
	}
	return recoverySuperseded
}

const recoverySQL = `SELECT id, person, method, claim, state, reason, opened_by, confirmed, started_at, COALESCE(ready_at, 0), expires_at,
COALESCE(ended_at, 0), made, lasts FROM recovery `

func scanRecovery(row Row) (recovery.Recovery, error) {
	var r recovery.Recovery
	var method, state string
	var confirmed, started, ready, expires, ended, lasts int64
	err := row.Scan(&r.ID, &r.Person, &method, &r.Claim, &state, &r.Reason, &r.OpenedBy, &confirmed, &started, &ready, &expires, &ended, &r.Made, &lasts)
	r.Method, r.State, r.Confirmed, r.Lasts = recovery.Method(method), recovery.State(state), int(confirmed), time.Duration(lasts)*time.Second
	r.StartedAt, r.ReadyAt, r.ExpiresAt, r.EndedAt = moment(started), moment(ready), moment(expires), moment(ended)
	return r, err
}

// Recovery implements recovery.Store.
func (s *Store) Recovery(ctx context.Context, id string) (recovery.Recovery, error) {
	return need(ctx, s.db, "recovery", scanRecovery, recoverySQL+`WHERE id = $1`, id)
}

// RecoveryByClaim implements recovery.Store.
func (s *Store) RecoveryByClaim(ctx context.Context, claim string) (recovery.Recovery, error) {
	return need(ctx, s.db, "recovery", scanRecovery, recoverySQL+`WHERE claim = $1 AND claim <> '' ORDER BY id DESC LIMIT 1`, claim)
}

// RecoveriesOf implements recovery.Store.
func (s *Store) RecoveriesOf(ctx context.Context, person string) ([]recovery.Recovery, error) {
	return all(ctx, s.db, scanRecovery, recoverySQL+`WHERE person = $1 ORDER BY id DESC LIMIT 50`, person)
}

// OpenRecoveries implements recovery.Store.
func (s *Store) OpenRecoveries(ctx context.Context, now time.Time, after string, n int) ([]recovery.Recovery, error) {
	return all(ctx, s.db, scanRecovery, recoverySQL+`WHERE state = 'open' AND expires_at > $1 AND id > $2 ORDER BY id LIMIT $3`, now.UnixMicro(), after, int64(n))
}

// Superseded implements recovery.Store.
func (s *Store) Superseded(ctx context.Context, id string) (bool, error) {
	n, err := need(ctx, s.db, "recovery", scanInt, `SELECT COUNT(*) FROM recovery WHERE id = $1 AND `+sinceSQL, id)
	return n > 0, err
}

// Confirmations implements recovery.Store.
func (s *Store) Confirmations(ctx context.Context, id string) ([]recovery.Confirmation, error) {
	return all(ctx, s.db, func(row Row) (c recovery.Confirmation, err error) {
		var at int64
		err = row.Scan(&c.By, &at)
		c.At = moment(at)
		return c, err
	}, `SELECT person, at FROM recovery_confirmation WHERE recovery = $1 ORDER BY at, person`, id)
}

// CodesLeft implements recovery.Store.
func (s *Store) CodesLeft(ctx context.Context, person string) (left int, made time.Time, err error) {
	var at, n int64
	err = s.db.Query(ctx, `SELECT COUNT(*), COALESCE(MAX(made_at), 0) FROM once WHERE purpose = $1 AND bound = $2 AND used_at IS NULL AND expires_at > $3`,
		[]any{int64(once.RecoveryCode), person, s.now().UnixMicro()}, func(row Row) error { return row.Scan(&n, &at) })
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("store: count recovery codes: %w", err)
	}
	return int(n), moment(at), nil
}
