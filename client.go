package countersign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// ClientAuth is who a client is and how it shows it: with a key
// (private_key_jwt), a secret (client_secret_basic) or, as a public client,
// not at all. It never shows itself in logs.
type ClientAuth struct {
	ID     string
	Key    crypto.Signer // P-256 or Ed25519; wins over Secret
	KeyID  string        // kid of Key in the registered key set; "" if the set has one key
	Secret string
}

// String implements fmt.Stringer without telling.
func (c ClientAuth) String() string { return "client " + c.ID }

// GoString implements fmt.GoStringer without telling.
func (c ClientAuth) GoString() string { return c.String() }

// LogValue implements slog.LogValuer without telling.
func (c ClientAuth) LogValue() slog.Value { return slog.StringValue(c.String()) }

// confidential reports whether the client can authenticate.
func (c ClientAuth) confidential() bool { return c.ID != "" && (c.Key != nil || c.Secret != "") }

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// apply puts the authentication on a request to the authorization server.
func (c ClientAuth) apply(form url.Values, h http.Header, issuer string, now time.Time) error {
	switch {
	case c.ID == "":
		return errors.New("countersign: the client has no client_id")
	case c.Key != nil:
		alg, err := algorithmOf(c.Key.Public())
		if err != nil {
			return err
		}
		s, err := jose.NewSigner(c.Key, alg, c.KeyID, jose.TypClientAssertion)
		if err != nil {
			return fmt.Errorf("countersign: client key: %w", err)
		}
		a, err := s.Sign(jose.ClientAssertionClaims{
			Issuer: c.ID, Subject: c.ID, Audience: jose.Audience{issuer}, JTI: rand.Text(),
			IssuedAt: jose.Date(now), ExpiresAt: jose.Date(now.Add(time.Minute)),
		})
		if err != nil {
			return fmt.Errorf("countersign: client assertion: %w", err)
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", a)
		form.Set("client_id", c.ID)
	case c.Secret != "":
		// RFC 6749 section 2.3.1: both are form-encoded first.
		h.Set("Authorization", "Basic "+basic(url.QueryEscape(c.ID), url.QueryEscape(c.Secret)))
	default:
		form.Set("client_id", c.ID)
	}
	return nil
}

func algorithmOf(pub crypto.PublicKey) (string, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("countersign: a client key is P-256 or Ed25519")
}

// TokenClient talks to the token, introspection and revocation endpoints. Its
// fields are set before first use and not changed; it is safe for use by many
// goroutines.
type TokenClient struct {
	Metadata *Metadata
	Auth     ClientAuth
	Key      *DPoPKey         // tokens are bound to it; nil asks for bearer tokens
	HTTP     *http.Client     // nil: one with a time limit of 10 s
	Now      func() time.Time // nil: time.Now

	nonces nonceJar
}

// CodeRequest is the redemption of an authorization code (RFC 6749 section
// 4.1.3, RFC 7636).
type CodeRequest struct {
	Code        string
	RedirectURI string
	Verifier    string // PKCE code_verifier
	Resource    string // RFC 8707; "" for what was authorized
}

// AuthorizationCode redeems a code. A refusal is a *ResponseError.
func (c *TokenClient) AuthorizationCode(ctx context.Context, r CodeRequest) (Credential, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {r.Code}, "redirect_uri": {r.RedirectURI}}
	setIf(form, "code_verifier", r.Verifier)
	setIf(form, "resource", r.Resource)
	return c.grant(ctx, form)
}

// Refresh trades a refresh token for a new access token, and as a rule for a
// new refresh token. resource and scopes narrow the access token; empty means
// what was granted. A refusal is a *ResponseError; "invalid_grant" means that
// the token does not count any more, unless it says Stands.
func (c *TokenClient) Refresh(ctx context.Context, refreshToken, resource string, scopes ...string) (Credential, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	setIf(form, "resource", resource)
	setIf(form, "scope", strings.Join(scopes, " "))
	cred, err := c.grant(ctx, form)
	if err == nil && cred.RefreshToken == "" {
		cred.RefreshToken = refreshToken // RFC 6749 section 6: the old one stays
	}
	return cred, err
}

// ClientCredentials gets a token for the client itself.
func (c *TokenClient) ClientCredentials(ctx context.Context, resource string, scopes ...string) (Credential, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	setIf(form, "resource", resource)
	setIf(form, "scope", strings.Join(scopes, " "))
	return c.grant(ctx, form)
}

