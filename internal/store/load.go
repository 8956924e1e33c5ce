package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// Load implements act.Store. Nodes are those of actor, session, grant, family,
// client, credentials and resource with all ancestors, then those of the
// targets; Guard is all of them. Ended is the first that is not live, targets
// aside. Proofs are those of the session, else of the grant; a service's come
// only with the intent.
func (s *Store) Load(ctx context.Context, action policy.Action, refs act.Refs) (act.Facts, error) {
	key, cacheable := keyOf(action, &refs)
	if cacheable {
		if f, ok := s.cache.get(key); ok {
			return s.freshen(ctx, f, &refs)
		}
	}
	self, err := s.deploymentID(ctx)
	if err != nil {
		return act.Facts{}, err
	}
	epoch := s.cache.now()
	l := loader{action: action, refs: &refs, self: self, at: s.now(), head: &s.head}
	if err := s.db.Snapshot(ctx, func(r Reader) error { l.r = r; return l.load(ctx) }); err != nil {
		if p := problem.From(err); p != nil {
			return act.Facts{}, err
		}
		return act.Facts{}, fmt.Errorf("store: load the facts of %s: %w", action, err)
	}
	if cacheable {
		s.cache.put(key, l.facts, epoch)
	}
	l.facts.Expiry = append(l.facts.Expiry[:len(l.facts.Expiry):len(l.facts.Expiry)], l.moving...)
	return l.facts, nil
}

// freshen adds to cached facts what no version guards.
func (s *Store) freshen(ctx context.Context, f act.Facts, refs *act.Refs) (act.Facts, error) {
	if refs.Family == "" {
		return f, nil
	}
	e, err := need(ctx, s.db, "family", expiryOf(refs.Family), familyExpirySQL, refs.Family)
	if err != nil {
		return act.Facts{}, err
	}
	f.Expiry = append(f.Expiry[:len(f.Expiry):len(f.Expiry)], e)
	return f, nil
}

// loader reads the facts of one act in one snapshot.
type loader struct {
	r      Reader
	action policy.Action
	refs   *act.Refs
	self   string // the deployment, "" while it is being founded
	at     time.Time
	facts  act.Facts
	moving []act.Expiry // what no version guards: never cached
	head   *atomic.Pointer[policyHead]
}

