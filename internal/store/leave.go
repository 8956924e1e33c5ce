package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/problem"
)

// whyRestored is why something is frozen that a restored backup may have revived.
const whyRestored = "restored"

// Leave ends the quarantine (mechanisms I10): everything that was issued ends,
// single-use values stop working, one-time codes of until now are used, and with
// Suspend everybody and everything that might have been revoked since the backup
// stays frozen until it is released, and whatever people agreed to is asked again. It
// goes into the act that opens a new epoch.
// problem.Conflict (not_quarantined) if there is no quarantine.
type Leave struct{ Suspend bool }

// Release takes back what Leave suspended. Group "" is everybody.
type Release struct {
	Kind  lineage.Kind // Person, Service, Client, or Connection for trusted issuers; 0 is webhooks
	Group string       // id of the group whose members are released
	ID    string       // only this one
}

// Change marks Leave as a change.
func (Leave) Change() {}

// Change marks Release as a change.
func (Release) Change() {}

var notQuarantined = problem.New(problem.Conflict, "not_quarantined", "The deployment is not in quarantine.")

func (s *Store) leave(u *unit, c Leave) {
	s.touchSelf(u)
	now := u.at.UnixMicro()
	u.thawSelf()
	u.then(`UPDATE deployment SET epoch_at = $1`, now)
	u.endIssued(whyRestored)
	u.endRollout()                       // it may have taken itself back since the backup
	u.then(`DELETE FROM managed_device`) // what was taken back since cannot be told from what was not
	u.then(`UPDATE once SET expires_at = $1 WHERE used_at IS NULL AND expires_at > $2`, now, now)
	u.then(`UPDATE factor SET step = $1 WHERE kind = $2 AND step < $3`, now/stepTime, string(factor.KindTOTP), now/stepTime)
	u.then(`DELETE FROM deployment_fact WHERE name IN ($1, $2)`, FactSeen, FactReplayed)
	if c.Suspend {
		const live = `ended_at IS NULL AND frozen_at IS NULL AND (kind IN (1, 2, 8) OR id IN (SELECT id FROM webhook UNION ALL SELECT id FROM trusted_issuer)) AND id NOT IN (SELECT id FROM client WHERE managed_by = $3)`
		u.then(`INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), id, kind, CAST($2 AS BIGINT), 0 FROM node WHERE `+live, u.record, now, "built-in")
		u.then(`UPDATE node SET frozen_at = $1, why = $2, version = version + 1 WHERE `+live, now, whyRestored, "built-in")
		u.endWhere(`ended_at IS NULL AND kind = $3 AND id IN (SELECT id FROM consent)`, whyRestored, int64(lineage.Grant)) // some may have been withdrawn
	}
}

// stepTime is how many microseconds a one-time code is good for (RFC 6238).
const stepTime = int64(30 * time.Second / time.Microsecond)

func (u *unit) release(c Release) {
	which := `frozen_at IS NOT NULL AND ended_at IS NULL AND why = $%d AND kind = $%d`
	args := []any{whyRestored, int64(c.Kind)}
	if c.ID != "" {
		which += ` AND id = $%d`
		args = append(args, c.ID)
	} else if c.Group != "" {
		which += ` AND id IN (SELECT person FROM membership WHERE grp = $%d)`
		args = append(args, c.Group)
	}
	from := func(n int) string { // the condition, with its first argument at $n
		at := []any{n, n + 1, n + 2}
		return fmt.Sprintf(which, at[:len(args)]...)
	}
	u.then(`INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), id, kind, CAST($2 AS BIGINT), 1 FROM node WHERE `+from(3), append([]any{u.record, u.at.UnixMicro()}, args...)...)
	u.then(`UPDATE node SET frozen_at = NULL, why = '', version = version + 1 WHERE `+from(1), args...)
}

// Suspended is how much waits to be released.
type Suspended struct{ People, Services, Clients, Issuers, Webhooks int64 }

