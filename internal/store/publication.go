package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

var _ ruleset.PublicationStore = (*Store)(nil)

var (
	publicationOpen  = problem.New(problem.Conflict, "publication_open", "The same was submitted by somebody else just now.")
	publicationsFull = problem.Newf(problem.Conflict, "publications_full", "%d sets of policies wait to be signed or carried out, and no more may. Withdraw one first.", ruleset.MaxPublications).
				WithHint("countersign policy publications")
	servicesFull = problem.Newf(problem.Conflict, "publications_full", "%d sets of policies that services handed in wait to be signed or carried out, and no more may. Withdraw one first.", ruleset.MaxOfServices).
			WithHint("countersign policy publications")
	servicesMany = problem.Newf(problem.Conflict, "publications_many", "This service handed in %d sets of policies within a day, and no more may.", ruleset.MaxOfADay)
)

// openPublication is a condition on publications of which something can become.
const openPublication = `state IN ('unsigned', 'signed')`

// publicationChange writes publications. One of a set, a version that it follows and a
// plan is open at a time: the unique index decides between two that are submitted at
// once. Those who submit wait for each other on the deployment, so that they are counted.
func (s *Store) publicationChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case ruleset.Submit:
		s.moveSelf(u)
		u.must(Any, nil, `UPDATE publication SET state = $1, over_at = $2 WHERE `+openPublication+` AND (until <= $2 OR after_n <> (`+headSQL+`))`,
			string(ruleset.Ended), u.at.UnixMicro())
		u.check(c.After, refused(policyMoved), headSQL)
		u.check(0, refused(ruleset.Running()), openRolloutsSQL)
		u.check(0, refused(publicationsFull), `SELECT COUNT(*) / CAST($1 AS BIGINT) FROM publication WHERE `+openPublication, int64(ruleset.MaxPublications))
		if c.ByKind == policy.KindService {
			u.check(0, refused(servicesFull), `SELECT COUNT(*) / CAST($1 AS BIGINT) FROM publication WHERE `+openPublication+` AND author_kind = $2`,
				int64(ruleset.MaxOfServices), policy.KindService)
			u.check(0, refused(servicesMany), `SELECT COUNT(*) / CAST($1 AS BIGINT) FROM publication WHERE until > $2 AND author = $3`,
				int64(ruleset.MaxOfADay), u.at.UnixMicro(), c.By)
		}
		u.then(`INSERT INTO publication (id, after_n, hash, plan, source, waves, note, author, author_kind, made_at, until, state, signer, signature, became, record_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', '', 0, $13)`,
			c.ID, c.After, c.Hash, c.Plan(), members(c.Source), members(c.Waves), c.Note, c.By, c.ByKind, c.At.UnixMicro(), c.Until.UnixMicro(), string(ruleset.Unsigned), u.record)
	case ruleset.Sign:
		u.must(1, refused(ruleset.Over()), bumpSQL, c.Signature.By) // whoever stops them waits, and finds the signature
		u.touched = append(u.touched, c.Signature.By)
		u.check(c.After, refused(policyMoved), headSQL)
		u.must(1, refused(ruleset.Over()), `UPDATE publication SET state = $1, signer = $2, signature = $3, until = $4
WHERE id = $5 AND state = $6 AND until > $7 AND after_n = $8 AND hash = $9 AND plan = $10`,
			string(ruleset.Signed), c.Signature.By, members(c.Signature), c.Signature.Until.UnixMicro(),
			c.ID, string(ruleset.Unsigned), u.at.UnixMicro(), c.After, c.Hash, c.Plan)
	case ruleset.Withdraw:
		u.must(1, refused(ruleset.Over()), `UPDATE publication SET state = $1, over_at = $2 WHERE id = $3 AND `+openPublication+` AND until > $2`,
			string(ruleset.Withdrawn), u.at.UnixMicro(), c.ID)
	default:
		return false
	}
	return true
}

// spend uses up a publication that is carried out as became: while it is signed, by
// somebody who is live, in its time, of exactly this.
func (u *unit) spend(publication, signer, hash, plan string, after, became int64) {
	u.must(1, refused(ruleset.Over()), `UPDATE publication SET state = $1, over_at = $2, became = $3
WHERE id = $4 AND state = $5 AND until > $2 AND signer = $6 AND hash = $7 AND plan = $8 AND after_n = $9
AND EXISTS (SELECT 1 FROM node n WHERE n.id = publication.signer AND n.ended_at IS NULL AND n.frozen_at IS NULL)`,
		string(ruleset.CarriedOut), u.at.UnixMicro(), became, publication, string(ruleset.Signed), signer, hash, plan, after)
}

