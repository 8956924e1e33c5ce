package client

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

// The limits of a registration.
const (
	MaxName      = 80   // characters
	MaxRedirect  = 1024 // bytes of one redirect URI
	MaxRedirects = 50
	MaxScopes    = 200
	MaxResources = 200
	MaxJWKS      = 32 << 10 // bytes
)

func invalid(code, format string, args ...any) *problem.Error {
	return problem.Newf(problem.Invalid, code, format, args...)
}

// Check says whether a client may be registered as it stands: every member by
// itself, and all of them together. It knows nothing of other clients. Errors
// are problem.Invalid.
func Check(c Client) error {
	if err := CheckClientID(c.ClientID); err != nil {
		return err
	}
	if err := checkName(c.Name); err != nil {
		return err
	}
	for _, step := range []func(Client) error{checkGrants, checkAuth, checkCertificate, checkRedirects, checkOpenID, checkDevice, checkBackchannel, checkProfile} {
		if err := step(c); err != nil {
			return err
		}
	}
	if len(c.Scopes) > MaxScopes || len(c.Resources) > MaxResources {
		return invalid("client_too_large", "A client has at most %d scopes and %d resources.", MaxScopes, MaxResources)
	}
	for i, s := range c.Scopes {
		if !ScopeToken(s) || slices.Contains(c.Scopes[:i], s) {
			return invalid("scope_invalid", "The scope %.80q is not a scope (RFC 6749 section 3.3), or is named twice.", s)
		}
	}
	for i, r := range c.Resources {
		if r == "" || slices.Contains(c.Resources[:i], r) {
			return invalid("resources_invalid", "A resource is named twice, or has no name.")
		}
	}
	return nil
}

// CheckClientID reads a client_id: 3 to 64 unreserved characters (RFC 3986), of
// which the first is a letter or digit, so that it needs no escape in Basic
// authentication, a URL or a log.
func CheckClientID(s string) error {
	ok := len(s) >= 3 && len(s) <= 64
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte("-._~", c) >= 0)
	}
	if !ok {
		return invalid("client_id_invalid", "A client_id has 3 to 64 characters: letters, digits and - . _ ~")
	}
	return nil
}

func checkName(s string) error {
	if strings.TrimSpace(s) != s || s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxName || strings.ContainsFunc(s, hidden) {
		return invalid("name_invalid", "A name has 1 to %d characters, no control characters and no space at its ends.", MaxName)
	}
	return nil
}

// hidden are characters that change how others are shown, or show nothing: a
// name must not be able to pass for another one.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == '\u200b'
}

// ScopeToken reports whether s is one scope-token (RFC 6749 section 3.3) of at
// most 128 bytes.
func ScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

func checkGrants(c Client) error {
	if len(c.GrantTypes) == 0 {
		return invalid("grant_types_invalid", "A client needs at least one grant type.")
	}
	for i, g := range c.GrantTypes {
		switch g {
		case AuthorizationCode, RefreshToken, ClientCredentials, TokenExchange, JWTBearer, DeviceCode, CIBA:
		default:
			return invalid("grant_types_invalid", "There is no grant type %.60q here.", g)
		}
		if slices.Contains(c.GrantTypes[:i], g) {
			return invalid("grant_types_invalid", "The grant type %s is named twice.", g)
		}
	}
	switch {
	case c.Allows(RefreshToken) && !c.Allows(AuthorizationCode) && !c.Allows(DeviceCode) && !c.Allows(CIBA):
		return invalid("grant_types_invalid", "refresh_token goes with authorization_code, device_code or ciba: nothing else gives a refresh token.")
	case c.Allows(ClientCredentials) && c.Service == "":
		return invalid("service_missing", "A client with client_credentials acts as a service: say which.")
	case c.Allows(JWTBearer) && !c.Confidential():
		return invalid("auth_method_invalid", "A client that presents assertions has to authenticate: choose another auth_method than none.")
	case c.Allows(CIBA) && !c.Confidential():
		return invalid("auth_method_invalid", "A client that asks people by backchannel authentication has to authenticate: choose another auth_method than none.")
	case c.Allows(TokenExchange) && c.Service == "":
		return invalid("service_missing", "A client with token exchange acts as a service, which tokens name as the actor: say which.")
	case c.Service != "" && !c.Allows(ClientCredentials):
		return invalid("grant_types_invalid", "A client with a service needs the grant type client_credentials.")
	case c.Allows(ClientCredentials) && !c.Confidential():
		return invalid("auth_method_invalid", "A client with client_credentials has to authenticate: choose another auth_method than none.")
	}
	return nil
}

