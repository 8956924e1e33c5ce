package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

var deviceUnknown = problem.New(problem.NotFound, "device_not_found", "The person has not signed in from such a device, or one of them has ended.")

// manage says that a device is the operator's. The version of the device moves, so that
// whoever decided on the old state decides again. The person's moves before it, in the
// order of disown: who is stopped at the same time is so before it, or takes it along.
func (u *unit) manage(m session.Managed) {
	for _, id := range []string{m.Person, m.Device} {
		u.must(1, refused(deviceUnknown), bumpSQL, id)
		u.touched = append(u.touched, id)
	}
	u.check(1, refused(deviceUnknown), `SELECT COUNT(*) FROM (SELECT 1 FROM session s JOIN node d ON d.id = s.device JOIN node p ON p.id = s.person
WHERE s.device = $1 AND s.person = $2 AND d.ended_at IS NULL AND d.frozen_at IS NULL AND p.ended_at IS NULL AND p.frozen_at IS NULL LIMIT 1) x`, m.Device, m.Person)
	u.then(`INSERT INTO managed_device (device, person, until, asset, source, at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (device, person) DO UPDATE SET until = excluded.until, asset = excluded.asset, source = excluded.source, at = excluded.at`,
		m.Device, m.Person, m.Until.UnixMicro(), m.Asset, m.By, orNow(m.At, u.at).UnixMicro())
}

// disown takes back what was said of devices, and moves their versions. where is SQL,
// with $1.
func (u *unit) disown(where, arg string) {
	u.then(`UPDATE node SET version = version + 1 WHERE id IN (SELECT device FROM managed_device WHERE `+where+`)`, arg)
	u.then(`DELETE FROM managed_device WHERE `+where, arg)
}

// disownOf does that where a person or a device ends or is frozen: nothing comes back
// with it.
func (u *unit) disownOf(node string) {
	switch {
	case strings.HasPrefix(node, id.Person):
		u.disown(`person = $1`, node)
	case strings.HasPrefix(node, id.Device):
		u.disown(`device = $1`, node)
	}
}

// DevicesOf implements session.Store. Of too many, those that were said to be the
// operator's stay, so that whoever takes it back finds them.
func (s *Store) DevicesOf(ctx context.Context, person string) ([]session.Known, error) {
	list, err := all(ctx, s.db, scanKnown, `SELECT d.label, d.created_at, x.seen,
(SELECT s.network FROM session s WHERE s.person = $1 AND s.device = d.id ORDER BY s.id DESC LIMIT 1),
COALESCE(m.until, 0), COALESCE(m.asset, ''), COALESCE(m.source, ''), COALESCE(m.at, 0), COALESCE(m.person, ''), `+nodeCols+`
FROM (SELECT device, MAX(COALESCE(seen_at, created_at)) AS seen FROM session WHERE person = $1 GROUP BY device) x
JOIN device d ON d.id = x.device JOIN node n ON n.id = d.id LEFT JOIN managed_device m ON m.device = d.id AND m.person = $1
WHERE n.ended_at IS NULL ORDER BY CASE WHEN m.device IS NULL THEN 1 ELSE 0 END, d.id DESC LIMIT 500`, person)
	slices.SortFunc(list, func(a, b session.Known) int { return strings.Compare(b.ID, a.ID) })
	return list, err
}

// Marked implements session.Store. There are as many marks as managed devices, so those
// of one who made them are found by looking at all.
func (s *Store) Marked(ctx context.Context, by string, at time.Time, after string, n int) ([]session.Known, error) {
	device, person, _ := strings.Cut(after, " ")
	return all(ctx, s.db, scanKnown, `SELECT d.label, d.created_at,
COALESCE((SELECT MAX(COALESCE(s.seen_at, s.created_at)) FROM session s WHERE s.person = m.person AND s.device = m.device), d.created_at),
COALESCE((SELECT s.network FROM session s WHERE s.person = m.person AND s.device = m.device ORDER BY s.id DESC LIMIT 1), ''),
m.until, m.asset, m.source, m.at, m.person, `+nodeCols+`
FROM managed_device m JOIN device d ON d.id = m.device JOIN node n ON n.id = d.id
WHERE n.ended_at IS NULL AND m.until > $1 AND (m.device > $2 OR m.device = $2 AND m.person > $3) AND (CAST($4 AS TEXT) = '' OR m.source = $4)
ORDER BY m.device, m.person LIMIT $5`, at.UnixMicro(), device, person, by, int64(n))
}

// ManagedIn counts the devices of a group's people that are the operator's at a time.
func (s *Store) ManagedIn(ctx context.Context, group string, at time.Time) (int64, error) {
	return need(ctx, s.db, "device", scanInt, `SELECT COUNT(*) FROM managed_device m JOIN membership x ON x.person = m.person JOIN people_group g ON g.id = x.grp
JOIN node p ON p.id = m.person JOIN node d ON d.id = m.device
WHERE g.name = $1 AND m.until > $2 AND p.ended_at IS NULL AND p.frozen_at IS NULL AND d.ended_at IS NULL AND d.frozen_at IS NULL`, group, at.UnixMicro())
}

func scanKnown(row Row) (session.Known, error) {
	var k session.Known
	var n nodeRow
	var created, seen, until, at int64
	err := row.Scan(n.dest(&k.Label, &created, &seen, &k.Network, &until, &k.Managed.Asset, &k.Managed.By, &at, &k.Managed.Person)...)
	k.ID, k.CreatedAt, k.SeenAt, k.Node = n.id, moment(created), moment(seen), n.node()
	if k.Managed.Person != "" {
		k.Managed.Device, k.Managed.Until, k.Managed.At = k.ID, moment(until), moment(at)
	}
	return k, err
}
