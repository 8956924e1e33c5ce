package act

import (
	"encoding/json"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// Decided reads of a record what was decided, to decide it again; parts are as
// audit.Open gave them. ok is false where nothing was decided, or nothing that
// another set could change. facts is shared by all records that have the same, and
// may be nil for one that is remembered by row.FactsHash.
func Decided(row audit.Row, parts []audit.OpenPart, facts *replay.Facts) (d replay.Decision, ok bool) {
	if facts == nil {
		facts = new(replay.Facts)
		if len(row.Facts) == 0 || json.Unmarshal(row.Facts, facts) != nil {
			return d, false
		}
	}
	if facts.Action == "" || policy.OfHost(facts.Kind) {
		return d, false
	}
	d = replay.Decision{At: time.UnixMicro(row.At).UTC(), Facts: facts}
	if facts.Kind != policy.KindPerson || len(parts) < 2 || parts[1].Person == "" {
		return d, true
	}
	d.Who = parts[1].Person // who acts comes first
	var said struct {
		Session string        `json:"session"`
		Grant   string        `json:"grant"`
		Saw     *replay.World `json:"saw"`
	}
	if json.Unmarshal(parts[1].JSON, &said) == nil {
		d.Session, d.Saw = said.Session, said.Saw
		if d.Session == "" {
			d.Session = said.Grant
		}
	}
	return d, true
}
