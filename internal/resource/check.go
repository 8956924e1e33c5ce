package resource

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

// The limits of a registration.
const (
	MaxURI     = 512 // bytes
	MaxScopes  = 200
	MaxServers = 50
)

// The kinds of scope, by what consent says of them.
const (
	KindRead   = "read"
	KindChange = "change"
	KindSpend  = "spend"
	KindAdmin  = "admin"
)

// identity are the scopes that belong to the authorization server itself
// (OpenID Connect Core section 5.4): a resource's must not pass for them.
var identity = []string{"openid", "profile", "email", "address", "phone", "offline_access"}

// Identity reports whether a scope belongs to the authorization server itself.
func Identity(scope string) bool { return slices.Contains(identity, scope) }

func invalid(code, format string, args ...any) *problem.Error {
	return problem.Newf(problem.Invalid, code, format, args...)
}

// Check says whether a resource may be registered as it stands. It knows nothing
// of other resources, groups or clients. Errors are problem.Invalid.
func Check(r Resource) error {
	if err := CheckURI(r.URI); err != nil {
		return err
	}
	if !shown(r.Name, 80) || r.Name == "" {
		return invalid("name_invalid", "A name has 1 to 80 characters, no control characters and no space at its ends.")
	}
	if len(r.Scopes) > MaxScopes || len(r.Servers) > MaxServers {
		return invalid("resource_too_large", "A resource has at most %d scopes and %d servers.", MaxScopes, MaxServers)
	}
	for i, s := range r.Scopes {
		if slices.ContainsFunc(r.Scopes[:i], func(o Scope) bool { return o.Name == s.Name }) {
			return invalid("scope_invalid", "The scope %s is defined twice.", s.Name)
		}
		if err := checkScope(s); err != nil {
			return err
		}
	}
	if err := checkDetails(r.DetailsTypes); err != nil {
		return err
	}
	for i, s := range r.Servers {
		if s == "" || slices.Contains(r.Servers[:i], s) {
			return invalid("servers_invalid", "A server is named twice, or has no name.")
		}
	}
	return nil
}

// CheckURI reads a resource identifier (RFC 8707): https, http on a loopback
// address, or another scheme of one's own; absolute, without user, query or
// fragment, and nothing that has to be escaped.
func CheckURI(uri string) error {
	bad := func(why string) error {
		return invalid("uri_invalid", "%.200q cannot be a resource identifier: %s (RFC 8707).", uri, why)
	}
	if uri == "" || len(uri) > MaxURI {
		return bad("it has 1 to 512 bytes")
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}*", c) >= 0 {
			return bad("it holds a character that has to be escaped")
		}
	}
	if strings.ContainsAny(uri, "#?@") {
		return bad("it has a query, a fragment or a user")
	}
	if _, err := Canonical(uri); err != nil {
		return bad("it is not an absolute URI")
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	switch strings.ToLower(scheme) {
	case "https":
	case "http":
		host, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		if end := strings.LastIndexByte(host, ':'); end >= 0 && !strings.HasSuffix(host, "]") {
			host = host[:end]
		}
		if host = strings.ToLower(host); host != "localhost" && host != "127.0.0.1" && host != "[::1]" {
			return bad("http is for loopback addresses")
		}
	case "javascript", "data", "file", "blob", "vbscript", "about", "ws", "wss", "ftp":
		return bad("that scheme names no resource")
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "." || segment == ".." {
			return bad("it has a dot segment")
		}
	}
	return nil
}

func checkScope(s Scope) error {
	switch {
	case !token(s.Name):
		return invalid("scope_invalid", "%.80q is not a scope (RFC 6749 section 3.3).", s.Name)
	case Identity(s.Name) || s.Name == "*":
		return invalid("scope_invalid", "The scope %s has a meaning of its own.", s.Name)
	case !shown(s.Description, 200):
		return invalid("scope_invalid", "The description of %s has at most 200 characters and no control characters.", s.Name)
	case !slices.Contains([]string{KindRead, KindChange, KindSpend, KindAdmin}, s.Kind):
		return invalid("scope_invalid", "The kind of %s is read, change, spend or admin.", s.Name)
	case len(s.Groups) > 20:
		return invalid("scope_invalid", "The scope %s has at most 20 groups.", s.Name)
	}
	return checkAsk(s)
}

func checkAsk(s Scope) error {
	a := s.Ask
	switch {
	case a.Rung < assurance.None || a.Rung > assurance.Hardware:
		return invalid("ask_invalid", "The scope %s asks for a rung that is not on the ladder.", s.Name)
	case a.MaxAge != 0 && (a.MaxAge < assurance.MinChallengeAge || a.MaxAge > 365*24*time.Hour || a.MaxAge%time.Second != 0):
		return invalid("ask_invalid", "The max_age of %s is at least 60 seconds and at most a year.", s.Name)
	case a.Approval != assurance.Approval{} || a.Device != assurance.AnyDevice:
		return invalid("ask_invalid", "The scope %s asks for something that this release cannot give.", s.Name)
	}
	return nil
}

// token reports whether s is one scope-token of at most 128 bytes.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// shown reports whether s can be shown to people as it is.
func shown(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
}
