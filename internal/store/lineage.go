package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
)

func (s *Store) lineageChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case lineage.End:
		u.end(c.ID, c.Why)
	case lineage.Freeze:
		u.present(c.ID)
		u.revocation(c.ID, 0, `n.ended_at IS NULL AND n.frozen_at IS NULL`)
		u.then(`UPDATE node SET frozen_at = $1, why = $2, version = version + 1 WHERE id = $3 AND ended_at IS NULL AND frozen_at IS NULL`,
			u.at.UnixMicro(), c.Why, c.ID)
		u.unvouch(`CAST($2 AS TEXT)`, c.ID)
		u.unsignIn(c.ID)
		u.disownOf(c.ID)
	case lineage.Thaw:
		u.present(c.ID)
		u.revocation(c.ID, 1, `n.ended_at IS NULL AND n.frozen_at IS NOT NULL`)
		u.then(`UPDATE node SET frozen_at = NULL, why = '', version = version + 1 WHERE id = $1 AND ended_at IS NULL AND frozen_at IS NOT NULL`, c.ID)
	default:
		return false
	}
	return true
}

// present refuses the act if there is no such node.
func (u *unit) present(id string) {
	u.touched = append(u.touched, id)
	u.check(1, func(context.Context) error { return missing("node") }, `SELECT COUNT(*) FROM node WHERE id = $1`, id)
}

// end ends a node once; ending it again changes nothing.
func (u *unit) end(id, why string) {
	u.present(id)
	u.revocation(id, 0, `n.ended_at IS NULL`)
	u.then(`UPDATE node SET ended_at = $1, why = $2, version = version + 1 WHERE id = $3 AND ended_at IS NULL`, u.at.UnixMicro(), why, id)
	u.unsubmitOf(id)
	u.disownOf(id)
}

// revocation adds the line of the feed, if the node is in the state that is
// about to change.
func (u *unit) revocation(id string, thawed int64, state string) {
	u.then(`INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), n.id, n.kind, CAST($2 AS BIGINT), CAST($3 AS BIGINT) FROM node n WHERE n.id = $4 AND `+state+`
ON CONFLICT (record_id, node) DO NOTHING`, u.record, u.at.UnixMicro(), thawed, id)
}

// params writes $from … $from+n-1, separated by commas.
func params(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(from + i))
	}
	return b.String()
}

// texts holds SQL texts that depend on a count, made once.
type texts struct {
	make func(n int) string
	made [33]string
}

func newTexts(make func(n int) string) *texts {
	t := &texts{make: make}
	for i := 1; i < len(t.made); i++ {
		t.made[i] = make(i)
	}
	return t
}

func (t *texts) of(n int) string {
	if n < len(t.made) {
		return t.made[n]
	}
	return t.make(n)
}

// guardSQL counts the guarded nodes that still have the version that was seen.
var guardSQL = newTexts(func(n int) string {
	var b strings.Builder
	b.WriteString(`SELECT COUNT(*) FROM node WHERE `)
	for i := range n {
		if i > 0 {
			b.WriteString(` OR `)
		}
		fmt.Fprintf(&b, `(id = $%d AND version = $%d)`, 2*i+1, 2*i+2)
	}
	return b.String()
})

// upSQL gives nodes and all their ancestors.
var upSQL = newTexts(func(n int) string {
	return `WITH RECURSIVE up (id) AS (
SELECT id FROM node WHERE id IN (` + params(1, n) + `)
UNION SELECT e.parent FROM up JOIN edge e ON e.child = up.id)
SELECT ` + nodeCols + ` FROM up JOIN node n ON n.id = up.id`
})

// guard re-checks what the decision saw.
func (u *unit) guard(g []act.Version) {
	if len(g) == 0 {
		return
	}
	args := make([]any, 0, 2*len(g))
	for _, v := range g {
		args = append(args, v.ID, v.N)
	}
	u.Must = append(u.Must, Stmt{SQL: guardSQL.of(len(g)), Args: args, Want: int64(len(g)), Count: true})
	u.fails = append(u.fails, nil)
}

func anys(ss []string) []any {
	out := make([]any, len(ss))
	for i, s := range ss {
		out[i] = s
	}
	return out
}

func ancestors(ctx context.Context, r Reader, ids []string) ([]lineage.Node, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return all(ctx, r, scanNode, upSQL.of(len(ids)), anys(ids)...)
}

// Ancestors gives the nodes of ids and everything they descend from, in one
// snapshot. An id that has no node is problem.NotFound.
func (s *Store) Ancestors(ctx context.Context, ids ...string) ([]lineage.Node, error) {
	nodes, err := ancestors(ctx, s.db, ids)
	if err != nil {
		return nil, fmt.Errorf("store: read ancestors: %w", err)
	}
	for _, id := range ids {
		if !has(nodes, id) {
			return nil, missing("node")
		}
	}
	return nodes, nil
}

func has(nodes []lineage.Node, id string) bool {
	for i := range nodes {
		if nodes[i].ID == id {
			return true
		}
	}
	return false
}

const revocationCols = `SELECT COALESCE(seq, -1), node, kind, at, thawed FROM revocation `

func scanRevocation(row Row) (lineage.Revocation, error) {
	var seq, kind, at, thawed int64
	var r lineage.Revocation
	err := row.Scan(&seq, &r.Node, &kind, &at, &thawed)
	r.Seq, r.Kind, r.At, r.Thawed = uint64(seq), lineage.Kind(kind), moment(at), thawed != 0
	return r, err
}

// Revocations gives the numbered revocations after the record with index after,
// in order, at most n records' worth of lines; the lines of one record are never
// split.
func (s *Store) Revocations(ctx context.Context, after uint64, n int) ([]lineage.Revocation, error) {
	return all(ctx, s.db, scanRevocation, revocationCols+`WHERE seq IN (
SELECT DISTINCT seq FROM revocation WHERE seq > $1 ORDER BY seq LIMIT $2) ORDER BY seq, node`, int64(after), int64(n))
}

// RevocationsSince gives the numbered revocations made at or after the time, in
// order: what a snapshot of the feed is made of.
func (s *Store) RevocationsSince(ctx context.Context, at int64) ([]lineage.Revocation, error) {
	return all(ctx, s.db, scanRevocation, revocationCols+`WHERE at >= $1 AND seq IS NOT NULL ORDER BY seq, node`, at)
}

// RevocationHead gives the number of the newest numbered revocation, 0 if there
// is none (record 0 opens the log and revokes nothing).
func (s *Store) RevocationHead(ctx context.Context) (uint64, error) {
	n, err := need(ctx, s.db, "revocation", scanInt, `SELECT COALESCE(MAX(seq), 0) FROM revocation`)
	return uint64(n), err
}
