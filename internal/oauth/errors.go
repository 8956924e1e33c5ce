package oauth

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// The codes of RFC 6749 and its extensions that these endpoints answer with.
// A problem whose code is one of them is rendered with it; others by their kind.
var oauthCodes = map[string]bool{
	"invalid_request": true, "invalid_client": true, "invalid_grant": true, "unauthorized_client": true,
	"unsupported_grant_type": true, "invalid_scope": true, "invalid_target": true, "access_denied": true,
	"unsupported_response_type": true, "login_required": true, "interaction_required": true,
	"consent_required": true, "invalid_dpop_proof": true, "use_dpop_nonce": true, "unsupported_token_type": true,
	"unmet_authentication_requirements": true, "request_not_supported": true, "request_uri_not_supported": true,
	"registration_not_supported": true, "invalid_request_uri": true, "invalid_request_object": true, "temporarily_unavailable": true, "server_error": true,
	"insufficient_user_authentication": true, "invalid_authorization_details": true, "invalid_client_metadata": true, "invalid_redirect_uri": true, "invalid_software_statement": true,
	"authorization_pending": true, "slow_down": true, "expired_token": true, "invalid_binding_message": true,
}

func invalid(code, detail string) *problem.Error { return problem.New(problem.Invalid, code, detail) }

// oauthCode is the wire code of a problem.
func oauthCode(p *problem.Error) string {
	if oauthCodes[p.Code] {
		return p.Code
	}
	switch p.Kind {
	case problem.Denied:
		return "access_denied"
	case problem.StepUp:
		return "insufficient_user_authentication"
	case problem.Throttled, problem.Unavailable:
		return "temporarily_unavailable"
	}
	return "invalid_request"
}

// insufficient is what a client is told whose person has not shown enough where
// only another can ask for more (RFC 9470, ID-JAG).
func insufficient(err error) *problem.Error {
	return invalid("insufficient_user_authentication", "The person has to sign in again, with more proof.").Because(err)
}

// grantError is what the token endpoint says of a refusal: a grant that policy
// no longer stands behind is invalid_grant (RFC 6749 §5.2), with its public reason if
// it has one; the others are for the log, not for the client.
func grantError(err error) error {
	var gone *once.Gone
	var used *once.Used
	if errors.As(err, &gone) || errors.As(err, &used) {
		return invalid("invalid_grant", "The grant is unknown, expired or was used before.").Because(err)
	}
	p := problem.From(err)
	if p == nil || oauthCodes[p.Code] && p.Kind == problem.Invalid {
		return err
	}
	switch p.Kind {
	case problem.Denied, problem.NotFound, problem.StepUp:
		words := "The grant is no longer valid."
		if why := publicly(p); why != "" {
			words = "The grant is no longer valid: " + strings.TrimSuffix(why, ".") + "."
		}
		return invalid("invalid_grant", words).Because(err)
	}
	return err
}

// standing is a refusal of what a grant that stands gives otherwise: policy wants more
// proof, or says no for now. To most clients it is the end of the grant (RFC 6749 §5.2);
// what the answer has beside tells those who look that it is not, and what would do.
type standing struct {
	told, by *problem.Error // what the client is told, and what policy said
}

// Error implements error.
func (s *standing) Error() string { return s.told.Error() }

// Unwrap gives what the client is told.
func (s *standing) Unwrap() error { return s.told }

// notNow tells a refusal by policy from the end of a grant.
func notNow(err error) error {
	p := problem.From(err)
	if p == nil {
		return err
	}
	words := "This is refused now"
	switch p.Code {
	case policy.CodeStepUp:
		words = "The person has to show again who they are"
	case policy.CodeDenied, policy.CodeUnattainable, policy.CodeQuarantine, policy.CodeError, policy.CodeInconsistent:
	default:
		return err
	}
	if why := publicly(p); why != "" {
		words += ": " + strings.TrimSuffix(why, ".")
	}
	return &standing{invalid("invalid_grant", words+".").Because(err), p}
}

// publicly is what policy lets callers know of why it refused or asks for more, ""
// for nothing (mechanisms A10).
func publicly(p *problem.Error) string {
	if p.Challenge != nil {
		return p.Challenge.Public
	}
	return p.Public
}

// oauthError is the body of an error (RFC 6749 §5.2).
type oauthError struct {
	Error string `json:"error"`
	Desc  string `json:"error_description,omitempty"`
	// Confirm is what a device shows while it waits (docs/divergences.md).
	Confirm string `json:"confirmation_code,omitempty"`
	// Of a refusal that leaves the grant as it is: that it does, the proof that would do,
	// named as in RFC 9470, and the review that is open of it (docs/divergences.md).
	Stands    bool   `json:"grant_stands,omitempty"`
	ACRValues string `json:"acr_values,omitempty"`
	MaxAge    int64  `json:"max_age,omitempty"` // seconds
	Review    string `json:"review,omitempty"`
}

// waiting is the answer to a device that has to poll again, with what it shows
// meanwhile.
type waiting struct {
	problem *problem.Error
	confirm string
}

// Error implements error.
func (w *waiting) Error() string { return w.problem.Error() }

// Unwrap gives the problem.
func (w *waiting) Unwrap() error { return w.problem }

// renderError writes the error of an API endpoint: OAuth JSON (RFC 6749 §5.2).
// A plain error is left to the outer handler: a bare 500.
func renderError(w http.ResponseWriter, r *http.Request, err error) error {
	p := problem.From(err)
	if p == nil {
		return err
	}
	status := http.StatusBadRequest
	switch p.Kind {
	case problem.Unauthenticated:
		status = http.StatusUnauthorized
	case problem.Denied:
		if r.URL.Path == backchannelPath { // CIBA Core §13
			status = http.StatusForbidden
		}
	case problem.Throttled, problem.Unavailable:
		status = http.StatusServiceUnavailable
		after := max(1, int(p.RetryAfter.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(after))
	}
	code := oauthCode(p)
	if code == "invalid_client" && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="token", charset="UTF-8"`)
	}
	note(r, "error", p.Code)
	if c := errors.Unwrap(p); c != nil {
		note(r, "cause", c.Error())
	}
	var wait *waiting
	out := oauthError{Error: code, Desc: asciiOnly(p.Detail)}
	if errors.As(err, &wait) {
		out.Confirm = wait.confirm
	}
	var now *standing
	if errors.As(err, &now) {
		out.Stands, out.Review = true, now.by.Review
		if c := now.by.Challenge; c != nil {
			out.ACRValues, out.MaxAge = strings.Join(c.ACRValues, " "), int64(c.MaxAge/time.Second)
		}
	}
	return web.JSON(w, status, out)
}
