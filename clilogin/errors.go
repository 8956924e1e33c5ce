package clilogin

import (
	"context"
	"errors"
	"net"
	"net/url"
	"syscall"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Error is a failure with a stable code, a sentence and, as Hint, the one
// command that mends it. It is the same type as the root package's.
type Error = problem.Error

// The codes of this package. They are stable.
const (
	CodeLoginNeeded     = "login_needed"        // no credential, or one that has ended
	CodeStepUpNeeded    = "step_up_needed"      // more proof is needed, and nobody may be asked now
	CodeDenied          = "access_denied"       // refused by policy or by the person
	CodeTimedOut        = "timed_out"           // nobody answered in time
	CodeUnreachable     = "server_unreachable"  // no connection, or the server failed
	CodeStorage         = "storage_unavailable" // the credential store cannot be used
	CodeStorageDamaged  = "storage_damaged"     // the credential file is torn
	CodeStorageNewer    = "storage_newer"       // written by a newer release
	CodeStorageOpen     = "storage_permissions" // others can read the credential
	CodeStorageRaced    = "storage_raced"       // somebody wrote a newer generation
	CodeWrongPerson     = "wrong_person"        // the step-up was done as somebody else
	CodeResourceRefused = "resource_not_trusted"
	CodeIssuerUnknown   = "issuer_unknown"
	CodeDeviceOff       = "device_login_off" // the server signs in no devices by code
	CodeInvalid         = "invalid"
)

func fault(kind problem.Kind, code, detail string) *problem.Error {
	return problem.New(kind, code, detail)
}

func storageFault(code, detail string, cause error) *problem.Error {
	return problem.New(problem.Unavailable, code, detail).Because(cause)
}

// ReferenceOf is the server's reference of the request that failed, which its
// operator can look up; "" if none.
func ReferenceOf(err error) string {
	var r *countersign.ResponseError
	if errors.As(err, &r) {
		return r.Ref
	}
	var ref *referred
	if errors.As(err, &ref) {
		return ref.ref
	}
	return ""
}

// referred carries a reference beside an error.
type referred struct {
	error
	ref string
}

func (r *referred) Unwrap() error { return r.error }

// withReference attaches a reference, if there is one.
func withReference(err error, ref string) error {
	if ref == "" {
		return err
	}
	return &referred{err, ref}
}

// network turns what went wrong on the way to a server into CodeUnreachable;
// an answer of the server, and a cancelled context, stay as they are.
func network(err error) error {
	if err == nil || problem.From(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	var r *countersign.ResponseError
	if errors.As(err, &r) {
		if r.Status >= 500 {
			return withReference(fault(problem.Unavailable, CodeUnreachable, "The server answered "+r.Error()+".").Because(err), r.Ref)
		}
		return err
	}
	var u *url.Error
	var n net.Error
	if errors.As(err, &u) || errors.As(err, &n) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded) {
		host := "the server"
		if u != nil {
			if at, e := url.Parse(u.URL); e == nil && at.Host != "" {
				host = at.Scheme + "://" + at.Host
			}
		}
		return fault(problem.Unavailable, CodeUnreachable, "Could not reach "+host+".").Because(err)
	}
	return err
}
