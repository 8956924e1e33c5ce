package grant

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
)

// LeavingLifetime is how long the page that asks whether to sign out waits.
const LeavingLifetime = 10 * time.Minute

// Leaving is an app's request that a person signs out (OpenID Connect RP-Initiated
// Logout §2), as far as it was found good.
type Leaving struct {
	App     client.Client `json:"-"`                 // the zero value: nobody knows which
	Client  string        `json:"client,omitempty"`  // cli_… of App
	Session string        `json:"session,omitempty"` // that is to end
	Back    string        `json:"back,omitempty"`    // registered for App; "" to stay here
	State   string        `json:"state,omitempty"`
	Asked   time.Time     `json:"asked"`
}

// Address is where the app wants the browser back, with its state; "" to stay here.
func (l Leaving) Address() string {
	if l.Back == "" || l.State == "" {
		return l.Back
	}
	sep := "?"
	if strings.Contains(l.Back, "?") {
		sep = "&"
	}
	// Not every client reads + as a space; all read %20.
	return l.Back + sep + "state=" + strings.ReplaceAll(url.QueryEscape(l.State), "+", "%20")
}

// Partakes reports whether signing out of a browser ends what a client was let in
// for: the client that asked for it, and those that are told of it; not what was meant
// to outlast the person's presence, nor other apps on computers.
func (g Grant) Partakes(c client.Client, asked string) bool {
	if slices.Contains(g.Scopes, "offline_access") {
		return false
	}
	return c.ID == asked || c.BackchannelURI != "" && !c.Native
}
