//go:build unix

package clilogin

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// open reports whether others than the owner may use the file.
func open(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }

// ownedPrivately reports whether the folder is this user's and nobody else's.
func ownedPrivately(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() || open(info.Mode()) {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// flock takes the file's lock if nobody holds it.
func flock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}
