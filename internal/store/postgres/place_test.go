package postgres

import (
	"slices"
	"testing"
	"time"
)

// TestNewestActs: as many acts are held against the database as can be under way at
// once, the newest, and none that may have been pruned since.
func TestNewestActs(t *testing.T) {
	m := memory{newest: make([]acknowledged, 3)}
	for _, r := range []string{"a", "", "b", "c", "d"} {
		m.acknowledge(r)
	}
	_, held := m.held()
	if slices.Sort(held); !slices.Equal(held, []string{"b", "c", "d"}) {
		t.Errorf("held are %q", held)
	}
	m.newest[1].at = time.Now().Add(-heldFor)
	if _, held := m.held(); len(held) != 2 {
		t.Errorf("held after a day are %q", held)
	}
}
