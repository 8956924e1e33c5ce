package program

import (
	"os/exec"
	"runtime"
	"syscall"
)

// start runs the command so that the kernel kills it when this process dies. It
// does so at the end of the thread that started it, so one thread is kept for
// that.
func start(cmd *exec.Cmd, ended func(error)) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // an interrupt at the terminal is ours to handle
	began := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-began
}
