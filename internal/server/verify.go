package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/formats/proof"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/store"
)

// Outside is a checkpoint of this log that was kept elsewhere, in words where.
type Outside struct {
	Where string
	Text  []byte
	Entry *Proved // what it came with a proof of; nil if with none
}

// Proved is an entry that a proof shows to be in the log.
type Proved struct {
	Index uint64
	Leaf  [32]byte
}

// Proof reads a proof of an entry of this log (c2sp.org/tlog-proof@v1) that carries
// the entry, and checks it.
func (s *State) Proof(text []byte, where string) (Outside, error) {
	var p proof.TLogProof
	if err := p.Unmarshal(text); err != nil {
		return Outside{}, fmt.Errorf("%s: %w", where, err)
	}
	k, err := s.Known(p.Checkpoint, where)
	if err != nil {
		return Outside{}, err
	}
	leaf := audit.LeafHash(p.ExtraData)
	if err := audit.CheckInclusion(p.Hashes, k.Size, k.Root, p.Index, leaf); err != nil {
		return Outside{}, fmt.Errorf("%s proves nothing: %w", where, err)
	}
	return Outside{where, p.Checkpoint, &Proved{p.Index, leaf}}, nil
}

// IsProof reports whether a text is a proof.
func IsProof(text []byte) bool { return bytes.HasPrefix(text, []byte("c2sp.org/tlog-proof@")) }

// EpochReport is what verifying one epoch of the log found.
type EpochReport struct {
	audit.Report
	Epoch  store.Epoch
	VKey   string
	Opened *audit.Opened // what its first entry says; nil for the first epoch
}

// Lines says the report in words; the last line says what it could not exclude.
func (r EpochReport) Lines() []string {
	lines := r.Report.Lines()
	if o := r.Opened; o != nil && r.OK() {
		lines = append([]string{r.opened()}, lines...)
	}
	return lines
}

func (r EpochReport) opened() string {
	o := r.Opened
	if o.Last == "" {
		return fmt.Sprintf("Epoch %d was opened after %s had been found with %d records; no checkpoint of it was known then.", r.Epoch.N, o.Closed, o.Size)
	}
	_, size, _ := bytes.Cut([]byte(o.Last), []byte("\n"))
	size, _, _ = bytes.Cut(size, []byte("\n"))
	return fmt.Sprintf("Epoch %d was opened after %s had been found with %d records, when a checkpoint of %s was known: what that one covers and is not here was lost or replaced.", r.Epoch.N, o.Closed, o.Size, size)
}

// Verify verifies the log, each epoch by itself and what ties each to the one
// before, and compares it with what was kept elsewhere (mechanisms E12, E13). Every
// text of outside must be a checkpoint that this deployment signed. o.VKey and
// o.Against are not looked at.
func (s *State) Verify(ctx context.Context, outside []Outside, o audit.Options) ([]EpochReport, error) {
	list, err := s.epochs(ctx)
	if err != nil {
		return nil, err
	}
	known := make([]store.KnownCheckpoint, len(outside))
	for i, out := range outside {
		if known[i], err = s.Known(out.Text, out.Where); err != nil {
			return nil, err
		}
	}
	var reports []EpochReport
	writers := audit.NewWriters()
	for i, e := range list {
		r := EpochReport{Epoch: e}
		if r.VKey, err = s.vkey(e.Origin); err != nil {
			return nil, err
		}
		one := o
		one.Writers, one.Epoch = writers, e.N
		one.VKey, one.Against = r.VKey, largest(outside, known, e.N)
		one.Each = func(seq uint64, row audit.Row) error {
			if seq == 0 && i > 0 {
				r.Opened = opened(ctx, row)
			}
			for j, out := range outside {
				if out.Entry != nil && known[j].Epoch == e.N && out.Entry.Index == seq && out.Entry.Leaf != row.LeafHash() {
					return &audit.Fault{Seq: seq, ID: row.ID, What: "the entry is not the one that " + out.Where + " proves"}
				}
			}
			if o.Each != nil {
				return o.Each(seq, row)
			}
			return nil
		}
		log := s.Store.EpochLog(e)
		if r.Report, err = audit.Verify(ctx, log, one); err != nil {
			return nil, err
		}
		if r.OK() && i > 0 {
			if r.Size == 0 && e.Last { // it was opened a moment ago: its first record waits for its place
				first, err := s.Store.RecordByID(ctx, e.Record)
				if err != nil && !errors.Is(err, problemNotFound) {
					return nil, err
				}
				r.Opened = opened(ctx, first.Row)
			}
			r.Fault = tied(r.Opened, e, reports[i-1])
		}
		for _, k := range known {
			if r.OK() && k.Epoch == e.N {
				if r.Fault, err = extends(ctx, log, r.Report, k); err != nil {
					return nil, err
				}
			}
		}
		reports = append(reports, r)
	}
	last := &reports[len(reports)-1]
	if now, _, err := s.Store.Head(ctx); err != nil {
		return nil, err
	} else if last.OK() {
		last.Fault = writers.End(now > last.Size)
	}
	for _, k := range known {
		if last.OK() && k.Epoch > last.Epoch.N {
			last.Fault = &audit.Fault{Seq: last.Size, What: fmt.Sprintf("%s has a checkpoint of epoch %d, and the log is in epoch %d: it has gone back", k.Where, k.Epoch, last.Epoch.N)}
		}
	}
	return reports, nil
}

