package audit

import (
	"context"
	"errors"
	"fmt"
)

// Source is a stored log of one epoch. No method is called while another runs,
// nor from inside fn.
type Source interface {
	TileStore
	// Head MUST give the size and root that the sequencer last wrote.
	Head(ctx context.Context) (size uint64, root [32]byte, err error)
	// Rows MUST call fn with each numbered row from the given number on,
	// ascending, with its facts; an error of fn ends it and is returned.
	Rows(ctx context.Context, from uint64, fn func(seq uint64, row Row) error) error
	// Checkpoints MUST call fn with each stored checkpoint of at least the
	// given size, ascending, one a size; an error of fn ends it and is returned.
	Checkpoints(ctx context.Context, from uint64, fn func(size uint64, text []byte) error) error
}

// Options say what to verify against.
type Options struct {
	VKey    string                        // the log's key, pinned; required
	Against []byte                        // a checkpoint kept elsewhere, or nil
	Keys    Unsealer                      // nil leaves sealed parts closed
	Writers *Writers                      // from the epoch before; nil: this is all there is
	Epoch   uint64                        // which one this is; 0: 1
	Archive Archive                       // of rows that were pruned, may be nil
	Done    func(done, total uint64)      // progress, may be nil
	Each    func(seq uint64, r Row) error // sees each row that holds, may be nil
}

// Fault is the first thing found wrong. Seq is the row it was found at, the
// log's size if it is none in particular.
type Fault struct {
	Seq  uint64
	ID   string // of the row, as stored
	What string
}

// Report is what verification found.
type Report struct {
	Size        uint64   // rows that hold
	Root        [32]byte // over them
	Checkpoints uint64   // stored checkpoints that hold
	Covered     uint64   // size of the largest of them
	Erased      uint64   // parts of erased persons: they hold, and open to nothing
	Pruned      uint64   // rows that were pruned, of which only the leaf was there
	Archived    uint64   // rows that were pruned, and read from an archive
	Closed      uint64   // sealed parts not opened for want of keys
	Against     uint64   // size of the checkpoint kept elsewhere
	Compared    bool     // whether there was one
	Processes   Processes
	Fault       *Fault // nil: the log holds
}

// OK reports whether the log holds.
func (r Report) OK() bool { return r.Fault == nil }

// Lines says the report in words; the last line says what it could not exclude.
func (r Report) Lines() []string {
	if f := r.Fault; f != nil {
		at := fmt.Sprintf("row %d", f.Seq)
		if f.ID != "" {
			at += " (" + f.ID + ")"
		}
		return []string{
			fmt.Sprintf("The log does not hold. First fault at %s: %s.", at, f.What),
			fmt.Sprintf("%d rows before it hold.", min(r.Size, f.Seq)),
		}
	}
	lines := []string{
		fmt.Sprintf("The log holds: %d rows, root %x.", r.Size, r.Root),
		fmt.Sprintf("%d stored checkpoints hold; the largest covers %d rows.", r.Checkpoints, r.Covered),
	}
	if r.Erased > 0 {
		lines = append(lines, fmt.Sprintf("%d parts belong to erased persons and open to nothing.", r.Erased))
	}
	if r.Closed > 0 {
		lines = append(lines, fmt.Sprintf("%d sealed parts were checked as stored, without opening them.", r.Closed))
	}
	if r.Archived > 0 {
		lines = append(lines, fmt.Sprintf("%d of them were pruned, and are in the archive as they were.", r.Archived))
	}
	lines = append(lines, r.Processes.lines()...)
	if r.Pruned > 0 {
		lines = append(lines, fmt.Sprintf("%d rows were pruned and are in no archive that was given: their leaves are in the tree, what they said could not be checked.", r.Pruned))
	}
	switch {
	case r.Compared && r.Against == r.Size:
		lines = append(lines, fmt.Sprintf("It agrees with the checkpoint kept elsewhere, of all %d rows.", r.Against))
	case r.Compared:
		lines = append(lines, fmt.Sprintf("It agrees with the checkpoint kept elsewhere, of %d rows; of the %d after it, it could not exclude that rows and checkpoints were cut off or written anew together by who holds the log key.", r.Against, r.Size-r.Against))
	default:
		lines = append(lines, "Not compared with a checkpoint kept elsewhere: it could not exclude that the newest rows and checkpoints were cut off together, or all written anew by who holds the log key.")
	}
	return lines
}

const verifyBatch = 1024

// errStop ends a Source's reading early; it never leaves the package.
var errStop = errors.New("audit: stop")

// Verify recomputes a log from its rows: every entry from its row, every
// commitment, tile and root, every stored checkpoint, and compares it with the
// checkpoint kept elsewhere (mechanisms E13). It streams, so memory does not
// grow with the log. What is wrong with the log is in the report, and stops it;
// the error is one of reading.
func Verify(ctx context.Context, src Source, o Options) (Report, error) {
	o.Epoch = max(o.Epoch, 1)
	v := &verifier{src: src, o: o, writers: o.Writers}
	if v.writers == nil {
		v.writers = NewWriters()
	}
	v.tiles.emit = func(t Tile) error { return v.compareTile(ctx, t) }
	err := v.run(ctx)
	v.claimed()
	if err == nil && o.Writers == nil {
		err = v.writers.end(v.grown)
	}
	v.report.Processes = v.writers.Processes()
	var f *Fault
	if errors.As(err, &f) {
		v.report.Fault, err = f, nil
	}
	v.report.Size, v.report.Root = v.tree.Size, v.tree.Root()
	return v.report, err
}

