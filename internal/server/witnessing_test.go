package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/proof"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/quorum"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/witness"
)

// watched is a deployment and the witness that its operator runs for others.
type watched struct {
	*Server
	dir     string
	key     quorum.Key
	private ed25519.PrivateKey
	http    *httptest.Server
}

func newWatched(t *testing.T, name string) *watched {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	key, err := quorum.NewKey(name, public)
	check(t, err)
	w := &watched{dir: t.TempDir(), key: key, private: private}
	w.open(t, testConfig(w.dir))
	return w
}

func (w *watched) open(t *testing.T, cfg *config.Config) {
	t.Helper()
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true})
	check(t, err)
	t.Cleanup(func() { _ = st.Close() })
	w.Server, err = New(st)
	check(t, err)
	w.Do.Checkpoint = nil
}

// serves starts the witness for the logs of others.
func (w *watched) serves(t *testing.T, others ...*watched) {
	t.Helper()
	var logs []string
	for _, o := range others {
		vkey, err := o.VerificationKey()
		check(t, err)
		logs = append(logs, vkey)
	}
	dir := filepath.Join(w.dir, "witness")
	check(t, os.MkdirAll(dir, 0o700))
	s, err := witness.NewServer(witness.Config{Key: w.key, Private: w.private, Logs: logs, Dir: dir})
	check(t, err)
	w.http = httptest.NewServer(s)
	t.Cleanup(w.http.Close)
}

// watchedBy configures who watches, and opens the deployment anew.
func (w *watched) watchedBy(t *testing.T, least int, by ...*watched) {
	t.Helper()
	var policy strings.Builder
	cfg := *w.Config
	names := ""
	for i, o := range by {
		fmt.Fprintf(&policy, "witness w%d %s %s\n", i+1, o.key, o.http.URL)
		names += fmt.Sprintf(" w%d", i+1)
		cfg.Egress.Allow = append(cfg.Egress.Allow, o.http.Listener.Addr().String())
	}
	fmt.Fprintf(&policy, "group g %d%s\nquorum g\n", least, names)
	cfg.Witness.PolicyFile = filepath.Join(w.dir, "policy")
	check(t, os.WriteFile(cfg.Witness.PolicyFile, []byte(policy.String()), 0o600))
	check(t, w.Close())
	w.open(t, &cfg)
}

func (w *watched) act(t *testing.T, n int) (last string) {
	t.Helper()
	for range n {
		check(t, w.Seed(t.Context(), audit.RefusalsCounted))
	}
	lines, _, err := w.Lines(t.Context(), store.Filter{}, 1)
	check(t, err)
	w.sequenced(t)
	return lines[0].ID
}

// copied copies the database; the deployment is closed meanwhile.
func (w *watched) copied(t *testing.T) (path string) {
	t.Helper()
	check(t, w.Close())
	b, err := os.ReadFile(w.Config.Database.SQLite)
	check(t, err)
	path = w.Config.Database.SQLite + ".copy"
	check(t, os.WriteFile(path, b, 0o600))
	for _, name := range besides {
		b, err := os.ReadFile(filepath.Join(w.Config.DataDir, name))
		check(t, err)
		check(t, os.WriteFile(path+"."+name, b, 0o600))
	}
	w.open(t, w.Config)
	return path
}

// besides are the files that remember beside the database how far it was.
var besides = []string{"checkpoint", "anchor.json"}

// back puts a copy of the database and of the files beside it back.
func (w *watched) back(t *testing.T, path string) {
	t.Helper()
	check(t, w.Close())
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(w.Config.Database.SQLite + suffix)
	}
	b, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(w.Config.Database.SQLite, b, 0o600))
	for _, name := range besides {
		b, err := os.ReadFile(path + "." + name)
		check(t, err)
		check(t, os.WriteFile(filepath.Join(w.Config.DataDir, name), b, 0o600))
	}
	w.open(t, w.Config)
	w.sequenced(t)
}

