package policy

import (
	"cmp"
	"math"
	"sync"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// rungNames are the members of context.assurance.age.
var rungNames = map[string]assurance.Rung{
	"single": assurance.Single, "multi": assurance.Multi, "phr": assurance.Phishing, "phrh": assurance.Hardware,
}

// nobody owns what is nobody's in particular. No id is like it, not even that
// of somebody who is not known.
const nobody = "(nobody)"

// never is the age of what never was: longer than any that can be written.
const never = time.Duration(math.MaxInt64)

// age is how long ago rung r was reached; ok is false if it was not, or lies in
// the future.
func (c *Context) age(r assurance.Rung) (d time.Duration, ok bool) {
	for i := range c.Assurance.Pairs {
		p := &c.Assurance.Pairs[i]
		if p.Rung != r {
			continue
		}
		if d = c.Now.Sub(p.AuthTime); d < -assurance.Skew {
			return never, false
		}
		return max(d, 0), true
	}
	return never, false
}

// rung is the highest rung reached.
func (c *Context) rung() assurance.Rung {
	for r := assurance.Hardware; r > assurance.None; r-- {
		if _, ok := c.age(r); ok {
			return r
		}
	}
	return assurance.None
}

// risk is the band that counts: the worse of now and of when this transaction
// was challenged (mechanisms A14).
func (c *Context) risk() Risk {
	if !c.Risk.Known && !c.RiskBefore.Known {
		return UnknownRisk
	}
	return c.Risk.worse(c.RiskBefore)
}

// known reports whether the device is known; a managed one is.
func (c *Context) known() bool { return c.DeviceKnown || c.DeviceManaged }

// world is what Cedar evaluates: a request and its entities, which are made when a
// policy asks for them. It serves one goroutine.
type world struct {
	request cedar.Request
	who     Entity
	what    Resource
	actions types.EntityMap
	things  map[string]thing

	principal, resource types.Entity
	known               struct{ principal, resource bool }
}

// Get implements types.EntityGetter. Groups and clients have nothing to tell.
func (w *world) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case w.request.Principal:
		if !w.known.principal {
			groups := make([]types.EntityUID, len(w.who.Groups))
			for i, g := range w.who.Groups {
				groups[i] = types.NewEntityUID(groupType, types.String(g))
			}
			w.principal = types.Entity{UID: uid, Parents: types.NewEntityUIDSet(groups...)}
			w.known.principal = true
		}
		return w.principal, true
	case w.request.Resource:
		if !w.known.resource {
			w.resource = types.Entity{UID: uid, Attributes: w.what.record(w.things)}
			w.known.resource = true
		}
		return w.resource, true
	}
	e, ok := w.actions[uid]
	return e, ok
}

// worldOf says an input in Cedar's terms. Every attribute of the schema is
// there, always (mechanisms A3). m is nil, or of policies that read no more than it
// can tell.
func (e *engine) worldOf(in *Input, m *memo) *world {
	is := thingType
	if t, ok := e.things[in.Resource.Type]; ok {
		is = t.is
	}
	return &world{
		request: cedar.Request{
			Principal: types.NewEntityUID(kinds[in.Principal.Kind], types.String(in.Principal.ID)),
			Action:    actionUID(string(in.Action)),
			Resource:  types.NewEntityUID(is, types.String(in.Resource.ID)),
			Context:   e.contextOf(in, m),
		},
		who: in.Principal, what: in.Resource, actions: e.actions, things: e.things,
	}
}

// ownerOf is whose a resource is: a person, who does not exist where it is nobody's.
func ownerOf(r *Resource) types.Value {
	return types.NewEntityUID(kinds[KindPerson], types.String(cmp.Or(r.Owner, nobody)))
}

func yes(b bool) types.Value { return types.Boolean(b) }

