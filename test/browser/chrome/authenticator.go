package chrome

import (
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
)

// AuthenticatorOptions describe a virtual authenticator. The zero value is a
// platform authenticator with user verification and discoverable, device-bound
// credentials: the passkey of a laptop.
type AuthenticatorOptions struct {
	Roaming             bool // a USB security key instead of the platform's own
	WithoutVerification bool // has no PIN or biometry
	WithoutResidentKeys bool // cannot hold discoverable credentials
	BackupEligible      bool // its credentials may be synced (BE)
	BackedUp            bool // and are (BS)
}

// Authenticator is a virtual authenticator of one page.
type Authenticator struct {
	page    *Page
	id      webauthn.AuthenticatorID
	options AuthenticatorOptions
}

// Credential is a key pair that an authenticator holds.
type Credential struct {
	ID          []byte `json:"credentialId"`
	Resident    bool   `json:"isResidentCredential"`
	RPID        string `json:"rpId,omitempty"`
	PrivateKey  []byte `json:"privateKey"` // PKCS #8
	UserHandle  []byte `json:"userHandle,omitempty"`
	SignCount   int64  `json:"signCount"`
	Eligible    bool   `json:"backupEligibility"`
	BackedUp    bool   `json:"backupState"`
	UserName    string `json:"userName,omitempty"`
	DisplayName string `json:"userDisplayName,omitempty"`
}

// addCredential is WebAuthn.addCredential with the fields above only: the
// generated type always sends one that some browsers refuse.
var addCredential = cdp.Command[addCredentialParams, cdp.Empty]{Method: webauthn.CommandAddCredential}

type addCredentialParams struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      Credential               `json:"credential"`
}

// AddAuthenticator plugs in a virtual authenticator, which answers at once
// unless told otherwise.
func (p *Page) AddAuthenticator(o AuthenticatorOptions) *Authenticator {
	p.t.Helper()
	transport := webauthn.AuthenticatorTransportInternal
	if o.Roaming {
		transport = webauthn.AuthenticatorTransportUsb
	}
	call(p, "enable WebAuthn", webauthn.Enable, webauthn.EnableParams{})
	added := call(p, "add an authenticator", webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol:                    webauthn.AuthenticatorProtocolCtap2,
			Transport:                   transport,
			HasResidentKey:              !o.WithoutResidentKeys,
			HasUserVerification:         !o.WithoutVerification,
			IsUserVerified:              !o.WithoutVerification,
			AutomaticPresenceSimulation: true,
			DefaultBackupEligibility:    o.BackupEligible,
			DefaultBackupState:          o.BackedUp,
		},
	})
	return &Authenticator{page: p, id: added.AuthenticatorID, options: o}
}

// SetVerified makes the next user verifications succeed or fail. A failed one
// is how a person's refusal shows to a page that requires verification:
// NotAllowedError.
func (a *Authenticator) SetVerified(ok bool) {
	a.page.t.Helper()
	call(a.page, "set user verification", webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: ok})
}

// SetPresent makes the person touch the authenticator at once, or never: a
// ceremony then hangs until the page gives it up.
func (a *Authenticator) SetPresent(ok bool) {
	a.page.t.Helper()
	call(a.page, "set presence", webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: ok})
}

// Bogus are faults of the next answers.
type Bogus struct {
	Signature      bool // the signature is wrong
	NotVerified    bool // the UV flag is wrongly 0
	NotPresent     bool // the UP flag is wrongly 0
	SignCountReset bool // credentials count signatures from 0 again, as a copied key would
}

// SetBogus makes the answers from now on bad in these ways; the zero value
// makes them good again, except for the counter.
func (a *Authenticator) SetBogus(b Bogus) {
	a.page.t.Helper()
	call(a.page, "set bogus answers", webauthn.SetResponseOverrideBits, webauthn.SetResponseOverrideBitsParams{
		AuthenticatorID: a.id, IsBogusSignature: &b.Signature, IsBadUV: &b.NotVerified, IsBadUP: &b.NotPresent,
	})
	if !b.SignCountReset {
		return
	}
	for _, c := range a.Credentials() {
		a.RemoveCredential(c.ID)
		c.SignCount = 0
		a.AddCredential(c)
	}
}

// Credentials returns the key pairs that the authenticator holds.
func (a *Authenticator) Credentials() (held []Credential) {
	a.page.t.Helper()
	got := call(a.page, "list credentials", webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	for _, c := range got.Credentials {
		held = append(held, Credential{
			ID: c.CredentialID, Resident: c.IsResidentCredential, RPID: c.RpID, PrivateKey: c.PrivateKey,
			UserHandle: c.UserHandle, SignCount: int64(c.SignCount), Eligible: c.BackupEligibility, BackedUp: c.BackupState,
			UserName: c.UserName, DisplayName: c.UserDisplayName,
		})
	}
	return held
}

// AddCredential gives the authenticator a key pair, as a sync or a copy would.
func (a *Authenticator) AddCredential(c Credential) {
	a.page.t.Helper()
	call(a.page, "add a credential", addCredential, addCredentialParams{AuthenticatorID: a.id, Credential: c})
}

// RemoveCredential makes the authenticator forget a key pair.
func (a *Authenticator) RemoveCredential(id []byte) {
	a.page.t.Helper()
	call(a.page, "remove a credential", webauthn.RemoveCredential, webauthn.RemoveCredentialParams{AuthenticatorID: a.id, CredentialID: id})
}

// Remove unplugs the authenticator; its key pairs are lost.
func (a *Authenticator) Remove() {
	a.page.t.Helper()
	call(a.page, "remove the authenticator", webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: a.id})
}

// MoveTo unplugs the authenticator here and plugs it into another page, with
// its key pairs: the same device in another tab or browser.
func (a *Authenticator) MoveTo(p *Page) *Authenticator {
	p.t.Helper()
	held := a.Credentials()
	a.Remove()
	moved := p.AddAuthenticator(a.options)
	for _, c := range held {
		moved.AddCredential(c)
	}
	return moved
}
