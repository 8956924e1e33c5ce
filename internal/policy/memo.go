package policy

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// memo remembers verdicts by the facts that the policies of one bucket can tell
// apart. A set never changes, so nothing in it goes stale: other facts have
// another key, and other policies another memo.
type memo struct {
	groups []string                                // that the policies name
	ages   [assurance.Hardware + 1][]time.Duration // that they compare with, of each rung
	of     map[string]bool                         // members of the context that they read; "own", "kind"
	said   map[string][]told                       // attributes that they read, of each type of thing

	mu       sync.RWMutex
	verdicts map[factKey]verdict
}

// maxMemo bounds a memo; when it is full it starts again empty.
const maxMemo = 512

// factKey is what one bucket's policies can read, the ages as the number of
// those compared with that are exceeded.
type factKey struct {
	groups    uint64
	bits      uint32
	ages      [assurance.Hardware + 1]uint8
	rung      int8
	machine   int8
	sources   int
	approvals int
	risk      Risk
	zone      string
	kind      string // of the resource
	said      uint64 // of it: the class of each attribute
}

// finite are the members of the context that a key holds as they are.
var finite = []string{
	"assurance.rung", "assurance.machine", "assurance.sources", "assurance.phishing_resistant", "assurance.hardware_bound",
	"assurance.human_present", "approvals.confirmed", "approvals.count", "device.known", "device.managed",
	"deployment.manages_devices", "risk.known", "risk.band", "network.known", "no_passkey", "presented",
}

// newMemo finds what policies read. It is nil if that is more than a key holds.
func newMemo(policies []*compiled, ts traits, things map[string]thing) *memo {
	m := &memo{of: map[string]bool{}, verdicts: map[factKey]verdict{}}
	var ok bool
	if m.said, ok = ts.told(things); !ok {
		return nil
	}
	for _, p := range policies {
		if !m.scopes(p) {
			return nil
		}
		for _, c := range p.tree.Conditions {
			if !m.reads(c.Body, things) {
				return nil
			}
		}
	}
	for i := range m.ages {
		slices.Sort(m.ages[i])
		m.ages[i] = slices.Compact(m.ages[i])
	}
	if len(m.groups) > 64 {
		return nil
	}
	return m
}

// scopes reports whether the scope of a policy reads no more than a key holds:
// the kind of the principal is the bucket's, and a resource has a kind.
func (m *memo) scopes(p *compiled) bool {
	switch sc := p.tree.Principal.(type) {
	case ast.ScopeTypeAll, ast.ScopeTypeIs:
	case ast.ScopeTypeIn:
		if !m.group(sc.Entity) {
			return false
		}
	case ast.ScopeTypeIsIn:
		if !m.group(sc.Entity) {
			return false
		}
	default:
		return false
	}
	switch p.tree.Resource.(type) {
	case ast.ScopeTypeAll:
		return true
	case ast.ScopeTypeIs:
		m.of["kind"] = true
		return true
	default:
		return false
	}
}

// group notes a group that principals are asked to be in. It is false of anything
// else: everybody is in themselves, and a key does not say who somebody is.
func (m *memo) group(uid types.EntityUID) bool {
	if uid.Type != groupType {
		return false
	}
	if name := string(uid.ID); !slices.Contains(m.groups, name) {
		m.groups = append(m.groups, name)
	}
	return true
}

