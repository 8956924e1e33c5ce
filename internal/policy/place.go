package policy

import (
	"net/url"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// What an enforcement point answers when an action cannot be decided as it should
// be: nobody tells it anything for longer than it may go without, or the server that
// alone decides the action does not answer (mechanisms A16).
const (
	OutageRefuse = "refuse" // no, to everybody
	OutageLast   = "last"   // by the policies that it holds, as long as they may be held
)

// Place says of one of a deployment's own actions where it is decided, and for whom.
// It is said by annotations of the action in the deployment's schema.
type Place struct {
	Action    Action
	Audiences []string // the resource servers that may ask, by their identifiers
	Kinds     []string // of principal, ascending
	Resources []string // types of thing, ascending
	Outage    string
	// Local says that an enforcement point has all that the policies of the action
	// read, so that it decides by itself; Why says why not, in words.
	Local bool
	Why   string
	// Held says that enforcement points have its policies: it is decided there, or in an
	// outage is.
	Held   bool
	Groups []string // that its policies ask principals to be in
}

// LeaveToServer has the server decide the action, for a reason in words: an enforcement
// point then holds its policies for an outage, or not at all.
func (p *Place) LeaveToServer(why string) {
	p.Local, p.Why = false, why
	p.Held = p.Held && p.Outage == OutageLast
}

// The annotations of an action.
const (
	noteAudience = "audience"
	noteOutage   = "outage"
	noteDecide   = "decide"
	noteDoc      = "doc"
)

// maxAudiences bounds the resource servers of one action.
const maxAudiences = 20

// Place is where one of the deployment's own actions is decided; ok is false of any
// other action, and of one that is decided at no enforcement point.
func (s *Set) Place(a Action) (p Place, ok bool) {
	e, ok := s.eval.(*engine)
	if !ok {
		return Place{}, false
	}
	p, ok = e.places[a]
	if ok {
		s.waives(&p)
	}
	return p, ok
}

// Places are the actions that a resource server may ask about, by name.
func (s *Set) Places(audience string) (out []Place) {
	e, ok := s.eval.(*engine)
	if !ok {
		return nil
	}
	for _, p := range e.places {
		if slices.Contains(p.Audiences, audience) {
			s.waives(&p)
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Place) int { return compareText(string(a.Action), string(b.Action)) })
	return out
}

// waives leaves to the server what an exception speaks of: whom it concerns is not
// told to others, nor that there is one.
func (s *Set) waives(p *Place) {
	for i := range s.exceptions {
		for _, kind := range p.Kinds {
			b := s.eval.(*engine).buckets[bucketKey{p.Action, kind}]
			if b != nil && slices.ContainsFunc(b.policies, func(c *compiled) bool { return c.ID == s.exceptions[i].Rule }) {
				p.LeaveToServer("a rule of it has an exception")
				return
			}
		}
	}
}

// placed reads where an action is decided. wrong is told what is not so; an action
// without an audience has no place.
func placed(uid types.EntityUID, a resolved.Action, wrong func(format string, a ...any)) (Place, bool) {
	p := Place{Action: Action(uid.ID), Outage: OutageRefuse, Local: true}
	for key, value := range a.Annotations {
		switch v := string(value); key {
		case noteDoc:
		case noteAudience:
			p.Audiences = strings.Fields(v)
			if len(p.Audiences) == 0 || len(p.Audiences) > maxAudiences || slices.ContainsFunc(p.Audiences, notURI) {
				wrong("action %s: @audience names 1 to %d resource servers by their identifiers, with spaces between them", uid.ID, maxAudiences)
			}
		case noteOutage:
			if p.Outage = v; v != OutageRefuse && v != OutageLast {
				wrong("action %s: @outage is one of refuse, last", uid.ID)
			}
		case noteDecide:
			p.Local, p.Why = false, "its schema says so"
			if v != "server" {
				wrong("action %s: @decide is server, or left out", uid.ID)
			}
		default:
			wrong("action %s: @%s is no annotation of an action: audience, outage, decide, doc", uid.ID, key)
		}
	}
	if a.AppliesTo == nil || len(p.Audiences) == 0 {
		if a.AppliesTo == nil && len(p.Audiences) > 0 {
			wrong("action %s: a group of actions is not decided, and has no @audience", uid.ID)
		}
		return p, false
	}
	for kind, t := range kinds {
		if slices.Contains(a.AppliesTo.Principals, t) {
			p.Kinds = append(p.Kinds, kind)
		}
	}
	for _, t := range a.AppliesTo.Resources {
		p.Resources = append(p.Resources, string(t))
	}
	slices.Sort(p.Kinds)
	slices.Sort(p.Resources)
	return p, true
}

func notURI(s string) bool {
	u, err := url.Parse(s)
	return err != nil || !u.IsAbs()
}

// place finds out where the deployment's own actions are decided.
func (e *engine) place(s *resolved.Schema) {
	e.places = map[Action]Place{}
	for uid, a := range s.Actions {
		if _, ours := productTypes().Actions[uid]; ours {
			continue
		}
		p, ok := placed(uid, a, func(string, ...any) {}) // what is wrong, readSchema says
		if !ok {
			continue
		}
		barred := false
		for _, kind := range p.Kinds {
			b := e.buckets[bucketKey{p.Action, kind}]
			if b == nil {
				continue
			}
			for _, c := range b.policies {
				for _, g := range c.groups() {
					if !slices.Contains(p.Groups, g) {
						p.Groups = append(p.Groups, g)
					}
				}
				fact, bar := c.beyond()
				if fact != "" || bar != "" {
					p.Local = false
					p.Why = "policy " + c.ID + " reads " + fact
				}
				if bar != "" {
					p.Why, barred = "policy "+c.ID+" "+bar, true
				}
			}
		}
		p.Held = !barred && (p.Local || p.Outage == OutageLast)
		e.places[p.Action] = p
	}
}

// atEnforcement are the members of the context that an enforcement point has as the
// server has them: what the token says, what of it follows, the time, and what is the
// same for every act elsewhere.
var atEnforcement = []string{
	"assurance.rung", "assurance.age.single", "assurance.age.multi", "assurance.age.phr", "assurance.age.phrh",
	"assurance.machine", "assurance.human_present", "assurance.phishing_resistant", "assurance.hardware_bound",
	"time.now", "time.hour", "time.weekday", "token.known", "token.age", "token.bound", "token.depth",
	"network.known", "network.zone", "presented", "no_passkey",
}

// unsaid begin the members of the context whose value, where they are not known, is one
// that they may have: a rule against some of them would let all through.
var unsaid = []string{"details.", "deployment."}

// beyond says what a policy reads that an enforcement point does not have: a fact of
// the context, or who exactly somebody is. It knows whose token it sees, by a name that
// no policy has, and whether that is a member of a group. bar is why it is not even to be
// decided there in an outage, "" if it may be.
func (p *compiled) beyond() (fact, bar string) {
	who := false
	switch sc := p.tree.Principal.(type) {
	case ast.ScopeTypeAll, ast.ScopeTypeIs:
	case ast.ScopeTypeIn:
		who = sc.Entity.Type != groupType
	case ast.ScopeTypeIsIn:
		who = sc.Entity.Type != groupType
	default:
		who = true
	}
	principal := ast.IsNode(ast.NewPrincipalNode())
	for _, c := range p.tree.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if path, ok := path(n); ok {
				name := strings.Join(path, ".")
				if !slices.Contains(atEnforcement, name) {
					fact = "context." + name
				}
				if slices.ContainsFunc(unsaid, func(x string) bool { return strings.HasPrefix(name+".", x) }) {
					bar = "reads " + fact
				}
				return false
			}
			if ownership(n) {
				return false
			}
			switch v := n.(type) {
			case ast.NodeTypeIs:
				return v.Left != principal
			case ast.NodeTypeIn:
				return v.Left != principal || !isGroup(v.Right)
			case ast.NodeTypeVariable:
				who = who || v != ast.NewResourceNode()
			case ast.NodeValue:
				who = who || !impersonal(v.Value)
			}
			return true
		})
	}
	if who {
		bar = "asks who somebody is"
	}
	return fact, bar
}

func isGroup(n ast.IsNode) bool {
	v, ok := n.(ast.NodeValue)
	uid, is := v.Value.(types.EntityUID)
	return ok && is && uid.Type == groupType
}

// impersonal reports whether a literal names nobody.
func impersonal(v types.Value) bool {
	switch v := v.(type) {
	case types.EntityUID:
		return !isKind(v.Type) && v.Type != clientType && v.Type != groupType
	case types.Set, types.Record:
		return false
	}
	return true
}
