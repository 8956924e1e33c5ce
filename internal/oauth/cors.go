package oauth

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/web"
)

// cors lets browser-based clients read an answer (RFC 6749 via OAuth 2.1 §3.2;
// clients.md §2.1). No cookie is ever involved, so any origin may. The
// authorization endpoint has none.
func cors(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, DPoP-Nonce, Countersign-Ref")
}

// preflight answers what a browser asks before it calls.
func preflight(w http.ResponseWriter, _ *http.Request) error {
	cors(w)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP, MCP-Protocol-Version")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// missed answers what is not there: clients that probe for metadata go on to the
// next address only after a plain 404 that they may read (clients.md §2.1), and
// a form endpoint takes POST only (RFC 6749 §3.2).
func missed(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodOptions {
		return preflight(w, r)
	}
	switch r.URL.Path {
	case "/oauth/token", "/oauth/par", "/oauth/revoke", "/oauth/introspect": // registration may not be there at all
		return postOnly(w, r)
	}
	cors(w)
	return web.JSON(w, http.StatusNotFound, oauthError{Error: "invalid_request", Desc: "There is nothing at this address."})
}

// postOnly answers another method at a form endpoint.
func postOnly(w http.ResponseWriter, _ *http.Request) error {
	cors(w)
	w.Header().Set("Allow", "POST")
	return web.JSON(w, http.StatusMethodNotAllowed, oauthError{Error: "invalid_request", Desc: "This endpoint takes POST only."})
}

// shared wraps an endpoint that browser-based clients call.
func shared(h web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		cors(w)
		return h(w, r)
	}
}

// Shared reports whether clients in browsers call an endpoint and may read what it answers: for
// what answers in its place.
func Shared(path string) bool {
	switch path {
	case "/oauth/token", "/oauth/par", "/oauth/revoke", "/oauth/userinfo", "/oauth/register", devicePath:
		return true
	}
	return false
}

// maxNote is how much of a value a line in the log has, in bytes: callers choose some.
const maxNote = 512

// note puts an attribute into the request's line in the log.
func note(r *http.Request, name, value string) {
	if len(value) > maxNote {
		value = strings.ToValidUTF8(value[:maxNote], "") + "…"
	}
	web.RecordOf(r).Add(slog.String(name, value))
}
