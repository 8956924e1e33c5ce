package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/canon"
)

// A part is one JSON object. The members below are the package's own: it adds
// them, so the caller's body must not have them. They are not stored with the
// body (except r): they are put back from the row's columns when the part is
// opened, so a changed column opens no commitment.
//
//	v   1, in every part
//	k   the kind's name, in every part
//	id  the record's id                       ┐
//	f   SHA-256 of the decision facts         │ in the general part,
//	l   the lineage node of what was issued   │ which is the first
//	r   true if the act was refused           │
//	s   SHA-256 of the sealed parts as stored ┘
type member struct{ name, value string }

const bodyVersion = 1

// ownMembers are the log's own members of one part, in the order of their names.
func ownMembers(kind Kind, general bool, id, leaf, facts, sealed string) []member {
	m := make([]member, 0, 6)
	if general {
		if facts != "" {
			m = append(m, member{"f", `"` + facts + `"`})
		}
		m = append(m, member{"id", `"` + id + `"`})
	}
	m = append(m, member{"k", `"` + kind.Name() + `"`})
	if general && leaf != "" {
		m = append(m, member{"l", `"` + leaf + `"`})
	}
	if general && sealed != "" {
		m = append(m, member{"s", `"` + sealed + `"`})
	}
	return append(m, member{"v", "1"})
}

var errObject = errors.New("audit: not a canonical object")

// addMembers writes a canonical object with more members, given in the order
// of their names, which are ASCII. A member that is there already is an error,
// and so is any of the log's own: else a column's value could be moved into the
// body and the column emptied.
// It is one pass and never parses values: whether they are JSON is settled by
// who made the object, or by the commitment.
func addMembers(dst, object []byte, add []member) ([]byte, error) {
	if len(object) < 2 || object[0] != '{' || object[len(object)-1] != '}' {
		return nil, errObject
	}
	dst = append(dst, '{')
	rest, first := object[1:len(object)-1], true
	put := func(m member) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, m.name...)
		dst = append(dst, '"', ':')
		dst = append(dst, m.value...)
	}
	for len(rest) > 0 {
		n, name, err := firstMember(rest)
		if err != nil {
			return nil, err
		}
		switch string(name) {
		case "f", "id", "k", "l", "s", "v":
			return nil, fmt.Errorf("audit: the member %q of a part is the log's own", name)
		}
		for len(add) > 0 && add[0].name <= string(name) {
			if add[0].name == string(name) {
				return nil, fmt.Errorf("audit: the member %q of a part is the log's own", name)
			}
			put(add[0])
			add = add[1:]
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, rest[:n]...)
		if n == len(rest) {
			break
		}
		if rest = rest[n+1:]; len(rest) == 0 {
			return nil, errObject // a comma with nothing behind it
		}
	}
	for _, m := range add {
		put(m)
	}
	return append(dst, '}'), nil
}

// firstMember finds the end of the first member in the inside of an object.
func firstMember(b []byte) (n int, name []byte, err error) {
	if b[0] != '"' {
		return 0, nil, errObject
	}
	end := bytes.IndexByte(b[1:], '"')
	if end < 0 {
		return 0, nil, errObject
	}
	name = b[1 : 1+end]
	if bytes.IndexByte(name, '\\') >= 0 || len(b) < end+4 || b[end+2] != ':' {
		return 0, nil, errObject
	}
	depth, quoted := 0, false
	for i := end + 3; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return 0, nil, errObject
			}
		case c == ',' && depth == 0:
			return i, name, nil
		}
	}
	if depth != 0 || quoted {
		return 0, nil, errObject
	}
	return len(b), name, nil
}

// marshal gives the canonical form of a body. Flat maps of strings, integers
// and truth values, which is what almost every record has, take a short way of
// one pass; anything else goes through canon.
func marshal(dst []byte, body any) ([]byte, error) {
	if body == nil {
		return append(dst, '{', '}'), nil
	}
	m, ok := body.(map[string]any)
	if ok && flat(m) {
		var few [16]string
		names := few[:0]
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '"')
			dst = append(dst, name...)
			dst = append(dst, '"', ':')
			switch v := m[name].(type) {
			case string:
				dst = append(dst, '"')
				dst = append(dst, v...)
				dst = append(dst, '"')
			case bool:
				dst = strconv.AppendBool(dst, v)
			case int:
				dst = strconv.AppendInt(dst, int64(v), 10)
			case int64:
				dst = strconv.AppendInt(dst, v, 10)
			}
		}
		return append(dst, '}'), nil
	}
	b, err := canon.Marshal(body)
	return append(dst, b...), err
}

// flat reports whether marshal's short way is exact for m: ASCII names, values
// that are written as they stand.
func flat(m map[string]any) bool {
	const exact = 1<<53 - 1
	for name, v := range m {
		if !plainASCII(name) {
			return false
		}
		switch v := v.(type) {
		case string:
			if !verbatim(v) {
				return false
			}
		case bool:
		case int:
			if v > exact || v < -exact {
				return false
			}
		case int64:
			if v > exact || v < -exact {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// plainASCII reports whether s is printable ASCII that JSON writes unescaped.
func plainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// verbatim reports whether JSON writes s as it stands.
func verbatim(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

// splitBody reads the stored form of the parts: version(1)=1 ‖ m(1) ‖ m ×
// (length(2) ‖ part). The first part is salt(16) ‖ JSON, the others nonce(12) ‖
// AES-GCM(salt ‖ JSON). sealed is all that follows the first part.
func splitBody(b []byte) (parts [][]byte, sealed []byte, err error) {
	if len(b) < 2 || b[0] != bodyVersion || b[1] == 0 || b[1] > maxParts {
		return nil, nil, errBody
	}
	rest := b[2:]
	parts = make([][]byte, 0, b[1])
	for i := range int(b[1]) {
		if len(rest) < 2 {
			return nil, nil, errBody
		}
		n := int(binary.BigEndian.Uint16(rest))
		least := 16 + 2
		if i > 0 {
			least += nonceSize + 16
		}
		if n < least || len(rest) < 2+n {
			return nil, nil, errBody
		}
		parts = append(parts, rest[2:2+n])
		if rest = rest[2+n:]; i == 0 {
			sealed = rest
		}
	}
	if len(rest) != 0 {
		return nil, nil, errBody
	}
	return parts, sealed, nil
}

var errBody = errors.New("audit: the stored parts are not well formed")

// Fields reads the part's members. It is nil for a part that did not open.
func (p OpenPart) Fields() map[string]any {
	var m map[string]any
	if len(p.JSON) == 0 || json.Unmarshal(p.JSON, &m) != nil {
		return nil
	}
	return m
}