// Suspended counts what waits to be released, by kind.
func (s *Store) Suspended(ctx context.Context) (n Suspended, err error) {
	err = s.db.Query(ctx, `SELECT kind, COUNT(*) FROM node WHERE frozen_at IS NOT NULL AND ended_at IS NULL AND why = $1 GROUP BY kind`, []any{whyRestored}, func(row Row) error {
		var kind, count int64
		err := row.Scan(&kind, &count)
		switch lineage.Kind(kind) {
		case lineage.Person:
			n.People = count
		case lineage.Service:
			n.Services = count
		case lineage.Client:
			n.Clients = count
		case lineage.Connection:
			n.Issuers = count
		case 0:
			n.Webhooks = count
		}
		return err
	})
	return n, err
}

// keptTaken is for how long the database says what an act took away: an export of
// the log has to be made within that time.
const keptTaken = 35 * 24 * time.Hour

// The ways in which an act takes something away.
const (
	TookEnd     = "end"           // a node ended
	TookFreeze  = "freeze"        // a node is frozen
	TookMember  = "member"        // a: group, b: person
	TookKey     = "key_withdrawn" // a: key
	TookRetired = "key_retired"   // a: key, b: from when on, RFC 3339
	TookClient  = "client"        // a client, a webhook or a trusted issuer was changed: its secret, keys, addresses
	TookPerson  = "erase"         // a person was erased
	TookKind    = "factor_kind"   // a kind of factor is not allowed any more

	// Of clients that nobody registered (client.Openness).
	TookBlocked  = "client_blocked"  // a: source, b: group. They may not be used
	TookTrust    = "client_trust"    // a: source, b: group. Something else is said of them
	TookDocument = "client_document" // a: client_id. Another document of it is kept, or none
	TookOpenness = "client_openness" // what they may do
)

// Taken is something that an act took away.
type Taken struct {
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b,omitempty"`
}

// Known reports whether this program knows what was taken.
func (t Taken) Known() bool {
	return slices.Contains([]string{
		TookEnd, TookFreeze, TookMember, TookKey, TookRetired, TookClient, TookPerson, TookKind, TookBlocked, TookTrust, TookDocument, TookOpenness,
	}, t.What)
}

// took remembers what a change takes away, if the revocations do not say it.
func (u *unit) took(c act.Change) {
	var t Taken
	switch c := c.(type) {
	case group.Remove:
		t = Taken{TookMember, c.Group, c.Person}
	case keyring.Withdraw:
		t = Taken{TookKey, c.ID, ""}
	case keyring.Retire:
		t = Taken{TookRetired, c.ID, c.At.UTC().Format(time.RFC3339Nano)}
	case client.RotateSecret:
		t = Taken{TookClient, c.ID, ""}
	case client.RetireSecret:
		t = Taken{TookClient, c.ID, ""}
	case client.Update:
		t = Taken{TookClient, c.ID, ""}
	case issuer.Update:
		t = Taken{TookClient, c.ID, ""}
	case client.SetRule:
		if t = (Taken{TookTrust, string(c.Source), c.Group}); c.Trust == client.Blocked {
			t.What = TookBlocked
		}
	case client.PinDocument:
		t = Taken{TookDocument, c.ClientID, ""}
	case client.UnpinDocument:
		t = Taken{TookDocument, c.ClientID, ""}
	case client.SetOpenness:
		t = Taken{TookOpenness, "", ""}
	case notice.UpdateWebhook:
		t = Taken{TookClient, c.ID, ""}
	case notice.RotateSecret:
		t = Taken{TookClient, c.ID, ""}
	case account.Erase:
		t = Taken{TookPerson, c.ID, ""}
	case factor.Allow:
		if c.On {
			return
		}
		t = Taken{TookKind, string(c.Kind), ""}
	default:
		return
	}
	u.then(`INSERT INTO taken (record_id, what, a, b, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (record_id, what, a, b) DO NOTHING`,
		u.record, t.What, t.A, t.B, u.at.UnixMicro())
}

