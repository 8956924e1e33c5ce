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
	"github.com/countersign-dev/countersign/internal/web"
)

// How long a document is taken from memory beyond what its server says (web.Fresh).
const (
	maxStale   = 7 * 24 * time.Hour // past its end, while it cannot be had
	retryAfter = 30 * time.Second   // what is stale is not asked for again before
)

// The bounds on fetching: a stranger names the address, and a page waits.
const (
	maxDocuments   = 1000 // in memory
	maxFetches     = 16   // at once; a page's place is held for as long
	networkFetches = 4    // … for whoever asks from one network
	hostFetches    = 2    // … of one host
	fetchTime      = 3 * time.Second
)

// documents remembers what clients say of themselves at the address that is their
// client_id: those that somebody agreed to and others apart. What cannot be used is not remembered, and errors only for who can do without
// (away); a document that cannot be had again goes on holding for a while.
type documents struct {
	mu       sync.Mutex
	known    map[string]*published
	fetching map[string]int       // by host and by network, and of all
	missing  map[string]time.Time // which could not be had, and until when that counts
	perHost  meter
}

// away reports whether a document could not be had a moment ago.
func (d *documents) away(id string, at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return at.Before(d.missing[id])
}

// miss remembers for a while that a document could not be had; d.mu is held.
func (d *documents) miss(id string, at time.Time) {
	if len(d.missing) >= maxDocuments {
		clear(d.missing)
	}
	if d.missing == nil {
		d.missing = map[string]time.Time{}
	}
	d.missing[id] = at.Add(retryAfter)
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
// from memory, else as it is fetched now, if it may be; nil: it may not. Errors that
// are the document's are problems.
func (s *Server) documentOf(ctx context.Context, clientID string, via *asking) (client.Client, error) {
	pinned, err := s.Admissions.Document(ctx, clientID)
	switch {
	case err == nil:
		c, err := client.ParseDocument(clientID, pinned.Body)
		c.Pinned = true
		return c, err
	case !problem.Refusal(err):
		return client.Client{}, err
	case via == nil || via.http == nil:
		return client.Client{}, problem.New(problem.Denied, "client_document_unfetched", "Documents of clients are not fetched here.")
	}
	docs := &s.docs
	if via.agreed {
		docs = &s.knownDocs
		docs.adopt(clientID, &s.docs, s.now())
	}
	return docs.get(ctx, clientID, via.network, s.now, func(ctx context.Context, clientID, etag string) (*published, error) {
		return s.fetchDocument(ctx, via.http, clientID, etag)
	})
}

// adopt takes over what others remember of a document, if there is more to it than is
// remembered here.
func (d *documents) adopt(id string, others *documents, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[id] != nil {
		return
	}
	others.mu.Lock()
	defer others.mu.Unlock()
	if p := others.known[id]; p != nil && p.busy == nil {
		delete(others.known, id)
		d.begin(id, p, at)
	}
}

// begin remembers one more; d.mu is held.
func (d *documents) begin(id string, p *published, at time.Time) {
	if d.known == nil {
		d.known, d.fetching = map[string]*published{}, map[string]int{}
	}
	d.room(at)
	d.known[id] = p
}

// asking is how a document is fetched, and for whom.
type asking struct {
	http    *http.Client
	network string // of who is there, "" if unknown
	agreed  bool   // somebody has agreed to the client
}

// asking is how the document of a client is fetched of which administrators say this:
// only where they allowed its domain may it be within the network.
func (s *Server) asking(said client.Trust, network string) *asking {
	if allowed(said) {
		return &asking{http: s.FetchAllowed, network: network}
	}
	return &asking{http: s.Fetch, network: network}
}

func allowed(t client.Trust) bool { return t == client.Allowed || t == client.Trusted }

type fetcher func(ctx context.Context, clientID, etag string) (*published, error)

// errUnchanged is a fetch that found what is known already.
var errUnchanged = errors.New("oauth: the document is unchanged")

// get gives a document from memory or fetches it. Of those who ask at once, one
// fetches and the others wait for it; they do not wait if there is one that holds.
func (d *documents) get(ctx context.Context, id, network string, now func() time.Time, fetch fetcher) (client.Client, error) {
	for {
		d.mu.Lock()
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
			d.begin(id, p, at)
		}
		p.busy = make(chan struct{})
		etag := p.etag
		d.mu.Unlock()
		return d.fetched(ctx, id, network, p, etag, now, fetch)
	}
}

// fetched fetches a document and remembers it.
func (d *documents) fetched(ctx context.Context, id, network string, p *published, etag string, now func() time.Time, fetch fetcher) (client.Client, error) {
	fresh, err := d.guarded(ctx, id, network, etag, now(), fetch)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(p.busy)
	p.busy = nil
	at := now()
	switch {
	case err == nil:
		delete(d.missing, id)
		*p = *fresh
	case errors.Is(err, errUnchanged):
		p.fresh, p.stale = fresh.fresh, fresh.stale
	case p.client.ClientID != "" && at.Before(p.stale):
		p.fresh = at.Add(retryAfter)
	default:
		if d.known[id] == p {
			delete(d.known, id)
		}
		if !errors.Is(err, problem.Throttled) { // whoever took all the places says nothing of the document
			d.miss(id, at)
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

// guarded fetches within the bounds: few at once, fewer of one host and for one
// network, so that slow hosts take the places of those who name them. It is not given up
// with the request that began it: others wait for it, and whoever hangs up would else decide
// that a document cannot be had.
func (d *documents) guarded(ctx context.Context, id, network, etag string, at time.Time, fetch fetcher) (*published, error) {
	host := client.DocumentHost(id)
	if !d.perHost.take(host, at, 10, time.Second) || !d.enter(host, network) {
		return nil, fetchesBusy
	}
	defer d.leave(host, network)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	return fetch(ctx, id, etag)
}

// places are the names under which a fetch is counted, with how many there may be.
func places(host, network string) map[string]int {
	of := map[string]int{"": maxFetches, "host " + host: hostFetches}
	if network != "" {
		of["network "+network] = networkFetches
	}
	return of
}

// enter takes a place, if there is one.
func (d *documents) enter(host, network string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := places(host, network)
	for name, most := range of {
		if d.fetching[name] >= most {
			return false
		}
	}
	for name := range of {
		d.fetching[name]++
	}
	return true
}

// leave gives it back.
func (d *documents) leave(host, network string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range places(host, network) {
		if d.fetching[name]--; d.fetching[name] == 0 {
			delete(d.fetching, name)
		}
	}
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
func (s *Server) fetchDocument(ctx context.Context, via *http.Client, clientID, etag string) (*published, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, clientID, nil)
	if err != nil {
		return nil, unreachable.Because(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Countersign (client metadata)")
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	resp, err := via.Do(r)
	if err != nil {
		return nil, unreachable.Because(err)
	}
	defer resp.Body.Close()
	now := s.now()
	p := &published{etag: resp.Header.Get("ETag"), fresh: now.Add(web.Fresh(resp.Header))}
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
