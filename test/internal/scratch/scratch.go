// Package scratch makes the temporary folders of processes that tests start. A
// folder stays as long as the test process runs; what a killed test process
// left behind is removed by the next one. What is in a folder, and the process
// that uses it, belong to the caller.
package scratch

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settling is how old a folder without a holder must be before it is removed:
// one that is just being made is not held yet.
const settling = time.Minute

// Dir makes a folder in the system's temporary folder whose name begins with
// "countersign-" and kind. The returned function removes it; until then, or
// until this process dies, other processes leave it alone.
func Dir(kind string) (path string, remove func(), err error) {
	prefix := "countersign-" + kind + "-"
	sweep(prefix)
	path, err = os.MkdirTemp("", prefix)
	if err != nil {
		return "", nil, fmt.Errorf("make a scratch folder: %w", err)
	}
	// The lock stands beside the folder, whose owner may become another user.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = hold(lock)
	}
	if err != nil {
		os.RemoveAll(path)
		return "", nil, fmt.Errorf("hold the scratch folder: %w", err)
	}
	return path, func() {
		os.RemoveAll(path)
		os.Remove(lock.Name())
		lock.Close()
	}, nil
}

// sweep removes the folders of processes that are gone.
func sweep(prefix string) {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*.lock"))
	for _, name := range locks {
		info, err := os.Stat(name)
		if err != nil || time.Since(info.ModTime()) < settling {
			continue
		}
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // another user's
		}
		if hold(lock) == nil {
			os.RemoveAll(name[:len(name)-len(".lock")])
			os.Remove(name)
		}
		lock.Close()
	}
}
