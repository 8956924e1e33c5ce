package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// Excerpt is what an enforcement point holds of a set: the policies of those actions
// of its own that it may decide, and the schema that they need. It says of policies what
// callers may know (mechanisms A10): no id, no reason but the public one, no comment,
// and no action that is another's.
type Excerpt struct {
	Schema   string
	Policies string   // "": none of its actions is decided there
	Groups   []string // that the policies name, ascending
}

// excerptID begins the ids of policies in an excerpt, excerptReason is their reason.
const (
	excerptID     = "p"
	excerptReason = "Policy decides this."
	excerptFile   = "excerpt.cedar"
)

// Excerpt gives what a resource server may hold, which has some of the set's places.
func (s *Set) Excerpt(places []Place) Excerpt {
	e, ok := s.eval.(*engine)
	if !ok {
		return Excerpt{}
	}
	held := slices.DeleteFunc(slices.Clone(places), func(p Place) bool { return !p.Held })
	var out Excerpt
	var policies, schema strings.Builder
	n := 0
	for _, p := range e.policies {
		var actions []types.EntityUID
		for _, h := range held {
			if slices.Contains(p.Actions, h.Action) {
				actions = append(actions, actionUID(string(h.Action)))
			}
		}
		if p.host || len(actions) == 0 {
			continue
		}
		n++
		policies.Write(p.excerpt(fmt.Sprintf("%s%d", excerptID, n), actions))
		policies.WriteString("\n\n")
		for _, g := range p.groups() {
			if !slices.Contains(out.Groups, g) {
				out.Groups = append(out.Groups, g)
			}
		}
	}
	slices.Sort(out.Groups)
	if n == 0 {
		return Excerpt{}
	}
	e.declare(&schema, held)
	out.Schema, out.Policies = schema.String(), policies.String()
	return out
}

// excerpt is the text of a policy, for some of its actions.
func (p *compiled) excerpt(id string, actions []types.EntityUID) []byte {
	notes := []ast.AnnotationType{{Key: "id", Value: types.String(id)}, {Key: "reason", Value: excerptReason}}
	if p.Public != "" {
		notes = append(notes, ast.AnnotationType{Key: "public_reason", Value: types.String(p.Public)})
	}
	if p.never {
		notes = append(notes, ast.AnnotationType{Key: "climb", Value: "never"})
	}
	return cedar.NewPolicyFromAST((*publicast.Policy)(&ast.Policy{
		Effect: p.tree.Effect, Annotations: notes, Principal: p.tree.Principal, Resource: p.tree.Resource,
		Action: ast.Scope{}.InSet(actions), Conditions: p.tree.Conditions,
	})).MarshalCedar()
}

// groups are the groups that a policy asks principals to be in.
func (p *compiled) groups() (out []string) {
	add := func(uid types.EntityUID) {
		if uid.Type == groupType {
			out = append(out, string(uid.ID))
		}
	}
	switch sc := p.tree.Principal.(type) {
	case ast.ScopeTypeIn:
		add(sc.Entity)
	case ast.ScopeTypeIsIn:
		add(sc.Entity)
	}
	for _, c := range p.tree.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if uid, ok := v.Value.(types.EntityUID); ok {
					add(uid)
				}
			}
			return true
		})
	}
	return out
}

// declare writes the schema of some actions and what they are about.
func (e *engine) declare(w *strings.Builder, held []Place) {
	var things []string
	for _, p := range held {
		for _, t := range p.Resources {
			if _, own := e.things[t]; own && !slices.Contains(things, t) {
				things = append(things, t)
			}
		}
	}
	slices.Sort(things)
	for _, t := range things {
		w.WriteString(e.things[t].declaration())
	}
	for _, p := range held {
		var who []string
		for _, k := range p.Kinds {
			who = append(who, string(kinds[k]))
		}
		name := bytes.TrimSpace(types.String(p.Action).MarshalCedar())
		fmt.Fprintf(w, "action %s appliesTo { principal: [%s], resource: [%s], context: Context };\n", name, strings.Join(who, ", "), strings.Join(p.Resources, ", "))
	}
}

// declaration is a type of thing in Cedar's schema language.
func (t thing) declaration() string {
	var has []string
	if t.owned {
		has = append(has, "owner: Person")
	}
	for _, name := range t.has.Names() {
		has = append(has, fmt.Sprintf("%q: %s", name, t.has[name]))
	}
	if len(has) == 0 {
		return fmt.Sprintf("entity %s;\n", t.is)
	}
	return fmt.Sprintf("entity %s { %s };\n", t.is, strings.Join(has, ", "))
}

// CompileExcerpt makes a set of an excerpt. That its policies fit the schema was made
// sure of by whoever made it, and signed it.
func CompileExcerpt(x Excerpt) (*Set, error) {
	return compile(Source{Schema: x.Schema, Files: []File{{Name: excerptFile, Text: x.Policies}}}, false)
}

// MachineNeeds is the lowest rung of the machines' ladder with which a refused act of a
// machine would be allowed; None if none is, or it is not a machine that acts. It is what
// its client has to bring (mechanisms A26): no ceremony changes it.
func (s *Set) MachineNeeds(in Input) assurance.Rung {
	if in.Principal.Kind != KindService && in.Principal.Kind != KindWorkload {
		return assurance.None
	}
	c := &in.Context.Assurance
	for c.MachineRung < assurance.Hardware { // m1 to m4 are of the same heights
		c.MachineRung++
		if s.Decide(in, nil).Outcome == Allow {
			return c.MachineRung
		}
	}
	return assurance.None
}
