package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/backup"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/server"
)

// recordKeysSuffix names the part of a backup that is kept apart.
const recordKeysSuffix = ".record-keys"

func (t *tool) backup() *cobra.Command {
	var to, recordKeys string
	var recipients []string
	c := &cobra.Command{
		Use: "backup", Short: "Copy the whole deployment into one encrypted bundle", Args: cobra.NoArgs,
		Long:    "Copy the deployment as it is at one moment, while it is in use: the database, the key-encryption key, the side file and the configuration, encrypted to age recipients. What opens people's parts of the audit log goes into a second file, to be kept apart and in its newest version only, because it would outlive the erasure of a person. Both files restore into either kind of database.",
		Example: "  countersignd backup keygen --to backup-identity.txt\n  countersignd backup --to /mnt/backup/monday.age --recipient age1…",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" || len(recipients) == 0 {
				return usageError{errors.New("say where to, and for whom: countersignd backup --to FILE --recipient age1…")}
			}
			if recordKeys == "" {
				recordKeys = to + recordKeysSuffix
			}
			rs, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
			if err != nil {
				return usageError{err}
			}
			return t.makeBackup(c.Context(), to, recordKeys, rs)
		},
	}
	c.Flags().StringVar(&to, "to", "", "file to write; it must not exist")
	c.Flags().StringVar(&recordKeys, "record-keys", "", "file for what opens people's parts of the log (default: the bundle's name with "+recordKeysSuffix+")")
	c.Flags().StringSliceVar(&recipients, "recipient", nil, "age recipient who can open it; may be given more than once")
	c.AddCommand(t.backupKeygen())
	return c
}

func (t *tool) backupKeygen() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "keygen", Short: "Make an identity that opens backups, and say its recipient", Args: cobra.NoArgs,
		Long: "Make an age identity. Keep the file away from the server: whoever has it and a bundle has every key of the deployment. The recipient is no secret.",
		RunE: func(*cobra.Command, []string) error {
			if to == "" {
				return usageError{errors.New("say where to: --to FILE")}
			}
			id, err := age.GenerateX25519Identity()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(f, "# recipient: %s\n%s\n", id.Recipient(), id)
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "Made %s. Keep it away from the server.\n", to)
			fmt.Fprintln(t.out, id.Recipient())
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "file to write; it must not exist")
	return c
}

func (t *tool) makeBackup(ctx context.Context, to, recordKeys string, rs []age.Recipient) error {
	st, err := t.state(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	text, err := os.ReadFile(t.configPath)
	if err != nil {
		return err
	}
	files := make([]*os.File, 2)
	for i, path := range []string{to, recordKeys} {
		if files[i], err = newFile(path); err != nil {
			return err
		}
		defer os.Remove(files[i].Name()) // unless it has its name by then
	}
	m, err := st.Backup(ctx, server.BackupTo{
		Bundle: files[0], RecordKeys: files[1], Recipients: rs, ConfigText: text, Progress: t.progress("rows copied"),
	})
	if err != nil {
		return err
	}
	for i, path := range []string{to, recordKeys} {
		if err := errors.Join(files[i].Sync(), files[i].Close(), os.Rename(files[i].Name(), path)); err != nil {
			return err
		}
		if err := file.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := st.BackupDone(ctx, m); err != nil {
		return fmt.Errorf("the backup is made, but not recorded: %w", err)
	}
	fmt.Fprintf(t.out, "%s: %d records, epoch %d\n%s: what opens people's parts of the log; keep only the newest\n", to, m.HW, m.Epoch, recordKeys)
	fmt.Fprintf(t.err, "Rehearse it: countersignd restore --rehearse %s --identity FILE\n", to)
	return nil
}

// newFile makes a file beside the one that it becomes, which must not be there.
func newFile(path string) (*os.File, error) {
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("%s is there already; a backup replaces nothing", path)
	}
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
}

// progress tells on standard error how far something is, once a second.
func (t *tool) progress(what string) server.Progress {
	last := time.Now()
	return func(done, total int64) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		if total > 0 {
			fmt.Fprintf(t.err, "… %d of %d %s\n", done, total, what)
			return
		}
		fmt.Fprintf(t.err, "… %d %s\n", done, what)
	}
}

// restoreFrom is which backup to restore, and how to open it.
type restoreFrom struct {
	bundle, recordKeys, identity, dir string
	rehearse                          bool
}

func (t *tool) restore() *cobra.Command {
	var f restoreFrom
	c := &cobra.Command{
		Use: "restore BUNDLE", Short: "Restore a backup into an empty deployment, or rehearse it", Args: cobra.ExactArgs(1),
		Long:    "Restore a backup into the empty database that the configuration names; if there is no configuration, that of the backup is written first. The deployment is in quarantine from its first moment: it answers nobody until countersignd quarantine leave. With --rehearse nothing is restored: the backup is opened aside, its log verified and one secret of each kind opened. Exit code 3 if its log does not hold.",
		Example: "  countersignd restore --rehearse monday.age --identity backup-identity.txt",
		RunE: func(c *cobra.Command, args []string) error {
			f.bundle = args[0]
			if f.identity == "" {
				return usageError{errors.New("say what opens it: --identity FILE")}
			}
			b, done, err := f.open()
			if err != nil {
				return err
			}
			defer done()
			if f.rehearse {
				return t.rehearse(c.Context(), b, f.dir)
			}
			return t.restoreInto(c.Context(), b)
		},
	}
	c.Flags().StringVar(&f.identity, "identity", "", "file with the age identity that opens the backup")
	c.Flags().StringVar(&f.recordKeys, "record-keys", "", "file with what opens people's parts of the log (default: the bundle's name with "+recordKeysSuffix+", if it is there)")
	c.Flags().BoolVar(&f.rehearse, "rehearse", false, "open it aside, check it and leave nothing behind")
	c.AddCommand(t.replay())
	c.Flags().StringVar(&f.dir, "dir", "", "with --rehearse: where the copy is built and removed (default: the system's folder for temporary files)")
	return c
}

