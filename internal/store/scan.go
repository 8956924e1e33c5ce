package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// all collects the rows of a query.
func all[T any](ctx context.Context, r Reader, scan func(Row) (T, error), sql string, args ...any) ([]T, error) {
	var out []T
	err := r.Query(ctx, sql, args, func(row Row) error {
		v, err := scan(row)
		if err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// one gives the first row of a query; ok is false if there is none.
func one[T any](ctx context.Context, r Reader, scan func(Row) (T, error), sql string, args ...any) (v T, ok bool, err error) {
	err = r.Query(ctx, sql, args, func(row Row) error {
		if ok {
			return nil
		}
		v, err = scan(row)
		ok = err == nil
		return err
	})
	if err != nil {
		var zero T
		return zero, false, err
	}
	return v, ok, nil
}

// need is one for a thing that has to be there; what names it in the problem.
func need[T any](ctx context.Context, r Reader, what string, scan func(Row) (T, error), sql string, args ...any) (T, error) {
	v, ok, err := one(ctx, r, scan, sql, args...)
	if err != nil {
		return v, fmt.Errorf("store: read %s: %w", what, err)
	}
	if !ok {
		return v, missing(what)
	}
	return v, nil
}

// missing is the problem of a thing that is not there.
func missing(what string) error {
	return problem.Newf(problem.NotFound, what+"_not_found", "There is no such %s.", what)
}

// micros is a time as it is stored: NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// moment reads a stored time; 0 is the zero time.
func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// text is a value as JSON text; nil slices become empty lists.
func text[T any](v []T) string {
	if len(v) == 0 {
		return "[]"
	}
	return members(v)
}

// members is a plain struct of ours as JSON.
func members(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: a value of the domain cannot be written as JSON: " + err.Error())
	}
	return string(b)
}

// list reads what text wrote.
func list[T any](s string, dst *[]T) error {
	if s == "" || s == "[]" {
		*dst = nil
		return nil
	}
	if err := json.Unmarshal([]byte(s), dst); err != nil {
		return fmt.Errorf("store: stored JSON: %w", err)
	}
	return nil
}

// lists reads pairs of JSON text and destination.
func lists(readers ...func() error) error {
	for _, r := range readers {
		if err := r(); err != nil {
			return err
		}
	}
	return nil
}

func into[T any](s *string, dst *[]T) func() error { return func() error { return list(*s, dst) } }

// nodeCols are the columns of a node that nodeRow reads; the table is named n.
const nodeCols = `n.id, n.kind, n.version, COALESCE(n.ended_at, 0), COALESCE(n.frozen_at, 0), n.why`

type nodeRow struct {
	id                           string
	kind, version, ended, frozen int64
	why                          string
}

// dest is where nodeCols go, after the columns of the thing itself.
func (r *nodeRow) dest(before ...any) []any {
	return append(before, &r.id, &r.kind, &r.version, &r.ended, &r.frozen, &r.why)
}

func (r *nodeRow) node() lineage.Node {
	return lineage.Node{ID: r.id, Kind: lineage.Kind(r.kind), Version: r.version, EndedAt: moment(r.ended), FrozenAt: moment(r.frozen), Why: r.why}
}

func scanNode(row Row) (lineage.Node, error) {
	var r nodeRow
	err := row.Scan(r.dest()...)
	return r.node(), err
}

func scanString(row Row) (string, error) {
	var s string
	err := row.Scan(&s)
	return s, err
}

func scanInt(row Row) (int64, error) {
	var n int64
	err := row.Scan(&n)
	return n, err
}
