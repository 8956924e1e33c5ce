package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// EmptyRoot is the root of a log without entries (RFC 6962 section 2.1).
var EmptyRoot = [32]byte(sha256.Sum256(nil))

// ErrInconsistent says that one tree does not extend another.
var ErrInconsistent = errors.New("audit: the trees are not consistent")

func nodeHash(left, right [32]byte) [32]byte {
	return tlog.NodeHash(tlog.Hash(left), tlog.Hash(right))
}

// Frontier is a tree of which only the right edge is kept: the roots of its
// perfect subtrees from left to right. The zero value is the empty tree. It
// needs no storage, so a verifier walks a log of any size with it.
type Frontier struct {
	Size  uint64
	Right [][32]byte
}

// Append adds a leaf.
func (f *Frontier) Append(leaf [32]byte) {
	for n := f.Size; n&1 == 1; n >>= 1 {
		last := len(f.Right) - 1
		leaf = nodeHash(f.Right[last], leaf)
		f.Right = f.Right[:last]
	}
	f.Right = append(f.Right, leaf)
	f.Size++
}

// Root is the root of the tree so far.
func (f *Frontier) Root() [32]byte {
	if len(f.Right) == 0 {
		return EmptyRoot
	}
	root := f.Right[len(f.Right)-1]
	for _, h := range slices.Backward(f.Right[:len(f.Right)-1]) {
		root = nodeHash(h, root)
	}
	return root
}

// edge is the last, partial tile of a level.
type edge struct {
	n     uint64
	data  []byte // shorter than a full tile
	dirty bool
}

// tiler builds tiles from leaves.
type tiler struct {
	edges []edge
	emit  func(Tile) error
}

func loadEdges(ctx context.Context, store TileStore, size uint64) (*tiler, error) {
	t := &tiler{}
	for level, count := 0, size; count > 0; level, count = level+1, count>>TileHeight {
		e := edge{n: count / TileWidth}
		if w := int(count % TileWidth); w > 0 {
			data, err := store.Tile(ctx, level, e.n)
			if err != nil {
				return nil, fmt.Errorf("audit: tile %s: %w", TilePath(level, e.n, w), err)
			}
			if len(data) < w*32 {
				return nil, fmt.Errorf("audit: tile %s is shorter than the log", TilePath(level, e.n, w))
			}
			e.data = slices.Clone(data[:w*32])
		}
		t.edges = append(t.edges, e)
	}
	return t, nil
}

func (t *tiler) add(level int, h [32]byte) error {
	if level == len(t.edges) {
		t.edges = append(t.edges, edge{})
	}
	e := &t.edges[level]
	e.data, e.dirty = append(e.data, h[:]...), true
	if len(e.data) < TileWidth*32 {
		return nil
	}
	full := Tile{Level: level, N: e.n, Data: e.data}
	*e = edge{n: e.n + 1}
	if err := t.emit(full); err != nil {
		return err
	}
	return t.add(level+1, perfectRoot(full.Data))
}

// finish emits the partial tiles that changed.
func (t *tiler) finish() error {
	for level, e := range t.edges {
		if e.dirty {
			if err := t.emit(Tile{Level: level, N: e.n, Data: e.data}); err != nil {
				return err
			}
		}
	}
	return nil
}

// root folds the perfect subtrees of the right edge, smallest first.
func (t *tiler) root() [32]byte {
	root, any := EmptyRoot, false
	for _, e := range t.edges {
		end := len(e.data) / 32
		for w := end; w > 0; w &= w - 1 {
			begin := end - 1<<bits.TrailingZeros(uint(w))
			h := perfectRoot(e.data[begin*32 : end*32])
			if any {
				h = nodeHash(h, root)
			}
			root, any, end = h, true, begin
		}
	}
	return root
}

// perfectRoot is the root over hashes whose number is a power of two.
func perfectRoot(data []byte) [32]byte {
	if len(data) == 32 {
		return [32]byte(data)
	}
	half := len(data) / 2
	return nodeHash(perfectRoot(data[:half]), perfectRoot(data[half:]))
}

// Integrate appends leaves to the log of the given size. It reads at most one
// tile a level and gives the new root and every tile to write: a tile replaces
// what is stored at its level and number, which is a prefix of it. The caller
// writes them, the new size and the root in one transaction, guarded by the old
// size (mechanisms E6); it may check the old root with Root.
func Integrate(ctx context.Context, store TileStore, size uint64, leaves [][32]byte) (root [32]byte, tiles []Tile, err error) {
	if size > math.MaxInt64-uint64(len(leaves)) {
		return root, nil, errSize
	}
	t, err := loadEdges(ctx, store, size)
	if err != nil {
		return root, nil, err
	}
	t.emit = func(tile Tile) error { tiles = append(tiles, tile); return nil }
	for _, leaf := range leaves {
		if err := t.add(0, leaf); err != nil {
			return root, nil, err
		}
	}
	if err := t.finish(); err != nil {
		return root, nil, err
	}
	return t.root(), tiles, nil
}

