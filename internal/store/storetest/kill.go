package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/store"
)

// ChildVariable is set, to where the database is, in a process that TestKill
// starts: a test binary's main then opens it and calls Child.
const ChildVariable = "COUNTERSIGN_STORETEST_CHILD"

// Child commits acts from many callers for ever, each spending a mark of its
// own, and writes a line for each that was acknowledged.
func Child(s *store.Store) {
	ctx := context.Background()
	t := &testing.T{}
	r := &rig{t: t, s: s, keys: s.RecordKeys(sealer), writer: audit.NewWriter(), ctx: ctx, at: time.Now()}
	go sequencer(t, s, func(o *store.SequencerOptions) { o.Every, o.Lease = 20*time.Millisecond, 100*time.Millisecond }).Run(ctx)
	acknowledged := make(chan string, 64)
	for range 16 {
		go func() {
			for {
				w := r.write(audit.TokenIssued, "", nil)
				key := once.KeyOf(once.DPoP, w.Record)
				w.Spend = []once.Spend{{Purpose: once.DPoP, Key: key, Mark: true, Until: time.Now().Add(time.Hour)}}
				if err := s.Commit(ctx, w); err == nil {
					acknowledged <- w.Record
				}
			}
		}()
	}
	for rec := range acknowledged {
		fmt.Println(rec)
	}
}

// TestKill kills a process that commits under load, as often as rounds says, and
// checks each time that nothing acknowledged is lost, nothing is spent without its
// record, and the log verifies. main is the test binary's environment variable
// value for Child.
func TestKill(t *testing.T, db Database, where string, rounds int) {
	db.Open().Close() // migrated before the clock runs
	total := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), ChildVariable+"="+where)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := killAfter(t, cmd, out, time.Duration(20+37*round%150)*time.Millisecond)
		total += len(acknowledged)
		checkKilled(t, db, acknowledged)
	}
	if total == 0 {
		t.Error("nothing was acknowledged before the kills")
	}
	t.Logf("%d acknowledged acts survived %d kills", total, rounds)
}

// killAfter lets the child work for a while after its first acknowledgement.
func killAfter(t *testing.T, cmd *exec.Cmd, out io.Reader, work time.Duration) (acknowledged []string) {
	t.Helper()
	lines := bufio.NewReader(out)
	first := true
	for {
		line, err := lines.ReadString('\n')
		if first {
			time.AfterFunc(work, func() { cmd.Process.Kill() })
			first = false
		}
		if err != nil {
			break // an unfinished line was not acknowledged to anybody
		}
		if rec := strings.TrimSpace(line); strings.HasPrefix(rec, id.Record) {
			acknowledged = append(acknowledged, rec)
		}
	}
	cmd.Wait()
	return acknowledged
}

func checkKilled(t *testing.T, db Database, acknowledged []string) {
	t.Helper()
	r := open(t, db)
	defer r.s.Close()
	for _, rec := range acknowledged {
		if _, err := r.s.RecordByID(r.ctx, rec); err != nil {
			t.Fatalf("acknowledged %s: %v", rec, err)
		}
		v, err := r.s.OnceValue(r.ctx, once.DPoP, once.KeyOf(once.DPoP, rec))
		if err != nil || v.UsedBy != rec {
			t.Fatalf("what %s spent: %+v, %v", rec, v, err)
		}
		again := act.Write{At: r.at, Record: "rec_again", Row: r.write(audit.TokenIssued, "", nil).Row}
		again.Spend = []once.Spend{{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, rec), Mark: true, Until: r.at}}
		if rec == acknowledged[0] {
			if _, ok := act.Spent(r.s.Commit(r.ctx, again)); !ok {
				t.Fatalf("%s could be spent again", rec)
			}
		}
	}
	deadline := time.Now().Add(time.Minute)
	for { // the dead holder's lease runs out first
		settle(t, r)
		if c := must(r.s.Counts(r.ctx))(t); c.Pending == 0 && c.Signed == c.Records {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the log did not grow again")
		}
		time.Sleep(50 * time.Millisecond)
	}
	whole(t, r)
}

// Rounds is how often a campaign is repeated: few times in the ordinary run, in
// full with COUNTERSIGN_TRUST set (make trust).
func Rounds(few, full int) int {
	if os.Getenv("COUNTERSIGN_TRUST") != "" {
		return full
	}
	return few
}

// Saturate lets callers commit at once, each so many times, and fails the test
// unless all succeed in time.
func Saturate(t *testing.T, s *store.Store, callers, each int) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := newRig(t, s)
	p := r.person("dana")
	for _, err := range race(callers, func(int) error {
		for range each {
			w := r.write(audit.TokenIssued, p.ID, []string{p.ID})
			w.Guard = []act.Version{{ID: p.ID, N: 1}}
			w.Spend = []once.Spend{{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, w.Record), Mark: true, Until: w.At.Add(time.Hour)}}
			if err := s.Commit(ctx, w); err != nil {
				return err
			}
			if _, err := s.RecordLeaf(ctx, w.Record); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Error(err)
		}
	}
}
