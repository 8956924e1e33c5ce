package trust

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestTampering changes a real database at random, as one could who owns it, and
// verifies it against a checkpoint kept elsewhere: every change is found. Erasing
// a person leaves the log whole.
func TestTampering(t *testing.T) {
	w := newWorld(t, t.TempDir(), "", nil)
	w.start()
	b := w.person()
	var older []string // copies of the whole database, as backups are
	for i := range 300 {
		if _, err := w.machine.Credentials(""); err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 {
			w.stop()
			older = append(older, w.copyTo(t.TempDir()))
			w.start()
		}
	}
	for range 20 {
		r := w.app.NewRequest(theAPI, theScope)
		back, err := b.Authorize(r.Query)
		check(t, err)
		_, err = w.app.Redeem(r, back.Get("code"))
		check(t, err)
	}
	w.stop()
	st := w.state(nil)
	kept := w.checkpoint()
	rep := w.verify(st, kept)
	vkey, err := st.VerificationKey()
	check(t, err)
	check(t, st.Close())
	if !rep.OK() || rep.Covered != rep.Size || rep.Against != rep.Size {
		t.Fatalf("before anything was changed: %+v %v", rep, rep.Lines())
	}
	n, missed := rounds(1000), 0
	kinds := map[string]int{}
	for i := range n {
		what, path := w.tamper(i, older, int64(rep.Size))
		kinds[what]++
		if found, err := verifyFile(path, vkey, kept); err != nil || found.OK() {
			missed++
			t.Errorf("%d: %s: not found: %v %v", i, what, err, found.Lines())
		}
		check(t, os.RemoveAll(filepath.Dir(path)))
	}
	w.commandFinds(kept)
	if !full() {
		t.Logf("%v", kinds)
	}
	report(t, "changes of the log", "%d random edits, deletions, swaps, insertions and truncations of %d records, %d not found", n, rep.Size, missed)
}

// copyTo copies the database to a folder and gives its path.
func (w *world) copyTo(dir string) string {
	w.t.Helper()
	to := filepath.Join(dir, "countersign.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(w.dir, "countersign.db"+suffix))
		if os.IsNotExist(err) {
			continue
		}
		check(w.t, err)
		check(w.t, os.WriteFile(to+suffix, b, 0o600))
	}
	return to
}

// verifyFile verifies a database without starting anything on it.
func verifyFile(path, vkey string, against []byte) (audit.Report, error) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return audit.Report{}, err
	}
	defer s.Close()
	return audit.Verify(ctx, s, audit.Options{VKey: vkey, Against: against})
}

// columns of the log that are more than an index.
var columns = []struct{ table, column, key string }{
	{"audit", "entry", "seq"},
	{"audit", "body", "seq"},
	{"audit", "id", "seq"},
	{"audit", "at", "seq"},
	{"audit", "kind", "seq"},
	{"audit", "leaf", "seq"},
	{"audit", "facts_hash", "seq"},
	{"decision_facts", "body", "rowid"},
	{"tile", "data", "rowid"},
	{"checkpoint", "note", "rowid"},
	{"log_head", "root", "one"},
	{"log_head", "size", "one"},
}

// tamper makes a copy with a change in it.
func (w *world) tamper(i int, older []string, size int64) (what, path string) {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "countersign-tamper-")
	check(w.t, err)
	rng := rand.New(rand.NewPCG(uint64(i), 4))
	if i%10 == 9 { // the most thorough truncation: an older copy of the whole
		what, path = "rollback", filepath.Join(dir, "countersign.db")
		from := older[rng.IntN(len(older))]
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(from + suffix)
			if os.IsNotExist(err) {
				continue
			}
			check(w.t, err)
			check(w.t, os.WriteFile(path+suffix, b, 0o600))
		}
		return what, path
	}
	path = w.copyTo(dir)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(0)")
	check(w.t, err)
	defer db.Close()
	exec := func(q string, args ...any) {
		w.t.Helper()
		if _, err := db.Exec(q, args...); err != nil {
			w.t.Fatalf("%s: %v", q, err)
		}
	}
	at := rng.Int64N(size)
	switch i % 10 {
	case 5:
		exec(`DELETE FROM audit WHERE seq = ?`, at)
		return "deletion", path
	case 6:
		other := (at + 1 + rng.Int64N(size-1)) % size
		exec(`UPDATE audit SET seq = -1 WHERE seq = ?`, at)
		exec(`UPDATE audit SET seq = ? WHERE seq = ?`, at, other)
		exec(`UPDATE audit SET seq = ? WHERE seq = -1`, other)
		return "swap", path
	case 7:
		exec(`DELETE FROM audit WHERE seq >= ?`, at)
		if rng.IntN(2) == 0 { // and what would show it
			exec(`DELETE FROM checkpoint WHERE size > ?`, at)
			exec(`UPDATE log_head SET size = ?`, at)
		}
		return "truncation", path
	case 8: // a record in the place of another, and those behind moved on
		exec(`UPDATE audit SET seq = -seq - 2 WHERE seq >= ?`, at)
		exec(`UPDATE audit SET seq = -seq - 1 WHERE seq < 0`)
		exec(`INSERT INTO audit (seq, id, kind, at, entry, body, leaf, facts_hash) SELECT ?, 'rec_forged', kind, at, entry, body, leaf, facts_hash FROM audit WHERE seq <> ? LIMIT 1`, at, at)
		exec(`UPDATE log_head SET size = size + 1`)
		return "insertion", path
	}
	c := columns[rng.IntN(len(columns))]
	return "edit of " + c.table + "." + c.column, w.edit(db, rng, path, c.table, c.column, c.key)
}

