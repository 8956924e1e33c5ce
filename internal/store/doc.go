// Package store holds every statement of the product once, in SQL that SQLite
// and PostgreSQL both take as it stands, and implements the small Store
// interfaces of the domain on one type, Store. It owns the shape of the tables,
// how each Change is written, the snapshot a decision sees, the sequencer that
// numbers records and grows the log, and housekeeping.
//
// It leaves to others: opening a database, its connection options, its error
// codes and migrations (sqlite, postgres); the rules (policy, assurance); what a
// record says and how the log is hashed (audit); who signs checkpoints
// (keyring).
//
// Rules of the SQL: parameters are numbered $1, $2 … in order of first
// appearance (SQLite binds them by position); a parameter that is not compared
// directly with a column is CAST; no data-modifying CTEs, no RETURNING; times are
// microseconds UTC in integers and NULL for "never"; truth values are 0 and 1;
// lists are JSON text that no query looks into.
package store
