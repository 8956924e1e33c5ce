package audit

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// Line is a record as a list shows it to people.
type Line struct {
	Seq       int64 // index of its leaf; -1 while it has none yet
	ID        string
	At        time.Time
	Kind      Kind
	Refused   bool
	Outcome   string   // "allow", "step_up" or "deny", as decided; "" if nothing was
	Sentence  string   // see Sentence; it ends with the reason, if there is one
	Actor     string   // who acted, by name; "someone" for callers who are not known
	Assurance string   // acr that was reached, "" for none
	Proofs    string   // methods that were used, with commas
	Persons   []string // ids of the persons concerned, the actor first; "" for an erased one
	Client    string   // id, "" if none
	Reasons   []string // policies that decided
	Code      string   // of a refusal
	Policy    string   // version
	Monitored string   // what policies in mode monitor would have answered and which, "deny: no-nights"; "" if the same
	NewDevice bool     // of a sign-in: in a browser that was not met before
	ByOther   bool     // whom it concerns is not who acted
}

// Read opens a record and puts it into words. seq is -1 while it has no number.
func Read(ctx context.Context, row Row, seq int64, keys Unsealer, names func(id string) string) (Line, error) {
	parts, err := Open(ctx, row, keys)
	if err != nil {
		return Line{}, err
	}
	return LineOf(seq, row, parts, names), nil
}

// LineOf puts a record into words. parts are as Open gave them, names as for
// Sentence.
func LineOf(seq int64, row Row, parts []OpenPart, names func(id string) string) Line {
	l := Line{Seq: seq, ID: row.ID, At: time.UnixMicro(row.At).UTC(), Kind: row.Kind, Sentence: Sentence(row, parts, names)}
	s := sentence{row: row, names: names}
	for _, p := range parts {
		if p.Pseudonym != ([16]byte{}) {
			s.persons = append(s.persons, s.person(p))
			l.Persons = append(l.Persons, p.Person)
		}
		if f := p.Fields(); f["r"] == true {
			l.Refused = true
		}
		if f := p.Fields(); f["new_device"] == true {
			l.NewDevice = true
		}
	}
	var facts struct {
		Kind    string   `json:"kind"`
		Service string   `json:"service"`
		ACR     string   `json:"acr"`
		Methods []string `json:"methods"`
		Outcome string   `json:"outcome"`
		Client  string   `json:"client"`
		Code    string   `json:"code"`
		Policy  string   `json:"policy"`
		Reasons []string `json:"reasons"`

		Monitored struct {
			Outcome string   `json:"outcome"`
			Reasons []string `json:"reasons"`
		} `json:"monitored"`
	}
	if len(row.Facts) > 0 && json.Unmarshal(row.Facts, &facts) != nil {
		facts.Kind = "" // nothing is known then
	}
	l.Outcome, l.Assurance, l.Proofs = facts.Outcome, facts.ACR, strings.Join(distinct(facts.Methods), ", ")
	l.Client, l.Code, l.Policy, l.Reasons = facts.Client, facts.Code, facts.Policy, facts.Reasons
	if m := facts.Monitored; m.Outcome != "" {
		l.Monitored = m.Outcome + ": " + strings.Join(m.Reasons, ", ")
	}
	l.ByOther = facts.Kind != "person" || len(l.Persons) > 1
	switch {
	case facts.Kind == "system":
		l.Actor = "the server"
	case facts.Kind == "operator":
		l.Actor = "the operator of the machine"
	case facts.Service != "":
		l.Actor = s.name(facts.Service)
	case len(s.persons) > 0:
		l.Actor = s.persons[0]
	default:
		l.Actor = "someone"
	}
	return l
}

func distinct(list []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, x := range list {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}
