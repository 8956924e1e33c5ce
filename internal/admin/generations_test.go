package admin

import (
	"testing"
	"time"
)

func TestGenerationsRemember(t *testing.T) {
	t.Parallel()
	g := newGenerations[int](time.Minute, 3)
	now := time.Now()
	k := func(i byte) [32]byte { return [32]byte{i} }
	add := func(i byte, wantFresh, wantFull bool) {
		t.Helper()
		if fresh, full := g.add(k(i), now); fresh != wantFresh || full != wantFull {
			t.Errorf("add %d: fresh %v full %v", i, fresh, full)
		}
	}
	add(1, true, false)
	add(1, false, false)
	now = now.Add(59 * time.Second)
	add(2, true, false)
	now = now.Add(time.Second) // a new generation; both are still known
	add(1, false, false)
	now = now.Add(58 * time.Second)
	add(2, false, false)
	add(3, true, false)
	add(4, true, false)
	add(5, true, false)
	add(6, false, true) // full: refused, not forgotten
	add(3, false, false)
	now = now.Add(2 * time.Second)
	add(6, true, false)
	add(5, false, false)
	add(1, true, false)
	now = now.Add(time.Hour)
	add(5, true, false)
	g.keep(k(5), 7, now)
	if v, ok := g.get(k(5)); !ok || v != 7 {
		t.Errorf("kept %d %v", v, ok)
	}
	for i := range byte(9) {
		g.keep(k(10+i), 1, now)
	}
	if n := len(g.new) + len(g.old); n > 6 {
		t.Errorf("%d values are kept of at most 6", n)
	}
}
