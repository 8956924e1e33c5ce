package client

import (
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/jose"
)

// How a client learns that somebody has answered (CIBA Core §5).
const (
	Poll = "poll"
	Ping = "ping"
)

// Backchannel is how a client is registered for backchannel authentication, under
// the names of CIBA Core §4. The last two are ours.
type Backchannel struct {
	// DeliveryMode is Ping, or Poll, which "" is too.
	DeliveryMode string `json:"backchannel_token_delivery_mode,omitempty" enum:"poll,ping" doc:"Whether the client is told that somebody has answered (ping), or asks (poll, if left out)"`
	// NotificationURI is told, in the mode ping.
	NotificationURI string `json:"backchannel_client_notification_endpoint,omitempty" maxLength:"1024" doc:"Where a client in the mode ping is told"`
	// RequestAlg has every request signed, with it.
	RequestAlg string `json:"backchannel_authentication_request_signing_alg,omitempty" enum:"ES256,EdDSA,Ed25519,PS256" doc:"Every backchannel authentication request has to be signed, with this"`
	// BackchannelScope caps what the client can be given by backchannel authentication.
	BackchannelScope string `json:"backchannel_scope,omitempty" maxLength:"4096" doc:"Scopes that it can be given by backchannel authentication, separated by spaces; every scope it is registered for if left out"`
	// NumberMatching says that the client shows the number that it is told, which the
	// person then has to type.
	NumberMatching bool `json:"backchannel_number_matching,omitempty" doc:"It shows the matching_number that it is told, and the person has to type it; without, its requests need a binding_message"`
}

// checkBackchannel says whether a client is registered for backchannel authentication
// as it has to be.
func checkBackchannel(c Client) error {
	b := c.Backchannel
	if b == (Backchannel{}) {
		return nil
	}
	if !c.Allows(CIBA) {
		return invalid("grant_types_invalid", "What begins with backchannel_, beside logout, is for clients with the grant type %s.", CIBA)
	}
	for s := range strings.FieldsSeq(b.BackchannelScope) {
		if !ScopeToken(s) {
			return invalid("scope_invalid", "The scope %.80q of backchannel_scope is not a scope (RFC 6749 section 3.3).", s)
		}
	}
	switch {
	case b.DeliveryMode != "" && b.DeliveryMode != Poll && b.DeliveryMode != Ping:
		return invalid("delivery_mode_invalid", "A backchannel_token_delivery_mode is poll or ping: tokens are pushed to nobody.")
	case (b.DeliveryMode == Ping) != (b.NotificationURI != ""):
		return invalid("delivery_mode_invalid", "A client in the mode ping, and no other, has a backchannel_client_notification_endpoint.")
	case b.RequestAlg != "" && !slices.Contains(jose.AssertionAlgorithms, b.RequestAlg):
		return invalid("signed_alg_invalid", "A request is not signed with %.40q here: choose one of %s.", b.RequestAlg, strings.Join(jose.AssertionAlgorithms, ", "))
	case b.RequestAlg != "" && !c.Keyed():
		return invalid("jwks_invalid", "A client whose requests must be signed needs its keys: jwks or jwks_uri.")
	}
	if b.NotificationURI != "" {
		if why := endpoint(b.NotificationURI); why != "" {
			return invalid("notification_uri_invalid", "%.200q cannot be a backchannel_client_notification_endpoint: %s.", b.NotificationURI, why)
		}
	}
	return nil
}