// Revoke ends a refresh token with everything below it, or an access token
// (RFC 7009). hint is "refresh_token", "access_token" or "". An unknown token
// is no error.
func (c *TokenClient) Revoke(ctx context.Context, token, hint string) error {
	if c.Metadata.RevocationEndpoint == "" {
		return errors.New("countersign: the issuer has no revocation endpoint")
	}
	form := url.Values{"token": {token}}
	setIf(form, "token_type_hint", hint)
	if err := c.post(ctx, c.Metadata.RevocationEndpoint, form, nil); err != nil {
		return fmt.Errorf("countersign: revocation: %w", err)
	}
	return nil
}

// Introspection is the answer about a token (RFC 7662). An inactive one says
// nothing else.
type Introspection struct {
	Active   bool   `json:"active"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	TokenID  string `json:"jti,omitempty"`
	Scope    string `json:"scope,omitempty"`
	Expires  int64  `json:"exp,omitempty"` // seconds since 1970 UTC
	ACR      string `json:"acr,omitempty"`
	AuthTime int64  `json:"auth_time,omitempty"`
}

// Introspect asks whether an access token stands now.
func (c *TokenClient) Introspect(ctx context.Context, token string) (Introspection, error) {
	if c.Metadata.IntrospectionEndpoint == "" {
		return Introspection{}, errors.New("countersign: the issuer has no introspection endpoint")
	}
	var in Introspection
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if err := c.post(ctx, c.Metadata.IntrospectionEndpoint, form, &in); err != nil {
		return Introspection{}, fmt.Errorf("countersign: introspection: %w", err)
	}
	return in, nil
}

func (c *TokenClient) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// grant asks the token endpoint.
func (c *TokenClient) grant(ctx context.Context, form url.Values) (Credential, error) {
	var doc struct {
		AccessToken  string      `json:"access_token"`
		TokenType    string      `json:"token_type"`
		ExpiresIn    json.Number `json:"expires_in"`
		RefreshToken string      `json:"refresh_token"`
		IDToken      string      `json:"id_token"`
		Scope        string      `json:"scope"`
	}
	before := c.now()
	if err := c.post(ctx, c.Metadata.TokenEndpoint, form, &doc); err != nil {
		return Credential{}, fmt.Errorf("countersign: token endpoint: %w", err)
	}
	want := "Bearer"
	if c.Key != nil {
		want = "DPoP" // a Bearer answer would be a token that anybody can use
	}
	if doc.AccessToken == "" || !strings.EqualFold(doc.TokenType, want) {
		return Credential{}, fmt.Errorf("countersign: token endpoint: the answer has no %s token", want)
	}
	seconds, err := doc.ExpiresIn.Int64()
	if err != nil || seconds <= 0 {
		return Credential{}, errors.New("countersign: token endpoint: the answer does not say how long the token lasts")
	}
	return Credential{
		AccessToken: doc.AccessToken, TokenType: want, RefreshToken: doc.RefreshToken, IDToken: doc.IDToken,
		Scope: doc.Scope, IssuedAt: before, ExpiresAt: before.Add(time.Duration(min(seconds, 1<<31)) * time.Second),
	}, nil
}

// post sends a form with client authentication and, at the token and device
// authorization endpoints, a proof of the key; a nonce that the server asks for is supplied once.
func (c *TokenClient) post(ctx context.Context, endpoint string, form url.Values, v any) error {
	for tried := false; ; tried = true {
		h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		if err := c.Auth.apply(form, h, c.Metadata.Issuer, c.now()); err != nil {
			return err
		}
		u, err := url.Parse(endpoint)
		if err != nil {
			return err
		}
		if c.Key != nil && (endpoint == c.Metadata.TokenEndpoint || endpoint == c.Metadata.DeviceAuthorizationEndpoint) {
			proof, err := c.Key.proofAt(http.MethodPost, endpoint, "", c.nonces.get(u), c.now())
			if err != nil {
				return err
			}
			h.Set("DPoP", proof)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		req.Header = h
		header, err := doJSON(plainClient(c.HTTP), req, v)
		fresh := c.nonces.put(u, header)
		if !tried && fresh && IsCode(err, "use_dpop_nonce") {
			continue
		}
		return err
	}
}

func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}
