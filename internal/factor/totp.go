package factor

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"rsc.io/qr"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

// What authenticator apps understand (RFC 6238): six digits of HMAC-SHA-1 every
// 30 seconds, from a seed of 160 bits.
const (
	codeDigits = 6
	codePeriod = 30 * time.Second
	seedSize   = 20
)

// codeSkew is how many steps before and after now a code may be of.
const codeSkew = 1

// Seed is what an authenticator app and the server share. It redacts itself.
type Seed struct{ b []byte }

// NewSeed makes one.
func NewSeed() Seed {
	s := Seed{make([]byte, seedSize)}
	rand.Read(s.b)
	return s
}

// SeedOf takes the bytes of a seed; anything but a whole one is no seed.
func SeedOf(b []byte) (Seed, bool) { return Seed{b}, len(b) == seedSize }

// Bytes are the seed's bytes, for sealing.
func (s Seed) Bytes() []byte { return s.b }

// String implements fmt.Stringer without telling.
func (Seed) String() string { return "[seed]" }

// GoString implements fmt.GoStringer without telling.
func (Seed) GoString() string { return "[seed]" }

// Text is the seed as somebody types it into an app: base32 in groups of four.
func (s Seed) Text() string {
	t := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s.b)
	var out []string
	for ; len(t) > 4; t = t[4:] {
		out = append(out, t[:4])
	}
	return strings.Join(append(out, t), " ")
}

// URI is the seed as an app scans it (otpauth, as Google Authenticator's key URI
// format says).
func (s Seed) URI(issuer, account string) string {
	q := url.Values{}
	q.Set("secret", strings.ReplaceAll(s.Text(), " ", ""))
	q.Set("issuer", issuer)
	return "otpauth://totp/" + url.PathEscape(issuer+":"+account) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// Picture is text as a QR code for an SVG: path data of unit squares, and the
// width, with the quiet zone of four that readers need.
func Picture(text string) (path string, width int, err error) {
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", 0, err
	}
	const quiet = 4
	var b strings.Builder
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			run := 0
			for x+run < c.Size && c.Black(x+run, y) {
				run++
			}
			if run > 0 {
				b.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h" + strconv.Itoa(run) + "v1h-" + strconv.Itoa(run) + "z")
				x += run
			}
		}
	}
	return b.String(), c.Size + 2*quiet, nil
}

// stepOf is the number of the step at a time.
func stepOf(now time.Time) int64 { return now.Unix() / int64(codePeriod/time.Second) }

// code is the code of a step.
func (s Seed) code(step int64) (string, error) {
	return hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(s.b), uint64(step), hotp.ValidateOpts{Digits: codeDigits, Algorithm: otp.AlgorithmSHA1})
}

// match gives the step that a code is of; ok is false for one that is of none of
// the three around now. Exactly six ASCII digits are a code: nothing is trimmed,
// and a digit of another script is none.
func (s Seed) match(typed string, now time.Time) (step int64, ok bool, err error) {
	var given [codeDigits]byte
	good := len(typed) == codeDigits
	for i := range given {
		if i < len(typed) && '0' <= typed[i] && typed[i] <= '9' {
			given[i] = typed[i]
		} else {
			good = false
		}
	}
	for d := int64(-codeSkew); d <= codeSkew; d++ {
		want, err := s.code(stepOf(now) + d)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), given[:]) == 1 && good {
			step, ok = stepOf(now)+d, true
		}
	}
	return step, ok, nil
}

// Codes makes and verifies the factors of authenticator apps.
type Codes struct{ sealer Sealer }

// NewCodes makes them.
func NewCodes(sealer Sealer) *Codes { return &Codes{sealer} }

// errCode is the one answer to a code that is not accepted and was not used.
var errCode = problem.New(problem.Unauthenticated, "code_wrong", "Wrong code.").
	WithHint("Enter the one that the app shows now: six digits, without a space. The clock of the device must be right.")

// New makes the factor of an app that was given the seed, if the code is one that
// it shows now: so it works before it counts. The code is used by that.
func (c *Codes) New(person, name string, s Seed, typed string, now time.Time) (Secret, error) {
	step, ok, err := s.match(typed, now)
	if err != nil {
		return Secret{}, err
	}
	if !ok {
		return Secret{}, errCode
	}
	v := Secret{Factor: Factor{ID: id.New(id.Credential), Person: person, Kind: KindTOTP, Name: name, CreatedAt: now, UsedAt: now}, Step: step}
	v.Sealed, err = c.sealer.Seal(s.b, SecretData(v.ID, KindTOTP))
	return v, err
}

// Verify finds which of somebody's apps shows a code now, and gives the use that
// the act must carry: whether its step is still to be had is decided there. With
// no app at all it does the same work and refuses.
func (c *Codes) Verify(all []Secret, typed string, now time.Time) (Secret, Used, error) {
	var found Secret
	var use Used
	if len(all) == 0 {
		_, _, err := NewSeed().match(typed, now)
		if err != nil {
			return Secret{}, Used{}, err
		}
	}
	for _, v := range all {
		plain, err := c.sealer.Open(v.Sealed, SecretData(v.ID, KindTOTP))
		if err != nil {
			return Secret{}, Used{}, err
		}
		step, ok, err := Seed{plain}.match(typed, now)
		if err != nil {
			return Secret{}, Used{}, err
		}
		if ok && use.ID == "" {
			found, use = v, Used{ID: v.ID, Kind: KindTOTP, Step: step, At: now}
		}
	}
	switch {
	case use.ID == "":
		return Secret{}, Used{}, errCode
	case use.Step <= found.Step:
		return Secret{}, Used{}, UsedCode
	}
	return found, use, nil
}

// UsedCode is the answer to a code that was right and was used before.
var UsedCode = problem.New(problem.Conflict, "code_used", "That code was already used.").
	WithHint("Enter the next one: the app shows it within half a minute.")