func checkAuth(c Client) error {
	secret := false
	switch c.AuthMethod {
	case AuthNone, AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS:
	case AuthSecretBasic, AuthSecretPost:
		secret = true
	default:
		return invalid("auth_method_invalid", "There is no auth_method %.60q here.", c.AuthMethod)
	}
	if secret != (c.SecretHash != nil) {
		return invalid("auth_method_invalid", "Only a client that authenticates with a secret has one.")
	}
	return checkKeys(c)
}

// CheckJWKS says whether a key set can verify a client's assertions: at least
// one usable public signature key, none that is unusable, and no private parts.
func CheckJWKS(data json.RawMessage) error {
	if len(data) > MaxJWKS {
		return invalid("jwks_invalid", "A JWK set has at most %d bytes.", MaxJWKS)
	}
	set, err := jose.ParseJWKSet(data)
	if err != nil {
		return err
	}
	var raw struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return invalid("jwks_invalid", "That is not a JWK set.").Because(err)
	}
	for _, k := range raw.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := k[private]; ok {
				return invalid("jwks_private", "The key set holds a private key. Make a new key: this one was told.")
			}
		}
	}
	if len(set.Keys) == 0 || len(set.Keys) != len(raw.Keys) {
		return invalid("jwks_invalid", "The key set holds a key that cannot be used here, or none: public EC, Ed25519 or RSA signature keys are.")
	}
	return nil
}

func checkRedirects(c Client) error {
	switch {
	case c.Allows(AuthorizationCode) && len(c.RedirectURIs) == 0:
		return invalid("redirect_missing", "A client with authorization_code needs a redirect URI.")
	case !c.Allows(AuthorizationCode) && len(c.RedirectURIs) > 0:
		return invalid("redirect_unused", "A client without authorization_code is never redirected to: leave its redirect URIs out.")
	case len(c.RedirectURIs) > MaxRedirects:
		return invalid("client_too_large", "A client has at most %d redirect URIs.", MaxRedirects)
	}
	for i, u := range c.RedirectURIs {
		if err := CheckRedirect(u, c.Native); err != nil {
			return err
		}
		if slices.Contains(c.RedirectURIs[:i], u) {
			return invalid("redirect_invalid", "The redirect URI %s is named twice.", u)
		}
	}
	return nil
}

// knownSchemes are private-use schemes of real clients that are not a reversed
// domain name, as they should be (RFC 8252 section 7.1).
var knownSchemes = []string{"cursor", "vscode", "vscode-insiders"}

// NativeRedirect reports whether a redirect URI is one of an app on a computer:
// http on a loopback address, or a private-use scheme (RFC 8252 section 7).
func NativeRedirect(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	return ok && scheme != "https" && scheme != ""
}

