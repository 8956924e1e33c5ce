package config

// Devices says whether the operator manages the devices that people sign in from.
type Devices struct {
	// Managed has the default policies ask for a managed device where the most sensitive
	// is done. Which devices are, administrators and services say (docs/flows/devices.md).
	Managed bool `yaml:"managed,omitempty"`
}
