package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/profile"
)

// reportChange writes signals of risk from outside.
func (s *Store) reportChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case profile.Told:
		// One that is over and not yet swept away does not stand in the way.
		u.then(`DELETE FROM risk_report WHERE source = $1 AND kind = $2 AND thing = $3 AND id <> $4 AND until <= $5`, c.Source, c.Kind, c.Thing, c.ID, c.At.UnixMicro())
		u.then(`INSERT INTO risk_report (id, kind, about, thing, person, points, source, name, at, until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO UPDATE SET points = excluded.points, name = excluded.name, at = excluded.at, until = excluded.until`,
			c.ID, c.Kind, c.About, c.Thing, c.Person, int64(c.Points), c.Source, c.Name, c.At.UnixMicro(), c.Until.UnixMicro())
	case profile.Withdrawn:
		u.changeOne("signal", `DELETE FROM risk_report WHERE id = $1`, c.ID)
	default:
		return false
	}
	return true
}

const reportSQL = `SELECT id, kind, about, thing, person, points, source, name, at, until FROM risk_report WHERE until > $1 `

func scanReport(row Row) (r profile.Report, err error) {
	var points, at, until int64
	err = row.Scan(&r.ID, &r.Kind, &r.About, &r.Thing, &r.Person, &points, &r.Source, &r.Name, &at, &until)
	r.Points, r.At, r.Until = int(points), moment(at), moment(until)
	return r, err
}

// Report implements profile.Reports.
func (s *Store) Report(ctx context.Context, id string, at time.Time) (profile.Report, error) {
	return need(ctx, s.db, "signal", scanReport, reportSQL+`AND id = $2`, at.UnixMicro(), id)
}

// SameReport implements profile.Reports.
func (s *Store) SameReport(ctx context.Context, source, kind, thing string, at time.Time) (profile.Report, error) {
	return need(ctx, s.db, "signal", scanReport, reportSQL+`AND source = $2 AND kind = $3 AND thing = $4`, at.UnixMicro(), source, kind, thing)
}

// Reports implements profile.Reports.
func (s *Store) Reports(ctx context.Context, source, after string, n int, at time.Time) ([]profile.Report, error) {
	if source == "" {
		return all(ctx, s.db, scanReport, reportSQL+`AND id > $2 ORDER BY id LIMIT $3`, at.UnixMicro(), after, int64(n))
	}
	return all(ctx, s.db, scanReport, reportSQL+`AND source = $2 AND id > $3 ORDER BY id LIMIT $4`, at.UnixMicro(), source, after, int64(n))
}

// CountReports implements profile.Reports.
func (s *Store) CountReports(ctx context.Context, source string, at time.Time) (theirs, every int, err error) {
	err = s.db.Query(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN source = $1 THEN 1 ELSE 0 END), 0) FROM risk_report WHERE until > $2`, []any{source, at.UnixMicro()}, func(row Row) error {
		var of, all int64
		err := row.Scan(&all, &of)
		theirs, every = int(of), int(all)
		return err
	})
	return theirs, every, err
}
