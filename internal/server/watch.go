package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// What a process says of its own records and checks of them (mechanisms E3, E7).
const (
	beatEvery  = 10 * time.Second // between two words of a process that writes
	lostAfter  = 30 * time.Second // silence after which a process is lost
	seenWithin = 30 * time.Second // in which a record must be under a checkpoint
	soughtFor  = 5 * time.Second  // after which a record that is not is looked for
)

// watch is how a server follows the log for what it wrote.
type watch struct {
	follower *audit.Follower
	started  bool
	late     atomic.Pointer[error] // records are not under a checkpoint in time
	lost     atomic.Pointer[error] // records are gone or changed, or the log is another: for good
	told     map[uint64]bool       // numbers that the log was told of
}

// Err is why the server is not ready: what it wrote is not in the log as it wrote it.
func (w *watch) Err() error {
	for _, p := range []*atomic.Pointer[error]{&w.lost, &w.late} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return nil
}

func (w *watch) lose(err error) { w.lost.CompareAndSwap(nil, &err) }

// watchLog follows the log's checkpoints, gives signs of life, vouches for what this
// process wrote, and notices processes that are gone.
func (s *Server) watchLog(ctx context.Context) {
	warn := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.log.Warn(what, "err", err)
		}
	}
	ticks := 0
	every(ctx, time.Second, func(ctx context.Context) {
		ticks++
		warn("follow the log", s.follow(ctx))
		warn("look for records in doubt", s.resolve(ctx, seenWithin))
		if s.Do.Writer.Due() || ticks%int(beatEvery/time.Second) == 0 {
			warn("vouch for what was written", s.beat(ctx))
		}
		if ticks%int(beatEvery/time.Second) == 0 {
			warn("give a sign of life", s.Store.KeepAlive(ctx, s.Do.Writer.ID()))
		}
		if ticks%5 == 0 && s.seq.Holds() {
			warn("look for processes that are gone", s.loseSilent(ctx, s.now().Add(-lostAfter)))
		}
	})
}

// follow goes to the newest checkpoint, sees what of this process is under it, and
// looks for what is not (mechanisms E7).
func (s *Server) follow(ctx context.Context) error {
	w := &s.watch
	if w.follower == nil {
		vkey, err := s.VerificationKey()
		if err != nil {
			return err
		}
		w.follower, w.told = audit.NewFollower(vkey), make(map[uint64]bool)
	}
	log := s.Store.EpochLog(s.tree)
	if !w.started && s.seen != nil {
		if err := w.follower.Start(ctx, log, s.seen); err != nil {
			return w.rewritten(err)
		}
	}
	w.started = true
	_, text, err := s.Store.LastCheckpoint(ctx)
	if err == nil {
		err = w.follower.Follow(ctx, log, text, s.Do.Writer.Saw)
	}
	if err != nil && !errors.Is(err, problem.NotFound) {
		return w.rewritten(err)
	}
	return s.seek(ctx)
}

// rewritten keeps the error of a log that is another one than this process saw.
func (w *watch) rewritten(err error) error {
	if errors.Is(err, audit.ErrRewritten) {
		w.lose(err)
	}
	return err
}

// seek looks for committed records of this process that no checkpoint covers.
func (s *Server) seek(ctx context.Context) error {
	if s.Quarantined() != "" { // nothing is signed
		s.watch.late.Store(nil)
		return nil
	}
	now := s.now()
	list, over := s.Do.Writer.Unseen(now.Add(-soughtFor), 100)
	found, err := s.Store.Find(ctx, list)
	if err != nil {
		return err
	}
	late := 0
	var lost []store.Sought
	for _, f := range found {
		switch {
		case !f.There, !f.Same:
			lost = append(lost, f)
		case f.Own.At.Before(now.Add(-seenWithin)):
			late++
		}
	}
	var why *error
	if late > 0 || over > 0 {
		err := fmt.Errorf("the audit log does not cover records of this process after %s: %d of them, and %d that were too many to keep in mind", seenWithin, late, over)
		why = &err
	}
	s.watch.late.Store(why)
	if len(lost) == 0 {
		return nil
	}
	return s.tellLost(ctx, lost)
}