// open opens the parts of the backup.
func (f restoreFrom) open() (b server.Bundles, done func(), err error) {
	var opened []io.Closer
	done = func() {
		for _, c := range opened {
			_ = c.Close() // only read
		}
	}
	text, err := os.Open(f.identity)
	if err != nil {
		return b, done, err
	}
	ids, err := age.ParseIdentities(text)
	if err = errors.Join(err, text.Close()); err != nil {
		return b, done, fmt.Errorf("%s: %w", f.identity, err)
	}
	part := func(path string) (*backup.Reader, error) {
		in, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		opened = append(opened, in)
		r, err := backup.Open(in, ids)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return r, nil
	}
	if b.Database, err = part(f.bundle); err != nil {
		return b, done, err
	}
	if f.recordKeys == "" && exists(f.bundle+recordKeysSuffix) {
		f.recordKeys = f.bundle + recordKeysSuffix
	}
	if f.recordKeys != "" {
		b.RecordKeys, err = part(f.recordKeys)
	}
	return b, done, err
}

func (t *tool) rehearse(ctx context.Context, b server.Bundles, dir string) error {
	start := time.Now()
	r, err := server.Rehearse(ctx, b, dir, t.progress("rows restored"), t.progress("records verified"))
	if err != nil {
		return err
	}
	m := r.Manifest
	fmt.Fprintf(t.out, "backup:     of %s, made %s, %d records in epoch %d, %d people\n", m.Issuer, m.MadeAt.Format(time.RFC3339), m.HW, m.Epoch, r.People)
	fmt.Fprintf(t.out, "opened:     %s\n", strings.Join(r.Opened, ", "))
	for _, e := range r.Log {
		for _, l := range e.Lines() {
			fmt.Fprintf(t.out, "log:        %s\n", l)
		}
	}
	if b.RecordKeys == nil {
		fmt.Fprintln(t.out, "note:       without the record keys, people's parts of the log stay closed")
	}
	fmt.Fprintf(t.out, "took:       %s\n", time.Since(start).Round(time.Millisecond))
	if !r.OK() {
		return &findings{1}
	}
	return t.noteRehearsal(ctx, r)
}

// noteRehearsal tells the deployment, if it is here, that its backup was rehearsed.
func (t *tool) noteRehearsal(ctx context.Context, r server.Rehearsal) error {
	if _, err := config.Read(t.configPath, os.Environ()); err != nil {
		fmt.Fprintln(t.err, "There is no deployment here to note the rehearsal in.")
		return nil
	}
	st, err := t.open(ctx, false)
	if err != nil {
		fmt.Fprintf(t.err, "The rehearsal is not noted: %v\n", err)
		return nil
	}
	defer st.Close()
	d, err := st.Store.Deployment(ctx)
	if err != nil || d.ID != r.Manifest.Deployment {
		fmt.Fprintln(t.err, "The deployment here is another one: the rehearsal is not noted in it.")
		return err
	}
	return st.Rehearsed(ctx, r.Manifest)
}

func (t *tool) restoreInto(ctx context.Context, b server.Bundles) error {
	if !exists(t.configPath) {
		text, ok := b.Database.Files[server.FileConfig]
		if !ok {
			return errors.New("the backup has no configuration, and there is none here")
		}
		if err := os.MkdirAll(filepath.Dir(t.configPath), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(t.configPath, text, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "Wrote the configuration of the backup to %s.\n", t.configPath)
	}
	cfg, err := t.config()
	if err != nil {
		return err
	}
	st, err := server.Restore(ctx, cfg, server.Options{Log: t.logger(cfg)}, b, t.progress("rows restored"))
	if err != nil {
		return err
	}
	defer st.Close()
	fmt.Fprintf(t.out, "Restored, and in quarantine: %s.\n", st.Quarantined())
	fmt.Fprintln(t.err, "Next: countersignd restore replay EXPORT, if you have an export of the log that goes further; then countersignd quarantine leave.")
	return nil
}

func (t *tool) replay() *cobra.Command {
	return &cobra.Command{
		Use: "replay EXPORT", Short: "Take away again what was taken away after the backup", Args: cobra.ExactArgs(1),
		Long: "Read what countersignd audit export wrote, and take away again what the acts after the backup took away: revocations, removals, disabled people and clients, memberships, withdrawn and retired keys, and erasures, which come first. It works in quarantine only, and may be repeated with further exports. What was made after the backup is not made again.",
		RunE: func(c *cobra.Command, args []string) error {
			in, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			r, err := st.Replay(c.Context(), in, t.progress("records read"))
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "Read %d records, the last of %s; %d later than the backup took something away, %d times in all.\n", r.Lines, r.Last.Format(time.RFC3339), r.New, r.Taken)
			return nil
		},
	}
}