// TakenBy gives what each of some records took away, as it stands now: what was
// frozen and is thawed again, or blocked and is not, was not taken.
func (s *Store) TakenBy(ctx context.Context, records []string) (map[string][]Taken, error) {
	out := map[string][]Taken{}
	for chunk := range slices.Chunk(records, 200) {
		err := s.db.Query(ctx, `SELECT r.record_id, CASE WHEN n.ended_at IS NOT NULL THEN 'end' ELSE 'freeze' END, r.node, '' FROM revocation r JOIN node n ON n.id = r.node
WHERE r.thawed = 0 AND (n.ended_at IS NOT NULL OR n.frozen_at IS NOT NULL) AND r.record_id IN (`+params(1, len(chunk))+`)
UNION ALL SELECT t.record_id, t.what, t.a, t.b FROM taken t WHERE t.record_id IN (`+params(len(chunk)+1, len(chunk))+`)
AND (t.what <> 'client_blocked' OR EXISTS (SELECT 1 FROM client_rule c WHERE c.source = t.a AND c.grp = t.b AND c.trust = 'blocked'))`, append(anys(chunk), anys(chunk)...), func(row Row) error {
			var id string
			var t Taken
			err := row.Scan(&id, &t.What, &t.A, &t.B)
			out[id] = append(out[id], t)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("store: read what records took: %w", err)
		}
	}
	return out, nil
}

// Reapply takes away again what was taken after a backup (mechanisms I11). What the
// backup does not know is passed over. A client that was changed since is frozen,
// because what it was changed from is not to work again; of clients that nobody
// registered nothing is said any more, where something else was said since.
type Reapply struct{ Taken []Taken }

// Change marks Reapply as a change.
func (Reapply) Change() {}

func (s *Store) reapply(u *unit, c Reapply) {
	now := u.at.UnixMicro()
	for _, t := range c.Taken {
		switch t.What {
		case TookEnd:
			u.revocation(t.A, 0, `n.ended_at IS NULL`)
			u.then(`UPDATE node SET ended_at = $1, why = $2, version = version + 1 WHERE id = $3 AND ended_at IS NULL`, now, whyReplayed, t.A)
		case TookFreeze, TookClient:
			why := whyReplayed
			if t.What == TookClient {
				why = whyRestored
			}
			u.revocation(t.A, 0, `n.ended_at IS NULL AND n.frozen_at IS NULL`)
			u.then(`UPDATE node SET frozen_at = $1, why = $2, version = version + 1 WHERE id = $3 AND ended_at IS NULL AND frozen_at IS NULL`, now, why, t.A)
		case TookMember:
			u.then(`DELETE FROM membership WHERE grp = $1 AND person = $2`, t.A, t.B)
			u.bump(t.A, t.B)
		case TookKey:
			u.then(`UPDATE keyring SET withdrawn_at = $1 WHERE id = $2 AND withdrawn_at IS NULL`, now, t.A)
		case TookRetired:
			at, err := time.Parse(time.RFC3339Nano, t.B)
			if err != nil {
				at = u.at // no later than now
			}
			u.then(`UPDATE keyring SET retire_at = $1 WHERE id = $2 AND retire_at IS NULL`, at.UnixMicro(), t.A)
		case TookPerson:
			s.forget(u, t.A)
		case TookBlocked:
			u.then(`INSERT INTO client_rule (source, grp, trust, name, at) VALUES ($1, $2, $3, '', $4)
ON CONFLICT (source, grp) DO UPDATE SET trust = EXCLUDED.trust, at = EXCLUDED.at`, t.A, t.B, string(client.Blocked), now)
		case TookTrust:
			u.then(`DELETE FROM client_rule WHERE source = $1 AND grp = $2 AND trust <> $3`, t.A, t.B, string(client.Blocked))
		case TookDocument:
			u.then(`DELETE FROM client_document WHERE client_id = $1`, t.A)
		case TookOpenness:
			u.then(`DELETE FROM client_openness`)
		case TookKind:
			u.then(`INSERT INTO factor_kind (kind, allowed) VALUES ($1, 0) ON CONFLICT (kind) DO UPDATE SET allowed = 0`, t.A)
		}
		u.touched = append(u.touched, t.A)
	}
}

// whyReplayed is why something is off that an export of the log says was taken.
const whyReplayed = "replayed"

// HasRecord reports whether the database has a record.
func (s *Store) HasRecord(ctx context.Context, id string) (bool, error) {
	n, err := need(ctx, s.db, "record", scanInt, `SELECT COUNT(*) FROM audit WHERE id = $1`, id)
	return n > 0, err
}
