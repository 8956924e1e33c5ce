package policy

import (
	"cmp"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/countersign-dev/countersign/internal/policy/layout"
	"github.com/countersign-dev/countersign/policies"
)

// Policy is what a policy says of itself.
type Policy struct {
	ID      string   `json:"id"`
	Effect  string   `json:"effect"` // permit, forbid
	Reason  string   `json:"reason"` // in words, for people
	Public  string   `json:"public,omitempty"`
	Owner   string   `json:"owner,omitempty"`
	Monitor bool     `json:"monitor,omitempty"` // it is watched and not enforced
	Review  string   `json:"review,omitempty"`  // the date by which it is looked at again, YYYY-MM-DD
	Actions []Action `json:"actions"`           // that it speaks of
	File    string   `json:"file"`
	Line    int      `json:"line"`

	never bool          // @climb("never")
	opens bool          // @opens("review")
	group string        // @approvers
	cedar *cedar.Policy // as it was written
}

// compiled is a policy, ready.
type compiled struct {
	Policy
	tree   *ast.Policy
	asked  *form
	kinds  []types.EntityType // of principals; nil: any
	host   bool               // it is one of the host's
	member string             // the group that the principal must be in; "": none
	about  *form              // permit: whether it speaks of the input at all
	bare   *form              // permit: what a waiver leaves of asked; nil: it cannot be waived
	ways   ways               // to be permitted; or not to be forbidden
	lives  lives              // that it sets
	speaks *form              // forbid that sets a life: whether it speaks of the input at all
	why    []Reason           // its own, made once
	others []Reason           // for those who are not in the group
}

func compareText(a, b string) int { return cmp.Compare(a, b) }

// hostFile holds the policies of the host and the server itself, which stand
// beside those of every source.
const hostFile = "host.cedar"

var hostPolicies = sync.OnceValue(func() string {
	text, _ := fs.ReadFile(policies.Files, hostFile) // it is compiled in
	return string(text)
})

// Compile makes a set of a source: parsed, checked against the schema, held to
// the monotone fragment and its limits, and indexed. The error is Faults, all of
// them. A set in which no policy is enforced refuses everything and is refused.
func Compile(src Source) (*Set, error) { return compile(src, true) }