// aged says a duration to Cedar.
func aged(d time.Duration) types.Value {
	if d == never {
		return types.NewDurationFromMillis(math.MaxInt64)
	}
	// Rounded up: what is a nanosecond too old is too old.
	return types.NewDurationFromMillis(int64((d + time.Millisecond - 1) / time.Millisecond))
}

// Records that are the same again and again, made once.
var (
	records = struct {
		device     [2][2]types.Record // known, managed
		deployment [2]types.Record
		approvals  [2]types.Record // confirmed, none counted
		risk       map[Risk]types.Record
		nowhere    types.Record // the network
		always     types.Record // the time, where nothing reads it
		noToken    types.Record
		noDetails  types.Record
		noAgent    types.Record
	}{
		device:     [2][2]types.Record{{deviceRecord(false, false), deviceRecord(false, true)}, {deviceRecord(true, false), deviceRecord(true, true)}},
		deployment: [2]types.Record{deploymentRecord(false), deploymentRecord(true)},
		approvals:  [2]types.Record{approvalsRecord(false, 0), approvalsRecord(true, 0)},
		risk: map[Risk]types.Record{
			UnknownRisk:         riskRecord(UnknownRisk),
			{true, RiskLow}:     riskRecord(Risk{true, RiskLow}),
			{true, RiskMedium}:  riskRecord(Risk{true, RiskMedium}),
			{true, RiskHigh}:    riskRecord(Risk{true, RiskHigh}),
			{true, RiskExtreme}: riskRecord(Risk{true, RiskExtreme}),
		},
		nowhere: networkRecord(Network{}),
		always:  timeRecord(time.Unix(0, 0)),
		noToken: tokenRecord(Token{}), noDetails: detailsRecord(Details{}),
		noAgent: agentRecord(Agent{}),
	}
	bit = map[bool]int{true: 1}
)

func deviceRecord(known, managed bool) types.Record {
	return types.NewRecord(types.RecordMap{"known": yes(known), "managed": yes(managed)})
}

func deploymentRecord(devices bool) types.Record {
	return types.NewRecord(types.RecordMap{"manages_devices": yes(devices)})
}

func approvalsRecord(confirmed bool, n int) types.Record {
	return types.NewRecord(types.RecordMap{"confirmed": yes(confirmed), "count": types.Long(n)})
}

func riskRecord(r Risk) types.Record {
	return types.NewRecord(types.RecordMap{"known": yes(r.Known), "band": types.String(r.Band)})
}

func networkRecord(n Network) types.Record {
	return types.NewRecord(types.RecordMap{"known": yes(n.Known), "zone": types.String(n.Zone)})
}

func timeRecord(at time.Time) types.Record {
	at = at.UTC()
	return types.NewRecord(types.RecordMap{
		"now": types.NewDatetime(at), "hour": types.Long(at.Hour()), "weekday": types.Long(at.Weekday()),
	})
}

func tokenRecord(t Token) types.Record {
	if !t.Known {
		t = Token{Age: never}
	}
	return types.NewRecord(types.RecordMap{
		"known": yes(t.Known), "age": aged(t.Age), "bound": yes(t.Bound), "depth": types.Long(t.Depth),
	})
}

func detailsRecord(d Details) types.Record {
	return types.NewRecord(types.RecordMap{"types": textSet(d.Types), "said": textSet(d.texts())})
}

func textSet(texts []string) types.Set {
	values := make([]types.Value, len(texts))
	for i, t := range texts {
		values[i] = types.String(t)
	}
	return types.NewSet(values...)
}

func agentRecord(a Agent) types.Record {
	return types.NewRecord(types.RecordMap{
		"known": yes(a.Known), "purpose": types.String(a.Purpose), "run": types.String(a.Run), "budget": types.Long(a.Budget),
	})
}

// plainFacts is all that a context says where the policies read nothing of the time, the
// token, the details, the agent and the client.
type plainFacts struct {
	ages                       [assurance.Hardware + 1]time.Duration
	rung, machine              assurance.Rung
	sources, approvals         int
	phishing, hardware, human  bool
	confirmed, known, managed  bool
	devices, passkey, presents bool
	risk                       Risk
	network                    Network
}