// unsign has no signature count any more that somebody made: they are stopped, or what
// they had was in other hands, or they are not in every group any more that they signed
// in. who is a condition on publication.signer, with $2.
func (u *unit) unsign(who, arg string) {
	u.then(`UPDATE publication SET state = 'ended', over_at = $1 WHERE state = 'signed' AND `+who, u.at.UnixMicro(), arg)
}

// unsubmit does that, and withdraws what they submitted, or a service that is theirs. who
// is SQL of an id, with $2.
func (u *unit) unsubmit(who, arg string) {
	u.unsign(who+` = signer`, arg)
	u.then(`UPDATE publication SET state = 'withdrawn', over_at = $1 WHERE `+openPublication+` AND (`+who+` = author OR author IN (SELECT id FROM service WHERE owner = `+who+`))`,
		u.at.UnixMicro(), arg)
}

// unsubmitOf does that where a person or a service ends.
func (u *unit) unsubmitOf(node string) {
	if strings.HasPrefix(node, id.Person) || strings.HasPrefix(node, id.Service) {
		u.unsubmit(`CAST($2 AS TEXT)`, node)
	}
	u.unsignIn(node)
}

// unsignIn has the signatures of a group's members count no more, where it ends or is
// frozen.
func (u *unit) unsignIn(node string) {
	if strings.HasPrefix(node, id.Group) {
		u.unsign(`signer IN (SELECT person FROM membership WHERE grp = $2)`, node)
	}
}

// endPublications ends all that are open: what somebody may have taken back since
// cannot be told from what they did not, and what was signed named another issuer.
func (u *unit) endPublications() {
	u.then(`UPDATE publication SET state = 'ended', over_at = $1 WHERE `+openPublication, u.at.UnixMicro())
}

const publicationSQL = `SELECT id, after_n, hash, waves, note, author, author_kind, made_at, until, state, signature, became, record_id, COALESCE(over_at, 0)`

// scanPublication reads a row, with its source if that is selected behind the rest.
func scanPublication(source bool) func(Row) (ruleset.Publication, error) {
	return func(row Row) (ruleset.Publication, error) {
		var p ruleset.Publication
		var made, until, over int64
		var waves, state, signature, text string
		dest := []any{&p.ID, &p.After, &p.Hash, &waves, &p.Note, &p.By, &p.ByKind, &made, &until, &state, &signature, &p.Became, &p.Record, &over}
		if source {
			dest = append(dest, &text)
		}
		if err := row.Scan(dest...); err != nil {
			return p, err
		}
		p.State, p.At, p.Until, p.OverAt = ruleset.PublicationState(state), moment(made), moment(until), moment(over)
		err := json.Unmarshal([]byte(waves), &p.Waves)
		if err == nil {
			p.Signed, err = signatureOf(signature)
		}
		if err == nil && source {
			err = json.Unmarshal([]byte(text), &p.Source)
		}
		if err != nil {
			err = fmt.Errorf("store: the publication %s: %w", p.ID, err)
		}
		return p, err
	}
}

// signatureOf reads a signature, nil if there is none.
func signatureOf(text string) (*ruleset.Signature, error) {
	if text == "" {
		return nil, nil
	}
	var s ruleset.Signature
	return &s, json.Unmarshal([]byte(text), &s)
}

// signatureText writes it.
func signatureText(s *ruleset.Signature) string {
	if s == nil {
		return ""
	}
	return members(s)
}

// Publication implements ruleset.PublicationStore.
func (s *Store) Publication(ctx context.Context, id string) (ruleset.Publication, error) {
	return need(ctx, s.db, "publication", scanPublication(true), publicationSQL+`, source FROM publication WHERE id = $1`, id)
}

// Publications implements ruleset.PublicationStore.
func (s *Store) Publications(ctx context.Context, before string, n int) ([]ruleset.Publication, error) {
	if before == "" {
		before = "~" // sorts after every id
	}
	return all(ctx, s.db, scanPublication(false), publicationSQL+` FROM publication WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, int64(n))
}

// OpenPublications implements ruleset.PublicationStore.
func (s *Store) OpenPublications(ctx context.Context) ([]ruleset.Publication, error) {
	return all(ctx, s.db, scanPublication(false), publicationSQL+` FROM publication WHERE `+openPublication+` ORDER BY id DESC`)
}

// OpenPublication implements ruleset.PublicationStore.
func (s *Store) OpenPublication(ctx context.Context, after int64, hash, plan string, at time.Time) (ruleset.Publication, bool, error) {
	return one(ctx, s.db, scanPublication(true), publicationSQL+`, source FROM publication WHERE after_n = $1 AND hash = $2 AND plan = $3 AND `+openPublication+` AND until > $4`,
		after, hash, plan, at.UnixMicro())
}
