package clilogin

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/cli/browser"
)

// CanOpenBrowser reports whether a browser on this computer is likely to be in
// front of the person: one is named by $COUNTERSIGN_BROWSER or $BROWSER, or
// there is a desktop and no SSH session.
func CanOpenBrowser() bool {
	switch v := os.Getenv("COUNTERSIGN_BROWSER"); {
	case v == "print":
		return false
	case v != "" || os.Getenv("BROWSER") != "":
		return true
	case OverSSH():
		return false
	}
	switch runtime.GOOS {
	case "windows", "darwin":
		return true
	}
	return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// OverSSH reports whether this is an SSH session: the browser is elsewhere.
func OverSSH() bool { return os.Getenv("SSH_CONNECTION") != "" || os.Getenv("SSH_TTY") != "" }

// OpenBrowser opens the address without waiting for the browser to end. The
// command in $COUNTERSIGN_BROWSER wins, then $BROWSER (commands separated by
// colons, %s for the address), then what the system has. "print" opens
// nothing. The address holds no secret: it is seen by everyone who can list
// processes.
func OpenBrowser(url string) error {
	if v := os.Getenv("COUNTERSIGN_BROWSER"); v == "print" {
		return nil
	} else if v != "" {
		return start(v, url)
	}
	if v := os.Getenv("BROWSER"); v != "" {
		var err error
		for _, command := range strings.Split(v, string(os.PathListSeparator)) {
			if err = start(command, url); err == nil {
				return nil
			}
		}
		return err
	}
	browser.Stdout, browser.Stderr = io.Discard, io.Discard
	go func() { _ = browser.OpenURL(url) }() // some browsers stay in the foreground
	return nil
}

// start runs a command with the address in the place of %s, or at its end.
func start(command, url string) error {
	args := strings.Fields(command)
	if len(args) == 0 {
		return exec.ErrNotFound
	}
	put := false
	for i, a := range args[1:] {
		if strings.Contains(a, "%s") {
			args[i+1], put = strings.ReplaceAll(a, "%s", url), true
		}
	}
	if !put {
		args = append(args, url)
	}
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
