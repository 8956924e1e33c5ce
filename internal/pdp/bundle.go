package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// maxMembers bounds the people whose groups a bundle tells; where there are more, the
// server decides what the groups are asked for.
const maxMembers = 50_000

// contentFor is how long the content of a bundle is remembered.
const contentFor = time.Second

// bundles remembers the content for each audience for a moment.
type bundles struct {
	mu   sync.Mutex
	held map[string]*held
}

// held is what one audience may hold, put together by one caller at a time: when other
// policies come into force, all its enforcement points ask at once.
type held struct {
	turn chan struct{} // taken while it is looked at
	last content
}

// of is what is remembered for an audience.
func (b *bundles) of(audience string) *held {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[audience]
	if h == nil {
		if b.held == nil {
			b.held = map[string]*held{}
		}
		h = &held{turn: make(chan struct{}, 1)}
		b.held[audience] = h
	}
	return h
}

type content struct {
	text, hash string
	version    int64
	at         time.Time
}

// bundle gives a resource server what it may hold, signed: a head that says which content
// is in force now, and the content unless the caller has it.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Authenticate(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if len(q["aud"]) != 1 || len(q["have"]) > 1 {
		return wrong("Exactly one aud is needed, and at most one have.")
	}
	res := c.named(q.Get("aud"))
	if res == nil { // the same whether or not there is such a resource
		return problem.New(problem.Denied, "feed_audience", "This client is not an enforcement point of that resource.")
	}
	at := s.Now() // before anything is read: what it says was so then, or later
	x, err := s.content(r.Context(), res.URI, at)
	if err != nil {
		return err
	}
	signer, err := s.Signer()
	if err != nil {
		return err
	}
	out := struct {
		Head    string `json:"head"`
		Content string `json:"content,omitempty"`
	}{}
	out.Head, err = signer.Sign(jose.BundleHead{
		Issuer: s.Issuer, Audience: jose.Audience{res.URI}, Epoch: s.Epoch, Policy: x.version, IssuedAt: jose.Date(x.at), Hash: x.hash,
	})
	if err != nil {
		return err
	}
	if q.Get("have") != x.hash {
		out.Content = x.text
	}
	s.handed.Add(1)
	return web.JSON(w, http.StatusOK, out)
}

// named finds a resource of the caller's by its identifier, in whatever spelling.
func (c *Caller) named(aud string) *resource.Resource {
	if r := c.serves(aud); r != nil {
		return r
	}
	want, err := resource.Canonical(aud)
	for i := range c.Resources {
		if have, e := resource.Canonical(c.Resources[i].URI); err == nil && e == nil && have == want {
			return &c.Resources[i]
		}
	}
	return nil
}

// content is what the audience may hold.
func (s *Server) content(ctx context.Context, audience string, at time.Time) (content, error) {
	set, n, err := s.Policies(ctx)
	if err != nil {
		return content{}, err
	}
	h := s.bundles.of(audience)
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return content{}, ctx.Err()
	}
	if x := h.last; x.text != "" && x.version == n && at.Sub(x.at) < contentFor && !at.Before(x.at) {
		return x, nil
	}
	c, err := s.compose(ctx, set, audience)
	if err != nil {
		return content{}, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return content{}, err
	}
	h.last = content{string(text), jose.BundleHash(string(text)), n, at}
	return h.last, nil
}

// compose puts together what an audience may hold.
func (s *Server) compose(ctx context.Context, set *policy.Set, audience string) (jose.BundleContent, error) {
	c := jose.BundleContent{Format: jose.BundleFormat, Groups: map[string][]string{}, Actions: map[string]jose.BundleAction{}}
	rolling, err := s.Rolling(ctx)
	if err != nil {
		return c, err
	}
	places := set.Places(audience)
	if rolling {
		for i := range places {
			places[i].LeaveToServer("other policies are being rolled out")
		}
	}
	x := set.Excerpt(places)
	people := 0
	for _, g := range x.Groups {
		list, err := s.members(ctx, audience, g)
		if err != nil {
			return c, err
		}
		c.Groups[g] = list
		if people += len(list); people > maxMembers {
			c.Groups = nil
			ungroup(places)
			x = set.Excerpt(places)
			break
		}
	}
	c.Schema, c.Policies = x.Schema, x.Policies
	for _, p := range places {
		for _, kind := range p.Resources {
			c.Declare(kind, set.Attributes(kind))
		}
		c.Actions[string(p.Action)] = jose.BundleAction{
			Local: p.Local, Held: p.Held, Groups: len(p.Groups) > 0,
			Last: p.Outage == policy.OutageLast, Kinds: p.Kinds, Resources: p.Resources,
		}
	}
	return c, nil
}

// ungroup leaves to the server, in an outage too, what asks for groups: they have more
// members than an enforcement point is told.
func ungroup(places []policy.Place) {
	for i := range places {
		if p := &places[i]; len(p.Groups) > 0 {
			p.Local, p.Held = false, false
		}
	}
}

// members are the people in a group, as the audience may know them.
func (s *Server) members(ctx context.Context, audience, name string) ([]string, error) {
	g, err := s.People.GroupByName(ctx, name)
	if errors.Is(err, problem.NotFound) || err == nil && !g.Node.Live() {
		return []string{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := []string{}
	for after := ""; len(out) <= maxMembers; {
		list, err := s.People.MemberSubjects(ctx, g.ID, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, sub := range list {
			out = append(out, jose.BundleMember(audience, sub))
		}
		if len(list) < 1000 {
			break
		}
		after = list[len(list)-1]
	}
	slices.Sort(out)
	return out, nil
}
