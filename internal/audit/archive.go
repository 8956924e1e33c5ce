package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
)

// Pruning is what the record of kind LogPruned says (part of nobody): records with
// indexes from Low to below High of an epoch's tree were moved into an archive. Their
// leaves stay in the tiles.
type Pruning struct {
	Epoch   uint64           `json:"epoch"`
	Low     uint64           `json:"low"`
	High    uint64           `json:"high"`
	Removed int              `json:"removed"`
	Classes map[string]int64 `json:"classes"` // how many of each
	Archive string           `json:"archive"` // name of the folder
	Digest  string           `json:"digest"`  // SHA-256 over the files of rows, in order, in hex
}

// prunedBy reads what a record of kind LogPruned says.
func prunedBy(general OpenPart) (Pruning, error) {
	var p Pruning
	if json.Unmarshal(general.JSON, &p) != nil || p.Low >= p.High || p.Epoch == 0 {
		return Pruning{}, errors.New("audit: the record says nothing of what was pruned")
	}
	return p, nil
}

// PrunedRange is a range of which the database says that it was pruned; Record is the
// record that has to say the same.
type PrunedRange struct {
	Record    string
	Low, High uint64
}

// PrunedSource is a Source some of whose rows were moved into archives.
type PrunedSource interface {
	// Pruned MUST give the ranges, in no order.
	Pruned(ctx context.Context) ([]PrunedRange, error)
}

// Archive gives back rows that were pruned.
type Archive interface {
	// Row MUST give the row of an index of an epoch's tree; ok is false if the
	// archive has none. What it gives is not trusted.
	Row(ctx context.Context, epoch, index uint64) (row Row, ok bool, err error)
}

// ArchivePath is where an archive keeps what belongs to an epoch: name is
// "checkpoint", a path of TilePath, or one of RowsPath.
func ArchivePath(epoch uint64, name string) string {
	return path.Join("log", strconv.FormatUint(epoch, 10), name)
}

// RowsPath is the file of the rows of a bundle of 256 entries.
func RowsPath(n uint64) string {
	return "rows/" + TilePath(EntryLevel, n, TileWidth)[len("tile/entries/"):]
}

type archivedRow struct {
	Index     uint64 `json:"index"`
	ID        string `json:"id"`
	Kind      uint16 `json:"kind"`
	At        int64  `json:"at"`
	Entry     []byte `json:"entry"`
	Body      []byte `json:"body"`
	Leaf      string `json:"leaf,omitempty"`
	FactsHash []byte `json:"facts_hash,omitempty"`
	Facts     []byte `json:"facts,omitempty"`
}

// AppendArchived writes a row as a line of an archive.
func AppendArchived(dst []byte, index uint64, r Row) ([]byte, error) {
	b, err := json.Marshal(archivedRow{index, r.ID, uint16(r.Kind), r.At, r.Entry, r.Body, r.Leaf, r.FactsHash, r.Facts})
	return append(append(dst, b...), '\n'), err
}

// ParseArchived reads a file of rows. Their order and whether they are genuine is for
// the verifier. On error there are no rows.
func ParseArchived(b []byte) (map[uint64]Row, error) {
	out := map[uint64]Row{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		var a archivedRow
		if !ok || json.Unmarshal(line, &a) != nil || len(out) == TileWidth {
			return nil, errors.New("audit: not a file of archived rows")
		}
		out[a.Index] = Row{ID: a.ID, Kind: Kind(a.Kind), At: a.At, Entry: a.Entry, Body: a.Body, Leaf: a.Leaf, FactsHash: a.FactsHash, Facts: a.Facts}
		b = rest
	}
	return out, nil
}

// pruned is how the verifier follows rows that are not in the database.
type pruned struct {
	ranges []PrunedRange
	used   map[string]bool
}

func (v *verifier) readPruned(ctx context.Context) (err error) {
	v.pruned.used = map[string]bool{}
	if src, ok := v.src.(PrunedSource); ok {
		v.pruned.ranges, err = src.Pruned(ctx)
	}
	return err
}

// fill goes on to an index over rows that were pruned: with the archive's row if it
// has it, else with the leaf that the tile holds.
func (v *verifier) fill(ctx context.Context, to uint64) error {
	for v.tree.Size < to {
		i := v.tree.Size
		at := -1
		for j, r := range v.pruned.ranges {
			if r.Low <= i && i < r.High {
				at = j
				break
			}
		}
		if at < 0 {
			return v.fault("the row is missing; the next one is %d", to)
		}
		v.pruned.used[v.pruned.ranges[at].Record] = true
		if v.o.Archive != nil {
			row, ok, err := v.o.Archive.Row(ctx, v.o.Epoch, i)
			if err != nil {
				return err
			}
			if ok {
				v.report.Archived++
				if err := v.row(ctx, i, row); err != nil {
					return err
				}
				continue
			}
		}
		leaf, err := v.leafAt(ctx, i)
		if err != nil {
			return err
		}
		v.report.Pruned++
		v.writers.pruned = true
		v.tree.Append(leaf)
		if err := v.tiles.add(0, leaf); err != nil {
			return err
		}
		if err := v.reached(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leafAt is the leaf that a tile holds.
func (v *verifier) leafAt(ctx context.Context, i uint64) (leaf [32]byte, err error) {
	data, err := v.src.Tile(ctx, 0, i/TileWidth)
	at := int(i%TileWidth) * 32
	if errors.Is(err, ErrNoTile) || err == nil && len(data) < at+32 {
		return leaf, v.fault("the row was pruned, and no tile holds its leaf")
	}
	if err != nil {
		return leaf, err
	}
	return [32]byte(data[at:]), nil
}

// claimed remembers which prunings this epoch's rows rest on.
func (v *verifier) claimed() {
	for _, r := range v.pruned.ranges {
		if v.pruned.used[r.Record] {
			v.writers.rests = append(v.writers.rests, rest{v.o.Epoch, r})
		}
	}
}

// rest is a pruning that a log rests on, and that one of its records has to say.
type rest struct {
	epoch uint64
	PrunedRange
}

// unsaid finds a pruning that no record says.
func (ws *Writers) unsaid() error {
	for _, r := range ws.rests {
		p, ok := ws.said[r.Record]
		if !ok || p.Epoch != max(r.epoch, 1) || p.Low != r.Low || p.High != r.High {
			return fmt.Errorf("rows from %d to below %d are missing, and no record says that they were pruned", r.Low, r.High)
		}
	}
	return nil
}
