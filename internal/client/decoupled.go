package client

import "strings"

// Decoupled is how a client is registered for grants that a person answers
// elsewhere than where the client is.
type Decoupled struct {
	// DeviceScope caps what the client can be given by device authorization.
	DeviceScope string `json:"device_scope,omitempty" maxLength:"4096" doc:"Scopes that it can be given by device authorization (RFC 8628), separated by spaces; every scope it is registered for if left out"`
	// DeviceConfirm says that the client's devices show the confirmation code that
	// they are told while they wait.
	DeviceConfirm bool `json:"device_confirmation_code,omitempty" doc:"Its devices show the confirmation_code that they are told while they wait, and a browser on another network must be told it"`
}

func checkDevice(c Client) error {
	if (c.DeviceScope != "" || c.DeviceConfirm) && !c.Allows(DeviceCode) {
		return invalid("grant_types_invalid", "device_scope and device_confirmation_code are for clients with the grant type %s.", DeviceCode)
	}
	for s := range strings.FieldsSeq(c.DeviceScope) {
		if !ScopeToken(s) {
			return invalid("scope_invalid", "The scope %.80q of device_scope is not a scope (RFC 6749 section 3.3).", s)
		}
	}
	return nil
}
