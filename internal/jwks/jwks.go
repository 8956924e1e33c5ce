// Package jwks fetches the key sets that others publish by URL: clients'
// (jwks_uri of RFC 7591 §2) and trusted issuers'. It decides how long a set is
// good, when it is read anew and how long a request may wait for that. Where the
// server may reach is the HTTP client's to judge, and what a set means is package
// jose's.
package jwks

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// The bounds. Whoever publishes a set says how long it is good, within those of
// web.Fresh; a key that is missing has it read again sooner.
const (
	MaxBytes = 64 << 10 // of a set
	// MaxStale is how long a set that is past its time still serves while it cannot
	// be read again: an hour's outage of a client's web server is not its own.
	MaxStale = 6 * time.Hour
	// MissingPause is the least time between two reads that a key which is not in a
	// set causes: whoever invents key ids does not have a read a request.
	MissingPause = 15 * time.Second
	failedPause  = 10 * time.Second // between reads that fail
	// Wait is how long a request waits for a read; the read itself goes on.
	Wait = 2 * time.Second
	// readTime bounds a read, whatever the HTTP client allows.
	readTime = 5 * time.Second
	// maxReads is how many reads run at once: a slow publisher takes a place, not
	// the server.
	maxReads = 16
	// maxSets is how many sets are kept; past it the one read longest ago goes.
	maxSets = 1024
)

// Source fetches key sets and keeps them. It is safe for use by many goroutines.
// Fill HTTP; the rest may be zero.
type Source struct {
	// HTTP reaches out: it MUST be one behind the egress guard.
	HTTP *http.Client
	Now  func() time.Time // nil: time.Now

	mu    sync.Mutex
	sets  map[string]*entry
	reads int
}

// entry is what is known of one URL; Source.mu guards it.
type entry struct {
	set     *jose.JWKSet // nil: never read
	until   time.Time    // the set is good until then
	tried   time.Time    // start of the newest read
	failed  error        // of the newest read; nil if it succeeded
	reading chan struct{}
}

// ErrUnavailable is in the chain of errors about a set that cannot be had now.
var ErrUnavailable = errors.New("jwks: the key set cannot be read")

// errNoKeys is a set that was read and has nothing in it: unlike one that cannot be
// read, it says that what was there before is good no more.
var errNoKeys = errors.New("the set holds no key that can be used here")

var unavailable = problem.New(problem.Unavailable, "jwks_unavailable", "The keys at jwks_uri cannot be read right now.").
	WithHint("Check that jwks_uri can be reached from this server and answers with a JWK set.")

// Set is the set at url. It waits at most Wait for a read. A set that is past its
// time serves on for MaxStale if it cannot be read again. Errors are
// problem.Unavailable with code jwks_unavailable, and hold ErrUnavailable.
func (s *Source) Set(ctx context.Context, url string) (*jose.JWKSet, error) {
	return s.get(ctx, url, func(e *entry, now time.Time) bool { return !now.Before(e.until) })
}

// get gives the set, read anew if due says so and nothing forbids it.
func (s *Source) get(ctx context.Context, url string, due func(*entry, time.Time) bool) (*jose.JWKSet, error) {
	s.mu.Lock()
	e := s.entry(url)
	now := s.now()
	var reading chan struct{}
	if due(e, now) {
		s.start(e, url, now)
		reading = e.reading
	}
	if reading == nil {
		defer s.mu.Unlock()
		return e.usable(now)
	}
	s.mu.Unlock()
	t := time.NewTimer(Wait)
	defer t.Stop()
	select {
	case <-reading:
	case <-t.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.usable(s.now())
}

// usable is the set, if it may serve.
func (e *entry) usable(now time.Time) (*jose.JWKSet, error) {
	switch {
	case e.set != nil && now.Before(e.until.Add(MaxStale)):
		return e.set, nil
	case e.failed != nil:
		return nil, unavailable.Because(fmt.Errorf("%w: %w", ErrUnavailable, e.failed))
	}
	return nil, unavailable.Because(fmt.Errorf("%w: it takes too long", ErrUnavailable))
}

// entry finds or makes the entry of a URL; s.mu is held.
func (s *Source) entry(url string) *entry {
	if e := s.sets[url]; e != nil {
		return e
	}
	if s.sets == nil {
		s.sets = map[string]*entry{}
	}
	for len(s.sets) >= maxSets {
		oldest := ""
		for u, e := range s.sets {
			if e.reading == nil && (oldest == "" || e.tried.Before(s.sets[oldest].tried)) {
				oldest = u
			}
		}
		if oldest == "" {
			break
		}
		delete(s.sets, oldest)
	}
	e := &entry{}
	s.sets[url] = e
	return e
}

// start begins a read, if none runs, the last did not just fail and there is room.
func (s *Source) start(e *entry, url string, now time.Time) {
	switch {
	case e.reading != nil, e.failed != nil && now.Before(e.tried.Add(failedPause)):
		return
	case s.reads >= maxReads:
		e.failed = errors.New("too many key sets are being read")
		return
	}
	done := make(chan struct{})
	s.reads++
	e.reading, e.tried = done, now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), readTime) // whoever asked may leave: others wait for it, too
		defer cancel()
		set, age, err := s.read(ctx, url)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reads--
		switch e.reading, e.failed = nil, err; {
		case err == nil:
			e.set, e.until = set, now.Add(age)
		case errors.Is(err, errNoKeys): // its publisher took them all back
			e.set = nil
		}
		close(done)
	}()
}

// read fetches a set once.
func (s *Source) read(ctx context.Context, url string) (*jose.JWKSet, time.Duration, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	q.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.HTTP.Do(q)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answers %d", url, res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, MaxBytes+1))
	if err != nil {
		return nil, 0, err
	}
	set, err := jose.ParseJWKSet(b)
	if err != nil {
		return nil, 0, err
	}
	if len(set.Keys) == 0 {
		return nil, 0, errNoKeys
	}
	return set, web.Fresh(res.Header), nil
}

func (s *Source) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Keys is the set at url as a key set for one verification: a key that is not in
// it has the set read again, at most once every MissingPause. ctx is the
// request's. Errors are those of Set.
func (s *Source) Keys(ctx context.Context, url string) (jose.KeySet, error) {
	set, err := s.Set(ctx, url)
	if err != nil {
		return nil, err
	}
	return &lookup{ctx: ctx, source: s, url: url, set: set}, nil
}

// Again is the set at url for who misses something in have, which came from
// here: read again if it was not for MissingPause, and have itself otherwise.
func (s *Source) Again(ctx context.Context, url string, have *jose.JWKSet) *jose.JWKSet {
	set, err := s.get(ctx, url, func(e *entry, now time.Time) bool {
		return e.set == have && (e.reading != nil || !now.Before(e.tried.Add(MissingPause)))
	})
	if err != nil {
		return have
	}
	return set
}

// lookup is a jose.KeySet for one verification; it lives no longer.
type lookup struct {
	ctx    context.Context
	source *Source
	url    string
	set    *jose.JWKSet
}

// Key implements jose.KeySet.
func (l *lookup) Key(kid, alg string) (crypto.PublicKey, bool) {
	if key, ok := l.set.Key(kid, alg); ok {
		return key, true
	}
	l.set = l.source.Again(l.ctx, l.url, l.set)
	return l.set.Key(kid, alg)
}

var _ jose.KeySet = (*lookup)(nil)
