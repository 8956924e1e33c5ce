//go:build !linux

package main

import "os/exec"

// child does nothing: a command that is left is ended by hand here.
func child(*exec.Cmd) {}
