package secret

import (
	"crypto/rand"
	"hash/crc32"
	"strings"

	"github.com/countersign-dev/countersign/internal/problem"
)

// TypedLen is how many characters a typed secret has: 23 of five random bits
// and one of check, 115 bits in all. With more than 112 bits no slow hash is
// needed (SP 800-63B-4 §3.1.2.2).
const TypedLen = 24

// crockford has no letter that looks like a digit.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewTyped makes a secret that people copy from paper and type: TypedLen
// characters of Crockford base32. It has no prefix: what it is for, its once
// purpose says.
func NewTyped() Value {
	var b [TypedLen - 1]byte
	rand.Read(b[:])
	return EncodeTyped(b[:])
}

// EncodeTyped writes five bits of each byte as a character, and a check.
func EncodeTyped(b []byte) Value {
	text := make([]byte, len(b), len(b)+1)
	for i, x := range b {
		text[i] = crockford[x&31]
	}
	return Value{string(append(text, typedCheck(text)))}
}

func typedCheck(text []byte) byte { return crockford[crc32.ChecksumIEEE(text)&31] }

// ReadTyped reads a typed secret of n characters, check included, as people
// write it: in either case, with spaces and hyphens, O for 0 and I or L for 1.
// Nothing else is forgiven. That it reads well says nothing about whether it is
// known.
func ReadTyped(s string, n int) (Value, error) {
	bad := problem.New(problem.Invalid, "code_malformed", "That code is incomplete or mistyped.").
		WithHint("Type all its letters and digits; hyphens and spaces don't matter.")
	if len(s) > 4*n {
		return Value{}, bad
	}
	text := make([]byte, 0, n)
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		switch c {
		case ' ', '-', '\t', '\r', '\n':
			continue
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if strings.IndexByte(crockford, c) < 0 {
			return Value{}, bad
		}
		text = append(text, c)
	}
	if len(text) != n || typedCheck(text[:n-1]) != text[n-1] {
		return Value{}, bad
	}
	return Value{string(text)}, nil
}

// Grouped reveals a typed secret for people: four characters and a hyphen, and
// so on. Call it only where the secret leaves for its owner.
func (v Value) Grouped() string {
	var b strings.Builder
	for i := range len(v.s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(v.s[i])
	}
	return b.String()
}
