package act

import (
	"errors"
	"time"
)

// Way is a way to fail to prove who one is, or that what one shows is one's own. All of
// them stand in Ways.
type Way string

// The ways.
const (
	WayPassword     Way = "password"
	WayCode         Way = "code" // of an authenticator app
	WayPasskey      Way = "passkey"
	WayRecoveryCode Way = "recovery_code"
	WayPass         Way = "temporary_pass"
	WayUserCode     Way = "user_code" // of a device (RFC 8628)
	WayNumber       Way = "number"    // that an app shows (CIBA)

	WaySecret      Way = "client_secret"
	WayAssertion   Way = "client_assertion"
	WayCertificate Way = "client_certificate"

	// What is genuine, shown by somebody else than it was given to.
	WayAuthorization Way = "authorization_code" // or what a device or a request over the backchannel polls with
	WayRefresh       Way = "refresh_token"
	WayToken         Way = "access_token"
	WaySubject       Way = "subject_token" // of token exchange
	WayVouched       Way = "assertion"     // of a trusted issuer
)

// Ways are all there are, and the package in which one fails that way.
var Ways = map[Way]string{
	WayPassword: "portal", WayCode: "portal", WayPasskey: "portal", WayRecoveryCode: "portal", WayPass: "portal",
	WayUserCode: "oauth", WayNumber: "oauth", WaySecret: "oauth", WayAssertion: "oauth", WayCertificate: "oauth",
	WayAuthorization: "oauth", WayRefresh: "oauth", WayToken: "oauth", WaySubject: "oauth", WayVouched: "oauth",
}

// Wrong is a proof that was wrong, as the cause of a refusal: whoever ends a request
// gives it to Missed, once, however often the request was judged.
type Wrong struct {
	Way Way
	// Whose it claimed to be: a person, a service or an app by id; "" if nobody's.
	Whose string
	Cause error // nil: there is no more to say
}

// Error says what was wrong, for the log.
func (w Wrong) Error() string {
	if w.Cause != nil {
		return w.Cause.Error()
	}
	return "the " + string(w.Way) + " is wrong"
}

// Unwrap gives the cause.
func (w Wrong) Unwrap() error { return w.Cause }

// Missed remembers the wrong proof that a request from a network ended with, if it did.
// It writes nothing and reads nothing.
func (d *Doer) Missed(err error, network string, at time.Time) {
	var w Wrong
	if !errors.As(err, &w) {
		return
	}
	if d.Wrong != nil {
		d.Wrong(w.Way)
	}
	if d.Risk != nil {
		d.Risk.Miss(w.Whose, network, at)
	}
}
