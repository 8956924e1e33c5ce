package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

type tileKey struct {
	level int
	n     uint64
}

type tileMap map[tileKey][]byte

func (m tileMap) Tile(_ context.Context, level int, n uint64) ([]byte, error) {
	if b, ok := m[tileKey{level, n}]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("level %d: %w", level, ErrNoTile)
}

func (m tileMap) put(tiles []Tile) {
	for _, t := range tiles {
		m[tileKey{t.Level, t.N}] = slices.Clone(t.Data)
	}
}

func leaves(n int) [][32]byte {
	out := make([][32]byte, n)
	for i := range out {
		out[i] = sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	}
	return out
}

// reference is the same tree by x/mod's own storage of hashes.
type reference []tlog.Hash

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, (*r)[i])
	}
	return out, nil
}

func makeReference(t interface{ Fatal(...any) }, all [][32]byte) *reference {
	r := new(reference)
	for i, l := range all {
		h, err := tlog.StoredHashesForRecordHash(int64(i), l, r)
		if err != nil {
			t.Fatal(err)
		}
		*r = append(*r, h...)
	}
	return r
}

func (r *reference) root(t interface{ Fatal(...any) }, n int) [32]byte {
	h, err := tlog.TreeHash(int64(n), r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestIntegrate grows logs in steps, random and beyond 256² so that there are
// three levels, and compares roots, tiles and proofs with x/mod's tlog.
func TestIntegrate(t *testing.T) {
	all := leaves(66_000)
	ref := makeReference(t, all)
	grow(t, ref, all, []int{255, 1, 65_279, 1, 1, 463}, func(size int) int { return size - 465 })
	step := rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(200, 600), rapid.SampledFrom([]int{256, 2000}))
	rapid.Check(t, func(t *rapid.T) {
		grow(t, ref, all, rapid.SliceOfN(step, 1, 12).Draw(t, "steps"), func(size int) int {
			return rapid.IntRange(0, size-1).Draw(t, "index")
		})
	})
}

type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func grow(t fataler, ref *reference, all [][32]byte, steps []int, pick func(size int) int) {
	ctx, store, size := context.Background(), tileMap{}, 0
	var f Frontier
	var roots [][32]byte
	var sizes []int
	for _, step := range steps {
		root, tiles, err := Integrate(ctx, store, uint64(size), all[size:size+step])
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all[size : size+step] {
			f.Append(l)
		}
		size += step
		store.put(tiles)
		sizes, roots = append(sizes, size), append(roots, root)
		if size == 0 {
			if root != EmptyRoot {
				t.Fatal("root of the empty log")
			}
			continue
		}
		if want := ref.root(t, size); root != want || f.Root() != want || f.Size != uint64(size) {
			t.Fatalf("root at %d", size)
		}
		for _, tile := range tiles {
			want, err := tlog.ReadTileData(tlog.Tile{H: TileHeight, L: tile.Level, N: int64(tile.N), W: tile.Width()}, ref)
			if err != nil || !slices.Equal(want, tile.Data) {
				t.Fatalf("tile %d/%d at %d: %v", tile.Level, tile.N, size, err)
			}
		}
	}
	if size == 0 {
		return
	}
	root := roots[len(roots)-1]
	index := pick(size)
	p, err := Inclusion(ctx, store, uint64(size), uint64(index))
	if err != nil || CheckInclusion(p, uint64(size), root, uint64(index), all[index]) != nil {
		t.Fatalf("inclusion of %d in %d: %v", index, size, err)
	}
	if CheckInclusion(p, uint64(size), root, uint64(index), sha256.Sum256(nil)) == nil {
		t.Fatal("a proof held for another leaf")
	}
	for i, from := range sizes {
		if got, err := Root(ctx, store, uint64(from)); err != nil || got != roots[i] {
			t.Fatalf("Root(%d) of %d: %v", from, size, err)
		}
		if err := Extends(ctx, store, uint64(from), roots[i], uint64(size), root); err != nil {
			t.Fatalf("%d does not extend %d: %v", size, from, err)
		}
		if err := Extends(ctx, store, uint64(from), [32]byte{1}, uint64(size), root); !errors.Is(err, ErrInconsistent) {
			t.Fatalf("extends another tree: %v", err)
		}
	}
	if err := Extends(ctx, store, uint64(size)+1, root, uint64(size), root); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("a smaller log extends a larger: %v", err)
	}
}

