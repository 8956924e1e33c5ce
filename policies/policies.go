// Package policies holds the text of the default policy set: the schema of what
// policies may speak of, the policies, and their tests. It is data: reading and
// enforcing it is internal/policy.
package policies

import "embed"

// Files are schema.cedarschema, host.cedar and, in default, the *.cedar policies and the
// *.policy.yaml tests of them.
//
//go:embed schema.cedarschema host.cedar default
var Files embed.FS
