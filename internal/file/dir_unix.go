//go:build unix

package file

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes what was made, renamed or removed in a folder durable. A file system that
// cannot be asked for it does so by itself, or not at all: that is no error.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err = d.Sync(); errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
