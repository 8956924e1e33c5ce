//go:build !linux

package pgtest

import (
	"os"
	"os/exec"
)

// owner is the system user who runs PostgreSQL: here always the one who runs
// the test.
type owner struct{}

func findOwner() (*owner, error)      { return nil, nil }
func (*owner) own(string) error       { return nil }
func (*owner) become(cmd *exec.Cmd)   { cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC") }
func (p *process) signal(s os.Signal) { p.cmd.Process.Signal(s) }

// process is a started server.
type process struct {
	pid    int
	cmd    *exec.Cmd
	exited chan struct{} // closed once it is gone and waited for
}

// start runs the command. Nothing here ends it when this process is killed;
// pgtest.Run ends it when the tests do.
func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, cmd: cmd, exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// killTree ends the first process; the others end themselves when they see it
// gone.
func (p *process) killTree() { p.cmd.Process.Kill() }
