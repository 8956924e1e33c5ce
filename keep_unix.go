//go:build unix

package countersign

import (
	"fmt"
	"os"
	"syscall"
)

// guarded refuses a folder that everybody may write to, or that is another user's:
// whoever writes there decides here. A group may, as volumes of containers have it.
func guarded(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		return fmt.Errorf("everybody can write to %s (mode %04o): run chmod o-w %s, or name a folder in it, which is made", dir, mode, dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is of another user (%d)", dir, st.Uid)
	}
	return nil
}
