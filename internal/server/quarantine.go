package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// Quarantine (mechanisms I6 to I11). A database that has gone back in time would
// revive whatever was revoked, removed or used since. So the deployment's own node
// is frozen, which every act guards: policy then answers only the operator and the
// server itself, the routes answer nobody, and the log's old name signs nothing.
//
// Whatever learns that the deployment has been farther than its database is calls
// Remembered. What ends a quarantine moves the epoch, and a running server that
// sees another epoch than it began with ends, to be started anew.

// ErrEpoch says that the deployment has begun another epoch: open it anew.
var ErrEpoch = errors.New("the deployment has begun a new epoch, with new names for its log and feed")

// standing is what a running server goes by between two looks at the database.
type standing struct {
	quarantined bool
	why         string
}

// Epoch is the restore epoch that this process opened the deployment in; the log
// and the feed go by it.
func (s *State) Epoch() int64 { return s.epoch }

// look reads whether the deployment is in quarantine, and whether it still is in
// the epoch that it was opened in. One that is not is opened anew: until then this
// server holds the keys and the log of the epoch before, and stays as it stood.
func (s *State) look(ctx context.Context) error {
	d, err := s.Store.Deployment(ctx)
	if err != nil {
		return err
	}
	if d.Epoch != s.epoch {
		return ErrEpoch
	}
	now := &standing{quarantined: !d.Quarantined.IsZero(), why: d.Why}
	if was := s.standing.Swap(now); now.quarantined && (was == nil || !was.quarantined) {
		s.log.Error("the database has gone back in time: in quarantine, nothing is issued", "why", d.Why, "next", "countersignd quarantine status")
	}
	return s.readPolicy(ctx)
}

// lookAtKeys reads the keys again when another process has replaced some: what was
// withdrawn works nowhere within a second. It reports whether there was news.
func (s *State) lookAtKeys(ctx context.Context) (bool, error) {
	now, err := s.Store.KeysVersion(ctx)
	if err != nil || now == s.keys.Swap(now) {
		return false, err
	}
	return true, s.Ring.Reload(ctx)
}

// Quarantined says why nothing is issued; "" if all is well.
func (s *State) Quarantined() string {
	if st := s.standing.Load(); st != nil && st.quarantined {
		return st.why
	}
	return ""
}

// Remembered tells of something outside the database that remembers how far this
// deployment has been. If that is farther than the database is, the deployment goes
// into quarantine; ahead reports it. Whoever calls MUST have checked that the
// anchor is genuine: anybody can name a number.
func (s *State) Remembered(ctx context.Context, a store.Anchor) (ahead bool, err error) {
	size, _, err := s.Store.Head(ctx) // of the epoch, like every anchor's
	if err != nil || !a.Ahead(s.epoch, size) {
		return false, err
	}
	what := map[string]string{
		store.ByFile: "the side file", store.ByWitness: "a witness", store.ByFeed: "an enforcement point",
		store.ByRefresh: "a refresh token", store.ByDatabase: "PostgreSQL",
	}[a.By]
	why := fmt.Sprintf("%s has seen %d records in epoch %d, the database has %d in epoch %d", what, a.HW, a.Epoch, size, s.epoch)
	return true, s.Quarantine(ctx, why, a, system())
}

// Quarantine puts the deployment into quarantine, and keeps what was seen. One that
// is in quarantine stays, and learns what else was seen. more are changes of the same
// act.
func (s *State) Quarantine(ctx context.Context, why string, a store.Anchor, as act.Refs, more ...act.Change) error {
	seen, err := s.Store.Seen(ctx)
	if err != nil {
		return err
	}
	if s.Quarantined() != "" && !a.Ahead(seen.Epoch, seen.HW) && !slices.ContainsFunc(a.Kids, func(k string) bool { return !slices.Contains(seen.Kids, k) }) {
		return nil
	}
	far := farthest(seen, a)
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.QuarantineEnter, Kind: audit.QuarantineEntered, Refs: as,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: append([]act.Change{store.Quarantine{Why: why, Seen: far}}, more...),
				Parts:   []audit.Part{{Body: map[string]any{"reason": why, "seen": far.HW, "epoch": far.Epoch, "by": far.By}}},
			}, nil
		},
	})
	if err != nil {
		return err
	}
	if err := s.look(ctx); !errors.Is(err, ErrEpoch) {
		return err
	}
	return nil
}

// farthest joins what two anchors know.
func farthest(a, b store.Anchor) store.Anchor {
	kids := slices.Concat(a.Kids, b.Kids)
	slices.Sort(kids)
	if b.Ahead(a.Epoch, a.HW) || a.By == "" {
		a = b
	}
	a.Kids = slices.Compact(kids)
	return a
}

