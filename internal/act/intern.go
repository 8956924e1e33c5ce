package act

import (
	"strings"
	"sync"

	"github.com/countersign-dev/countersign/internal/audit"
)

// Keyed is a Detail that can say in a string all that it says: records with an
// equal one share their interned facts without making them again.
type Keyed interface{ FactsKey() string }

// factsCache keeps interned decision facts by what they say. A service that asks
// for the same token a thousand times says the same a thousand times.
type factsCache struct {
	mu sync.RWMutex
	by map[string]audit.Interned
}

// maxInterned bounds the cache; when it is full it starts again empty.
const maxInterned = 4096

// interned gives the facts as the record keeps them: interned where their key is
// cheap to make, as they are otherwise.
func (c *factsCache) interned(rf recordFacts) any {
	detail := ""
	if rf.Detail != nil {
		k, ok := rf.Detail.(Keyed)
		if !ok {
			return rf
		}
		detail = k.FactsKey()
	}
	var m monitored // no outcome: the same answer
	if rf.Monitored != nil {
		m = *rf.Monitored
	}
	var t rolledOut // no number: no rollout
	t.Other = new(monitored)
	if rf.Rollout != nil {
		t = *rf.Rollout
	}
	seen := ""
	if rf.Seen != nil {
		seen = rf.Seen.Key()
	}
	var b strings.Builder
	b.Grow(384)
	for _, s := range [...]string{string(rf.Action), rf.Kind, rf.Client, rf.Service, rf.Resource, rf.ACR, rf.Outcome, rf.Code, rf.Policy, rf.Risk, detail, seen, m.Outcome, m.Code, t.key(), t.Other.Outcome, t.Other.Code} {
		b.WriteString(s)
		b.WriteByte(0)
	}
	for _, list := range [...][]string{rf.Methods, rf.Reasons, rf.Signals, m.Reasons, t.Other.Reasons} {
		for _, s := range list {
			b.WriteString(s)
			b.WriteByte(1)
		}
		b.WriteByte(0)
	}
	key := b.String()
	c.mu.RLock()
	f, ok := c.by[key]
	c.mu.RUnlock()
	if ok {
		return f
	}
	f, err := audit.Intern(rf)
	if err != nil {
		return rf // the record says the same error with more words
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= maxInterned {
		c.by = make(map[string]audit.Interned)
	}
	c.by[key] = f
	return f
}
