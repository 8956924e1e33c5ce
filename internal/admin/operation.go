package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
)

// operation is one route with what it demands of callers. Authentication, scope
// and policy are judged before a byte of the request is looked at: who may not
// see an instance gets the same answer whether or not it exists (mechanisms A11).
type operation struct {
	id, method, path string
	summary          string
	tag              string
	scope            string
	service          string // the scope by which services may, "" if they may not
	action           policy.Action
	kind             audit.Kind           // of the record: of the change, or of a refused read
	own              bool                 // about the caller's own things
	status           int                  // of success; 0: 200, 204 without a body
	answers          map[int]reflect.Type // of a POST, bodies by status, where there is more than one
}

// call is a request on its way.
type call struct {
	Caller
	op    operation
	r     *http.Request
	facts *act.Facts  // that the caller was judged on
	may   []permitted // what it was judged to be allowed
	acted bool        // … and an act followed, which taught what it had to teach
}

type callKey struct{}

// register adds an operation. do gets requests of callers who may do this kind
// of thing at all; changes decide again, on what they change.
func register[I, O any](a *API, op operation, do func(context.Context, *call, *I) (*O, error)) {
	a.ops = append(a.ops, op)
	huma.Register(a.huma, huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Summary: op.summary, Tags: []string{op.tag},
		DefaultStatus: op.status, MaxBodyBytes: MaxBody, Security: []map[string][]string{{schemeName: {op.scope}}},
		Middlewares: huma.Middlewares{a.guard(op)},
		Extensions:  op.extensions(),
	}, func(ctx context.Context, in *I) (*O, error) {
		c := ctx.Value(callKey{}).(*call)
		out, err := do(ctx, c, in)
		if err != nil {
			return nil, a.document(c.r, err)
		}
		if !c.acted {
			a.learn(c)
		}
		return out, nil
	})
	a.answered(op)
}

// answered says of an operation that was added what it answers in more than one way.
func (a *API) answered(op operation) {
	doc := a.huma.OpenAPI()
	for status, body := range op.answers {
		doc.Paths[op.path].Post.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: doc.Components.Schemas.Schema(body, true, "")}},
		}
	}
}

// extensions say what else an operation demands: its action, and the scope by which
// services may.
func (op operation) extensions() map[string]any {
	x := map[string]any{"x-action": string(op.action)}
	if op.service != "" {
		x["x-service-scope"] = op.service
	}
	return x
}

// guard establishes the caller and judges what kind of thing they ask for.
func (a *API) guard(op operation) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		c, err := a.admit(r, op)
		if err != nil {
			a.Render(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next(huma.WithValue(ctx, callKey{}, c))
	}
}

func (a *API) admit(r *http.Request, op operation) (*call, error) {
	caller, err := a.Authenticate(r)
	if err != nil {
		return nil, err
	}
	switch {
	case caller.machine() && op.service != "":
		op.scope = op.service
	case !caller.Human():
		return nil, problem.New(problem.Denied, "person_required", "This API serves people; services and agents have nothing to do here.")
	}
	c := &call{Caller: caller, op: op, r: r}
	owner := ""
	if op.own {
		owner = caller.Person.ID
	}
	if err := a.may(r.Context(), c, op.action, op.kind, owner, op.scope); err != nil {
		return nil, err
	}
	return c, readable(r.URL)
}

// intent is an act of the caller, or what a look of theirs is judged as.
func (a *API) intent(c *call, action policy.Action, kind audit.Kind, owner string) act.Intent {
	now := a.now()
	in := act.Intent{Action: action, Kind: kind, Refs: c.refs(owner), Token: c.token(now), From: c.origin(now)}
	_, in.From.Known = a.learned.get(c.use(action))
	return in
}

// use names what one token is used for from one network. However many requests it takes,
// a list page by page or a manifest item by item, it is one use of its owner's history:
// what is usual there is counted in renewed tokens, too.
func (c *call) use(action policy.Action) [32]byte {
	return sha256.Sum256([]byte(c.Claims.JTI + "\x00" + string(action) + "\x00" + c.network))
}

// permitted is what the caller was judged to be allowed, and on which facts.
type permitted struct {
	in    act.Intent
	facts *act.Facts
}

// learn remembers what was read: no act does.
func (a *API) learn(c *call) {
	for _, m := range c.may {
		a.Do.Learn(m.in, m.facts, a.now())
		a.learned.keep(c.use(m.in.Action), struct{}{}, a.now())
	}
}

