package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

func (s *Store) clientChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case client.Create:
		u.createClient(c)
	case client.Update:
		u.bump(c.ID)
		u.changeOne("client", `UPDATE client SET name = $1, auth_method = $2, secret_hash = $3, jwks = $4, redirect_uris = $5, grant_types = $6,
scopes = $7, resources = $8, first_party = $9, native = $10, require_dpop = $11, metadata = $12, secret_at = $13, digest = $14, owner = $15, managed_by = $16 WHERE id = $17`,
			append(clientArgs(c.Client), c.Owner, c.ManagedBy, c.ID)...)
		if c.Earlier == nil {
			u.then(`UPDATE client SET earlier_hash = NULL, earlier_at = NULL, earlier_until = NULL WHERE id = $1`, c.ID)
		}
	case client.RotateSecret:
		u.rotateSecret(c)
	case client.RetireSecret:
		u.bump(c.ID)
		u.must(1, refused(problem.New(problem.NotFound, "secret_not_found", "The client has no earlier secret of this name.")),
			`UPDATE client SET earlier_hash = NULL, earlier_at = NULL, earlier_until = NULL WHERE id = $1 AND earlier_hash = $2`, c.ID, c.Hash[:])
	default:
		return s.admissionChange(u, c)
	}
	return true
}

