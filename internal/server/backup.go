package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/backup"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
)

// The files of a bundle; the configuration is FileConfig.
const (
	fileKEK    = "kek.json"
	fileAnchor = "anchor.json"
	FileConfig = "countersignd.yaml"
)

// recordKeyTable goes into a bundle of its own, so that the key of an erased person
// does not live on in every old backup (mechanisms E14).
const recordKeyTable = "record_key"

// Progress is told how far something long has come; total may be 0.
type Progress func(done, total int64)

// BackupTo says where a backup goes.
type BackupTo struct {
	Bundle     io.Writer // the database, the key-encryption key, the side file, the configuration
	RecordKeys io.Writer // what opens people's parts of the log
	Recipients []age.Recipient
	ConfigText []byte // the configuration file
	Progress   Progress
}

// Backup copies the deployment as it is at one moment, while it is in use. It holds
// a snapshot for as long as it takes, and no more in memory than a few rows.
func (s *State) Backup(ctx context.Context, to BackupTo) (backup.Manifest, error) {
	kek, err := os.ReadFile(s.Config.Keys.KEKFile)
	if err != nil {
		return backup.Manifest{}, fmt.Errorf("key-encryption key: %w", err)
	}
	side, err := os.ReadFile(s.anchorFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return backup.Manifest{}, err
	}
	files := [][2][]byte{{[]byte(fileKEK), kek}, {[]byte(FileConfig), to.ConfigText}, {[]byte(fileAnchor), side}}
	var m backup.Manifest
	var bundle, keys *backup.Writer
	var done int64
	err = s.Store.Copy(ctx, func(c store.Copied) (_ func(string) store.Sink, err error) {
		if m, err = s.manifest(c); err != nil {
			return nil, err
		}
		if bundle, err = backup.NewWriter(to.Bundle, to.Recipients, m); err != nil {
			return nil, err
		}
		apart := m
		apart.Part = backup.RecordKeys
		if keys, err = backup.NewWriter(to.RecordKeys, to.Recipients, apart); err != nil {
			return nil, err
		}
		for _, f := range files {
			if err := bundle.File(string(f[0]), f[1]); err != nil {
				return nil, err
			}
		}
		return func(table string) store.Sink {
			if table == recordKeyTable {
				return counting{keys, to.Progress, &done, m.Rows}
			}
			return counting{bundle, to.Progress, &done, m.Rows}
		}, nil
	})
	if err != nil {
		return m, err
	}
	return m, errors.Join(bundle.Close(), keys.Close())
}

// BackupDone records that a backup was made, once it is where it belongs.
func (s *State) BackupDone(ctx context.Context, m backup.Manifest) error {
	return s.remember(ctx, policy.BackupMake, audit.BackupMade, store.FactBackup, m)
}

// Rehearsed records that a backup of this deployment was rehearsed.
func (s *State) Rehearsed(ctx context.Context, m backup.Manifest) error {
	return s.remember(ctx, policy.BackupRehearse, audit.BackupRehearsed, store.FactRehearsed, m)
}

// remember keeps which backup something was done with.
func (s *State) remember(ctx context.Context, action policy.Action, kind audit.Kind, fact string, m backup.Manifest) error {
	b, err := json.Marshal(map[string]any{"made_at": m.MadeAt, "epoch": m.Epoch, "hw": m.HW})
	if err != nil {
		return err
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: action, Kind: kind, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{store.Keep{Name: fact, Value: string(b)}},
				Parts:   []audit.Part{{Body: map[string]any{"made_at": m.MadeAt.Format(time.RFC3339), "records": m.HW, "epoch": m.Epoch}}},
			}, nil
		},
	})
	return err
}

func (s *State) manifest(c store.Copied) (backup.Manifest, error) {
	key, err := s.VerificationKey()
	return backup.Manifest{
		Part: backup.Database, Deployment: c.Deployment.ID, Issuer: c.Deployment.Issuer, MadeAt: s.now().UTC(), Engine: s.Store.Engine(),
		Schema: c.Version, Epoch: c.Deployment.Epoch, HW: c.Size, Checkpoint: string(c.Checkpoint), LogKey: key, Rows: c.Rows,
	}, err
}

// counting counts the rows that go to a sink.
type counting struct {
	store.Sink
	tell  Progress
	done  *int64
	total int64
}

// Row implements store.Sink.
func (c counting) Row(values []any) error {
	if *c.done++; c.tell != nil && *c.done%1000 == 0 {
		c.tell(*c.done, c.total)
	}
	return c.Sink.Row(values)
}

