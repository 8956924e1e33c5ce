package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Place is where on PostgreSQL a database is, and how far its server has written
// (mechanisms I7). What a server does not tell is zero, and is not compared.
type Place struct {
	System   string `json:"system,omitempty"`   // identifier of the cluster
	Timeline int64  `json:"timeline,omitempty"` // another after each promotion, and each recovery to a point in time
	Table    int64  `json:"table,omitempty"`    // object id of a table of ours: another after a dump was put back
	Position uint64 `json:"position,omitempty"` // in the write-ahead log, as far as it is on the disk
}

// String is the place in words, without the position.
func (p Place) String() string {
	if p.System == "" && p.Timeline == 0 {
		return "PostgreSQL, which does not say where it is"
	}
	return fmt.Sprintf("PostgreSQL %s, timeline %d", p.System, p.Timeline)
}

// With is what is known of a place once it was found to be now: what now does not tell
// stays, and a position only grows on its timeline.
func (p Place) With(now Place) Place {
	if now.System != "" {
		p.System = now.System
	}
	if now.Table != 0 {
		p.Table = now.Table
	}
	if now.Timeline != 0 && now.Timeline != p.Timeline {
		p.Timeline, p.Position = now.Timeline, 0
	}
	p.Position = max(p.Position, now.Position)
	return p
}

// Moved says in what a database that was at p and is at now is another one than it
// was; "" if in nothing.
func (p Place) Moved(now Place) string {
	switch {
	case p.System != "" && now.System != "" && p.System != now.System:
		return fmt.Sprintf("the database is on another PostgreSQL server: it was %s, it is %s", p.System, now.System)
	case p.Table != 0 && now.Table != 0 && p.Table != now.Table:
		return "the tables of the database were made anew, as when a dump is put back"
	case p.Timeline != 0 && now.Timeline != 0 && p.Timeline != now.Timeline:
		return fmt.Sprintf("PostgreSQL left timeline %d for %d, as when a standby is promoted or a backup recovered", p.Timeline, now.Timeline)
	}
	return ""
}

// Promoted reports whether nothing but the timeline changed: the same server, or one
// that followed it, goes on.
func (p Place) Promoted(now Place) bool {
	p.Timeline, now.Timeline = 0, 0
	return p.Moved(now) == ""
}

// unfinished is by how much a server's position may be lower after a crash, with
// nothing lost: a record that was not whole is written over.
const unfinished = 1 << 20

// Behind says why a database that was at p and is at now has gone back for certain;
// "" if that cannot be told from the two.
func (p Place) Behind(now Place) string {
	switch {
	case p.System == "" || p.System != now.System || now.Timeline == 0:
	case now.Timeline < p.Timeline:
		return fmt.Sprintf("PostgreSQL was on timeline %d and is on %d", p.Timeline, now.Timeline)
	case now.Timeline == p.Timeline && now.Position != 0 && now.Position+unfinished < p.Position:
		return fmt.Sprintf("PostgreSQL had written up to %X and is at %X", p.Position, now.Position)
	}
	return ""
}

// WentBack is in the chain of every error of a database that has been found to have
// gone back beneath this process: it reads and writes nothing any more.
type WentBack struct{ Why string }

// Error implements error.
func (w *WentBack) Error() string { return "the database has gone back in time: " + w.Why }

// Placed is an Engine whose server says where it is.
type Placed interface {
	// Place is where the database was when somebody last looked.
	Place() Place
	// Look looks. Once it finds that the database has gone back, every call of the
	// engine MUST fail with a *WentBack in its chain.
	Look(ctx context.Context) error
}

// DatabasePlace is where the database was found when it was last looked at; ok is
// false for an embedded one.
func (s *Store) DatabasePlace() (p Place, ok bool) {
	e, ok := s.db.(Placed)
	if ok {
		p = e.Place()
	}
	return p, ok
}

// LookAtPlace looks where the database is; nothing for an embedded one.
func (s *Store) LookAtPlace(ctx context.Context) error {
	if e, ok := s.db.(Placed); ok {
		return e.Look(ctx)
	}
	return nil
}

// factPlace is where the database is known to be.
const factPlace = "place"

// KeepPlace remembers, in the database itself, where it is: a copy that is put back
// elsewhere, or recovered, says where it was.
type KeepPlace struct{ Place Place }

// Change marks KeepPlace as a change.
func (KeepPlace) Change() {}

// Dismiss ends a quarantine that began only because the database moved, and whose
// operator says that nothing was lost. Seen is what the quarantine had seen when that
// was judged. problem.Conflict: not_quarantined, or quarantine_founded if more was
// seen meanwhile.
type Dismiss struct{ Seen Anchor }

// Change marks Dismiss as a change.
func (Dismiss) Change() {}

// ErrFounded is why a quarantine cannot be dismissed.
var ErrFounded = problem.New(problem.Conflict, "quarantine_founded", "Something is known to be missing from the database, so the quarantine cannot be dismissed.").
	WithHint("See countersignd quarantine status, then: countersignd quarantine leave")

func (s *Store) placeChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case KeepPlace:
		c.Place.Position = 0 // it moves with each act
		u.fact(factPlace, asJSON(c.Place))
	case Dismiss:
		s.touchSelf(u)
		u.thawSelf()
		u.check(1, refused(ErrFounded), `SELECT COUNT(*) FROM deployment_fact WHERE name = $1 AND value = $2`, FactSeen, asJSON(c.Seen))
		u.then(`DELETE FROM deployment_fact WHERE name IN ($1, $2)`, FactSeen, FactReplayed)
	default:
		return false
	}
	return true
}

// thawSelf ends the quarantine, which there has to be.
func (u *unit) thawSelf() {
	u.must(1, refused(notQuarantined), `UPDATE node SET frozen_at = NULL, why = '', version = version + 1
WHERE frozen_at IS NOT NULL AND id IN (SELECT id FROM deployment)`)
}

// asJSON writes what is made of strings and numbers.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: a fact cannot be written as JSON: " + err.Error())
	}
	return string(b)
}

// KnownPlace is where the database is known to be; ok is false if that was never kept.
func (s *Store) KnownPlace(ctx context.Context) (p Place, ok bool, err error) {
	f, ok, err := s.Fact(ctx, factPlace)
	if err == nil && ok {
		if err = json.Unmarshal([]byte(f.Value), &p); err != nil {
			err = errors.Join(errors.New("store: the fact "+factPlace+" cannot be read"), err)
		}
	}
	return p, ok, err
}
