package sqlite

import (
	"context"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/store"
)

// asked is an engine that remembers what it was asked.
type asked struct {
	*engine
	texts []string
}

// Query implements store.Reader.
func (a *asked) Query(ctx context.Context, sql string, args []any, each func(store.Row) error) error {
	a.texts = append(a.texts, sql)
	return a.engine.Query(ctx, sql, args, each)
}

// plan is how the engine answers a question, a line for each step.
func plan(t *testing.T, e *engine, sql string) (steps []string) {
	t.Helper()
	err := e.Query(t.Context(), "EXPLAIN QUERY PLAN "+sql, nil, func(r store.Row) error {
		var id, parent, unused int64
		var step string
		err := r.Scan(&id, &parent, &unused, &step)
		steps = append(steps, step)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestWhatIsAskedAllTheTime: how the policies stand is asked for twice a second, so it looks at
// single rows, however many versions and rollouts there were.
func TestWhatIsAskedAllTheTime(t *testing.T) {
	e := &asked{engine: openEngine(t, Options{})}
	if _, err := store.New(e, nil).Policies(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(e.texts) != 1 {
		t.Fatalf("%d questions", len(e.texts))
	}
	whole := func(steps []string) bool {
		for _, s := range steps {
			if strings.HasPrefix(s, "SCAN ") && !strings.HasPrefix(s, "SCAN one") && s != "SCAN CONSTANT ROW" {
				return true
			}
		}
		return false
	}
	if steps := plan(t, e.engine, e.texts[0]); whole(steps) || !strings.Contains(strings.Join(steps, "\n"), "SEARCH r USING INTEGER PRIMARY KEY") {
		t.Errorf("%s\n%s", e.texts[0], strings.Join(steps, "\n"))
	}
	if !whole(plan(t, e.engine, `SELECT COUNT(*), COUNT(ended_at) FROM rollout`)) {
		t.Error("the look at the plan finds nothing")
	}
}
