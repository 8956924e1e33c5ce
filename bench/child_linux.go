package main

import (
	"os/exec"
	"syscall"
)

// child has a command end when this process does, however it does.
func child(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
