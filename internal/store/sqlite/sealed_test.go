package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

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
	storetest.TestSealedColumns(t, have)
}
