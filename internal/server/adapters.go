package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/feed"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/pdp"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/web"
)

// liveState gives the authorization server what liveness is judged by.
type liveState struct{ *store.Store }

// Issued gives what a token hangs on.
func (l liveState) Issued(ctx context.Context, recordID string) ([]lineage.Node, error) {
	i, err := l.RecordLeaf(ctx, recordID)
	if err != nil {
		return nil, err
	}
	if len(i.Nodes) == 0 {
		return nil, problem.New(problem.NotFound, "token_unknown", "No such token was issued.")
	}
	return i.Nodes, nil
}

// Leaf gives the node that a token hangs on, and all above it.
func (l liveState) Leaf(ctx context.Context, recordID string) (string, []lineage.Node, error) {
	i, err := l.RecordLeaf(ctx, recordID)
	return i.Leaf, i.Nodes, err
}

// auditLog reads the log as sentences.
type auditLog struct{ *State }

// Page gives a page of the log for the portal.
func (a auditLog) Page(ctx context.Context, person, before string, n int) ([]audit.Line, string, error) {
	return a.AuditPage(ctx, admin.LogQuery{Person: person, Before: before}, n)
}

// Lines reads records as people read them, newest first.
func (s *State) Lines(ctx context.Context, f store.Filter, n int) ([]audit.Line, string, error) {
	rows, more, err := s.Store.AuditPage(ctx, f, n)
	if err != nil {
		return nil, "", err
	}
	lines, err := s.inWords(ctx, rows)
	return lines, more, err
}

// inWords puts records into words.
func (s *State) inWords(ctx context.Context, rows []store.Record) ([]audit.Line, error) {
	names := s.namer(ctx)
	out := make([]audit.Line, 0, len(rows))
	for _, r := range rows {
		l, err := audit.Read(ctx, r.Row, r.Seq, s.Names, names)
		if err != nil {
			var t *audit.Tampered
			if !errors.As(err, &t) {
				return nil, err
			}
			l = audit.Line{Seq: r.Seq, ID: r.ID, At: time.UnixMicro(r.At).UTC(), Kind: r.Kind, Sentence: "This record was changed: " + err.Error()}
		}
		out = append(out, l)
	}
	return out, nil
}

// logState says how far the log is signed, and what keeps it from growing.
func (s *Server) logState(ctx context.Context) (st portal.LogState, err error) {
	size, at, err := s.Store.LastSigned(ctx)
	if err != nil && !errors.Is(err, problem.NotFound) {
		return st, err
	}
	st.Size, st.SignedAt = int64(size), at
	if fault := s.seq.Fault(); fault != nil {
		st.Broken = "It stands still: " + fault.Error() + "."
	}
	return st, nil
}

// namer turns identifiers into what people call them, remembering what it
// looked up.
func (s *State) namer(ctx context.Context) func(string) string {
	known := map[string]string{}
	return func(x string) string {
		if n, ok := known[x]; ok {
			return n
		}
		n := s.name(ctx, x)
		known[x] = n
		return n
	}
}

func (s *State) name(ctx context.Context, x string) string {
	switch {
	case strings.HasPrefix(x, id.Person):
		if p, err := s.Store.Person(ctx, x); err == nil {
			return p.Name
		}
	case strings.HasPrefix(x, id.Client):
		if c, err := s.Store.Client(ctx, x); err == nil {
			return c.Name
		}
	case strings.HasPrefix(x, id.Resource):
		if r, err := s.Store.Resource(ctx, x); err == nil {
			return r.Name
		}
	case strings.HasPrefix(x, id.Service):
		if v, err := s.Store.Service(ctx, x); err == nil {
			return v.Name
		}
	case strings.HasPrefix(x, id.Group):
		if g, err := s.Store.Group(ctx, x); err == nil {
			return g.Name
		}
	case strings.HasPrefix(x, id.Credential):
		if k, err := s.Store.Passkey(ctx, x); err == nil {
			return k.Name
		}
	}
	return ""
}

// revocations gives the feed its lines.
type revocations struct{ *store.Store }

// RevocationsSince gives what a snapshot holds, and the head at that moment: the
// head is read first, and nothing above it is given, so that what is missing
// comes with the next frame.
func (r revocations) RevocationsSince(ctx context.Context, at time.Time) ([]lineage.Revocation, uint64, error) {
	head, err := r.RevocationHead(ctx)
	if err != nil {
		return nil, 0, err
	}
	all, err := r.Store.RevocationsSince(ctx, at.UnixMicro())
	if err != nil {
		return nil, 0, err
	}
	out := all[:0]
	for _, l := range all {
		if l.Seq <= head {
			out = append(out, l)
		}
	}
	return out, head, nil
}

func (s *Server) newFeed() *feed.Hub {
	return feed.New(feed.Config{
		Issuer: s.Config.Issuer, Epoch: s.epoch, Source: revocations{s.Store}, AudienceKey: s.Ring.AudienceKey,
		Signer: func() (*jose.Signer, error) { return s.Ring.Signer(keyring.Feed, "ES256", jose.TypFeed) },
		Since:  s.since, Mark: s.mark, Seen: s.seenMark, Policy: func() int64 { return s.knownPolicies().Edition },
		Withdrawn:    func() []string { return s.Ring.Withdrawn(s.now().Add(-tellWithdrawn)) },
		Authenticate: s.enforcementPoint, Log: s.log, Now: s.now,
	})
}