func (u *unit) createClient(c client.Create) {
	if sv := c.NewService; sv != nil {
		u.node(sv.ID, lineage.Service, sv.Owner)
		u.then(`INSERT INTO service (id, subject, name, owner, purpose, review_by, groups, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			sv.ID, sv.Subject, sv.Name, sv.Owner, sv.Purpose, micros(sv.ReviewBy), text(sv.Groups), orNow(sv.CreatedAt, u.at).UnixMicro())
		if c.Service == "" {
			c.Service = sv.ID
		}
	}
	// A client descends from the service it acts as, and that from its owner. The
	// owner of a client is answerable for it, not an ancestor: a colleague's leaving
	// does not end everybody's application.
	u.node(c.ID, lineage.Client, c.Service)
	u.then(`INSERT INTO client (name, auth_method, secret_hash, jwks, redirect_uris, grant_types, scopes, resources, first_party, native, require_dpop, metadata,
secret_at, digest, owner, managed_by, id, client_id, service, created_at, source, grp) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
		append(clientArgs(c.Client), c.Owner, c.ManagedBy, c.ID, client.StoredID(c.ClientID), c.Service, orNow(c.CreatedAt, u.at).UnixMicro(), string(c.Source), c.Group)...)
}

// rotateSecret gives a client another secret: the one it replaces stops, or works
// on until its time. Two at most work at once.
func (u *unit) rotateSecret(c client.RotateSecret) {
	u.bump(c.ID)
	at := u.at.UnixMicro()
	if c.EarlierUntil.IsZero() {
		u.changeOne("client", `UPDATE client SET secret_hash = $1, secret_at = $2, earlier_hash = NULL, earlier_at = NULL, earlier_until = NULL WHERE id = $3`,
			c.SecretHash[:], at, c.ID)
		return
	}
	u.must(1, refused(problem.New(problem.Conflict, "two_secrets", "The client has two secrets that work; a third would be one too many.").
		WithHint("Retire the earlier one first.")),
		`UPDATE client SET earlier_hash = secret_hash, earlier_at = secret_at, earlier_until = $1, secret_hash = $2, secret_at = $3
WHERE id = $4 AND secret_hash IS NOT NULL AND (earlier_until IS NULL OR earlier_until <= $5)`, micros(c.EarlierUntil), c.SecretHash[:], at, c.ID, at)
}

// clientArgs are the columns that Create and Update share.
func clientArgs(c client.Client) []any {
	var hash, jwks any
	if c.SecretHash != nil {
		hash = c.SecretHash[:]
	}
	if len(c.JWKS) > 0 {
		jwks = string(c.JWKS)
	}
	return []any{
		c.Name, string(c.AuthMethod), hash, jwks, text(c.RedirectURIs), text(c.GrantTypes), text(c.Scopes), text(c.Resources),
		flag(c.FirstParty), flag(c.Native), flag(c.RequireDPoP), members(c.Metadata), micros(c.SecretAt), c.Digest,
	}
}

const clientSQL = `SELECT c.client_id, c.name, c.auth_method, c.secret_hash, COALESCE(c.jwks, ''), c.redirect_uris, c.grant_types, c.scopes, c.resources,
c.first_party, c.native, c.require_dpop, c.metadata, c.service, c.owner, c.managed_by, c.created_at,
COALESCE(c.secret_at, 0), c.earlier_hash, COALESCE(c.earlier_at, 0), COALESCE(c.earlier_until, 0), c.source, c.grp, c.digest, ` + nodeCols + ` FROM client c JOIN node n ON n.id = c.id `

func scanClient(row Row) (client.Client, error) {
	var c client.Client
	var n nodeRow
	var method, jwks, uris, grants, scopes, resources, metadata, source string
	var hash, earlier []byte
	var first, native, dpop, created, made, earlierMade, until int64
	if err := row.Scan(n.dest(&c.ClientID, &c.Name, &method, &hash, &jwks, &uris, &grants, &scopes, &resources,
		&first, &native, &dpop, &metadata, &c.Service, &c.Owner, &c.ManagedBy, &created, &made, &earlier, &earlierMade, &until, &source, &c.Group, &c.Digest)...); err != nil {
		return client.Client{}, err
	}
	c.ID, c.AuthMethod, c.CreatedAt, c.Node = n.id, client.AuthMethod(method), moment(created), n.node()
	c.FirstParty, c.Native, c.RequireDPoP, c.Source = first != 0, native != 0, dpop != 0, client.Source(source)
	if len(hash) == len(secret.Hash{}) {
		h := secret.Hash(hash)
		c.SecretHash, c.SecretAt = &h, moment(made)
	}
	if len(earlier) == len(secret.Hash{}) {
		c.Earlier = &client.Secret{Hash: secret.Hash(earlier), MadeAt: moment(earlierMade), EndsAt: moment(until)}
	}
	if jwks != "" {
		c.JWKS = json.RawMessage(jwks)
	}
	if err := json.Unmarshal([]byte(metadata), &c.Metadata); err != nil {
		return client.Client{}, fmt.Errorf("store: the metadata of client %s: %w", c.ID, err)
	}
	err := lists(into(&uris, &c.RedirectURIs), into(&grants, &c.GrantTypes), into(&scopes, &c.Scopes), into(&resources, &c.Resources))
	return c, err
}

// ClientBySecret gives the client that a secret is of, be it the earlier one of two
// and past its time; ended clients are left out, and
// problem.NotFound if there is none. It reads every client's hash: it is for
// reports of leaks, which are rare.
func (s *Store) ClientBySecret(ctx context.Context, h secret.Hash) (client.Client, error) {
	return need(ctx, s.db, "client", scanClient, clientSQL+`WHERE (c.secret_hash = $1 OR c.earlier_hash = $2) AND n.ended_at IS NULL`, h[:], h[:])
}

// Client implements client.Store.
func (s *Store) Client(ctx context.Context, id string) (client.Client, error) {
	return need(ctx, s.db, "client", scanClient, clientSQL+`WHERE c.id = $1`, id)
}

// ClientByClientID implements client.Store. One that registered itself comes back
// with the client_id that was asked for, which is not stored.
func (s *Store) ClientByClientID(ctx context.Context, clientID string) (client.Client, error) {
	c, err := need(ctx, s.db, "client", scanClient, clientSQL+`WHERE c.client_id = $1`, client.StoredID(clientID))
	if err == nil {
		c.ClientID = clientID
	}
	return c, err
}

// Clients implements client.Store.
func (s *Store) Clients(ctx context.Context, after string, n int) ([]client.Client, error) {
	return all(ctx, s.db, scanClient, clientSQL+`WHERE c.id > $1 ORDER BY c.id LIMIT $2`, after, int64(n))
}

const serviceSQL = `SELECT v.subject, v.name, v.owner, v.purpose, COALESCE(v.review_by, 0), v.groups, v.created_at, ` + nodeCols +
	` FROM service v JOIN node n ON n.id = v.id `

func scanService(row Row) (client.Service, error) {
	var v client.Service
	var n nodeRow
	var groups string
	var review, created int64
	if err := row.Scan(n.dest(&v.Subject, &v.Name, &v.Owner, &v.Purpose, &review, &groups, &created)...); err != nil {
		return client.Service{}, err
	}
	v.ID, v.ReviewBy, v.CreatedAt, v.Node = n.id, moment(review), moment(created), n.node()
	return v, list(groups, &v.Groups)
}

// Service implements client.Store.
func (s *Store) Service(ctx context.Context, id string) (client.Service, error) {
	return need(ctx, s.db, "service", scanService, serviceSQL+`WHERE v.id = $1`, id)
}
