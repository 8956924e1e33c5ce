package oauth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// recentFor is how long a row that was read is good for a first guess.
const recentFor = time.Second

// maxRecent bounds the memory; when it is full it starts again empty.
const maxRecent = 4096

// recentRows remembers rows for a moment, for the token endpoint only: there
// each row that was used is held against the facts of the act, whose versions
// the commit re-checks (pipeline). A success therefore never rests on a stale
// row; a refusal that may is judged again on rows read anew.
type recentRows struct {
	mu   sync.RWMutex
	rows map[rowKey]recentRow
}

type rowKey struct{ kind, name string }

type recentRow struct {
	value any
	until time.Time
}

func (c *recentRows) get(k rowKey, now time.Time) any {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if r, ok := c.rows[k]; ok && now.Before(r.until) {
		return r.value
	}
	return nil
}

func (c *recentRows) put(k rowKey, v any, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil || len(c.rows) >= maxRecent {
		c.rows = make(map[rowKey]recentRow)
	}
	c.rows[k] = recentRow{v, now.Add(recentFor)}
}

// rows reads what one token request is judged by, and remembers which versions
// it saw.
type rows struct {
	s      *Server
	now    time.Time
	recall bool // may take rows from memory
	old    bool // did
	seen   []act.Version
}

// errMoved says that a row changed between being read and the act's snapshot.
var errMoved = errors.New("oauth: a row changed while it was used")

// same reports whether everything that was read is what the act decides on.
func (r *rows) same(f *act.Facts) error {
	for _, v := range r.seen {
		for _, n := range f.Nodes {
			if n.ID == v.ID && n.Version != v.N {
				return errMoved
			}
		}
	}
	return nil
}

func (r *rows) saw(n lineage.Node) {
	r.seen = append(r.seen, act.Version{ID: n.ID, N: n.Version})
}

// read takes a row from memory if it may, and from storage otherwise.
func read[T any](r *rows, kind, name string, node func(*T) lineage.Node, load func() (T, error)) (*T, error) {
	k := rowKey{kind, name}
	if r.recall {
		if v, ok := r.s.recent.get(k, r.now).(*T); ok {
			r.old = true
			r.saw(node(v))
			return v, nil
		}
	}
	v, err := load()
	if err != nil {
		return nil, err
	}
	r.s.recent.put(k, &v, r.now)
	r.saw(node(&v))
	return &v, nil
}

func (r *rows) clientByClientID(ctx context.Context, name string) (*client.Client, error) {
	return read(r, "client", name, func(c *client.Client) lineage.Node { return c.Node }, func() (client.Client, error) {
		return r.s.stored(ctx, name)
	})
}

func (r *rows) service(ctx context.Context, id string) (*client.Service, error) {
	return read(r, "service", id, func(v *client.Service) lineage.Node { return v.Node }, func() (client.Service, error) {
		return r.s.Clients.Service(ctx, id)
	})
}

func (r *rows) person(ctx context.Context, id string) (*account.Person, error) {
	return read(r, "person", id, func(p *account.Person) lineage.Node { return p.Node }, func() (account.Person, error) {
		return r.s.State.Person(ctx, id)
	})
}

// grant reads a grant: it never changes but by ending, and by when it was used last.
func (r *rows) grant(ctx context.Context, id string) (*grant.Grant, error) {
	return read(r, "grant", id, func(g *grant.Grant) lineage.Node { return g.Node }, func() (grant.Grant, error) {
		return r.s.Grants.Grant(ctx, id)
	})
}

// grantOf is the grant among what a token hangs on; problem.NotFound if it hangs on
// none, as a machine's.
func (r *rows) grantOf(ctx context.Context, nodes []lineage.Node) (*grant.Grant, error) {
	for _, n := range nodes {
		if n.Kind == lineage.Grant && strings.HasPrefix(n.ID, id.Grant) {
			return r.grant(ctx, n.ID)
		}
	}
	return nil, problem.New(problem.NotFound, "grant_not_found", "The token hangs on no grant.")
}

// resource reads a resource by its id; one that ended is an invalid target.
func (r *rows) resource(ctx context.Context, id string) (*resource.Resource, error) {
	return alive(read(r, "resource", id, nodeOfResource, func() (resource.Resource, error) { return r.s.Resources.Resource(ctx, id) }))
}

// resourceByURI reads a resource by its identifier.
func (r *rows) resourceByURI(ctx context.Context, uri string) (*resource.Resource, error) {
	return alive(read(r, "resource", uri, nodeOfResource, func() (resource.Resource, error) { return r.s.Resources.ResourceByURI(ctx, uri) }))
}

func nodeOfResource(v *resource.Resource) lineage.Node { return v.Node }

func alive(res *resource.Resource, err error) (*resource.Resource, error) {
	switch {
	case problem.Refusal(err):
		return nil, invalid("invalid_target", "The resource is unknown here (RFC 8707).").Because(err)
	case err != nil:
		return nil, err
	case !res.Node.Live():
		return nil, invalid("invalid_target", "The resource is no longer served.")
	}
	return res, nil
}
