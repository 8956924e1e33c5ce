package policy

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/canon"
)

// Source is the text of a policy set: what is reviewed, signed and published.
type Source struct {
	// Schema declares the deployment's own entity types and actions, in Cedar's
	// schema language; "" if it has none.
	Schema string `json:"schema,omitempty"`
	Files  []File `json:"files"`
	// Exceptions are waivers of rules.
	Exceptions []Exception `json:"exceptions,omitempty"`
	// Floors are files of statements that no exception may make false; whoever
	// publishes a set proves them. This package does not read them.
	Floors []File `json:"floors,omitempty"`
}

// File is a file of Cedar policies.
type File struct {
	Name string `json:"name"` // as a fault names it
	Text string `json:"text"`
}

// Hash is the SHA-256 of the source, the version of the set made of it:
// "sha256:" and base64url. The order of the files does not matter.
func (s Source) Hash() string {
	s.Files = s.sorted()
	content, _ := json.Marshal(s) // strings only: cannot fail
	sum := canon.H(canon.LabelPolicy, content)
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// sorted are the files by name: the order in which reasons are given.
func (s Source) sorted() []File {
	files := slices.Clone(s.Files)
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return files
}

// Fault is something that keeps a source from being enforced.
type Fault struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"` // from 1; 0 if it is of the whole file
	Policy string `json:"policy,omitempty"`
	Code   string `json:"code"`
	Text   string `json:"text"`
}

// The codes of faults.
const (
	FaultSyntax     = "syntax"      // it is not Cedar
	FaultSchema     = "schema"      // the schema declares what the server cannot supply
	FaultType       = "type"        // a policy does not fit the schema, or may read what is absent (mechanisms A4)
	FaultAnnotation = "annotation"  // an annotation is missing, unknown or has no such value
	FaultDuplicate  = "duplicate"   // two policies have one id
	FaultMonotone   = "monotone"    // a proof could take something away (mechanisms A5)
	FaultLimit      = "limit"       // more candidates or points than the climb tries (mechanisms A1)
	FaultApprovers  = "approvers"   // approvals are counted, and of which group is not said once
	FaultHost       = "host"        // it is about the host or the server itself
	FaultNoPolicies = "no_policies" // there is none
	FaultException  = "exception"   // an exception is of no rule, for nobody, or without an end
)

// String is the fault as a compiler says it.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		fmt.Fprintf(&b, "%s:", f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, "%d:", f.Line)
		}
		b.WriteByte(' ')
	}
	if f.Policy != "" {
		fmt.Fprintf(&b, "policy %s: ", f.Policy)
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults are all the faults of a source, an error.
type Faults []Fault

// Error gives a line for each.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}
