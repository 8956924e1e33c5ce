package clilogin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Store keeps one credential file per profile. Readers take no lock: a file is
// replaced whole. Writers hold the profile's lock, read again, and write only
// over the generation they read.
type Store struct {
	dir   string // of the files
	locks string // of the locks
	cache string // of what may be lost
	app   string
}

// OpenStore finds the folders of app: files in $XDG_CONFIG_HOME/app, locks in
// $XDG_RUNTIME_DIR/app or, where there is none that is ours alone, in a folder
// beside the files; never in a folder that others can write to.
// Errors have code CodeStorage.
func OpenStore(app string) (*Store, error) {
	config, err := base("XDG_CONFIG_HOME", os.UserConfigDir)
	if err != nil {
		return nil, storageFault(CodeStorage, "There is no home folder to keep a credential in.", err).
			WithHint("set XDG_CONFIG_HOME to a folder of your own")
	}
	cache, err := base("XDG_CACHE_HOME", os.UserCacheDir)
	if err != nil {
		cache = config
	}
	s := &Store{dir: filepath.Join(config, app), cache: filepath.Join(cache, app), app: app}
	if err := private(s.dir); err != nil {
		return nil, storageFault(CodeStorage, "The folder "+s.dir+" cannot be used: "+reason(err)+".", err)
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(run) && ownedPrivately(run) {
		s.locks = filepath.Join(run, app)
	} else {
		s.locks = filepath.Join(s.dir, "locks")
	}
	if err := private(s.locks); err != nil {
		return nil, storageFault(CodeStorage, "The folder "+s.locks+" cannot be used: "+reason(err)+".", err)
	}
	return s, nil
}

// base is an XDG folder; a relative one is ignored, as the specification says.
func base(name string, otherwise func() (string, error)) (string, error) {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir, nil
	}
	return otherwise()
}

// private makes the folder, with its parents, for its owner alone.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if open(info.Mode()) {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// reason is the cause without the path, which the sentence has named.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// Path is where the profile's credential is kept.
func (s *Store) Path(profile string) string { return filepath.Join(s.dir, profile+".json") }

// CheckProfile refuses a name that cannot be a file's.
func CheckProfile(name string) error {
	if !profileName.MatchString(name) || strings.HasSuffix(name, ".") {
		return fault(problem.Invalid, CodeInvalid, "A profile's name is letters, digits and . _ @ -, at most 64.")
	}
	return nil
}

