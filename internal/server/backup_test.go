package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/backup"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// kept is a backup as it lies somewhere, with the identity that opens it.
type kept struct {
	bundle, keys bytes.Buffer
	id           *age.X25519Identity
	manifest     backup.Manifest
}

func backUp(t *testing.T, st *State) *kept {
	t.Helper()
	k := &kept{}
	var err error
	k.id, err = age.GenerateX25519Identity()
	check(t, err)
	k.manifest, err = st.Backup(t.Context(), BackupTo{
		Bundle: &k.bundle, RecordKeys: &k.keys, Recipients: []age.Recipient{k.id.Recipient()}, ConfigText: []byte("issuer: " + st.Config.Issuer + "\n"),
	})
	check(t, err)
	return k
}

func (k *kept) open(t *testing.T) (b Bundles) {
	t.Helper()
	var err error
	b.Database, err = backup.Open(bytes.NewReader(k.bundle.Bytes()), []age.Identity{k.id})
	check(t, err)
	b.RecordKeys, err = backup.Open(bytes.NewReader(k.keys.Bytes()), []age.Identity{k.id})
	check(t, err)
	return b
}

// rowsOf are all rows of a database, by table.
type rowsOf struct {
	columns []string
	rows    []string
}

func (r *rowsOf) Table(_ string, columns []string) error { r.columns = columns; return nil }

func (r *rowsOf) Row(values []any) error {
	var b strings.Builder
	for i, v := range values {
		fmt.Fprintf(&b, "%s=%v ", r.columns[i], v)
	}
	r.rows = append(r.rows, b.String())
	return nil
}

func everything(t *testing.T, st *State) map[string][]string {
	t.Helper()
	all := map[string]*rowsOf{}
	check(t, st.Store.Copy(t.Context(), func(store.Copied) (func(string) store.Sink, error) {
		return func(table string) store.Sink { all[table] = &rowsOf{}; return all[table] }, nil
	}))
	out := map[string][]string{}
	for name, r := range all {
		out[name] = r.rows
	}
	return out
}