// joined is what two bundles of a backup hold, one after the other.
type joined struct {
	parts []*backup.Reader
	tell  Progress
	done  int64
}

// Next implements store.Source.
func (j *joined) Next() (table string, columns []string, row []any, err error) {
	for len(j.parts) > 0 {
		table, columns, row, err = j.parts[0].Next()
		if err == nil && (table == recordKeyTable) != (j.parts[0].Manifest.Part == backup.RecordKeys) {
			err = fmt.Errorf("the table %s is in the wrong part of the backup", table)
		}
		if !errors.Is(err, io.EOF) {
			if j.done++; j.tell != nil && j.done%1000 == 0 {
				j.tell(j.done, j.parts[0].Manifest.Rows)
			}
			return table, columns, row, err
		}
		j.parts = j.parts[1:]
	}
	return "", nil, nil, io.EOF
}

// Bundles are the two parts of a backup, opened.
type Bundles struct {
	Database   *backup.Reader
	RecordKeys *backup.Reader // nil: people's parts of the log stay closed
}

// check refuses parts that do not belong together. The record keys may be
// newer than the database: then who was erased since stays erased.
func (b Bundles) check() error {
	if b.Database.Manifest.Part != backup.Database {
		return problem.New(problem.Invalid, "backup_part", "This part of a backup holds the record keys, not the database.")
	}
	if k := b.RecordKeys; k != nil && (k.Manifest.Part != backup.RecordKeys || k.Manifest.Deployment != b.Database.Manifest.Deployment) {
		return problem.New(problem.Invalid, "backup_part", "The record keys are not those of this deployment.")
	}
	if b.RecordKeys != nil && b.RecordKeys.Manifest.MadeAt.Before(b.Database.Manifest.MadeAt) {
		return problem.New(problem.Invalid, "backup_part", "The record keys are older than the database: use those that were made with it, or newer ones.")
	}
	return nil
}

func (b Bundles) source(tell Progress) store.Source {
	j := &joined{parts: []*backup.Reader{b.Database}, tell: tell}
	if b.RecordKeys != nil {
		j.parts = append(j.parts, b.RecordKeys)
	}
	return j
}

// Rehearsal is what a rehearsal found.
type Rehearsal struct {
	Manifest backup.Manifest
	Log      []EpochReport
	Opened   []string // the kinds of secret of which one was opened
	People   int64
}

// Rehearse opens a backup aside, in a new folder below dir that is removed again:
// the whole database is built, its log verified against the checkpoint of the
// backup, and one secret of each kind opened (contract). Nothing of a running
// deployment is touched.
func Rehearse(ctx context.Context, b Bundles, dir string, restoring, verifying Progress) (r Rehearsal, err error) {
	r.Manifest = b.Database.Manifest
	if err := b.check(); err != nil {
		return r, err
	}
	kek, err := hsm.Parse(b.Database.Files[fileKEK])
	if err != nil {
		return r, err
	}
	if dir, err = os.MkdirTemp(dir, "countersign-rehearsal-*"); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "countersign.db")
	if err := sqlite.Import(ctx, path, r.Manifest.Schema, b.source(restoring), nil); err != nil {
		return r, err
	}
	cfg := &config.Config{Issuer: r.Manifest.Issuer, DataDir: dir, Database: config.Database{SQLite: path}}
	st, err := OpenState(ctx, cfg, Options{Migrate: true, Reserve: -1, KEK: kek, Aside: true})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if r.Opened, err = st.openSecrets(ctx); err != nil {
		return r, err
	}
	if r.People, err = st.Store.CountPeople(ctx); err != nil {
		return r, err
	}
	o := audit.Options{Keys: st.Names, Done: func(done, total uint64) {
		if verifying != nil {
			verifying(int64(done), int64(total))
		}
	}}
	if b.RecordKeys == nil {
		o.Keys = nil
	}
	var outside []Outside
	if r.Manifest.Checkpoint != "" {
		outside = []Outside{{Where: "the backup", Text: []byte(r.Manifest.Checkpoint)}}
	}
	r.Log, err = st.Verify(ctx, outside, o)
	return r, err
}

// OK reports whether every epoch of the log holds.
func (r Rehearsal) OK() bool {
	return !slices.ContainsFunc(r.Log, func(e EpochReport) bool { return !e.OK() })
}

