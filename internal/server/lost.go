package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/policy"
)

// lostWithin is how long before a process died its answers may have been lost
// (mechanisms D9).
const lostWithin = 5 * time.Second

// lostBatch is how many families one act is about.
const lostBatch = 1000

// cleanMarker is the side file of a server on SQLite that ended in good order:
// every answer was sent.
func (s *State) cleanMarker() string { return filepath.Join(s.Config.DataDir, "clean-stop") }

// keepLost looks whether whoever served before died, and if so keeps open the
// windows of what was rotated just before: those clients may never have got their
// answer (mechanisms D9). It reports whether that is settled: on PostgreSQL the
// lease of whoever was killed a moment ago still runs, and only its end tells a
// dead holder from a live replica. Until then the ordinary window of the same
// network, which is longer than a lease, answers the clients, so that serving
// need not wait. A server that cannot do it serves all the same: the clients sign
// in again.
func (s *Server) keepLost(ctx context.Context) (settled bool) {
	died, settled, err := s.died(ctx)
	if err == nil && died {
		err = s.extendLost(ctx, s.pulse.Last())
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("keep the windows of answers that were lost", "err", err)
	}
	return settled || err != nil
}

// sequence runs the sequencer, once it is settled who held its lease: taking it
// would hide whether the holder died.
func (s *Server) sequence(settled bool) func(context.Context) {
	return func(ctx context.Context) {
		for ; !settled; settled = s.keepLost(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		s.seq.Run(ctx)
	}
}

// died reports whether the process that was last alive on this database ended
// without being told to, and none is alive now. settled is false while that
// cannot be told yet.
func (s *Server) died(ctx context.Context) (died, settled bool, err error) {
	if s.Store.Engine() == "sqlite" { // this is the only process that serves
		err := os.Remove(s.cleanMarker())
		if errors.Is(err, os.ErrNotExist) {
			return !s.pulse.Last().IsZero(), true, nil
		}
		if err == nil { // else a power cut could bring the marker back
			err = file.SyncDir(s.Config.DataDir)
		}
		return false, true, err
	}
	// Any replica may hold the lease; the last one to end in good order gives it
	// back. One that is held is renewed before it runs out, or its holder is dead.
	if s.pulse.Until.IsZero() {
		return false, true, nil
	}
	p, err := s.Store.Pulse(ctx)
	if err != nil || p.Holder != s.pulse.Holder || !p.Until.Equal(s.pulse.Until) {
		return false, true, err
	}
	died = p.Until.Before(s.now())
	return died, died, nil
}

// extendLost gives the long window to every family that was rotated at most
// lostWithin before the last sign of life. It counts from the rotation, like
// every window.
func (s *Server) extendLost(ctx context.Context, last time.Time) error {
	since := last.Add(-lostWithin)
	for after := ""; ; {
		list, err := s.Store.RotatedSince(ctx, since, after, lostBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		_, err = s.Do.Do(ctx, act.Intent{
			Action: policy.RefreshLost, Kind: audit.RefreshLost, Refs: system(),
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				e := act.Effect{Parts: []audit.Part{{Body: map[string]any{"families": len(list), "since": since.UTC().Format(time.RFC3339), "why": "the server was killed"}}}}
				for _, f := range list {
					e.Changes = append(e.Changes, grant.Lost{ID: f.ID, Gen: f.Gen, NetUntil: f.RotatedAt.Add(grant.WindowLost)})
				}
				return e, nil
			},
		})
		if err != nil {
			return err
		}
		after = list[len(list)-1].ID
	}
}

// stopped marks an orderly end.
func (s *Server) stopped() {
	if s.Store.Engine() != "sqlite" {
		return
	}
	if err := file.Replace(s.cleanMarker(), []byte(s.now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		s.log.Warn("mark the orderly end", "err", err)
	}
}
