package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/problem"
)

var _ notice.Store = (*Store)(nil)

func (s *Store) noticeChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case notice.CreateWebhook:
		u.createWebhook(c.Webhook)
	case notice.UpdateWebhook:
		u.bump(c.ID)
		u.changeOne("webhook", `UPDATE webhook SET name = $1, url = $2, events = $3 WHERE id = $4`, c.Name, c.URL, text(c.Events), c.ID)
	case notice.RotateSecret:
		u.bump(c.ID)
		u.changeOne("webhook", `UPDATE webhook SET sealed_before = sealed, sealed_until = $1, sealed = $2 WHERE id = $3`,
			micros(c.BeforeEnd), c.Sealed, c.ID)
	case notice.EndWebhook:
		u.end(c.ID, "ended")
		u.then(`DELETE FROM webhook WHERE id = $1`, c.ID) // with its secret
		u.then(`DELETE FROM notice_channel WHERE name = $1`, c.ID)
		u.then(`DELETE FROM delivery WHERE channel = $1`, c.ID)
	case notice.Resend:
		u.changeOne("delivery", `UPDATE delivery SET attempts = 0, next_at = $1 WHERE id = $2 AND next_at IS NULL`, u.at.UnixMicro(), c.ID)
	case notice.Discard:
		u.changeOne("delivery", `DELETE FROM delivery WHERE id = $1 AND next_at IS NULL`, c.ID)
	case notice.Raise:
		u.then(`INSERT INTO standing_alert (rule, detail, raised_at, record) VALUES ($1, $2, $3, $4) ON CONFLICT (rule) DO NOTHING`,
			standingKey(c.Rule, c.Subject), c.Detail, u.at.UnixMicro(), u.record)
	case notice.Clear:
		u.then(`DELETE FROM standing_alert WHERE rule = $1`, standingKey(c.Rule, c.Subject))
	default:
		return false
	}
	return true
}

