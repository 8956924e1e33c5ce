package policy

import (
	"cmp"
	"math"
	"sync"
	"time"

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

// world is what Cedar evaluates: a request and its entities.
type world struct {
	principal, resource types.Entity
	actions             types.EntityMap
	context             types.Record
	action              types.EntityUID
}

// Get implements types.EntityGetter. Groups and clients have nothing to tell.
func (w *world) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid == w.principal.UID:
		return w.principal, true
	case uid == w.resource.UID:
		return w.resource, true
	}
	e, ok := w.actions[uid]
	return e, ok
}

// worldOf says an input in Cedar's terms. Every attribute of the schema is
// there, always (mechanisms A3). plain: see record.
func (e *engine) worldOf(in *Input, plain bool) *world {
	groups := make([]types.EntityUID, len(in.Principal.Groups))
	for i, g := range in.Principal.Groups {
		groups[i] = types.NewEntityUID(groupType, types.String(g))
	}
	is := thingType
	if t, ok := e.resources[in.Resource.Type]; ok {
		is = t
	}
	return &world{
		principal: types.Entity{
			UID:     types.NewEntityUID(kinds[in.Principal.Kind], types.String(in.Principal.ID)),
			Parents: types.NewEntityUIDSet(groups...),
		},
		resource: types.Entity{
			UID: types.NewEntityUID(is, types.String(in.Resource.ID)),
			Attributes: types.NewRecord(types.RecordMap{
				"kind":  types.String(in.Resource.Type),
				"owner": types.NewEntityUID(kinds[KindPerson], types.String(cmp.Or(in.Resource.Owner, nobody))),
			}),
		},
		actions: e.actions,
		action:  actionUID(string(in.Action)),
		context: e.contextOf(in, plain),
	}
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

// plainKey is all that a context says where the policies read nothing of the time, the
// token, the details, the agent and the client.
type plainKey struct {
	ages                       [assurance.Hardware + 1]time.Duration
	rung, machine              assurance.Rung
	sources, approvals         int
	phishing, hardware, human  bool
	confirmed, known, managed  bool
	devices, passkey, presents bool
	risk                       Risk
	network                    Network
}

// contexts remembers the records of plain contexts: what the climb supposes is the same
// again and again, and to make one takes longer than to evaluate it.
type contexts struct {
	mu   sync.RWMutex
	made map[plainKey]types.Record
}

const maxContexts = 256

// contextOf is the context as Cedar reads it.
func (e *engine) contextOf(in *Input, plain bool) types.Record {
	c := &in.Context
	if !plain {
		return c.record(in.Client, false)
	}
	s := &c.Assurance
	k := plainKey{
		rung: c.rung(), machine: s.MachineRung, sources: s.Sources, approvals: c.Approvals,
		phishing: s.PhishingResistant, hardware: s.HardwareBound, human: s.HumanPresent,
		confirmed: c.Confirmed, known: c.known(), managed: c.DeviceManaged,
		devices: c.DevicesUsed, passkey: c.NoPasskey, presents: c.Presented, risk: c.risk(), network: c.Network,
	}
	for r := range k.ages {
		k.ages[r], _ = c.age(assurance.Rung(r))
	}
	e.contexts.mu.RLock()
	r, ok := e.contexts.made[k]
	e.contexts.mu.RUnlock()
	if ok {
		return r
	}
	r = c.record(in.Client, true)
	e.contexts.mu.Lock()
	defer e.contexts.mu.Unlock()
	if e.contexts.made == nil || len(e.contexts.made) >= maxContexts {
		e.contexts.made = map[plainKey]types.Record{}
	}
	e.contexts.made[k] = r
	return r
}

// record is the context, whole. Where plain, the policies read nothing of the
// time, the token, the details, the agent and the client, which then need not be told.
func (c *Context) record(client Entity, plain bool) types.Record {
	ages := make(types.RecordMap, len(rungNames))
	for name, r := range rungNames {
		d, _ := c.age(r)
		ages[types.String(name)] = aged(d)
	}
	s := &c.Assurance
	m := types.RecordMap{
		"assurance": types.NewRecord(types.RecordMap{
			"rung":               types.Long(c.rung()),
			"age":                types.NewRecord(ages),
			"machine":            types.Long(s.MachineRung),
			"sources":            types.Long(s.Sources),
			"phishing_resistant": yes(s.PhishingResistant),
			"hardware_bound":     yes(s.HardwareBound),
			"human_present":      yes(s.HumanPresent),
		}),
		"approvals":  records.approvals[bit[c.Confirmed]],
		"device":     records.device[bit[c.known()]][bit[c.DeviceManaged]],
		"deployment": records.deployment[bit[c.DevicesUsed]],
		"risk":       records.risk[c.risk()],
		"network":    records.nowhere,
		"time":       records.always,
		"token":      records.noToken,
		"details":    records.noDetails,
		"agent":      records.noAgent,
		"no_passkey": yes(c.NoPasskey),
		"presented":  yes(c.Presented),
		"client":     types.NewEntityUID(clientType, ""),
	}
	if c.Approvals != 0 {
		m["approvals"] = approvalsRecord(c.Confirmed, c.Approvals)
	}
	if c.Network != (Network{}) {
		m["network"] = networkRecord(c.Network)
	}
	if !plain {
		m["time"], m["token"], m["agent"] = timeRecord(c.Now), tokenRecord(c.Token), agentRecord(c.Agent)
		m["client"] = types.NewEntityUID(clientType, types.String(client.ID))
		if len(c.Details.Types) > 0 {
			m["details"] = detailsRecord(c.Details)
		}
	}
	return types.NewRecord(m)
}