func (l *loader) load(ctx context.Context) error {
	for _, step := range []func(context.Context) error{l.nodes, l.principal, l.remembered, l.managed, l.scopes, l.targets, l.factors} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hasNode reports whether principals of the kind have a lineage node.
func hasNode(kind string) bool {
	return kind == policy.KindPerson || kind == policy.KindService || kind == policy.KindAgent
}

// nodes walks up from everything that has to be live.
func (l *loader) nodes(ctx context.Context) error {
	type ref struct{ what, id string }
	refs := make([]ref, 0, 8)
	add := func(what, id string) {
		if id != "" && !slices.ContainsFunc(refs, func(r ref) bool { return r.id == id }) {
			refs = append(refs, ref{what, id})
		}
	}
	if hasNode(l.refs.Kind) {
		add(l.refs.Kind, l.refs.Actor)
	}
	add("session", l.refs.Session)
	add("grant", l.refs.Grant)
	add("family", l.refs.Family)
	add("client", l.refs.Client)
	for _, c := range l.refs.Credential {
		add("credential", c)
	}
	for _, a := range l.refs.Under {
		add("ancestor", a)
	}
	add("resource", l.refs.Resource)
	for _, res := range l.refs.Resources {
		add("resource", res)
	}
	ids := make([]string, len(refs), len(refs)+1)
	for i, r := range refs {
		ids[i] = r.id
	}
	nodes, err := l.above(ctx, ids)
	if err != nil {
		return err
	}
	for _, r := range refs {
		if !has(nodes, r.id) {
			return missing(r.what)
		}
	}
	l.facts.Nodes = nodes
	for _, n := range nodes {
		l.guard(n)
	}
	l.ended(ids)
	return nil
}

// above gives the nodes of ids and their ancestors. With them comes the deployment
// itself, which nothing descends from: it is guarded by every act, so that one that
// was decided before a quarantine began is decided again.
func (l *loader) above(ctx context.Context, ids []string) ([]lineage.Node, error) {
	if l.self != "" {
		ids = append(ids, l.self)
	}
	nodes, err := ancestors(ctx, l.r, ids)
	if i := slices.IndexFunc(nodes, func(n lineage.Node) bool { return n.ID == l.self }); i >= 0 {
		l.facts.Input.Context.Quarantine = !nodes[i].Live()
		l.guard(nodes[i])
		if err == nil {
			err = l.policyHead(ctx, nodes[i].Version)
		}
		nodes = slices.Delete(nodes, i, i+1)
	}
	return nodes, err
}

// guard has the commit re-check a node, once.
func (l *loader) guard(n lineage.Node) {
	if !slices.ContainsFunc(l.facts.Guard, func(v act.Version) bool { return v.ID == n.ID }) {
		l.facts.Guard = append(l.facts.Guard, act.Version{ID: n.ID, N: n.Version})
	}
}

// ended says what is not live, what was named directly first.
func (l *loader) ended(ids []string) {
	c := &l.facts.Input.Context
	var first lineage.Node
	for _, n := range l.facts.Nodes {
		if !n.Live() && (first.ID == "" || slices.Contains(ids, n.ID) && !slices.Contains(ids, first.ID)) {
			first = n
		}
	}
	if first.ID != "" && l.refs.Kind != policy.KindPerson && first.Kind == lineage.Person && !slices.Contains(ids, first.ID) {
		c.OwnerEnded = first.ID
		return
	}
	c.Ended = first.ID
}

// principal fills who acts, and through which client.
func (l *loader) principal(ctx context.Context) error {
	in := &l.facts.Input
	in.Context.Risk = policy.UnknownRisk
	in.Principal = policy.Entity{Kind: l.refs.Kind, ID: l.refs.Actor}
	if l.refs.Client != "" {
		in.Client = policy.Entity{Kind: "client", ID: l.refs.Client}
	}
	var groups []group.Group
	var err error
	switch l.refs.Kind {
	case policy.KindPerson:
		groups, err = all(ctx, l.r, scanGroup, groupSQL+`JOIN membership m ON m.grp = g.id WHERE m.person = $1 ORDER BY g.name`, l.refs.Actor)
	case policy.KindService:
		var ids []string
		var text string
		text, err = need(ctx, l.r, "service", scanString, `SELECT groups FROM service WHERE id = $1`, l.refs.Actor)
		if err == nil {
			err = list(text, &ids)
		}
		if err == nil && len(ids) > 0 {
			groups, err = all(ctx, l.r, scanGroup, groupSQL+`WHERE g.id IN (`+params(1, len(ids))+`) ORDER BY g.name`, anys(ids)...)
		}
	}
	// A group that is off gives nothing, and switching one off moves its version.
	for _, g := range groups {
		l.guard(g.Node)
		if g.Node.Live() {
			in.Principal.Groups = append(in.Principal.Groups, g.Name)
		}
	}
	return err
}

const familyExpirySQL = `SELECT COALESCE(expires_at, 0), COALESCE(idle_until, 0), 0 FROM refresh_family WHERE id = $1`

// expiryOf scans the ends of a session or family: absolute, idle, signed out. A
// session that was signed out has expired then.
func expiryOf(id string) func(Row) (act.Expiry, error) {
	return func(row Row) (act.Expiry, error) {
		var absolute, idle, out int64
		if err := row.Scan(&absolute, &idle, &out); err != nil {
			return act.Expiry{}, err
		}
		e := act.Expiry{ID: id}
		for _, us := range [...]int64{absolute, idle, out} {
			if us != 0 && (e.At.IsZero() || moment(us).Before(e.At)) {
				e.At = moment(us)
			}
		}
		return e, nil
	}
}

// remembered reads the proofs and ends of what was named directly.
func (l *loader) remembered(ctx context.Context) error {
	f := &l.facts
	if id := l.refs.Session; id != "" {
		e, err := need(ctx, l.r, "session", expiryOf(id),
			`SELECT COALESCE(expires_at, 0), COALESCE(idle_until, 0), COALESCE(signed_out_at, 0) FROM session WHERE id = $1`, id)
		if err != nil {
			return err
		}
		l.moving = append(l.moving, e)
		proofs, err := need(ctx, l.r, "session", l.proofsOn(&f.Device), `SELECT s.proofs, s.device, COALESCE(m.until, 0) FROM session s
LEFT JOIN managed_device m ON m.device = s.device AND m.person = s.person WHERE s.id = $1`, id)
		if err != nil {
			return err
		}
		if err := list(proofs, &f.Proofs); err != nil {
			return err
		}
		if err := l.standing(ctx); err != nil {
			return err
		}
		if err := l.typed(ctx); err != nil {
			return err
		}
	}
	if id := l.refs.Grant; id != "" {
		var expires int64
		device := &f.Device
		if l.refs.Session != "" { // which says where it is
			device = new(string)
		}
		proofs, err := need(ctx, l.r, "grant", l.proofsOn(device, &expires), `SELECT g.proofs, g.device, COALESCE(m.until, 0), COALESCE(g.expires_at, 0) FROM access_grant g
LEFT JOIN managed_device m ON m.device = g.device AND m.person = g.person WHERE g.id = $1`, id)
		if err != nil {
			return err
		}
		if expires != 0 {
			f.Expiry = append(f.Expiry, act.Expiry{ID: id, At: moment(expires)})
		}
		if l.refs.Session == "" {
			if err := list(proofs, &f.Proofs); err != nil {
				return err
			}
		}
	}
	if id := l.refs.Family; id != "" {
		e, err := need(ctx, l.r, "family", expiryOf(id), familyExpirySQL, id)
		if err != nil {
			return err
		}
		l.moving = append(l.moving, e)
	}
	if l.refs.Kind == policy.KindService {
		f.Proofs = nil
	}
	return nil
}

// proofsOn scans the proofs of what lives on a device, and until when that is the
// operator's, which the version of the device guards.
func (l *loader) proofsOn(device *string, more ...any) func(Row) (string, error) {
	return func(row Row) (proofs string, err error) {
		var until int64
		err = row.Scan(append([]any{&proofs, device, &until}, more...)...)
		l.isManaged(*device, until)
		return proofs, err
	}
}

func (l *loader) isManaged(device string, until int64) {
	if until != 0 {
		l.facts.Managed = append(l.facts.Managed, act.Managed{Device: device, Until: moment(until)})
	}
}

// managed says which devices are the operator's where neither a session nor a grant is
// presented: at a sign-in, and when a code is redeemed.
func (l *loader) managed(ctx context.Context) error {
	if l.refs.Kind != policy.KindPerson || l.refs.Session != "" || l.refs.Grant != "" {
		return nil
	}
	for i := range l.facts.Nodes {
		n := &l.facts.Nodes[i]
		if n.Kind != lineage.Device {
			continue
		}
		until, _, err := one(ctx, l.r, scanInt, `SELECT until FROM managed_device WHERE device = $1 AND person = $2`, n.ID, l.refs.Actor)
		if err != nil {
			return err
		}
		l.isManaged(n.ID, until)
	}
	return nil
}

// standing drops the proofs of a session that were made with a factor which is
// off now. The session descends from the factors it began with, and ends with
// them; those of a later step-up are no ancestors, but prove nothing any more.
func (l *loader) standing(ctx context.Context) error {
	var later []string
	for _, p := range l.facts.Proofs {
		if p.Credential != "" && !has(l.facts.Nodes, p.Credential) && !slices.Contains(later, p.Credential) {
			later = append(later, p.Credential)
		}
	}
	if len(later) == 0 {
		return nil
	}
	nodes, err := all(ctx, l.r, scanNode, `SELECT `+nodeCols+` FROM node n WHERE n.id IN (`+params(1, len(later))+`)`, anys(later)...)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		l.guard(n)
	}
	l.facts.Proofs = slices.DeleteFunc(l.facts.Proofs, func(p assurance.Proof) bool {
		return slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.ID == p.Credential && !n.Live() })
	})
	return nil
}

