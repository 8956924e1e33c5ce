package countersign

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign-dev/countersign/internal/jose"
)

// ResourceMetadata is what a protected resource may add to what it says of
// itself (RFC 9728 section 2).
type ResourceMetadata struct {
	Name          string   // resource_name, for people
	Documentation string   // resource_documentation: a URL
	Scopes        []string // scopes_supported
}

const metadataPath = "/.well-known/oauth-protected-resource"

// metadataPath is where the metadata is, the resource's path inserted.
func (v *Verifier) metadataPath() string {
	u, err := url.Parse(v.cfg.Audience)
	if err != nil {
		return metadataPath
	}
	return metadataPath + strings.TrimSuffix(u.EscapedPath(), "/")
}

// MetadataURL is where the resource's metadata is: the URL in challenges.
func (v *Verifier) MetadataURL() string {
	u, err := url.Parse(v.origin)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + v.metadataPath()
}

// MountMetadata serves the protected-resource metadata at the root and, if the
// resource has a path, at the form with the path inserted (RFC 9728 section
// 3.1): clients look at either.
func (v *Verifier) MountMetadata(mux *http.ServeMux, m ResourceMetadata) {
	h := v.MetadataHandler(m)
	mux.Handle(metadataPath, h)
	if p := v.metadataPath(); p != metadataPath {
		mux.Handle(p, h)
	}
}

// MetadataHandler gives the protected-resource metadata as JSON.
func (v *Verifier) MetadataHandler(m ResourceMetadata) http.Handler {
	doc, err := json.Marshal(struct {
		Resource      string   `json:"resource"`
		Servers       []string `json:"authorization_servers"`
		Scopes        []string `json:"scopes_supported,omitempty"`
		BearerMethods []string `json:"bearer_methods_supported"`
		DPoPAlgs      []string `json:"dpop_signing_alg_values_supported"`
		DPoPRequired  bool     `json:"dpop_bound_access_tokens_required"`
		Name          string   `json:"resource_name,omitempty"`
		Documentation string   `json:"resource_documentation,omitempty"`
	}{v.cfg.Audience, []string{v.cfg.Issuer}, m.Scopes, []string{"header"}, jose.DPoPAlgorithms, !v.cfg.AllowBearer, m.Name, m.Documentation})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*") // public, and read by clients in browsers
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET")
			h.Set("Access-Control-Allow-Headers", "MCP-Protocol-Version")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(doc)
	})
}
