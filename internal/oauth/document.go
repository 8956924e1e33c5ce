package oauth

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
)

// How long a document is taken from memory. What its server says holds within
// these bounds; without a word, usualFresh.
const (
	minFresh   = time.Minute
	usualFresh = 5 * time.Minute
	maxFresh   = 24 * time.Hour
	maxStale   = 7 * 24 * time.Hour // past its end, while it cannot be had
	retryAfter = 30 * time.Second   // what is stale is not asked for again before
)

// The bounds on fetching: a stranger names the address, and a page waits.
const (
	maxDocuments = 1000 // in memory
	maxFetches   = 4    // at once; a page's place is held for as long
	fetchTime    = 3 * time.Second
)

// documents remembers what clients say of themselves at the address that is their
// client_id. Errors are not remembered, and neither is what cannot be used; a
// document that cannot be had again goes on holding for a while.
type documents struct {
	mu      sync.Mutex
	known   map[string]*published
	slots   chan struct{}
	perHost meter
}

// published is one of them.
type published struct {
	client client.Client
	etag   string
	fresh  time.Time     // until then it is not asked for
	stale  time.Time     // until then it holds although it cannot be had
	busy   chan struct{} // closed when the fetch that is under way ends; nil: none is
}

// documentOf gives the client that a document describes: a pinned one, else one
// from memory, else as it is fetched now, if it may be. Errors that are the
// document's are problems.
func (s *Server) documentOf(ctx context.Context, clientID string, fetch bool) (client.Client, error) {
	pinned, err := s.Admissions.Document(ctx, clientID)
	switch {
	case err == nil:
		c, err := client.ParseDocument(clientID, pinned.Body)
		c.Pinned = true
		return c, err
	case problem.From(err) == nil:
		return client.Client{}, err
	case !fetch || s.Fetch == nil:
		return client.Client{}, problem.New(problem.Denied, "client_document_unfetched", "Documents of clients are not fetched here.")
	}
	return s.docs.get(ctx, clientID, s.now, s.fetchDocument)
}

type fetcher func(ctx context.Context, clientID, etag string) (*published, error)

// errUnchanged is a fetch that found what is known already.
var errUnchanged = errors.New("oauth: the document is unchanged")

// get gives a document from memory or fetches it. Of those who ask at once, one
// fetches and the others wait for it; they do not wait if there is one that holds.
func (d *documents) get(ctx context.Context, id string, now func() time.Time, fetch fetcher) (client.Client, error) {
	for {
		d.mu.Lock()
		if d.known == nil {
			d.known, d.slots = map[string]*published{}, make(chan struct{}, maxFetches)
		}
		p := d.known[id]
		at := now()
		if p != nil && p.client.ClientID != "" && (at.Before(p.fresh) || p.busy != nil && at.Before(p.stale)) {
			c := p.client
			d.mu.Unlock()
			return c, nil
		}
		if p != nil && p.busy != nil {
			wait := p.busy
			d.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return client.Client{}, unreachable.Because(ctx.Err())
			}
		}
		if p == nil {
			p = &published{}
			d.room(at)
			d.known[id] = p
		}
		p.busy = make(chan struct{})
		etag := p.etag
		d.mu.Unlock()
		return d.fetched(ctx, id, p, etag, now, fetch)
	}
}

// fetched fetches a document and remembers it.
func (d *documents) fetched(ctx context.Context, id string, p *published, etag string, now func() time.Time, fetch fetcher) (client.Client, error) {
	fresh, err := d.guarded(ctx, id, etag, now(), fetch)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(p.busy)
	p.busy = nil
	at := now()
	switch {
	case err == nil:
		*p = *fresh
	case errors.Is(err, errUnchanged):
		p.fresh, p.stale = fresh.fresh, fresh.stale
	case p.client.ClientID != "" && at.Before(p.stale):
		p.fresh = at.Add(retryAfter)
	default:
		if d.known[id] == p {
			delete(d.known, id)
		}
		return client.Client{}, err
	}
	return p.client, nil
}

var (
	unreachable = problem.New(problem.Denied, "client_document_unreachable", "The app's own description could not be had from its address.").
			WithHint("Go back to the app and try again in a minute. If it goes on, tell whoever makes the app, or ask your administrators to pin it.")
	fetchesBusy = problem.New(problem.Throttled, "client_document_busy", "Too many descriptions of apps are being fetched right now.").
			WithHint("Go back to the app and try again in a few seconds.")
)

// guarded fetches within the bounds: few at once, and few of one host.
func (d *documents) guarded(ctx context.Context, id, etag string, at time.Time, fetch fetcher) (*published, error) {
	if !d.perHost.take(client.DocumentHost(id), at, 10, time.Second) {
		return nil, fetchesBusy
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	default:
		return nil, fetchesBusy
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	return fetch(ctx, id, etag)
}

// room makes room for one more: what no longer holds goes, else one of those that
// nobody is waiting for.
func (d *documents) room(at time.Time) {
	if len(d.known) < maxDocuments {
		return
	}
	var any string
	for id, p := range d.known {
		switch {
		case p.busy != nil:
		case !at.Before(p.stale):
			delete(d.known, id)
		default:
			any = id
		}
	}
	if len(d.known) >= maxDocuments {
		delete(d.known, any)
	}
}

// fetchDocument fetches and reads a document (Client ID Metadata Document §4):
// 200, JSON, within the guard's bounds; the guard follows no redirect.
func (s *Server) fetchDocument(ctx context.Context, clientID, etag string) (*published, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, clientID, nil)
	if err != nil {
		return nil, unreachable.Because(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Countersign (client metadata)")
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	resp, err := s.Fetch.Do(r)
	if err != nil {
		return nil, unreachable.Because(err)
	}
	defer resp.Body.Close()
	now := s.now()
	p := &published{etag: resp.Header.Get("ETag"), fresh: now.Add(freshFor(resp.Header))}
	p.stale = p.fresh.Add(maxStale)
	if resp.StatusCode == http.StatusNotModified && etag != "" {
		return p, errUnchanged
	}
	if resp.StatusCode != http.StatusOK {
		return nil, unreachable.Because(errors.New("it answered " + resp.Status))
	}
	if !isJSON(resp.Header.Get("Content-Type")) {
		return nil, unreachable.Because(errors.New("its type is " + strconv.Quote(resp.Header.Get("Content-Type"))))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, client.MaxAnnounced+1))
	if err != nil {
		return nil, unreachable.Because(err)
	}
	p.client, err = client.ParseDocument(clientID, body)
	if len(p.etag) > 128 {
		p.etag = ""
	}
	return p, err
}

// isJSON reports whether a content type is application/json or application/…+json.
func isJSON(v string) bool {
	t, _, err := mime.ParseMediaType(v)
	return err == nil && (t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json"))
}

// freshFor is how long an answer may be taken from memory (RFC 9111 §4.2), within
// the bounds here.
func freshFor(h http.Header) time.Duration {
	for _, v := range h.Values("Cache-Control") {
		for part := range strings.SplitSeq(v, ",") {
			name, arg, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
			switch name {
			case "no-store", "no-cache":
				return minFresh
			case "max-age":
				n, err := strconv.ParseUint(strings.Trim(arg, `"`), 10, 31)
				if err != nil {
					return minFresh
				}
				return min(max(time.Duration(n)*time.Second, minFresh), maxFresh)
			}
		}
	}
	return usualFresh
}
