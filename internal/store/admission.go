package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
)

func (s *Store) admissionChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case client.SetOpenness:
		u.then(`INSERT INTO client_openness (one, body) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET body = excluded.body`, members(c.Openness))
	case client.SetRule:
		u.then(`DELETE FROM client_rule WHERE source = $1 AND grp = $2`, string(c.Source), c.Group)
		if c.Trust != client.Unsaid {
			u.then(`INSERT INTO client_rule (source, grp, trust, name, at) VALUES ($1, $2, $3, $4, $5)`,
				string(c.Source), c.Group, string(c.Trust), c.Name, orNow(c.At, u.at).UnixMicro())
		}
	case client.PinDocument:
		u.then(`INSERT INTO client_document (client_id, body, at) VALUES ($1, $2, $3)
ON CONFLICT (client_id) DO UPDATE SET body = excluded.body, at = excluded.at`, c.ClientID, string(c.Body), orNow(c.At, u.at).UnixMicro())
	case client.UnpinDocument:
		u.changeOne("document", `DELETE FROM client_document WHERE client_id = $1`, c.ClientID)
	default:
		return false
	}
	return true
}

// Openness implements client.Admissions.
func (s *Store) Openness(ctx context.Context) (o client.Openness, err error) {
	body, ok, err := one(ctx, s.db, scanString, `SELECT body FROM client_openness WHERE one = 1`)
	if err != nil || !ok {
		return client.Openness{}, err
	}
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		return client.Openness{}, fmt.Errorf("store: what unregistered clients may do: %w", err)
	}
	return o, nil
}

// Rules implements client.Admissions.
func (s *Store) Rules(ctx context.Context) ([]client.Rule, error) {
	return all(ctx, s.db, func(row Row) (r client.Rule, err error) {
		var source, trust string
		var at int64
		err = row.Scan(&source, &r.Group, &trust, &r.Name, &at)
		r.Source, r.Trust, r.At = client.Source(source), client.Trust(trust), moment(at)
		return r, err
	}, `SELECT source, grp, trust, name, at FROM client_rule ORDER BY source, grp`)
}

func scanDocument(row Row) (d client.Document, err error) {
	var body string
	var at int64
	err = row.Scan(&d.ClientID, &body, &at)
	d.Body, d.At = []byte(body), moment(at)
	return d, err
}

// Document implements client.Admissions.
func (s *Store) Document(ctx context.Context, clientID string) (client.Document, error) {
	return need(ctx, s.db, "document", scanDocument, `SELECT client_id, body, at FROM client_document WHERE client_id = $1`, clientID)
}

// Documents implements client.Admissions.
func (s *Store) Documents(ctx context.Context, after string, n int) ([]client.Document, error) {
	return all(ctx, s.db, scanDocument, `SELECT client_id, body, at FROM client_document WHERE client_id > $1 ORDER BY client_id LIMIT $2`, after, int64(n))
}

// maxUnder is how many clients one rule stops or lets go at most, the newest first.
const maxUnder = 1000

// Under implements client.Admissions: at most maxUnder. A domain is one of letters,
// digits, dots and hyphens (client.CheckRule), so that nothing of it is a pattern.
func (s *Store) Under(ctx context.Context, r client.Rule) ([]client.Client, error) {
	where, args := `c.source = $1 AND c.grp = $2`, []any{string(r.Source), r.Group}
	if r.Source == client.FromDocument {
		host := strings.TrimPrefix(r.Group, "*.")
		where, args = `(c.source = $1 AND c.grp LIKE $2 OR c.source = $3 AND c.redirect_uris LIKE $4)`,
			[]any{string(r.Source), "%" + host, string(client.FromItself), "%" + host + "%"}
	}
	list, err := all(ctx, s.db, scanClient, clientSQL+`WHERE `+where+` AND n.ended_at IS NULL ORDER BY c.id DESC`, args...)
	r.Trust = client.Blocked
	list = slices.DeleteFunc(list, func(c client.Client) bool { return client.TrustOf(c, []client.Rule{r}) != client.Blocked })
	return list[:min(len(list), maxUnder)], err
}

// Met implements client.Admissions.
func (s *Store) Met(ctx context.Context, before string, n int) ([]client.Met, error) {
	return all(ctx, s.db, func(row Row) (m client.Met, err error) {
		var source string
		var clients, people, used int64
		err = row.Scan(&source, &m.Group, &m.Newest, &m.Name, &clients, &people, &used)
		m.Source, m.Clients, m.People, m.UsedAt = client.Source(source), int(clients), int(people), moment(used)
		return m, err
	}, `SELECT x.source, x.grp, x.newest, k.name, x.clients, x.people, COALESCE((SELECT MAX(g.used_at) FROM access_grant g
JOIN client c ON c.id = g.client WHERE c.source = x.source AND c.grp = x.grp), 0)
FROM (SELECT c.source, c.grp, MAX(c.id) AS newest, COUNT(DISTINCT c.id) AS clients, COUNT(DISTINCT CASE WHEN m.ended_at IS NULL THEN s.person END) AS people
FROM client c JOIN node n ON n.id = c.id LEFT JOIN consent s ON s.client = c.id LEFT JOIN node m ON m.id = s.id
WHERE c.source <> '' AND n.ended_at IS NULL GROUP BY c.source, c.grp HAVING $1 = '' OR MAX(c.id) < $2 ORDER BY MAX(c.id) DESC LIMIT $3) x
JOIN client k ON k.id = x.newest ORDER BY x.newest DESC`, before, before, int64(n))
}

// Uses implements client.Admissions.
func (s *Store) Uses(ctx context.Context, source client.Source, group string, n int) ([]client.Use, error) {
	return all(ctx, s.db, func(row Row) (u client.Use, err error) {
		var resources, scopes string
		var at, used int64
		if err := row.Scan(&u.Client, &u.Person, &resources, &scopes, &at, &used); err != nil {
			return u, err
		}
		u.At, u.UsedAt = moment(at), moment(used)
		return u, lists(into(&resources, &u.Resources), into(&scopes, &u.Scopes))
	}, `SELECT s.client, s.person, s.resources, s.scopes, s.at, COALESCE((SELECT MAX(g.used_at) FROM access_grant g WHERE g.person = s.person AND g.client = s.client), 0)
FROM consent s JOIN node n ON n.id = s.id JOIN client c ON c.id = s.client
WHERE c.source = $1 AND c.grp = $2 AND n.ended_at IS NULL ORDER BY s.at DESC, s.id DESC LIMIT $3`, string(source), group, int64(n))
}