// watchStanding looks at the database twice a second, for what another process
// found or did. moved is called once this server is to end and be opened anew: the
// deployment is in another epoch, or its database has gone back.
func (s *Server) watchStanding(ctx context.Context, moved func(error)) {
	every(ctx, 500*time.Millisecond, func(ctx context.Context) {
		err := s.look(ctx)
		if err == nil {
			err = s.lookAtPlace(ctx)
		}
		switch {
		case gone(err) != nil:
			moved(gone(err))
		case errors.Is(err, ErrEpoch):
			moved(err)
		case err != nil && ctx.Err() == nil:
			s.log.Warn("look whether the deployment is in quarantine", "err", err)
		}
		news, err := s.lookAtKeys(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("look whether keys were replaced", "err", err)
		}
		if news {
			s.hub.Rekey()
		}
	})
}

// tellWithdrawn is for how long the feed names a key that was withdrawn: longer than
// anybody keeps a published set of keys.
const tellWithdrawn = 25 * time.Hour

// mark says how far the log has come, sealed under the key-encryption key: only this
// deployment can make one and read it, and it outlives the rotation of every key that
// signs, so that a restored backup knows it for its own (mechanisms I7).
func (s *State) mark(ctx context.Context) (uint64, string, error) {
	size, _, err := s.Store.Head(ctx)
	if err != nil {
		return 0, "", err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(s.epoch))
	plain = binary.BigEndian.AppendUint64(plain, size)
	sealed, err := s.Sealer.Seal(plain, []byte(canon.LabelFeedMark))
	return size, base64.RawURLEncoding.EncodeToString(sealed), err
}

// seenMark looks at a mark that an enforcement point gives back. One that is not ours
// is nothing. If it is ahead of the database, nothing is answered any more.
func (s *State) seenMark(ctx context.Context, mark string) error {
	sealed, err := base64.RawURLEncoding.DecodeString(mark)
	if err != nil {
		return nil
	}
	plain, err := s.Sealer.Open(sealed, []byte(canon.LabelFeedMark))
	if err != nil || len(plain) != 16 {
		return nil
	}
	ahead, err := s.Remembered(ctx, store.Anchor{
		By: store.ByFeed, Epoch: int64(binary.BigEndian.Uint64(plain)), HW: binary.BigEndian.Uint64(plain[8:]),
	})
	if err == nil && ahead {
		err = errQuarantine
	}
	return err
}

// refreshAhead is told of a genuine refresh token of a generation that the database
// has not come to (mechanisms I13). It does something at most once an hour.
func (s *State) refreshAhead(ctx context.Context) error {
	last, ok, err := s.Store.Fact(ctx, store.FactAhead)
	if err != nil || ok && s.now().Sub(last.At) < time.Hour {
		return err
	}
	size, _, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	a := store.Anchor{By: store.ByRefresh, Epoch: s.epoch, HW: size + 1} // at least what made it is missing
	return s.Quarantine(ctx, "a genuine refresh token is newer than the database", a, system(), store.Keep{Name: store.FactAhead})
}

// errQuarantine is what every route answers in quarantine.
var errQuarantine = func() *problem.Error {
	p := problem.New(problem.Unavailable, policy.CodeQuarantine, "This server's data was restored from a backup and is being checked. Until its operator is done, it answers nobody.").
		WithHint("Try again later. Its operator sees more with: countersignd quarantine status")
	p.RetryAfter = time.Minute
	return p
}()

// shut says why a path is answered with an error: the deployment is in quarantine,
// or the clock is wrong. What pages are made of is always there; a wrong clock
// changes nothing of metadata and keys, with which tokens are verified elsewhere.
func (s *Server) shut(path string) *problem.Error {
	switch {
	case strings.HasPrefix(path, "/static/"):
		return nil
	case s.Quarantined() != "":
		return errQuarantine
	case strings.HasPrefix(path, "/.well-known/"), path == "/oauth/jwks":
		return nil
	}
	return s.clock.problem()
}

// released lets nothing through while the deployment is shut.
func (s *Server) released(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := s.shut(r.URL.Path)
		if p == nil {
			next.ServeHTTP(w, r)
			return
		}
		switch path := r.URL.Path; {
		case path == "/v1" || strings.HasPrefix(path, "/v1/"):
			s.admin.Render(w, r, p)
		case strings.HasPrefix(path, "/access/"):
			w.Header().Set("Retry-After", "60")
			s.pdp.Render(w, r, p)
		case isAPI(path):
			w.Header().Set("Retry-After", "60")
			s.renderAPI(w, r, p)
		default:
			w.Header().Set("Retry-After", "60")
			s.portal.RenderError(w, r, p)
		}
	})
}
