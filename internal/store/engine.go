package store

import (
	"context"
	"errors"
	"fmt"
)

// Row is one row of an answer; Scan copies its columns.
type Row interface{ Scan(dest ...any) error }

// Reader answers queries; each is called once per row.
type Reader interface {
	Query(ctx context.Context, sql string, args []any, each func(Row) error) error
}

// Stmt is one statement of a Unit.
type Stmt struct {
	SQL  string
	Args []any
	// Want is how many rows a statement of Must has to touch, or what the one
	// integer it selects has to be (Count); Any accepts everything. Of Then it
	// is not looked at.
	Want  int64
	Count bool
	// Number is the 1-based position of the argument that an engine with a
	// single writer replaces with the next record number; 0 if there is none.
	Number int
}

// Any is the Want of a statement that may touch any number of rows.
const Any = -1

// Unit is what is made durable in one transaction: Then runs only if every
// statement of Must held.
type Unit struct {
	Must, Then []Stmt
	Record     string // id of the record that an act writes; "" for what has none
}

// Engine is a database. Everything specific to one is behind it.
type Engine interface {
	// Reader answers single queries outside any transaction.
	Reader
	// Name is "sqlite" or "postgres".
	Name() string
	// Snapshot runs fn on one consistent snapshot.
	Snapshot(ctx context.Context, fn func(Reader) error) error
	// Write MUST be all or nothing, and durable on return. Its errors are
	// *Missed, *Unique, ErrRetry, a problem (Unavailable, Throttled) or plain.
	Write(ctx context.Context, u Unit) error
	// Size is what the database takes, in bytes.
	Size(ctx context.Context) (int64, error)
	Close() error
}

// Missed is the error of a Unit whose statement Must[Index] did not hold; nothing
// was written.
type Missed struct {
	Index int
	Got   int64
}

// Error implements error.
func (m *Missed) Error() string {
	return fmt.Sprintf("store: statement %d of must touched %d rows", m.Index, m.Got)
}

// Unique is the error of a Unit that broke a uniqueness constraint. Constraint
// is "table.column" of its first column.
type Unique struct{ Constraint string }

// Error implements error.
func (u *Unique) Error() string { return "store: not unique: " + u.Constraint }

// ErrRetry is the error of a Unit that lost against another one (serialization
// failure, deadlock); nothing was written.
var ErrRetry = errors.New("store: lost against another transaction")
