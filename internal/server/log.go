package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// readEpoch finds the log's epoch that grows, and its name: that of the issuer
// under which it was first signed, which it keeps when the issuer is renamed;
// whoever pinned its key goes on verifying.
func (s *State) readEpoch(ctx context.Context) error {
	list, err := s.epochs(ctx)
	if err != nil {
		return err
	}
	s.tree = list[len(list)-1]
	return nil
}

// epochs lists the log's epochs, each with its name.
func (s *State) epochs(ctx context.Context) ([]store.Epoch, error) {
	list, err := s.Store.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Origin == "" {
			if list[i].Origin, err = audit.Origin(s.Config.Issuer, list[i].N); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// Origin is the origin of the log's epoch that grows (mechanisms E8).
func (s *State) Origin() (string, error) { return s.tree.Origin, nil }

// VerificationKey is the log's public key in note form, to be pinned: that of the
// epoch that grows.
func (s *State) VerificationKey() (string, error) { return s.vkey(s.tree.Origin) }

func (s *State) vkey(origin string) (string, error) {
	k, err := s.Ring.LogKey()
	if err != nil {
		return "", err
	}
	return audit.VKey(origin, k.Public().(ed25519.PublicKey))
}

// Sequencer gives the loop that numbers records and signs checkpoints. kept and
// grown may be nil.
func (s *State) Sequencer(kept func(size uint64, note []byte), grown func(size uint64)) (*store.Sequencer, error) {
	key, err := s.Ring.LogKey()
	if err != nil {
		return nil, err
	}
	signer, err := audit.NewCheckpointSigner(s.tree.Origin, key)
	if err != nil {
		return nil, err
	}
	return s.Store.Sequencer(store.SequencerOptions{
		Origin: s.tree.Origin, Epoch: s.tree.N, Log: s.log, Kept: kept, Grown: grown,
		Known: func(context.Context) ([]store.KnownCheckpoint, error) { return s.knownBeside() },
		Sign: func(origin string, size uint64, root [32]byte) ([]byte, error) {
			return audit.SignCheckpoint(signer, origin, size, root)
		},
	}), nil
}

// checkpointFile is the side file of the newest checkpoint.
func (s *State) checkpointFile() string { return filepath.Join(s.Config.DataDir, "checkpoint") }

// knownBeside reads the checkpoint beside the database: nothing is signed that does
// not extend it (mechanisms E8).
func (s *State) knownBeside() ([]store.KnownCheckpoint, error) {
	text, err := os.ReadFile(s.checkpointFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k, err := s.Known(text, s.checkpointFile())
	if err != nil {
		return nil, err
	}
	return []store.KnownCheckpoint{k}, nil
}

// Known reads a checkpoint of this log, of any epoch, and checks the log's
// signature. where says in words where it is from.
func (s *State) Known(text []byte, where string) (store.KnownCheckpoint, error) {
	origin, _, _ := bytes.Cut(text, []byte("\n"))
	at := strings.LastIndex(string(origin), "/log/")
	if at < 0 {
		return store.KnownCheckpoint{}, fmt.Errorf("%s is not a checkpoint of this log", where)
	}
	n, err := strconv.ParseUint(string(origin[at+len("/log/"):]), 10, 63)
	if err != nil || n == 0 {
		return store.KnownCheckpoint{}, fmt.Errorf("%s is not a checkpoint of this log", where)
	}
	key, err := s.vkey(string(origin))
	if err != nil {
		return store.KnownCheckpoint{}, fmt.Errorf("%s is not a checkpoint of this log: %w", where, err)
	}
	_, size, root, err := audit.VerifyCheckpoint(text, key)
	if err != nil {
		return store.KnownCheckpoint{}, fmt.Errorf("%s does not hold: %w", where, err)
	}
	return store.KnownCheckpoint{Where: where, Epoch: n, Size: size, Root: root}, nil
}

// OpenEpoch closes the epoch of the log that grows and opens the next one
// (mechanisms E12), because the log does not extend a checkpoint of its own: after a
// restore, or a failover that lost what was acknowledged. last is that checkpoint,
// the largest that is known, of whatever epoch; nil if none is at hand. more are
// changes that belong to the same act. The old name is never signed again. Whatever
// else works on the database has to be started again; so has this state's server, if
// it was made already.
func (s *State) OpenEpoch(ctx context.Context, last []byte, as act.Refs, more ...act.Change) error {
	open, part, err := s.nextEpoch(ctx, last)
	if err != nil {
		return err
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.LogOpen, Kind: audit.LogOpened, Refs: as,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: append([]act.Change{open}, more...), Parts: []audit.Part{part}}, nil
		},
	})
	if err != nil {
		return err
	}
	s.epoch = int64(open.N)
	return s.readEpoch(ctx)
}

// nextEpoch is the change that opens the next epoch, and what its first entry says:
// what the log was found to be, and the last checkpoint of the old epoch that was
// known.
func (s *State) nextEpoch(ctx context.Context, last []byte) (store.OpenEpoch, audit.Part, error) {
	size, root, err := s.Store.Head(ctx)
	if err != nil {
		return store.OpenEpoch{}, audit.Part{}, err
	}
	open := store.OpenEpoch{After: s.tree.N, Size: size, N: s.tree.N + 1}
	said := audit.Opened{Closed: s.tree.Origin, Size: size, Root: root, Last: string(last)}
	if last != nil {
		k, err := s.Known(last, "the last known checkpoint")
		if err != nil {
			return open, audit.Part{}, problem.New(problem.Invalid, "checkpoint_invalid", "That is not a checkpoint that this deployment signed.").Because(err)
		}
		open.N = max(open.N, k.Epoch+1)
	}
	if open.Origin, err = audit.Origin(s.Config.Issuer, open.N); err != nil {
		return open, audit.Part{}, err
	}
	said.Origin = open.Origin
	return open, said.Part(), nil
}
