package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

var errNotQuarantined = problem.New(problem.Conflict, "not_quarantined", "The deployment is not in quarantine.")

// LeaveAs says how a quarantine ends.
type LeaveAs struct {
	// Complete is the operator's word that nothing was revoked, removed or used after
	// the backup that was not replayed. It is refused if something has seen more than
	// that. Without it, whoever and whatever may have been revoked stays suspended.
	Complete bool
	// Checkpoints of this log that were kept elsewhere; the new epoch names the
	// farthest. The one beside the database is looked at by itself.
	Checkpoints [][]byte
}

// Leave ends the quarantine, in one act (mechanisms I10): a new epoch of log and feed
// begins, everything that was issued ends, single-use values stop working, every key
// but the log's is replaced. Servers that run on the database start anew by
// themselves. problem.Conflict: not_quarantined, or replay_incomplete.
func (s *State) Leave(ctx context.Context, how LeaveAs) error {
	if s.Quarantined() == "" {
		return errNotQuarantined
	}
	if how.Complete {
		if err := s.complete(ctx); err != nil {
			return err
		}
	}
	last, err := s.farthestCheckpoint(how.Checkpoints)
	if err != nil {
		return err
	}
	add, withdraw, err := s.Ring.Replacement(true)
	if err != nil {
		return err
	}
	list := []act.Change{store.Leave{Suspend: !how.Complete}}
	for _, w := range withdraw {
		list = append(list, w)
	}
	for _, a := range add {
		list = append(list, a)
	}
	if place, ok := s.Store.DatabasePlace(); ok {
		list = append(list, store.KeepPlace{Place: place})
	}
	for range 5 { // a server that runs numbers records meanwhile
		err = s.OpenEpoch(ctx, last, act.Refs{Kind: policy.KindOperator}, list...)
		if problem.CodeOf(err) != "epoch_moved" {
			break
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(s.Ring.Reload(ctx), s.look(ctx))
}

// complete refuses the operator's word if something has seen more than what is here.
func (s *State) complete(ctx context.Context) error {
	seen, err := s.Store.Seen(ctx)
	if err != nil {
		return err
	}
	here, _, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	to, err := s.replayedTo(ctx)
	if err != nil {
		return err
	}
	if seen.Ahead(s.epoch, max(here, to)) {
		return problem.Newf(problem.Conflict, "replay_incomplete", "Something has seen %d records in epoch %d; here are %d, and an export of %d was replayed.", seen.HW, seen.Epoch, here, to).
			WithHint("Replay an export that goes further, or leave without --complete.")
	}
	return nil
}

func (s *State) replayedTo(ctx context.Context) (uint64, error) {
	f, ok, err := s.Store.Fact(ctx, store.FactReplayed)
	if err != nil || !ok {
		return 0, err
	}
	return strconv.ParseUint(f.Value, 10, 63)
}

// farthestCheckpoint is the one of this log that covers most, of those given and the
// one beside the database; nil if there is none.
func (s *State) farthestCheckpoint(given [][]byte) (last []byte, err error) {
	var best store.KnownCheckpoint
	for _, text := range given {
		k, err := s.Known(text, "a checkpoint that was given")
		if err != nil {
			return nil, problem.New(problem.Invalid, "checkpoint_invalid", "That is not a checkpoint that this deployment signed.").Because(err)
		}
		if last == nil || k.Epoch > best.Epoch || k.Epoch == best.Epoch && k.Size > best.Size {
			best, last = k, text
		}
	}
	beside, err := os.ReadFile(s.checkpointFile())
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return last, nil
		}
		return nil, err
	}
	if k, err := s.Known(beside, s.checkpointFile()); err == nil && (last == nil || k.Epoch > best.Epoch || k.Epoch == best.Epoch && k.Size > best.Size) {
		last = beside
	}
	return last, nil
}

// exported is what a replay reads of a line of an export.
type exported struct {
	Seq   int64         `json:"seq"`
	ID    string        `json:"id"`
	At    string        `json:"at"`
	Taken []store.Taken `json:"taken"`
}

// Replayed says what a replay did.
type Replayed struct {
	Lines, New int64 // read, and later than the backup
	Taken      int64 // times that something was taken away again
	To         uint64
	Last       time.Time // of the newest record
}

// maxExportLine bounds a line of an export: one act that ends everything names all
// of it.
const maxExportLine = 64 << 20

// Replay applies an export of the log to a restored backup, before anything is
// served (mechanisms I11, I14): what every later record took away is taken away
// again, erasures first. It may be repeated, with further exports.
func (s *State) Replay(ctx context.Context, export io.ReadSeeker, tell Progress) (r Replayed, err error) {
	if s.Quarantined() == "" {
		return r, errNotQuarantined
	}
	erasures := func(t store.Taken) bool { return t.What == store.TookPerson }
	if _, err := s.replay(ctx, export, erasures, nil); err != nil {
		return r, err
	}
	if _, err := export.Seek(0, io.SeekStart); err != nil {
		return r, err
	}
	r, err = s.replay(ctx, export, func(t store.Taken) bool { return !erasures(t) }, tell)
	if err != nil {
		return r, err
	}
	before, err := s.replayedTo(ctx)
	if err != nil {
		return r, err
	}
	base := s.tree.Base // numbers of an export count over all epochs
	if r.To >= base {
		r.To -= base
	}
	return r, s.reapply(ctx, nil, store.Keep{Name: store.FactReplayed, Value: strconv.FormatUint(max(before, r.To), 10)})
}