// edit changes one bit of one value, or a number by one.
func (w *world) edit(db *sql.DB, rng *rand.Rand, path, table, column, key string) string {
	w.t.Helper()
	var n, id int64
	check(w.t, db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s IS NOT NULL`, table, column)).Scan(&n))
	var value any
	check(w.t, db.QueryRow(fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s IS NOT NULL LIMIT 1 OFFSET %d`, key, column, table, column, rng.Int64N(n))).Scan(&id, &value))
	switch v := value.(type) {
	case int64:
		value = v + 1
	case []byte:
		v[rng.IntN(len(v))] ^= 1 << rng.IntN(8)
		value = v
	case string:
		if v == "" {
			v = "x"
		} else {
			b := []byte(v)
			b[rng.IntN(len(b))] ^= 1
			v = string(b)
		}
		value = v
	}
	if _, err := db.Exec(fmt.Sprintf(`UPDATE %s SET %s = ? WHERE %s = ?`, table, column, key), value, id); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// commandFinds runs the command itself on a changed database.
func (w *world) commandFinds(kept []byte) {
	w.t.Helper()
	elsewhere := filepath.Join(w.t.TempDir(), "kept")
	check(w.t, os.WriteFile(elsewhere, kept, 0o600))
	verify := func() program.Result {
		r, err := program.Exec(w.t.Context(), program.Environment([]string{"COUNTERSIGN_"}), program.Build(w.t, "countersignd"), "--config", w.file, "audit", "verify", "--against", elsewhere)
		check(w.t, err)
		return r
	}
	if r := verify(); r.Exit != 0 {
		w.t.Errorf("as it is: exit %d %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	db := w.db()
	defer db.Close()
	if _, err := db.Exec(`UPDATE audit SET at = at + 1 WHERE seq = 40`); err != nil {
		w.t.Fatal(err)
	}
	if r := verify(); r.Exit != 3 {
		w.t.Errorf("changed: exit %d %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if _, err := db.Exec(`UPDATE audit SET at = at - 1 WHERE seq = 40`); err != nil {
		w.t.Fatal(err)
	}
}

// TestErasure erases a person whose acts are in the log: it stays whole, and
// what was recorded of them opens to nothing.
func TestErasure(t *testing.T) {
	databases(t, 1, 1, func(t *testing.T, dsn string, _ int) {
		w := newWorld(t, t.TempDir(), dsn, nil)
		w.start()
		b := w.person()
		a, err := b.Post("/admin/invite", map[string][]string{"display_name": {"Sam Doe"}, "email": {"sam@example.com"}, "role": {""}})
		check(t, err)
		link := regexp.MustCompile(regexp.QuoteMeta(w.issuer) + `/invite#\w+`).FindString(a.Body)
		sam := actor.New(w.issuer, nil)
		defer sam.Close()
		check(t, sam.Join(link, "Sam Doe", "sam"))
		for range 5 {
			r := w.app.NewRequest(theAPI, theScope)
			back, err := sam.Authorize(r.Query)
			check(t, err)
			_, err = w.app.Redeem(r, back.Get("code"))
			check(t, err)
		}
		w.stop()
		st := w.state(nil)
		defer st.Close()
		kept := w.checkpoint()
		p, err := st.Store.PersonByUsername(context.Background(), "sam")
		check(t, err)
		before := w.verify(st, kept)
		check(t, st.Seed(context.Background(), audit.PersonErased, account.Erase{ID: p.ID}))
		after := w.verify(st, kept)
		if !before.OK() || before.Erased != 0 || !after.OK() || after.Erased < 5 {
			t.Errorf("before %v, after %v", before.Lines(), after.Lines())
		}
		report(t, "a person erased, "+engine(dsn), "the log whole; %d parts of theirs open to nothing", after.Erased)
	})
}
