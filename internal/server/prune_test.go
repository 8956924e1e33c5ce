package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// record writes a record of a kind and a person at a time.
func (s *Server) record(t *testing.T, kind audit.Kind, person string) {
	t.Helper()
	parts := []audit.Part{{Body: map[string]any{"n": 1}}}
	if person != "" {
		parts = append(parts, audit.Part{Person: person, Body: map[string]any{"secret": "of " + person}})
	}
	_, err := s.Do.Do(t.Context(), act.Intent{Action: policy.SandboxSeed, Kind: kind, Refs: system(), Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Parts: parts}, nil
	}})
	check(t, err)
}

// report verifies the log with archives.
func (s *Server) report(t *testing.T, dirs ...string) EpochReport {
	t.Helper()
	o := audit.Options{Keys: s.Names}
	if len(dirs) > 0 {
		o.Archive = &Archives{Dirs: dirs}
	}
	reports, err := s.Verify(t.Context(), nil, o)
	check(t, err)
	return reports[len(reports)-1]
}

// TestPruning: what is due goes into the archive and out of the database; the log
// verifies whole with the archive, and says what it could not check without; what is
// on hold stays; an erased person stays erased, in the archive too; and rows that are
// missing without a record that says so, or are another in the archive, are found.
func TestPruning(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, s *Server, exec func(string)) {
		now := time.Now()
		clock := now.AddDate(-1, 0, 0)
		s.now = func() time.Time { return clock }
		s.Do.Now = s.now
		dana := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: "dana", CreatedAt: clock}
		sam := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Sam", Username: "sam", CreatedAt: clock}
		check(t, s.Seed(t.Context(), audit.PersonCreated, account.Create{Person: dana}))
		check(t, s.Seed(t.Context(), audit.PersonCreated, account.Create{Person: sam}))
		for i := range 700 {
			switch {
			case i%5 == 0:
				s.record(t, audit.SessionOpened, dana.ID)
			case i%7 == 0:
				s.record(t, audit.TokenIssued, sam.ID)
			default:
				s.record(t, audit.TokenIssued, "")
			}
		}
		check(t, s.beat(t.Context()))
		clock = now
		for range 10 {
			s.record(t, audit.TokenIssued, "")
		}
		s.seqNow(t)
		before := s.report(t)
		if !before.OK() || before.Processes.Vouched < 700 {
			t.Fatalf("before: %v", before.Lines())
		}
		dir := t.TempDir()
		dry := func() Pruned {
			t.Helper()
			p, err := s.Prune(t.Context(), "", true, nil)
			check(t, err)
			return p
		}
		if p := dry(); p.Records != 0 {
			t.Errorf("without a retention %d are due", p.Records)
		}
		for class, days := range map[audit.Class]int{audit.Routine: 3, "log": 90, "x": 90} {
			if err := s.SetRetention(t.Context(), class, days); problem.CodeOf(err) == "" {
				t.Errorf("%s for %d days: %v", class, days, err)
			}
		}
		check(t, s.SetRetention(t.Context(), audit.Routine, 90))
		hold := store.Hold{ID: id.New("hld_"), Person: sam.ID, Reason: "a lawsuit"}
		check(t, s.PlaceHold(t.Context(), hold))
		due := dry()
		if due.Records < 300 || due.Held < 50 || due.Classes["access"] != 0 {
			t.Fatalf("due: %+v", due)
		}
		acts := 0
		got, err := s.Prune(t.Context(), dir, false, func(Pruned) { acts++ })
		check(t, err)
		if got.Records != due.Records || acts == 0 {
			t.Errorf("pruned %+v in %d acts, due were %+v", got, acts, due)
		}
		if again := dry(); again.Records != 0 {
			t.Errorf("%d are due after that", again.Records)
		}
		s.seqNow(t)
		with, without := s.report(t, dir), s.report(t)
		if !with.OK() || with.Archived != uint64(got.Records) || with.Pruned != 0 || with.Processes.Unchecked != 0 || with.Size != without.Size {
			t.Errorf("with the archive: %+v %v", with.Report, with.Lines())
		}
		if text := strings.Join(without.Lines(), "\n"); !without.OK() || without.Pruned != uint64(got.Records) || !strings.Contains(text, "what they said could not be checked") {
			t.Errorf("without: %s", text)
		}
		if empty := s.report(t, t.TempDir()); !empty.OK() || empty.Pruned != uint64(got.Records) {
			t.Errorf("with another archive: %v", empty.Lines())
		}

		err = s.Seed(t.Context(), audit.PersonErased, account.Erase{ID: sam.ID})
		if problem.CodeOf(err) != "legal_hold" {
			t.Errorf("erased on hold: %v", err)
		}
		check(t, s.ReleaseHold(t.Context(), hold.ID))
		if err := s.ReleaseHold(t.Context(), hold.ID); !isNotFound(err) {
			t.Errorf("released twice: %v", err)
		}
		more, err := s.Prune(t.Context(), dir, false, nil) // what was on hold goes to the same archive
		if check(t, err); more.Records != due.Held {
			t.Errorf("after the release %+v, held were %d", more, due.Held)
		}
		check(t, s.Seed(t.Context(), audit.PersonErased, account.Erase{ID: sam.ID}))
		s.seqNow(t)
		erased := s.report(t, dir)
		if !erased.OK() || erased.Archived != uint64(got.Records+more.Records) || erased.Erased < uint64(more.Records) {
			t.Errorf("erased: %d of %d, %v", erased.Erased, erased.Archived, erased.Lines())
		}

		path := filepath.Join(dir, filepath.FromSlash(audit.ArchivePath(1, audit.RowsPath(0))))
		b, err := os.ReadFile(path)
		check(t, err)
		check(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(b), `"at":1`, `"at":2`)), 0o600))
		if r := s.report(t, dir); r.OK() {
			t.Errorf("a changed archive: %v", r.Lines())
		}
		check(t, os.WriteFile(path, b, 0o600))
		exec(`UPDATE log_pruned SET high = high + 256`)
		if r := s.report(t, dir); r.OK() || !strings.Contains(r.Fault.What, "no record says") {
			t.Errorf("a range that no record says: %v", r.Lines())
		}
		exec(`UPDATE log_pruned SET high = high - 256`)
		if r := s.report(t, dir); !r.OK() {
			t.Fatalf("put back: %v", r.Lines())
		}
		exec(`DELETE FROM audit WHERE seq = (SELECT MIN(seq) FROM audit WHERE kind = 513 AND seq >= 512)`)
		if r := s.report(t, dir); r.OK() {
			t.Errorf("a row is missing that was not pruned: %v", r.Lines())
		}
	})
}

func isNotFound(err error) bool {
	return err != nil && problem.From(err) != nil && problem.From(err).Kind == problem.NotFound
}

// seqNow numbers and signs with the lease kept, whatever the clock says.
func (s *Server) seqNow(t *testing.T) {
	t.Helper()
	for range 5 {
		_, err := s.seq.Step(t.Context())
		check(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.seq.Run(ctx)
}
