package countersign

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/jose"
)

// Requirement is a demand of a route on the tokens it takes.
type Requirement func(*route)

// route is what one route demands.
type route struct {
	scopes    []string
	ask       assurance.Ask
	sensitive bool
	outage    Outage
	action    string // "": policies are not asked
	on        func(*http.Request) Resource
}

// RequireScope demands every one of the scopes (RFC 6750 section 3.1).
func RequireScope(scopes ...string) Requirement {
	for _, s := range scopes {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' }) {
			panic(fmt.Sprintf("countersign: RequireScope: %q is no scope (RFC 6749 section 3.3)", s))
		}
	}
	return func(r *route) { r.scopes = append(r.scopes, scopes...) }
}

// RequireAssurance demands that the person has reached the rung that acr names,
// for instance "phr"; of a machine it demands the rung of the same height of
// the machines' ladder, m1 to m4. An unknown name panics.
func RequireAssurance(acr string) Requirement {
	rung := ladder.RungOf(acr)
	if rung == 0 {
		panic(fmt.Sprintf("countersign: RequireAssurance: %q names no rung", acr))
	}
	return func(r *route) { r.ask.Rung = max(r.ask.Rung, rung) }
}

// RequireFresh demands that the person signed in, themselves and at most
// maxAge ago, to the client that sends the request (mechanisms G3, RFC 9470).
// What acts for a person never satisfies it. maxAge is at least a minute.
func RequireFresh(maxAge time.Duration) Requirement {
	if maxAge < assurance.MinChallengeAge {
		panic("countersign: RequireFresh: less than a minute cannot be asked for")
	}
	return func(r *route) {
		if r.ask.MaxAge == 0 || maxAge < r.ask.MaxAge {
			r.ask.MaxAge = maxAge
		}
	}
}

// Sensitive has each token introspected, or refused, while the revocation feed
// is more than 15 seconds behind.
func Sensitive() Requirement { return func(r *route) { r.sensitive = true } }

// OnOutage states what the route does when the feed has been silent for more
// than five minutes; OutageIntrospect if it does not.
func OnOutage(o Outage) Requirement { return func(r *route) { r.outage = o } }

// verdict is the outcome of a route's demands on a good token.
type verdict struct {
	status    int // 0: it suffices
	code      string
	text      string
	acrValues []string
	maxAge    time.Duration // 0: not asked for
	scope     []string
	assurance string // client_assurance, for machines (mechanisms A26)
	bare      bool   // no challenge: there is nothing that the client could do
}

// judge holds a token against the route (mechanisms A11, A15, A19, A20, A25,
// A26, G3).
func (r *route) judge(t *Token, now time.Time) verdict {
	var missing []string
	for _, s := range r.scopes {
		if !t.HasScope(s) {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		missing = r.scopes // a challenge names what the request needs (RFC 6750 section 3)
	}
	if !t.Person() {
		return r.judgeMachine(t, missing)
	}
	reached := ladder.Accepts(t.ACR, t.AuthTime, r.ask, now)
	maxAge := r.ask.ChallengeAge()
	if r.ask.MaxAge != 0 {
		switch {
		case t.Act != nil:
			return verdict{
				status: http.StatusForbidden, code: "access_denied", bare: true,
				text: "This has to be done by the person, not by something that acts for them.",
			}
		case reached && !t.present:
			// The sign-in is fresh enough, but this token does not come from it.
			// Asking for a newer one brings it about; if there is none to ask
			// for, the client would be sent round in a circle (A15).
			age := now.Sub(t.AuthTime).Truncate(time.Second) - time.Second
			if age < assurance.MinChallengeAge {
				return verdict{
					status: http.StatusForbidden, code: "access_denied", bare: true,
					text: "This needs a token from the person's own sign-in to this application.",
				}
			}
			reached, maxAge = false, min(maxAge, age)
		}
	}
	switch {
	case !reached, missing != nil && r.ask.Demands():
		// A permission that is missing too is given with the proof that the route
		// asks for: one challenge says both (mechanisms A25).
		return verdict{
			status: http.StatusUnauthorized, code: "insufficient_user_authentication", text: r.words(),
			acrValues: ladder.AtLeast(max(r.ask.Rung, assurance.Single)), maxAge: maxAge, scope: missing,
		}
	case missing != nil:
		return lacks(missing)
	}
	return verdict{}
}

// judgeMachine: no challenge about a person is ever sent for a machine (A26).
func (r *route) judgeMachine(t *Token, missing []string) verdict {
	switch {
	case t.machine < r.ask.Rung:
		v := needsMachine(r.ask.Rung)
		v.scope = missing
		return v
	case r.ask.MaxAge != 0:
		return verdict{status: http.StatusForbidden, code: "access_denied", bare: true, text: "This has to be done by a person."}
	case missing != nil:
		return lacks(missing)
	}
	return verdict{}
}

// needsMachine says that a machine's proof of itself is below what would do.
func needsMachine(rung Rung) verdict {
	return verdict{
		status: http.StatusForbidden, code: "insufficient_scope", text: "This needs a client that proves more of itself.",
		assurance: assurance.MachineName(rung),
	}
}

// lacks says which permissions are missing, and nothing else.
func lacks(missing []string) verdict {
	return verdict{status: http.StatusForbidden, code: "insufficient_scope", text: "The access token lacks a permission that this needs.", scope: missing}
}

// words says the demand to people.
func (r *route) words() string {
	recent := ""
	if r.ask.MaxAge != 0 {
		recent = "recent "
	}
	switch {
	case r.ask.Rung >= assurance.Hardware:
		return "This needs a " + recent + "sign-in with a hardware key"
	case r.ask.Rung == assurance.Phishing:
		return "This needs a " + recent + "phishing-resistant sign-in"
	case r.ask.Rung == assurance.Multi:
		return "This needs a " + recent + "sign-in with two factors"
	}
	return "This needs a " + recent + "sign-in"
}

// challenge writes one WWW-Authenticate value; parts without a value are left
// out. Values hold no quotes or backslashes but those escaped here.
func challenge(scheme string, parts ...string) string {
	var b strings.Builder
	b.WriteString(scheme)
	sep := " "
	for i := 0; i < len(parts); i += 2 {
		if parts[i+1] == "" {
			continue
		}
		b.WriteString(sep)
		b.WriteString(parts[i])
		b.WriteString(`="`)
		for _, c := range []byte(parts[i+1]) {
			if c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			if c >= ' ' && c != 0x7f {
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
		sep = ", "
	}
	return b.String()
}

// proofAlgorithms are what a proof may be signed with, for algs (RFC 9449
// section 7.1).
var proofAlgorithms = strings.Join(jose.DPoPAlgorithms, " ")
