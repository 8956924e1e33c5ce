package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// ToldApps gives the clients that are told when a session ends, or when somebody has
// answered them, at most n, by id.
func (s *Store) ToldApps(ctx context.Context, n int) ([]client.Client, error) {
	return all(ctx, s.db, scanClient, clientSQL+`WHERE (c.metadata LIKE '%"backchannel_logout_uri":%'
OR c.metadata LIKE '%"backchannel_client_notification_endpoint":%') AND n.ended_at IS NULL AND n.frozen_at IS NULL
ORDER BY c.id LIMIT $1`, int64(n))
}

// EndedSessions gives the sessions that a record ended, at the time of its act, and
// in which a client signed somebody in: because they were signed out or ended, or
// because something that they descend from was ended or frozen. persons are whom the
// record concerns.
func (s *Store) EndedSessions(ctx context.Context, record string, at time.Time, persons []string, client string) ([]string, error) {
	nodes, err := all(ctx, s.db, scanString, `SELECT node FROM revocation WHERE record_id = $1 AND thawed = 0`, record)
	if err != nil {
		return nil, fmt.Errorf("store: what a record ended: %w", err)
	}
	whose := slices.Clone(persons)
	for _, n := range nodes {
		more, err := s.personsAt(ctx, n)
		if err != nil {
			return nil, err
		}
		whose = append(whose, more...)
	}
	slices.Sort(whose)
	var out []string
	for _, person := range slices.Compact(whose) {
		list, err := s.departed(ctx, person, client, at, nodes)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// personsAt are the persons whose sessions may descend from a node.
func (s *Store) personsAt(ctx context.Context, node string) ([]string, error) {
	switch {
	case strings.HasPrefix(node, id.Person):
		return []string{node}, nil
	case strings.HasPrefix(node, id.Session):
		return all(ctx, s.db, scanString, `SELECT person FROM session WHERE id = $1`, node)
	case strings.HasPrefix(node, id.Credential):
		return all(ctx, s.db, scanString, owners[lineage.Credential].sql, node, node)
	case strings.HasPrefix(node, id.Device):
		return all(ctx, s.db, scanString, `SELECT DISTINCT person FROM session WHERE device = $1`, node)
	}
	return nil, nil
}

// departed are the sessions of a person, with a client, that are over by nodes, or by
// being signed out at a time.
func (s *Store) departed(ctx context.Context, person, client string, at time.Time, nodes []string) (out []string, err error) {
	type ended struct {
		id  string
		out int64
	}
	list, err := all(ctx, s.db, func(row Row) (e ended, err error) {
		err = row.Scan(&e.id, &e.out)
		return e, err
	}, `SELECT s.id, COALESCE(s.signed_out_at, 0) FROM session s WHERE s.person = $1 AND EXISTS (
SELECT 1 FROM access_grant g WHERE g.person = $2 AND g.session = s.id AND g.client = $3 AND g.scopes LIKE '%"openid"%') ORDER BY s.id`, person, person, client)
	if err != nil {
		return nil, fmt.Errorf("store: sessions of a client: %w", err)
	}
	for _, e := range list {
		over := e.out == at.UnixMicro()
		if !over && len(nodes) > 0 {
			up, err := ancestors(ctx, s.db, []string{e.id})
			if err != nil {
				return nil, err
			}
			over = slices.ContainsFunc(nodes, func(n string) bool { return has(up, n) })
		}
		if over {
			out = append(out, e.id)
		}
	}
	return out, nil
}