// may judges scope and policy of an action by its kind alone. A refusal by
// policy is recorded; a missing scope is not: the token is only the wrong one.
func (a *API) may(ctx context.Context, c *call, action policy.Action, kind audit.Kind, owner, scope string) error {
	in := a.intent(c, action, kind, owner)
	dec, facts, err := a.Do.Judge(ctx, in)
	if err != nil {
		return unknownIs(err, badToken("The access token was ended.", nil))
	}
	has := c.Has(scope)
	if dec.Outcome == policy.Allow {
		c.facts = facts
		if has {
			c.may = append(c.may, permitted{in, facts})
			return nil
		}
		p := problem.New(problem.Denied, codeScope, "The access token lacks the scope "+scope+".")
		p.Challenge = &problem.Challenge{Scope: []string{scope}}
		return p
	}
	return refusal(a.Do.Refuse(ctx, in), scope, has)
}

// refusal completes what policy says with what the token lacks: the scope, where
// more proof would do, so that one trip brings both (mechanisms A25).
func refusal(err error, scope string, has bool) error {
	p := problem.From(err)
	switch {
	case p == nil:
		return err
	case p.Code == policy.CodeEnded:
		return badToken("The access token was ended.", err)
	case p.Kind == problem.StepUp && p.Challenge != nil && !has:
		q, c := *p, *p.Challenge
		c.Scope = append([]string{scope}, c.Scope...)
		q.Challenge = &c
		return &q
	}
	return err
}

// readable refuses what a store or another parser could take in another way:
// NUL, invalid UTF-8, broken escapes, and parameters that occur twice.
func readable(u *url.URL) error {
	bad := problem.New(problem.Invalid, codeInvalid, "The address holds a parameter twice, a broken escape, a NUL or invalid UTF-8.")
	if !utf8.ValidString(u.Path) || strings.IndexByte(u.Path, 0) >= 0 {
		return bad
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad.Because(err)
	}
	for name, v := range values {
		if len(v) > 1 || !utf8.ValidString(v[0]) || !utf8.ValidString(name) || strings.IndexByte(v[0], 0) >= 0 {
			return bad
		}
	}
	return nil
}

// change is what an operation changes.
type change struct {
	kind    audit.Kind // 0: the operation's
	action  policy.Action
	owner   string
	target  []string
	whom    string         // person concerned, beside the caller
	said    map[string]any // of that person, or of nobody if there is none
	general map[string]any // of nobody, beside what is said of whom
	match   *match
	spend   []once.Spend
	check   func(context.Context) error // before each try: what the act reads beside its facts
	make    func(*act.Facts) ([]act.Change, error)
}

// carryOut is the one way this surface changes anything: an act of the caller,
// decided on everything the change is about.
func (a *API) carryOut(ctx context.Context, c *call, ch change) (act.Outcome, error) {
	in := a.intent(c, cmp.Or(ch.action, c.op.action), cmp.Or(ch.kind, c.op.kind), ch.owner)
	in.Refs.Target, in.Spend = ch.target, append(ch.spend[:len(ch.spend):len(ch.spend)], c.proof)
	allowed := func() error { return nil }
	if ch.check != nil {
		in.Prepare, allowed = recovery.Judged(ch.check)
	}
	in.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if err := allowed(); err != nil {
			return act.Effect{}, err
		}
		if err := ch.match.holds(f); err != nil {
			return act.Effect{}, err
		}
		list, err := ch.make(f)
		if err != nil {
			return act.Effect{}, err
		}
		return act.Effect{Changes: list, Parts: c.parts(ch)}, nil
	}
	out, err := a.Do.Do(ctx, in)
	if err == nil {
		c.acted = true
		a.learned.keep(c.use(in.Action), struct{}{}, a.now())
	}
	if used, ok := act.Spent(err); ok && used.Purpose == once.DPoP {
		return out, badProof.Because(errors.New("the proof was used before, by the record " + used.By))
	}
	return out, refusal(err, c.op.scope, true)
}

// parts are what the record says: of the caller, of whom it happened to, and of
// nobody. Nothing of a person stands in the part of nobody (mechanisms E15).
func (c *call) parts(ch change) []audit.Part {
	who := map[string]any{"grant": c.Grant}
	parts := []audit.Part{{Person: c.Person.ID, Body: who}}
	if c.machine() { // the facts of the decision name it
		parts = nil
	}
	switch {
	case ch.whom == "":
		ch.general = merged(ch.general, ch.said)
	case ch.whom == c.Person.ID:
		for k, v := range ch.said {
			who[k] = v
		}
		who["whom"] = ch.whom
	default:
		parts = append(parts, audit.Part{Person: ch.whom, Body: merged(nil, ch.said)})
	}
	if len(ch.general) > 0 {
		parts = append(parts, audit.Part{Body: ch.general})
	}
	return parts
}

func merged(a, b map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range []map[string]any{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
