package countersign

import (
	"cmp"
	"context"
	"crypto"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/web"
)

// keyCache holds the issuer's published keys. They are read again when their
// time is up, in the background while the old ones serve; and at once, but not
// more often than every keyThrottle, when a token names a key that is not
// among them. A failed read keeps the old ones.
type keyCache struct {
	url string
	hc  *http.Client
	now func() time.Time

	set atomic.Pointer[keySet]

	mu      sync.Mutex
	reading chan struct{} // closed when the read that runs is done; nil if none does
	tried   time.Time     // start of the last read
	err     error         // of the last read
	gone    map[string]struct{}
}

// maxGone bounds the withdrawn keys that are remembered.
const maxGone = 10_000

// withdraw has keys verify nothing from now on, whatever is published: the issuer
// withdrew them (mechanisms C9).
func (c *keyCache) withdraw(kids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := false
	for _, kid := range kids {
		if _, ok := c.gone[kid]; !ok && len(c.gone) < maxGone {
			if c.gone == nil {
				c.gone = map[string]struct{}{}
			}
			c.gone[kid], news = struct{}{}, true
		}
	}
	if set := c.set.Load(); news && set != nil {
		c.set.Store(c.without(set)) // another set: what was verified by this one is verified again
	}
}

// withdrawn reports whether the issuer withdrew a key.
func (c *keyCache) withdrawn(kid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.gone[kid]
	return ok
}

// without is a set less what was withdrawn; c.mu is held.
func (c *keyCache) without(set *keySet) *keySet {
	if len(c.gone) == 0 {
		return set
	}
	out := &keySet{JWKSet: &jose.JWKSet{}, until: set.until}
	for _, k := range set.Keys {
		if _, ok := c.gone[k.KeyID]; !ok {
			out.Keys = append(out.Keys, k)
		}
	}
	return out
}

// keySet is one published set; it is never changed.
type keySet struct {
	*jose.JWKSet
	until time.Time
}

const keyThrottle = 10 * time.Second

// current is the set that serves now; nil if there never was one. If its time
// is up, a read begins behind it.
func (c *keyCache) current(ctx context.Context) *keySet {
	set := c.set.Load()
	if set != nil && c.now().After(set.until) {
		c.read(ctx, keyThrottle)
	}
	return set
}

// lookup is a jose.KeySet for one verification; used tells in which set the
// key was found. It waits for a read only if the key is not there.
type lookup struct {
	ctx   context.Context // of the request; a lookup lives no longer
	cache *keyCache
	used  *keySet
	pause time.Duration // least time between two reads that it causes; 0: keyThrottle
}

// feedThrottle is for frames of the feed: they come from the issuer itself, so that
// nobody else can have it asked, and a key that it replaced at once is news.
const feedThrottle = time.Second

// Key implements jose.KeySet.
func (l *lookup) Key(kid, alg string) (crypto.PublicKey, bool) {
	if set := l.cache.current(l.ctx); set != nil {
		if key, ok := set.Key(kid, alg); ok {
			l.used = set
			return key, true
		}
	}
	if l.cache.withdrawn(kid) {
		return nil, false // and no read: it does not come back, and the next key may need the read
	}
	done := l.cache.read(l.ctx, cmp.Or(l.pause, keyThrottle))
	if done == nil {
		return nil, false // read just now: it is not there
	}
	select {
	case <-done:
	case <-l.ctx.Done():
		return nil, false
	}
	set := l.cache.set.Load()
	if set == nil {
		return nil, false
	}
	l.used = set
	return set.Key(kid, alg)
}

// read starts a read, unless one runs, and gives what is closed at its end; nil
// if the last one began less than pause ago.
func (c *keyCache) read(ctx context.Context, pause time.Duration) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading != nil {
		return c.reading
	}
	if !c.tried.IsZero() && c.now().Sub(c.tried) < pause {
		return nil
	}
	c.tried = c.now()
	done := make(chan struct{})
	c.reading = done
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		set, err := c.fetch(ctx)
		c.mu.Lock()
		if err == nil {
			c.set.Store(c.without(set))
		}
		c.reading, c.err = nil, err
		c.mu.Unlock()
		close(done)
	}()
	return done
}

// load reads the keys for the first time.
func (c *keyCache) load(ctx context.Context) error {
	done := c.read(ctx, 0)
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.tried = time.Time{} // nobody made us ask: the first key that is not there is read for at once
	}
	return c.err
}

func (c *keyCache) fetch(ctx context.Context) (*keySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("countersign: keys: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("countersign: keys: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("countersign: keys: %w", responseError(resp, body))
	}
	set, err := jose.ParseJWKSet(body)
	if err != nil {
		return nil, fmt.Errorf("countersign: keys: %w", err)
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("countersign: keys: %s has none that can be used", c.url)
	}
	return &keySet{JWKSet: set, until: c.now().Add(web.Fresh(resp.Header))}, nil
}
