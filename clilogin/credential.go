package clilogin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
)

// FormatVersion is the version of the credential file that this release
// writes. It reads this one and, for two years, those before it.
const FormatVersion = 1

// Credential is what one profile holds. It is written as JSON to a file that
// only its owner can read. Generation grows with each write; whoever finds a
// newer one than the one they worked from leaves it alone.
type Credential struct {
	Version    int    `json:"version"`
	Generation uint64 `json:"generation"`

	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	Subject  string `json:"subject,omitempty"`
	Name     string `json:"name,omitempty"`     // what the server calls the person, for people
	Username string `json:"username,omitempty"` // preferred_username
	IDToken  string `json:"id_token,omitempty"`

	Key          string   `json:"dpop_key"` // PKCS #8 in PEM
	RefreshToken string   `json:"refresh_token,omitempty"`
	Asked        []string `json:"asked_scope,omitempty"`    // what login asked for; empty: the server's default
	AskedFor     []string `json:"asked_resource,omitempty"` // likewise
	Scope        []string `json:"scope,omitempty"`          // every scope seen in a token of this grant

	ACR      string    `json:"acr,omitempty"`
	AMR      []string  `json:"amr,omitempty"`
	AuthTime time.Time `json:"auth_time,omitzero"`
	LoginAt  time.Time `json:"login_at"`

	Elevation *Elevation `json:"elevation,omitempty"`

	// EndedAt and EndedWhy are set once the server has said that the grant is
	// over: it is not asked again.
	EndedAt  time.Time `json:"ended_at,omitzero"`
	EndedWhy string    `json:"ended_why,omitempty"`

	Access []Token `json:"access,omitempty"`
}

// String implements fmt.Stringer without telling.
func (c *Credential) String() string {
	return fmt.Sprintf("credential %d of %s at %s", c.Generation, c.ClientID, c.Issuer)
}

// GoString implements fmt.GoStringer without telling.
func (c *Credential) GoString() string { return c.String() }

// LogValue implements slog.LogValuer without telling.
func (c *Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Elevation is the last step-up: what it was for, and until when a resource
// that asks the same again is content.
type Elevation struct {
	For   string    `json:"for"`
	Scope []string  `json:"scope,omitempty"`
	Until time.Time `json:"until,omitzero"` // zero: no age was asked for
}

// Token is an access token for one audience.
type Token struct {
	Audience  string    `json:"audience"`                  // as asked for; "" is the client's default
	Narrowed  []string  `json:"narrowed_scope,omitempty"`  // as asked for; empty: all that was granted
	Value     string    `json:"value"`                     // the secret
	Type      string    `json:"type"`                      // DPoP or Bearer
	Scope     []string  `json:"scope,omitempty"`           // as the server answered
	IssuedAt  time.Time `json:"issued_at"`                 // by our clock
	ExpiresAt time.Time `json:"expires_at"`                // by our clock
	ACR       string    `json:"acr,omitempty"`             // for display
	AuthTime  time.Time `json:"auth_time,omitzero"`        // for display
	Audiences []string  `json:"token_audiences,omitempty"` // for display: aud
}

// String implements fmt.Stringer without telling.
func (t Token) String() string {
	return "token for " + t.Audience + " until " + t.ExpiresAt.UTC().Format(time.RFC3339)
}

// GoString implements fmt.GoStringer without telling.
func (t Token) GoString() string { return t.String() }

// LogValue implements slog.LogValuer without telling.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// usable reports whether the token may still be sent: minTTL of life is left.
func (t Token) usable(now time.Time, minTTL time.Duration) bool {
	return t.Value != "" && now.Add(max(minTTL, sendMargin)).Before(t.ExpiresAt) && !t.IssuedAt.After(now.Add(clockSlack))
}

const (
	sendMargin = 5 * time.Second // a token is not sent when it ends sooner
	clockSlack = time.Minute     // a token issued later than this from now: the clock went back
)

// key is the DPoP key.
func (c *Credential) key() (*countersign.DPoPKey, error) {
	return countersign.ParseDPoPKey([]byte(c.Key))
}

// find is the token kept for an audience and a narrowed scope.
func (c *Credential) find(audience string, narrowed []string) (Token, bool) {
	for _, t := range c.Access {
		if t.Audience == audience && slices.Equal(t.Narrowed, narrowed) {
			return t, true
		}
	}
	return Token{}, false
}

// maxTokens bounds the tokens kept; the one that ends first makes room.
const maxTokens = 32

// keep stores a token in the place of the one for the same audience and scope,
// and drops those that have expired.
func (c *Credential) keep(t Token, now time.Time) {
	c.Access = slices.DeleteFunc(slices.Clone(c.Access), func(o Token) bool {
		return !o.usable(now, 0) || o.Audience == t.Audience && slices.Equal(o.Narrowed, t.Narrowed)
	})
	c.Access = append(c.Access, t)
	if len(c.Access) > maxTokens {
		slices.SortStableFunc(c.Access, func(a, b Token) int { return b.ExpiresAt.Compare(a.ExpiresAt) })
		c.Access = c.Access[:maxTokens]
	}
	if len(t.Narrowed) == 0 {
		c.Scope = union(c.Scope, t.Scope)
	}
}

// union is a then what b adds, without duplicates.
func union(a []string, more ...[]string) []string {
	out := slices.Clone(a)
	for _, b := range more {
		for _, s := range b {
			if s != "" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// encode writes the file's text.
func (c *Credential) encode() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("clilogin: credential: %w", err)
	}
	return append(text, '\n'), nil
}

var (
	errNewer = errors.New("the file is of a newer format")
	errTorn  = errors.New("the file is not whole")
)

// decode reads the file's text: errNewer, errTorn or a credential.
func decode(text []byte) (*Credential, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Version < 1 {
		return nil, errTorn
	}
	if head.Version > FormatVersion {
		return nil, errNewer
	}
	var c Credential
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.Issuer == "" || c.ClientID == "" || len(c.Key) == 0 || c.Generation == 0 {
		return nil, errTorn
	}
	if _, err := c.key(); err != nil {
		return nil, errTorn
	}
	return &c, nil
}

// shown is what tokens say of the sign-in, for display only: nothing is
// verified, because they came straight from the token endpoint, and nothing is
// decided by it.
type shown struct {
	Subject  string   `json:"sub"`
	Name     string   `json:"name"`
	Username string   `json:"preferred_username"`
	ACR      string   `json:"acr"`
	AMR      []string `json:"amr"`
	AuthTime int64    `json:"auth_time"`
	Aud      any      `json:"aud"`
}

func (s shown) authTime() time.Time {
	if s.AuthTime == 0 {
		return time.Time{}
	}
	return time.Unix(s.AuthTime, 0).UTC()
}

func (s shown) audiences() (out []string) {
	switch a := s.Aud.(type) {
	case string:
		return []string{a}
	case []any:
		for _, v := range a {
			if t, ok := v.(string); ok {
				out = append(out, t)
			}
		}
	}
	return out
}

func peekUnverified(jwt string) (s shown) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return s
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &s) != nil {
		return shown{}
	}
	return s
}
