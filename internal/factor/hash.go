package factor

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
)

// What new passwords are hashed with: argon2id with 19 MiB, two passes, one lane
// (RFC 9106; about 30 ms), 16 bytes of salt and 32 of hash. What is stored is
// sealed under the key-encryption key beside that, so that a copy of the
// database alone is worth no guess.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	saltSize    = 16
	hashSize    = 32
)

// Hash is a password's hash in a form that says how it was made. New ones are
// argon2id; those of other systems are verified and then made anew.
type Hash struct {
	scheme string // argon2id, argon2i, bcrypt, scrypt, pbkdf2-sha1, …-sha256, …-sha512
	cost   [3]int // argon2: KiB, passes, lanes. scrypt: log2 N, r, p. pbkdf2: iterations
	salt   []byte
	sum    []byte
	text   string // bcrypt as it stands
}

var errHash = errors.New("factor: not a password hash of a kind that is known here")

// b64 is what PHC strings are written in; strict, so that a hash has one text.
var b64 = base64.RawStdEncoding.Strict()

// newHash hashes a password with a new salt.
func newHash(password []byte) Hash {
	h := Hash{scheme: "argon2id", cost: [3]int{argonMemory, argonPasses, argonLanes}, salt: make([]byte, saltSize)}
	rand.Read(h.salt)
	h.sum = h.derive(password, hashSize)
	return h
}

// ParseHash reads a hash in PHC string form ($argon2id$v=19$m=…,t=…,p=…$salt$hash,
// $scrypt$ln=…,r=…,p=…$…, $pbkdf2-sha256$i=…$…, also as passlib writes them) or
// as bcrypt writes it ($2a$, $2b$, $2y$). It is strict: every part in its place,
// no leading zeros, base64 without padding and canonical, costs within what a
// sign-in may take.
func ParseHash(s string) (Hash, error) {
	if len(s) > 512 || strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return Hash{}, errHash
	}
	if strings.HasPrefix(s, "$2") {
		return parseBcrypt(s)
	}
	p := strings.Split(s, "$")
	switch {
	case len(p) == 6 && p[0] == "" && (p[1] == "argon2id" || p[1] == "argon2i") && p[2] == "v=19":
		return parsePHC(p[1], p[3], p[4], p[5], []string{"m", "t", "p"}, func(c [3]int) bool {
			return c[0] >= 8*c[2] && c[0] <= 128<<10 && c[1] >= 1 && c[1] <= 16 && c[2] >= 1 && c[2] <= 16 && c[0]*c[1] <= 1<<20
		})
	case len(p) == 5 && p[0] == "" && p[1] == "scrypt":
		return parsePHC(p[1], p[2], p[3], p[4], []string{"ln", "r", "p"}, func(c [3]int) bool {
			return c[0] >= 10 && c[0] <= 18 && c[1] >= 1 && c[1] <= 32 && c[2] >= 1 && c[2] <= 8 && (c[1]*c[2])<<c[0] <= 1<<20
		})
	case len(p) == 5 && p[0] == "" && newPBKDF2[p[1]] != nil:
		params := p[2]
		if params != "" && params[0] != 'i' { // passlib writes the number alone, and . for +
			params, p[3], p[4] = "i="+params, strings.ReplaceAll(p[3], ".", "+"), strings.ReplaceAll(p[4], ".", "+")
		}
		return parsePHC(p[1], params, p[3], p[4], []string{"i"}, func(c [3]int) bool { return c[0] >= 1000 && c[0] <= 5_000_000 })
	}
	return Hash{}, errHash
}

var newPBKDF2 = map[string]func() hash.Hash{"pbkdf2-sha1": sha1.New, "pbkdf2-sha256": sha256.New, "pbkdf2-sha512": sha512.New}

func parsePHC(scheme, params, salt, sum string, names []string, sane func([3]int) bool) (Hash, error) {
	h := Hash{scheme: scheme}
	given := strings.Split(params, ",")
	if len(given) != len(names) {
		return Hash{}, errHash
	}
	for i, name := range names {
		v, ok := strings.CutPrefix(given[i], name+"=")
		n, err := strconv.Atoi(v)
		if !ok || err != nil || strconv.Itoa(n) != v || n < 0 || n > 1<<24 {
			return Hash{}, errHash
		}
		h.cost[i] = n
	}
	var err1, err2 error
	h.salt, err1 = b64.DecodeString(salt)
	h.sum, err2 = b64.DecodeString(sum)
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 || !sane(h.cost) {
		return Hash{}, errHash
	}
	return h, nil
}

func parseBcrypt(s string) (Hash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	if err != nil || len(s) != 60 || cost > 15 || s[3] != '$' || s[6] != '$' || !strings.ContainsRune("aby", rune(s[2])) {
		return Hash{}, errHash
	}
	for _, c := range []byte(s[7:]) {
		if !strings.ContainsRune("./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", rune(c)) {
			return Hash{}, errHash
		}
	}
	return Hash{scheme: "bcrypt", cost: [3]int{cost}, text: s}, nil
}

// String is the hash as ParseHash reads it.
func (h Hash) String() string {
	tail := b64.EncodeToString(h.salt) + "$" + b64.EncodeToString(h.sum)
	switch {
	case h.scheme == "bcrypt":
		return h.text
	case strings.HasPrefix(h.scheme, "argon2"):
		return fmt.Sprintf("$%s$v=19$m=%d,t=%d,p=%d$%s", h.scheme, h.cost[0], h.cost[1], h.cost[2], tail)
	case h.scheme == "scrypt":
		return fmt.Sprintf("$scrypt$ln=%d,r=%d,p=%d$%s", h.cost[0], h.cost[1], h.cost[2], tail)
	}
	return fmt.Sprintf("$%s$i=%d$%s", h.scheme, h.cost[0], tail)
}

// Ours reports whether the hash is one that this release makes.
func (h Hash) Ours() bool {
	return h.scheme == "argon2id" && h.cost == [3]int{argonMemory, argonPasses, argonLanes} && len(h.salt) == saltSize && len(h.sum) == hashSize
}

// matches reports whether the password has this hash.
func (h Hash) matches(password []byte) bool {
	if h.scheme == "bcrypt" {
		text := []byte(h.text)
		text[2] = 'a' // b and y name the same algorithm, without faults that Go never had
		return bcrypt.CompareHashAndPassword(text, bcryptInput(password)) == nil
	}
	sum := h.derive(password, len(h.sum))
	return sum != nil && subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// bcryptInput is as much of a password as bcrypt ever looked at.
func bcryptInput(password []byte) []byte {
	return bytes.Clone(password[:min(len(password), 72)])
}

func (h Hash) derive(password []byte, size int) []byte {
	switch h.scheme {
	case "argon2id":
		return argon2.IDKey(password, h.salt, uint32(h.cost[1]), uint32(h.cost[0]), uint8(h.cost[2]), uint32(size))
	case "argon2i":
		return argon2.Key(password, h.salt, uint32(h.cost[1]), uint32(h.cost[0]), uint8(h.cost[2]), uint32(size))
	case "scrypt":
		sum, err := scrypt.Key(password, h.salt, 1<<h.cost[0], h.cost[1], h.cost[2], size)
		if err != nil {
			return nil
		}
		return sum
	}
	if f := newPBKDF2[h.scheme]; f != nil {
		sum, err := pbkdf2.Key(f, string(password), h.salt, h.cost[0], size)
		if err != nil {
			return nil
		}
		return sum
	}
	return nil
}
