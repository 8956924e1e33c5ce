package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

//go:embed migrations/*.sql
var files embed.FS

// migrate brings the database up to date; processes that start together wait for
// each other. A newer database is accepted: the release before runs beside the
// one that migrated it (contract, versions and upgrades).
func migrate(ctx context.Context, pool *pgxpool.Pool, allowed bool) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	p, err := migrations(db)
	if err != nil {
		return err
	}
	fresh := false
	err = (&engine{pool: pool, queue: 1}).Query(ctx, `SELECT to_regclass('goose_db_version') IS NULL`, nil, func(row store.Row) error { return row.Scan(&fresh) })
	if err != nil {
		return unreachable(err)
	}
	if !fresh {
		current, target, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("postgres: migrations: %w", err)
		}
		if current >= target {
			return nil
		}
		if !allowed {
			return problem.Newf(problem.Invalid, "database_older", "The database is at version %d; this program needs %d.", current, target).
				WithHint("countersignd migrate")
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("postgres: migrate: %w", err)
	}
	return nil
}

func migrations(db *sql.DB) (*goose.Provider, error) {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, sub, goose.WithSessionLocker(locker), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	return p, nil
}
