package countersign

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// replayCache remembers the proofs seen within the window in which they count
// (RFC 9449 section 11.1), by key and jti, in two buckets of one span each: what
// was seen is remembered for at least a span and at most two.
type replayCache struct {
	span time.Duration // ≥ how long a proof counts
	max  int           // per bucket

	mu       sync.Mutex
	turned   time.Time
	now, old map[[16]byte]struct{}
}

// The outcomes of seeing a proof.
type seen int

const (
	seenNew seen = iota
	seenBefore
	seenFull // too many to remember: it cannot be told
)

func newReplayCache(span time.Duration, most int) *replayCache {
	return &replayCache{span: span, max: most, now: map[[16]byte]struct{}{}}
}

// see remembers a proof and tells whether it was there. It is one step: of two
// that come at once, one is new.
func (c *replayCache) see(jkt, jti string, at time.Time) seen {
	b := make([]byte, 0, 128)
	b = append(append(append(b, jkt...), 0), jti...)
	sum := sha256.Sum256(b)
	k := [16]byte(sum[:16])
	c.mu.Lock()
	defer c.mu.Unlock()
	switch since := at.Sub(c.turned); {
	case since >= 2*c.span:
		c.now, c.old, c.turned = map[[16]byte]struct{}{}, nil, at
	case since >= c.span:
		c.now, c.old, c.turned = make(map[[16]byte]struct{}, len(c.now)), c.now, at
	}
	if _, ok := c.now[k]; ok {
		return seenBefore
	}
	if _, ok := c.old[k]; ok {
		return seenBefore
	}
	if len(c.now) >= c.max {
		return seenFull
	}
	c.now[k] = struct{}{}
	return seenNew
}

// nonceSource makes the nonces that a resource server may demand in proofs
// (RFC 9449 section 9): random, the same for all for one span, good for two.
type nonceSource struct {
	span time.Duration

	mu       sync.Mutex
	turned   time.Time
	now, old string
}

// current is the nonce to hand out.
func (n *nonceSource) current(at time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn(at)
	return n.now
}

func (n *nonceSource) good(nonce string, at time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn(at)
	return nonce != "" && (nonce == n.now || nonce == n.old)
}

func (n *nonceSource) turn(at time.Time) {
	since := at.Sub(n.turned)
	if n.now != "" && since < n.span {
		return
	}
	n.old = n.now
	if since >= 2*n.span {
		n.old = ""
	}
	n.now, n.turned = rand.Text(), at
}

// tokenCache remembers verified tokens by the SHA-256 of the whole token: the
// signature is checked once, everything that can change each time. It keeps
// between max/2 and max of those used last.
type tokenCache struct {
	max int

	mu       sync.Mutex
	now, old map[[32]byte]*cachedToken
}

type cachedToken struct {
	token *Token
	jkt   string // key it is bound to; "" if it is bound to none
	x5t   string // thumbprint of the certificate it is bound to; "" if to none
	keys  *keySet
}

func newTokenCache(most int) *tokenCache {
	return &tokenCache{max: most, now: map[[32]byte]*cachedToken{}}
}

func (c *tokenCache) get(k [32]byte) *cachedToken {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.now[k]; e != nil {
		return e
	}
	e := c.old[k]
	if e != nil {
		c.add(k, e)
	}
	return e
}

func (c *tokenCache) put(k [32]byte, e *cachedToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, e)
}

func (c *tokenCache) add(k [32]byte, e *cachedToken) {
	if len(c.now) >= c.max/2 {
		c.old, c.now = c.now, make(map[[32]byte]*cachedToken, c.max/2)
	}
	c.now[k] = e
}
