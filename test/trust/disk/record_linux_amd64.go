package disk

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Fault is which calls fail, and how: nothing is done, and the error is given.
type Fault struct {
	Sync  bool          `json:"sync"`  // fsync and fdatasync
	Write bool          `json:"write"` // write, pwrite and ftruncate
	File  string        `json:"file"`  // the end of the names of files that it is about; "": all
	Errno syscall.Errno `json:"errno"`
}

// Recorder records what processes do to one folder.
type Recorder struct {
	dir, log string
	first    *State
}

// The environment of the two processes in between: one that traces, and one
// that becomes the program once it has told the kernel which calls are traced.
const (
	roleVariable  = "COUNTERSIGN_DISK_ROLE"
	dirVariable   = "COUNTERSIGN_DISK_DIR"
	logVariable   = "COUNTERSIGN_DISK_LOG"
	roleTracer    = "tracer"
	roleProgram   = "program"
	faultSuffix   = ".fault"
	exitNoTracing = 97
	killSignal    = syscall.SIGUSR1 // to the one that traces
)

// New begins a recording of a folder, all of which is durable. The recording is
// kept elsewhere.
func New(t testing.TB, dir string) *Recorder {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recorder{dir: dir, log: filepath.Join(t.TempDir(), "recording")}
	if r.first, err = snapshot(dir); err == nil {
		err = os.WriteFile(r.log, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Command is the command, recorded. One at a time is.
func (r *Recorder) Command(cmd *exec.Cmd) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	c.Env = append(cmd.Environ(), roleVariable+"="+roleTracer, dirVariable+"="+r.dir, logVariable+"="+r.log)
	return c, nil
}

// Kill ends the command as a power cut would, between two calls that are
// recorded: pid is that of what Command gave. To kill that one itself may end the
// command within a call that is then on the disk and not in the recording.
func (r *Recorder) Kill(pid int) error { return syscall.Kill(pid, killSignal) }

// Position is how long the recording is. Whatever somebody was told before this
// call rests on events that end before it.
func (r *Recorder) Position() (int64, error) {
	fi, err := os.Stat(r.log)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Fail makes calls fail from now on; nil: none does.
func (r *Recorder) Fail(f *Fault) error {
	path := r.log + faultSuffix
	if f == nil {
		return os.Remove(path)
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Events are what was recorded, and the state that it began with.
func (r *Recorder) Events() (*State, []Event, error) {
	events, err := read(r.log)
	return r.first.Clone(), events, err
}

// snapshot is the state of a folder that was there long before: all of it is
// durable.
func snapshot(dir string) (*State, error) {
	s := &State{inodes: map[uint64]int{}, durable: map[string]int{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		s.durable[e.Name()] = s.add(inode(fi), b)
	}
	return s, nil
}

// inode numbers a file.
func inode(fi os.FileInfo) uint64 { return fi.Sys().(*syscall.Stat_t).Ino }

// Traceable reports why processes cannot be traced here; nil if they can.
func Traceable() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "traceable-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(self, "/bin/true")
	cmd.Env = []string{roleVariable + "=" + roleTracer, dirVariable + "=" + dir, logVariable + "=" + filepath.Join(dir, "log")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}
