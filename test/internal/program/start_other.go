//go:build !linux

package program

import "os/exec"

// start runs the command; it outlives a test process that is killed.
func start(cmd *exec.Cmd, ended func(error)) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { ended(cmd.Wait()) }()
	return nil
}
