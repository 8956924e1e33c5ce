package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// table evaluates rules that are plain data. It cannot fail to evaluate.
type table struct {
	rules  []rule
	reason [][]Reason       // of each rule, made once
	of     map[Action][]int // rules of an action
}

var builtinSet = newSet(builtin)

// Builtin is the policy set of this release: the table in rules.go. It is
// shared and never changes.
func Builtin() *Set { return builtinSet }

// newSet makes a set of rules. Its version is the SHA-256 of their JSON.
func newSet(rules []rule) *Set {
	t := &table{rules: rules, of: map[Action][]int{}}
	for i, r := range rules {
		t.reason = append(t.reason, []Reason{{Policy: r.ID, Text: r.Text, Public: r.Public}})
		for _, a := range r.Actions {
			t.of[a] = append(t.of[a], i)
		}
	}
	content, _ := json.Marshal(rules) // strings and numbers only: cannot fail
	sum := sha256.Sum256(content)
	return &Set{eval: t, version: "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])}
}

// byDefault is the reason when no rule speaks of this principal and action.
var byDefault = []Reason{{Policy: "default", Text: "No rule allows this."}}

func (t *table) evaluate(in Input) verdict {
	var why []Reason
	for _, i := range t.of[in.Action] {
		r := &t.rules[i]
		switch {
		case !slices.Contains(r.Kinds, in.Principal.Kind) || !r.about(&in):
		case !r.to(&in):
			why = append(why, Reason{Policy: r.ID, Text: "This is for members of " + r.Group + "."})
		case r.met(&in):
			return verdict{allow: true, reasons: t.reason[i]}
		default:
			why = append(why, t.reason[i]...)
			if !in.Context.onDevice(r.Ask.Device) {
				why = append(why, Reason{Policy: r.ID, Text: "This needs " + Words(assurance.Ask{Device: r.Ask.Device}) + "."})
			}
		}
	}
	if why == nil {
		why = byDefault
	}
	return verdict{reasons: why}
}

func (t *table) candidates(in Input) []assurance.Ask {
	var out []assurance.Ask
	for _, i := range t.of[in.Action] {
		r := &t.rules[i]
		if slices.Contains(r.Kinds, in.Principal.Kind) && r.about(&in) && r.to(&in) {
			out = append(out, r.Ask)
		}
	}
	return out
}

// about reports whether the rule speaks of this resource. What has no owner is
// nobody's own.
func (r *rule) about(in *Input) bool {
	if r.NoPasskey && !in.Context.NoPasskey {
		return false
	}
	mine := in.Principal.ID != "" && in.Resource.Owner == in.Principal.ID
	switch r.Whose {
	case own:
		return mine
	case others:
		return !mine
	default:
		return true
	}
}

// to reports whether the principal is one that the rule permits.
func (r *rule) to(in *Input) bool { return r.Group == "" || in.Principal.In(r.Group) }

// met reports whether what must be shown has been.
func (r *rule) met(in *Input) bool {
	return in.Context.meets(r.Ask) &&
		in.Context.Assurance.MachineRung >= r.Machine &&
		(in.Context.Presented || !r.Presented)
}
