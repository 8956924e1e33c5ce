package audit

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
)

// Follower walks a log from checkpoint to checkpoint and sees every leaf on the way:
// how a process finds what it wrote (mechanisms E7), and notices a log that was
// written anew behind it. It is not safe for concurrent use.
type Follower struct {
	vkey string
	tree Frontier
	root [32]byte
}

// NewFollower makes a follower of the log whose key is vkey, at its begin.
func NewFollower(vkey string) *Follower { return &Follower{vkey: vkey, root: EmptyRoot} }

// Size is how far it has come.
func (f *Follower) Size() uint64 { return f.tree.Size }

// ErrRewritten says that a checkpoint is of another log than the one seen so far, or
// of another than its tiles are.
var ErrRewritten = errors.New("audit: the log is not the one that was seen before")

// Start goes to a checkpoint without seeing what is before it: its tiles must make
// its root.
func (f *Follower) Start(ctx context.Context, src TileStore, checkpoint []byte) error {
	_, size, root, err := VerifyCheckpoint(checkpoint, f.vkey)
	if err != nil {
		return err
	}
	tree, err := frontier(ctx, src, size)
	if err != nil {
		return err
	}
	if tree.Root() != root {
		return ErrRewritten
	}
	f.tree, f.root = tree, root
	return nil
}

// Follow goes on to a later checkpoint and calls saw for each leaf that it covers and
// the one before did not, once it is known to hold. A checkpoint that was followed
// before is nothing new. The error is ErrRewritten if the log is another one; then
// nothing was seen.
func (f *Follower) Follow(ctx context.Context, src TileStore, checkpoint []byte, saw func(leaf [32]byte)) error {
	_, size, root, err := VerifyCheckpoint(checkpoint, f.vkey)
	if err != nil {
		return err
	}
	if size == f.tree.Size && root == f.root {
		return nil
	}
	if size <= f.tree.Size {
		return fmt.Errorf("%w: a checkpoint of %d after one of %d", ErrRewritten, size, f.tree.Size)
	}
	tree := Frontier{Size: f.tree.Size, Right: append([][32]byte(nil), f.tree.Right...)}
	var leaves [][32]byte
	for tree.Size < size {
		data, err := src.Tile(ctx, 0, tree.Size/TileWidth)
		at := int(tree.Size%TileWidth) * 32
		if errors.Is(err, ErrNoTile) || err == nil && len(data) <= at {
			return fmt.Errorf("%w: there is no leaf %d under a checkpoint of %d", ErrRewritten, tree.Size, size)
		}
		if err != nil {
			return err
		}
		for ; at < len(data) && tree.Size < size; at += 32 {
			leaf := [32]byte(data[at:])
			tree.Append(leaf)
			leaves = append(leaves, leaf)
		}
	}
	if tree.Root() != root {
		return fmt.Errorf("%w: its leaves are not those of a checkpoint of %d", ErrRewritten, size)
	}
	f.tree, f.root = tree, root
	for _, leaf := range leaves {
		saw(leaf)
	}
	return nil
}

// frontier makes the right edge of a tree out of its tiles.
func frontier(ctx context.Context, src TileStore, size uint64) (Frontier, error) {
	t, err := loadEdges(ctx, src, size)
	if err != nil {
		return Frontier{}, err
	}
	f := Frontier{Size: size}
	for level := len(t.edges) - 1; level >= 0; level-- {
		data := t.edges[level].data
		for w := uint(len(data) / 32); w > 0; w &^= 1 << (bits.Len(w) - 1) {
			n := 32 << (bits.Len(w) - 1)
			f.Right = append(f.Right, perfectRoot(data[:n]))
			data = data[n:]
		}
	}
	return f, nil
}