// compile is Compile; untyped, it takes for granted that the policies fit the
// schema, which takes most of the time: a test holds it of the default set.
func compile(src Source, typed bool) (*Set, error) {
	s, faults := readSchema(src.Schema)
	if len(faults) > 0 {
		return nil, faults
	}
	c := compiler{schema: s, seen: map[string]bool{}, numbers: numbersOf(s)}
	if typed {
		c.validator = validate.New(s)
	}
	for _, f := range src.sorted() {
		c.file(f)
	}
	own := len(c.out)
	c.host = true
	c.file(File{Name: hostFile, Text: hostPolicies()})
	if own == 0 && len(c.faults) == 0 {
		c.faults = Faults{{Code: FaultNoPolicies, Text: "there is no policy: everything would be refused"}}
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	enforced := slices.DeleteFunc(slices.Clone(c.out), func(p *compiled) bool { return p.Monitor })
	set := &Set{version: src.Hash()}
	set.eval, faults = newEngine(s, enforced)
	faults = append(faults, set.except(src, c.out)...)
	if len(enforced) < len(c.out) {
		all, more := newEngine(s, c.out)
		faults = append(faults, more...)
		set.monitor = &Set{eval: all, version: set.version, exceptions: set.exceptions}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	for _, p := range c.out {
		set.policies = append(set.policies, p.Policy)
	}
	return set, nil
}

// Policies are the policies of the set, in their order. They are shared: read
// them, do not change them.
func (s *Set) Policies() []Policy { return s.policies }

// compiler reads files and collects what is wrong.
type compiler struct {
	schema    *resolved.Schema
	numbers   map[string]bool     // the attributes that are numbers of some thing
	validator *validate.Validator // nil: not checked
	seen      map[string]bool
	host      bool // what is read are the host's
	out       []*compiled
	faults    Faults
}

func (c *compiler) file(f File) {
	if err := layout.Bounded(f.Text); err != nil {
		c.faults = append(c.faults, Fault{File: f.Name, Code: FaultLimit, Text: err.Error()})
		return
	}
	list, err := cedar.NewPolicyListFromBytes(f.Name, []byte(f.Text))
	if err != nil {
		c.faults = append(c.faults, Fault{File: f.Name, Code: FaultSyntax, Text: err.Error()})
		return
	}
	for i, p := range list {
		c.policy(f.Name, i, p)
	}
}

func (c *compiler) policy(file string, i int, p *cedar.Policy) {
	tree := (*ast.Policy)(p.AST())
	out := &compiled{Policy: Policy{cedar: p}, tree: tree}
	out.File, out.Line, out.Effect = file, p.Position().Line, "forbid"
	if tree.Effect == ast.EffectPermit {
		out.Effect = "permit"
	}
	notes := p.Annotations()
	out.ID = string(notes["id"])
	at := func(code, format string, a ...any) {
		c.faults = append(c.faults, Fault{
			File: file, Line: out.Line, Policy: cmp.Or(out.ID, fmt.Sprintf("number %d", i+1)), Code: code, Text: fmt.Sprintf(format, a...),
		})
	}
	before := len(c.faults)
	out.annotate(notes, at)
	if c.seen[out.ID] && out.ID != "" {
		at(FaultDuplicate, "another policy has this id")
	}
	c.seen[out.ID] = true
	if c.validator != nil {
		if err := c.validator.Policy(out.ID, tree); err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				at(FaultType, "%s", strings.TrimPrefix(line, fmt.Sprintf("for policy `%s`, ", out.ID)))
			}
		}
	}
	for _, cond := range tree.Conditions {
		if what := mismatch(cond.Body, c.numbers); what != "" {
			at(FaultType, "%s", what)
		}
	}
	out.scope(c.schema)
	if out.host = c.host; !c.host && slices.ContainsFunc(out.kinds, ofHost) {
		at(FaultHost, "what root on the host and the server itself may do is fixed, and no policy of one's own is about them")
	}
	f := fragment{approvers: out.group}
	if !out.never {
		out.ways = f.policy(tree)
	}
	for _, why := range f.why {
		at(FaultMonotone, "%s; or mark the policy @climb(\"never\"): what it speaks of is then allowed or denied, never asked for more", why)
	}
	if len(c.faults) > before {
		return
	}
	out.asked = out.form(tree.Effect, tree.Conditions)
	out.split()
	if out.Effect == "forbid" && out.lives != (lives{}) {
		out.speaks = out.limit()
	}
	out.why = []Reason{{Policy: out.ID, Text: out.Reason, Public: out.Public, Owner: out.Owner}}
	out.others = []Reason{{Policy: out.ID, Text: "This is for members of " + out.member + ".", Owner: out.Owner}}
	c.out = append(c.out, out)
}

var (
	idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	// publicPattern is what may stand in error_description (RFC 6750 3).
	publicPattern = regexp.MustCompile(`^[\x20\x21\x23-\x5B\x5D-\x7E]{1,200}$`)
	// taken are the reasons that the engine itself gives.
	taken = []string{"none", "ended", "now", "quarantine", "default", "evaluation"}
)

// annotate reads the annotations. Those that are not known are refused: a
// misspelt one would be silently without effect.
func (p *compiled) annotate(notes types.Annotations, at func(code, format string, a ...any)) {
	text := func(key types.AnnotationKey) string { return string(notes[key]) }
	p.Reason, p.Public, p.Owner, p.Review = text("reason"), text("public_reason"), text("owner"), text("review")
	p.group = text("approvers")
	wrong := func(format string, a ...any) { at(FaultAnnotation, format, a...) }
	for key := range notes {
		if !slices.Contains([]types.AnnotationKey{"id", "reason", "public_reason", "owner", "mode", "review", "climb", "opens", "approvers", "life", "grant_life"}, key) {
			wrong("@%s is no annotation", key)
		}
	}
	one := func(key types.AnnotationKey, values ...string) string {
		v, ok := notes[key]
		if ok && !slices.Contains(values, string(v)) {
			wrong("@%s is one of %s", key, strings.Join(values, ", "))
		}
		return string(v)
	}
	p.Monitor = one("mode", "enforce", "monitor") == "monitor"
	p.never = one("climb", "never") == "never"
	p.opens = one("opens", "review") == "review"
	p.lives = lives{
		lifetime(notes, "life", shortestLife, longestLife, wrong),
		lifetime(notes, "grant_life", shortestGrant, longestGrant, wrong),
	}
	if !idPattern.MatchString(p.ID) || slices.Contains(taken, p.ID) {
		wrong(`@id names every policy: lower-case letters, digits, ".", "_" and "-", at most 64, and not one of %s`, strings.Join(taken, ", "))
	}
	if strings.TrimSpace(p.Reason) == "" {
		wrong("@reason says in words why, to whoever is refused or asked for more")
	}
	if _, ok := notes["public_reason"]; ok && (!publicPattern.MatchString(p.Public) || strings.HasSuffix(p.Public, ".")) {
		wrong("@public_reason stands in a header: ASCII without quotes and backslashes, at most 200 letters, no full stop at the end")
	}
	if _, ok := notes["review"]; ok {
		if _, err := time.Parse(time.DateOnly, p.Review); err != nil {
			wrong("@review is a date, YYYY-MM-DD")
		}
	}
	if p.opens && p.Effect == "permit" {
		wrong("@opens is for what forbids")
	}
}