var errSize = errors.New("audit: no log is that large")

// Root is the root of the log's first size entries, from its tiles.
func Root(ctx context.Context, store TileStore, size uint64) ([32]byte, error) {
	if size > math.MaxInt64 {
		return [32]byte{}, errSize
	}
	t, err := loadEdges(ctx, store, size)
	if err != nil {
		return [32]byte{}, err
	}
	return t.root(), nil
}

// Inclusion proves that the entry at index is in the tree of the given size
// (RFC 6962 section 2.1.1).
func Inclusion(ctx context.Context, store TileStore, size, index uint64) ([][32]byte, error) {
	if size > math.MaxInt64 || index >= size {
		return nil, fmt.Errorf("audit: there is no entry %d in a log of %d", index, size)
	}
	p, err := tlog.ProveRecord(int64(size), int64(index), hashes(ctx, store))
	return fromHashes(p), err
}

// CheckInclusion reports whether proof shows that leaf is at index of the tree
// of the given size and root.
func CheckInclusion(proof [][32]byte, size uint64, root [32]byte, index uint64, leaf [32]byte) error {
	if size > math.MaxInt64 || index >= size {
		return errSize
	}
	return tlog.CheckRecord(toHashes(proof), int64(size), root, int64(index), leaf)
}

// Consistency proves that the tree of size to extends that of size from (RFC
// 6962 section 2.1.2). Nothing is to be proved about the empty tree.
func Consistency(ctx context.Context, store TileStore, from, to uint64) ([][32]byte, error) {
	if to > math.MaxInt64 || from > to {
		return nil, fmt.Errorf("audit: a log of %d does not extend one of %d", to, from)
	}
	if from == 0 {
		return nil, nil
	}
	p, err := tlog.ProveTree(int64(to), int64(from), hashes(ctx, store))
	return fromHashes(p), err
}

// CheckConsistency reports whether proof shows that the tree of size to extends
// that of size from; ErrInconsistent if not.
func CheckConsistency(proof [][32]byte, from uint64, fromRoot [32]byte, to uint64, toRoot [32]byte) error {
	if to > math.MaxInt64 || from > to {
		return ErrInconsistent
	}
	if from == 0 {
		if fromRoot != EmptyRoot || len(proof) != 0 {
			return ErrInconsistent
		}
		return nil
	}
	if tlog.CheckTree(toHashes(proof), int64(to), toRoot, int64(from), fromRoot) != nil {
		return ErrInconsistent
	}
	return nil
}

// Extends reports whether the log of size to and root toRoot extends a tree
// known before, from the log's own tiles; ErrInconsistent if not. It is the
// check before each signature (mechanisms E8).
func Extends(ctx context.Context, store TileStore, from uint64, fromRoot [32]byte, to uint64, toRoot [32]byte) error {
	if from > to {
		return ErrInconsistent
	}
	proof, err := Consistency(ctx, store, from, to)
	if err != nil {
		return err
	}
	return CheckConsistency(proof, from, fromRoot, to, toRoot)
}

// hashes reads tlog's stored hashes from tiles, each tile once.
func hashes(ctx context.Context, store TileStore) tlog.HashReader {
	type at struct {
		level int
		n     int64
	}
	seen := make(map[at][]byte)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			t := tlog.TileForIndex(TileHeight, index)
			data, ok := seen[at{t.L, t.N}]
			if !ok {
				var err error
				if data, err = store.Tile(ctx, t.L, uint64(t.N)); err != nil {
					return nil, fmt.Errorf("audit: tile %s: %w", TilePath(t.L, uint64(t.N), t.W), err)
				}
				seen[at{t.L, t.N}] = data
			}
			h, err := tlog.HashFromTile(t, data, index)
			if err != nil {
				return nil, fmt.Errorf("audit: tile %s: %w", TilePath(t.L, uint64(t.N), t.W), err)
			}
			out[i] = h
		}
		return out, nil
	})
}

func fromHashes(in []tlog.Hash) [][32]byte {
	var out [][32]byte
	for _, h := range in {
		out = append(out, h)
	}
	return out
}

func toHashes(in [][32]byte) []tlog.Hash {
	var out []tlog.Hash
	for _, h := range in {
		out = append(out, h)
	}
	return out
}
