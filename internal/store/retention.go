package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
)

// SetRetention says how many days records of a class stay in the database; 0: for
// ever.
type SetRetention struct {
	Class audit.Class
	Days  int
}

// Hold is a legal hold: what it covers is neither pruned nor erased.
type Hold struct {
	ID         string
	Person     string // "": everything
	Pseudonym  []byte // of the person, when it was placed
	Reason     string
	PlacedAt   time.Time
	ReleasedAt time.Time // zero: it holds
}

// PlaceHold places a hold.
type PlaceHold struct{ Hold }

// ReleaseHold releases a hold; problem.NotFound if it does not hold.
type ReleaseHold struct{ ID string }

// Prune takes records out of the database, by number; their archive is somewhere
// else, and their leaves stay. The act's record says the range. problem.Conflict
// (holds_changed) if another number of holds than Holds is in force.
type Prune struct {
	Epoch     uint64
	Low, High uint64 // of the epoch's tree
	Numbers   []int64
	Holds     int
}

// Change marks SetRetention as a change.
func (SetRetention) Change() {}

// Change marks PlaceHold as a change.
func (PlaceHold) Change() {}

// Change marks ReleaseHold as a change.
func (ReleaseHold) Change() {}

// Change marks Prune as a change.
func (Prune) Change() {}

var (
	holdsChanged = problem.New(problem.Conflict, "holds_changed", "Legal holds were placed or released meanwhile. Nothing was changed.")
	onHold       = problem.New(problem.Conflict, "legal_hold", "A legal hold covers this person: nothing of them may be erased.").
			WithHint("countersignd audit hold list")
)

// pruneChunk is how many records one statement takes out.
const pruneChunk = 128

// pruneSQL takes numbers; those that are not used are -1.
var pruneSQL = func() (out [4]string) {
	var b strings.Builder
	for i := range pruneChunk {
		fmt.Fprintf(&b, ", $%d", i+1)
	}
	in := "(" + b.String()[2:] + ")"
	return [4]string{
		`DELETE FROM audit_ref WHERE record_id IN (SELECT id FROM audit WHERE seq IN ` + in + `)`,
		`DELETE FROM audit_rollout WHERE record_id IN (SELECT id FROM audit WHERE seq IN ` + in + `)`,
		`DELETE FROM audit_person WHERE record_id IN (SELECT id FROM audit WHERE seq IN ` + in + `)`,
		`DELETE FROM audit WHERE seq IN ` + in,
	}
}()

func (s *Store) retentionChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case SetRetention:
		u.then(`INSERT INTO retention (class, days) VALUES ($1, $2) ON CONFLICT (class) DO UPDATE SET days = excluded.days`, string(c.Class), int64(c.Days))
	case PlaceHold:
		var pseudonym any
		if len(c.Pseudonym) > 0 {
			pseudonym = c.Pseudonym
		}
		u.then(`INSERT INTO legal_hold (id, person, pseudonym, reason, placed_at) VALUES ($1, $2, $3, $4, $5)`,
			c.ID, c.Person, pseudonym, c.Reason, u.at.UnixMicro())
	case ReleaseHold:
		u.changeOne("hold", `UPDATE legal_hold SET released_at = $1 WHERE id = $2 AND released_at IS NULL`, u.at.UnixMicro(), c.ID)
	case Prune:
		u.check(int64(c.Holds), refused(holdsChanged), `SELECT COUNT(*) FROM legal_hold WHERE released_at IS NULL`)
		for from := 0; from < len(c.Numbers); from += pruneChunk {
			args := make([]any, pruneChunk)
			for i := range args {
				args[i] = int64(-1)
				if from+i < len(c.Numbers) {
					args[i] = c.Numbers[from+i]
				}
			}
			for _, sql := range pruneSQL {
				u.then(sql, args...)
			}
		}
		u.then(`INSERT INTO log_pruned (record_id, epoch, low, high) VALUES ($1, $2, $3, $4)`, u.record, int64(c.Epoch), int64(c.Low), int64(c.High))
	default:
		return false
	}
	return true
}

// notOnHold refuses an erasure while a hold covers the person.
func (u *unit) notOnHold(person string) {
	u.check(0, refused(onHold), `SELECT COUNT(*) FROM legal_hold WHERE released_at IS NULL AND (person = '' OR person = $1)`, person)
}

// Retention reads how many days records of each class are kept; a class that is not
// there is kept for ever.
func (s *Store) Retention(ctx context.Context) (map[audit.Class]int, error) {
	out := map[audit.Class]int{}
	err := s.db.Query(ctx, `SELECT class, days FROM retention WHERE days > 0`, nil, func(row Row) error {
		var class string
		var days int64
		err := row.Scan(&class, &days)
		out[audit.Class(class)] = int(days)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the retention: %w", err)
	}
	return out, nil
}

// Holds lists the legal holds, oldest first: those in force and, if wanted, those that were released.
func (s *Store) Holds(ctx context.Context, released bool) ([]Hold, error) {
	list, err := all(ctx, s.db, func(row Row) (h Hold, err error) {
		var placed, released int64
		err = row.Scan(&h.ID, &h.Person, &h.Pseudonym, &h.Reason, &placed, &released)
		h.PlacedAt, h.ReleasedAt = moment(placed), moment(released)
		return h, err
	}, `SELECT id, person, pseudonym, reason, placed_at, COALESCE(released_at, 0) FROM legal_hold ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("store: read the legal holds: %w", err)
	}
	out := list[:0]
	for _, h := range list {
		if released || h.ReleasedAt.IsZero() {
			out = append(out, h)
		}
	}
	return out, nil
}

// Pruned implements audit.PrunedSource.
func (l *EpochLog) Pruned(ctx context.Context) ([]audit.PrunedRange, error) {
	list, err := all(ctx, l.s.db, func(row Row) (r audit.PrunedRange, err error) {
		var low, high int64
		err = row.Scan(&r.Record, &low, &high)
		r.Low, r.High = uint64(low), uint64(high)
		return r, err
	}, `SELECT record_id, low, high FROM log_pruned WHERE epoch = $1 ORDER BY low`, int64(l.e.N))
	if err != nil {
		return nil, fmt.Errorf("store: read what was pruned: %w", err)
	}
	return list, nil
}

// Pruned implements audit.PrunedSource for the epoch that grows.
func (s *Store) Pruned(ctx context.Context) ([]audit.PrunedRange, error) {
	l, err := s.Log(ctx)
	if err != nil {
		return nil, err
	}
	return l.Pruned(ctx)
}
