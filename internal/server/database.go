package server

import (
	"context"
	"errors"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
)

// PostgreSQL's own word on where it is (mechanisms I7, I16). The database remembers on
// which server, on which timeline and as which tables it is; one that is recovered
// from a backup, or a standby that is promoted, brings that memory along and does not
// fit it. A server that lives through a promotion, and finds that its newest acts are
// there, says where the database is now; everybody else, and every server where a
// failover may lose, takes it for going back.

// Gone is the error of a server beneath which the database has gone back in time: open
// the deployment anew with Options.Gone, which puts it into quarantine. It is an
// ErrEpoch to errors.Is.
type Gone struct{ Why string }

// Error implements error.
func (g *Gone) Error() string { return "the database has gone back in time: " + g.Why }

// Is implements errors.Is.
func (g *Gone) Is(target error) bool { return target == ErrEpoch }

// gone is err as a *Gone, nil if the database has not gone back.
func gone(err error) *Gone {
	var w *store.WentBack
	if errors.As(err, &w) {
		return &Gone{w.Why}
	}
	return nil
}

// vouchTime is how long a server that starts waits for one that lived through a
// promotion, before it takes that for going back.
const vouchTime = 5 * time.Second

// checkDatabase compares where the database is with where it was, before anything is
// served.
func (s *State) checkDatabase(ctx context.Context) error {
	now, ok := s.Store.DatabasePlace()
	if !ok {
		return nil
	}
	size, _, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	if s.gone != "" {
		return s.Quarantine(ctx, s.gone, store.Anchor{By: store.ByDatabase, Epoch: s.epoch, HW: size + 1}, system()) // something is missing
	}
	for began := time.Now(); ; {
		was, known, err := s.Store.KnownPlace(ctx)
		if err != nil || s.Quarantined() != "" {
			return err
		}
		why := was.Moved(now)
		if !known || why == "" {
			return s.notePlace(ctx)
		}
		if s.Config.Database.AcceptDataLossOnFailover || !was.Promoted(now) || time.Since(began) > vouchTime {
			return s.Quarantine(ctx, why, store.Anchor{By: store.ByDatabase, Epoch: s.epoch, HW: size}, system())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// notePlace has the database remember where it is, on record, if that is news.
func (s *State) notePlace(ctx context.Context) error {
	now, ok := s.Store.DatabasePlace()
	if !ok || s.Quarantined() != "" {
		return nil
	}
	now.Position = 0
	was, known, err := s.Store.KnownPlace(ctx)
	if err != nil || known && was.With(now) == was {
		return err
	}
	said := map[string]any{"to": now.String()}
	if known {
		said["from"] = was.String()
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.DatabaseNote, Kind: audit.DatabaseMoved, Refs: system(),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{store.KeepPlace{Place: now}}, Parts: []audit.Part{{Body: said}}}, nil
		},
	})
	if err == nil && known {
		s.log.Warn("the database moved, and nothing that this server did is missing", "from", was.String(), "to", now.String())
	}
	return err
}

// lookAtPlace says where the database is once this server has seen it move.
func (s *Server) lookAtPlace(ctx context.Context) error {
	now, ok := s.Store.DatabasePlace()
	if !ok || s.placed.Moved(now) == "" && s.placed != (store.Place{}) {
		return nil
	}
	if err := s.notePlace(ctx); err != nil {
		return err
	}
	s.placed = now
	return nil
}

// Dismiss ends a quarantine that began only because the database moved, on the
// operator's word that nothing was lost: PostgreSQL was upgraded, or moved while no
// server ran. Nothing ends. problem.Conflict: not_quarantined, or quarantine_founded
// if something is known to be missing.
func (s *State) Dismiss(ctx context.Context) error {
	if s.Quarantined() == "" {
		return errNotQuarantined
	}
	seen, err := s.Store.Seen(ctx)
	if err != nil {
		return err
	}
	size, _, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	if seen.By != store.ByDatabase || seen.Ahead(s.epoch, size) || len(seen.Kids) > 0 {
		return store.ErrFounded
	}
	now, _ := s.Store.DatabasePlace()
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.QuarantineDismiss, Kind: audit.QuarantineDismissed, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{store.Dismiss{Seen: seen}, store.KeepPlace{Place: now}},
				Parts:   []audit.Part{{Body: map[string]any{"to": now.String()}}},
			}, nil
		},
	})
	if err != nil {
		return err
	}
	return s.look(ctx)
}