// Load reads a profile's credential. Errors: CodeLoginNeeded if there is none,
// CodeStorageNewer, CodeStorageDamaged, CodeStorageOpen, CodeStorage.
func (s *Store) Load(profile string) (*Credential, error) {
	if err := CheckProfile(profile); err != nil {
		return nil, err
	}
	path := s.Path(profile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault(problem.Unauthenticated, CodeLoginNeeded, "You are not signed in (profile "+profile+").").
			WithHint(s.loginCommand(profile))
	}
	if err != nil {
		return nil, storageFault(CodeStorage, "The credential "+path+" cannot be read: "+reason(err)+".", err)
	}
	if open(info.Mode()) {
		return nil, storageFault(CodeStorageOpen, "Others on this computer can read "+path+".", nil).WithHint("chmod 600 " + path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, storageFault(CodeStorage, "The credential "+path+" cannot be read: "+reason(err)+".", err)
	}
	c, err := decode(text)
	switch {
	case errors.Is(err, errNewer):
		return nil, storageFault(CodeStorageNewer, "The credential "+path+" was written by a newer release; it is left as it is.", err).
			WithHint("upgrade " + s.app + ", or use another profile: " + s.loginCommand("other"))
	case err != nil:
		return nil, storageFault(CodeStorageDamaged, "The credential "+path+" is damaged.", err).WithHint(s.loginCommand(profile))
	}
	return c, nil
}

// loginCommand is the command that signs a profile in.
func (s *Store) loginCommand(profile string) string {
	cmd := s.app + " login"
	if profile != DefaultProfile {
		cmd += " --profile " + profile
	}
	return cmd
}

// DefaultProfile is the profile of those who name none.
const DefaultProfile = "default"

// Profiles lists the profiles that have a credential file, whatever its state.
func (s *Store) Profiles() ([]string, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, storageFault(CodeStorage, "The folder "+s.dir+" cannot be read: "+reason(err)+".", err)
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".json"); ok && f.Type().IsRegular() && profileName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// write replaces the file of a profile whose lock the caller holds: a temporary
// file, flushed, renamed, and the folder flushed. over is the generation that
// the caller read, 0 for none; if another is there now, nothing is written and
// the error is CodeStorageRaced.
func (s *Store) write(profile string, c *Credential, over uint64) error {
	if err := s.unchanged(profile, over); err != nil {
		return err
	}
	next := *c
	next.Version, next.Generation = FormatVersion, max(over, c.Generation)+1
	text, err := next.encode()
	if err != nil {
		return err
	}
	path := s.Path(profile)
	if err := file.Replace(path, text, 0o600); err != nil {
		return storageFault(CodeStorage, "The credential "+path+" cannot be written: "+reason(err)+".", err)
	}
	c.Version, c.Generation = next.Version, next.Generation
	return nil
}

// unchanged holds the file against the generation that was read. A damaged file
// counts as none: a login may take its place.
func (s *Store) unchanged(profile string, read uint64) error {
	var now uint64
	switch c, err := s.Load(profile); {
	case err == nil:
		now = c.Generation
	case problem.CodeOf(err) != CodeLoginNeeded && problem.CodeOf(err) != CodeStorageDamaged:
		return err
	}
	if now != read {
		return fault(problem.Conflict, CodeStorageRaced, "Another process has just changed this profile.")
	}
	return nil
}

// remove deletes the file of a profile whose lock the caller holds, if it is
// still of the generation that the caller read.
func (s *Store) remove(profile string, read uint64) error {
	if err := s.unchanged(profile, read); err != nil {
		return err
	}
	if err := os.Remove(s.Path(profile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageFault(CodeStorage, "The credential "+s.Path(profile)+" cannot be removed: "+reason(err)+".", err)
	}
	return nil
}

// lockKind is what a lock is for.
type lockKind string

const (
	lockWrite  lockKind = "write"  // held while a credential is renewed or written
	lockPrompt lockKind = "prompt" // held while a person is asked
)

// lockPath names the lock after the credential's whole path: two configuration
// folders may share one runtime folder.
func (s *Store) lockPath(profile string, kind lockKind) string {
	sum := sha256.Sum256([]byte(s.Path(profile)))
	return filepath.Join(s.locks, profile+"-"+hex.EncodeToString(sum[:6])+"."+string(kind))
}

// lock waits for a lock until ctx ends. The lock is released when the process
// ends, however it ends.
func (s *Store) lock(ctx context.Context, profile string, kind lockKind) (release func(), err error) {
	pause := 2 * time.Millisecond
	for {
		release, ok, err := s.tryLock(profile, kind)
		if err != nil || ok {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*3/2, 50*time.Millisecond)
	}
}

// tryLock takes a lock if it is free.
func (s *Store) tryLock(profile string, kind lockKind) (release func(), ok bool, err error) {
	if err := CheckProfile(profile); err != nil {
		return nil, false, err
	}
	path := s.lockPath(profile, kind)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, storageFault(CodeStorage, "The lock "+path+" cannot be opened: "+reason(err)+".", err)
	}
	if ok, err = flock(f); err != nil || !ok {
		_ = f.Close()
		if err != nil {
			err = storageFault(CodeStorage, "The lock "+path+" cannot be taken: "+reason(err)+".", err)
		}
		return nil, false, err
	}
	return func() { _ = f.Close() }, true, nil
}
