package store

import (
	"context"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

func (s *Store) personChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case account.Create:
		u.node(c.ID, lineage.Person)
		u.then(`INSERT INTO person (id, subject, name, username, username_fold, email, email_verified, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			c.ID, c.Subject, c.Name, c.Username, fold(c.Username), c.Email, flag(c.Verified), orNow(c.CreatedAt, u.at).UnixMicro())
		for _, g := range c.Groups {
			u.join(g, c.ID)
		}
	case account.Update:
		u.updatePerson(c)
	case account.ProveEmail:
		u.bump(c.ID)
		u.must(1, refused(emailMoved), `UPDATE person SET email_verified = 1 WHERE id = $1 AND email = $2`, c.ID, c.Email)
	case account.SetUp:
		u.then(`INSERT INTO setup (one, person, at) VALUES (1, $1, $2)`, c.Person, orNow(c.At, u.at).UnixMicro())
	case account.Erase:
		s.erase(u, c.ID)
	default:
		return false
	}
	return true
}

var emailMoved = problem.New(problem.Conflict, "email_changed", "That is not the address of the account any more.")

// updatePerson writes the members that are given. The e-mail address is
// unproved again when it changes.
func (u *unit) updatePerson(c account.Update) {
	u.bump(c.ID)
	if c.Name != nil {
		u.changeOne("person", `UPDATE person SET name = $1 WHERE id = $2`, *c.Name, c.ID)
	}
	if c.Username != nil {
		u.changeOne("person", `UPDATE person SET username = $1, username_fold = $2 WHERE id = $3`, *c.Username, fold(*c.Username), c.ID)
	}
	if c.Email != nil {
		u.changeOne("person", `UPDATE person SET email_verified = CASE WHEN email = $1 THEN email_verified ELSE 0 END, email = $1 WHERE id = $2`, *c.Email, c.ID)
	}
}

// erase removes what names a person and the key of their parts in the log. The
// nodes of what was theirs stay, ended through the person's.
func (s *Store) erase(u *unit, id string) {
	u.notOnHold(id)
	u.must(1, func(context.Context) error { return missing("person") }, `DELETE FROM person WHERE id = $1`, id)
	u.lockMemberships(id)
	u.end(id, "erased")
	s.forget(u, id)
}

// forget deletes what there is of a person, and the key that opens their parts of
// the log; ending the node of one who is there is the caller's.
func (s *Store) forget(u *unit, id string) {
	u.then(`DELETE FROM person WHERE id = $1`, id)
	u.then(`DELETE FROM audit_ref WHERE record_id IN (SELECT p.record_id FROM audit_person p JOIN record_key k ON k.pseudonym = p.pseudonym WHERE k.person = $1)`, id)
	u.then(`DELETE FROM record_key WHERE person = $1`, id)
	u.then(`DELETE FROM passkey WHERE person = $1`, id)
	u.then(`DELETE FROM factor WHERE person = $1`, id)
	u.then(`DELETE FROM profile WHERE actor = $1`, id)
	u.then(`DELETE FROM risk_report WHERE person = $1`, id)
	u.then(`DELETE FROM managed_device WHERE person = $1`, id)
	u.then(`DELETE FROM once WHERE bound = $1 AND purpose IN (32, 33)`, id)
	u.then(`DELETE FROM recovery_confirmation WHERE recovery IN (SELECT id FROM recovery WHERE person = $1)`, id)
	u.then(`DELETE FROM recovery WHERE person = $1`, id)
	u.then(`DELETE FROM review WHERE actor = $1`, id)
	u.then(`DELETE FROM session WHERE person = $1`, id)
	u.then(`DELETE FROM issuer_link WHERE person = $1`, id)
	u.then(`UPDATE access_grant SET proofs = '[]' WHERE person = $1`, id)
	u.then(`UPDATE refresh_family SET network = '' WHERE person = $1`, id)
	u.after = append(u.after, func() { s.keys.forget(id) })
}

func fold(username string) string { return strings.ToLower(username) }

func orNow(t, now time.Time) time.Time {
	if t.IsZero() {
		return now
	}
	return t
}

const personSQL = `SELECT p.subject, p.name, p.username, p.email, p.email_verified, p.created_at,
(SELECT COUNT(*) FROM passkey k JOIN node kn ON kn.id = k.id WHERE k.person = p.id AND kn.ended_at IS NULL AND kn.frozen_at IS NULL) +
(SELECT COUNT(*) FROM factor f JOIN node fn ON fn.id = f.id WHERE f.person = p.id AND fn.ended_at IS NULL AND fn.frozen_at IS NULL), ` +
	nodeCols + ` FROM person p JOIN node n ON n.id = p.id `

func scanPerson(row Row) (account.Person, error) {
	var p account.Person
	var n nodeRow
	var verified, created, factors int64
	err := row.Scan(n.dest(&p.Subject, &p.Name, &p.Username, &p.Email, &verified, &created, &factors)...)
	p.ID, p.Verified, p.CreatedAt, p.Factors, p.Node = n.id, verified != 0, moment(created), int(factors), n.node()
	return p, err
}

// Person implements account.Store.
func (s *Store) Person(ctx context.Context, id string) (account.Person, error) {
	return need(ctx, s.db, "person", scanPerson, personSQL+`WHERE p.id = $1`, id)
}

// PersonBySubject implements account.Store.
func (s *Store) PersonBySubject(ctx context.Context, sub string) (account.Person, error) {
	return need(ctx, s.db, "person", scanPerson, personSQL+`WHERE p.subject = $1`, sub)
}

// PersonByUsername implements account.Store.
func (s *Store) PersonByUsername(ctx context.Context, username string) (account.Person, error) {
	return need(ctx, s.db, "person", scanPerson, personSQL+`WHERE p.username_fold = $1`, fold(username))
}

// People implements account.Store.
func (s *Store) People(ctx context.Context, after string, n int) ([]account.Person, error) {
	return all(ctx, s.db, scanPerson, personSQL+`WHERE p.id > $1 ORDER BY p.id LIMIT $2`, after, int64(n))
}

// SetUp implements account.Store.
func (s *Store) SetUp(ctx context.Context) (account.SetUpState, error) {
	st, _, err := one(ctx, s.db, func(row Row) (account.SetUpState, error) {
		var st account.SetUpState
		var at int64
		err := row.Scan(&st.Person, &at)
		st.Done, st.At = true, moment(at)
		return st, err
	}, `SELECT person, at FROM setup WHERE one = 1`)
	return st, err
}

// CountPeople counts the accounts.
func (s *Store) CountPeople(ctx context.Context) (int64, error) {
	return need(ctx, s.db, "people", scanInt, `SELECT COUNT(*) FROM person`)
}
