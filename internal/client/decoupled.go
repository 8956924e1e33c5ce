package client

// Decoupled is how a client is registered for grants that a person answers
// elsewhere than where the client is.
type Decoupled struct {
	// DeviceScope caps what the client can be given by device authorization.
	DeviceScope string `json:"device_scope,omitempty" maxLength:"4096" doc:"Scopes that it can be given by device authorization (RFC 8628), separated by spaces; every scope it is registered for if left out"`
	// DeviceConfirm says that the client's devices show the confirmation code that
	// they are told while they wait.
	DeviceConfirm bool `json:"device_confirmation_code,omitempty" doc:"Its devices show the confirmation_code that they are told while they wait, and a browser on another network must be told it"`
}