// populate makes people with a passkey each, and has the log numbered and signed.
func populate(t testing.TB, s *Server, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	next := make(chan int)
	errs := make(chan error, 16)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			for i := range next {
				p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: fmt.Sprintf("Person %d", i), Username: strings.ToLower(id.Random("person")), CreatedAt: s.now()}
				k := factor.Passkey{
					ID: id.New(id.Credential), Person: p.ID, Name: "Key", CredentialID: []byte(id.Random("")), PublicKey: bytes.Repeat([]byte{byte(i)}, 77),
					AAGUID: "00000000-0000-0000-0000-000000000000", Attestation: "none", AttestationObj: bytes.Repeat([]byte{1}, 200), RPID: "id.example.com", CreatedAt: s.now(),
				}
				_, err := s.Do.Do(ctx, act.Intent{
					Action: policy.SandboxSeed, Kind: audit.PersonCreated, Refs: system(),
					Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
						return act.Effect{
							Changes: []act.Change{account.Create{Person: p}, factor.Enrol{Passkey: k}},
							Parts:   []audit.Part{{Person: p.ID, Body: map[string]any{"name": p.Name}}},
						}, nil
					},
				})
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case err := <-errs:
			t.Fatal(err)
		}
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	for more := true; more; {
		var err error
		if more, err = s.seq.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// sealOne seals one of everything that the database keeps sealed, and gives the words
// for what a rehearsal opens of it.
func sealOne(t *testing.T, s *Server) []string {
	t.Helper()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Sam", Username: "sam", CreatedAt: s.now()}
	pw, err := s.passwords.New(t.Context(), p.ID, factor.Type("correct horse battery staple"), s.now())
	check(t, err)
	app := factor.Secret{Factor: factor.Factor{ID: id.New(id.Credential), Person: p.ID, Kind: factor.KindTOTP, Name: "App", CreatedAt: s.now()}}
	app.Sealed, err = s.Sealer.Seal(factor.NewSeed().Bytes(), factor.SecretData(app.ID, app.Kind))
	check(t, err)
	check(t, s.Seed(t.Context(), audit.PersonCreated, account.Create{Person: p}, factor.Add{Secret: pw}, factor.Add{Secret: app}))
	w := notice.Webhook{ID: id.New(id.Webhook), Name: "hook", URL: "https://hooks.example.com/in", ManagedBy: "api"}
	w.Sealed, _, err = notice.NewSecret(s.Sealer, w.ID)
	check(t, err)
	next, _, err := notice.NewSecret(s.Sealer, w.ID)
	check(t, err)
	check(t, s.Seed(t.Context(), audit.WebhookCreated, notice.CreateWebhook{Webhook: w}))
	check(t, s.Seed(t.Context(), audit.WebhookCreated, notice.RotateSecret{ID: w.ID, Sealed: next, BeforeEnd: s.now().Add(time.Hour)}))
	return []string{
		"key for token", "key for id_token", "key for log", "record key of a person", "password hash", "seed of an authenticator app",
		"secret of a webhook", "previous secret of a webhook",
	}
}

// TestRehearseOpensEach: of each kind of secret one is opened and named; one that was
// sealed for another row, or is not what it should be, fails the rehearsal.
func TestRehearseOpensEach(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	want := sealOne(t, s)
	populate(t, s, 1)
	r, err := Rehearse(t.Context(), backUp(t, s.State).open(t), t.TempDir(), nil, nil)
	check(t, err)
	for _, words := range want {
		if !slices.Contains(r.Opened, words) {
			t.Errorf("no %s in %v", words, r.Opened)
		}
	}
	samples, err := s.Store.Samples(t.Context())
	check(t, err)
	if len(samples) != 4 {
		t.Fatalf("%d samples", len(samples))
	}
	for _, v := range samples {
		for name, bad := range map[string]func(store.Sample) store.Sample{
			"of another row": func(v store.Sample) store.Sample { v.Row += "x"; return v },
			"flipped": func(v store.Sample) store.Sample {
				v.Value = append(bytes.Clone(v.Value[:len(v.Value)-1]), v.Value[len(v.Value)-1]^1)
				return v
			},
			"empty":             func(v store.Sample) store.Sample { v.Value = nil; return v },
			"of another column": func(v store.Sample) store.Sample { v.Column = "x"; return v },
		} {
			if words, err := s.openSample(bad(v)); err == nil {
				t.Errorf("%s, %s: opened as %q", v.Column, name, words)
			}
		}
	}
	for kind, plain := range map[factor.Kind]string{factor.KindPassword: "no hash", factor.KindTOTP: "short"} {
		sealed, err := s.Sealer.Seal([]byte(plain), factor.SecretData("crd_1", kind))
		check(t, err)
		if words, err := s.openSample(store.Sample{Column: store.ColumnFactor, Row: "crd_1", Kind: string(kind), Value: sealed}); err == nil {
			t.Errorf("%q was opened as %q", plain, words)
		}
	}
}

// TestBackupBothWays: what is backed up on either engine is restored on either, row
// by row, in quarantine; its log verifies and its secrets open.
func TestBackupBothWays(t *testing.T) {
	t.Parallel()
	first, _ := newServer(t)
	populate(t, first, 50)
	from := first.State
	for i, toPostgres := range []bool{false, true, true, false} {
		k := backUp(t, from)
		if i == 0 {
			r, err := Rehearse(t.Context(), k.open(t), t.TempDir(), nil, nil)
			check(t, err)
			if !r.OK() || !r.Log[0].Compared || r.People != 50 || len(r.Opened) < 9 || r.Log[0].Closed != 0 {
				t.Fatalf("%+v", r)
			}
		}
		dir := t.TempDir()
		cfg := testConfig(dir, func(c *config.Config) {
			if toPostgres {
				c.Database.SQLite, c.Database.Postgres = "", pgtest.Start(t)
			}
		})
		want := everything(t, from)
		st, err := Restore(t.Context(), cfg, Options{}, k.open(t), nil)
		check(t, err)
		t.Cleanup(func() { check(t, st.Close()) })
		if !strings.Contains(st.Quarantined(), "restored from the backup") {
			t.Errorf("not in quarantine: %q", st.Quarantined())
		}
		got := everything(t, st)
		for table, rows := range want {
			switch table {
			case "node", "deployment_fact": // the deployment was frozen and knows why
				if len(got[table]) < len(rows) {
					t.Errorf("%s: %d rows, want %d", table, len(got[table]), len(rows))
				}
			case "decision_facts", "log_writer": // of the act of restoring, and of who did it
				if len(got[table]) < len(rows) {
					t.Errorf("%s: %d rows, want %d", table, len(got[table]), len(rows))
				}
			case "audit": // restoring is recorded
				if len(got[table]) != len(rows)+1 {
					t.Errorf("%s: %d rows, want %d", table, len(got[table]), len(rows)+1)
				}
			default:
				if diff := cmp.Diff(sorted(rows), sorted(got[table])); diff != "" {
					t.Errorf("%s: %s", table, diff)
				}
			}
		}
		from = st
	}
}

func sorted(in []string) []string {
	out := append([]string(nil), in...)
	for i := range out { // columns come in the order of the engine
		f := strings.Fields(out[i])
		slices.Sort(f)
		out[i] = strings.Join(f, " ")
	}
	slices.Sort(out)
	return out
}

// TestRestoreRefuses: what is not whole, not of this deployment, or would replace
// something, is refused and leaves nothing behind.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	populate(t, s, 3)
	k := backUp(t, s.State)
	other, err := age.GenerateX25519Identity()
	check(t, err)
	if _, err := backup.Open(bytes.NewReader(k.bundle.Bytes()), []age.Identity{other}); err == nil {
		t.Error("opened with another identity")
	}
	for _, plain := range []string{testIssuer, "Person 1", "kek"} {
		if bytes.Contains(k.bundle.Bytes(), []byte(plain)) {
			t.Errorf("%q is in the clear", plain)
		}
	}
	elsewhere := func(edit ...func(*config.Config)) *config.Config { return testConfig(t.TempDir(), edit...) }
	try := func(cfg *config.Config, b Bundles) error {
		st, err := Restore(t.Context(), cfg, Options{}, b, nil)
		if err == nil {
			check(t, st.Close())
		}
		return err
	}
	for cut := 1; cut < k.bundle.Len(); cut += 1 + cut {
		cfg, b := elsewhere(), k.open(t)
		b.Database, err = backup.Open(bytes.NewReader(k.bundle.Bytes()[:k.bundle.Len()-cut]), []age.Identity{k.id})
		if err == nil {
			err = try(cfg, b)
		}
		if err == nil {
			t.Errorf("cut off by %d bytes, it was restored", cut)
		}
		if _, err := os.Stat(cfg.Database.SQLite); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cut off by %d bytes, it left a database: %v", cut, err)
		}
	}
	for name, c := range map[string]struct {
		cfg  *config.Config
		b    Bundles
		want string
	}{
		"another issuer":        {elsewhere(func(c *config.Config) { c.Issuer = "https://id.example.org" }), k.open(t), "backup_issuer"},
		"a database that is":    {s.Config, k.open(t), "database_exists"},
		"record keys as bundle": {elsewhere(), Bundles{Database: k.open(t).RecordKeys}, "backup_part"},
		"the bundle twice":      {elsewhere(), Bundles{Database: k.open(t).Database, RecordKeys: k.open(t).Database}, "backup_part"},
	} {
		err := try(c.cfg, c.b)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.cfg != s.Config {
			if _, err := os.Stat(c.cfg.Database.SQLite); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s left a database: %v", name, err)
			}
		}
	}
	cfg := elsewhere()
	check(t, os.WriteFile(cfg.Keys.KEKFile, []byte("another"), 0o600))
	if err := try(cfg, k.open(t)); err == nil || !strings.Contains(err.Error(), "kek_exists") {
		t.Errorf("another key-encryption key was overwritten: %v", err)
	}
	if err := try(elsewhere(), k.open(t)); err != nil { // positive control
		t.Error(err)
	}
}

// TestRehearseFinds: a backup whose log was changed before it was made is found by
// rehearsing it, and nothing is left of the rehearsal.
func TestRehearseFinds(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	populate(t, s, 3)
	k := backUp(t, s.State)
	var forged bytes.Buffer
	b := k.open(t)
	w, err := backup.NewWriter(&forged, []age.Recipient{k.id.Recipient()}, b.Database.Manifest)
	check(t, err)
	for name, content := range b.Database.Files {
		check(t, w.File(name, content))
	}
	last := ""
	for {
		table, columns, row, err := b.Database.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		if table != last {
			check(t, w.Table(table, columns))
			last = table
		}
		if table == "audit" {
			for i, c := range columns {
				if c == "at" && row[i].(int64)%2 == 0 {
					row[i] = row[i].(int64) + 1
				}
			}
		}
		check(t, w.Row(row))
	}
	check(t, w.Close())
	b.Database, err = backup.Open(&forged, []age.Identity{k.id})
	check(t, err)
	b.RecordKeys = nil
	dir := t.TempDir()
	r, err := Rehearse(t.Context(), b, dir, nil, nil)
	check(t, err)
	if r.OK() {
		t.Error("a changed record was not found")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
