package store

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Rename gives the deployment another issuer, and the resource of its management
// API the URI that goes with it (mechanisms I5). What the old issuer issued is
// ended by EndIssued. problem.Conflict (server_running) while a server runs.
type Rename struct{ From, To string }

// EndIssued ends every session, grant, refresh family and recovery that lives,
// what was vouched for, and what waits to be signed or was, and forgets the authorization codes.
type EndIssued struct{ Why string }

// Clear removes what a development database holds, for good: people, groups,
// clients, services, resources, whatever was issued, single-use values and the
// checkpoints of the sample key; and withdraws every key (mechanisms I24). The
// log, who completed set-up and how the deployment was born stay.
// problem.Conflict (server_running) while a server runs.
type Clear struct{}

// Change marks Rename as a change.
func (Rename) Change() {}

// Change marks EndIssued as a change.
func (EndIssued) Change() {}

// Change marks Clear as a change.
func (Clear) Change() {}

var serverRunning = problem.New(problem.Conflict, "server_running", "A server is running on this database. Stop it first.").
	WithHint("After a server was killed, wait a few seconds and try again.")

const servingSQL = `SELECT COUNT(*) FROM lease WHERE name = 'sequencer' AND holder <> '' AND until > $1`

func (s *Store) handoverChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case Rename:
		u.check(0, refused(serverRunning), servingSQL, u.at.UnixMicro())
		u.changeOne("deployment", `UPDATE deployment SET issuer = $1 WHERE one = 1 AND issuer = $2`, c.To, c.From)
		from, to := canonical(c.From+"/v1"), canonical(c.To+"/v1")
		u.then(`UPDATE node SET version = version + 1 WHERE id IN (SELECT id FROM resource WHERE canonical = $1)`, from)
		u.then(`UPDATE resource SET uri = $1, canonical = $2 WHERE canonical = $3`, c.To+"/v1", to, from)
	case EndIssued:
		u.endIssued(c.Why)
	case Clear:
		u.clear()
	default:
		return false
	}
	return true
}

// endIssued leaves alone what has expired: it is worth nothing, and may be much.
func (u *unit) endIssued(why string) {
	const live = `ended_at IS NULL AND id IN (
SELECT id FROM session WHERE signed_out_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
UNION ALL SELECT id FROM access_grant WHERE expires_at IS NULL OR expires_at > $3
UNION ALL SELECT id FROM refresh_family WHERE expires_at IS NULL OR expires_at > $3)`
	now := u.at.UnixMicro()
	u.endWhere(live, why, now)
	u.then(`DELETE FROM once WHERE purpose = 1`)
	u.then(`UPDATE recovery SET state = 'cancelled', ended_at = $1 WHERE state = 'open'`, now)
	u.then(`UPDATE review SET until = $1 WHERE state = 'allowed' AND until > $1`, now)
	u.endPublications()
}

// endWhere ends the nodes for which a condition holds, whose one argument is $3.
// Nodes without a handle get no line in the feed.
func (u *unit) endWhere(which, why string, arg any) {
	u.then(`INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), id, kind, CAST($2 AS BIGINT), 0 FROM node WHERE kind BETWEEN 1 AND 63 AND `+which, u.record, u.at.UnixMicro(), arg)
	u.then(`UPDATE node SET ended_at = $1, why = $2, version = version + 1 WHERE `+which, u.at.UnixMicro(), why, arg)
}

// clear deletes rows, so that no name of a sample stays taken; their nodes stay,
// ended.
func (u *unit) clear() {
	u.check(0, refused(serverRunning), servingSQL, u.at.UnixMicro())
	u.endWhere(`ended_at IS NULL AND kind <> $3 AND id NOT IN (SELECT id FROM deployment)`, "adopted", int64(-1)) // every node but the deployment's
	for _, table := range []string{
		"membership", "people_group", "passkey", "session", "managed_device", "device", "consent", "delegation", "issuer_link", "trusted_issuer", "access_grant", "refresh_family",
		"client", "service", "resource_server", "resource", "audit_ref", "record_key", "person", "once", "checkpoint", "recovery_confirmation", "recovery", "review", "publication",
		"client_openness", "client_rule", "client_document",
	} {
		u.then(`DELETE FROM ` + table)
	}
	u.then(`DELETE FROM cosignature`)
	u.then(`UPDATE log_epoch SET origin = ''`)
	u.then(`UPDATE keyring SET withdrawn_at = $1 WHERE withdrawn_at IS NULL`, u.at.UnixMicro())
}

// Serving reports whether a server runs on the database, as its lease on the log
// says; one that was killed looks so for a few seconds.
func (s *Store) Serving(ctx context.Context) (bool, error) {
	n, err := need(ctx, s.db, "lease", scanInt, servingSQL, s.now().UnixMicro())
	return n > 0, err
}

// Issued counts the sessions and grants that live.
func (s *Store) Issued(ctx context.Context) (sessions, grants int64, err error) {
	now := s.now().UnixMicro()
	count := func(kind lineage.Kind, table, more string) (n int64) {
		if err == nil {
			n, err = need(ctx, s.db, table, scanInt, `SELECT COUNT(*) FROM `+table+` t JOIN node n ON n.id = t.id
WHERE n.ended_at IS NULL AND n.kind = $1 AND (t.expires_at IS NULL OR t.expires_at > $2)`+more, int64(kind), now)
		}
		return n
	}
	sessions = count(lineage.Session, "session", ` AND t.signed_out_at IS NULL`)
	grants = count(lineage.Grant, "access_grant", ``)
	return sessions, grants, err
}
