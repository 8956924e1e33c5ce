// Package grant owns what a person (or service) granted to a client: the grant
// itself, remembered consent, and the refresh family by which the client holds
// it (mechanisms D). Token formats are in refresh.go; HTTP is oauth's.
package grant

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Grant is one authorization response, redeemed. Its pair is fixed for
// everything that derives from it (mechanisms A22).
type Grant struct {
	ID        string // gnt_…, the lineage node
	Person    string
	Client    string // cli_…
	Session   string
	Device    string   // dev_…, that the person gave it out on, for use there; "" if that is not known, or it went elsewhere
	Consent   string   // cns_…; "" for first-party clients
	Resources []string // resource ids, the first is the default
	Scopes    []string // granted, conditional ones included
	Pair      assurance.Pair
	ACR       string // as reported to the client that asked (mechanisms A18)
	Proofs    []assurance.Proof
	Claims    ClaimsAsked // beside those of the scopes
	Details   []resource.Element
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // last, to the hour: see Used
	Node      lineage.Node
}

// ClaimsAsked are claims about the person that a client asked for one by one, by
// where they are to be told (OpenID Connect Core §5.5).
type ClaimsAsked struct {
	IDToken  []ClaimAsked `json:"id_token,omitempty"`
	UserInfo []ClaimAsked `json:"userinfo,omitempty"`
}

// ClaimAsked is one of them; with Values, as JSON, it is told only if it has one.
type ClaimAsked struct {
	Name   string   `json:"name"`
	Values []string `json:"values,omitempty"`
}

// Open makes a grant. Its node descends from session, client, consent and the
// credentials proved.
type Open struct {
	Grant
	Credentials []string
	Link        string // of the trusted issuer at whose word it is (lnk_…); "" if the person was here
}

// CodeLifetime is how long an authorization code works (FAPI 2.0: at most 60 s;
// clients need at least that).
const CodeLifetime = 60 * time.Second

// ReuseGrace is within what time of its redemption a code presented again is
// only refused (mechanisms D17).
const ReuseGrace = 10 * time.Second

// Code is what an authorization code stands for: the data of a once.Code value.
type Code struct {
	Person      string             `json:"person"`
	Session     string             `json:"session"`
	Device      string             `json:"device,omitempty"` // as in Grant
	Client      string             `json:"client"`
	Consent     string             `json:"consent,omitempty"`
	RedirectURI string             `json:"redirect_uri"`
	Challenge   string             `json:"code_challenge"` // S256
	JKT         string             `json:"dpop_jkt,omitempty"`
	Resources   []string           `json:"resources"`
	Scopes      []string           `json:"scopes"`
	Elevated    []string           `json:"elevated,omitempty"` // conditional scopes released with this response
	Until       time.Time          `json:"until,omitzero"`     // end of the elevation (mechanisms A23)
	Life        time.Duration      `json:"life,omitempty"`     // of the grant, at most; 0: policy set none
	Nonce       string             `json:"nonce,omitempty"`
	Pair        assurance.Pair     `json:"pair"`
	ACR         string             `json:"acr"`
	Claims      ClaimsAsked        `json:"claims,omitzero"`
	Details     []resource.Element `json:"authorization_details,omitempty"`
	Proofs      []assurance.Proof  `json:"proofs"`
}

// Consent is remembered: what a person allowed a client at a resource.
type Consent struct {
	ID        string // cns_…, a lineage node of kind grant
	Person    string
	Client    string
	Resources []string
	Scopes    []string // as Agreed names them
	Digest    string   // of what the client was, if nobody registered it (client.Origin)
	At        time.Time
	// Details were agreed to for one interaction, which For names, and for no other.
	Details []resource.Element
	For     string
	Node    lineage.Node
}

// Agreed is how a consent names a scope of a resource (its id; "" for identity
// scopes): what was agreed to at one resource says nothing of another's scope of
// the same name.
func Agreed(resource, scope string) string {
	if resource == "" {
		return scope
	}
	return resource + " " + scope
}

// Covers reports whether the person agreed to a scope of a resource. A plain
// name is of the consent's only resource.
func (c *Consent) Covers(resource, scope string) bool {
	if c == nil {
		return false
	}
	only := resource == "" || len(c.Resources) == 1 && c.Resources[0] == resource
	return slices.Contains(c.Scopes, Agreed(resource, scope)) || only && slices.Contains(c.Scopes, scope)
}