// typed drops the proofs of a session that were typed where that is off now: off
// is judged at use (security, invariant 3). A password and a code are one way to
// sign in, and so off together.
func (l *loader) typed(ctx context.Context) error {
	isTyped := func(p assurance.Proof) bool { return p.Method == assurance.Password || p.Method == assurance.TOTP }
	if !slices.ContainsFunc(l.facts.Proofs, isTyped) {
		return nil
	}
	on, err := allowedKinds(ctx, l.r)
	if err == nil && !on.Typed() {
		l.facts.Proofs = slices.DeleteFunc(l.facts.Proofs, isTyped)
	}
	return err
}

// factors says whether the account whose factors are about to change has a
// passkey that counts: changing them needs at least what they protect. The
// person's version guards it, because every change of factors moves that.
func (l *loader) factors(ctx context.Context) error {
	if l.action != policy.FactorEnrol && l.action != policy.FactorRemove && l.action != policy.FactorRename && l.action != policy.EmailChange {
		return nil
	}
	in := &l.facts.Input
	owner := cmp.Or(in.Resource.Owner, l.refs.Owner)
	// What counts for less, a passkey that a recovery made or a temporary pass,
	// proves nothing where factors change: whoever got in that way changes none. Nor
	// the address where the owner hears of a recovery and can stop it.
	l.facts.Proofs = slices.DeleteFunc(slices.Clone(l.facts.Proofs), func(p assurance.Proof) bool {
		return p.Cap != assurance.None && (p.CapUntil.IsZero() || l.at.Before(p.CapUntil))
	})
	if owner == "" {
		return nil
	}
	n, ok, err := one(ctx, l.r, scanNode, `SELECT `+nodeCols+` FROM node n WHERE n.id = $1`, owner)
	if err != nil || !ok {
		return err
	}
	l.guard(n)
	strong, _, err := one(ctx, l.r, scanInt, `SELECT COUNT(*) FROM passkey k JOIN node n ON n.id = k.id
WHERE k.person = $1 AND n.ended_at IS NULL AND n.frozen_at IS NULL AND COALESCE(k.probation_until, 0) <= $2`, owner, l.at.UnixMicro())
	in.Context.NoPasskey = err == nil && strong == 0
	return err
}