// keyFetchers fetch the key sets that others publish by address: one those of whom
// administrators registered, one those of whom a person agreed to, and one those of
// strangers.
func (s *State) keyFetchers() (known, agreed, strange *jwks.Source, err error) {
	egress, err := s.Egress()
	if err != nil {
		return nil, nil, nil, err
	}
	egress.MaxBytes = jwks.MaxBytes
	public := egress
	public.Allow = nil // what is within is the operator's to name, not a stranger's
	return &jwks.Source{HTTP: egress.Client(), Now: s.now}, &jwks.Source{HTTP: public.Client(), Now: s.now}, &jwks.Source{HTTP: public.Client(), Now: s.now}, nil
}

// documentFetchers fetch what clients say of themselves at an address: one that of
// domains which administrators allowed, the other that of strangers.
func (s *State) documentFetchers() (allowed, strange *http.Client, err error) {
	egress, err := s.Egress()
	if err != nil {
		return nil, nil, err
	}
	egress.MaxBytes, egress.Timeout = client.MaxAnnounced, 3*time.Second
	public := egress
	public.Allow = nil
	return egress.Client(), public.Client(), nil
}

// newAdmin builds the management API.
func (s *Server) newAdmin() (*admin.API, error) {
	egress, err := s.Egress()
	if err != nil {
		return nil, err
	}
	return admin.New(admin.Config{
		Ready:   s.clientReady(egress),
		Notices: admin.Notices{Store: s.Store, Sealer: s.Sealer, Plain: egress.Allowed}, Leaks: s.leak, Reports: s.Store,
		Issuer: s.Config.Issuer, Do: s.Do, Keys: s.Ring, Directory: s.Store, Registry: s.Store, Admissions: s.Store, Access: s.Store,
		Factors: s.Store, Imports: s.passwords,
		Policies: s.Store, Book: s.book, Rollouts: s.Store, Desk: s.desk,
		Reviews: s.Store, Recoveries: s.Store, Recovery: recovery.Settings(s.Config.Recovery), CancelKeys: s.Ring.Nonces, ClientAddr: web.ClientAddr,
		State: liveState{s.Store}, Log: auditLog{s.State}, Tree: published{s.Store, s.outside}, Applied: s.applied, Beside: []admin.Description{pdp.Describe, feed.Describe}, Now: s.now,
	})
}

// AuditPage gives lines for the API.
func (a auditLog) AuditPage(ctx context.Context, q admin.LogQuery, n int) ([]audit.Line, string, error) {
	f := store.Filter{Before: q.Before, Kinds: q.Kinds}
	ok, err := a.of(ctx, q.Person, &f.Person)
	if err != nil || !ok {
		return nil, "", err
	}
	return a.Lines(ctx, f, n)
}

// Referred gives the API the lines of a request.
func (a auditLog) Referred(ctx context.Context, ref, person string, n int) ([]audit.Line, string, error) {
	var pseudonym []byte
	ok, err := a.of(ctx, person, &pseudonym)
	if err != nil || !ok {
		return nil, "", err
	}
	rows, since, err := a.Store.Referred(ctx, ref, pseudonym, n)
	if err != nil {
		return nil, "", err
	}
	lines, err := a.inWords(ctx, rows)
	return lines, since, err
}

// of finds a person's pseudonym, nil of nobody in particular; ok is false if there is no
// record of them.
func (a auditLog) of(ctx context.Context, person string, pseudonym *[]byte) (ok bool, err error) {
	if person == "" {
		return true, nil
	}
	*pseudonym, ok, err = a.Store.PseudonymOf(ctx, person)
	return ok, err
}

// Decisions gives the API what was decided.
func (a auditLog) Decisions(ctx context.Context, from, until time.Time, after string, n int) (replay.Decisions, error) {
	return a.Store.Decisions(ctx, a.Names, from, until, after, n)
}

// Monitored gives the API what rules in mode monitor would have done.
func (a auditLog) Monitored(ctx context.Context, since time.Time, before string, n int) (replay.Monitored, error) {
	return a.Store.Monitored(ctx, a.Names, since, before, n)
}

// published gives the API what the log is published from.
type published struct {
	*store.Store
	outside *outsiders
}

// publishedEpoch is one epoch of it, with what witnesses said.
type publishedEpoch struct {
	*store.EpochLog
	outside *outsiders
}

// Covering gives the checkpoint to prove an entry under.
func (e publishedEpoch) Covering(ctx context.Context, index uint64) (size uint64, text []byte, err error) {
	if size, text, err = e.outside.covering(ctx, e.EpochLog, index); err != nil || text != nil {
		return size, text, err
	}
	return e.EpochLog.LastCheckpoint(ctx)
}

// Epoch gives one epoch of the log.
func (p published) Epoch(ctx context.Context, n uint64) (admin.PublishedEpoch, error) {
	e, err := p.EpochAt(ctx, n)
	return publishedEpoch{e, p.outside}, err
}

// Entry gives the entry of a record and where it is.
func (p published) Entry(ctx context.Context, record string) (epoch uint64, index int64, entry []byte, err error) {
	return p.Place(ctx, record)
}

// appliedWait is how long a request waits for enforcement points.
const appliedWait = 3 * time.Second

// applied waits until the connected enforcement points have applied a record.
func (s *Server) applied(ctx context.Context, recordID string) (bool, error) {
	deadline := s.now().Add(appliedWait)
	rec, err := s.Store.RecordByID(ctx, recordID)
	for err == nil && rec.Seq < 0 && s.now().Before(deadline) {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		rec, err = s.Store.RecordByID(ctx, recordID)
	}
	if err != nil {
		return false, err
	}
	if rec.Seq < 0 {
		return false, nil
	}
	for _, seq := range s.hub.WaitApplied(ctx, uint64(rec.Seq), appliedWait) {
		if seq < uint64(rec.Seq) {
			return false, nil
		}
	}
	return true, nil
}
