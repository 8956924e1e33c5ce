package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/resource"
)

func (s *Store) resourceChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case resource.Create:
		u.node(c.ID, 0)
		u.then(`INSERT INTO resource (id, uri, canonical, name, scopes, servers, require_dpop, delegation_aware, managed_by, created_at, details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			c.ID, c.URI, canonical(c.URI), c.Name, text(c.Scopes), text(c.Servers), flag(c.RequireDPoP), flag(c.DelegationAware),
			c.ManagedBy, orNow(c.CreatedAt, u.at).UnixMicro(), text(c.DetailsTypes))
		u.serve(c.ID, c.Servers)
	case resource.Update:
		u.bump(c.ID)
		u.changeOne("resource", `UPDATE resource SET name = $1, scopes = $2, servers = $3, require_dpop = $4, delegation_aware = $5, managed_by = $6, details = $7 WHERE id = $8`,
			c.Name, text(c.Scopes), text(c.Servers), flag(c.RequireDPoP), flag(c.DelegationAware), c.ManagedBy, text(c.DetailsTypes), c.ID)
		u.then(`DELETE FROM resource_server WHERE resource = $1`, c.ID)
		u.serve(c.ID, c.Servers)
	default:
		return false
	}
	return true
}

const servesSQL = `INSERT INTO resource_server (client, resource) VALUES ($1, $2) ON CONFLICT (client, resource) DO NOTHING`

// serve has a resource found by the clients that serve it.
func (u *unit) serve(resource string, clients []string) {
	for _, c := range clients {
		u.then(servesSQL, c, resource)
	}
}

// canonical is the form by which resources are found; what cannot be read stays
// as it is and equals only itself.
func canonical(uri string) string {
	if c, err := resource.Canonical(uri); err == nil {
		return c
	}
	return uri
}

const resourceSQL = `SELECT r.uri, r.name, r.scopes, r.servers, r.require_dpop, r.delegation_aware, r.managed_by, r.created_at, r.details, ` + nodeCols +
	` FROM resource r JOIN node n ON n.id = r.id `

func scanResource(row Row) (resource.Resource, error) {
	var r resource.Resource
	var n nodeRow
	var scopes, servers, details string
	var dpop, aware, created int64
	if err := row.Scan(n.dest(&r.URI, &r.Name, &scopes, &servers, &dpop, &aware, &r.ManagedBy, &created, &details)...); err != nil {
		return resource.Resource{}, err
	}
	r.ID, r.RequireDPoP, r.DelegationAware, r.CreatedAt, r.Node = n.id, dpop != 0, aware != 0, moment(created), n.node()
	return r, lists(into(&scopes, &r.Scopes), into(&servers, &r.Servers), into(&details, &r.DetailsTypes))
}

// Resource implements resource.Store.
func (s *Store) Resource(ctx context.Context, id string) (resource.Resource, error) {
	return need(ctx, s.db, "resource", scanResource, resourceSQL+`WHERE r.id = $1`, id)
}

// ResourceByURI implements resource.Store.
func (s *Store) ResourceByURI(ctx context.Context, uri string) (resource.Resource, error) {
	return need(ctx, s.db, "resource", scanResource, resourceSQL+`WHERE r.canonical = $1`, canonical(uri))
}

// ServedBy gives the live resources of which a client is an enforcement point, by id.
func (s *Store) ServedBy(ctx context.Context, client string) ([]resource.Resource, error) {
	list, err := all(ctx, s.db, scanResource, resourceSQL+`JOIN resource_server v ON v.resource = r.id WHERE v.client = $1 ORDER BY r.id`, client)
	return slices.DeleteFunc(list, func(r resource.Resource) bool { // the resource's own word counts
		return !r.Node.Live() || !slices.Contains(r.Servers, client)
	}), err
}

// IndexServers has resources found by ServedBy that were written by a release which
// does not know of that. It takes none out.
func (s *Store) IndexServers(ctx context.Context) error {
	type pair struct{ client, resource string }
	have := map[pair]bool{}
	err := s.db.Query(ctx, `SELECT client, resource FROM resource_server`, nil, func(row Row) error {
		var p pair
		err := row.Scan(&p.client, &p.resource)
		have[p] = true
		return err
	})
	const step = 200
	for after, more := "", err == nil; more; {
		list, err := s.Resources(ctx, after, step)
		if err != nil {
			return err
		}
		var unit Unit
		for _, r := range list {
			after = r.ID
			for _, c := range r.Servers {
				if !have[pair{c, r.ID}] {
					unit.Then = append(unit.Then, Stmt{SQL: servesSQL, Args: []any{c, r.ID}, Want: Any})
				}
			}
		}
		if more = len(list) == step; len(unit.Then) > 0 {
			if err := s.db.Write(ctx, unit); err != nil {
				return fmt.Errorf("store: who serves resources: %w", err)
			}
		}
	}
	return err
}

// Resources implements resource.Store.
func (s *Store) Resources(ctx context.Context, after string, n int) ([]resource.Resource, error) {
	return all(ctx, s.db, scanResource, resourceSQL+`WHERE r.id > $1 ORDER BY r.id LIMIT $2`, after, int64(n))
}
