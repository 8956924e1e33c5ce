//go:build linux || darwin

package sqlite

import (
	"path/filepath"
	"syscall"
)

// freeBytes is what may still be written on the disk of a file.
// freeKnown says whether freeBytes can tell on this system.
const freeKnown = true

func freeBytes(path string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}
