package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/clilogin"
	"github.com/countersign-dev/countersign/internal/problem"
)

// The exit codes. They are stable (docs: cli.md 4.6).
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitLogin       = 4
	exitStepUp      = 5
	exitDenied      = 6
	exitTimedOut    = 7
	exitUnreachable = 8
	exitStorage     = 9
	exitInterrupted = 130
)

// failure is an error as a command ends with it.
type failure struct {
	exit    int
	code    string
	message string
	fix     string // the one command that mends it
	ref     string
	url     string // where a person does what is needed, "" if nowhere
	review  string // in which an administrator looks at it, "" if none
}

func (f *failure) Error() string { return f.message }

// looked adds the review that is open of it, and who can do something.
func (f *failure) looked(review string) {
	if f.review = review; review != "" && f.fix == "" {
		f.fix = "ask an administrator to look at it: countersign review show " + review
	}
}

// usage is a command line that cannot be meant.
func usage(format string, args ...any) error {
	return &failure{exit: exitUsage, code: "usage", message: fmt.Sprintf(format, args...)}
}

// failureOf gives any error its exit code, code and words.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, context.Canceled) {
		return &failure{exit: exitInterrupted, code: "interrupted", message: "Interrupted."}
	}
	p := problem.From(err)
	if p == nil {
		return &failure{exit: exitError, code: "error", message: sentence(err.Error()), ref: clilogin.ReferenceOf(err)}
	}
	message := p.Detail
	if message == "" {
		message = p.Code
	}
	f = &failure{exit: exitOf(p), code: p.Code, message: message, fix: p.Hint, ref: clilogin.ReferenceOf(err)}
	f.looked(p.Review)
	return f
}

func exitOf(p *problem.Error) int {
	switch p.Code {
	case clilogin.CodeTimedOut:
		return exitTimedOut
	case clilogin.CodeUnreachable:
		return exitUnreachable
	case clilogin.CodeStorage, clilogin.CodeStorageDamaged, clilogin.CodeStorageNewer, clilogin.CodeStorageOpen, clilogin.CodeStorageRaced:
		return exitStorage
	case clilogin.CodeIssuerUnknown, clilogin.CodeInvalid:
		return exitUsage
	}
	switch p.Kind {
	case problem.Unauthenticated:
		return exitLogin
	case problem.StepUp:
		return exitStepUp
	case problem.Denied:
		return exitDenied
	case problem.Invalid:
		if p.Code == clilogin.CodeResourceRefused {
			return exitUsage
		}
	}
	return exitError
}

// exitOfStatus is the exit code of an HTTP answer that is not a success.
func exitOfStatus(status int) int {
	switch {
	case status < 400:
		return exitOK
	case status == http.StatusUnauthorized:
		return exitLogin
	case status == http.StatusForbidden:
		return exitDenied
	}
	return exitError
}

// sentence makes words of Go's style words for people.
func sentence(s string) string {
	s = strings.TrimPrefix(s, "countersign: ")
	if s == "" {
		return "Something went wrong."
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}