func (s *State) replay(ctx context.Context, export io.Reader, which func(store.Taken) bool, tell Progress) (r Replayed, err error) {
	in := bufio.NewReaderSize(export, 1<<20)
	var batch []store.Taken
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		r.Taken += int64(len(batch))
		err := s.reapply(ctx, batch)
		batch = nil
		return err
	}
	for {
		text, err := line(in)
		if errors.Is(err, io.EOF) {
			return r, flush()
		}
		if err != nil {
			return r, err
		}
		if r.Lines++; tell != nil && r.Lines%1000 == 0 {
			tell(r.Lines, 0)
		}
		l, err := parseExported(text)
		if err != nil {
			return r, fmt.Errorf("line %d of the export: %w", r.Lines, err)
		}
		if l.Seq >= 0 {
			r.To = max(r.To, uint64(l.Seq)+1)
		}
		r.Last, _ = time.Parse(time.RFC3339Nano, l.At)
		if len(l.Taken) == 0 {
			continue
		}
		here, err := s.Store.HasRecord(ctx, l.ID)
		if err != nil {
			return r, err
		}
		if here {
			continue // the backup has it
		}
		r.New++
		for _, t := range l.Taken {
			if which(t) {
				batch = append(batch, t)
			}
			if len(batch) == 200 {
				if err := flush(); err != nil {
					return r, err
				}
			}
		}
	}
}

// line reads one line, which may be long.
func line(in *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, more, err := in.ReadLine()
		if err != nil {
			return nil, err
		}
		if out = append(out, part...); len(out) > maxExportLine {
			return nil, errors.New("a line of the export is too long")
		}
		if !more {
			return out, nil
		}
	}
}

// parseExported reads a line of an export. An error comes with no value.
func parseExported(text []byte) (exported, error) {
	var l exported
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&l); err != nil {
		return exported{}, err
	}
	if l.ID == "" {
		return exported{}, errors.New("it names no record: this is not what countersignd audit export writes")
	}
	for _, t := range l.Taken {
		if !t.Known() {
			return exported{}, fmt.Errorf("%q is not known here: use the program that wrote the export, or a newer one", t.What)
		}
	}
	return l, nil
}

func (s *State) reapply(ctx context.Context, taken []store.Taken, more ...act.Change) error {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.BackupReplay, Kind: audit.RestoreReplayed, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append([]act.Change{store.Reapply{Taken: taken}}, more...),
				Parts:   []audit.Part{{Body: map[string]any{"taken": len(taken)}}},
			}, nil
		},
	})
	return err
}

// ReleaseWhat says what is released from suspension.
type ReleaseWhat struct {
	Kind  lineage.Kind // 0 is webhooks, lineage.Connection trusted issuers
	Group string       // name of the group whose people are released
	ID    string       // only this one
}

// Release has what leaving a quarantine suspended work again.
func (s *State) Release(ctx context.Context, w ReleaseWhat) error {
	c := store.Release{Kind: w.Kind, ID: w.ID}
	if w.Group != "" {
		g, err := s.Store.GroupByName(ctx, w.Group)
		if err != nil {
			return err
		}
		c.Group = g.ID
	}
	what := map[lineage.Kind]string{lineage.Person: "people", lineage.Service: "services", lineage.Client: "clients", lineage.Connection: "trusted issuers", 0: "webhooks"}[w.Kind]
	said := map[string]any{"what": what}
	if w.Group != "" {
		said["what"] = what + " of " + w.Group
	}
	if w.ID != "" {
		said["what"] = w.ID
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.RestoreRelease, Kind: audit.Released, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{c}, Parts: []audit.Part{{Body: said}}}, nil
		},
	})
	return err
}

// ReplaceKeys withdraws every key but the log's at once, and makes new ones, in one
// act: for when they may have been stolen. What the old ones signed is refused from
// then on, by this server and by every enforcement point that hears the feed.
// signOut withdraws the keys of refresh tokens, too, and ends everything issued.
func (s *State) ReplaceKeys(ctx context.Context, signOut bool) (withdrawn int, err error) {
	add, withdraw, err := s.Ring.Replacement(signOut)
	if err != nil {
		return 0, err
	}
	var list []act.Change
	var kids []string
	for _, w := range withdraw {
		list, kids = append(list, w), append(kids, w.ID)
	}
	for _, a := range add {
		list = append(list, a)
	}
	if signOut {
		list = append(list, store.EndIssued{Why: "keys_replaced"})
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.KeysReplace, Kind: audit.KeysReplaced, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: list, Parts: []audit.Part{{Body: map[string]any{"withdrawn": kids}}}}, nil
		},
	})
	if err != nil {
		return 0, err
	}
	return len(withdraw), s.Ring.Reload(ctx)
}
