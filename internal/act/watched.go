package act

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Watched is what the policies in mode monitor would have made of a decision, as its
// record keeps it.
type Watched struct {
	Rules   []string // that would have made the difference, each once
	Outcome string   // deny, step_up or allow
	kind    string
	service string
}

// WatchedOf reads it of the facts of a record; nil where they would have answered the
// same, or nothing was decided.
func WatchedOf(facts []byte) *Watched {
	if !bytes.Contains(facts, []byte(`"monitored"`)) {
		return nil // as nearly all of them
	}
	var f struct {
		Kind      string     `json:"kind"`
		Service   string     `json:"service"`
		Reasons   []string   `json:"reasons"`
		Monitored *monitored `json:"monitored"`
	}
	if json.Unmarshal(facts, &f) != nil || f.Monitored == nil {
		return nil
	}
	w := &Watched{Outcome: f.Monitored.Outcome, kind: f.Kind, service: f.Service}
	for _, id := range f.Monitored.Reasons {
		if !slices.Contains(f.Reasons, id) && !slices.Contains(w.Rules, id) {
			w.Rules = append(w.Rules, id)
		}
	}
	if len(w.Rules) == 0 { // the same rules, and another answer
		w.Rules = slices.Compact(slices.Sorted(slices.Values(f.Monitored.Reasons)))
	}
	return w
}

// Who is the person or service that it was decided for; "" if it was neither, or they
// were erased. parts are as audit.Open gave them.
func (w *Watched) Who(parts []audit.OpenPart) string {
	if w.kind == policy.KindPerson && len(parts) > 1 {
		return parts[1].Person // who acts comes first
	}
	return w.service
}
