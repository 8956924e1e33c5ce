// Package file replaces files whole. What is there before, and what is there afterwards, is one
// file with all of its content, however the program or the machine ends in between.
package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// private is the mode that a temporary file begins with.
const private fs.FileMode = 0o600

// Replace puts content in the place of the file at path, or makes it, with exactly the
// permissions of mode, whatever the umask is. Once it returns nil the file has its name and its
// content durably. On an error before the file has its name, what was there stays, and nothing is
// left beside it; the one later error is that the folder cannot be synced, and then the new
// content is there, but may be gone after a power cut. A program that is killed may leave
// `.name.*` beside it, which nobody reads.
//
// Only the owner can read it until it is complete. A symbolic link at path is itself replaced.
func Replace(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // private, beside it: a rename crosses no disk
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if mode = mode.Perm(); mode != private && err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync() // before the name: else a power cut may leave the name of an empty file
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncDir(dir)
}
