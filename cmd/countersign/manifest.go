package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// manifest is what an apply file says: a member that is absent is not managed
// and stays as it is.
type manifest struct {
	Resources []wantResource `yaml:"resources"`
	Clients   []wantClient   `yaml:"clients"`
	Webhooks  []wantWebhook  `yaml:"webhooks"`

	FactorKinds []wantKind   `yaml:"factor_kinds"`
	Issuers     []wantIssuer `yaml:"trusted_issuers"`
}

// wantKind is a way to sign in that people may use, or not.
type wantKind struct {
	Kind    string `yaml:"kind" json:"-"` // password or totp
	Allowed *bool  `yaml:"allowed" json:"allowed,omitempty"`
}

type wantResource struct {
	URI             string         `yaml:"uri" json:"uri"`
	Name            *string        `yaml:"name" json:"name,omitempty"`
	Scopes          *[]wantScope   `yaml:"scopes" json:"scopes,omitempty"`
	DetailsTypes    *[]wantDetails `yaml:"authorization_details_types" json:"authorization_details_types,omitempty"`
	Servers         *[]string      `yaml:"servers" json:"servers,omitempty"`
	RequireDPoP     *bool          `yaml:"require_dpop" json:"require_dpop,omitempty"`
	DelegationAware *bool          `yaml:"delegation_aware" json:"delegation_aware,omitempty"`
}

// wantDetails is a type of authorization details.
type wantDetails struct {
	Name     string            `yaml:"name" json:"name"`
	Schema   map[string]any    `yaml:"schema" json:"schema"`
	Narrower map[string]string `yaml:"narrower" json:"narrower,omitempty"`
	Template string            `yaml:"template" json:"template"`
}

type wantScope struct {
	Name        string   `yaml:"name" json:"name"`
	Description string   `yaml:"description" json:"description,omitempty"`
	Kind        string   `yaml:"kind" json:"kind,omitempty"`
	Default     bool     `yaml:"default" json:"default,omitempty"`
	Groups      []string `yaml:"groups" json:"groups,omitempty"`
	Ask         *wantAsk `yaml:"ask" json:"ask,omitempty"`
}

type wantAsk struct {
	ACR    string `yaml:"acr" json:"acr,omitempty"`
	MaxAge string `yaml:"max_age" json:"max_age,omitempty"` // 5m, or seconds
}

