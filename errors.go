package countersign

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Error is a refusal with a kind, a stable code and a sentence that a caller
// may see. Codes are those of RFC 6750 section 3.1, RFC 9449 section 12.2 and
// RFC 9470 where one fits.
type Error = problem.Error

// Kind is the class of an Error; errors.Is(err, countersign.Unauthenticated)
// works.
type Kind = problem.Kind

// The kinds that this package returns.
const (
	Invalid         = problem.Invalid         // the request contradicts itself
	Unauthenticated = problem.Unauthenticated // no token, or none that counts
	Denied          = problem.Denied          // a good token that does not do
	NeedsStepUp     = problem.StepUp          // a good token with too little proof behind it
	Unavailable     = problem.Unavailable     // whether the token still stands could not be found out
)

// ErrLoginRequired says that there is no credential, or that the one there is
// cannot be renewed: the person, or the client, has to authenticate again.
var ErrLoginRequired = errors.New("countersign: a new login is needed")

// ResponseError is an error answer of the authorization server (RFC 6749
// section 5.2).
type ResponseError struct {
	Status      int    // HTTP status
	Code        string // "error" member; "" if the answer had none
	Description string // "error_description"
	Ref         string // Countersign-Ref: what the server's operator can look up
	Confirm     string // "confirmation_code": what a device shows while it waits

	// Stands says of an invalid_grant that the grant has not ended: it is only refused
	// now, by policy. Challenge is then what would do, nil if no proof would, and Review
	// the id under which an administrator of the server looks at it, "" if nobody does.
	Stands    bool
	Challenge *Challenge
	Review    string
}

// Error implements error.
func (e *ResponseError) Error() string {
	s := e.Code
	if s == "" {
		s = fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Ref != "" {
		s += " (reference " + e.Ref + ")"
	}
	return s
}

// LogValue implements slog.LogValuer.
func (e *ResponseError) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("status", e.Status), slog.String("code", e.Code), slog.String("ref", e.Ref))
}

// IsCode reports whether err is an answer of the authorization server with the
// given error code, e.g. "invalid_grant".
func IsCode(err error, code string) bool {
	var r *ResponseError
	return errors.As(err, &r) && r.Code == code
}
