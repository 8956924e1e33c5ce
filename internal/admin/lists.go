package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// PageParams are the parameters of a list, which is read by key. Huma sees only
// exported structs inside others.
type PageParams struct {
	After string `query:"after" maxLength:"64" doc:"The next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most"`
}

// Page is a page of a list.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"What after has to be for the next page; absent on the last one"`
}

type pageOut[T any] struct{ Body Page[T] }

// paged reads a page by key from a reader that pages by key, leaving out what
// keep refuses. It gives full pages as long as there is something to give.
func paged[S, T any](in PageParams, read func(after string, n int) ([]S, error), key func(S) string, keep func(S) bool, show func(S) (T, error)) (*pageOut[T], error) {
	out := &pageOut[T]{Body: Page[T]{Items: []T{}}}
	after := in.After
	for {
		want := in.Limit - len(out.Body.Items) + 1
		chunk, err := read(after, want)
		if err != nil {
			return nil, err
		}
		for _, s := range chunk {
			if keep != nil && !keep(s) {
				after = key(s)
				continue
			}
			if len(out.Body.Items) == in.Limit {
				out.Body.Next = after
				return out, nil
			}
			v, err := show(s)
			if err != nil {
				return nil, err
			}
			out.Body.Items = append(out.Body.Items, v)
			after = key(s)
		}
		if len(chunk) < want {
			return out, nil
		}
	}
}

// numbered reads what after is in a list of numbered things, newest first: they are
// before it; 0 is the first page.
func numbered(after string) (int64, error) {
	if after == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(after, 10, 64)
	if err != nil || n < 1 {
		return 0, problem.New(problem.Invalid, codeInvalid, "There is no page after that.")
	}
	return n, nil
}

// within pages a short list that is there whole. Items are in the order of their
// keys, descending if newest come first.
func within[S any](list []S, key func(S) string, descending bool) func(after string, n int) ([]S, error) {
	return func(after string, n int) ([]S, error) {
		var out []S
		for _, s := range list {
			k := key(s)
			if after != "" && (!descending && k <= after || descending && k >= after) {
				continue
			}
			if len(out) == n {
				break
			}
			out = append(out, s)
		}
		return out, nil
	}
}

// tag is the entity tag of a node's state (RFC 9110 section 8.8.3): its version.
func tag(n lineage.Node) string { return `"` + strconv.FormatInt(n.Version, 10) + `"` }

// match is an If-Match that the commit holds to.
type match struct {
	node    string
	version int64
}

// matching reads If-Match, which updates and deletions need so that nobody
// overwrites what they have not seen.
func matching(header string, n lineage.Node) (*match, error) {
	if header == "" {
		return nil, problem.New(problem.Invalid, codeNoMatch, "Send If-Match with the ETag that was read.").WithHint("GET it first; the ETag is in the header.")
	}
	if header != tag(n) {
		return nil, moved
	}
	return &match{n.ID, n.Version}, nil
}

var moved = problem.New(problem.Conflict, codeMatch, "It was changed since it was read.").WithHint("Read it again, and decide again.")

func (m *match) holds(f *act.Facts) error {
	if m == nil || slices.ContainsFunc(f.Guard, func(v act.Version) bool { return v.ID == m.node && v.N == m.version }) {
		return nil
	}
	return moved
}

// KeyParam is the header by which a request that makes something does so once.
type KeyParam struct {
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"A name of this request: sent again within 24 hours, it makes nothing new"`
}

// IdempotencyLifetime is how long a request with an Idempotency-Key is known.
const IdempotencyLifetime = 24 * time.Hour

// made is what is remembered of a request that made something.
type made struct {
	ID   string `json:"id"`
	Hash string `json:"hash"` // of the request's body
}

// idempotency is a request's key, on its way through a change.
type idempotency struct {
	key  once.Key
	hash string
	burn bool // an expired value of the same key is in the way
	used bool
}

// onlyOnce has make do what a request asks for, unless an earlier one with this key made it
// or another makes it meanwhile: then show answers, with what was made, by its id.
func onlyOnce[O any](ctx context.Context, a *API, c *call, in KeyParam, body any, show func(ctx context.Context, id string) (*O, error), make func(*idempotency) (*O, error)) (*O, error) {
	key, earlier, err := a.before(ctx, c, in, body)
	if err == nil && earlier == "" {
		var out *O
		if out, err = make(key); !key.lost(err) {
			return out, err
		}
		_, earlier, err = a.before(ctx, c, in, body)
	}
	if err != nil {
		return nil, err
	}
	return show(ctx, earlier)
}

// before finds what an earlier request with this key made, "" if none did. A key
// is bound to the person, the client and the route.
func (a *API) before(ctx context.Context, c *call, in KeyParam, body any) (*idempotency, string, error) {
	if in.Key == "" {
		return &idempotency{}, "", nil
	}
	if strings.ContainsFunc(in.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, "", problem.New(problem.Invalid, codeInvalid, "An Idempotency-Key is printable ASCII without spaces.")
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, "", fmt.Errorf("request: %w", err)
	}
	sum := sha256.Sum256(text)
	i := &idempotency{
		key: once.KeyOf(once.Idempotency, c.Person.ID, c.Client, c.r.Method, c.r.URL.Path, in.Key), hash: base64.RawURLEncoding.EncodeToString(sum[:]), used: true,
	}
	v, err := a.State.OnceValue(ctx, once.Idempotency, i.key)
	var gone *once.Gone
	switch {
	case errors.As(err, &gone):
		return i, "", nil
	case err != nil:
		return nil, "", err
	case !a.now().Before(v.ExpiresAt):
		i.burn = true
		return i, "", nil
	}
	var m made
	if err := json.Unmarshal(v.Data, &m); err != nil {
		return nil, "", fmt.Errorf("read what a request made: %w", err)
	}
	if m.Hash != i.hash {
		return nil, "", problem.New(problem.Conflict, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
	}
	return i, m.ID, nil
}

// remember adds to a change what the request made. Two requests with one key
// cannot both commit: the value is unique.
func (i *idempotency) remember(id string, at time.Time, list ...act.Change) []act.Change {
	if !i.used {
		return list
	}
	if i.burn {
		list = append(list, once.Burn{Purpose: once.Idempotency, Key: i.key})
	}
	data, err := json.Marshal(made{ID: id, Hash: i.hash})
	if err != nil {
		panic("admin: two strings have no JSON: " + err.Error())
	}
	return append(list, once.Put{Value: once.Value{
		Purpose: once.Idempotency, Key: i.key, Data: data, MadeAt: at, ExpiresAt: at.Add(IdempotencyLifetime),
	}})
}

// lost reports whether a change failed because another request with the same key
// was first.
func (i *idempotency) lost(err error) bool {
	return i.used && problem.CodeOf(err) == "exists"
}
