package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
)

// act seals and settles a record, and gives its row.
func (l *testLog) act(t *testing.T, kind Kind, o Outcome, parts ...Part) Row {
	t.Helper()
	row, err := l.w.Seal(t.Context(), Record{ID: id.New(id.Record), Kind: kind, At: time.UnixMicro(1_790_000_000_000_000), Parts: parts}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.w.Settle(row, o)
	return row
}

// beats writes everything the writer has to vouch for.
func (l *testLog) beats(t *testing.T, closing bool) (rows []Row) {
	t.Helper()
	for {
		b, ok := l.w.Beat()
		if !ok {
			break
		}
		rows = append(rows, l.act(t, WriterBeat, Committed, b.Part()))
		l.w.Beaten()
	}
	if closing {
		b, ok := l.w.Close()
		if !ok {
			t.Fatal("it cannot close")
		}
		rows = append(rows, l.act(t, WriterBeat, Committed, b.Part()))
		l.w.Beaten()
	}
	return rows
}

// add integrates rows as they are.
func (l *testLog) add(t *testing.T, rows ...Row) {
	t.Helper()
	var leaves [][32]byte
	for i, row := range rows {
		l.rows = append(l.rows, memoryRow{l.size + uint64(i), row})
		leaves = append(leaves, row.LeafHash())
	}
	root, tiles, err := Integrate(t.Context(), l.tiles, l.size, leaves)
	if err != nil {
		t.Fatal(err)
	}
	l.tiles.put(tiles)
	l.size, l.root = l.size+uint64(len(rows)), root
}

func (l *testLog) holds(t *testing.T, rows []Row) Report {
	t.Helper()
	l.memory = &memory{tiles: tileMap{}, root: EmptyRoot}
	l.add(t, rows...)
	rep, err := Verify(t.Context(), l, Options{VKey: l.vkey})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestVouching: a process vouches for every number it took; any row that is taken
// away, added or exchanged before it was integrated is found by its word, though
// tree and checkpoints are those of the changed rows (mechanisms E3).
func TestVouching(t *testing.T) {
	l := newTestLog(t)
	var rows []Row
	for i := range 60 {
		switch {
		case i%7 == 3:
			l.act(t, TokenRefused, RolledBack)
		case i%20 == 19:
			rows = append(rows, l.beats(t, false)...)
		default:
			rows = append(rows, l.act(t, TokenIssued, Committed))
		}
	}
	lost := l.act(t, TokenIssued, Unknown) // it was committed after all
	rows = append(rows, l.act(t, TokenIssued, Committed))
	rows = append(rows, l.beats(t, true)...)
	rep := l.holds(t, rows)
	if !rep.OK() || rep.Processes.Closed != 1 || rep.Processes.Vouched != uint64(len(rows)-1) || rep.Processes.Open+rep.Processes.Lost != 0 {
		t.Fatalf("as it was written: %+v %v", rep.Processes, rep.Lines())
	}
	if rep := l.holds(t, append(slices.Clone(rows), lost)); !rep.OK() {
		t.Errorf("a number that the process does not know: %v", rep.Lines())
	}
	for i := range rows[:len(rows)-1] {
		changed := slices.Delete(slices.Clone(rows), i, i+1)
		if rep := l.holds(t, changed); rep.OK() || !strings.Contains(rep.Fault.What, "process") {
			t.Errorf("row %d of kind %s taken away: %v", i, rows[i].Kind, rep.Lines())
		}
	}
	// Any order within the log is as good: another process's rows come between.
	for seed := range uint64(20) {
		mixed := slices.Clone(rows)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(mixed)-1, func(i, j int) { // beats stay in order
			if mixed[i].Kind != WriterBeat && mixed[j].Kind != WriterBeat {
				mixed[i], mixed[j] = mixed[j], mixed[i]
			}
		})
		if rep := l.holds(t, mixed); !rep.OK() {
			t.Errorf("in another order: %v", rep.Lines())
		}
	}
	forged := slices.Clone(rows)
	other := l.w.clone()
	forged[4] = other.again(t, forged[4])
	if rep := l.holds(t, forged); rep.OK() || !strings.Contains(rep.Fault.What, "vouches") {
		t.Errorf("a row with the same number: %v", rep.Lines())
	}
	if rep := l.holds(t, append(slices.Clone(rows), other.again(t, rows[2]))); rep.OK() {
		t.Error("a number twice")
	}
}

// clone is a writer of the same id, as a forger has one.
func (w *Writer) clone() *Writer { c := NewWriter(); c.id = w.id; return c }

// again makes another row of the same number.
func (w *Writer) again(t *testing.T, row Row) Row {
	t.Helper()
	e, err := ParseEntry(row.Entry)
	if err != nil {
		t.Fatal(err)
	}
	w.seq.Store(e.WSeq - 1)
	out, err := w.Seal(context.Background(), Record{ID: id.New(id.Record), Kind: row.Kind, At: time.UnixMicro(row.At + 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCrashed: of a process that was lost, what is not known is said in numbers.
func TestCrashed(t *testing.T) {
	l, o := newTestLog(t), NewWriter()
	var rows []Row
	for range 5 {
		rows = append(rows, l.act(t, TokenIssued, Committed))
	}
	rows = append(rows, l.beats(t, false)...) // number 6
	for range 3 {
		l.act(t, TokenIssued, Committed) // 7 to 9 never reached the disk
	}
	rows = append(rows, l.act(t, TokenIssued, Committed)) // number 10
	gone := l.w
	l.w = o
	rows = append(rows, l.act(t, WriterLost, Committed, LostPart(gone.ID())))
	rows = append(rows, l.beats(t, true)...)
	rep := l.holds(t, rows)
	want := Processes{Vouched: 7, Closed: 1, Lost: 1, Unknown: 3}
	if !rep.OK() || rep.Processes != want {
		t.Errorf("%+v, want %+v: %v", rep.Processes, want, rep.Lines())
	}
	if text := strings.Join(rep.Lines(), "\n"); !strings.Contains(text, "unknown at a crash are 3 numbers") {
		t.Error(text)
	}
	l.w = gone // it was only paused
	rows = append(rows, l.act(t, TokenIssued, Committed))
	if rep := l.holds(t, rows); !rep.OK() || rep.Processes.Lost != 0 || rep.Processes.Open != 1 {
		t.Errorf("one that came back: %+v", rep.Processes)
	}
}

// TestSettling: whatever order numbers are settled in, and by however many at once,
// each is in one beat, and nothing is left in mind.
func TestSettling(t *testing.T) {
	w := NewWriter()
	var rows []Row
	for range 3000 {
		row, err := w.Seal(t.Context(), Record{ID: id.New(id.Record), Kind: TokenIssued, At: time.Now()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	var wg sync.WaitGroup
	for part := range slices.Chunk(rows, 500) {
		wg.Go(func() {
			for i, row := range part {
				w.Settle(row, Doubtful)
				w.Settle(row, []Outcome{Committed, RolledBack, Unknown}[i%3])
				w.Settle(row, RolledBack) // it stays
				w.Saw(row.LeafHash())
			}
		})
	}
	wg.Wait()
	next, n := uint64(1), 0
	for {
		b, ok := w.Beat()
		if !ok {
			break
		}
		again, _ := w.Beat()
		if again.From != b.From || b.From != next || len(b.RolledBack)+len(b.Unknown) > beatRanges {
			t.Fatalf("beat %+v", b)
		}
		next = b.Last + 1
		n++
		w.Beaten()
	}
	if next != 3001 || n < 2 {
		t.Errorf("%d beats up to %d", n, next-1)
	}
	if len(w.window)+len(w.unseen)+len(w.beats) != 0 || len(w.Doubts(9)) != 0 {
		t.Errorf("left in mind: %d, %d, %d", len(w.window), len(w.unseen), len(w.beats))
	}
	if _, ok := w.Beat(); ok {
		t.Error("vouches for nothing")
	}
}

// TestMindIsBounded: a log that stands still, or a database that refuses everything,
// does not fill the memory.
func TestMindIsBounded(t *testing.T) {
	w := NewWriter()
	row, err := w.Seal(t.Context(), Record{ID: id.New(id.Record), Kind: TokenIssued, At: time.Now().Add(-time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Settle(row, Committed)
	for i := range 3 * watched {
		seq := w.seq.Add(1)
		w.took(seq, &Row{ID: "r", Entry: fmt.Append(nil, i)})
		w.settle(seq, []Outcome{RolledBack, Committed}[min(i/watched, 1)])
	}
	if len(w.unseen) > watched || len(w.window) != 0 || len(w.beats) > 3*watched/beatRecords+1 {
		t.Errorf("in mind: %d unseen, %d in the window, %d beats", len(w.unseen), len(w.window), len(w.beats))
	}
	list, over := w.Unseen(time.Now(), 10)
	if len(list) != 10 || over != watched+1 {
		t.Errorf("%d listed, %d too many", len(list), over)
	}
}

// TestFollow: a follower sees each leaf once, and a log that was written anew.
func TestFollow(t *testing.T) {
	l := newTestLog(t)
	var want [][32]byte
	grow := func(n int) []byte {
		for range n {
			row := l.act(t, TokenIssued, Committed)
			l.add(t, row)
			want = append(want, row.LeafHash())
		}
		text, err := SignCheckpoint(l.signer, l.signer.Name(), l.size, l.root)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := grow(300)
	f, late := NewFollower(l.vkey), NewFollower(l.vkey)
	var seen [][32]byte
	saw := func(leaf [32]byte) { seen = append(seen, leaf) }
	if err := late.Start(t.Context(), l, first); err != nil || late.Size() != 300 {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 200, 11, 600} {
		text := grow(n)
		if err := f.Follow(t.Context(), l, text, saw); err != nil {
			t.Fatal(err)
		}
		if err := late.Follow(t.Context(), l, text, func([32]byte) {}); err != nil || late.Size() != l.size {
			t.Fatal(err)
		}
	}
	if !slices.Equal(seen, want) {
		t.Errorf("%d leaves seen, %d written", len(seen), len(want))
	}
	if err := f.Follow(t.Context(), l, first, saw); !errors.Is(err, ErrRewritten) {
		t.Errorf("a checkpoint of before: %v", err)
	}
	text := grow(5)
	tile := l.tiles[tileKey{0, 4}]
	tile[(1024+88)%256*32] ^= 1
	if err := f.Follow(t.Context(), l, text, saw); !errors.Is(err, ErrRewritten) || f.Size() != 1112 || len(seen) != 1112 {
		t.Errorf("another leaf: %v, at %d", err, f.Size())
	}
	tile[(1024+88)%256*32] ^= 1
	if err := f.Follow(t.Context(), l, append([]byte("x"), text...), saw); err == nil || errors.Is(err, ErrRewritten) {
		t.Errorf("a checkpoint of somebody: %v", err)
	}
	if err := f.Follow(t.Context(), l, text, saw); err != nil || f.Size() != 1117 {
		t.Errorf("the right one: %v", err)
	}
}
