package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
)

// metadataCache holds the metadata document and the JWKS as the bytes they are
// served as.
type metadataCache struct {
	doc  atomic.Pointer[document]
	jwks atomic.Pointer[document]
	open atomic.Pointer[knownOpenness]
}

// knownOpenness is what unregistered clients may do, as it was read.
type knownOpenness struct {
	client.Openness
	at time.Time
}

// document is a cached public document with its entity tag.
type document struct {
	body []byte
	etag string
	of   string // what it was made from
}

func makeDocument(v any, of string) (*document, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &document{b, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, of}, nil
}

// serve answers with the document, or 304 to who has it.
func (d *document) serve(w http.ResponseWriter, r *http.Request, maxAge int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(maxAge))
	h.Set("ETag", d.etag)
	if has := r.Header.Get("If-None-Match"); has == "*" || strings.Contains(has, d.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(d.body)))
	w.Write(d.body)
}

// metadata serves one document at all the well-known places (RFC 8414, OpenID
// Connect Discovery). The issuer has no path, so the inserted and appended forms
// are the same address.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) error {
	open, err := s.meta.openness(r.Context(), s)
	if err != nil {
		return err
	}
	types, err := s.detailsTypes(r.Context())
	if err != nil {
		return err
	}
	of := fmt.Sprint(open.Documents, open.Registration, types)
	d := s.meta.doc.Load()
	if d == nil || d.of != of {
		if d, err = makeDocument(s.describe(open, types), of); err != nil {
			return err
		}
		s.meta.doc.Store(d)
	}
	cors(w)
	d.serve(w, r, 300)
	return nil
}

// openness reads what unregistered clients may do, at most once a second.
func (m *metadataCache) openness(ctx context.Context, s *Server) (client.Openness, error) {
	now := s.now()
	if k := m.open.Load(); k != nil && now.Sub(k.at) < time.Second && !now.Before(k.at) {
		return k.Openness, nil
	}
	o, err := s.Admissions.Openness(ctx)
	if err == nil {
		m.open.Store(&knownOpenness{o, now})
	}
	return o, err
}

func (s *Server) describe(open client.Openness, details []string) map[string]any {
	auth := s.authMethods()
	confidential := auth[1:]
	algs := jose.AssertionAlgorithms
	var types []string
	for _, g := range grants {
		if s.offers(g.name) {
			types = append(types, string(g.name))
		}
	}
	doc := map[string]any{
		"issuer":                                                   s.Issuer,
		"authorization_endpoint":                                   s.Issuer + "/oauth/authorize",
		"token_endpoint":                                           s.Issuer + "/oauth/token",
		"jwks_uri":                                                 s.Issuer + "/oauth/jwks",
		"introspection_endpoint":                                   s.Issuer + "/oauth/introspect",
		"revocation_endpoint":                                      s.Issuer + "/oauth/revoke",
		"userinfo_endpoint":                                        s.Issuer + "/oauth/userinfo",
		"end_session_endpoint":                                     s.Issuer + "/oauth/logout",
		"backchannel_logout_supported":                             true,
		"backchannel_logout_session_supported":                     true,
		"authorization_details_types_supported":                    details,
		"scopes_supported":                                         []string{"openid", "profile", "email"},
		"response_types_supported":                                 []string{"code"},
		"response_modes_supported":                                 []string{"query", formPost},
		"pushed_authorization_request_endpoint":                    s.Issuer + "/oauth/par",
		"require_pushed_authorization_requests":                    false, // a client can be
		"require_signed_request_object":                            false, // a client can be
		"request_object_signing_alg_values_supported":              algs,
		"authorization_grant_profiles_supported":                   []string{"urn:ietf:params:oauth:grant-profile:id-jag"},
		"grant_types_supported":                                    types,
		"token_endpoint_auth_methods_supported":                    auth,
		"token_endpoint_auth_signing_alg_values_supported":         algs,
		"introspection_endpoint_auth_methods_supported":            confidential,
		"introspection_endpoint_auth_signing_alg_values_supported": algs,
		"revocation_endpoint_auth_methods_supported":               auth,
		"revocation_endpoint_auth_signing_alg_values_supported":    algs,
		"code_challenge_methods_supported":                         []string{"S256"},
		"authorization_response_iss_parameter_supported":           true,
		"dpop_signing_alg_values_supported":                        jose.DPoPAlgorithms,
		"client_id_metadata_document_supported":                    open.Documents != client.Nobody,
		"acr_values_supported":                                     s.Ladder.Values(),
		"subject_types_supported":                                  []string{"public", client.Pairwise},
		"id_token_signing_alg_values_supported":                    client.SignedAlgs(),
		"userinfo_signing_alg_values_supported":                    client.SignedAlgs(),
		"claim_types_supported":                                    []string{"normal"},
		"display_values_supported":                                 []string{"page"},
		"ui_locales_supported":                                     []string{"en"},
		"prompt_values_supported":                                  []string{"none", "login", "consent", "select_account"},
		"claims_supported":                                         []string{"sub", "iss", "aud", "exp", "iat", "acr", "amr", "auth_time", "nonce", "sid", "name", "preferred_username", "email", "email_verified"},
		"claims_parameter_supported":                               true,
		"request_parameter_supported":                              true,
		"request_uri_parameter_supported":                          false,
		"service_documentation":                                    "https://github.com/countersign-dev/countersign",
	}
	if s.Device {
		doc["device_authorization_endpoint"] = s.Issuer + devicePath // RFC 8628 §4
	}
	if s.Backchannel { // CIBA Core §4
		doc["backchannel_authentication_endpoint"] = s.Issuer + backchannelPath
		doc["backchannel_token_delivery_modes_supported"] = []string{client.Poll, client.Ping}
		doc["backchannel_authentication_request_signing_alg_values_supported"] = algs
		doc["backchannel_user_code_parameter_supported"] = false
	}
	s.describeMTLS(doc)
	if open.Registration {
		doc["registration_endpoint"] = s.Issuer + "/oauth/register"
	}
	return doc
}

// jwks serves the verification keys; a key is there a cache lifetime before it
// signs.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) error {
	keys := s.Keys.Public()
	of := ""
	for _, k := range keys {
		of += k.KeyID + " "
	}
	d := s.meta.jwks.Load()
	if d == nil || d.of != of {
		var err error
		if d, err = makeDocument(&jose.JWKSet{Keys: keys}, of); err != nil {
			return err
		}
		s.meta.jwks.Store(d)
	}
	cors(w)
	d.serve(w, r, int(keyring.CacheLifetime.Seconds())/3)
	return nil
}
