package notes

import (
	_ "embed"
	"strings"
)

// address is where the API is, as its schema says it.
const address = "http://localhost:8788"

//go:embed policies/schema.cedarschema
var schema string

// Policies are who may do what here, in Cedar, for the server to put in force.
//
//go:embed policies/notes.cedar
var Policies string

// Schema declares what the policies speak of, of the API at an address.
func Schema(at string) string { return strings.ReplaceAll(schema, address, at) }
