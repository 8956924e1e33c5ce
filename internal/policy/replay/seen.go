// Package replay tries a policy set on decisions that were made before: it owns
// what a record keeps of what a decision saw, and what comes of deciding it
// again. It is pure; reading records is for others.
package replay

import (
	"slices"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Shared is what a decision saw that is of no person and of no moment. Records
// keep it once for all that share it.
type Shared struct {
	On     string      `json:"on,omitempty"`  // the kind of the resource
	ID     string      `json:"id,omitempty"`  // which one, of a resource that tokens are for
	Own    string      `json:"own,omitempty"` // whose it is: self, other; "": nobody's in particular
	Scopes []SeenScope `json:"scopes,omitempty"`
	Ask    *SeenAsk    `json:"ask,omitempty"` // what was asked for, where more was
	// World is the rest, of whoever is no person. Where it is of one moment it is not
	// kept, and the decision cannot be made again.
	World *World `json:"world,omitempty"`
}

// SeenScope is a scope that was asked for, with what it demanded then.
type SeenScope struct {
	Name        string   `json:"name"`
	Ask         *SeenAsk `json:"ask,omitempty"`
	Groups      []string `json:"groups,omitempty"`
	Conditional bool     `json:"conditional,omitempty"`
	Required    bool     `json:"required,omitempty"`
}

// SeenAsk is an assurance.Ask as it is kept.
type SeenAsk struct {
	Rung     int    `json:"rung,omitempty"`
	MaxAge   int64  `json:"max_age,omitempty"` // milliseconds
	Approval string `json:"approval,omitempty"`
	M        int    `json:"m,omitempty"`
	Group    string `json:"group,omitempty"`
	Device   int    `json:"device,omitempty"`
}

// World is the rest of what a decision saw: of whoever acted, and of that moment.
// Of a person it stands in their own part of the record, sealed with their key, and
// is gone with it; of anybody else in Shared.
type World struct {
	Groups    []string     `json:"groups,omitempty"`
	Ages      []int64      `json:"ages,omitempty"` // milliseconds since each rung was reached, from 1 on; -1: never
	Is        string       `json:"is,omitempty"`   // facts that hold, a letter each: see letters
	Machine   int          `json:"machine,omitempty"`
	Sources   int          `json:"sources,omitempty"`
	Approvals int          `json:"approvals,omitempty"`
	Approvers int          `json:"approvers,omitempty"`
	Risk      string       `json:"risk,omitempty"`   // the band; "": not known
	Before    string       `json:"before,omitempty"` // that of when it was challenged
	Zone      string       `json:"zone,omitempty"`
	Token     *SeenToken   `json:"token,omitempty"`
	Agent     *SeenAgent   `json:"agent,omitempty"`
	Details   *SeenDetails `json:"details,omitempty"`
	ID        string       `json:"id,omitempty"` // of the resource, if it is nobody else's
	// Said are the attributes of a thing of the deployment's own.
	Said attribute.Values `json:"said,omitempty"`
}

// SeenToken, SeenDetails and SeenAgent are policy's, as they are kept.
type (
	SeenToken struct {
		Age   int64 `json:"age"` // milliseconds
		Bound bool  `json:"bound,omitempty"`
		Depth int   `json:"depth,omitempty"`
	}
	SeenDetails struct {
		Types []string      `json:"types"`
		Said  []string      `json:"said,omitempty"`
		Sizes []policy.Size `json:"sizes,omitempty"`
	}
	SeenAgent struct {
		Purpose string `json:"purpose,omitempty"`
		Run     string `json:"run,omitempty"`
		Budget  int64  `json:"budget,omitempty"`
	}
)

// letters are the facts of World.Is.
const (
	phishingResistant = 'p'
	hardwareBound     = 'h'
	humanPresent      = 'u'
	noPasskey         = 'n'
	presented         = 'l' // a link was
	confirmed         = 'c'
	confirmable       = 'a' // could be asked to
	deviceKnown       = 'd'
	deviceManaged     = 'm'
	devicesUsed       = 'v'
	networkKnown      = 'w'
)

// self and other are whose a resource is.
const (
	self  = "self"
	other = "other"
)

// Keeps reports whether a record of this kind of principal keeps enough to decide
// again. What the host and the server itself may do is the same under every set.
func Keeps(kind string) bool { return !policy.OfHost(kind) && kind != policy.KindAgent }

// See is what a record keeps of an input. Of a person, the second is for their own
// part; of anybody else it is nil, and Shared has it all.
func See(in *policy.Input, ask assurance.Ask) (Shared, *World) {
	s := Shared{On: in.Resource.Type, Ask: keep(ask)}
	switch in.Resource.Owner {
	case "":
	case in.Principal.ID:
		s.Own = self
	default:
		s.Own = other
	}
	for _, sc := range in.Context.Scopes {
		s.Scopes = append(s.Scopes, SeenScope{sc.Name, keep(sc.Ask), sc.Groups, sc.Conditional, sc.Required})
	}
	w := world(in)
	switch {
	case in.Resource.Type == "resource":
		s.ID = in.Resource.ID
	case s.Own != other && in.Resource.Type != policy.KindPerson:
		w.ID = in.Resource.ID
	}
	if in.Principal.Kind == policy.KindPerson {
		return s, w
	}
	if len(w.Ages) == 0 && w.Token == nil && w.Agent == nil && w.Details == nil && w.Said == nil { // which are of a moment
		s.World = w
	}
	return s, nil
}

func keep(a assurance.Ask) *SeenAsk {
	if !a.Demands() {
		return nil
	}
	return &SeenAsk{int(a.Rung), int64(a.MaxAge / time.Millisecond), a.Approval.Kind, a.Approval.M, a.Approval.Group, int(a.Device)}
}

// Ask is the ask that was kept.
func (a *SeenAsk) Ask() assurance.Ask {
	if a == nil {
		return assurance.Ask{}
	}
	return assurance.Ask{
		Rung: assurance.Rung(a.Rung), MaxAge: time.Duration(a.MaxAge) * time.Millisecond,
		Approval: assurance.Approval{Kind: a.Approval, M: a.M, Group: a.Group}, Device: assurance.Device(a.Device),
	}
}

func world(in *policy.Input) *World {
	c := &in.Context
	w := &World{
		Groups: in.Principal.Groups, Machine: int(c.Assurance.MachineRung), Sources: c.Assurance.Sources,
		Approvals: c.Approvals, Approvers: c.Approvers, Zone: c.Network.Zone, Said: in.Resource.Attributes,
	}
	for r := assurance.Single; r <= assurance.Hardware; r++ {
		age := int64(-1)
		if p, ok := c.Assurance.Pair(r); ok {
			// Rounded up, as policies see it.
			age = max(0, int64((c.Now.Sub(p.AuthTime)+time.Millisecond-1)/time.Millisecond))
		}
		w.Ages = append(w.Ages, age)
	}
	for len(w.Ages) > 0 && w.Ages[len(w.Ages)-1] < 0 {
		w.Ages = w.Ages[:len(w.Ages)-1]
	}
	for _, f := range []struct {
		holds  bool
		letter byte
	}{
		{c.Assurance.PhishingResistant, phishingResistant},
		{c.Assurance.HardwareBound, hardwareBound},
		{c.Assurance.HumanPresent, humanPresent},
		{c.NoPasskey, noPasskey},
		{c.Presented, presented},
		{c.Confirmed, confirmed},
		{c.Confirmable, confirmable},
		{c.DeviceKnown, deviceKnown},
		{c.DeviceManaged, deviceManaged},
		{c.DevicesUsed, devicesUsed},
		{c.Network.Known, networkKnown},
	} {
		if f.holds {
			w.Is += string(f.letter)
		}
	}
	if c.Risk.Known {
		w.Risk = c.Risk.Band
	}
	if c.RiskBefore.Known {
		w.Before = c.RiskBefore.Band
	}
	if c.Token.Known {
		w.Token = &SeenToken{int64(c.Token.Age / time.Millisecond), c.Token.Bound, c.Token.Depth}
	}
	if len(c.Details.Types) > 0 {
		w.Details = &SeenDetails{c.Details.Types, c.Details.Said, c.Details.Sizes}
	}
	if c.Agent.Known {
		w.Agent = &SeenAgent{c.Agent.Purpose, c.Agent.Run, c.Agent.Budget}
	}
	return w
}

// Device says what was known of the device: managed, known or unknown.
func (w *World) Device() string {
	switch {
	case w.is(deviceManaged):
		return "managed"
	case w.is(deviceKnown):
		return "known"
	}
	return "unknown"
}

// Proved gives how long before the decision the highest rung was reached; ok is false
// where nothing was proved.
func (w *World) Proved() (ago time.Duration, ok bool) {
	if len(w.Ages) == 0 {
		return 0, false
	}
	return time.Duration(w.Ages[len(w.Ages)-1]) * time.Millisecond, true
}

func (w *World) is(letter byte) bool {
	return slices.Contains([]byte(w.Is), letter)
}

// context is what the decision saw, at a time.
func (w *World) context(at time.Time) policy.Context {
	c := policy.Context{
		Now: at, NoPasskey: w.is(noPasskey), Presented: w.is(presented), Confirmed: w.is(confirmed), Confirmable: w.is(confirmable),
		Approvals: w.Approvals, Approvers: w.Approvers,
		DeviceKnown: w.is(deviceKnown), DeviceManaged: w.is(deviceManaged), DevicesUsed: w.is(devicesUsed),
		Risk: policy.UnknownRisk, Network: policy.Network{Known: w.is(networkKnown), Zone: w.Zone},
		Assurance: assurance.State{
			PhishingResistant: w.is(phishingResistant), HardwareBound: w.is(hardwareBound), HumanPresent: w.is(humanPresent),
			MachineRung: assurance.Rung(w.Machine), Sources: w.Sources,
		},
	}
	if w.Risk != "" {
		c.Risk = policy.Risk{Known: true, Band: w.Risk}
	}
	if w.Before != "" {
		c.RiskBefore = policy.Risk{Known: true, Band: w.Before}
	}
	for i, age := range w.Ages {
		if age >= 0 && i < int(assurance.Hardware) {
			c.Assurance.Pairs = append(c.Assurance.Pairs, assurance.Pair{
				Rung: assurance.Rung(i + 1), AuthTime: at.Add(-time.Duration(age) * time.Millisecond),
			})
		}
	}
	if t := w.Token; t != nil {
		c.Token = policy.Token{Known: true, Age: time.Duration(t.Age) * time.Millisecond, Bound: t.Bound, Depth: t.Depth}
	}
	if d := w.Details; d != nil {
		c.Details = policy.Details{Types: d.Types, Said: d.Said, Sizes: d.Sizes}
	}
	if a := w.Agent; a != nil {
		c.Agent = policy.Agent{Known: true, Purpose: a.Purpose, Run: a.Run, Budget: a.Budget}
	}
	return c
}

// Key says in a string all that s says: equal ones are stored once.
func (s *Shared) Key() string {
	b := make([]byte, 0, 128)
	text := func(all ...string) {
		for _, t := range all {
			b = append(strconv.AppendInt(b, int64(len(t)), 10), ':')
			b = append(b, t...)
		}
	}
	number := func(all ...int64) {
		for _, n := range all {
			b = append(strconv.AppendInt(b, n, 10), ',')
		}
	}
	ask := func(a *SeenAsk) {
		if a != nil {
			number(int64(a.Rung), a.MaxAge, int64(a.M), int64(a.Device))
			text(a.Approval, a.Group)
		}
		b = append(b, ';')
	}
	text(s.On, s.ID, s.Own)
	ask(s.Ask)
	for i := range s.Scopes {
		sc := &s.Scopes[i]
		text(sc.Name)
		text(sc.Groups...)
		b = strconv.AppendBool(strconv.AppendBool(b, sc.Conditional), sc.Required)
		ask(sc.Ask)
	}
	if w := s.World; w != nil {
		b = append(b, '|')
		text(w.Groups...)
		number(int64(w.Machine), int64(w.Sources), int64(w.Approvals), int64(w.Approvers))
		text(w.Is, w.Risk, w.Before, w.Zone, w.ID)
	}
	return string(b)
}
