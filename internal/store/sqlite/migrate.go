package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/countersign-dev/countersign/internal/problem"
)

//go:embed migrations/*.sql
var files embed.FS

// migrate brings the database up to date. One that holds something already is
// copied beside itself before anything is changed.
func migrate(ctx context.Context, db *sql.DB, path string, allowed bool) error {
	p, err := migrations(db)
	if err != nil {
		return err
	}
	fresh, err := empty(ctx, db)
	if err != nil {
		return err
	}
	current, target := int64(0), int64(0)
	if !fresh {
		if current, target, err = p.GetVersions(ctx); err != nil {
			return fmt.Errorf("sqlite: migrations: %w", err)
		}
		switch {
		case current == target:
			return nil
		case current > target:
			return problem.Newf(problem.Invalid, "database_newer", "The database is at version %d; this program knows %d. Use the newer program.", current, target)
		case !allowed:
			return problem.Newf(problem.Invalid, "database_older", "The database is at version %d; this program needs %d.", current, target).
				WithHint("countersignd migrate")
		}
		copied := path + ".before-" + time.Now().UTC().Format("20060102T150405")
		if err := private(copied); err != nil { // SQLite fills an empty file, and would make one that others can read
			return err
		}
		if _, err := db.ExecContext(ctx, `VACUUM INTO '`+strings.ReplaceAll(copied, `'`, `''`)+`'`); err != nil {
			return fmt.Errorf("sqlite: copy the database before migrating it: %w", err)
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("sqlite: migrate: %w", err)
	}
	return nil
}

func migrations(db *sql.DB) (*goose.Provider, error) {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrations: %w", err)
	}
	return p, nil
}

func empty(ctx context.Context, db *sql.DB) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'`).Scan(&n)
	if err != nil {
		return false, problem.New(problem.Unavailable, "database_unreachable", "The database file cannot be read: it is damaged, or no SQLite database.").Because(err)
	}
	return n == 0, nil
}
