package grant

import (
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// InteractionLifetime is how long a login transaction waits for the person.
const InteractionLifetime = 10 * time.Minute

// Interaction is a validated authorization request waiting for a person: the
// data of a once.Interaction value. It is bound to the browser that brought it
// and is spent by the act that answers it.
type Interaction struct {
	Client       string             `json:"client"`         // cli_…; "" of one that nobody agreed to yet
	Name         string             `json:"name,omitempty"` // client_id of one that no administrator registered
	RedirectURI  string             `json:"redirect_uri"`
	ResponseMode string             `json:"response_mode"`
	State        string             `json:"state,omitempty"`
	Nonce        string             `json:"nonce,omitempty"`
	Challenge    string             `json:"code_challenge"`
	JKT          string             `json:"dpop_jkt,omitempty"`
	Resources    []string           `json:"resources"` // ids, the first is the default
	Scopes       []string           `json:"scopes"`
	ACRValues    []string           `json:"acr_values,omitempty"` // known ones, as asked: binding (A18)
	MaxAge       time.Duration      `json:"max_age,omitempty"`    // 0: not asked
	Fresh        bool               `json:"fresh,omitempty"`      // prompt=login or max_age=0: only proofs after Started count
	Consent      bool               `json:"consent,omitempty"`    // prompt=consent
	Explicit     bool               `json:"explicit,omitempty"`   // the scopes were named: a conditional one steps up instead of being withheld
	LoginHint    string             `json:"login_hint,omitempty"`
	Subject      string             `json:"subject,omitempty"` // of a valid id_token_hint, or asked for: nobody else is answered about
	Claims       ClaimsAsked        `json:"claims,omitzero"`
	Details      []resource.Element `json:"authorization_details,omitempty"`
	Pushed       string             `json:"pushed,omitempty"`      // mark of the pushed request it came from, which answering spends: not its reference, which is as long as the request
	Device       *Device            `json:"device,omitempty"`      // the device authorization it is about: the answer goes there, not to RedirectURI
	Backchannel  *Backchannel       `json:"backchannel,omitempty"` // the backchannel authentication it is about: likewise
	Started      time.Time          `json:"started"`
}

// Next is what an interaction waits for.
type Next string

// What may be next.
const (
	NextSignIn     Next = "sign_in"
	NextStepUp     Next = "step_up"
	NextConsent    Next = "consent"
	NextIssue      Next = "issue"      // nothing: the code can be issued
	NextImpossible Next = "impossible" // this person cannot reach what is asked
	NextDenied     Next = "denied"     // policy refuses, whatever is proved
	NextWrongUser  Next = "wrong_user" // asked for another person than the one signed in
	NextDevice     Next = "device"     // a device waits for a yes or no
	NextRequest    Next = "request"    // what a client asked over the backchannel waits for a yes or no
	NextRefused    Next = "refused"    // … and was told no
	NextDone       Next = "done"       // a device was told no
)

// Pending is an interaction judged for the person who is signed in now: what a
// page needs to say who asks, for what, why, and what is next.
type Pending struct {
	Interaction
	Reference  string // of the interaction, as in the address
	App        client.Client
	Next       Next
	Ask        assurance.Ask    // of NextStepUp and NextImpossible
	Band       string           // of risk, as it was judged; "" if none is scored
	Reasons    []string         // in words, for this person
	Why        []problem.Reason // the same with the policies
	Code       string           // of NextDenied
	Review     bool             // of NextDenied: somebody should look at it
	Scopes     []Permission     // what consent shows
	Shown      []Detail         // … and of authorization details, each time
	Remembered *Consent         // earlier consent, if it covers part of it; for a client that registers itself possibly an earlier registration's
	Changed    bool             // the app is not any more what it was at the earlier consent
	Elsewhere  bool             // the device is on another network than the browser, or nobody knows
	Address    string           // of the browser, where a device asks; "" if unknown
}

// Detail is an element of authorization details as consent shows it.
type Detail struct {
	Resource string // name of the resource
	Said     []resource.Part
	Fields   []resource.Field
}

// Permission is a scope at a resource as consent shows it.
type Permission struct {
	resource.Scope
	At       string // id of the resource; "" for identity scopes
	Resource string // name of the resource
	New      bool   // not covered by remembered consent
}