// tellLost records what became of records of this process, in the log itself.
func (s *Server) tellLost(ctx context.Context, lost []store.Sought) error {
	var said []map[string]any
	var told []uint64
	for _, f := range lost {
		if s.watch.told[f.Own.WSeq] || len(said) == 20 {
			continue
		}
		what := "changed"
		if !f.There {
			what = "missing"
		}
		s.watch.lose(fmt.Errorf("the audit log is not what this process wrote: its record %s is %s", f.Own.ID, what))
		s.log.Error("a record of this process is not in the log as it was written", "record", f.Own.ID, "what", what)
		told = append(told, f.Own.WSeq)
		said = append(said, map[string]any{"record": f.Own.ID, "number": f.Own.WSeq, "leaf": base64.StdEncoding.EncodeToString(f.Own.Leaf[:]), "what": what})
	}
	if len(said) == 0 {
		return nil
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.AuditSequence, Kind: audit.AuditLost, Refs: system(),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Parts: []audit.Part{{Body: map[string]any{"records": said}}}}, nil
		},
	})
	if err == nil {
		for _, n := range told {
			s.watch.told[n] = true
		}
	}
	return err
}

// resolve asks the database for records of which it did not say whether they were
// committed. Those that are not there after a time may still come, for all that this
// process can know.
func (s *State) resolve(ctx context.Context, after time.Duration) error {
	found, err := s.Store.Find(ctx, s.Do.Writer.Doubts(500))
	if err != nil {
		return err
	}
	for _, f := range found {
		switch {
		case f.There:
			s.Do.Writer.Resolve(f.Own, audit.Committed)
		case f.Own.At.Before(s.now().Add(-after)):
			s.Do.Writer.Resolve(f.Own, audit.Unknown)
		}
	}
	return nil
}

// beat vouches for what this process wrote (mechanisms E3).
func (s *State) beat(ctx context.Context) error {
	for {
		b, ok := s.Do.Writer.Beat()
		if !ok {
			return nil
		}
		if err := s.vouch(ctx, b); err != nil {
			return err
		}
	}
}

func (s *State) vouch(ctx context.Context, b audit.Beat) error {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.AuditSequence, Kind: audit.WriterBeat, Refs: system(),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			e := act.Effect{Parts: []audit.Part{b.Part()}}
			if b.Closing {
				e.Changes = []act.Change{store.CloseWriter{ID: b.Writer}}
			}
			return e, nil
		},
	})
	if err == nil {
		s.Do.Writer.Beaten()
	}
	return err
}

// closeWriter vouches for all that this process wrote, and says that it ends. What
// is still under way then leaves the end open: the process is lost.
func (s *State) closeWriter(ctx context.Context) error {
	if s.closed || s.Do == nil || s.Do.Writer.Attempts() == 0 {
		return nil
	}
	if err := s.resolve(ctx, 0); err != nil {
		return err
	}
	if s.Do.Writer.Due() {
		if err := s.beat(ctx); err != nil {
			return err
		}
	}
	b, ok := s.Do.Writer.Close()
	if !ok {
		return errors.New("acts are still under way")
	}
	s.closed = true
	return s.vouch(ctx, b)
}

// loseSilent records the processes that gave no sign of life since a time.
func (s *Server) loseSilent(ctx context.Context, since time.Time) error {
	list, err := s.Store.Silent(ctx, since)
	if err != nil {
		return err
	}
	for _, id := range list {
		if id == s.Do.Writer.ID() {
			continue
		}
		_, err := s.Do.Do(ctx, act.Intent{
			Action: policy.AuditSequence, Kind: audit.WriterLost, Refs: system(),
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{Changes: []act.Change{store.LoseWriter{ID: id, Before: since}}, Parts: []audit.Part{audit.LostPart(id)}}, nil
			},
		})
		if err != nil && !errors.Is(err, problem.Conflict) {
			return err
		}
	}
	return nil
}
