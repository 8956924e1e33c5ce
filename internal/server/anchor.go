package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// anchor is what the side file remembers of a deployment (mechanisms I9). A database
// that is put back without it is noticed at the next start; one that is put back
// with it is noticed by what is kept elsewhere.
type anchor struct {
	Deployment  string    `json:"deployment"`
	Epoch       int64     `json:"epoch"`
	HW          uint64    `json:"hw"` // size of the log
	Checkpoint  string    `json:"checkpoint,omitempty"`
	FeedSeq     uint64    `json:"feed_seq"`
	RevokedKids []string  `json:"revoked_kids,omitempty"`
	SetUp       bool      `json:"setup"`
	At          time.Time `json:"at"`

	Database *store.Place `json:"database,omitempty"` // of PostgreSQL
}

// maxAnchor bounds the side file that is read.
const maxAnchor = 1 << 20

func (s *State) anchorFile() string { return filepath.Join(s.Config.DataDir, "anchor.json") }

// keepAnchor writes the side file. In quarantine it stays as it is: it says what was.
func (s *State) keepAnchor(ctx context.Context) error {
	if s.Quarantined() != "" {
		return nil
	}
	d, err := s.Store.Deployment(ctx)
	if err != nil {
		return err
	}
	a := anchor{Deployment: d.ID, Epoch: d.Epoch, RevokedKids: s.Ring.Withdrawn(time.Time{}), At: s.now().UTC()}
	if a.HW, _, err = s.Store.Head(ctx); err != nil {
		return err
	}
	if a.FeedSeq, err = s.Store.RevocationHead(ctx); err != nil {
		return err
	}
	_, text, err := s.Store.LastCheckpoint(ctx)
	if err != nil && !errors.Is(err, problem.NotFound) {
		return err
	}
	a.Checkpoint = string(text)
	done, err := s.Store.SetUp(ctx)
	if err != nil {
		return err
	}
	a.SetUp = done.Done
	if place, ok := s.Store.DatabasePlace(); ok {
		a.Database = &place
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return file.Replace(s.anchorFile(), append(b, '\n'), 0o600)
}

// readAnchor reads the side file; ok is false if there is none.
func (s *State) readAnchor() (a anchor, ok bool, err error) {
	f, err := os.Open(s.anchorFile())
	if errors.Is(err, os.ErrNotExist) {
		return anchor{}, false, nil
	}
	if err != nil {
		return anchor{}, false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAnchor))
	if err != nil {
		return anchor{}, false, err
	}
	a, err = parseAnchor(b)
	if err != nil {
		return anchor{}, false, fmt.Errorf("%s: %w", s.anchorFile(), err)
	}
	return a, true, nil
}

// parseAnchor reads the text of a side file. An error comes with no value.
func parseAnchor(b []byte) (anchor, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var a anchor
	if err := dec.Decode(&a); err != nil {
		return anchor{}, fmt.Errorf("it is not what a server wrote: %w", err)
	}
	if a.Deployment == "" || a.Epoch < 1 {
		return anchor{}, errors.New("it is not what a server wrote: it names no deployment")
	}
	return a, nil
}

// checkAnchor compares the database with the side file before anything is served
// (mechanisms I7). A file that is missing beside an embedded database that was
// served counts as ahead, unless the checkpoint that is kept beside it agrees; on
// PostgreSQL the file is each replica's own affair.
func (s *State) checkAnchor(ctx context.Context) error {
	d, err := s.Store.Deployment(ctx)
	if err != nil {
		return err
	}
	a, ok, err := s.readAnchor()
	switch {
	case err != nil:
		return err
	case ok && a.Deployment != d.ID:
		return fmt.Errorf("%s is of another deployment: this data_dir, or this database, is in the wrong place", s.anchorFile())
	case ok:
		if err := s.comparePlace(ctx, a.Database); err != nil {
			return err
		}
		_, err := s.Remembered(ctx, store.Anchor{By: store.ByFile, Epoch: a.Epoch, HW: a.HW, Kids: a.RevokedKids})
		return err
	case s.Store.Engine() != "sqlite":
		return nil
	}
	size, _, err := s.Store.LastCheckpoint(ctx)
	if errors.Is(err, problem.NotFound) {
		return nil // it was never served
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.checkpointFile()); err == nil {
		return nil // nothing is signed that does not extend it
	}
	return s.Quarantine(ctx, "the side file "+s.anchorFile()+" is missing: nobody knows how far this database has been",
		store.Anchor{By: store.ByFile, Epoch: s.epoch, HW: size}, system())
}

// comparePlace compares where PostgreSQL is with where the side file saw it: a copy of
// its folder that was put back is as it was, only lower.
func (s *State) comparePlace(ctx context.Context, was *store.Place) error {
	now, ok := s.Store.DatabasePlace()
	if !ok || was == nil {
		return nil
	}
	why := was.Behind(now)
	if why == "" {
		return nil
	}
	size, _, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	return s.Quarantine(ctx, why, store.Anchor{By: store.ByDatabase, Epoch: s.epoch, HW: size + 1}, system()) // something is missing
}

// tendAnchor writes the side file every ten seconds.
func (s *Server) tendAnchor(ctx context.Context) {
	keep := func(ctx context.Context) {
		if err := s.keepAnchor(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("keep the side file", "err", err)
		}
	}
	keep(ctx)
	every(ctx, 10*time.Second, keep)
}
