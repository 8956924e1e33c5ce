//go:build unix

package scratch

import (
	"os"
	"syscall"
)

// hold takes the file for this process, at once or not at all. The kernel
// gives it back when the process dies.
func hold(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
