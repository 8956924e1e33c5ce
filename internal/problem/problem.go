// Package problem is the one error type of the product. A problem says what
// went wrong in a way that a caller may see: a kind, a stable code and a
// sentence. Anything else that fails stays a plain error, is logged once and
// is shown as a bare 500 with a reference.
//
// Each surface renders problems in its own form (OAuth JSON, WWW-Authenticate,
// problem+json, HTML, command line); this package only carries them.
package problem

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the class of a problem. It is itself an error, so that
// errors.Is(err, problem.NotFound) works.
type Kind string

// The kinds.
const (
	Invalid         Kind = "invalid"         // the request is malformed or contradicts itself
	Unauthenticated Kind = "unauthenticated" // who asks is not established
	Denied          Kind = "denied"          // established, and refused
	StepUp          Kind = "step_up"         // more proof would do; Challenge says which
	NotFound        Kind = "not_found"
	Conflict        Kind = "conflict"
	Throttled       Kind = "throttled"   // try again after RetryAfter
	Unavailable     Kind = "unavailable" // a passing fault of ours
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Challenge is what a StepUp problem asks for, in strings and durations that
// every surface can render (RFC 9470).
type Challenge struct {
	ACRValues []string      // sufficient acr values, ascending
	MaxAge    time.Duration // 0: any age
	Scope     []string      // missing scope, if any
	Public    string        // the policy's public reason, "" if none
}

// Error is a problem.
type Error struct {
	Kind       Kind
	Code       string // stable, documented, one per situation
	Detail     string // a sentence for people; never a secret, never another's data
	Hint       string // the next action, e.g. the command that fixes it
	Challenge  *Challenge
	RetryAfter time.Duration
	Public     string // what callers may be told of why it is refused, "" if nothing
	Why        []Reason
	Review     string // id of the review that somebody looks at it in, "" if nobody does
	cause      error
}

// Reason is why something is refused or asked for, in words, and which policy says
// so. It is for the signed-in person, administrators and the log: no caller is told
// (mechanisms A10).
type Reason struct{ Policy, Text, Owner string }

// New makes a problem.
func New(kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail}
}

// Newf makes a problem with a formatted detail.
func Newf(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Because returns a copy with a private cause: it is logged, never shown.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// WithHint returns a copy that names the next action.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// Looked returns a copy that names the review that is open of it, or the problem itself
// if there is none.
func (e *Error) Looked(review string) *Error {
	if review == "" {
		return e
	}
	c := *e
	c.Review = review
	return &c
}

// Error implements error; it includes the private cause and is for logs.
func (e *Error) Error() string {
	s := e.Code
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap gives the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is this problem's kind, or a problem of the same
// kind and code.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Kind:
		return e.Kind == t
	case *Error:
		return e.Kind == t.Kind && e.Code == t.Code
	}
	return false
}

// From finds the problem in err's chain; nil if it is a plain error.
func From(err error) *Error {
	var p *Error
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// Refusal reports whether err says something of what was asked: there is no such
// thing, it has ended, it is not allowed. A plain error and a passing fault of ours
// (Unavailable) say nothing of it, so nobody may conclude from them that a token, a
// session or an account is no good; asked again it may well be.
func Refusal(err error) bool {
	p := From(err)
	return p != nil && p.Kind != Unavailable
}

// CodeOf is the code of the problem in err's chain, "" if there is none.
func CodeOf(err error) string {
	if p := From(err); p != nil {
		return p.Code
	}
	return ""
}