// standard are the scopes of OpenID Connect, which belong to no resource.
var standard = []string{"openid", "profile", "email", "offline_access"}

// scopes reads what the requested scopes ask for, at the act's resource and the
// further ones it is for.
func (l *loader) scopes(ctx context.Context) error {
	c := &l.facts.Input.Context
	var list []resource.Resource
	for _, id := range append([]string{l.refs.Resource}, l.refs.Resources...) {
		if id == "" || slices.ContainsFunc(list, func(r resource.Resource) bool { return r.ID == id }) {
			continue
		}
		res, err := need(ctx, l.r, "resource", scanResource, resourceSQL+`WHERE r.id = $1`, id)
		if err != nil {
			return err
		}
		list = append(list, res)
	}
	if len(list) > 0 {
		l.facts.Input.Resource = policy.Resource{Type: "resource", ID: list[0].ID}
	}
	for _, name := range l.refs.Scopes {
		known := slices.Contains(standard, name)
		ask := policy.ScopeAsk{Name: name}
		for _, res := range list {
			if sc, ok := res.Scope(name); ok {
				known = true
				ask = policy.ScopeAsk{Name: name, Ask: sc.Ask, Groups: sc.Groups, Conditional: sc.Conditional(), Required: l.refs.Required && sc.Conditional()}
				break
			}
		}
		if !known {
			return problem.Newf(problem.Invalid, "invalid_scope", "There is no scope %q at this resource.", name)
		}
		c.Scopes = append(c.Scopes, ask)
	}
	return nil
}

// owners says whose a thing is, by the kind of its node.
var owners = map[lineage.Kind]struct{ kind, sql string }{
	lineage.Person:     {"person", `SELECT id FROM node WHERE id = $1`},
	lineage.Service:    {"service", `SELECT owner FROM service WHERE id = $1`},
	lineage.Session:    {"session", `SELECT person FROM session WHERE id = $1`},
	lineage.Grant:      {"grant", `SELECT person FROM access_grant WHERE id = $1 UNION ALL SELECT person FROM consent WHERE id = $1`},
	lineage.Family:     {"family", `SELECT person FROM refresh_family WHERE id = $1`},
	lineage.Delegation: {"delegation", `SELECT subject FROM delegation WHERE id = $1 AND grant_id <> ''`},
	lineage.Connection: {"issuer", `SELECT person FROM issuer_link WHERE id = $1`},
	lineage.Client:     {"client", `SELECT owner FROM client WHERE id = $1`},
	lineage.Credential: {"factor", `SELECT person FROM passkey WHERE id = $1 UNION ALL SELECT person FROM factor WHERE id = $2`},
}

// targets guards what the act is about and finds whose it is: the one owner of
// all targets, or nobody's in particular. What is done to oneself needs no
// target for the two actions that cannot be about anybody else.
func (l *loader) targets(ctx context.Context) error {
	in := &l.facts.Input
	if len(l.refs.Target) == 0 {
		if l.action == policy.SessionOpen || l.action == policy.SelfRead {
			in.Resource = policy.Resource{Type: l.refs.Kind, ID: l.refs.Actor, Owner: l.refs.Actor}
		}
		return nil
	}
	nodes, err := all(ctx, l.r, scanNode, `SELECT `+nodeCols+` FROM node n WHERE n.id IN (`+params(1, len(l.refs.Target))+`)`, anys(l.refs.Target)...)
	if err != nil {
		return err
	}
	for i, id := range l.refs.Target {
		at := slices.IndexFunc(nodes, func(n lineage.Node) bool { return n.ID == id })
		if at < 0 {
			return missing("target")
		}
		n := nodes[at]
		if !has(l.facts.Nodes, id) {
			l.facts.Nodes = append(l.facts.Nodes, n)
			l.guard(n)
		}
		what := owners[n.Kind]
		owner := ""
		if what.sql != "" {
			args := []any{id}
			if strings.Contains(what.sql, "$2") {
				args = append(args, id)
			}
			if owner, _, err = one(ctx, l.r, scanString, what.sql, args...); err != nil {
				return err
			}
		}
		if i == 0 {
			in.Resource = policy.Resource{Type: what.kind, ID: id, Owner: owner}
		} else if in.Resource.Owner != owner {
			in.Resource.Owner = ""
		}
	}
	return nil
}