func largest(outside []Outside, known []store.KnownCheckpoint, epoch uint64) (text []byte) {
	var size uint64
	for i, k := range known {
		if k.Epoch == epoch && (text == nil || k.Size > size) {
			text, size = outside[i].Text, k.Size
		}
	}
	return text
}

func opened(ctx context.Context, row audit.Row) *audit.Opened {
	parts, err := audit.Open(ctx, row, nil)
	if err != nil {
		return nil
	}
	o, err := audit.OpenedBy(row, parts[0])
	if err != nil {
		return nil
	}
	return &o
}

// tied compares what the first entry of an epoch says with the epoch before.
func tied(o *audit.Opened, e store.Epoch, before EpochReport) *audit.Fault {
	switch {
	case o == nil:
		return &audit.Fault{What: fmt.Sprintf("epoch %d does not begin with a record that opens it", e.N)}
	case o.Origin != e.Origin || o.Closed != before.Epoch.Origin:
		return &audit.Fault{What: fmt.Sprintf("epoch %d was opened as %s after %s", e.N, o.Origin, o.Closed)}
	case before.OK() && (o.Size != before.Size || o.Root != before.Root):
		return &audit.Fault{What: fmt.Sprintf("epoch %d was opened after %d records with another root than epoch %d has now", e.N, o.Size, before.Epoch.N)}
	}
	return nil
}

// extends compares a log that holds with a checkpoint of its own, by its tiles.
func extends(ctx context.Context, log audit.TileStore, r audit.Report, k store.KnownCheckpoint) (*audit.Fault, error) {
	err := audit.ErrInconsistent
	if k.Size <= r.Size {
		err = audit.Extends(ctx, log, k.Size, k.Root, r.Size, r.Root)
	}
	if errors.Is(err, audit.ErrInconsistent) {
		return &audit.Fault{Seq: min(k.Size, r.Size), What: fmt.Sprintf("the log is not the one of the checkpoint of %d rows that %s has", k.Size, k.Where)}, nil
	}
	return nil, err
}

// AskWitnesses submits the newest checkpoint to each witness: one that cosigns it has
// seen nothing that the log did not grow out of. It gives what each said.
func (s *State) AskWitnesses(ctx context.Context) (agree []string, faults []error, err error) {
	o, err := s.readOutsiders()
	if err != nil {
		return nil, nil, err
	}
	if len(o.witnesses()) == 0 {
		return nil, nil, errors.New("no witness is configured with a URL: see witness.policy_file")
	}
	size, text, err := s.Store.LastCheckpoint(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range o.witnesses() {
		c, err := s.ask(ctx, o, w, size, text)
		if err != nil {
			faults = append(faults, fmt.Errorf("witness %s: %w", w.Name, err))
			continue
		}
		agree = append(agree, fmt.Sprintf("Witness %s has cosigned %d rows at %s, and nothing that they did not grow out of.", w.Name, size, c.At.Format(time.RFC3339)))
	}
	return agree, faults, nil
}

// AllKept reads the newest checkpoint from each place where the configuration has them
// kept.
func (s *State) AllKept(ctx context.Context) (out []Outside, err error) {
	o, err := s.readOutsiders()
	if err != nil {
		return nil, err
	}
	for _, k := range o.keepers {
		text, err := k.Last(ctx, s.tree.Origin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Name(), err)
		}
		if text != nil {
			out = append(out, Outside{Where: k.Name(), Text: text})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("nothing is kept elsewhere: see witness.files and witness.git")
	}
	return out, nil
}
