package grant

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DeviceLifetime is how long a device authorization waits for a person: short,
// because who has a code for long can send it to many (RFC 10027).
const DeviceLifetime = 5 * time.Minute

// DeviceGrace is how much longer the device may fetch an answer that came at the
// last moment.
const DeviceGrace = time.Minute

// DeviceInterval is how long a device waits between two polls at least; each one
// that comes too early makes it SlowDown longer, for good (RFC 8628 §3.5).
const (
	DeviceInterval = 5 * time.Second
	SlowDown       = 5 * time.Second
)

// Decoupled is what a client asks that waits elsewhere than the person is.
type Decoupled struct {
	Client    string        `json:"client"` // cli_…
	JKT       string        `json:"dpop_jkt,omitempty"`
	Resources []string      `json:"resources"`
	Scopes    []string      `json:"scopes"`
	Explicit  bool          `json:"explicit,omitempty"`
	ACRValues []string      `json:"acr_values,omitempty"`
	MaxAge    time.Duration `json:"max_age,omitempty"`
	Claims    ClaimsAsked   `json:"claims,omitzero"`
	Subject   string        `json:"subject,omitempty"` // asked for: nobody else is answered about
	Address   string        `json:"address,omitempty"` // where it asked from; "" if unknown
	Started   time.Time     `json:"started"`
	Until     time.Time     `json:"until"` // a person can answer before
}

// Device is a device authorization request (RFC 8628 §3.1) waiting for a person:
// the data of a once.DeviceCode value.
type Device struct {
	Decoupled
	UserCode string `json:"user_code"`
	Host     string `json:"host,omitempty"` // what the device calls itself: its own words
}

// Opened is a device authorization that somebody entered the code of: the data of
// a once.DeviceOpened value. Nobody else can answer it any more.
type Opened struct {
	Person  string `json:"person"`
	Session string `json:"session"`
	Confirm string `json:"confirm"` // six digits: what the device is told to show
}

// Answered is what came of a request that a person was asked about: the data of a
// once.DeviceAnswer or once.BackchannelAnswer value.
type Answered struct {
	Denied bool `json:"denied,omitempty"`
	Code   Code `json:"code,omitzero"`
}

// userAlphabet has no vowels and nothing that is taken for something else: 24
// signs, so that eight of them are 36 bits (RFC 8628 §6.1).
const userAlphabet = "2346789BCDFGHJKMPQRTVWXY"

const userCodeLength = 8

// NewUserCode makes the code that a person types, as it is compared: without the
// hyphen it is shown with.
func NewUserCode() string {
	return draw(userAlphabet, userCodeLength)
}

// NewConfirm makes the digits that a device shows and a browser is told.
func NewConfirm() string { return draw("0123456789", 6) }

// draw picks n signs, each as likely as any other.
func draw(of string, n int) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(of)
	var b [32]byte
	for len(out) < n {
		rand.Read(b[:])
		for _, c := range b {
			if int(c) < limit && len(out) < n {
				out = append(out, of[int(c)%len(of)])
			}
		}
	}
	return string(out)
}

// ReadUserCode reads what somebody typed, in either case and with any hyphens
// and spaces (RFC 8628 §6.1); ok is false if it cannot be one.
func ReadUserCode(typed string) (code string, ok bool) {
	if len(typed) > 64 {
		return "", false
	}
	read := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\u00a0' || r >= '\u2010' && r <= '\u2015' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	if len(read) != userCodeLength || strings.Trim(read, userAlphabet) != "" {
		return "", false
	}
	return read, true
}

// ShowUserCode is a code as people read it: 7Q4K-M2PX.
func ShowUserCode(code string) string {
	if len(code) != userCodeLength {
		return code
	}
	return code[:4] + "-" + code[4:]
}

// Elsewhere reports whether a device asked from another network than a browser
// is on. What is not known is elsewhere. It is stricter than what a rotation is
// judged by: an address of the other version could be anybody's, and so could a
// loopback one: behind a proxy that nobody configured, everybody has it.
func Elsewhere(device string, browser netip.Addr) bool {
	a, err := netip.ParseAddr(device)
	return err != nil || !placed(a) || !placed(browser) || NetworkOf(a) != NetworkOf(browser)
}

// Placed reports whether an address, as text, says on which network somebody is.
func Placed(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && placed(a)
}

func placed(a netip.Addr) bool { return a.IsValid() && !a.Unmap().IsLoopback() }

// Widen adds what somebody was shown, and allowed, to what they agreed to before.
func (c *Consent) Widen(p Pending) {
	var shown []string // what is for others was not, and is not agreed to
	for _, sc := range p.Scopes {
		shown = append(shown, Agreed(sc.At, sc.Name))
	}
	c.Resources, c.Scopes = union(c.Resources, p.Resources), union(c.Scopes, shown)
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
