package client

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// Met is a group of clients that no administrator registered and that people agreed
// to, as far as they have not ended.
type Met struct {
	Source  Source
	Group   string // a domain, or a fingerprint
	Name    string // of the newest client
	Newest  string // its id
	Clients int    // how many there are
	People  int    // who agreed to one of them
	UsedAt  time.Time
}

// Use is a person's agreement with a client of such a group, which has not ended.
type Use struct {
	Client    string // by id
	Person    string // by id
	Resources []string
	Scopes    []string // as a consent names them
	At        time.Time
	UsedAt    time.Time // zero: nothing was issued by it
}

// Stand is what a rule changes of the clients that it is about, with their ids:
// whoever is blocked by it, beside all that is said already, stands still, and
// whoever is not any more goes on.
func Stand(ctx context.Context, said Admissions, r Rule) (list []act.Change, ids []string, err error) {
	rules, err := said.Rules(ctx)
	if err != nil {
		return nil, nil, err
	}
	rules = slices.DeleteFunc(rules, func(x Rule) bool { return x.Source == r.Source && x.Group == r.Group })
	rules = append(rules, r)
	affected, err := said.Under(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range affected {
		blocked, frozen := TrustOf(c, rules) == Blocked, !c.Node.FrozenAt.IsZero()
		switch {
		case blocked && !frozen:
			list = append(list, lineage.Freeze{ID: c.ID, Why: WhyBlocked})
		case !blocked && frozen && c.Node.Why == WhyBlocked:
			list = append(list, lineage.Thaw{ID: c.ID})
		default:
			continue
		}
		ids = append(ids, c.ID)
	}
	return list, ids, nil
}