// Remember stores consent: a new one, or the wider one of an existing ID.
type Remember struct{ Consent }

// Touch remembers a use of the grant, coarsely.
type Touch struct {
	ID string
	At time.Time
}

// usedEvery is how much newer a use is than the one remembered before it is, too.
const usedEvery = time.Hour

// Used is the change that remembers a use of the grant; ok is false where the last one
// that is remembered is less than an hour older.
func (g *Grant) Used(at time.Time) (t Touch, ok bool) {
	return Touch{ID: g.ID, At: at}, at.Sub(g.UsedAt) >= usedEvery
}

// Family is a refresh family (mechanisms D3).
type Family struct {
	ID          string // fam_…, the lineage node
	Grant       string
	Client      string // cli_…
	Person      string
	JKT         string // DPoP key it is bound to, "" if unbound
	X5T         string // x5t#S256 of the certificate it is bound to, "" if unbound (RFC 8705 §7.1)
	Static      bool   // not rotated (mechanisms D7)
	Gen         uint32
	CurHash     secret.Hash
	PrevHash    secret.Hash
	Salt        []byte // of the current generation's derivation, and of those before it whose windows are open; nil once all are closed
	RotatedAt   time.Time
	WindowUntil time.Time // any network
	NetUntil    time.Time // same network as the rotation
	Replays     int
	Network     string // prefix of the rotating client's address, "" if unknown
	KeyVersion  int    // of K_rt
	CreatedAt   time.Time
	ExpiresAt   time.Time // absolute
	IdleUntil   time.Time
	Node        lineage.Node
}

// OpenFamily makes a family; its node descends from the grant.
type OpenFamily struct{ Family }

// Rotate is the one conditional write of a rotation (mechanisms D6): it holds
// only while the presented hash is current.
type Rotate struct {
	ID          string
	Presented   secret.Hash
	Next        secret.Hash
	Salt        []byte
	RotatedAt   time.Time
	WindowUntil time.Time
	NetUntil    time.Time
	Network     string
	IdleUntil   time.Time
}

// Replay counts a replay within the window; it holds only while generation Gen
// is current and fewer than MaxReplays were counted.
type Replay struct {
	ID  string
	Gen uint32
}

// Lost keeps the window of a generation open for the network it was made for: its
// answer did not arrive (mechanisms D9). It changes nothing once the generation
// is not current any more.
type Lost struct {
	ID       string
	Gen      uint32
	NetUntil time.Time
}

// MaxReplays is how often one superseded token may be answered with its
// successor. The design page says 64; 200 parallel refreshes must all succeed,
// so it is 256 (docs/decisions).
const MaxReplays = 256

// Change marks Open as a change.
func (Open) Change() {}

// Change marks Remember as a change.
func (Remember) Change() {}

// Change marks Touch as a change.
func (Touch) Change() {}

// Change marks OpenFamily as a change.
func (OpenFamily) Change() {}

// Change marks Rotate as a change.
func (Rotate) Change() {}

// Change marks Replay as a change.
func (Replay) Change() {}

// Change marks Lost as a change.
func (Lost) Change() {}

// Store reads grants, consents and families.
type Store interface {
	Grant(ctx context.Context, id string) (Grant, error)
	// GrantsOf lists a person's grants that have not ended, newest first.
	GrantsOf(ctx context.Context, person string) ([]Grant, error)
	// Consent is what a person allowed a client; problem.NotFound if nothing, or
	// withdrawn.
	Consent(ctx context.Context, person, client string) (Consent, error)
	// ConsentOfGroup is what a person allowed a client of a group that registered
	// itself, the newest; problem.NotFound if nothing.
	ConsentOfGroup(ctx context.Context, person, group string) (Consent, error)
	Family(ctx context.Context, id string) (Family, error)
	// Delegation is the newest of a credential to a client that has not ended;
	// problem.NotFound if there is none.
	Delegation(ctx context.Context, parent, client string) (Delegation, error)
	// DelegationByID is one by its id, ended or not.
	DelegationByID(ctx context.Context, id string) (Delegation, error)
}
