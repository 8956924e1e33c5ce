package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
)

const (
	recordSQL = `INSERT INTO audit (seq, id, kind, at, entry, body, leaf, facts_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	factsSQL  = `INSERT INTO decision_facts (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`
	refersSQL = `INSERT INTO audit_ref (ref, record_id) VALUES ($1, $2) ON CONFLICT (ref, record_id) DO NOTHING`
	concerns  = `INSERT INTO audit_person (pseudonym, record_id) VALUES ($1, $2) ON CONFLICT (pseudonym, record_id) DO NOTHING`
)

// insertRecord adds the record of the act. interned reports whether its facts
// are written with it.
func (s *Store) insertRecord(u *unit, row audit.Row) (interned bool, err error) {
	entry, err := audit.ParseEntry(row.Entry)
	if err != nil {
		return false, err
	}
	if len(row.FactsHash) > 0 && !s.known.has(row.FactsHash) {
		u.then(factsSQL, row.FactsHash, row.Facts)
		interned = true
	}
	s.register(u, entry)
	if row.Ref != "" {
		u.then(refersSQL, row.Ref, row.ID)
	}
	for i := range entry.Pseudonyms {
		u.then(concerns, entry.Pseudonyms[i][:], row.ID)
	}
	var hash any
	if len(row.FactsHash) > 0 {
		hash = row.FactsHash
	}
	u.Then = append(u.Then, Stmt{
		SQL:  recordSQL,
		Args: []any{nil, row.ID, int64(row.Kind), row.At, row.Entry, row.Body, row.Leaf, hash}, Want: Any, Number: 1,
	})
	return interned, nil
}

// Record is a row of the log with its place. Seq is the index of its leaf, -1
// while the sequencer has not numbered it.
type Record struct {
	audit.Row
	Seq int64
}

const rowSQL = `SELECT COALESCE(a.seq, -1), a.id, a.kind, a.at, a.entry, a.body, a.leaf, a.facts_hash, f.body
FROM audit a LEFT JOIN decision_facts f ON f.hash = a.facts_hash `

func scanRecord(row Row) (Record, error) {
	var r Record
	var kind int64
	err := row.Scan(&r.Seq, &r.ID, &kind, &r.At, &r.Entry, &r.Body, &r.Leaf, &r.FactsHash, &r.Facts)
	r.Kind = audit.Kind(kind)
	return r, err
}

// Filter selects records for a page.
type Filter struct {
	Person []byte       // pseudonym; nil: anybody
	Kinds  []audit.Kind // nil: all but what processes say of themselves every few seconds
	Before string       // id of the last record of the page before; "": the newest
}

// pageScan is how many records a page of chosen kinds looks at before it gives
// what it has, so that no read transaction lasts.
const pageScan = 20000

// AuditPage gives records newest first, at most n, numbered or not, by id
// (which sorts by the time of the act). more is the Before of the next page, ""
// when there is none; a page may be short, even empty, and have more.
func (s *Store) AuditPage(ctx context.Context, f Filter, n int) (page []Record, more string, err error) {
	before := f.Before
	if before == "" {
		before = "~" // sorts after every id
	}
	for scanned := 0; scanned < pageScan; {
		const step = 500
		var chunk []Record
		if f.Person != nil {
			chunk, err = all(ctx, s.db, scanRecord, rowSQL+`JOIN audit_person p ON p.record_id = a.id
WHERE p.pseudonym = $1 AND p.record_id < $2 ORDER BY p.record_id DESC LIMIT $3`, f.Person, before, int64(step))
		} else {
			chunk, err = all(ctx, s.db, scanRecord, rowSQL+`WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2`, before, int64(step))
		}
		if err != nil {
			return nil, "", fmt.Errorf("store: read records: %w", err)
		}
		for i := range chunk {
			before = chunk[i].ID
			if !f.wants(chunk[i].Kind) {
				continue
			}
			page = append(page, chunk[i])
			if len(page) == n {
				if i == len(chunk)-1 && len(chunk) < step {
					before = ""
				}
				return page, before, nil
			}
		}
		if len(chunk) < step {
			return page, "", nil
		}
		scanned += len(chunk)
	}
	return page, before, nil
}

func (f *Filter) wants(k audit.Kind) bool {
	if len(f.Kinds) == 0 {
		return k != audit.WriterBeat
	}
	for _, want := range f.Kinds {
		if k == want {
			return true
		}
	}
	return false
}

// Referred gives the newest records, at most n, that name the request of a reference;
// person is a pseudonym, nil: of anybody. since is the id of the first record from which
// on all are found so, "" if there is none yet: those before it have to be looked through.
func (s *Store) Referred(ctx context.Context, ref string, person []byte, n int) (list []Record, since string, err error) {
	const byRef = rowSQL + `JOIN audit_ref r ON r.record_id = a.id `
	if person == nil {
		list, err = all(ctx, s.db, scanRecord, byRef+`WHERE r.ref = $1 ORDER BY r.record_id DESC LIMIT $2`, ref, int64(n))
	} else {
		list, err = all(ctx, s.db, scanRecord, byRef+`JOIN audit_person p ON p.record_id = a.id WHERE r.ref = $1 AND p.pseudonym = $2 ORDER BY r.record_id DESC LIMIT $3`, ref, person, int64(n))
	}
	var first []string
	if err == nil {
		err = Texts(ctx, s.db, &first, `SELECT COALESCE(MIN(record_id), '') FROM audit_ref`)
	}
	if err != nil {
		return nil, "", fmt.Errorf("store: look for a reference: %w", err)
	}
	return list, first[0], nil
}

// RecordByID reads one record; problem.NotFound if there is none.
func (s *Store) RecordByID(ctx context.Context, id string) (Record, error) {
	return need(ctx, s.db, "record", scanRecord, rowSQL+`WHERE a.id = $1`, id)
}

// Issued is what a record issued, as introspection needs it.
type Issued struct {
	Kind  audit.Kind
	At    time.Time
	Leaf  string         // node of what was issued, "" if nothing was
	Nodes []lineage.Node // the leaf and everything it descends from
}

// Live reports whether what was issued still is: the leaf exists and it and
// every ancestor are live.
func (i Issued) Live() bool {
	_, ended := lineage.FirstEnded(i.Nodes)
	return i.Leaf != "" && len(i.Nodes) > 0 && !ended
}

// RecordLeaf gives what a record issued with the state of all it descends from,
// in one statement; problem.NotFound if there is no such record.
func (s *Store) RecordLeaf(ctx context.Context, recordID string) (Issued, error) {
	var out Issued
	found := false
	err := s.db.Query(ctx, `WITH RECURSIVE up (id) AS (
SELECT a.leaf FROM audit a WHERE a.id = $1
UNION SELECT e.parent FROM up JOIN edge e ON e.child = up.id)
SELECT a.kind, a.at, a.leaf, COALESCE(n.id, ''), COALESCE(n.kind, 0), COALESCE(n.version, 0), COALESCE(n.ended_at, 0), COALESCE(n.frozen_at, 0), COALESCE(n.why, '')
FROM audit a CROSS JOIN up LEFT JOIN node n ON n.id = up.id WHERE a.id = $1`, []any{recordID}, func(row Row) error {
		var kind, at int64
		var n nodeRow
		if err := row.Scan(n.dest(&kind, &at, &out.Leaf)...); err != nil {
			return err
		}
		found = true
		out.Kind, out.At = audit.Kind(kind), moment(at)
		if n.id != "" {
			out.Nodes = append(out.Nodes, n.node())
		}
		return nil
	})
	if err != nil {
		return Issued{}, fmt.Errorf("store: read what a record issued: %w", err)
	}
	if !found {
		return Issued{}, missing("record")
	}
	return out, nil
}

// RecordsAfter gives records in the order of their ids, at most n, from the one
// behind after on; "" begins with the first.
func (s *Store) RecordsAfter(ctx context.Context, after string, n int) ([]Record, error) {
	page, err := all(ctx, s.db, scanRecord, rowSQL+`WHERE a.id > $1 ORDER BY a.id LIMIT $2`, after, int64(n))
	if err != nil {
		return nil, fmt.Errorf("store: read records: %w", err)
	}
	return page, nil
}