// Error implements error.
func (f *Fault) Error() string { return fmt.Sprintf("audit: row %d: %s", f.Seq, f.What) }

type verifier struct {
	src    Source
	o      Options
	report Report

	writers  *Writers
	grown    bool // the log grew meanwhile
	pruned   pruned
	tree     Frontier
	tiles    tiler
	againstR [32]byte

	limit   uint64 // the head when it was read last; a running server goes on after it
	level0  []byte // the stored tile that a leaf was in last, and its number
	level0n uint64
	longer  string // a stored tile that goes on after the limit

	pending []stored // checkpoints read and not yet reached
	after   uint64   // size to read on from
	ended   bool
}

type stored struct {
	size uint64
	root [32]byte
}

func (v *verifier) fault(what string, args ...any) error {
	return &Fault{Seq: v.tree.Size, What: fmt.Sprintf(what, args...)}
}

func (v *verifier) run(ctx context.Context) error {
	if v.o.Against != nil {
		_, size, root, err := VerifyCheckpoint(v.o.Against, v.o.VKey)
		if err != nil {
			return fmt.Errorf("the checkpoint to compare with: %w", err)
		}
		v.report.Against, v.againstR, v.report.Compared = size, root, true
	}
	var root [32]byte
	err := v.readPruned(ctx)
	if err != nil {
		return err
	}
	if v.limit, root, err = v.src.Head(ctx); err != nil {
		return err
	}
	if err := v.reached(ctx); err != nil { // of the empty log
		return err
	}
	for {
		if err := v.upTo(ctx, root); err != nil {
			return err
		}
		size, now, err := v.end(ctx)
		v.grown = size > v.tree.Size
		if err != nil || size == v.limit || v.report.Against <= v.limit {
			return err
		}
		v.limit, root = size, now // the log grew, and the checkpoint kept elsewhere is of the new part
	}
}

// upTo walks the rows up to the limit, where the root must be the head's.
func (v *verifier) upTo(ctx context.Context, root [32]byte) error {
	for v.tree.Size < v.limit {
		rows, err := v.read(ctx)
		if err != nil {
			return err
		}
		if len(rows) == 0 && len(v.pruned.ranges) > 0 {
			if err := v.fill(ctx, v.limit); err != nil {
				return err
			}
			continue
		}
		if len(rows) == 0 {
			return v.fault("the log's head has %d rows, and there are %d: rows were cut off", v.limit, v.tree.Size)
		}
		for _, r := range rows {
			if err := v.row(ctx, r.seq, r.row); err != nil {
				return err
			}
		}
		if v.o.Done != nil {
			v.o.Done(v.tree.Size, v.limit)
		}
	}
	if v.tree.Root() != root {
		return v.fault("the log's head has another root than its %d rows", v.tree.Size)
	}
	return nil
}

type numbered struct {
	seq uint64
	row Row
}

// read takes the next rows below the limit and lets go of the source before
// they are worked on.
func (v *verifier) read(ctx context.Context) ([]numbered, error) {
	rows := make([]numbered, 0, verifyBatch)
	err := v.src.Rows(ctx, v.tree.Size, func(seq uint64, r Row) error {
		if seq >= v.limit {
			return errStop
		}
		rows = append(rows, numbered{seq, r})
		if len(rows) == verifyBatch {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	return rows, nil
}

func (v *verifier) row(ctx context.Context, seq uint64, r Row) error {
	switch {
	case seq < v.tree.Size:
		return v.fault("rows are out of order")
	case seq > v.tree.Size:
		if err := v.fill(ctx, seq); err != nil {
			return err
		}
	}
	parts, err := Open(ctx, r, v.o.Keys)
	var t *Tampered
	if errors.As(err, &t) {
		return &Fault{Seq: seq, ID: r.ID, What: t.What}
	} else if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Erased {
			v.report.Erased++
		} else if p.JSON == nil {
			v.report.Closed++
		}
	}
	leaf := r.LeafHash()
	if err := v.compareLeaf(ctx, r.ID, leaf); err != nil {
		return err
	}
	if err := v.writer(seq, r, leaf, parts[0]); err != nil {
		return err
	}
	if v.o.Each != nil {
		if err := v.o.Each(seq, r); err != nil {
			return err
		}
	}
	v.tree.Append(leaf)
	if err := v.tiles.add(0, leaf); err != nil {
		return err
	}
	return v.reached(ctx)
}

// writer compares a row with what its process says of itself.
func (v *verifier) writer(seq uint64, r Row, leaf [32]byte, general OpenPart) error {
	e, err := ParseEntry(r.Entry)
	if err == nil {
		err = v.writers.row(seq, r.ID, e, leaf, general)
	}
	if err != nil {
		return &Fault{Seq: seq, ID: r.ID, What: err.Error()}
	}
	return nil
}