// plain gives those facts. m is nil, or tells ages as its policies compare them, so that
// those which they cannot tell apart are the same.
func (c *Context) plain(m *memo) plainFacts {
	s := &c.Assurance
	p := plainFacts{
		rung: c.rung(), machine: s.MachineRung, sources: s.Sources, approvals: c.Approvals,
		phishing: s.PhishingResistant, hardware: s.HardwareBound, human: s.HumanPresent,
		confirmed: c.Confirmed, known: c.known(), managed: c.DeviceManaged,
		devices: c.DevicesUsed, passkey: c.NoPasskey, presents: c.Presented, risk: c.risk(), network: c.Network,
	}
	for r := range p.ages {
		d, _ := c.age(assurance.Rung(r))
		if m != nil {
			d = m.told(assurance.Rung(r), d)
		}
		p.ages[r] = d
	}
	return p
}

// contexts remembers the records of plain contexts: what the climb supposes is the same
// again and again, and to make one takes longer than to evaluate it.
type contexts struct {
	mu   sync.RWMutex
	made map[plainFacts]types.Record
}

const maxContexts = 256

// contextOf is the context as Cedar reads it. m: see worldOf.
func (e *engine) contextOf(in *Input, m *memo) types.Record {
	if m == nil {
		return in.Context.record(in.Client)
	}
	p := in.Context.plain(m)
	e.contexts.mu.RLock()
	r, ok := e.contexts.made[p]
	e.contexts.mu.RUnlock()
	if ok {
		return r
	}
	r = types.NewRecord(p.members())
	e.contexts.mu.Lock()
	defer e.contexts.mu.Unlock()
	if e.contexts.made == nil || len(e.contexts.made) >= maxContexts {
		e.contexts.made = map[plainFacts]types.Record{}
	}
	e.contexts.made[p] = r
	return r
}

// record is the context, whole.
func (c *Context) record(client Entity) types.Record {
	p := c.plain(nil)
	m := p.members()
	m["time"], m["token"], m["agent"] = timeRecord(c.Now), tokenRecord(c.Token), agentRecord(c.Agent)
	m["client"] = types.NewEntityUID(clientType, types.String(client.ID))
	if len(c.Details.Types) > 0 {
		m["details"] = detailsRecord(c.Details)
	}
	return types.NewRecord(m)
}

// members are every member of a context. What is not plain has any value: nothing reads it.
func (p *plainFacts) members() types.RecordMap {
	ages := make(types.RecordMap, len(rungNames))
	for name, r := range rungNames {
		ages[types.String(name)] = aged(p.ages[r])
	}
	m := types.RecordMap{
		"assurance": types.NewRecord(types.RecordMap{
			"rung":               types.Long(p.rung),
			"age":                types.NewRecord(ages),
			"machine":            types.Long(p.machine),
			"sources":            types.Long(p.sources),
			"phishing_resistant": yes(p.phishing),
			"hardware_bound":     yes(p.hardware),
			"human_present":      yes(p.human),
		}),
		"approvals":  records.approvals[bit[p.confirmed]],
		"device":     records.device[bit[p.known]][bit[p.managed]],
		"deployment": records.deployment[bit[p.devices]],
		"risk":       records.risk[p.risk],
		"network":    records.nowhere,
		"time":       records.always,
		"token":      records.noToken,
		"details":    records.noDetails,
		"agent":      records.noAgent,
		"no_passkey": yes(p.passkey),
		"presented":  yes(p.presents),
		"client":     types.NewEntityUID(clientType, ""),
	}
	if p.approvals != 0 {
		m["approvals"] = approvalsRecord(p.confirmed, p.approvals)
	}
	if p.network != (Network{}) {
		m["network"] = networkRecord(p.network)
	}
	return m
}