// openSecrets opens one secret of each kind, and names the kinds. The keys of the
// deployment were opened when its state was.
func (s *State) openSecrets(ctx context.Context) (kinds []string, err error) {
	for _, k := range s.Ring.List() {
		kinds = append(kinds, "key for "+string(k.Purpose))
	}
	if len(kinds) == 0 {
		return nil, errors.New("the backup holds no keys")
	}
	ok, err := s.Names.OpenOne(ctx)
	if err != nil {
		return nil, err
	}
	if ok {
		kinds = append(kinds, "record key of a person")
	}
	samples, err := s.Store.Samples(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range samples {
		words, err := s.openSample(v)
		if err != nil {
			return nil, fmt.Errorf("open %s of %s: %w", v.Column, v.Row, err)
		}
		kinds = append(kinds, words)
	}
	return kinds, nil
}

// openSample opens a sealed value, reads it as what it should be, and names it.
func (s *State) openSample(v store.Sample) (words string, err error) {
	switch v.Column {
	case store.ColumnFactor:
		plain, err := s.Sealer.Open(v.Value, factor.SecretData(v.Row, factor.Kind(v.Kind)))
		if err != nil {
			return "", err
		}
		switch factor.Kind(v.Kind) {
		case factor.KindPassword:
			_, err = factor.ParseHash(string(plain))
			return "password hash", err
		case factor.KindTOTP:
			if _, ok := factor.SeedOf(plain); !ok {
				return "", errors.New("it is no seed")
			}
			return "seed of an authenticator app", nil
		}
	case store.ColumnWebhook:
		_, err = notice.Webhook{ID: v.Row, Sealed: v.Value}.Secrets(s.Sealer, s.now())
		return "secret of a webhook", err
	case store.ColumnWebhookBefore:
		_, err = notice.Webhook{ID: v.Row, Sealed: v.Value}.Secrets(s.Sealer, s.now())
		return "previous secret of a webhook", err
	}
	return "", fmt.Errorf("this program does not know what is sealed there (%q)", v.Kind)
}

// Restore makes the deployment of the configuration out of a backup. There must be
// none. It is in quarantine from its first moment. The key-encryption key is written
// where the configuration says, unless it is there already.
func Restore(ctx context.Context, cfg *config.Config, o Options, b Bundles, tell Progress) (*State, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	m := b.Database.Manifest
	if m.Issuer != cfg.Issuer {
		return nil, problem.Newf(problem.Invalid, "backup_issuer", "The backup is of %s, the configuration names %s.", m.Issuer, cfg.Issuer)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := placeKEK(cfg.Keys.KEKFile, b.Database.Files[fileKEK]); err != nil {
		return nil, err
	}
	why := fmt.Sprintf("restored from the backup of %s, of %d records in epoch %d", m.MadeAt.Format(time.RFC3339), m.HW, m.Epoch)
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	finish := store.RestoreQuarantined(why, now())
	var err error
	if cfg.Database.Postgres != "" {
		err = postgres.Import(ctx, postgres.Options{
			DSN: cfg.Database.Postgres, Conns: 2, AcceptDataLoss: cfg.Database.AcceptDataLossOnFailover,
		}, m.Schema, b.source(tell), finish)
	} else {
		err = sqlite.Import(ctx, cfg.Database.SQLite, m.Schema, b.source(tell), finish)
	}
	if err != nil {
		return nil, err
	}
	o.Migrate = true
	s, err := OpenState(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	err = s.restored(ctx, why, m)
	if err == nil {
		err = s.checkAnchor(ctx) // one that was left here may have seen more
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// restored records the restore.
func (s *State) restored(ctx context.Context, why string, m backup.Manifest) error {
	seen := store.Anchor{By: store.ByRestore, Epoch: m.Epoch, HW: m.HW}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.BackupRestore, Kind: audit.Restored, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{store.Quarantine{Why: why, Seen: seen}},
				Parts:   []audit.Part{{Body: map[string]any{"reason": why, "made_at": m.MadeAt.Format(time.RFC3339), "records": m.HW, "epoch": m.Epoch}}},
			}, nil
		},
	})
	return err
}

// placeKEK writes the key-encryption key, or finds that it is there.
func placeKEK(path string, content []byte) error {
	if _, err := hsm.Parse(content); err != nil {
		return err
	}
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(have, content):
		return nil
	case err == nil:
		return problem.New(problem.Conflict, "kek_exists", "There is another key-encryption key at "+path+".").
			WithHint("Move it away: it belongs to another deployment.")
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return file.Replace(path, content, 0o600)
}
