package clilogin

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// open is always false: the profile folder's access list keeps others out, and
// mode bits say nothing here.
func open(fs.FileMode) bool { return false }

// ownedPrivately is false: there is no runtime folder here.
func ownedPrivately(string) bool { return false }

// flock takes the file's lock if nobody holds it.
func flock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