// reads reports whether n reads no more than a key holds, and notes what.
func (m *memo) reads(n ast.IsNode, things map[string]thing) bool {
	good := true
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if !good {
			return false
		}
		if p, ok := path(n); ok {
			good = m.holds(p, dotted(n))
			return false
		}
		if ownership(n) {
			m.of["own"] = true
			return false
		}
		if name, _, ok := asks(n); ok {
			m.of["kind"] = m.of["kind"] || name == "kind"
			return false
		}
		switch v := n.(type) {
		case ast.NodeTypeLessThanOrEqual:
			if r, ok := agedRung(v.Left); ok {
				d, literal := duration(v.Right)
				m.ages[r] = append(m.ages[r], d)
				m.of["assurance.age"] = true
				good = literal && len(m.ages[r]) < 256
				return false
			}
		case ast.NodeTypeIn:
			if uid, ok := v.Right.(ast.NodeValue); ok && v.Left == ast.IsNode(ast.NewPrincipalNode()) {
				if g, ok := uid.Value.(types.EntityUID); ok {
					good = m.group(g)
					return false
				}
			}
		case ast.NodeTypeIs:
			m.of["kind"] = m.of["kind"] || v.Left == ast.IsNode(ast.NewResourceNode())
			return v.Left != ast.IsNode(ast.NewPrincipalNode()) && v.Left != ast.IsNode(ast.NewResourceNode())
		case ast.NodeTypeHas:
			if v.Arg == ast.IsNode(ast.NewResourceNode()) { // everything that is declared is there
				m.of["kind"] = true
				return false
			}
		case ast.NodeTypeAccess:
			if name, ok := attributeOf(v); ok {
				m.of["kind"] = m.of["kind"] || name == "kind"
				good = name == "kind" && !declares(things, name) || onlyBool(things, name)
				return false
			}
		case ast.NodeTypeVariable:
			good = v == ast.NewActionNode()
		}
		return true
	})
	return good
}

// holds reports whether a key holds what is at a path below the context.
func (m *memo) holds(p []string, name string) bool {
	m.of[name] = true
	return len(p) > 0 && (slices.Contains(finite, name) || name == "network.zone")
}

// key is what the bucket's policies can tell about an input.
func (m *memo) key(in *Input) factKey {
	c := &in.Context
	s := &c.Assurance
	k := factKey{
		rung: int8(c.rung()), machine: int8(s.MachineRung), sources: s.Sources, approvals: c.Approvals,
		risk: c.risk(), kind: in.Resource.Type, said: m.class(&in.Resource),
	}
	if m.of["network.zone"] {
		k.zone = c.Network.Zone
	}
	for i, g := range m.groups {
		if in.Principal.In(g) {
			k.groups |= 1 << i
		}
	}
	for r, than := range m.ages {
		if len(than) == 0 {
			continue
		}
		d, _ := c.age(assurance.Rung(r))
		k.ages[r] = uint8(m.beyond(assurance.Rung(r), d))
	}
	for i, b := range [...]bool{
		s.PhishingResistant, s.HardwareBound, s.HumanPresent, c.Confirmed, c.known(), c.DeviceManaged, c.DevicesUsed,
		c.Network.Known, c.NoPasskey, c.Presented, in.Principal.Kind == KindPerson && cmp.Or(in.Resource.Owner, nobody) == in.Principal.ID,
	} {
		if b {
			k.bits |= 1 << i
		}
	}
	return k
}

// class is what policies can tell of what is said of a resource.
func (m *memo) class(r *Resource) (n uint64) {
	for _, a := range m.said[r.Type] {
		n = n*a.classes + a.class(r.Attributes[a.name])
	}
	return n
}

// beyond is how many of the ages that policies compare one with it exceeds.
func (m *memo) beyond(r assurance.Rung, d time.Duration) (n int) {
	for n < len(m.ages[r]) && d > m.ages[r][n] {
		n++
	}
	return n
}

// told is an age as the policies tell it: the least that they compare it with and that it
// does not exceed; never, if it exceeds them all.
func (m *memo) told(r assurance.Rung, d time.Duration) time.Duration {
	if n := m.beyond(r, d); n < len(m.ages[r]) {
		return m.ages[r][n]
	}
	return never
}

func (m *memo) get(k factKey) (verdict, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.verdicts[k]
	return v, ok
}

func (m *memo) put(k factKey, v verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.verdicts) >= maxMemo {
		clear(m.verdicts)
	}
	m.verdicts[k] = v
}
