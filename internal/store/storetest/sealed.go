package storetest

import (
	"slices"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
)

// openColumns are the columns of bytes that are not sealed: hashes, public keys, names,
// what the log is made of, and what single-use values carry.
var openColumns = []string{
	"attempt.bucket", "audit.body", "audit.entry", "audit.facts_hash", "audit_person.pseudonym", "audit_rollout.who", "checkpoint.note", "client.earlier_hash", "client.secret_hash",
	"decision_facts.body", "decision_facts.hash", "device.secret_hash", "keyring.public", "legal_hold.pseudonym", "log_head.root", "log_writer.id",
	"once.data", "once.hash", "passkey.attestation_obj", "passkey.client_data", "passkey.credential_id", "passkey.public_key", "profile.state", "record_key.pseudonym",
	"refresh_family.cur_hash", "refresh_family.prev_hash", "refresh_family.salt", "session.secret_hash", "tile.data",
}

// TestSealedColumns: a column of bytes is sealed, and then a rehearsal of a backup has
// to open it, or it is known not to be. A new one cannot be forgotten. have are the
// columns of an engine's schema that hold bytes or are called sealed: TABLE.COLUMN.
func TestSealedColumns(t *testing.T, have []string) {
	sealed := store.SealedColumns()
	for _, name := range have {
		if isSealed, isOpen := slices.Contains(sealed, name), slices.Contains(openColumns, name); isSealed == isOpen {
			t.Errorf("%s: say whether it is sealed: in the store's list of what a rehearsal opens, or here", name)
		}
	}
	for _, name := range append(sealed, openColumns...) {
		if !slices.Contains(have, name) {
			t.Errorf("there is no column %s", name)
		}
	}
}
