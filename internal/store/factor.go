package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

func (s *Store) factorChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case factor.Enrol:
		u.bump(c.Person)
		u.node(c.ID, lineage.Credential, c.Person)
		u.then(`INSERT INTO passkey (id, person, name, credential_id, public_key, aaguid, sign_count, transports, user_verified, backup_eligible,
backup_state, attestation, attestation_obj, client_data, rp_id, created_at, used_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			c.ID, c.Person, c.Name, c.CredentialID, c.PublicKey, c.AAGUID, int64(c.SignCount), text(c.Transports), flag(c.UserVerified),
			flag(c.BackupEligible), flag(c.BackupState), c.Attestation, c.AttestationObj, c.ClientData, c.RPID,
			orNow(c.CreatedAt, u.at).UnixMicro(), micros(c.UsedAt))
	case factor.Use: // what a decision sees does not change: no version moves
		u.changeOne("passkey", `UPDATE passkey SET sign_count = $1, backup_state = $2, used_at = $3 WHERE id = $4`,
			int64(c.SignCount), flag(c.BackupState), micros(c.At), c.ID)
	case factor.Rename:
		u.bump(c.ID)
		u.changeOne("passkey", `UPDATE passkey SET name = $1 WHERE id = $2`, c.Name, c.ID)
	case factor.Remove:
		s.removeFactor(u, c)
	default:
		return false
	}
	return true
}

// removeFactor ends a passkey unless it is the person's last live one. The
// person's node is locked first, so that two removals see each other.
func (s *Store) removeFactor(u *unit, c factor.Remove) {
	u.lock(c.Person, "person")
	u.touched = append(u.touched, c.ID)
	u.must(1, func(ctx context.Context) error { return s.notRemovedFactor(ctx, c) },
		`INSERT INTO revocation (record_id, node, kind, at, thawed)
SELECT CAST($1 AS TEXT), n.id, n.kind, CAST($2 AS BIGINT), 0 FROM node n JOIN passkey k ON k.id = n.id
WHERE n.id = $3 AND k.person = $4 AND n.ended_at IS NULL AND EXISTS (
SELECT 1 FROM passkey o JOIN node m ON m.id = o.id WHERE o.person = k.person AND o.id <> k.id AND m.ended_at IS NULL AND m.frozen_at IS NULL)`,
		u.record, u.at.UnixMicro(), c.ID, c.Person)
	u.then(`UPDATE node SET ended_at = $1, why = 'removed', version = version + 1 WHERE id = $2 AND ended_at IS NULL`, u.at.UnixMicro(), c.ID)
}

// notRemovedFactor says why a passkey was not removed.
func (s *Store) notRemovedFactor(ctx context.Context, c factor.Remove) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	k, err := s.Passkey(ctx, c.ID)
	if err != nil {
		return err
	}
	if k.Person != c.Person || !k.Node.EndedAt.IsZero() {
		return missing("passkey")
	}
	return problem.New(problem.Conflict, "last_factor", "This is the only way left to sign in. Add another one first.")
}

const passkeySQL = `SELECT k.person, k.name, k.credential_id, k.public_key, k.aaguid, k.sign_count, k.transports, k.user_verified, k.backup_eligible,
k.backup_state, k.attestation, k.attestation_obj, k.client_data, k.rp_id, k.created_at, COALESCE(k.used_at, 0), ` + nodeCols +
	` FROM passkey k JOIN node n ON n.id = k.id `

func scanPasskey(row Row) (factor.Passkey, error) {
	var k factor.Passkey
	var n nodeRow
	var transports string
	var count, uv, be, bs, created, used int64
	if err := row.Scan(n.dest(&k.Person, &k.Name, &k.CredentialID, &k.PublicKey, &k.AAGUID, &count, &transports, &uv, &be, &bs,
		&k.Attestation, &k.AttestationObj, &k.ClientData, &k.RPID, &created, &used)...); err != nil {
		return factor.Passkey{}, err
	}
	k.ID, k.SignCount, k.CreatedAt, k.UsedAt, k.Node = n.id, uint32(count), moment(created), moment(used), n.node()
	k.UserVerified, k.BackupEligible, k.BackupState = uv != 0, be != 0, bs != 0
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
