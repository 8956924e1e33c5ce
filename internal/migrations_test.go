package internal_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMigrations: both databases have the same steps, numbered from one on without
// a gap, so that two people who add one at the same time notice.
func TestMigrations(t *testing.T) {
	names := func(engine string) (out []string) {
		entries, err := os.ReadDir("store/" + engine + "/migrations")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".sql") {
				out = append(out, e.Name())
			}
		}
		return out
	}
	lite, pg := names("sqlite"), names("postgres")
	if !slices.Equal(lite, pg) {
		t.Errorf("SQLite has %v, PostgreSQL %v", lite, pg)
	}
	for i, name := range lite {
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s should begin with %s: renumber the newer one", name, want)
		}
	}
}
