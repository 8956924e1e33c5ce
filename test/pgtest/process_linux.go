package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// owner is the system user who runs PostgreSQL; nil is the one who runs the
// test.
type owner struct{ uid, gid int }

// findOwner picks the user for a test that runs as root, which PostgreSQL
// refuses to.
func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil {
			return &owner{uid, gid}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}

func (o *owner) own(path string) error {
	if o == nil {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// become makes the command run as the owner, with an environment that names no
// other server and no language.
func (o *owner) become(cmd *exec.Cmd) {
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=" + cmd.Dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if o != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
}

// process is a started server.
type process struct {
	pid    int
	cmd    *exec.Cmd
	exited chan struct{} // closed once it is gone and waited for
}

// start runs the command so that it gets SIGQUIT, PostgreSQL's immediate
// shutdown, when this process dies. The kernel sends it at the end of the
// thread that started it, so one thread is kept for that.
func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	cmd.SysProcAttr.Setpgid = true // an interrupt at the terminal is ours to handle
	p := &process{cmd: cmd, exited: make(chan struct{})}
	began := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		began <- err
		if err == nil {
			cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-began
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(s os.Signal) { p.cmd.Process.Signal(s) }

// killTree ends the server and its children, which are no process group
// because each of them leaves it.
func (p *process) killTree() {
	children := childrenOf(p.pid)
	p.cmd.Process.Kill()
	for _, pid := range children {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		alive := false
		for _, pid := range children {
			alive = alive || parentOf(pid) > 0
		}
		if !alive {
			return
		}
	}
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) (children []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if child, err := strconv.Atoi(entry.Name()); err == nil && parentOf(child) == pid {
			children = append(children, child)
		}
	}
	return children
}

// parentOf reads a process's parent; 0 if it is gone or only waits to be
// collected.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything: fields count from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 || string(fields[0]) == "Z" {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
