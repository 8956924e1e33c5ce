// Package canon is the one way in for JSON that is hashed, approved or
// forwarded as approved, and the one way hashes and MACs of the product are
// made (mechanisms 0). It owns strict parsing, canonical form (RFC 8785) and
// the table of labels; what is hashed, and with which key, is left to those
// who own it.
package canon

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
)

// Limits bound a document that Strict reads.
type Limits struct {
	Bytes     int // of the whole document
	Depth     int // of nested objects and arrays; the top object is 1
	Members   int // of all objects together
	NameBytes int // of one member name, unescaped
}

// The limits of mechanisms 0.3: of an action, and of a call before its large
// arguments are taken out.
var (
	ActionLimits = Limits{Bytes: 64 << 10, Depth: 32, Members: 2048, NameBytes: 256}
	CallLimits   = Limits{Bytes: 1 << 20, Depth: 32, Members: 2048, NameBytes: 256}
)

// Strict reads one JSON object and gives its canonical form (RFC 8785). It
// accepts only documents of which every reader makes the same thing: see
// mechanisms 0.3. On error canonical is nil and err is a problem.Invalid with
// one of the codes json_invalid, json_not_object, string_invalid, too_large,
// too_deep, too_many_members, name_too_long, duplicate_member,
// ambiguous_member and number_not_exact.
func Strict(data []byte, lim Limits) (canonical []byte, err error) {
	if len(data) > lim.Bytes {
		return nil, refuse("too_large", "The document is larger than %d bytes.", lim.Bytes)
	}
	p := parser{in: data, lim: lim}
	top, err := p.document()
	if err != nil {
		return nil, err
	}
	return top.append(make([]byte, 0, len(data))), nil
}

// Marshal gives the canonical form of a value of our own making. It is for
// values whose numbers are exact by construction; what others send goes
// through Strict.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	out, err := jcs.Transform(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return out, nil
}