// CheckRedirect says whether a redirect URI may be registered. It reads it by
// hand and accepts only what every parser reads alike, because requests are
// compared with it byte by byte: https to a plain host; for native clients also
// http to a loopback address (any port, or * for one) and private-use schemes.
// Nothing is normalised. Errors are problem.Invalid with codes redirect_*.
func CheckRedirect(uri string, native bool) error {
	bad := func(why string) error {
		return invalid("redirect_invalid", "%.200q cannot be a redirect URI: %s.", uri, why)
	}
	if uri == "" || len(uri) > MaxRedirect {
		return bad("it has 1 to 1024 bytes")
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return bad("it holds a character that has to be escaped")
		}
	}
	if strings.Contains(uri, "#") {
		return bad("it has a fragment")
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !schemeName(scheme) {
		return bad("it has no scheme in lower case")
	}
	private := scheme != "https" && scheme != "http"
	if private {
		if !strings.Contains(scheme, ".") && !slices.Contains(knownSchemes, scheme) {
			return invalid("redirect_scheme", "%.60q is no scheme for a redirect URI: use https, or a reversed domain name such as com.example.app.", scheme)
		}
		if !native {
			return bad("only a native client has a scheme of its own")
		}
	}
	authority, path, query, hier := split(rest)
	switch {
	case !hier && !private:
		return bad("it has no host")
	case strings.Contains(authority, "@"):
		return bad("it names a user")
	case scheme == "https" && !plainHost(authority, false):
		return bad("its host is not plain lower-case letters, digits, dots and hyphens, or its port not a number")
	case scheme == "http" && !plainHost(authority, true):
		return bad("http is for loopback addresses: localhost, 127.0.0.1 and [::1]")
	case scheme == "http" && !native:
		return bad("only a native client is on a loopback address")
	case private && hier && authority != "" && !plainName(authority):
		return bad("its host is not plain lower-case letters, digits, dots and hyphens")
	}
	if why := checkPath(path); why != "" {
		return bad(why)
	}
	if why := checkQuery(query); why != "" {
		return bad(why)
	}
	if strings.HasSuffix(authority, ":*") {
		return nil // the wildcard is ours, no parser's
	}
	if u, err := url.Parse(uri); err != nil || u.Scheme != scheme || hier && u.Host != authority || u.User != nil {
		return bad("parsers do not agree about it")
	}
	return nil
}

func schemeName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || strings.IndexByte("+-.", c) >= 0)) {
			return false
		}
	}
	return s != ""
}

// split parts what follows the scheme; hier says that there is an authority.
func split(rest string) (authority, path, query string, hier bool) {
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		rest, hier = after, true
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			return rest, "", "", true
		}
		authority, rest = rest[:end], rest[end:]
	}
	path, query, _ = strings.Cut(rest, "?")
	return authority, path, query, hier
}

// plainHost reads host[:port]; loopback: one of the three, and the port may be *.
func plainHost(s string, loopback bool) bool {
	host, port, has := s, "", false
	if end := strings.LastIndexByte(s, ':'); end >= 0 && !strings.HasSuffix(s, "]") {
		host, port, has = s[:end], s[end+1:], true
	}
	if has && !(loopback && port == "*") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return false
		}
	}
	if loopback {
		return host == "localhost" || host == "127.0.0.1" || host == "[::1]"
	}
	return plainName(host)
}

// plainName reads a host name of letters, digits, hyphens and dots.
func plainName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// checkPath refuses what one server reads as another path than the next: dot
// segments in any spelling, wildcards, and escapes of what need not be escaped
// or must not be there.
func checkPath(path string) string {
	if strings.ContainsAny(path, "*") {
		return "it has a wildcard"
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		b, ok := escaped(path[i:])
		if !ok || b <= ' ' || b == 0x7f || strings.IndexByte("./\\;?#@*%", b) >= 0 {
			return "it has an escape that hides a separator, a dot or a control character"
		}
		i += 2
	}
	for segment := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return "it has a dot segment"
		}
	}
	return ""
}

// escaped reads the escape that s begins with.
func escaped(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:3], 16, 8)
	return byte(n), err == nil
}

// responseParameters are what the answer adds to the query: registered there,
// the client would be sent two of them.
var responseParameters = []string{"code", "state", "iss", "error", "error_description", "error_uri", "id_token", "access_token", "token_type", "response", "session_state"}

func checkQuery(query string) string {
	if query == "" {
		return ""
	}
	if strings.ContainsAny(query, ";*") {
		return "its query has a semicolon or a wildcard"
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "its query has a broken escape"
	}
	for name, v := range values {
		if slices.Contains(responseParameters, strings.ToLower(name)) {
			return "its query holds a parameter of the answer"
		}
		if len(v) > 1 {
			return "its query holds a parameter twice"
		}
		for _, s := range append(v, name) {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				return "its query holds a control character or invalid UTF-8"
			}
		}
	}
	return ""
}