// ofHost reports whether principals of a kind are only the host's policies'.
func ofHost(t types.EntityType) bool { return t == kinds[KindOperator] || t == kinds[KindSystem] }

// scope finds the kinds of principal, the group and the actions.
func (p *compiled) scope(s *resolved.Schema) {
	switch sc := p.tree.Principal.(type) {
	case ast.ScopeTypeEq:
		p.kinds = []types.EntityType{sc.Entity.Type}
	case ast.ScopeTypeIs:
		p.kinds = []types.EntityType{sc.Type}
	case ast.ScopeTypeIn:
		p.member = inGroup(sc.Entity)
	case ast.ScopeTypeIsIn:
		p.kinds = []types.EntityType{sc.Type}
		p.member = inGroup(sc.Entity)
	}
	switch sc := p.tree.Action.(type) {
	case ast.ScopeTypeAll:
		p.Actions = actionsIn(s)
	case ast.ScopeTypeEq:
		p.Actions = []Action{Action(sc.Entity.ID)}
	case ast.ScopeTypeIn:
		p.Actions = actionsIn(s, sc.Entity)
	case ast.ScopeTypeInSet:
		if len(sc.Entities) > 0 {
			p.Actions = actionsIn(s, sc.Entities...)
		}
	}
}

// inGroup is the name of a group.
func inGroup(uid types.EntityUID) string {
	if uid.Type != groupType {
		return ""
	}
	return string(uid.ID)
}

// policy gives the ways for a permit to permit, or not to be forbidden by a
// forbid: only a permit's when and a forbid's unless may speak of proof.
func (f *fragment) policy(p *ast.Policy) ways {
	out := ways{nil}
	if p.Effect == ast.EffectForbid {
		out = nil
	}
	for _, c := range p.Conditions {
		switch positive := c.Condition == ast.ConditionWhen; {
		case positive == (p.Effect == ast.EffectPermit) && positive:
			out = f.bounded(out.with(f.positive(c.Body)))
		case positive == (p.Effect == ast.EffectPermit):
			out = f.bounded(out.or(f.positive(c.Body)))
		case shows(c.Body, climbing...):
			f.refuse("what is proved stands in the when of a permit or the unless of a forbid")
		}
	}
	return out
}

// split makes, of a permit, the policy that says whether it speaks of an input
// at all: the same without the group and without what has to be shown.
func (p *compiled) split() {
	if p.Effect != "permit" {
		return
	}
	var about []ast.ConditionType
	for _, c := range p.tree.Conditions {
		for _, n := range conjuncts(c.Body, c.Condition == ast.ConditionWhen) {
			if !shows(n, append(climbing, "presented")...) {
				about = append(about, ast.ConditionType{Condition: c.Condition, Body: n})
			}
		}
	}
	p.about = p.form(ast.EffectPermit, about)
	p.strip()
}

// conjuncts are the parts of a condition that must all hold. An unless is one.
func conjuncts(n ast.IsNode, when bool) []ast.IsNode {
	if and, ok := n.(ast.NodeTypeAnd); ok && when {
		return append(conjuncts(and.Left, true), conjuncts(and.Right, true)...)
	}
	return []ast.IsNode{n}
}
