package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/review"
)

var (
	reviewOpen = problem.New(problem.Conflict, "review_open", "A review of this is open already.")
	reviewFull = problem.New(problem.Conflict, "review_full", "As many reviews of this actor are open as there may be.")
)

// reviewChange writes reviews. One of the like is open at a time: the unique index
// decides between two that are opened at once.
func (s *Store) reviewChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case review.Opens:
		seen, err := json.Marshal(c.Seen)
		if err != nil {
			return false
		}
		u.lock(c.Actor, "actor") // so that those who open at once count each other
		u.check(0, refused(reviewFull), `SELECT COUNT(*) / CAST($1 AS BIGINT) FROM review WHERE actor = $2 AND state = 'open'`, int64(review.MaxOpen), c.Actor)
		u.then(`INSERT INTO review (id, kind, actor, client, action, state, count, ref, record, opened_at, last_at, seen, resolved_by, note)
VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8, $9, $10, $11, '', '')`,
			c.ID, c.Kind, c.Actor, c.Client, string(c.Action), c.Count, c.Ref, c.Record, c.OpenedAt.UnixMicro(), c.LastAt.UnixMicro(), string(seen))
	case review.Again:
		u.then(`UPDATE review SET count = count + 1, last_at = $1 WHERE actor = $2 AND client = $3 AND action = $4 AND state = 'open'`,
			u.at.UnixMicro(), c.Actor, c.Client, string(c.Action))
	case review.Resolve:
		u.must(1, refused(review.Over), `UPDATE review SET state = $1, resolved_by = $2, note = $3, over_at = $4, until = $5 WHERE id = $6 AND state = 'open'`,
			string(c.State), c.By, c.Note, u.at.UnixMicro(), micros(c.Until), c.ID)
		if c.State == review.Refused {
			u.unvouch(`(SELECT actor FROM review WHERE id = $2)`, c.ID)
			u.disown(`(SELECT actor FROM review WHERE id = $1) IN (person, source)`, c.ID)
		}
	default:
		return false
	}
	return true
}

// unvouch has no word count any more that was said of somebody, or by them: they are
// stopped, or what they had was in other hands. Nor does a signature of theirs, and what
// they submitted to be signed is withdrawn. who is SQL of their id, with $2.
func (u *unit) unvouch(who, arg string) {
	u.then(`UPDATE review SET until = $1 WHERE state = 'allowed' AND until > $1 AND `+who+` IN (actor, resolved_by)`, u.at.UnixMicro(), arg)
	u.unsubmit(who, arg)
}

const reviewSQL = `SELECT id, kind, actor, client, action, state, count, ref, record, opened_at, last_at, seen, resolved_by, note, COALESCE(over_at, 0), COALESCE(until, 0) FROM review `

func scanReview(row Row) (review.Review, error) {
	var r review.Review
	var action, state, seen string
	var opened, last, over, until int64
	err := row.Scan(&r.ID, &r.Kind, &r.Actor, &r.Client, &action, &state, &r.Count, &r.Ref, &r.Record, &opened, &last, &seen, &r.By, &r.Note, &over, &until)
	if err == nil {
		err = json.Unmarshal([]byte(seen), &r.Seen)
	}
	r.Action, r.State = policy.Action(action), review.State(state)
	r.OpenedAt, r.LastAt, r.OverAt, r.Until = moment(opened), moment(last), moment(over), moment(until)
	return r, err
}

// Review implements review.Store.
func (s *Store) Review(ctx context.Context, id string) (review.Review, error) {
	return need(ctx, s.db, "review", scanReview, reviewSQL+`WHERE id = $1`, id)
}

// Reviews implements review.Store.
func (s *Store) Reviews(ctx context.Context, state review.State, before string, n int) ([]review.Review, error) {
	if before == "" {
		before = "~" // sorts after every id
	}
	if state == "" {
		return all(ctx, s.db, scanReview, reviewSQL+`WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, int64(n))
	}
	return all(ctx, s.db, scanReview, reviewSQL+`WHERE state = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, string(state), before, int64(n))
}

// ReviewsOf implements review.Store.
func (s *Store) ReviewsOf(ctx context.Context, actor string, at time.Time) ([]review.Review, error) {
	return all(ctx, s.db, scanReview, reviewSQL+`WHERE actor = $1 AND (state = 'open' OR state = 'allowed' AND until > $2) ORDER BY id DESC LIMIT 500`, actor, at.UnixMicro())
}

// ServiceOwner implements review.Store.
func (s *Store) ServiceOwner(ctx context.Context, service string) (string, error) {
	owner, _, err := one(ctx, s.db, scanString, `SELECT owner FROM service WHERE id = $1`, service)
	return owner, err
}

// OtherAdministrators implements review.Store.
func (s *Store) OtherAdministrators(ctx context.Context, person string) (bool, error) {
	n, err := need(ctx, s.db, "group", scanInt, `SELECT COUNT(*) FROM membership m JOIN people_group g ON g.id = m.grp JOIN node n ON n.id = m.person
WHERE g.name = $1 AND m.person <> $2 AND n.ended_at IS NULL AND n.frozen_at IS NULL`, group.Administrators, person)
	return n > 0, err
}
