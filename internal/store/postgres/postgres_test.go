package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/internal/store/storetest"
	"github.com/countersign-dev/countersign/test/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func open(t testing.TB, o postgres.Options) *store.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		dsn := pgtest.Start(t)
		return storetest.Database{Nodes: true, Open: func() *store.Store {
			return open(t, postgres.Options{DSN: dsn, Migrate: true})
		}}
	})
}

func BenchmarkCommit(b *testing.B) {
	storetest.BenchmarkCommit(b, open(b, postgres.Options{DSN: pgtest.Start(b), Migrate: true}))
}
