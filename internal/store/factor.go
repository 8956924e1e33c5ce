package store

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

func (s *Store) factorChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case factor.Enrol:
		u.room(c.Person, factor.KindPasskey)
		u.node(c.ID, lineage.Credential, c.Person)
		u.then(`INSERT INTO passkey (id, person, name, credential_id, public_key, aaguid, sign_count, transports, user_verified, backup_eligible,
backup_state, attestation, attestation_obj, client_data, rp_id, created_at, used_at, probation_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
			c.ID, c.Person, c.Name, c.CredentialID, c.PublicKey, c.AAGUID, int64(c.SignCount), text(c.Transports), flag(c.UserVerified),
			flag(c.BackupEligible), flag(c.BackupState), c.Attestation, c.AttestationObj, c.ClientData, c.RPID,
			orNow(c.CreatedAt, u.at).UnixMicro(), micros(c.UsedAt), micros(c.ProbationUntil))
	case factor.Use: // what a decision sees does not change: no version moves
		u.changeOne("passkey", `UPDATE passkey SET sign_count = $1, backup_state = $2, used_at = $3 WHERE id = $4`,
			int64(c.SignCount), flag(c.BackupState), micros(c.At), c.ID)
	case factor.Rename:
		u.bump(c.ID)
		u.check(1, func(context.Context) error { return missing("factor") },
			`SELECT (SELECT COUNT(*) FROM passkey WHERE id = $1) + (SELECT COUNT(*) FROM factor WHERE id = $2)`, c.ID, c.ID)
		u.then(`UPDATE passkey SET name = $1 WHERE id = $2`, c.Name, c.ID)
		u.then(`UPDATE factor SET name = $1 WHERE id = $2`, c.Name, c.ID)
	case factor.Remove:
		s.removeFactor(u, c)
	default:
		return s.secretChange(u, c)
	}
	return true
}

// room locks the person, whose factors change, and has them have room for one
// more of the kind. Somebody who is only just created has no node to lock.
func (u *unit) room(person string, k factor.Kind) {
	u.touched = append(u.touched, person)
	u.must(Any, nil, bumpSQL, person)
	u.check(1, refused(k.Full()), `SELECT CASE WHEN COUNT(*) < $1 THEN 1 ELSE 0 END FROM (`+liveSQL+`) live WHERE live.person = $2 AND live.kind = $3`,
		int64(k.Max()), person, string(k))
}

// liveSQL gives every live factor of every kind.
const liveSQL = `SELECT k.id, k.person, 'passkey' AS kind, COALESCE(k.probation_until, 0) AS probation
FROM passkey k JOIN node n ON n.id = k.id WHERE n.ended_at IS NULL AND n.frozen_at IS NULL
UNION ALL SELECT f.id, f.person, f.kind, COALESCE(f.probation_until, 0)
FROM factor f JOIN node n ON n.id = f.id WHERE n.ended_at IS NULL AND n.frozen_at IS NULL`

// leftSQL says that a person of live factors l, without the factor that goes, has
// a way left to sign in: a passkey, or a password and a code.
const leftSQL = `(EXISTS (SELECT 1 FROM live o WHERE o.person = l.person AND o.id <> l.id AND o.kind = 'passkey')
OR EXISTS (SELECT 1 FROM live o WHERE o.person = l.person AND o.id <> l.id AND o.kind = 'password')
AND EXISTS (SELECT 1 FROM live o WHERE o.person = l.person AND o.id <> l.id AND o.kind = 'totp'))`

// strongSQL says that what is left is phishing-resistant, or that what goes was
// not.
const strongSQL = `(l.kind <> 'passkey' OR EXISTS (SELECT 1 FROM live o WHERE o.person = l.person AND o.id <> l.id AND o.kind = 'passkey'))`

// usefulSQL names the kinds that take part in signing in by themselves; a factor of
// another kind can always go.
const usefulSQL = `l.kind IN ('passkey', 'password', 'totp')`

// removeFactor ends a factor unless the person needs it. The person's node is
// locked first, so that two removals see each other.
func (s *Store) removeFactor(u *unit, c factor.Remove) {
	u.lock(c.Person, "person")
	u.touched = append(u.touched, c.ID)
	kept := `(NOT ` + usefulSQL + ` OR ` + leftSQL + `)`
	if !c.Weaken {
		kept += ` AND ` + strongSQL
	}
	u.must(1, func(ctx context.Context) error { return s.notRemovedFactor(ctx, c) }, `INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), n.id, n.kind, CAST($2 AS BIGINT), 0 FROM (WITH live AS (`+liveSQL+`)
SELECT l.id FROM live l WHERE l.id = $3 AND l.person = $4 AND `+kept+`) gone JOIN node n ON n.id = gone.id`,
		u.record, u.at.UnixMicro(), c.ID, c.Person)
	u.ended(c.ID, "removed")
}

// ended ends a node whose line of the feed is written already.
func (u *unit) ended(id, why string) {
	u.then(`UPDATE node SET ended_at = $1, why = $2, version = version + 1 WHERE id = $3 AND ended_at IS NULL`, u.at.UnixMicro(), why, id)
}

// notRemovedFactor says why a factor was not removed.
func (s *Store) notRemovedFactor(ctx context.Context, c factor.Remove) error {
	ctx, cancel := whyNot(ctx)
	defer cancel()
	all, err := s.FactorsOf(ctx, c.Person)
	if err != nil {
		return err
	}
	have := map[factor.Kind]int{}
	var gone factor.Kind
	for _, f := range all {
		if f.ID == c.ID {
			gone = f.Kind
			continue
		}
		have[f.Kind]++
	}
	switch {
	case gone == "":
		return missing("factor")
	case have[factor.KindPasskey] == 0 && (have[factor.KindPassword] == 0 || have[factor.KindTOTP] == 0):
		return problem.New(problem.Conflict, "last_factor", "Without it there is no way left to sign in. Add another one first.")
	}
	return problem.New(problem.Conflict, "last_passkey", "Without it, what asks for a phishing-resistant sign-in can't be done any more.").
		WithHint("Say that this is meant, or add another passkey first.")
}

const passkeySQL = `SELECT k.person, k.name, k.credential_id, k.public_key, k.aaguid, k.sign_count, k.transports, k.user_verified, k.backup_eligible,
k.backup_state, k.attestation, k.attestation_obj, k.client_data, k.rp_id, k.created_at, COALESCE(k.used_at, 0), COALESCE(k.probation_until, 0), ` + nodeCols +
	` FROM passkey k JOIN node n ON n.id = k.id `

func scanPasskey(row Row) (factor.Passkey, error) {
	var k factor.Passkey
	var n nodeRow
	var transports string
	var count, uv, be, bs, created, used, probation int64
	if err := row.Scan(n.dest(&k.Person, &k.Name, &k.CredentialID, &k.PublicKey, &k.AAGUID, &count, &transports, &uv, &be, &bs,
		&k.Attestation, &k.AttestationObj, &k.ClientData, &k.RPID, &created, &used, &probation)...); err != nil {
		return factor.Passkey{}, err
	}
	k.ID, k.SignCount, k.CreatedAt, k.UsedAt, k.Node = n.id, uint32(count), moment(created), moment(used), n.node()
	k.UserVerified, k.BackupEligible, k.BackupState, k.ProbationUntil = uv != 0, be != 0, bs != 0, moment(probation)
	return k, list(transports, &k.Transports)
}

// Passkey implements factor.Store.
func (s *Store) Passkey(ctx context.Context, id string) (factor.Passkey, error) {
	return need(ctx, s.db, "passkey", scanPasskey, passkeySQL+`WHERE k.id = $1`, id)
}

// PasskeyByCredentialID implements factor.Store.
func (s *Store) PasskeyByCredentialID(ctx context.Context, credentialID []byte) (factor.Passkey, error) {
	return need(ctx, s.db, "passkey", scanPasskey, passkeySQL+`WHERE k.credential_id = $1`, credentialID)
}

// PasskeysOf implements factor.Store.
func (s *Store) PasskeysOf(ctx context.Context, person string) ([]factor.Passkey, error) {
	return all(ctx, s.db, scanPasskey, passkeySQL+`WHERE k.person = $1 AND n.ended_at IS NULL AND n.frozen_at IS NULL ORDER BY k.id`, person)
}
