package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/quorum"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/witness"
)

// How the log is shown to others (mechanisms E11).
const (
	witnessEvery = time.Minute
	witnessTime  = 15 * time.Second // for one witness, each time
	keeperTime   = 90 * time.Second // for one place where checkpoints are kept
	startTime    = 5 * time.Second  // how long a start waits for all of them
)

// outsiders are the witnesses of the configuration and the places where checkpoints
// are kept.
type outsiders struct {
	policy  *quorum.Policy // nil: none
	client  *witness.Client
	keepers []witness.Keeper

	mu    sync.Mutex
	known map[string]uint64 // what each witness knows, as far as this process knows
	state map[string]Outsider
	news  chan struct{} // closed and renewed after each round
	ask   chan struct{}
}

// Outsider is what is known of a witness, or of a place where checkpoints are kept.
type Outsider struct {
	Name    string
	Witness bool
	Size    uint64    // of the newest checkpoint that it has
	At      time.Time // as of
	Fault   string    // why the last try failed; "" if it did not
}

// readOutsiders reads who watches the log out of the configuration.
func (s *State) readOutsiders() (*outsiders, error) {
	o := &outsiders{known: map[string]uint64{}, state: map[string]Outsider{}, news: make(chan struct{}), ask: make(chan struct{}, 1)}
	c := s.Config.Witness
	if c.PolicyFile != "" {
		text, err := os.ReadFile(c.PolicyFile)
		if err == nil {
			o.policy, err = quorum.Parse(text)
		}
		if err != nil {
			return nil, fmt.Errorf("witness.policy_file: %w", err)
		}
	}
	egress, err := s.Egress()
	if err != nil {
		return nil, err
	}
	egress.Timeout, egress.MaxBytes = witnessTime, 64<<10
	o.client = &witness.Client{HTTP: egress.Client(), Now: s.now}
	for _, path := range c.Files {
		o.keepers = append(o.keepers, witness.File{Path: path})
	}
	for i, remote := range c.Git {
		dir := filepath.Join(s.Config.DataDir, fmt.Sprintf("checkpoints-%d.git", i+1))
		o.keepers = append(o.keepers, witness.Git{Remote: remote, Dir: dir})
	}
	return o, nil
}

// witnesses are those that the log is submitted to: with a URL.
func (o *outsiders) witnesses() (out []quorum.Witness) {
	if o.policy == nil {
		return nil
	}
	for _, w := range o.policy.Witnesses {
		if w.URL != "" {
			out = append(out, w)
		}
	}
	return out
}

func (o *outsiders) any() bool { return len(o.witnesses()) > 0 || len(o.keepers) > 0 }

// note keeps what became of a try.
func (o *outsiders) note(name string, isWitness bool, size uint64, at time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.state[name]
	st.Name, st.Witness, st.Fault = name, isWitness, ""
	if err != nil {
		st.Fault = err.Error()
	} else {
		st.Size, st.At = size, at
	}
	o.state[name] = st
}

// showLog shows the newest checkpoint to everybody outside, at the start, each minute
// and when asked to.
func (s *Server) showLog(ctx context.Context) {
	t := time.NewTicker(witnessEvery)
	defer t.Stop()
	var said uint64
	if s.outside.any() {
		s.round(ctx)
	}
	for {
		if s.seq.Holds() || said == 0 {
			said = s.sayCheckpoint(ctx, said)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.outside.ask:
			s.round(ctx)
		case <-t.C:
			if s.seq.Holds() {
				s.round(ctx)
			}
		}
	}
}

// sayCheckpoint writes the checkpoint into the process log when nobody outside keeps
// it: what collects logs keeps it then.
func (s *Server) sayCheckpoint(ctx context.Context, said uint64) uint64 {
	if s.outside.any() {
		return 1
	}
	size, text, err := s.Store.LastCheckpoint(ctx)
	if err != nil || size == said {
		return said
	}
	s.log.Info("checkpoint", "size", size, "note", string(text))
	return size
}

// round shows the newest checkpoint to all once.
func (s *Server) round(ctx context.Context) {
	size, text, err := s.Store.LastCheckpoint(ctx)
	if err != nil {
		if !errors.Is(err, problem.NotFound) && ctx.Err() == nil {
			s.log.Warn("read the newest checkpoint", "err", err)
		}
		return
	}
	if s.Quarantined() != "" {
		return
	}
	var wg sync.WaitGroup
	for _, w := range s.outside.witnesses() {
		wg.Go(func() {
			at, err := s.submit(ctx, w, size, text)
			s.outside.note(w.Name, true, size, at, err)
			s.shown("a witness did not cosign", w.Name, err)
		})
	}
	for _, k := range s.outside.keepers {
		wg.Go(func() {
			err := s.keep(ctx, k, text)
			s.outside.note(k.Name(), false, size, s.now(), err)
			s.shown("a checkpoint was not kept", k.Name(), err)
		})
	}
	wg.Wait()
	o := s.outside
	o.mu.Lock()
	close(o.news)
	o.news = make(chan struct{})
	o.mu.Unlock()
}

