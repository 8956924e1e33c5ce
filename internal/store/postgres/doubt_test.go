package postgres_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// wire is the line to the database, which can be cut.
type wire struct {
	to  string
	cut atomic.Pointer[func(fromServer bool, b []byte) bool] // nil: never
}

// lay puts a wire between and gives the connection string of its near end.
func lay(t *testing.T, dsn string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &wire{to: u.Host}
	u.Host = l.Addr().String()
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", w.to)
			if err != nil {
				near.Close()
				continue
			}
			go w.carry(near, far, true)
			go w.carry(far, near, false)
		}
	}()
	return w, u.String()
}

// carry carries what src says, until one of both ends or the wire is cut.
func (w *wire) carry(dst, src net.Conn, fromServer bool) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := src.Read(buf)
		if cut := w.cut.Load(); cut != nil && n > 0 && (*cut)(fromServer, buf[:n]) {
			return
		}
		if _, e := dst.Write(buf[:n]); err != nil || e != nil {
			return
		}
	}
}

// TestDoubt: where the database did not say whether it committed, the answer does not
// say that nothing was changed, for it may have been; where COMMIT was never sent it does.
func TestDoubt(t *testing.T) {
	dsn := pgtest.Start(t)
	direct := open(t, postgres.Options{DSN: dsn, Migrate: true})
	defer direct.Close()
	w, near := lay(t, dsn)
	s := open(t, postgres.Options{DSN: near})
	defer s.Close()
	kek, err := hsm.OpenOrCreateFile(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	do := &act.Doer{Store: s, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: s.RecordKeys(kek)}
	create := func(name string, cut func(fromServer bool, b []byte) bool) error {
		in := act.Intent{
			Action: policy.SandboxSeed, Kind: audit.GroupCreated, Refs: act.Refs{Kind: policy.KindSystem},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				if cut != nil { // all is read; what follows is the commit
					w.cut.Store(&cut)
				}
				return act.Effect{Changes: []act.Change{group.Create{Group: group.Group{ID: id.New(id.Group), Name: name, CreatedAt: time.Now()}}}}, nil
			},
		}
		_, err := do.Do(t.Context(), in)
		w.cut.Store(nil)
		return err
	}
	if err := create("first", nil); err != nil {
		t.Fatal(err)
	}
	err = create("committed", func(fromServer bool, b []byte) bool { return fromServer && bytes.Contains(b, []byte("COMMIT\x00")) })
	if problem.CodeOf(err) != act.CodeUnknown || errors.Is(err, act.ErrNotWritten) || strings.Contains(problem.From(err).Detail, "Nothing was changed") {
		t.Errorf("a commit that was not answered: %v", err)
	}
	if _, err := direct.GroupByName(t.Context(), "committed"); err != nil {
		t.Errorf("it was committed: %v", err) // the control: the doubt is a real one
	}
	err = create("never sent", func(bool, []byte) bool { return true })
	if p := problem.From(err); p == nil || p.Kind != problem.Unavailable || p.Code == act.CodeUnknown || !strings.Contains(p.Detail, "Nothing was changed") {
		t.Errorf("a commit that was never sent: %v", err)
	}
	if _, err := direct.GroupByName(t.Context(), "never sent"); problem.CodeOf(err) != "group_not_found" {
		t.Errorf("it was not committed: %v", err)
	}
	if err := create("last", nil); err != nil {
		t.Errorf("the line is there again: %v", err)
	}
}
