package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(storetest.ChildVariable); path != "" {
		s, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
		if err != nil {
			panic(err)
		}
		storetest.Child(s)
	}
	os.Exit(m.Run())
}

// A log is verified whole after each kill, so many kills are shared out over logs
// that stay short.
func TestKill(t *testing.T) {
	for range storetest.Rounds(1, 20) {
		path := filepath.Join(t.TempDir(), "countersign.db")
		storetest.TestKill(t, storetest.Database{Open: func() *store.Store {
			s, err := sqlite.Open(context.Background(), sqlite.Options{Path: path, Migrate: true})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}}, path, storetest.Rounds(10, 50))
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		path := filepath.Join(t.TempDir(), "countersign.db")
		return storetest.Database{Open: func() *store.Store {
			s, err := sqlite.Open(context.Background(), sqlite.Options{Path: path, Migrate: true})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}}
	})
}

func BenchmarkCommit(b *testing.B) {
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(b.TempDir(), "countersign.db"), Migrate: true})
	if err != nil {
		b.Fatal(err)
	}
	storetest.BenchmarkCommit(b, s)
}
