package trust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/backup"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/server"
)

// TestRehearsal backs a deployment of 100,000 people up and rehearses restoring it:
// every row is rebuilt, every record verified, one secret of each kind opened, in
// less than a minute, with progress, and with memory that does not grow with it.
func TestRehearsal(t *testing.T) {
	people := rounds(100_000)
	dir := t.TempDir()
	cfg := &config.Config{
		Issuer: "https://id.example.com", RPID: "id.example.com", DataDir: filepath.Join(dir, "data"),
		Keys: config.Keys{KEKFile: filepath.Join(dir, "kek.json")}, Database: config.Database{SQLite: filepath.Join(dir, "db")},
	}
	st, err := server.OpenState(t.Context(), cfg, server.Options{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	crowd(t, st, people)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{filepath.Join(dir, "bundle"), filepath.Join(dir, "bundle.record-keys")}
	start := time.Now()
	backUp(t, st, identity, paths)
	made := time.Since(start)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	var b server.Bundles
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := backup.Open(f, []age.Identity{identity})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			b.Database = r
		} else {
			b.RecordKeys = r
		}
	}
	runtime.GC()
	var told int
	var peak uint64
	watch := func(int64, int64) {
		if told++; told%50 == 1 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	start = time.Now()
	r, err := server.Rehearse(t.Context(), b, dir, watch, watch)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || !r.Log[0].Compared || r.Log[0].Closed > 0 || r.People != int64(people) || told < people/1000 {
		t.Errorf("%+v, progress told %d times", r, told)
	}
	if took > time.Minute {
		t.Errorf("rehearsing took %s", took)
	}
	if peak > 256<<20 {
		t.Errorf("it took %d MB of memory", peak>>20)
	}
	fi, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	report(t, fmt.Sprintf("`restore --rehearse`, %d people", people), "%s for %d rows and %d records (backup: %s, %d MB), heap at most %d MB",
		took.Round(100*time.Millisecond), r.Manifest.Rows, r.Log[0].Size, made.Round(100*time.Millisecond), fi.Size()>>20, peak>>20)
}

// crowd makes people with a passkey each, and two records about each.
func crowd(t *testing.T, st *server.State, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	next := make(chan int)
	var mu sync.Mutex
	var fault error
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range next {
				if err := enrol(ctx, st, i); err != nil {
					mu.Lock()
					fault = errors.Join(fault, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if fault != nil {
		t.Fatal(fault)
	}
	seq, err := st.Sequencer(nil, nil)
	for more := true; more && err == nil; {
		more, err = seq.Step(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func enrol(ctx context.Context, st *server.State, i int) error {
	p := account.Person{
		ID: id.New(id.Person), Subject: id.Random("sub_"), Name: fmt.Sprintf("Person %d", i), Username: fmt.Sprintf("person%d", i),
		Email: fmt.Sprintf("person%d@example.com", i), CreatedAt: time.Now(),
	}
	k := factor.Passkey{
		ID: id.New(id.Credential), Person: p.ID, Name: "Key", CredentialID: []byte(id.Random("")), PublicKey: make([]byte, 77), AAGUID: "00000000-0000-0000-0000-000000000000",
		Attestation: "none", AttestationObj: make([]byte, 200), ClientData: make([]byte, 150), RPID: "id.example.com", CreatedAt: time.Now(),
	}
	for _, c := range []struct {
		kind   audit.Kind
		change act.Change
	}{{audit.PersonCreated, account.Create{Person: p}}, {audit.FactorEnrolled, factor.Enrol{Passkey: k}}} {
		_, err := st.Do.Do(ctx, act.Intent{
			Action: policy.SandboxSeed, Kind: c.kind, Refs: act.Refs{Kind: policy.KindSystem},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{Changes: []act.Change{c.change}, Parts: []audit.Part{{Person: p.ID, Body: map[string]any{"name": p.Name}}}}, nil
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func backUp(t *testing.T, st *server.State, to *age.X25519Identity, paths []string) {
	t.Helper()
	var files []*os.File
	for _, path := range paths {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if _, err := st.Backup(t.Context(), server.BackupTo{Bundle: files[0], RecordKeys: files[1], Recipients: []age.Recipient{to.Recipient()}}); err != nil {
		t.Fatal(err)
	}
}
