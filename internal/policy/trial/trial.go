// Package trial tries a policy set before it is enforced: files of cases (given
// this actor, these proofs, this action, expect this answer) and of statements
// that must never be false. It reads files and asks policy; it knows no server.
package trial

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Suffix is how the names of such files end.
const Suffix = ".policy.yaml"

// File is a file of cases and statements.
type File struct {
	Name  string  `yaml:"-"`
	Cases []Case  `yaml:"cases"`
	Never []Never `yaml:"never"`
}

// Case is one question with the answer that is expected.
type Case struct {
	Name   string `yaml:"name"`
	Given  Given  `yaml:"given"`
	Action string `yaml:"action"`
	Expect string `yaml:"expect"` // allow, step_up, deny
	Ask    *Ask   `yaml:"ask"`    // of a step-up: exactly this
	Reason string `yaml:"reason"` // the id of a policy that must be among the reasons
	Code   string `yaml:"code"`
	Review bool   `yaml:"review"`
}

// Given is who asks, with what proved, on what, and how the world is. What is
// left out is as little as can be: nobody in particular, nothing proved, nothing
// known.
type Given struct {
	Kind       string   `yaml:"kind"` // of the actor: person if left out
	ID         string   `yaml:"id"`
	Groups     []string `yaml:"groups"`
	Client     string   `yaml:"client"`
	Proofs     []Proof  `yaml:"proofs"`
	Machine    int      `yaml:"machine"`
	Resource   Resource `yaml:"resource"`
	At         string   `yaml:"at"` // RFC 3339; a Monday at noon if left out
	Confirmed  bool     `yaml:"confirmed"`
	Confirms   bool     `yaml:"confirmable"` // the person could be asked to confirm
	Approvals  int      `yaml:"approvals"`
	Approvers  int      `yaml:"approvers"` // people who could approve
	Device     string   `yaml:"device"`    // known, managed
	Devices    bool     `yaml:"manages_devices"`
	Risk       string   `yaml:"risk"`
	Zone       string   `yaml:"zone"`
	NoPasskey  bool     `yaml:"no_passkey"`
	Presented  bool     `yaml:"presented"`
	Challenges int      `yaml:"challenges"`
	Details    Details  `yaml:"details"`
}

// Details are the authorization details that the act is about, as policies read them.
type Details struct {
	Types []string `yaml:"types"`
	Said  []string `yaml:"said"`
}

// Proof is a rung that was reached, so long ago.
type Proof struct {
	Rung string `yaml:"rung"` // single, multi, phr, phrh
	Age  string `yaml:"age"`  // such as 5m; now if left out
}

// Resource is what is acted on. Owner self is the actor; Properties are its attributes,
// as its type declares them.
type Resource struct {
	Type       string         `yaml:"type"`
	ID         string         `yaml:"id"`
	Owner      string         `yaml:"owner"`
	Properties map[string]any `yaml:"properties"`
}

// Ask is what a step-up asks for.
type Ask struct {
	Rung    string `yaml:"rung"`
	MaxAge  string `yaml:"max_age"`
	Confirm bool   `yaml:"confirm"`
	Approve int    `yaml:"approve"`
	Group   string `yaml:"group"`
}

// Never is a statement: in these states, these actions are allowed to nobody.
// Every member narrows it; one that is left out does not.
type Never struct {
	Name      string   `yaml:"name"`
	Actions   []string `yaml:"actions"`
	Kinds     []string `yaml:"kinds"`
	Below     string   `yaml:"below"`     // this rung is not reached
	Older     string   `yaml:"older"`     // or, with below, not within this time
	Risk      []string `yaml:"risk"`      // one of these bands is scored
	Outside   []string `yaml:"outside"`   // the actor is in none of these groups
	Approvals int      `yaml:"approvals"` // fewer than this
	Unmanaged bool     `yaml:"unmanaged"` // the device is not managed
	NotOwn    bool     `yaml:"not_own"`   // the thing is not the actor's
	// Where is what is said of the thing, by the names of its attributes.
	Where map[string]any `yaml:"where"`
}

// Parse reads a file, strictly: a member that is not known is an error.
func Parse(name string, text []byte) (File, error) {
	f := File{Name: name}
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := d.Decode(new(File)); !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%s: a file holds one document", name)
	}
	for i, c := range f.Cases {
		if _, _, err := c.question(); err != nil {
			return File{}, fmt.Errorf("%s: case %s: %w", name, cmp.Or(c.Name, fmt.Sprint(i+1)), err)
		}
	}
	for i, n := range f.Never {
		if _, err := n.statement(); err != nil {
			return File{}, fmt.Errorf("%s: never %s: %w", name, cmp.Or(n.Name, fmt.Sprint(i+1)), err)
		}
	}
	return f, nil
}

var (
	rungs    = map[string]assurance.Rung{"": 0, "single": 1, "multi": 2, "phr": 3, "phrh": 4}
	outcomes = []string{"allow", "step_up", "deny"}
	bands    = []string{policy.RiskLow, policy.RiskMedium, policy.RiskHigh, policy.RiskExtreme}
	noon     = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
)

func rung(s string) (assurance.Rung, error) {
	r, ok := rungs[s]
	if !ok {
		return 0, fmt.Errorf("%q is no rung: single, multi, phr, phrh", s)
	}
	return r, nil
}

func age(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no age, such as 90s, 5m or 12h", s)
	}
	return d, nil
}

