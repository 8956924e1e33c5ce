package main

import (
	"context"
	"database/sql"
	"net/url"

	_ "modernc.org/sqlite" // the driver that the product uses
)

// batch is how many waiting rows one commit takes.
const batch = 256

// rows is one table in SQLite, written by group commit: one goroutine commits
// all rows that wait, and answers them after that.
type rows struct {
	db    *sql.DB
	find  *sql.Stmt
	queue chan row
}

type row struct {
	hash   [32]byte
	answer string
	done   chan error
}

func openRows(path string) (*rows, error) {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+path+"?"+pragmas.Encode())
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS token (hash BLOB PRIMARY KEY, answer TEXT NOT NULL) STRICT, WITHOUT ROWID"); err != nil {
		return nil, err
	}
	find, err := db.Prepare("SELECT answer FROM token WHERE hash = $1")
	if err != nil {
		return nil, err
	}
	r := &rows{db: db, find: find, queue: make(chan row, batch)}
	go r.commit()
	return r, nil
}

// write returns once the row is durable.
func (r *rows) write(hash [32]byte, answer string) error {
	w := row{hash, answer, make(chan error, 1)}
	r.queue <- w
	return <-w.done
}

// read returns the answer kept for a token, "" if there is none.
func (r *rows) read(ctx context.Context, hash [32]byte) (answer string) {
	if r.find.QueryRowContext(ctx, hash[:]).Scan(&answer) != nil {
		return ""
	}
	return answer
}

func (r *rows) commit() {
	insert, err := r.db.Prepare("INSERT INTO token (hash, answer) VALUES ($1, $2)")
	for first := range r.queue {
		waiting := []row{first}
	fill:
		for len(waiting) < batch {
			select {
			case next := <-r.queue:
				waiting = append(waiting, next)
			default:
				break fill
			}
		}
		outcome := err
		if outcome == nil {
			outcome = r.insert(insert, waiting)
		}
		for _, w := range waiting {
			w.done <- outcome
		}
	}
}

func (r *rows) insert(insert *sql.Stmt, waiting []row) error {
	tx, err := r.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt := tx.Stmt(insert)
	for _, w := range waiting {
		if _, err := stmt.Exec(w.hash[:], w.answer); err != nil {
			return err
		}
	}
	return tx.Commit()
}
