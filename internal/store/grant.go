package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
)

func (s *Store) grantChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case grant.Open:
		u.node(c.ID, lineage.Grant, append([]string{c.Person, c.Client, c.Session, c.Consent, c.Link}, c.Credentials...)...)
		pair, err := json.Marshal(c.Pair)
		if err != nil {
			panic("store: an assurance pair cannot be written as JSON: " + err.Error()) // a plain struct of ours
		}
		u.then(`INSERT INTO access_grant (id, person, client, session, consent, resources, scopes, pair, acr, proofs, created_at, expires_at, used_at, claims, details, device)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
			c.ID, c.Person, c.Client, c.Session, c.Consent, text(c.Resources), text(c.Scopes), string(pair), c.ACR, text(c.Proofs),
			orNow(c.CreatedAt, u.at).UnixMicro(), micros(c.ExpiresAt), micros(c.UsedAt), members(c.Claims), text(c.Details), c.Device)
	case grant.Remember:
		u.touched = append(u.touched, c.ID)
		u.then(`INSERT INTO node (id, kind, version) VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET version = node.version + 1`,
			c.ID, int64(lineage.Grant))
		u.parents(c.ID, c.Person, c.Client)
		u.then(`INSERT INTO consent (id, person, client, resources, scopes, digest, at, details, details_for) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET resources = excluded.resources, scopes = excluded.scopes, digest = excluded.digest, at = excluded.at,
details = excluded.details, details_for = excluded.details_for`,
			c.ID, c.Person, c.Client, text(c.Resources), text(c.Scopes), c.Digest, orNow(c.At, u.at).UnixMicro(), text(c.Details), c.For)
	case grant.Touch: // what a decision sees does not change: no version moves
		u.then(`UPDATE access_grant SET used_at = $1 WHERE id = $2`, micros(c.At), c.ID)
	default:
		return false
	}
	return true
}

const grantSQL = `SELECT g.person, g.client, g.session, g.consent, g.resources, g.scopes, g.pair, g.acr, g.proofs, g.created_at,
COALESCE(g.expires_at, 0), COALESCE(g.used_at, 0), g.claims, g.details, g.device, ` + nodeCols + ` FROM access_grant g JOIN node n ON n.id = g.id `

func scanGrant(row Row) (grant.Grant, error) {
	var g grant.Grant
	var n nodeRow
	var resources, scopes, pair, proofs, claims, details string
	var created, expires, used int64
	if err := row.Scan(n.dest(&g.Person, &g.Client, &g.Session, &g.Consent, &resources, &scopes, &pair, &g.ACR, &proofs, &created, &expires, &used, &claims, &details, &g.Device)...); err != nil {
		return grant.Grant{}, err
	}
	g.ID, g.CreatedAt, g.ExpiresAt, g.UsedAt, g.Node = n.id, moment(created), moment(expires), moment(used), n.node()
	if err := json.Unmarshal([]byte(pair), &g.Pair); err != nil {
		return grant.Grant{}, fmt.Errorf("store: stored pair: %w", err)
	}
	if err := json.Unmarshal([]byte(claims), &g.Claims); err != nil {
		return grant.Grant{}, fmt.Errorf("store: the claims of grant %s: %w", g.ID, err)
	}
	return g, lists(into(&resources, &g.Resources), into(&scopes, &g.Scopes), into(&proofs, &g.Proofs), into(&details, &g.Details))
}

// Grant implements grant.Store.
func (s *Store) Grant(ctx context.Context, id string) (grant.Grant, error) {
	return need(ctx, s.db, "grant", scanGrant, grantSQL+`WHERE g.id = $1`, id)
}

// GrantsOf implements grant.Store; at most 500.
func (s *Store) GrantsOf(ctx context.Context, person string) ([]grant.Grant, error) {
	return all(ctx, s.db, scanGrant, grantSQL+`WHERE g.person = $1 AND n.ended_at IS NULL ORDER BY g.id DESC LIMIT 500`, person)
}

func scanConsent(row Row) (grant.Consent, error) {
	var c grant.Consent
	var n nodeRow
	var resources, scopes, details string
	var at int64
	if err := row.Scan(n.dest(&c.Person, &c.Client, &resources, &scopes, &c.Digest, &at, &details, &c.For)...); err != nil {
		return grant.Consent{}, err
	}
	c.ID, c.At, c.Node = n.id, moment(at), n.node()
	return c, lists(into(&resources, &c.Resources), into(&scopes, &c.Scopes), into(&details, &c.Details))
}

const consentSQL = `SELECT c.person, c.client, c.resources, c.scopes, c.digest, c.at, c.details, c.details_for, ` + nodeCols + ` FROM consent c JOIN node n ON n.id = c.id `

// Consent implements grant.Store: the newest that is live.
func (s *Store) Consent(ctx context.Context, person, client string) (grant.Consent, error) {
	return need(ctx, s.db, "consent", scanConsent, consentSQL+`WHERE c.person = $1 AND c.client = $2 AND n.ended_at IS NULL AND n.frozen_at IS NULL
ORDER BY c.id DESC LIMIT 1`, person, client)
}

// ConsentOfGroup implements grant.Store.
func (s *Store) ConsentOfGroup(ctx context.Context, person, group string) (grant.Consent, error) {
	return need(ctx, s.db, "consent", scanConsent, consentSQL+`JOIN client k ON k.id = c.client
WHERE c.person = $1 AND k.source = 'dynamic' AND k.grp = $2 AND n.ended_at IS NULL AND n.frozen_at IS NULL ORDER BY c.at DESC, c.id DESC LIMIT 1`, person, group)
}
