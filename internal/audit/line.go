package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Line is a record as people read it: in `audit list`, on pages, in the API.
type Line struct {
	Seq      int64 // number in the log; -1 while it has none
	ID       string
	At       time.Time
	Kind     Kind
	Refused  bool
	Sentence string
	Persons  []string // ids of the persons concerned, the actor first; "" for an erased one
	Client   string   // id, "" if none
	Service  string
	ACR      string   // the assurance that was had
	Methods  []string // of the proofs
	Reasons  []string // policies that decided
	Code     string   // of a refusal
	Policy   string   // version
	Erased   int      // parts that open to nothing
}

// Read opens a record and says what it tells. names is as in Sentence.
func Read(ctx context.Context, row Row, seq int64, keys Unsealer, names func(id string) string) (Line, error) {
	parts, err := Open(ctx, row, keys)
	if err != nil {
		return Line{}, err
	}
	l := Line{
		Seq: seq, ID: row.ID, At: time.UnixMicro(row.At).UTC(), Kind: row.Kind,
		Sentence: Sentence(row, parts, names),
	}
	var f struct {
		Client, Service, ACR, Outcome, Code, Policy string
		Methods, Reasons                            []string
	}
	if len(row.Facts) > 0 && json.Unmarshal(row.Facts, &f) == nil {
		l.Client, l.Service, l.ACR, l.Code, l.Policy = f.Client, f.Service, f.ACR, f.Code, f.Policy
		l.Methods, l.Reasons = f.Methods, f.Reasons
		l.Refused = f.Code != ""
	}
	for _, p := range parts {
		if p.Pseudonym != ([16]byte{}) {
			l.Persons = append(l.Persons, p.Person)
		}
		if p.Erased {
			l.Erased++
		}
	}
	return l, nil
}
