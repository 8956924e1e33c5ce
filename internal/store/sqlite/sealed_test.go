package sqlite

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
)

// openColumns are the columns of bytes that are not sealed: hashes, public keys, names,
// what the log is made of, and what single-use values carry.
var openColumns = []string{
	"attempt.bucket", "audit.body", "audit.entry", "audit.facts_hash", "audit_person.pseudonym", "checkpoint.note", "client.earlier_hash", "client.secret_hash",
	"decision_facts.body", "decision_facts.hash", "device.secret_hash", "keyring.public", "legal_hold.pseudonym", "log_head.root", "log_writer.id",
	"once.data", "once.hash", "passkey.attestation_obj", "passkey.client_data", "passkey.credential_id", "passkey.public_key", "profile.state", "record_key.pseudonym",
	"refresh_family.cur_hash", "refresh_family.prev_hash", "refresh_family.salt", "session.secret_hash", "tile.data",
}

// TestEverySealedColumn: a column of bytes is sealed, and then a rehearsal of a backup
// has to open it, or it is known not to be. A new one cannot be forgotten.
func TestEverySealedColumn(t *testing.T) {
	e, err := open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var have []string
	err = e.Query(t.Context(), `SELECT m.name || '.' || c.name, c.type FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`, nil, func(row store.Row) error {
		var name, kind string
		err := row.Scan(&name, &kind)
		if kind == "BLOB" || strings.Contains(name, ".sealed") && kind != "INTEGER" {
			have = append(have, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
