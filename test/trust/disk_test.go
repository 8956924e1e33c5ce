//go:build linux

package trust

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestDiskFull fills the disk under a server that works: it answers 503 at once,
// never a success that is not in the log, and goes on by itself when there is
// room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Skipf("a small disk of its own cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	w := newWorld(t, dir, "", nil)
	w.start()
	var acked []string
	for range 20 {
		tokens, err := w.machine.Credentials("")
		check(t, err)
		acked = append(acked, tokens.JTI())
	}
	filler := filepath.Join(dir, "filler")
	check(t, fill(filler))

	refused := 0
	var slowest time.Duration
	for end := time.Now().Add(map[bool]time.Duration{true: 20 * time.Second, false: 3 * time.Second}[full()]); time.Now().Before(end); {
		begun := time.Now()
		tokens, err := w.machine.Credentials("")
		took := time.Since(begun)
		var r *actor.Refusal
		switch {
		case err == nil: // what room was left is used up
			acked = append(acked, tokens.JTI())
		case errors.As(err, &r) && r.Status == http.StatusServiceUnavailable:
			refused++
			slowest = max(slowest, took)
		default:
			t.Fatalf("a full disk is answered %v", err)
		}
		check(t, fill(filler))
	}
	if refused == 0 || slowest > soon(time.Second) {
		t.Errorf("%d refusals, the slowest after %s", refused, slowest)
	}
	check(t, os.Remove(filler))
	begun := time.Now()
	for {
		tokens, err := w.machine.Credentials("")
		if err == nil {
			acked = append(acked, tokens.JTI())
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("it does not recover: %v\n%s", err, tail(w.run.Said()))
		}
		time.Sleep(20 * time.Millisecond)
	}
	recovered := time.Since(begun)
	ready(t, w)
	w.stop()
	st := w.state(nil)
	defer st.Close()
	if rep := w.verify(st, w.checkpoint()); !rep.OK() {
		t.Errorf("the log after a full disk: %v", rep.Lines())
	}
	db := w.db()
	missing := 0
	for _, jti := range acked {
		var n int
		if err := db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM audit WHERE id = '%s'`, jti)).Scan(&n); err != nil || n != 1 {
			missing++
			t.Errorf("%s was acknowledged and has %d records: %v", jti, n, err)
		}
	}
	report(t, "disk full, SQLite", "%d refusals with 503, the slowest after %s; %d successes, %d of them false; it recovers unaided within %s",
		refused, slowest.Round(time.Millisecond), len(acked), missing, recovered.Round(time.Millisecond))
}

// ready waits until the server says that it is.
func ready(t *testing.T, w *world) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := probe.Get(w.ops + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("it is not ready again")
		}
	}
}

// fill writes until there is no room.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 16
		} else if err != nil {
			return err
		}
	}
	return nil
}
