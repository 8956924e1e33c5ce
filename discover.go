package countersign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Metadata is what an authorization server says of itself (RFC 8414).
type Metadata struct {
	Issuer                        string   `json:"issuer"`
	AuthorizationEndpoint         string   `json:"authorization_endpoint"`
	TokenEndpoint                 string   `json:"token_endpoint"`
	JWKSURI                       string   `json:"jwks_uri"`
	UserinfoEndpoint              string   `json:"userinfo_endpoint,omitempty"`
	IntrospectionEndpoint         string   `json:"introspection_endpoint,omitempty"`
	RevocationEndpoint            string   `json:"revocation_endpoint,omitempty"`
	EndSessionEndpoint            string   `json:"end_session_endpoint,omitempty"`
	DeviceAuthorizationEndpoint   string   `json:"device_authorization_endpoint,omitempty"` // RFC 8628
	ScopesSupported               []string `json:"scopes_supported,omitempty"`
	ACRValuesSupported            []string `json:"acr_values_supported,omitempty"`
	CodeChallengeMethodsSupported []string `json:"code_challenge_methods_supported,omitempty"`
	// IssParameterSupported: authorization responses carry iss (RFC 9207); a
	// client that sees true refuses a response without it.
	IssParameterSupported bool `json:"authorization_response_iss_parameter_supported,omitempty"`
}

// maxDocument is the most that is read of any answer that is not a stream.
const maxDocument = 1 << 20

// defaultTimeout bounds a request to the authorization server.
const defaultTimeout = 10 * time.Second

// Discover reads the metadata of issuer: an https origin, or http on loopback.
// The document must name exactly that issuer, byte for byte (RFC 8414 section
// 3.3), and endpoints as safe as it. hc may be nil; redirects are never
// followed.
func Discover(ctx context.Context, issuer string, hc *http.Client) (*Metadata, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || !safeURL(u) {
		return nil, fmt.Errorf("countersign: issuer %q is neither https nor http on loopback", issuer)
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	well := u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, well, nil)
	if err != nil {
		return nil, fmt.Errorf("countersign: discovery: %w", err)
	}
	var m Metadata
	if _, err := doJSON(plainClient(hc), req, &m); err != nil {
		return nil, fmt.Errorf("countersign: discovery of %s: %w", issuer, err)
	}
	if m.Issuer != issuer {
		return nil, fmt.Errorf("countersign: discovery of %s: the document is of issuer %q", issuer, m.Issuer)
	}
	for name, ep := range map[string]string{
		"token_endpoint": m.TokenEndpoint, "jwks_uri": m.JWKSURI, "authorization_endpoint": m.AuthorizationEndpoint,
		"introspection_endpoint": m.IntrospectionEndpoint, "revocation_endpoint": m.RevocationEndpoint,
		"userinfo_endpoint": m.UserinfoEndpoint, "end_session_endpoint": m.EndSessionEndpoint,
		"device_authorization_endpoint": m.DeviceAuthorizationEndpoint,
	} {
		if ep == "" && name != "token_endpoint" && name != "jwks_uri" {
			continue
		}
		e, err := url.Parse(ep)
		if err != nil || !e.IsAbs() || e.Fragment != "" || !safeURL(e) {
			return nil, fmt.Errorf("countersign: discovery of %s: %s is not usable", issuer, name)
		}
	}
	return &m, nil
}

// safeURL reports whether tokens may be sent there: https, or http on loopback.
func safeURL(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return u.Host != ""
	case "http":
		h := u.Hostname()
		ip := net.ParseIP(h)
		return h == "localhost" || ip != nil && ip.IsLoopback()
	}
	return false
}

// plainClient is hc without redirects; credentials must not follow one.
func plainClient(hc *http.Client) *http.Client {
	c := &http.Client{Timeout: defaultTimeout}
	if hc != nil {
		c.Transport = hc.Transport
		if hc.Timeout > 0 {
			c.Timeout = hc.Timeout
		}
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// doJSON sends req and reads a JSON answer of status 200 into v. Any other
// status is a *ResponseError. The header is returned in both cases.
func doJSON(hc *http.Client, req *http.Request, v any) (http.Header, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return resp.Header, err
	}
	if len(body) > maxDocument {
		return resp.Header, errors.New("the answer is too large")
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Header, responseError(resp, body)
	}
	if v == nil || len(bytes.TrimSpace(body)) == 0 {
		return resp.Header, nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return resp.Header, fmt.Errorf("the answer is not the JSON expected: %w", err)
	}
	return resp.Header, nil
}

// responseError reads an RFC 6749 section 5.2 error, an RFC 9457 problem, or the text of
// an AuthZEN error, which begins with the code.
func responseError(resp *http.Response, body []byte) *ResponseError {
	e := &ResponseError{Status: resp.StatusCode, Ref: resp.Header.Get("Countersign-Ref")}
	var doc struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
		Code        string          `json:"code"`
		Detail      string          `json:"detail"`
		Confirm     json.RawMessage `json:"confirmation_code"`
		Stands      json.RawMessage `json:"grant_stands"`
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		if code, text, ok := strings.Cut(string(body), ": "); ok && strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") == "" {
			e.Code, e.Description = code, strings.TrimSuffix(text, " Reference: "+e.Ref)
		}
		return e
	}
	if json.Unmarshal(body, &doc) == nil {
		_ = json.Unmarshal(doc.Error, &e.Code) // not a string: no code
		_ = json.Unmarshal(doc.Confirm, &e.Confirm)
		e.Description = doc.Description
		if e.Code == "" {
			e.Code, e.Description = doc.Code, doc.Detail
		}
		if e.Stands = string(doc.Stands) == "true"; e.Stands {
			e.standing(body)
		}
	}
	return e
}

// standing reads what is beside an invalid_grant that says that the grant stands.
func (e *ResponseError) standing(body []byte) {
	var doc struct {
		ACRValues string `json:"acr_values"`
		MaxAge    int64  `json:"max_age"`
		Review    string `json:"review"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return
	}
	e.Review = doc.Review
	if acr := strings.Fields(doc.ACRValues); len(acr) > 0 {
		e.Challenge = &Challenge{
			Error: "insufficient_user_authentication", Description: e.Description, ACRValues: acr,
			MaxAge: time.Duration(min(max(doc.MaxAge, 0), 1<<31)) * time.Second, HasMaxAge: doc.MaxAge > 0, Ref: e.Ref,
		}
	}
}