// question is what the case asks, and the ask that it expects.
func (c *Case) question() (policy.Input, assurance.Ask, error) {
	g := &c.Given
	kind := cmp.Or(g.Kind, policy.KindPerson)
	in := policy.Input{
		Principal: policy.Entity{Kind: kind, ID: cmp.Or(g.ID, "actor"), Groups: g.Groups},
		Client:    policy.Entity{Kind: "client", ID: g.Client},
		Action:    policy.Action(c.Action),
		Resource:  policy.Resource{Type: g.Resource.Type, ID: g.Resource.ID, Owner: g.Resource.Owner},
		Context: policy.Context{
			Now: noon, Risk: policy.UnknownRisk, Confirmed: g.Confirmed, Confirmable: g.Confirms, Approvals: g.Approvals, Approvers: g.Approvers,
			DeviceKnown: g.Device == "known", DeviceManaged: g.Device == "managed", DevicesUsed: g.Devices,
			Network: policy.Network{Known: g.Zone != "", Zone: g.Zone}, NoPasskey: g.NoPasskey, Presented: g.Presented, Challenges: g.Challenges,
			Details: policy.Details{Types: g.Details.Types, Said: g.Details.Said},
		},
	}
	if in.Resource.Owner == "self" {
		in.Resource.Owner = in.Principal.ID
	}
	var errs []error
	if g.At != "" {
		at, err := time.Parse(time.RFC3339, g.At)
		in.Context.Now, errs = at, append(errs, err)
	}
	if g.Risk != "" {
		in.Context.Risk = policy.Risk{Known: true, Band: g.Risk}
	}
	state := assurance.State{MachineRung: assurance.Rung(g.Machine), Sources: min(g.Machine, 1)}
	for _, p := range g.Proofs {
		r, err := rung(p.Rung)
		old, err2 := age(p.Age)
		if r == 0 && err == nil {
			err = errors.New("a proof has a rung")
		}
		errs = append(errs, err, err2)
		// A nanosecond stands for now: an age of nothing would be any age.
		state = assurance.Ask{Rung: r, MaxAge: max(old, 1)}.Raise(state, in.Context.Now)
	}
	in.Context.Assurance = state
	ask, err := c.Ask.ask()
	errs = append(errs, err)
	if !slices.Contains(outcomes, c.Expect) {
		errs = append(errs, fmt.Errorf("expect is one of %s", strings.Join(outcomes, ", ")))
	}
	if c.Action == "" || !slices.Contains(policy.Kinds(), kind) || g.Risk != "" && !slices.Contains(bands, g.Risk) || !slices.Contains([]string{"", "known", "managed"}, g.Device) {
		errs = append(errs, fmt.Errorf("an action is named, kind is one of %s, risk one of %s, device known or managed", strings.Join(policy.Kinds(), ", "), strings.Join(bands, ", ")))
	}
	return in, ask, errors.Join(errs...)
}

func (a *Ask) ask() (assurance.Ask, error) {
	if a == nil {
		return assurance.Ask{}, nil
	}
	r, err := rung(a.Rung)
	old, err2 := age(a.MaxAge)
	out := assurance.Ask{Rung: r, MaxAge: old}
	switch {
	case a.Confirm:
		out.Approval = assurance.Approval{Kind: assurance.Confirm}
	case a.Approve > 0:
		out.Approval = assurance.Approval{Kind: assurance.Approve, M: a.Approve, Group: a.Group}
	}
	return out, errors.Join(err, err2)
}

// statement is the Never in policy's terms.
func (n *Never) statement() (policy.Never, error) {
	out := policy.Never{Kinds: n.Kinds, Groups: n.Outside, Said: map[string][]any{}}
	below, err := rung(n.Below)
	older, err2 := age(n.Older)
	all, err3 := n.wheres()
	for _, w := range all {
		out.Said[w.name] = w.literals
	}
	errs := []error{err, err2, err3}
	if older > 0 {
		out.Ages = []time.Duration{older}
	}
	if len(n.Actions) == 0 || n.Older != "" && below == 0 || slices.ContainsFunc(n.Risk, func(b string) bool { return !slices.Contains(bands, b) }) ||
		slices.ContainsFunc(n.Kinds, func(k string) bool { return !slices.Contains(policy.Kinds(), k) }) {
		errs = append(errs, fmt.Errorf("actions are named, older goes with below, risk is of %s, kinds of %s", strings.Join(bands, ", "), strings.Join(policy.Kinds(), ", ")))
	}
	for _, a := range n.Actions {
		out.Actions = append(out.Actions, policy.Action(a))
	}
	out.Holds = func(in *policy.Input) bool {
		c := &in.Context
		switch {
		case below != 0 && c.Assurance.Meets(assurance.Ask{Rung: below, MaxAge: older}, c.Now),
			len(n.Risk) > 0 && !(c.Risk.Known && slices.Contains(n.Risk, c.Risk.Band)),
			slices.ContainsFunc(n.Outside, in.Principal.In),
			n.Approvals > 0 && c.Approvals >= n.Approvals,
			n.Unmanaged && c.DeviceManaged,
			n.NotOwn && in.Resource.Owner == in.Principal.ID,
			slices.ContainsFunc(all, func(w where) bool { v := in.Resource.Attributes[w.name]; return !w.is.Has(v) || !w.holds(v) }):
			return false
		}
		return true
	}
	return out, errors.Join(errs...)
}
