package client

// Metadata is what else a client is registered with, under the names that its
// standards give it (RFC 7591 §2). It is stored as it stands and is what the
// management API says, so that a member is added in one place. The zero value
// asks for nothing.
type Metadata struct {
	// RequirePushed refuses an authorization request that was not pushed (RFC 9126
	// §6).
	RequirePushed bool `json:"require_pushed_authorization_requests,omitempty" doc:"Refuse an authorization request that was not pushed first (RFC 9126)"`
	// RequireSigned refuses an authorization request that is not in a request object
	// (RFC 9101 §10.5).
	RequireSigned bool `json:"require_signed_request_object,omitempty" doc:"Refuse an authorization request that is not signed (RFC 9101)"`
	// MayAct is the client_id of the one client whose service may act with this
	// client's tokens (RFC 8693 §4.4); "" leaves it to resource and policy.
	MayAct string `json:"may_act,omitempty" maxLength:"64" doc:"client_id of the only client that may exchange this client's tokens (RFC 8693 section 4.4)"`
	Authentication
	OpenID
	Decoupled
	Backchannel
}
