package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// LeastRetention is the shortest time that records stay in the database, in days:
// what a token, a session or a revocation still refers to is younger.
const LeastRetention = 30

// pruneBundles is how many bundles of 256 records one act takes out.
const pruneBundles = 16

// Pruned says what pruning did, or would do.
type Pruned struct {
	Records int64 // moved into the archive
	Held    int64 // due, but on hold
	Classes map[string]int64
}

// SetRetention says how long records of a class stay in the database; 0 days: for
// ever. problem.Invalid for the log's own records, which stay, and for less than 30
// days.
func (s *State) SetRetention(ctx context.Context, class audit.Class, days int) error {
	if !slices.Contains([]audit.Class{audit.Routine, audit.Access, audit.Identity, audit.Authority}, class) {
		return problem.Newf(problem.Invalid, "class_unknown", "Records of the class %.20q are not pruned; the classes are routine, access, identity and authority.", class)
	}
	if days != 0 && (days < LeastRetention || days > 36500) {
		return problem.Newf(problem.Invalid, "retention_invalid", "Records stay at least %d days; 0 is for ever.", LeastRetention)
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.AuditRetain, Kind: audit.RetentionSet, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{store.SetRetention{Class: class, Days: days}},
				Parts:   []audit.Part{{Body: map[string]any{"class": string(class), "days": days}}},
			}, nil
		},
	})
	return err
}

// PlaceHold keeps everything, or what concerns a person, from being pruned or erased.
func (s *State) PlaceHold(ctx context.Context, h store.Hold) error {
	if h.Person != "" {
		p, ok, err := s.Store.PseudonymOf(ctx, h.Person)
		if err != nil {
			return err
		}
		if ok {
			h.Pseudonym = p
		}
	}
	return s.holdAct(ctx, audit.HoldPlaced, h, store.PlaceHold{Hold: h})
}

// ReleaseHold ends a hold.
func (s *State) ReleaseHold(ctx context.Context, id string) error {
	return s.holdAct(ctx, audit.HoldReleased, store.Hold{ID: id}, store.ReleaseHold{ID: id})
}

func (s *State) holdAct(ctx context.Context, kind audit.Kind, h store.Hold, c act.Change) error {
	parts := []audit.Part{{Body: map[string]any{"hold": h.ID}}}
	if h.Person != "" { // the reason may say who it is about
		parts = append(parts, audit.Part{Person: h.Person, Body: map[string]any{"reason": h.Reason}})
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.AuditRetain, Kind: kind, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{c}, Parts: parts}, nil
		},
	})
	return err
}

// Prune moves the records whose time is over into an archive, a folder, and takes
// them out of the database: whole bundles are written, with their tiles, what is due
// in them is removed. Only what a signed checkpoint covers is touched. Their leaves
// stay, so that the log verifies without the archive, and whole with it. dry changes
// nothing. done is called after each act, and may be nil.
func (s *State) Prune(ctx context.Context, dir string, dry bool, done func(Pruned)) (Pruned, error) {
	p := pruner{s: s, dir: dir, dry: dry, out: Pruned{Classes: map[string]int64{}}, cutoff: map[audit.Class]int64{}}
	retention, err := s.Store.Retention(ctx)
	if err != nil {
		return p.out, err
	}
	for class, days := range retention {
		p.cutoff[class] = s.now().AddDate(0, 0, -days).UnixMicro()
	}
	if p.holds, err = s.Store.Holds(ctx, false); err != nil {
		return p.out, err
	}
	list, err := s.epochs(ctx)
	if err != nil {
		return p.out, err
	}
	for _, e := range list {
		if err := p.epoch(ctx, e, done); err != nil {
			return p.out, err
		}
	}
	return p.out, nil
}

type pruner struct {
	s      *State
	dir    string
	dry    bool
	cutoff map[audit.Class]int64
	holds  []store.Hold
	out    Pruned
}