// TestWitnessingEachOther: two deployments witness each other over real sockets; a
// proof is made under what the quorum cosigned; and a deployment whose database went
// back, its side file with it, is told so by the other and stops (mechanisms E11, I7).
func TestWitnessingEachOther(t *testing.T) {
	t.Parallel()
	a, b := newWatched(t, "a.example.com/w"), newWatched(t, "b.example.com/w")
	a.serves(t, b)
	b.serves(t, a)
	for _, w := range []*watched{a, b} {
		other := map[*watched]*watched{a: b, b: a}[w]
		w.watchedBy(t, 1, other)
		record := w.act(t, 300)
		if o, err := w.Watched(t.Context()); err != nil || !o.Quorum || !o.At.IsZero() || len(o.List) != 1 || o.List[0].Fault == "" {
			t.Fatalf("before: %+v, %v", o, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.showLog(ctx) }()
		text, err := w.Witnessed(t.Context(), record)
		check(t, err)
		stop()
		<-ended
		if met, by, err := w.outside.policy.Check(text); err != nil || !met || len(by) != 1 {
			t.Errorf("witnessed: %v %+v %v", met, by, err)
		}
		o, err := w.Watched(t.Context())
		size, _, _ := w.Store.LastCheckpoint(t.Context())
		if err != nil || o.Size != size || o.At.IsZero() || o.List[0].Fault != "" || o.List[0].Size != size {
			t.Errorf("after: %+v, %v", o, err)
		}
		w.act(t, 3) // a newer checkpoint, that nobody has cosigned
		n, index, entry, err := w.Store.Place(t.Context(), record)
		check(t, err)
		e, err := published{w.Store, w.outside}.Epoch(t.Context(), n)
		check(t, err)
		under, text, err := e.Covering(t.Context(), uint64(index))
		if check(t, err); under != size {
			t.Errorf("proved under %d, cosigned is %d", under, size)
		}
		path, err := audit.Inclusion(t.Context(), e, under, uint64(index))
		check(t, err)
		p := proof.TLogProof{Index: uint64(index), Hashes: path, Checkpoint: text, ExtraData: entry}.Marshal()
		out, err := w.Proof(p, "a proof")
		check(t, err)
		reports, err := w.Verify(t.Context(), []Outside{out}, audit.Options{Keys: w.Names})
		if check(t, err); !reports[0].OK() || !reports[0].Compared {
			t.Errorf("against a proof: %v", reports[0].Lines())
		}
		forged := out
		forged.Entry = &Proved{out.Entry.Index, out.Entry.Leaf}
		forged.Entry.Leaf[0] ^= 1
		if reports, err := w.Verify(t.Context(), []Outside{forged}, audit.Options{}); err != nil || reports[0].OK() {
			t.Errorf("against a proof of another entry: %v", err)
		}
		if _, err := w.Proof(bytes.Replace(p, []byte("index "), []byte("index 1"), 1), "x"); err == nil {
			t.Error("a proof of another index")
		}
		agree, faults, err := w.AskWitnesses(t.Context())
		if check(t, err); len(agree) != 1 || len(faults) != 0 {
			t.Errorf("asked: %v %v", agree, faults)
		}
	}

	older := a.copied(t)
	a.act(t, 20)
	a.round(t.Context())
	a.back(t, older)
	if _, faults, err := a.AskWitnesses(t.Context()); err != nil || len(faults) != 1 || !strings.Contains(faults[0].Error(), "and the log has") {
		t.Errorf("asked after it went back: %v %v", faults, err)
	}
	a.round(t.Context())
	if !strings.Contains(a.Quarantined(), "witness w1 has a checkpoint of") || a.seq.Fault() == nil {
		t.Errorf("after it went back: quarantined %q, fault %v", a.Quarantined(), a.seq.Fault())
	}
	seen, err := a.Store.Seen(t.Context())
	if check(t, err); seen.By != store.ByWitness || seen.HW == 0 {
		t.Errorf("seen: %+v", seen)
	}
	before, _, _ := a.Store.LastCheckpoint(t.Context())
	check(t, a.Seed(t.Context(), audit.RefusalsCounted))
	a.seq.Step(t.Context())
	if now, _, _ := a.Store.LastCheckpoint(t.Context()); now != before {
		t.Error("it signs on")
	}
}

// TestQuorumOfThree: two of three are enough, one is not, and a witness that lies about
// a number stops nobody.
func TestQuorumOfThree(t *testing.T) {
	t.Parallel()
	a := newWatched(t, "a.example.com/w")
	var by []*watched
	for i := range 3 {
		w := newWatched(t, fmt.Sprintf("w%d.example.com", i))
		w.serves(t, a)
		by = append(by, w)
	}
	a.watchedBy(t, 2, by...)
	record := a.act(t, 5)
	by[0].http.Close()
	by[1].http.Close()
	a.round(t.Context())
	late, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if text, err := a.Witnessed(late, record); problem.CodeOf(err) != "not_witnessed" || text != nil {
		t.Errorf("with one of three: %v", err)
	}
	if o, err := a.Watched(t.Context()); err != nil || !o.At.IsZero() {
		t.Errorf("with one of three: %+v, %v", o, err)
	}
	a.now = func() time.Time { return time.Now().Add(2 * staleAfter) }
	a.sequencedHolding(t)
	if stands, why, err := a.notWitnessed(t.Context()); err != nil || !stands || !strings.Contains(why, "w") {
		t.Errorf("an alert: %v %q %v", stands, why, err)
	}
	a.now = time.Now
	by[1].serves(t, a) // it is back, elsewhere
	a.watchedBy(t, 2, by...)
	a.round(t.Context())
	if text, err := a.Witnessed(t.Context(), record); err != nil || text == nil {
		t.Errorf("with two of three: %v", err)
	}
	if stands, _, err := a.notWitnessed(t.Context()); err != nil || stands {
		t.Errorf("an alert: %v %v", stands, err)
	}

	liar := newWatched(t, "liar.example.com")
	liar.http = httptest.NewServer(lie{})
	t.Cleanup(liar.http.Close)
	a.watchedBy(t, 1, by[2], liar)
	a.act(t, 2)
	a.round(t.Context())
	if a.Quarantined() != "" || a.seq.Fault() != nil {
		t.Errorf("a number stops the deployment: %q %v", a.Quarantined(), a.seq.Fault())
	}
}

// sequencedHolding takes the lease and keeps it.
func (s *Server) sequencedHolding(t *testing.T) {
	t.Helper()
	_, err := s.seq.Step(t.Context())
	check(t, err)
}

// TestKeptElsewhere: a file elsewhere and a git remote each find that the end of the
// log was cut off, together with everything on this host.
func TestKeptElsewhere(t *testing.T) {
	t.Parallel()
	remote := filepath.Join(t.TempDir(), "remote.git")
	if out, err := exec.Command("git", "init", "--quiet", "--bare", remote).CombinedOutput(); err != nil {
		t.Skipf("git: %v %s", err, out)
	}
	for name, configure := range map[string]func(*config.Config){
		"file": func(c *config.Config) {
			c.Witness.Files = []string{filepath.Join(filepath.Dir(c.DataDir), "elsewhere")}
		},
		"git": func(c *config.Config) { c.Witness.Git = []string{remote} },
	} {
		t.Run(name, func(t *testing.T) {
			a := newWatched(t, "a")
			cfg := *a.Config
			configure(&cfg)
			check(t, a.Close())
			a.open(t, &cfg)
			a.act(t, 20)
			older := a.copied(t)
			for range 2 {
				a.act(t, 20)
				a.round(t.Context())
			}
			kept, err := a.AllKept(t.Context())
			check(t, err)
			reports, err := a.Verify(t.Context(), kept, audit.Options{Keys: a.Names})
			if check(t, err); len(kept) != 1 || !reports[0].OK() || reports[0].Against != reports[0].Size {
				t.Fatalf("as it was: %v", reports[0].Lines())
			}
			a.back(t, older)
			if kept, err = a.AllKept(t.Context()); err != nil {
				t.Fatal(err)
			}
			reports, err = a.Verify(t.Context(), kept, audit.Options{Keys: a.Names})
			if check(t, err); reports[0].OK() || !strings.Contains(reports[0].Fault.What, "cut off") {
				t.Errorf("cut off: %v", reports[0].Lines())
			}
			a.round(t.Context())
			if !strings.Contains(a.Quarantined(), "gone back") {
				t.Errorf("quarantined: %q", a.Quarantined())
			}
			if again, err := a.AllKept(t.Context()); err != nil || !bytes.Equal(again[0].Text, kept[0].Text) {
				t.Errorf("what is kept was overwritten: %v", err)
			}
			o, err := a.Watched(t.Context())
			if check(t, err); len(o.List) != 1 || o.List[0].Size == 0 || o.Quorum {
				t.Errorf("watched: %+v", o)
			}
		})
	}
}

// TestBeside: a database that went back beside its newest checkpoint is put into
// quarantine before anything is served.
func TestBeside(t *testing.T) {
	t.Parallel()
	a := newWatched(t, "a")
	a.act(t, 10)
	older := a.copied(t)
	a.act(t, 10)
	text, err := os.ReadFile(a.checkpointFile())
	check(t, err)
	a.compareBeside(t.Context())
	if a.Quarantined() != "" {
		t.Fatal(a.Quarantined())
	}
	a.back(t, older)
	check(t, os.WriteFile(a.checkpointFile(), text, 0o600))
	a.compareBeside(t.Context())
	if !strings.Contains(a.Quarantined(), "gone back") {
		t.Errorf("quarantined: %q", a.Quarantined())
	}
}

// lie is a witness that claims to have seen more.
type lie struct{}

func (lie) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/x.tlog.size")
	w.WriteHeader(http.StatusConflict)
	fmt.Fprintln(w, 1<<40)
}

// TestAskedBeforeServing: what a witness has is compared before anything is served; one
// that is gone stops no start, and one that agrees stops nothing.
func TestAskedBeforeServing(t *testing.T) {
	t.Parallel()
	a, b := newWatched(t, "a.example.com/w"), newWatched(t, "b.example.com/w")
	b.serves(t, a)
	a.watchedBy(t, 1, b)
	a.act(t, 5)
	older := a.copied(t)
	a.act(t, 20)
	a.round(t.Context())
	a.compareOutside(t.Context())
	if why := a.Quarantined(); why != "" {
		t.Fatalf("quarantined by a witness that agrees: %s", why)
	}
	a.back(t, older)
	a.compareOutside(t.Context())
	if !strings.Contains(a.Quarantined(), "witness w1 has a checkpoint of") || a.seq.Fault() == nil {
		t.Errorf("after it went back: quarantined %q, fault %v", a.Quarantined(), a.seq.Fault())
	}
	b.http.Close()
	began := time.Now()
	a.compareOutside(t.Context())
	if took := time.Since(began); took > 2*startTime {
		t.Errorf("a witness that is gone held the start up for %s", took)
	}
}