// createWebhook adds a webhook and its channel, which begins where the log ends.
// Writes that add one wait for each other on the row of the lease, so that their
// number is bounded.
func (u *unit) createWebhook(w notice.Webhook) {
	full := problem.Newf(problem.Conflict, "webhooks_full", "There are %d webhooks already.", notice.MaxWebhooks).WithHint("Remove one that is not needed any more.")
	u.must(1, nil, `UPDATE lease SET fence = fence WHERE name = 'notices'`)
	u.check(1, refused(full), `SELECT CASE WHEN COUNT(*) < CAST($1 AS BIGINT) THEN 1 ELSE 0 END FROM webhook w JOIN node n ON n.id = w.id WHERE n.ended_at IS NULL`, int64(notice.MaxWebhooks))
	u.node(w.ID, 0)
	u.then(`INSERT INTO webhook (id, name, url, events, sealed, managed_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		w.ID, w.Name, w.URL, text(w.Events), w.Sealed, w.ManagedBy, orNow(w.CreatedAt, u.at).UnixMicro())
	u.then(`INSERT INTO notice_channel (name, next) VALUES ($1, (SELECT size FROM log_head))`, w.ID)
}

const webhookSQL = `SELECT w.name, w.url, w.events, w.sealed, w.sealed_before, COALESCE(w.sealed_until, 0), w.managed_by, w.created_at, ` + nodeCols +
	` FROM webhook w JOIN node n ON n.id = w.id `

func scanWebhook(row Row) (notice.Webhook, error) {
	var w notice.Webhook
	var n nodeRow
	var events string
	var until, created int64
	if err := row.Scan(n.dest(&w.Name, &w.URL, &events, &w.Sealed, &w.Before, &until, &w.ManagedBy, &created)...); err != nil {
		return notice.Webhook{}, err
	}
	w.ID, w.BeforeEnd, w.CreatedAt, w.Node = n.id, moment(until), moment(created), n.node()
	return w, list(events, &w.Events)
}

// Webhook implements notice.Store.
func (s *Store) Webhook(ctx context.Context, id string) (notice.Webhook, error) {
	return need(ctx, s.db, "webhook", scanWebhook, webhookSQL+`WHERE w.id = $1 AND n.ended_at IS NULL`, id)
}

// Webhooks implements notice.Store.
func (s *Store) Webhooks(ctx context.Context, after string, n int) ([]notice.Webhook, error) {
	return all(ctx, s.db, scanWebhook, webhookSQL+`WHERE w.id > $1 AND n.ended_at IS NULL ORDER BY w.id LIMIT $2`, after, int64(n))
}

const deliverySQL = `SELECT id, channel, record, person, attempts, COALESCE(next_at, 0), made_at, why FROM delivery `

func scanDelivery(row Row) (notice.Delivery, error) {
	var d notice.Delivery
	var attempts, next, made int64
	err := row.Scan(&d.ID, &d.Channel, &d.Record, &d.Person, &attempts, &next, &made, &d.Why)
	d.Attempts, d.NextAt, d.MadeAt = int(attempts), moment(next), moment(made)
	return d, err
}

// Delivery implements notice.Store.
func (s *Store) Delivery(ctx context.Context, id string) (notice.Delivery, error) {
	return need(ctx, s.db, "delivery", scanDelivery, deliverySQL+`WHERE id = $1`, id)
}

// DeadLetters implements notice.Store.
func (s *Store) DeadLetters(ctx context.Context, after string, n int) ([]notice.Delivery, error) {
	return all(ctx, s.db, scanDelivery, deliverySQL+`WHERE next_at IS NULL AND id > $1 ORDER BY id LIMIT $2`, after, int64(n))
}

// Waiting gives what a channel has put aside and not given up, the next first, at
// most n.
func (s *Store) Waiting(ctx context.Context, channel string, n int) ([]notice.Delivery, error) {
	return all(ctx, s.db, scanDelivery, deliverySQL+`WHERE channel = $1 AND next_at IS NOT NULL ORDER BY next_at, id LIMIT $2`, channel, int64(n))
}

// Undelivered counts what was put aside, and what of it is a dead letter.
func (s *Store) Undelivered(ctx context.Context) (waiting, dead int64, err error) {
	err = s.db.Query(ctx, `SELECT COUNT(next_at), COUNT(*) - COUNT(next_at) FROM delivery`, nil, func(row Row) error { return row.Scan(&waiting, &dead) })
	return waiting, dead, err
}

// Channels implements notice.Store; those of webhooks that are switched off are
// left out.
func (s *Store) Channels(ctx context.Context) ([]notice.Channel, error) {
	return all(ctx, s.db, func(row Row) (c notice.Channel, err error) {
		err = row.Scan(&c.Name, &c.Next)
		return c, err
	}, `SELECT c.name, c.next FROM notice_channel c LEFT JOIN node n ON n.id = c.name WHERE n.frozen_at IS NULL ORDER BY c.name`)
}

// standingKey is a rule and its subject in one column: the names of rules have no spaces.
func standingKey(rule, subject string) string { return strings.TrimSuffix(rule+" "+subject, " ") }

// Standing implements notice.Store.
func (s *Store) Standing(ctx context.Context) ([]notice.Standing, error) {
	return all(ctx, s.db, func(row Row) (a notice.Standing, err error) {
		var at int64
		var key string
		err = row.Scan(&key, &a.Detail, &at, &a.Record)
		a.Rule, a.Subject, _ = strings.Cut(key, " ")
		a.RaisedAt = moment(at)
		return a, err
	}, `SELECT rule, detail, raised_at, record FROM standing_alert ORDER BY raised_at, rule`)
}

// noticeLease takes or renews the lease of whoever delivers notices; its fence
// moves when another holder takes it.
const noticeLease = `UPDATE lease SET fence = CASE WHEN holder = $1 THEN fence ELSE fence + 1 END, holder = $1, until = $2
WHERE name = 'notices' AND (holder = $1 OR until < $3)`

// HoldNotices takes or renews the lease of the deliverer until a moment; ok is
// false while another process holds it.
func (s *Store) HoldNotices(ctx context.Context, holder string, until time.Time) (h notice.Hold, ok bool, err error) {
	var u unit
	u.must(1, nil, noticeLease, holder, until.UnixMicro(), s.now().UnixMicro())
	err = s.db.Write(ctx, u.Unit)
	var missed *Missed
	if errors.As(err, &missed) {
		return h, false, nil
	}
	if err != nil {
		return h, false, fmt.Errorf("store: take the lease of notices: %w", err)
	}
	h.Holder = holder
	h.Fence, ok, err = one(ctx, s.db, scanInt, `SELECT fence FROM lease WHERE name = 'notices' AND holder = $1`, holder)
	return h, ok, err
}

// ReleaseNotices gives the lease back.
func (s *Store) ReleaseNotices(ctx context.Context, h notice.Hold) error {
	return s.db.Write(ctx, Unit{Then: []Stmt{{
		SQL: `UPDATE lease SET until = 0 WHERE name = 'notices' AND holder = $1 AND fence = $2`, Args: []any{h.Holder, h.Fence}, Want: Any,
	}}})
}

// held adds the condition that a write is its holder's. What it does is
// bookkeeping of the deliverer, like the sequencer's, and no act: an act would
// have a record of its own, of which there would be something to tell.
func (u *unit) held(h notice.Hold) {
	u.check(1, nil, `SELECT COUNT(*) FROM lease WHERE name = 'notices' AND holder = $1 AND fence = $2`, h.Holder, h.Fence)
}

// ErrNotHeld says that another process delivers notices now.
var ErrNotHeld = errors.New("store: another process delivers notices now")

func (s *Store) writeHeld(ctx context.Context, u *unit) error {
	err := s.db.Write(ctx, u.Unit)
	var missed *Missed
	if errors.As(err, &missed) {
		return ErrNotHeld
	}
	return err
}

// OpenChannel gives how far a channel has come; one that is new begins where the
// log ends.
func (s *Store) OpenChannel(ctx context.Context, h notice.Hold, name string) (next int64, err error) {
	const sql = `SELECT next FROM notice_channel WHERE name = $1`
	next, ok, err := one(ctx, s.db, scanInt, sql, name)
	if err != nil || ok {
		return next, err
	}
	var u unit
	u.held(h)
	u.then(`INSERT INTO notice_channel (name, next) VALUES ($1, (SELECT size FROM log_head)) ON CONFLICT (name) DO NOTHING`, name)
	if err := s.writeHeld(ctx, &u); err != nil {
		return 0, err
	}
	return need(ctx, s.db, "channel", scanInt, sql, name)
}

// Advance moves a channel from one index of the log to another and puts aside
// what could not be delivered on the way, in one transaction.
func (s *Store) Advance(ctx context.Context, h notice.Hold, channel string, from, to int64, aside []notice.Delivery) error {
	var u unit
	u.held(h)
	u.must(1, nil, `UPDATE notice_channel SET next = $1 WHERE name = $2 AND next = $3`, to, channel, from)
	for _, d := range aside {
		u.then(`INSERT INTO delivery (id, channel, record, person, attempts, next_at, made_at, why) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (channel, record, person) DO NOTHING`,
			d.ID, d.Channel, d.Record, d.Person, int64(d.Attempts), micros(d.NextAt), d.MadeAt.UnixMicro(), d.Why)
	}
	return s.writeHeld(ctx, &u)
}

// Attempted keeps what came of another attempt: nil forgets the delivery, which
// arrived or has nobody to go to any more.
func (s *Store) Attempted(ctx context.Context, h notice.Hold, id string, again *notice.Delivery) error {
	var u unit
	u.held(h)
	if again == nil {
		u.then(`DELETE FROM delivery WHERE id = $1`, id)
	} else {
		u.then(`UPDATE delivery SET attempts = $1, next_at = $2, why = $3 WHERE id = $4`, int64(again.Attempts), micros(again.NextAt), again.Why, id)
	}
	return s.writeHeld(ctx, &u)
}

// lookSpan is how many records one look passes over at most, so that no read
// lasts.
const lookSpan = 5000

// Look gives the records of some kinds from an index of the log on, in order, at
// most n, and the index to go on from. Only what the sequencer has integrated is
// looked at (mechanisms E6).
func (s *Store) Look(ctx context.Context, from int64, kinds []audit.Kind, n int) (found []Record, next int64, err error) {
	next, err = s.lookEnd(ctx, from)
	if err != nil || next <= from || len(kinds) == 0 {
		return nil, max(next, from), err
	}
	found, err = all(ctx, s.db, scanRecord, rowSQL+`WHERE a.seq >= $1 AND a.seq < $2 AND a.kind IN (`+kindList(kinds)+`) ORDER BY a.seq LIMIT $3`, from, next, int64(n))
	if err != nil {
		return nil, from, fmt.Errorf("store: look for notices: %w", err)
	}
	if len(found) == n {
		next = found[n-1].Seq + 1
	}
	return found, next, nil
}

func (s *Store) lookEnd(ctx context.Context, from int64) (int64, error) {
	h, err := readHead(ctx, s.db)
	return min(int64(h.size), from+lookSpan), err
}

// kindList is numbers of the table of kinds, for SQL.
func kindList(kinds []audit.Kind) string {
	var b strings.Builder
	for i, k := range kinds {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", uint16(k))
	}
	return b.String()
}

// IssuedFacts are decision facts that records of a span share, with the first of
// these records.
type IssuedFacts struct {
	Record string
	Facts  []byte
}

// FactsOf gives the different decision facts of the records of some kinds within
// [from, to) of the log: a routine token costs no row of the answer.
func (s *Store) FactsOf(ctx context.Context, from, to int64, kinds []audit.Kind) ([]IssuedFacts, error) {
	return all(ctx, s.db, func(row Row) (f IssuedFacts, err error) {
		err = row.Scan(&f.Record, &f.Facts)
		return f, err
	}, `SELECT g.id, f.body FROM (SELECT MIN(id) AS id, facts_hash FROM audit
WHERE seq >= $1 AND seq < $2 AND kind IN (`+kindList(kinds)+`) AND facts_hash IS NOT NULL GROUP BY facts_hash) g JOIN decision_facts f ON f.hash = g.facts_hash`, from, to)
}

// LastWitnessed gives the newest cosignature: the size that was cosigned, and when
// the witness says it did; ok is false if no witness ever signed.
func (s *Store) LastWitnessed(ctx context.Context) (size uint64, at time.Time, ok bool, err error) {
	type seen struct{ size, at int64 }
	w, ok, err := one(ctx, s.db, func(row Row) (w seen, err error) {
		err = row.Scan(&w.size, &w.at)
		return w, err
	}, `SELECT size, at FROM cosignature ORDER BY at DESC, size DESC LIMIT 1`)
	return uint64(w.size), moment(w.at), ok, err
}
