package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
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
	Shown     Shown    // of a person: what the decision saw of them
	Risk      string   // the band, where it is not low
	Signals   []string // what made it so
	Ref       string   // of the request, of what was refused
	Needs     string   // what would have done, in words, where something would
	Why       []string // why it was refused or asked for, in words, as far as it is kept
	Review    string   // that was opened of it, by id
	Rollout   string   // what a rollout makes of it: its number, the wave, whether it was enforced, and the answer that was not given; "" if nothing
	NewDevice bool     // of a sign-in: in a browser that was not met before
	ByOther   bool     // whom it concerns is not who acted
}

// Shown is what a decision saw of a person and of what they came with.
type Shown struct {
	Device    string        // managed, known or unknown; "" where nothing is recorded
	ProvedAgo time.Duration // when the highest rung was reached, before the act; below 0: nothing was proved
	HasToken  bool          // they came with an access token,
	TokenAge  time.Duration // of this age
}

// shown reads what a part keeps of what was seen.
func shown(part []byte) (s Shown) {
	var said struct {
		Saw *replay.World `json:"saw"`
	}
	if json.Unmarshal(part, &said) != nil || said.Saw == nil {
		return s
	}
	s.Device = said.Saw.Device()
	ago, ok := said.Saw.Proved()
	if s.ProvedAgo = ago; !ok {
		s.ProvedAgo = -1
	}
	if t := said.Saw.Token; t != nil {
		s.HasToken, s.TokenAge = true, time.Duration(t.Age)*time.Millisecond
	}
	return s
}

// Read opens a record and puts it into words. seq is -1 while it has no number.
func Read(ctx context.Context, row Row, seq int64, keys Unsealer, names func(id string) string) (Line, error) {
	parts, err := Open(ctx, row, keys)
	if err != nil {
		return Line{}, err
	}
	return LineOf(seq, row, parts, names), nil
}

// rolledOut is what a rollout made of a decision, as its record keeps it.
type rolledOut struct {
	N        int64 `json:"n"`
	Wave     int   `json:"wave"`
	Enforced bool  `json:"enforced"`
	Other    struct {
		Outcome string   `json:"outcome"`
		Reasons []string `json:"reasons"`
	} `json:"other"`
}

func (r *rolledOut) words() string {
	if r.N == 0 {
		return ""
	}
	how := "in monitor"
	if r.Enforced {
		how = "enforced"
	}
	return fmt.Sprintf("%d, wave %d, %s: %s: %s", r.N, r.Wave, how, r.Other.Outcome, strings.Join(r.Other.Reasons, ", "))
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
		f := p.Fields()
		l.Refused = l.Refused || f["r"] == true
		l.NewDevice = l.NewDevice || f["new_device"] == true
		for name, v := range map[string]*string{"ref": &l.Ref, "needs": &l.Needs, "review": &l.Review} {
			if text, _ := f[name].(string); text != "" {
				*v = text
			}
		}
		l.Why = append(l.Why, texts(f["why"])...)
		l.Reasons = append(l.Reasons, texts(f["policies"])...)
		if f["saw"] != nil && l.Shown == (Shown{}) {
			l.Shown = shown(p.JSON)
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
		Risk    string   `json:"risk"`
		Signals []string `json:"signals"`

		Seen *replay.Shared `json:"seen"`

		Monitored struct {
			Outcome string   `json:"outcome"`
			Reasons []string `json:"reasons"`
		} `json:"monitored"`
		Rollout rolledOut `json:"rollout"`
	}
	if len(row.Facts) > 0 && json.Unmarshal(row.Facts, &facts) != nil {
		facts.Kind = "" // nothing is known then
	}
	l.Outcome, l.Assurance, l.Proofs = facts.Outcome, facts.ACR, strings.Join(distinct(facts.Methods), ", ")
	l.Client, l.Code, l.Policy, l.Reasons = facts.Client, facts.Code, facts.Policy, append(l.Reasons, facts.Reasons...)
	if seen := facts.Seen; l.Needs == "" && seen != nil && seen.Ask != nil {
		l.Needs = policy.Words(seen.Ask.Ask())
	}
	l.Risk, l.Signals = facts.Risk, facts.Signals
	if m := facts.Monitored; m.Outcome != "" {
		l.Monitored = m.Outcome + ": " + strings.Join(m.Reasons, ", ")
	}
	l.Rollout = facts.Rollout.words()
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

// texts are the strings of a list.
func texts(v any) (out []string) {
	list, _ := v.([]any)
	for _, x := range list {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
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