func (s *Server) shown(what, name string, err error) {
	if err != nil {
		s.log.Warn(what, "name", name, "err", err)
	}
}

// submit gets a witness's cosignature on a checkpoint and keeps it.
func (s *Server) submit(ctx context.Context, w quorum.Witness, size uint64, text []byte) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	c, err := s.ask(ctx, s.outside, w, size, text)
	var ahead *witness.AheadError
	if errors.As(err, &ahead) || errors.Is(err, witness.ErrForked) {
		err = errors.Join(err, s.heard(ctx, w))
	}
	if err != nil {
		return time.Time{}, err
	}
	return c.At, s.Store.KeepCosignature(ctx, s.tree.N, size, c.Key.String(), c.At, c.Line)
}

// ask submits a checkpoint to a witness.
func (s *State) ask(ctx context.Context, o *outsiders, w quorum.Witness, size uint64, text []byte) (quorum.Cosignature, error) {
	log := s.Store.EpochLog(s.tree)
	o.mu.Lock()
	old := min(o.known[w.Name], size)
	o.mu.Unlock()
	c, err := o.client.Add(ctx, w, text, size, old, func(ctx context.Context, old uint64) ([][32]byte, error) {
		return audit.Consistency(ctx, log, old, size)
	})
	if err == nil {
		o.mu.Lock()
		o.known[w.Name] = size
		o.mu.Unlock()
	}
	return c, err
}

// heard asks a witness that has seen another log for what it has. A number of a
// witness's proves nothing; a checkpoint with this log's signature does.
func (s *Server) heard(ctx context.Context, w quorum.Witness) error {
	text, err := s.outside.client.Last(ctx, w, s.tree.Origin)
	if err != nil || text == nil {
		return err
	}
	return s.compare(ctx, "witness "+w.Name, text)
}

// compare holds a checkpoint from outside against the log. If the log does not extend
// it, it is signed no more, and the deployment goes into quarantine (mechanisms I7).
func (s *Server) compare(ctx context.Context, where string, text []byte) error {
	k, err := s.Known(text, where)
	if err != nil {
		return err
	}
	err = s.Store.CompareKnown(ctx, k)
	var forked *store.Forked
	if !errors.As(err, &forked) {
		return err
	}
	s.seq.Refuse(err)
	a := store.Anchor{By: store.ByWitness, Epoch: int64(k.Epoch), HW: k.Size}
	return errors.Join(err, s.Quarantine(ctx, strings.TrimPrefix(forked.Error(), "store: "), a, system()))
}

// keep puts a checkpoint where checkpoints are kept, unless what is there is not one
// that the log has grown out of.
func (s *Server) keep(ctx context.Context, k witness.Keeper, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTime)
	defer cancel()
	last, err := k.Last(ctx, s.tree.Origin)
	if err != nil {
		return err
	}
	if last != nil {
		if err := s.compare(ctx, k.Name(), last); err != nil {
			return err
		}
	}
	if string(last) == string(text) {
		return nil
	}
	return k.Keep(ctx, s.tree.Origin, text)
}

// compareBeside holds the checkpoint beside the database against the log before
// anything is served.
func (s *Server) compareBeside(ctx context.Context) {
	text, err := os.ReadFile(s.checkpointFile())
	if err == nil {
		err = s.compare(ctx, s.checkpointFile(), text)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Error("compare the log with the checkpoint beside it", "err", err)
	}
}

// compareOutside holds what witnesses have cosigned, and what is kept elsewhere,
// against the log before anything is served: a database that was put back, every file
// beside it with it, serves nobody. Who does not answer in time is asked again later.
func (s *Server) compareOutside(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	compare := func(name string, last func() ([]byte, error)) {
		text, err := last()
		if err == nil && text != nil {
			err = s.compare(ctx, name, text)
		}
		s.shown("compare the log with what is known outside", name, err)
	}
	var wg sync.WaitGroup
	for _, w := range s.outside.witnesses() {
		wg.Go(func() {
			compare("witness "+w.Name, func() ([]byte, error) { return s.outside.client.Last(asking, w, s.tree.Origin) })
		})
	}
	for _, k := range s.outside.keepers {
		wg.Go(func() { compare(k.Name(), func() ([]byte, error) { return k.Last(asking, s.tree.Origin) }) })
	}
	wg.Wait()
}

