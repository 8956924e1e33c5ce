// Package records is what a server is loaded with to be certified as a policy decision
// point (AuthZEN Authorization API 1.0, the certification scenario): two people, their
// groups, and the policies of records. countersignd sandbox --authzen loads it.
package records

import _ "embed"

// Schema declares records and what is done with them.
//
//go:embed policies/schema.cedarschema
var Schema string

// Policies are who may do what, in Cedar.
//
//go:embed policies/records.cedar
var Policies string

// Audience is the identifier of the resource, Client the client_id of whoever asks for it.
const (
	Audience = "https://records.example.com"
	Client   = "authzen-harness"
)

// People are whom the scenario knows, by the subject of their tokens, and the group of each.
var People = map[string]string{"alice": "record-keepers", "bob": "record-checkers"}