type wantClient struct {
	ClientID     string         `yaml:"client_id" json:"client_id"`
	Name         *string        `yaml:"name" json:"name,omitempty"`
	AuthMethod   *string        `yaml:"auth_method" json:"auth_method,omitempty"`
	JWKS         map[string]any `yaml:"jwks" json:"jwks,omitempty"`
	RedirectURIs *[]string      `yaml:"redirect_uris" json:"redirect_uris,omitempty"`
	GrantTypes   *[]string      `yaml:"grant_types" json:"grant_types,omitempty"`
	Scopes       *[]string      `yaml:"scopes" json:"scopes,omitempty"`
	Resources    *[]string      `yaml:"resources" json:"resources,omitempty"`
	Native       *bool          `yaml:"native" json:"native,omitempty"`
	RequireDPoP  *bool          `yaml:"require_dpop" json:"require_dpop,omitempty"`
	RequirePAR   *bool          `yaml:"require_pushed_authorization_requests" json:"require_pushed_authorization_requests,omitempty"`
	RequireJAR   *bool          `yaml:"require_signed_request_object" json:"require_signed_request_object,omitempty"`
	JWKSURI      *string        `yaml:"jwks_uri" json:"jwks_uri,omitempty"`
	IDTokenAlg   *string        `yaml:"id_token_signed_response_alg" json:"id_token_signed_response_alg,omitempty"`
	UserInfoAlg  *string        `yaml:"userinfo_signed_response_alg" json:"userinfo_signed_response_alg,omitempty"`
	SubjectType  *string        `yaml:"subject_type" json:"subject_type,omitempty"`
	SectorURI    *string        `yaml:"sector_identifier_uri" json:"sector_identifier_uri,omitempty"`
	PostLogout   *[]string      `yaml:"post_logout_redirect_uris" json:"post_logout_redirect_uris,omitempty"`
	Backchannel  *string        `yaml:"backchannel_logout_uri" json:"backchannel_logout_uri,omitempty"`
	DetailsTypes *[]string      `yaml:"authorization_details_types" json:"authorization_details_types,omitempty"`
	NeedsSession *bool          `yaml:"backchannel_logout_session_required" json:"backchannel_logout_session_required,omitempty"`
	SubjectDN    *string        `yaml:"tls_client_auth_subject_dn" json:"tls_client_auth_subject_dn,omitempty"`
	SanDNS       *string        `yaml:"tls_client_auth_san_dns" json:"tls_client_auth_san_dns,omitempty"`
	SanURI       *string        `yaml:"tls_client_auth_san_uri" json:"tls_client_auth_san_uri,omitempty"`
	SanIP        *string        `yaml:"tls_client_auth_san_ip" json:"tls_client_auth_san_ip,omitempty"`
	SanEmail     *string        `yaml:"tls_client_auth_san_email" json:"tls_client_auth_san_email,omitempty"`
	Profile      *string        `yaml:"security_profile" json:"security_profile,omitempty"`
	CertBound    *bool          `yaml:"tls_client_certificate_bound_access_tokens" json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DeviceScope  *string        `yaml:"device_scope" json:"device_scope,omitempty"`
	DeviceShows  *bool          `yaml:"device_confirmation_code" json:"device_confirmation_code,omitempty"`
	Delivery     *string        `yaml:"backchannel_token_delivery_mode" json:"backchannel_token_delivery_mode,omitempty"`
	Notification *string        `yaml:"backchannel_client_notification_endpoint" json:"backchannel_client_notification_endpoint,omitempty"`
	CIBAAlg      *string        `yaml:"backchannel_authentication_request_signing_alg" json:"backchannel_authentication_request_signing_alg,omitempty"`
	CIBAScope    *string        `yaml:"backchannel_scope" json:"backchannel_scope,omitempty"`
	CIBANumber   *bool          `yaml:"backchannel_number_matching" json:"backchannel_number_matching,omitempty"`
	MayAct       *string        `yaml:"may_act" json:"may_act,omitempty"`
	Service      *wantService   `yaml:"service" json:"service,omitempty"`
}

type wantService struct {
	Name     string   `yaml:"name" json:"name,omitempty"`
	Owner    string   `yaml:"owner" json:"owner,omitempty"` // username
	Purpose  string   `yaml:"purpose" json:"purpose,omitempty"`
	ReviewBy string   `yaml:"review_by" json:"review_by,omitempty"` // 2027-01-31
	Groups   []string `yaml:"groups" json:"groups,omitempty"`
}

// wantWebhook is a receiver of events; it is found by its name.
type wantWebhook struct {
	Name   string    `yaml:"name" json:"name"`
	URL    *string   `yaml:"url" json:"url,omitempty"`
	Events *[]string `yaml:"events" json:"events,omitempty"`
}

// parseManifest reads an apply file strictly: unknown members, duplicates and
// objects without an identity are errors that show the line.
func parseManifest(text []byte) (*manifest, error) {
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	var m manifest
	if err := d.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return nil, usage("%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, usage("The file has more than one YAML document.")
	}
	seen := map[string]bool{}
	for i, r := range m.Resources {
		if r.URI == "" {
			return nil, usage("resources[%d] has no uri.", i)
		}
		if seen["r"+r.URI] {
			return nil, usage("The resource %s is in the file twice.", r.URI)
		}
		seen["r"+r.URI] = true
		if err := checkScopes(r); err != nil {
			return nil, err
		}
	}
	for i, c := range m.Clients {
		if c.ClientID == "" {
			return nil, usage("clients[%d] has no client_id.", i)
		}
		if seen["c"+c.ClientID] {
			return nil, usage("The client %s is in the file twice.", c.ClientID)
		}
		seen["c"+c.ClientID] = true
		if s := c.Service; s != nil && s.ReviewBy != "" {
			if _, err := time.Parse(time.DateOnly, s.ReviewBy); err != nil {
				return nil, usage("The client %s: review_by is a date such as 2027-01-31.", c.ClientID)
			}
		}
	}
	for i, w := range m.Webhooks {
		if w.Name == "" {
			return nil, usage("webhooks[%d] has no name.", i)
		}
		if seen["w"+w.Name] {
			return nil, usage("The webhook %s is in the file twice.", w.Name)
		}
		seen["w"+w.Name] = true
	}
	for i, k := range m.FactorKinds {
		if k.Kind == "" || k.Allowed == nil {
			return nil, usage("factor_kinds[%d] needs kind, and allowed: true or false.", i)
		}
		if seen["k"+k.Kind] {
			return nil, usage("The kind %s is in the file twice.", k.Kind)
		}
		seen["k"+k.Kind] = true
	}
	if err := checkIssuers(m.Issuers); err != nil {
		return nil, err
	}
	return &m, nil
}

func checkScopes(r wantResource) error {
	if r.Scopes == nil {
		return nil
	}
	names := map[string]bool{}
	for _, s := range *r.Scopes {
		if s.Name == "" || names[s.Name] {
			return usage("The resource %s has a scope without a name, or one twice (%q).", r.URI, s.Name)
		}
		names[s.Name] = true
		if s.Ask != nil && s.Ask.MaxAge != "" {
			if _, ok := seconds(s.Ask.MaxAge); !ok {
				return usage("The scope %s: max_age is a time such as 5m.", s.Name)
			}
		}
	}
	return nil
}

// seconds reads a number of seconds or a duration such as 5m.
func seconds(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		return int64(v), v == float64(int64(v)) && v >= 0
	case string:
		var n int64
		if _, err := fmt.Sscanf(v, "%d", &n); err == nil && fmt.Sprint(n) == v {
			return n, n >= 0
		}
		d, err := time.ParseDuration(v)
		return int64(d / time.Second), err == nil && d >= 0 && d%time.Second == 0
	}
	return 0, false
}

// object is a resource or client in JSON's terms.
type object map[string]any

// fields are the members that the file sets, as they go over the wire.
func fields(v any) object {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, booleans, lists of them, and what YAML gave
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		panic(err)
	}
	// An empty list in the file means none; omitempty has left it in, because
	// the pointer is set.
	if scopes, ok := o["scopes"].([]any); ok {
		for _, s := range scopes {
			if m, ok := s.(map[string]any); ok {
				wireAsk(m)
				if m["kind"] == nil {
					m["kind"] = "read" // what the server takes it for
				}
			}
		}
	}
	return o
}

// wireAsk writes max_age in seconds.
func wireAsk(scope map[string]any) {
	ask, ok := scope["ask"].(map[string]any)
	if !ok {
		return
	}
	if n, ok := seconds(ask["max_age"]); ok {
		ask["max_age"] = float64(n)
	}
}

// normal is a value in the form in which two are compared: what is empty is
// absent, lists have no order, times are seconds.
func normal(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, normal(e))
		}
		sort.SliceStable(out, func(i, j int) bool { return text(out[i]) < text(out[j]) })
		if len(out) == 0 {
			return nil
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if k == "schema" { // every word of it counts
				out[k] = e
				continue
			}
			if k == "max_age" {
				if n, ok := seconds(e); ok {
					e = float64(n)
				}
			}
			if s, ok := e.(string); ok && k == "review_by" && len(s) > len(time.DateOnly) {
				e = s[:len(time.DateOnly)]
			}
			if n := normal(e); n != nil {
				out[k] = n
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// difference is one member that would change.
type difference struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// differences compares what the file sets with what is there. Within a member
// that is an object, only what the file sets counts.
func differences(want, have object) (out []difference) {
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		from, to := normal(have[name]), normal(want[name])
		if w, ok := to.(map[string]any); ok {
			if h, ok := from.(map[string]any); ok {
				cut := map[string]any{}
				for k := range w {
					if v, ok := h[k]; ok {
						cut[k] = v
					}
				}
				from = cut
			}
		}
		if text(from) != text(to) {
			out = append(out, difference{Field: name, From: from, To: to})
		}
	}
	return out
}
