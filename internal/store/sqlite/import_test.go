package sqlite

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
)

// rows is a source of rows of one table.
type rows struct {
	table   string
	columns []string
	rows    [][]any
}

func (r *rows) Next() (table string, columns []string, row []any, err error) {
	if len(r.rows) == 0 {
		return "", nil, nil, io.EOF
	}
	row, r.rows = r.rows[0], r.rows[1:]
	return r.table, r.columns, row, nil
}

// TestImportBesideLeftovers: what an earlier database left beside itself would be
// played into the restored one; so it is not made.
func TestImportBesideLeftovers(t *testing.T) {
	for _, left := range []string{"", "-wal", "-shm", "-journal"} {
		path := filepath.Join(t.TempDir(), "countersign.db")
		if err := os.WriteFile(path+left, []byte("frames"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Import(t.Context(), path, 1, &rows{}, nil)
		if problem.CodeOf(err) != "database_exists" {
			t.Errorf("beside %q: %v", left, err)
		}
		if _, err := os.Stat(path); left != "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("beside %q there is a database: %v", left, err)
		}
	}
	path := filepath.Join(t.TempDir(), "countersign.db") // positive control
	if err := Import(t.Context(), path, 1, &rows{}, nil); err != nil {
		t.Error(err)
	}
}

// TestImportOnlyWhatIsCopied: a backup brings no lease, by which a server that is
// not there would hold the log.
func TestImportOnlyWhatIsCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countersign.db")
	err := Import(t.Context(), path, 1, &rows{"lease", []string{"name", "holder", "fence", "until"}, [][]any{{"x", "nobody", int64(1), int64(1) << 60}}}, nil)
	if err == nil {
		t.Error("a lease was imported")
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
