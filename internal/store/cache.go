package store

import (
	"strings"
	"sync"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/policy"
)

// cache keeps facts by what they were loaded for. It is only ever a guess: the
// commit re-checks the version of every node in it, and an act that was decided
// on an old guess is decided again (pipeline). What no version guards (the
// expiry of a session or family) is never taken from it.
type cache struct {
	mu     sync.RWMutex
	facts  map[factsKey]*act.Facts
	byNode map[string]map[factsKey]struct{}
	epoch  uint64 // moves with every touch, so that a load that raced one is not kept
}

type factsKey struct {
	action                             policy.Action
	kind, actor, grant, family, client string
	resource, scopes                   string
	required                           bool
}

// maxCachedFacts bounds the cache; when it is full it starts again empty.
const maxCachedFacts = 4096

// keyOf gives the key of facts that may be cached.
func keyOf(action policy.Action, r *act.Refs) (k factsKey, ok bool) {
	if r.Session != "" || len(r.Target) > 0 || len(r.Credential) > 0 || len(r.Under) > 0 || len(r.Resources) > 0 || r.Presented || r.Client == "" {
		return k, false
	}
	k = factsKey{
		action: action, kind: r.Kind, actor: r.Actor, grant: r.Grant, family: r.Family, client: r.Client,
		resource: r.Resource, required: r.Required,
	}
	switch len(r.Scopes) {
	case 0:
	case 1:
		k.scopes = r.Scopes[0]
	default:
		k.scopes = strings.Join(r.Scopes, " ")
	}
	return k, true
}

func (c *cache) get(k factsKey) (act.Facts, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f, ok := c.facts[k]
	if !ok {
		return act.Facts{}, false
	}
	return *f, true
}

// now is the epoch to give put.
func (c *cache) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

// put keeps facts that were loaded since epoch, unless something was touched
// meanwhile.
func (c *cache) put(k factsKey, f act.Facts, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if c.facts == nil || len(c.facts) >= maxCachedFacts {
		c.facts = make(map[factsKey]*act.Facts)
		c.byNode = make(map[string]map[factsKey]struct{})
	}
	c.facts[k] = &f
	for _, g := range f.Guard {
		keys := c.byNode[g.ID]
		if keys == nil {
			keys = make(map[factsKey]struct{})
			c.byNode[g.ID] = keys
		}
		keys[k] = struct{}{}
	}
}

// touch forgets everything that was loaded from the nodes.
func (c *cache) touch(ids []string) {
	if len(ids) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for _, id := range ids {
		for k := range c.byNode[id] {
			c.drop(k)
		}
	}
}

func (c *cache) drop(k factsKey) {
	f, ok := c.facts[k]
	if !ok {
		return
	}
	delete(c.facts, k)
	for _, g := range f.Guard {
		if keys := c.byNode[g.ID]; keys != nil {
			delete(keys, k)
			if len(keys) == 0 {
				delete(c.byNode, g.ID)
			}
		}
	}
}
