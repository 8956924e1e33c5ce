package store

import (
	"context"
	"encoding/json"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/lineage"
)

func (s *Store) issuerChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case issuer.Create:
		u.vacate("trusted_issuer", c.Issuer.Issuer)
		u.node(c.ID, lineage.Connection)
		u.then(`INSERT INTO trusted_issuer (id, active, spec, managed_by, created_at) VALUES ($1, $2, $3, $4, $5)`,
			c.ID, c.Issuer.Issuer, spec(c.Spec), c.ManagedBy, orNow(c.CreatedAt, u.at).UnixMicro())
	case issuer.Update:
		u.bump(c.ID)
		u.changeOne("issuer", `UPDATE trusted_issuer SET spec = $1, managed_by = $2 WHERE id = $3`, spec(c.Spec), c.ManagedBy, c.ID)
	case issuer.Remove:
		u.end(c.ID, "removed")
		u.then(`UPDATE trusted_issuer SET active = NULL WHERE id = $1`, c.ID)
	case issuer.Join:
		u.vacate("issuer_link", linkKey(c.Link.Issuer, c.Tenant, c.Subject))
		u.node(c.ID, lineage.Connection, c.Link.Issuer, c.Person)
		u.then(`INSERT INTO issuer_link (id, active, issuer, tenant, subject, person, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			c.ID, linkKey(c.Link.Issuer, c.Tenant, c.Subject), c.Link.Issuer, c.Tenant, c.Subject, c.Person, orNow(c.CreatedAt, u.at).UnixMicro())
	case issuer.Part:
		u.end(c.ID, "removed")
		u.then(`UPDATE issuer_link SET active = NULL WHERE id = $1`, c.ID)
	default:
		return false
	}
	return true
}

// vacate frees a name that is held by one that has ended otherwise than by removing
// it, as when an export is replayed.
func (u *unit) vacate(table, name string) {
	u.then(`UPDATE `+table+` SET active = NULL WHERE active = $1 AND id IN (SELECT id FROM node WHERE ended_at IS NOT NULL)`, name)
}

// linkKey is what a subject's live link is found and kept unique by.
func linkKey(issuerID, tenant, subject string) string {
	return text([]string{issuerID, tenant, subject})
}

func spec(s issuer.Spec) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("store: a trusted issuer cannot be written as JSON: " + err.Error()) // strings, numbers, and JSON that was read
	}
	return string(b)
}

const issuerSQL = `SELECT i.spec, i.managed_by, i.created_at, ` + nodeCols + ` FROM trusted_issuer i JOIN node n ON n.id = i.id `

func scanIssuer(row Row) (issuer.Issuer, error) {
	var i issuer.Issuer
	var n nodeRow
	var text string
	var created int64
	if err := row.Scan(n.dest(&text, &i.ManagedBy, &created)...); err != nil {
		return issuer.Issuer{}, err
	}
	i.ID, i.CreatedAt, i.Node = n.id, moment(created), n.node()
	if err := json.Unmarshal([]byte(text), &i.Spec); err != nil {
		return issuer.Issuer{}, err
	}
	return i, nil
}

// TrustedIssuer implements issuer.Store.
func (s *Store) TrustedIssuer(ctx context.Context, id string) (issuer.Issuer, error) {
	return need(ctx, s.db, "issuer", scanIssuer, issuerSQL+`WHERE i.id = $1`, id)
}

// TrustedIssuerByName implements issuer.Store.
func (s *Store) TrustedIssuerByName(ctx context.Context, iss string) (issuer.Issuer, error) {
	return need(ctx, s.db, "issuer", scanIssuer, issuerSQL+`WHERE i.active = $1`, iss)
}

// TrustedIssuers implements issuer.Store.
func (s *Store) TrustedIssuers(ctx context.Context, after string, n int) ([]issuer.Issuer, error) {
	return all(ctx, s.db, scanIssuer, issuerSQL+`WHERE i.id > $1 ORDER BY i.id LIMIT $2`, after, int64(n))
}

const linkSQL = `SELECT l.issuer, l.tenant, l.subject, l.person, l.created_at, ` + nodeCols + ` FROM issuer_link l JOIN node n ON n.id = l.id `

func scanLink(row Row) (issuer.Link, error) {
	var l issuer.Link
	var n nodeRow
	var created int64
	if err := row.Scan(n.dest(&l.Issuer, &l.Tenant, &l.Subject, &l.Person, &created)...); err != nil {
		return issuer.Link{}, err
	}
	l.ID, l.CreatedAt, l.Node = n.id, moment(created), n.node()
	return l, nil
}

// LinkOf implements issuer.Store.
func (s *Store) LinkOf(ctx context.Context, issuerID, tenant, subject string) (issuer.Link, error) {
	return need(ctx, s.db, "subject", scanLink, linkSQL+`WHERE l.active = $1`, linkKey(issuerID, tenant, subject))
}

// Link implements issuer.Store.
func (s *Store) Link(ctx context.Context, id string) (issuer.Link, error) {
	return need(ctx, s.db, "subject", scanLink, linkSQL+`WHERE l.id = $1`, id)
}

// Links implements issuer.Store.
func (s *Store) Links(ctx context.Context, issuerID, after string, n int) ([]issuer.Link, error) {
	return all(ctx, s.db, scanLink, linkSQL+`WHERE l.issuer = $1 AND l.id > $2 ORDER BY l.id LIMIT $3`, issuerID, after, int64(n))
}