// bundle is 256 rows, some of which are due.
type bundle struct {
	n    uint64
	rows map[uint64]audit.Row
	due  []uint64
}

func (p *pruner) epoch(ctx context.Context, e store.Epoch, done func(Pruned)) error {
	log := p.s.Store.EpochLog(e)
	size, checkpoint, err := log.LastCheckpoint(ctx)
	if errors.Is(err, problem.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var batch []bundle
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if !p.dry {
			if err := p.move(ctx, log, checkpoint, size, batch); err != nil {
				return err
			}
			if done != nil {
				done(p.out)
			}
		}
		batch = nil
		return nil
	}
	for n := range size / audit.TileWidth {
		b, err := p.read(ctx, log, n)
		if err != nil {
			return err
		}
		if len(b.due) == 0 {
			continue
		}
		if batch = append(batch, b); len(batch) == pruneBundles || !p.more(batch) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// more keeps a batch one range of bundles without a gap.
func (p *pruner) more(batch []bundle) bool {
	n := len(batch)
	return n < 2 || batch[n-1].n == batch[n-2].n+1
}

var errBundle = errors.New("server: the bundle is read")

// read finds what is due in a bundle.
func (p *pruner) read(ctx context.Context, log *store.EpochLog, n uint64) (bundle, error) {
	b := bundle{n: n, rows: map[uint64]audit.Row{}}
	low, high := n*audit.TileWidth, (n+1)*audit.TileWidth
	err := log.Rows(ctx, low, func(i uint64, row audit.Row) error {
		if i >= high {
			return errBundle
		}
		b.rows[i] = row
		cutoff, limited := p.cutoff[row.Kind.Class()]
		if !limited || row.At >= cutoff {
			return nil
		}
		if p.held(row) {
			p.out.Held++
			return nil
		}
		b.due = append(b.due, i)
		p.out.Records++
		p.out.Classes[string(row.Kind.Class())]++
		return nil
	})
	if errors.Is(err, errBundle) {
		err = nil
	}
	return b, err
}

func (p *pruner) held(row audit.Row) bool {
	e, err := audit.ParseEntry(row.Entry)
	return slices.ContainsFunc(p.holds, func(h store.Hold) bool {
		return h.Person == "" || err != nil || slices.ContainsFunc(e.Pseudonyms, func(x [16]byte) bool { return string(x[:]) == string(h.Pseudonym) })
	})
}

// move writes bundles into the archive, and then takes what is due out of the
// database, in one act for each run of neighbours.
func (p *pruner) move(ctx context.Context, log *store.EpochLog, checkpoint []byte, size uint64, batch []bundle) error {
	for len(batch) > 0 {
		run := 1
		for run < len(batch) && batch[run].n == batch[run-1].n+1 {
			run++
		}
		if err := p.moveRun(ctx, log, checkpoint, size, batch[:run]); err != nil {
			return err
		}
		batch = batch[run:]
	}
	return nil
}

func (p *pruner) moveRun(ctx context.Context, log *store.EpochLog, checkpoint []byte, size uint64, run []bundle) error {
	e := log.Epoch()
	digest := sha256.New()
	c := store.Prune{Epoch: e.N, Low: run[0].n * audit.TileWidth, High: (run[len(run)-1].n + 1) * audit.TileWidth, Holds: len(p.holds)}
	said := audit.Pruning{Epoch: e.N, Low: c.Low, High: c.High, Classes: map[string]int64{}, Archive: filepath.Base(p.dir)}
	for _, b := range run {
		if err := p.write(ctx, log, b, digest); err != nil {
			return err
		}
		for _, i := range b.due {
			c.Numbers = append(c.Numbers, int64(e.Base+i))
			said.Classes[string(b.rows[i].Kind.Class())]++
		}
	}
	if err := p.upper(ctx, log, checkpoint, size); err != nil {
		return err
	}
	said.Removed, said.Digest = len(c.Numbers), hex.EncodeToString(digest.Sum(nil))
	_, err := p.s.Do.Do(ctx, act.Intent{
		Action: policy.AuditRetain, Kind: audit.LogPruned, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{c}, Parts: []audit.Part{{Body: said}}}, nil
		},
	})
	return err
}