// TestIntegrateTouchesLittle: a step writes only the tiles it changed.
func TestIntegrateTouchesLittle(t *testing.T) {
	ctx, store, all := t.Context(), tileMap{}, leaves(1000)
	_, tiles, err := Integrate(ctx, store, 0, all[:700])
	if err != nil || len(tiles) != 4 { // 0/0, 0/1, part of 0/2, part of 1/0
		t.Fatalf("%d tiles, %v", len(tiles), err)
	}
	store.put(tiles)
	if _, tiles, err = Integrate(ctx, store, 700, all[700:701]); err != nil || len(tiles) != 1 || tiles[0].N != 2 {
		t.Errorf("%d tiles, %v", len(tiles), err)
	}
	delete(store, tileKey{0, 2})
	if _, _, err = Integrate(ctx, store, 700, all[700:701]); !errors.Is(err, ErrNoTile) {
		t.Errorf("went on without the right edge: %v", err)
	}
	store[tileKey{0, 2}] = make([]byte, 32)
	if _, _, err = Integrate(ctx, store, 700, all[700:701]); err == nil {
		t.Error("went on with a right edge that is too short")
	}
}

func TestTilePath(t *testing.T) {
	for _, c := range []struct {
		level int
		n     uint64
		width int
		path  string
	}{
		{0, 0, 256, "tile/0/000"},
		{0, 0, 1, "tile/0/000.p/1"},
		{0, 999, 256, "tile/0/999"},
		{1, 1000, 255, "tile/1/x001/000.p/255"},
		{0, 1234067, 256, "tile/0/x001/x234/067"},
		{EntryLevel, 1234067, 8, "tile/entries/x001/x234/067.p/8"},
		{5, 70, 256, "tile/5/070"},
	} {
		if got := TilePath(c.level, c.n, c.width); got != c.path {
			t.Errorf("TilePath(%d, %d, %d) = %s, want %s", c.level, c.n, c.width, got, c.path)
		}
		if level, n, w, err := ParseTilePath(c.path); level != c.level || n != c.n || w != c.width || err != nil {
			t.Errorf("ParseTilePath(%s) = %d %d %d %v", c.path, level, n, w, err)
		}
	}
	for _, bad := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/0/x000/001", "tile/0/001/002", "tile/0/x001",
		"tile/00/001", "tile/64/001", "tile/-1/001", "tile/+1/001", "tile/0/+01", "tile/0/001.p/0", "tile/0/001.p/256",
		"tile/0/001.p/01", "tile/0/001.p/", "tile/0/001.p/1.p/1", "tile/data/001", "tile/8/0/001", "tile/0/001/", "/tile/0/001",
		"tile/0/x999/x999/x999/x999/x999/x999/x999/999", "tile/0/../001",
	} {
		if level, n, w, err := ParseTilePath(bad); err == nil || level != 0 || n != 0 || w != 0 {
			t.Errorf("ParseTilePath(%q) = %d %d %d %v", bad, level, n, w, err)
		}
	}
}

func TestEntryBundle(t *testing.T) {
	in := [][]byte{seq(77, 0), seq(413, 1), seq(61, 2)}
	b, err := EntryBundle(in)
	if err != nil || len(b) != 3*2+77+413+61 || b[0] != 0 || b[1] != 77 {
		t.Fatalf("%x, %v", b, err)
	}
	out, err := SplitBundle(b)
	if err != nil || len(out) != 3 || !slices.Equal(out[1], in[1]) {
		t.Errorf("%v, %v", out, err)
	}
	if out, err := SplitBundle(b[:len(b)-1]); err == nil || out != nil {
		t.Error("split a bundle that is cut")
	}
	if _, err := EntryBundle(nil); err == nil {
		t.Error("made an empty bundle")
	}
	if _, err := EntryBundle(make([][]byte, 257)); err == nil {
		t.Error("made a bundle of 257")
	}
}

func BenchmarkIntegrate(b *testing.B) {
	store, all := tileMap{}, leaves(1000)
	_, tiles, err := Integrate(b.Context(), store, 0, all[:800])
	if err != nil {
		b.Fatal(err)
	}
	store.put(tiles)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Integrate(b.Context(), store, 800, all[800:1000]); err != nil {
			b.Fatal(err)
		}
	}
}
