package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/problem"
)

func (s *Store) groupChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case group.Create:
		u.node(c.ID, 0)
		kind := c.Group.Kind
		if kind == "" {
			kind = group.Plain
		}
		u.then(`INSERT INTO people_group (id, name, kind, created_at) VALUES ($1, $2, $3, $4)`,
			c.ID, c.Name, string(kind), orNow(c.CreatedAt, u.at).UnixMicro())
	case group.Add:
		u.bump(c.Person)
		u.join(c.Group, c.Person)
	case group.Remove:
		u.lock(c.Group, "group")
		g, p := c.Group, c.Person
		u.must(1, func(ctx context.Context) error { return s.notRemoved(ctx, g, p) },
			`DELETE FROM membership WHERE grp = $1 AND person = $2 AND `+othersLead, g, p)
		u.bump(c.Person)
		u.unsign(`signer = $2`, c.Person)
	default:
		return false
	}
	return true
}

// othersLead holds for a membership whose end leaves a live administrator. The
// group's node has to be locked before.
const othersLead = `(grp NOT IN (SELECT id FROM people_group WHERE name = 'administrators') OR EXISTS (
SELECT 1 FROM membership o JOIN node n ON n.id = o.person
WHERE o.grp = membership.grp AND o.person <> membership.person AND n.ended_at IS NULL AND n.frozen_at IS NULL))`

// join makes a person a member; the group has to exist (foreign key, node).
func (u *unit) join(grp, person string) {
	u.lock(grp, "group")
	u.then(`INSERT INTO membership (grp, person, since) VALUES ($1, $2, $3) ON CONFLICT (grp, person) DO NOTHING`, grp, person, u.at.UnixMicro())
}

var lastAdministrator = problem.New(problem.Conflict, "last_administrator", "Nobody else could manage this deployment then. Make somebody else an administrator first.")

// notRemoved says why a membership was not ended.
func (s *Store) notRemoved(ctx context.Context, grp, person string) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	n, _, err := one(ctx, s.db, scanInt, `SELECT COUNT(*) FROM membership WHERE grp = $1 AND person = $2`, grp, person)
	if err != nil {
		return err
	}
	if n == 0 {
		return missing("membership")
	}
	return lastAdministrator
}

// lockMemberships ends all memberships of a person, unless nobody could manage
// the deployment then.
func (u *unit) lockMemberships(person string) {
	u.must(Any, nil, `UPDATE node SET version = version + 1 WHERE id IN (SELECT grp FROM membership WHERE person = $1)`, person)
	u.must(Any, nil, `DELETE FROM membership WHERE person = $1 AND `+othersLead, person)
	u.check(0, refused(lastAdministrator), `SELECT COUNT(*) FROM membership WHERE person = $1`, person)
}

const groupSQL = `SELECT g.name, g.kind, g.created_at, ` + nodeCols + ` FROM people_group g JOIN node n ON n.id = g.id `

func scanGroup(row Row) (group.Group, error) {
	var g group.Group
	var n nodeRow
	var kind string
	var created int64
	err := row.Scan(n.dest(&g.Name, &kind, &created)...)
	g.ID, g.Kind, g.CreatedAt, g.Node = n.id, group.Kind(kind), moment(created), n.node()
	return g, err
}

// Group implements group.Store.
func (s *Store) Group(ctx context.Context, id string) (group.Group, error) {
	return need(ctx, s.db, "group", scanGroup, groupSQL+`WHERE g.id = $1`, id)
}

// GroupByName implements group.Store.
func (s *Store) GroupByName(ctx context.Context, name string) (group.Group, error) {
	return need(ctx, s.db, "group", scanGroup, groupSQL+`WHERE g.name = $1`, name)
}

// Groups implements group.Store.
func (s *Store) Groups(ctx context.Context, after string, n int) ([]group.Group, error) {
	return all(ctx, s.db, scanGroup, groupSQL+`WHERE g.id > $1 ORDER BY g.id LIMIT $2`, after, int64(n))
}

// GroupsOf implements group.Store.
func (s *Store) GroupsOf(ctx context.Context, person string) ([]group.Group, error) {
	return all(ctx, s.db, scanGroup, groupSQL+`JOIN membership m ON m.grp = g.id WHERE m.person = $1 ORDER BY g.id`, person)
}

// MemberSince implements group.Store.
func (s *Store) MemberSince(ctx context.Context, grp, person string) (at time.Time, ok bool, err error) {
	n, ok, err := one(ctx, s.db, scanInt, `SELECT since FROM membership WHERE grp = $1 AND person = $2`, grp, person)
	return moment(n), ok, err
}

// MemberSubjects implements group.Store.
func (s *Store) MemberSubjects(ctx context.Context, grp, after string, n int) ([]string, error) {
	return all(ctx, s.db, scanString, `SELECT p.subject FROM membership m JOIN person p ON p.id = m.person
WHERE m.grp = $1 AND p.subject > $2 ORDER BY p.subject LIMIT $3`, grp, after, int64(n))
}

// Members implements group.Store.
func (s *Store) Members(ctx context.Context, grp, after string, n int) ([]string, error) {
	return all(ctx, s.db, scanString, `SELECT person FROM membership WHERE grp = $1 AND person > $2 ORDER BY person LIMIT $3`, grp, after, int64(n))
}