// Witnessed waits until a checkpoint that covers a record is cosigned as the policy
// asks, and gives it. problem.Unavailable (not_witnessed) if that does not come in
// time, or no policy is configured.
func (s *Server) Witnessed(ctx context.Context, record string) ([]byte, error) {
	late := problem.New(problem.Unavailable, "not_witnessed", "The record is not under a checkpoint that enough witnesses have cosigned.")
	if s.outside.policy == nil || s.outside.policy.None() {
		return nil, late
	}
	for {
		s.outside.mu.Lock()
		news := s.outside.news
		s.outside.mu.Unlock()
		text, err := s.witnessed(ctx, record)
		if err != nil && ctx.Err() != nil {
			return nil, late.Because(err)
		}
		if err != nil || text != nil {
			return text, err
		}
		select {
		case s.outside.ask <- struct{}{}:
		default:
		}
		select {
		case <-news:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, late.Because(ctx.Err())
		}
	}
}

// witnessed is the checkpoint that Witnessed waits for; nil if there is none yet.
func (s *Server) witnessed(ctx context.Context, record string) ([]byte, error) {
	epoch, index, _, err := s.Store.Place(ctx, record)
	if err != nil || index < 0 {
		return nil, err
	}
	log, err := s.Store.EpochAt(ctx, epoch)
	if err != nil {
		return nil, err
	}
	_, text, err := s.outside.covering(ctx, log, uint64(index))
	return text, err
}

// covering finds the smallest of the newest cosigned checkpoints that covers an index
// and has a quorum; nil if there is none.
func (o *outsiders) covering(ctx context.Context, log *store.EpochLog, index uint64) (size uint64, text []byte, err error) {
	if o.policy == nil || o.policy.None() {
		return 0, nil, nil
	}
	list, err := log.Cosigned(ctx, index+1)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range slices.Backward(list) {
		if met, _, err := o.policy.Check(c.Note); err == nil && met {
			return c.Size, c.Note, nil
		}
	}
	return 0, nil, nil
}

// Watchers says who watches the log: each witness and place with what it has, and the
// size and time of the newest checkpoint that has a quorum.
type Watchers struct {
	List   []Outsider
	Quorum bool // one is asked for
	Size   uint64
	At     time.Time
}

// Watched reads who watches the log, from what is stored.
func (s *State) Watched(ctx context.Context) (Watchers, error) {
	o, err := s.readOutsiders()
	if err != nil {
		return Watchers{}, err
	}
	out := Watchers{Quorum: o.policy != nil && !o.policy.None()}
	list, err := s.Store.EpochLog(s.tree).Cosigned(ctx, 0)
	if err != nil {
		return out, err
	}
	seen := map[string]bool{}
	for _, c := range list {
		if o.policy == nil {
			break
		}
		met, by, err := o.policy.Check(c.Note)
		if err != nil {
			return out, err
		}
		if met && out.Quorum && out.At.IsZero() {
			out.Size, out.At = c.Size, c.At
		}
		for _, w := range o.policy.Witnesses {
			i := slices.IndexFunc(by, func(b quorum.Cosignature) bool { return b.Key.String() == w.Key.String() })
			if i >= 0 && !seen[w.Name] {
				seen[w.Name] = true
				out.List = append(out.List, Outsider{Name: w.Name, Witness: true, Size: c.Size, At: by[i].At})
			}
		}
	}
	if o.policy != nil {
		for _, w := range o.policy.Witnesses {
			if !seen[w.Name] {
				out.List = append(out.List, Outsider{Name: w.Name, Witness: true, Fault: "has cosigned nothing yet"})
			}
		}
	}
	for _, k := range o.keepers {
		out.List = append(out.List, s.kept(ctx, k))
	}
	return out, nil
}

func (s *State) kept(ctx context.Context, k witness.Keeper) Outsider {
	out := Outsider{Name: k.Name()}
	text, err := k.Last(ctx, s.tree.Origin)
	if err == nil && text == nil {
		err = errors.New("has none yet")
	}
	var known store.KnownCheckpoint
	if err == nil {
		known, err = s.Known(text, k.Name())
	}
	if err != nil {
		out.Fault = err.Error()
	}
	out.Size = known.Size
	return out
}

// staleAfter is how old the newest witnessed checkpoint may be while the log grows.
const staleAfter = 5 * time.Minute

// unshown finds that somebody outside could not be shown the log for long.
func (s *Server) unshown() (bool, string) {
	o := s.outside
	if !o.any() || !s.seq.Holds() {
		return false, ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, st := range o.state {
		if st.Fault != "" && s.now().Sub(st.At) > staleAfter && s.now().Sub(s.began) > staleAfter {
			return true, st.Name + ": " + st.Fault
		}
	}
	return false, ""
}
