package audit

import (
	"bytes"
	"context"
	"errors"
)

// compareLeaf finds the row whose leaf is not the one integrated, by name,
// before a tile or root could only say that something is wrong.
func (v *verifier) compareLeaf(ctx context.Context, id string, leaf [32]byte) error {
	i := v.tree.Size
	at := int(i%TileWidth) * 32
	if v.level0n != i/TileWidth || len(v.level0) < at+32 { // it may have grown since
		data, err := v.src.Tile(ctx, 0, i/TileWidth)
		if err != nil && !errors.Is(err, ErrNoTile) {
			return err
		}
		v.level0, v.level0n = bytes.Clone(data), i/TileWidth
	}
	switch {
	case len(v.level0) < at+32:
		return &Fault{Seq: i, ID: id, What: "the row is numbered, but no tile holds its leaf"}
	case !bytes.Equal(v.level0[at:at+32], leaf[:]):
		return &Fault{Seq: i, ID: id, What: "the entry is not the one that was integrated here"}
	}
	return nil
}

// compareTile compares a stored tile with the one computed.
func (v *verifier) compareTile(ctx context.Context, t Tile) error {
	data, err := v.src.Tile(ctx, t.Level, t.N)
	path := TilePath(t.Level, t.N, t.Width())
	switch {
	case errors.Is(err, ErrNoTile):
		return v.fault("%s is missing", path)
	case err != nil:
		return err
	case !bytes.HasPrefix(data, t.Data):
		return v.fault("%s is not what the rows make", path)
	case len(data) > len(t.Data):
		v.longer = path
	}
	return nil
}

// reached compares every checkpoint of the size reached.
func (v *verifier) reached(ctx context.Context) error {
	size := v.tree.Size
	if v.report.Compared && v.report.Against == size && v.tree.Root() != v.againstR {
		return v.fault("the log is not the one of the checkpoint kept elsewhere, of %d rows", size)
	}
	for {
		if err := v.readCheckpoints(ctx); err != nil {
			return err
		}
		if len(v.pending) == 0 || v.pending[0].size > size {
			return nil
		}
		c := v.pending[0]
		v.pending = v.pending[1:]
		if c.size < size {
			return v.fault("checkpoints are out of order")
		}
		if c.root != v.tree.Root() {
			return v.fault("the stored checkpoint of %d rows has another root", size)
		}
		v.report.Checkpoints++
		v.report.Covered = size
	}
}

// readCheckpoints keeps some stored checkpoints at hand, their signatures
// checked.
func (v *verifier) readCheckpoints(ctx context.Context) error {
	if len(v.pending) > 0 || v.ended {
		return nil
	}
	type text struct {
		size uint64
		text []byte
	}
	var page []text
	err := v.src.Checkpoints(ctx, v.after, func(size uint64, b []byte) error {
		page = append(page, text{size, bytes.Clone(b)})
		if len(page) == verifyBatch {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	v.ended = len(page) < verifyBatch
	for _, c := range page {
		_, size, root, err := VerifyCheckpoint(c.text, v.o.VKey)
		switch {
		case err != nil:
			return v.fault("the stored checkpoint of %d rows does not hold: %v", c.size, err)
		case size != c.size:
			return v.fault("the checkpoint stored for %d rows is one of %d", c.size, size)
		}
		v.pending = append(v.pending, stored{size, root})
		v.after = size + 1
	}
	return nil
}

// end looks at what must not go on after the last row, unless the log has grown
// since its head was read. It gives the head as it is now.
func (v *verifier) end(ctx context.Context) (size uint64, root [32]byte, err error) {
	n := v.tree.Size
	v.longer = ""
	if err := v.tiles.finish(); err != nil {
		return 0, root, err
	}
	if err := v.nextTiles(ctx); err != nil {
		return 0, root, err
	}
	var beyond bool
	err = v.src.Rows(ctx, n, func(uint64, Row) error { beyond = true; return errStop })
	if err != nil && !errors.Is(err, errStop) {
		return 0, root, err
	}
	if size, root, err = v.src.Head(ctx); err != nil { // after all that was read above
		return 0, root, err
	}
	grown := size > n
	switch {
	case size < n:
		err = v.fault("the log's head went back to %d rows", size)
	case v.report.Compared && v.report.Against > size:
		err = v.fault("the checkpoint kept elsewhere has %d rows, and there are %d: rows were cut off", v.report.Against, n)
	case len(v.pending) > 0 && v.pending[0].size > size:
		err = v.fault("a stored checkpoint has %d rows, and there are %d: rows were cut off", v.pending[0].size, n)
	case !grown && v.longer != "":
		err = v.fault("%s goes on where the rows end: rows were cut off", v.longer)
	case !grown && beyond:
		err = v.fault("rows are numbered that were never integrated")
	}
	return size, root, err
}

// nextTiles looks for a tile after the last of each level.
func (v *verifier) nextTiles(ctx context.Context) error {
	for level, count := 0, v.tree.Size; ; level, count = level+1, count>>TileHeight {
		next := (count + TileWidth - 1) / TileWidth
		switch _, err := v.src.Tile(ctx, level, next); {
		case err == nil:
			v.longer = TilePath(level, next, TileWidth)
		case !errors.Is(err, ErrNoTile):
			return err
		}
		if count == 0 {
			return nil
		}
	}
}
