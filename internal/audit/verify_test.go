package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is a stored log: what a database holds.
type memory struct {
	rows        []memoryRow
	tiles       tileMap
	checkpoints []memoryCheckpoint
	size        uint64
	root        [32]byte
	busy        bool
	grow        func() // called once, in the middle of a verification
}

type memoryRow struct {
	seq uint64
	row Row
}

type memoryCheckpoint struct {
	size uint64
	text []byte
}

// enter fails a source that is called while another call runs.
func (m *memory) enter() func() {
	if m.busy {
		panic("the source was called from inside fn")
	}
	m.busy = true
	return func() { m.busy = false }
}

func (m *memory) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	defer m.enter()()
	return m.tiles.Tile(ctx, level, n)
}

func (m *memory) Head(context.Context) (uint64, [32]byte, error) { return m.size, m.root, nil }

func (m *memory) Rows(_ context.Context, from uint64, fn func(uint64, Row) error) error {
	defer m.enter()()
	for _, r := range m.rows {
		if r.seq >= from {
			if err := fn(r.seq, r.row); err != nil {
				return fmt.Errorf("rows: %w", err)
			}
		}
	}
	if m.grow != nil {
		m.grow()
		m.grow = nil
	}
	return nil
}

func (m *memory) Checkpoints(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	defer m.enter()()
	for _, c := range m.checkpoints {
		if c.size >= from {
			if err := fn(c.size, c.text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) clone() *memory {
	c := &memory{rows: slices.Clone(m.rows), tiles: tileMap{}, checkpoints: slices.Clone(m.checkpoints), size: m.size, root: m.root}
	maps.Copy(c.tiles, m.tiles)
	for k, v := range c.tiles {
		c.tiles[k] = bytes.Clone(v)
	}
	return c
}

type testLog struct {
	*memory
	w      *Writer
	keys   *people
	signer *CheckpointSigner
	vkey   string
}

func newTestLog(t testing.TB) *testLog {
	s, vkey := vectorSigner(t)
	return &testLog{&memory{tiles: tileMap{}, root: EmptyRoot}, NewWriter(), newPeople(), s, vkey}
}

// extend adds n rows in one integration and signs.
func (l *testLog) extend(t testing.TB, n int) {
	t.Helper()
	var add [][32]byte
	for i := range n {
		rec := machineToken()
		if i%3 == 0 {
			rec = signIn()
			rec.Parts[2].Person = fmt.Sprint("usr_", i%7)
		}
		rec.Refused = i%5 == 0
		row, err := l.w.Seal(t.Context(), rec, l.keys)
		if err != nil {
			t.Fatal(err)
		}
		l.rows = append(l.rows, memoryRow{l.size + uint64(i), row})
		add = append(add, row.LeafHash())
	}
	root, tiles, err := Integrate(t.Context(), l.tiles, l.size, add)
	if err != nil {
		t.Fatal(err)
	}
	l.tiles.put(tiles)
	l.size, l.root = l.size+uint64(n), root
	cp, err := SignCheckpoint(l.signer, l.signer.Name(), l.size, root)
	if err != nil {
		t.Fatal(err)
	}
	l.checkpoints = append(l.checkpoints, memoryCheckpoint{l.size, cp})
}

func (l *testLog) last() []byte { return l.checkpoints[len(l.checkpoints)-1].text }

func TestVerify(t *testing.T) {
	ctx, l := t.Context(), newTestLog(t)
	r, err := Verify(ctx, l, Options{VKey: l.vkey})
	if err != nil || !r.OK() || r.Size != 0 {
		t.Fatalf("the empty log: %+v, %v", r, err)
	}
	for _, n := range []int{1, 2, 250, 3, 700, 1500} {
		l.extend(t, n)
	}
	var done, each uint64
	o := Options{
		VKey: l.vkey, Keys: l.keys, Against: l.checkpoints[3].text,
		Done: func(d, total uint64) {
			if done = d; d > total || total != l.size {
				t.Errorf("%d of %d", d, total)
			}
		},
		Each: func(uint64, Row) error { each++; return nil },
	}
	r, err = Verify(ctx, l, o)
	if err != nil || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Size != l.size || r.Root != l.root || r.Checkpoints != 6 || r.Covered != l.size || r.Erased+r.Closed != 0 || r.Against != 256 || done != l.size || each != l.size {
		t.Errorf("%+v", r)
	}
	l.keys.erase("usr_dana")
	if r, err = Verify(ctx, l, o); err != nil || !r.OK() || r.Erased == 0 {
		t.Errorf("after an erasure: %+v, %v", r, err)
	}
	if r, err = Verify(ctx, l, Options{VKey: l.vkey}); err != nil || !r.OK() || r.Closed == 0 {
		t.Errorf("without keys: %+v, %v", r, err)
	}
	if lines := r.Lines(); !strings.Contains(lines[len(lines)-1], "could not exclude") {
		t.Errorf("%q", lines)
	}
	if r, err = Verify(ctx, l, Options{VKey: l.vkey, Against: l.last()}); err != nil || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
	if lines := r.Lines(); !strings.Contains(lines[len(lines)-1], "agrees with the checkpoint kept elsewhere, of all") {
		t.Errorf("%q", lines)
	}
	if _, err := Verify(ctx, l, Options{VKey: l.vkey, Against: []byte("words")}); err == nil {
		t.Error("compared with words")
	}
}

// TestVerifyRunning: a log that grows while it is verified holds.
func TestVerifyRunning(t *testing.T) {
	ctx, l := t.Context(), newTestLog(t)
	l.extend(t, 300)
	for _, n := range []int{1, 10, 212, 400, 3000} {
		l.grow = func() { l.extend(t, n) }
		before := l.size
		if r, err := Verify(ctx, l, Options{VKey: l.vkey}); err != nil || !r.OK() || r.Size != before {
			t.Errorf("grown by %d: %+v, %v", n, r, err)
		}
		// Verified against a checkpoint of the part that came meanwhile.
		later := newTestLog(t)
		later.memory = l.clone()
		later.extend(t, n)
		now := *later.memory
		later.memory = l.clone()
		later.grow = func() { *later.memory = now }
		o := Options{VKey: l.vkey, Against: now.checkpoints[len(now.checkpoints)-1].text}
		if r, err := Verify(ctx, later, o); err != nil || !r.OK() || r.Size != now.size {
			t.Errorf("grown by %d, against: %+v, %v", n, r, err)
		}
	}
}

// cut truncates a log to n rows as thoroughly as one who writes the database
// can: rows, tiles, head and checkpoints.
func (m *memory) cut(t testing.TB, n uint64) {
	m.rows = slices.DeleteFunc(m.rows, func(r memoryRow) bool { return r.seq >= n })
	m.checkpoints = slices.DeleteFunc(m.checkpoints, func(c memoryCheckpoint) bool { return c.size > n })
	var all [][32]byte
	for _, r := range m.rows {
		all = append(all, r.row.LeafHash())
	}
	root, tiles, err := Integrate(t.Context(), tileMap{}, 0, all)
	if err != nil {
		t.Fatal(err)
	}
	m.tiles = tileMap{}
	m.tiles.put(tiles)
	m.size, m.root = n, root
}

// TestVerifyCatches makes 1,000 random edits, deletions, swaps, repeats and
// truncations of what is stored; each is caught against a checkpoint kept
// elsewhere.
func TestVerifyCatches(t *testing.T) {
	ctx, l := t.Context(), newTestLog(t)
	for _, n := range []int{1, 30, 9, 230} {
		l.extend(t, n)
	}
	l.keys.erase("usr_3")
	o := Options{VKey: l.vkey, Against: l.last(), Keys: l.keys}
	if r, err := Verify(ctx, l, o); err != nil || !r.OK() {
		t.Fatalf("positive control: %+v, %v", r, err)
	}
	edits := 1000
	if testing.Short() {
		edits = 200
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range edits {
		m := l.clone()
		what, firstBad := edit(t, m, l, rng)
		r, err := Verify(ctx, m, o)
		if err != nil || r.OK() {
			t.Fatalf("edit %d, %s: not caught: %v", n, what, err)
		}
		if firstBad >= 0 && r.Fault.Seq != uint64(firstBad) {
			t.Errorf("edit %d, %s: first fault at %d, want %d (%s)", n, what, r.Fault.Seq, firstBad, r.Fault.What)
		}
		if lines := r.Lines(); !strings.HasPrefix(lines[0], "The log does not hold.") {
			t.Errorf("%q", lines)
		}
	}
}

// edit changes m and gives the row where that shows first, -1 if anywhere.
func edit(t *testing.T, m *memory, l *testLog, rng *rand.Rand) (what string, firstBad int) {
	i, j := rng.IntN(len(m.rows)), rng.IntN(len(m.rows)-1)
	if j >= i {
		j++
	}
	x := byte(1 + rng.IntN(255))
	switch rng.IntN(14) {
	case 0, 1, 2:
		var names []string
		for name, n := range columns(m.rows[i].row) {
			if n > 0 {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		column := names[rng.IntN(len(names))]
		at := rng.IntN(columns(m.rows[i].row)[column])
		m.rows[i].row = flip(m.rows[i].row, column, at, x)
		return fmt.Sprintf("byte %d of %s of row %d ^ %#x", at, column, i, x), i
	case 3: // row gone
		m.rows = slices.Delete(m.rows, i, i+1)
		return fmt.Sprintf("row %d deleted", i), i
	case 4: // gone and renumbered
		m.rows = slices.Delete(m.rows, i, i+1)
		for k := i; k < len(m.rows); k++ {
			m.rows[k].seq--
		}
		return fmt.Sprintf("row %d deleted and the rest renumbered", i), i
	case 5:
		m.rows[i].row, m.rows[j].row = m.rows[j].row, m.rows[i].row
		return fmt.Sprintf("rows %d and %d swapped", i, j), min(i, j)
	case 6: // one row twice
		m.rows[i].row = m.rows[j].row
		return fmt.Sprintf("row %d replaced by %d", i, j), i
	case 7: // a row made anew
		row, err := l.w.Seal(t.Context(), machineToken(), l.keys)
		if err != nil {
			t.Fatal(err)
		}
		m.rows[i].row = row
		return fmt.Sprintf("row %d written anew", i), i
	case 8: // rows only
		m.rows = m.rows[:i]
		return fmt.Sprintf("rows cut off at %d", i), i
	case 9: // everything in the database
		m.cut(t, uint64(i))
		return fmt.Sprintf("all cut off at %d", i), i
	case 10: // rewritten from a row on, with everything that needs no key
		row, err := l.w.Seal(t.Context(), machineToken(), l.keys)
		if err != nil {
			t.Fatal(err)
		}
		m.rows[i].row = row
		m.cut(t, m.size)
		m.checkpoints = slices.DeleteFunc(m.checkpoints, func(c memoryCheckpoint) bool { return c.size > uint64(i) })
		return fmt.Sprintf("all rewritten from row %d on", i), -1
	case 11:
		keys := slices.SortedFunc(maps.Keys(m.tiles), func(a, b tileKey) int { return a.level*1000 + int(a.n) - b.level*1000 - int(b.n) })
		k := keys[rng.IntN(len(keys))]
		at := rng.IntN(len(m.tiles[k]))
		m.tiles[k][at] ^= x
		return fmt.Sprintf("byte %d of tile %d/%d", at, k.level, k.n), -1
	case 12:
		k := rng.IntN(len(m.checkpoints))
		c := m.checkpoints[k]
		c.text = bytes.Clone(c.text)
		at := rng.IntN(len(c.text))
		c.text[at] ^= x
		m.checkpoints[k] = c
		return fmt.Sprintf("byte %d of checkpoint %d ^ %#x", at, k, x), -1
	default:
		if rng.IntN(2) == 0 {
			m.root[rng.IntN(32)] ^= x
			return "the head's root", -1
		}
		m.size += uint64(rng.IntN(5)) + 1
		return "the head's size", -1
	}
}

// TestVerifyEveryByte changes each byte of each column of sample rows.
func TestVerifyEveryByte(t *testing.T) {
	ctx, l := t.Context(), newTestLog(t)
	l.extend(t, 4)
	o := Options{VKey: l.vkey, Keys: l.keys}
	for i, r := range l.rows {
		for column, n := range columns(r.row) {
			for at := range n {
				m := l.clone()
				m.rows[i].row = flip(r.row, column, at, 1<<(at%8))
				rep, err := Verify(ctx, m, o)
				if err != nil || rep.OK() || rep.Fault.Seq != uint64(i) {
					t.Fatalf("byte %d of %s of row %d: %+v, %v", at, column, i, rep.Fault, err)
				}
			}
		}
	}
}

// TestVerifyTruncation: what is cut off together is excluded only by a
// checkpoint kept elsewhere, and the report says so.
func TestVerifyTruncation(t *testing.T) {
	ctx, l := t.Context(), newTestLog(t)
	l.extend(t, 300)
	l.extend(t, 300)
	m := l.clone()
	m.cut(t, 300)
	r, err := Verify(ctx, m, Options{VKey: l.vkey})
	if err != nil || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	if lines := r.Lines(); !strings.Contains(lines[len(lines)-1], "could not exclude that the newest rows and checkpoints were cut off together") {
		t.Errorf("%q", lines)
	}
	if r, err = Verify(ctx, m, Options{VKey: l.vkey, Against: l.last()}); err != nil || r.OK() || r.Fault.Seq != 300 {
		t.Errorf("%+v, %v", r, err)
	}
	// What was forgotten to cut gives it away without one.
	for what, spare := range map[string]func(*memory){
		"checkpoints": func(m *memory) { m.checkpoints = l.checkpoints },
		"head":        func(m *memory) { m.size, m.root = l.size, l.root },
		"rows":        func(m *memory) { m.rows = l.rows },
		"tiles":       func(m *memory) { m.tiles = l.tiles },
		"next tile":   func(m *memory) { m.tiles[tileKey{0, 2}] = l.tiles[tileKey{0, 2}] },
	} {
		m := l.clone()
		m.cut(t, 300)
		spare(m)
		if r, err := Verify(ctx, m, Options{VKey: l.vkey}); err != nil || r.OK() {
			t.Errorf("all but %s cut off: not caught: %v", what, err)
		}
	}
}

// TestVerifyErrors: what cannot be read is an error, not a fault.
func TestVerifyErrors(t *testing.T) {
	l := newTestLog(t)
	l.extend(t, 10)
	broken := errors.New("disk")
	for name, src := range map[string]Source{
		"head": failing{l.memory, broken, nil, nil, nil}, "rows": failing{l.memory, nil, broken, nil, nil},
		"checkpoints": failing{l.memory, nil, nil, broken, nil}, "tiles": failing{l.memory, nil, nil, nil, broken},
	} {
		if r, err := Verify(t.Context(), src, Options{VKey: l.vkey}); !errors.Is(err, broken) || r.Fault != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	stop := errors.New("enough")
	if _, err := Verify(t.Context(), l, Options{VKey: l.vkey, Each: func(uint64, Row) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("Each: %v", err)
	}
}

type failing struct {
	*memory
	head, rows, checkpoints, tiles error
}

func (f failing) Head(ctx context.Context) (uint64, [32]byte, error) {
	if f.head != nil {
		return 0, [32]byte{}, f.head
	}
	return f.memory.Head(ctx)
}

func (f failing) Rows(ctx context.Context, from uint64, fn func(uint64, Row) error) error {
	if f.rows != nil {
		return f.rows
	}
	return f.memory.Rows(ctx, from, fn)
}

func (f failing) Checkpoints(ctx context.Context, from uint64, fn func(uint64, []byte) error) error {
	if f.checkpoints != nil {
		return f.checkpoints
	}
	return f.memory.Checkpoints(ctx, from, fn)
}

func (f failing) Tile(ctx context.Context, level int, n uint64) ([]byte, error) {
	if f.tiles != nil {
		return nil, f.tiles
	}
	return f.memory.Tile(ctx, level, n)
}

func BenchmarkVerify(b *testing.B) {
	l := newTestLog(b)
	l.extend(b, 10_000)
	start := time.Now()
	for b.Loop() {
		if r, err := Verify(b.Context(), l, Options{VKey: l.vkey}); err != nil || !r.OK() {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(b.N)*10_000/time.Since(start).Seconds(), "rows/s")
}

// TestVerifyCheckpoints: a stored checkpoint that the log's key did sign, of
// another tree, of another size, or out of order.
func TestVerifyCheckpoints(t *testing.T) {
	l := newTestLog(t)
	l.extend(t, 10)
	l.extend(t, 10)
	other, err := SignCheckpoint(l.signer, l.signer.Name(), 10, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][]memoryCheckpoint{
		"another tree": {{10, other}, l.checkpoints[1]},
		"another size": {{11, l.checkpoints[0].text}, l.checkpoints[1]},
		"order":        {l.checkpoints[1], l.checkpoints[0]},
	} {
		m := l.clone()
		m.checkpoints = c
		if r, err := Verify(t.Context(), m, Options{VKey: l.vkey}); err != nil || r.OK() {
			t.Errorf("%s: not caught: %v", name, err)
		}
	}
}