// write puts a bundle's rows, entries and hashes into the archive. Each row must be the
// one whose leaf is in the tree. Rows that an earlier pruning moved are there already.
func (p *pruner) write(ctx context.Context, log *store.EpochLog, b bundle, digest hash.Hash) error {
	e := log.Epoch()
	tile, err := log.Tile(ctx, 0, b.n)
	if err != nil {
		return err
	}
	old, err := readRows(filepath.Join(p.dir, audit.ArchivePath(e.N, audit.RowsPath(b.n))))
	if err != nil {
		return err
	}
	var text []byte
	var entries [][]byte
	for at := range uint64(audit.TileWidth) {
		i := b.n*audit.TileWidth + at
		row, ok := b.rows[i]
		if !ok {
			row, ok = old[i]
		}
		if !ok {
			continue // in another archive
		}
		if leaf := row.LeafHash(); string(leaf[:]) != string(tile[at*32:(at+1)*32]) {
			return problem.Newf(problem.Conflict, "log_changed", "Record %d of epoch %d is not the one that was integrated: nothing more was pruned.", i, e.N).WithHint("countersignd audit verify")
		}
		entries = append(entries, row.Entry)
		if text, err = audit.AppendArchived(text, i, row); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(text)
	digest.Write(sum[:])
	if err := p.put(e.N, audit.RowsPath(b.n), text); err != nil {
		return err
	}
	if len(entries) == audit.TileWidth {
		all, err := audit.EntryBundle(entries)
		if err != nil {
			return err
		}
		if err := p.put(e.N, audit.TilePath(audit.EntryLevel, b.n, audit.TileWidth), all); err != nil {
			return err
		}
	}
	return p.put(e.N, audit.TilePath(0, b.n, audit.TileWidth), tile[:audit.TileWidth*32])
}

// upper writes the checkpoint and the tiles above the leaves, as they are now.
func (p *pruner) upper(ctx context.Context, log *store.EpochLog, checkpoint []byte, size uint64) error {
	e := log.Epoch()
	for level, count := 1, size>>audit.TileHeight; count > 0; level, count = level+1, count>>audit.TileHeight {
		for n := range (count + audit.TileWidth - 1) / audit.TileWidth {
			data, err := log.Tile(ctx, level, n)
			if err != nil {
				return err
			}
			width := min(audit.TileWidth, int(count-n*audit.TileWidth))
			if err := p.put(e.N, audit.TilePath(level, n, width), data[:width*32]); err != nil {
				return err
			}
		}
	}
	return p.put(e.N, "checkpoint", checkpoint)
}

func (p *pruner) put(epoch uint64, name string, b []byte) error {
	path := filepath.Join(p.dir, filepath.FromSlash(audit.ArchivePath(epoch, name)))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return file.Replace(path, b, 0o600)
}

func readRows(path string) (map[uint64]audit.Row, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := audit.ParseArchived(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rows, nil
}

// Archives are folders that records were pruned into. It implements audit.Archive.
type Archives struct {
	Dirs []string
	file string
	rows map[uint64]audit.Row
}

// Row implements audit.Archive.
func (a *Archives) Row(_ context.Context, epoch, index uint64) (audit.Row, bool, error) {
	for _, dir := range a.Dirs {
		path := filepath.Join(dir, filepath.FromSlash(audit.ArchivePath(epoch, audit.RowsPath(index/audit.TileWidth))))
		if path != a.file {
			rows, err := readRows(path)
			if err != nil {
				return audit.Row{}, false, err
			}
			a.file, a.rows = path, rows
		}
		if row, ok := a.rows[index]; ok {
			return row, true, nil
		}
	}
	return audit.Row{}, false, nil
}
