package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// The geometry of C2SP tlog-tiles: tiles are eight levels high, so they are
// 256 hashes wide, and entries come in bundles of 256.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
	// EntryLevel stands for entry bundles where a tile's level is named.
	EntryLevel = -1
)

// Tile is a tile of hashes: hash i is the root of the complete subtree of
// 256^Level leaves that begins at leaf (N×256+i)×256^Level. A tile is partial
// until Data is 256×32 bytes; the partial tile of an older tree is a prefix of
// it.
type Tile struct {
	Level int
	N     uint64
	Data  []byte
}

// Width is the number of hashes in the tile.
func (t Tile) Width() int { return len(t.Data) / 32 }

// TileStore reads stored tiles.
type TileStore interface {
	// Tile MUST give the widest stored data of a tile, or an error that is
	// ErrNoTile if there is none.
	Tile(ctx context.Context, level int, n uint64) ([]byte, error)
}

// ErrNoTile says that a tile is not stored.
var ErrNoTile = errors.New("audit: no such tile")

// TilePath is the path of a tile of width hashes relative to the log's prefix
// (C2SP tlog-tiles), EntryLevel for a bundle of width entries:
// "tile/0/x001/x234/067", "tile/entries/000.p/5". Width is 1 to 256.
func TilePath(level int, n uint64, width int) string {
	b := make([]byte, 0, 40)
	b = append(b, "tile/"...)
	if level == EntryLevel {
		b = append(b, "entries/"...)
	} else {
		b = append(strconv.AppendInt(b, int64(level), 10), '/')
	}
	groups := []uint64{n % 1000}
	for n /= 1000; n > 0; n /= 1000 {
		groups = append(groups, n%1000)
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if i < len(groups)-1 {
			b = append(b, '/')
		}
		if i > 0 {
			b = append(b, 'x')
		}
		g := groups[i]
		b = append(b, byte('0'+g/100), byte('0'+g/10%10), byte('0'+g%10))
	}
	if width < TileWidth {
		b = append(b, ".p/"...)
		b = strconv.AppendInt(b, int64(width), 10)
	}
	return string(b)
}

var errTilePath = errors.New("audit: not a tile path")

// ParseTilePath reads what TilePath writes and nothing else.
func ParseTilePath(path string) (level int, n uint64, width int, err error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	l, rest, more := strings.Cut(rest, "/")
	if !ok || !more || len(path) > 64 {
		return 0, 0, 0, errTilePath
	}
	if level = EntryLevel; l != "entries" {
		if level, err = strconv.Atoi(l); err != nil || level < 0 || level > 63 {
			return 0, 0, 0, errTilePath
		}
	}
	width = TileWidth
	if at, w, partial := strings.Cut(rest, ".p/"); partial {
		if width, err = strconv.Atoi(w); err != nil || width < 1 || width >= TileWidth {
			return 0, 0, 0, errTilePath
		}
		rest = at
	}
	groups := strings.Split(rest, "/")
	for _, g := range groups {
		v, err := strconv.ParseUint(strings.TrimPrefix(g, "x"), 10, 10)
		if err != nil || n > 1<<53 {
			return 0, 0, 0, errTilePath
		}
		n = n*1000 + v
	}
	if TilePath(level, n, width) != path { // leading zeros, signs, a missing x
		return 0, 0, 0, errTilePath
	}
	return level, n, width, nil
}

// EntryBundle writes at most 256 entries as C2SP tlog-tiles has them: each
// with its length in two bytes before it.
func EntryBundle(entries [][]byte) ([]byte, error) {
	if len(entries) == 0 || len(entries) > TileWidth {
		return nil, errors.New("audit: a bundle holds 1 to 256 entries")
	}
	var b []byte
	for _, e := range entries {
		if len(e) > 1<<16-1 {
			return nil, errors.New("audit: an entry is longer than 64 KiB")
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b, nil
}

// SplitBundle reads what EntryBundle writes.
func SplitBundle(b []byte) ([][]byte, error) {
	var entries [][]byte
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) || len(entries) == TileWidth {
			return nil, errors.New("audit: not an entry bundle")
		}
		n := int(binary.BigEndian.Uint16(b))
		entries = append(entries, b[2:2+n])
		b = b[2+n:]
	}
	return entries, nil
}
