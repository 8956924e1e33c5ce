package oauth

import (
	"slices"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/client"
)

// redirectOf finds the registered redirect URI that a request names: byte for
// byte, or for a native client's loopback with any port (RFC 8252 §7.3). What
// comes back is the request's own spelling.
func redirectOf(c client.Client, asked string) (string, error) {
	bad := invalid("redirect_invalid", "The address this app wants to send you back to is not registered for it.").
		WithHint("Go back to the app. If you run it, register the exact redirect URI.")
	if asked == "" {
		if len(c.RedirectURIs) == 1 && !isLoopback(c.RedirectURIs[0]) {
			return c.RedirectURIs[0], nil
		}
		return "", bad
	}
	if strings.Contains(asked, ":*") {
		return "", bad
	}
	if slices.Contains(c.RedirectURIs, asked) {
		return asked, nil
	}
	for _, reg := range c.RedirectURIs {
		if isLoopback(reg) && samePortless(reg, asked) {
			return asked, nil
		}
	}
	return "", bad
}

// splitLoopback cuts "http://127.0.0.1:PORT/path?query" into what must be equal.
// It parses by hand: what net/url would normalise must not match.
func splitLoopback(s string) (host, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, "http://")
	if !ok || strings.ContainsAny(s, "#\\@ ") {
		return "", "", false
	}
	for _, h := range []string{"localhost", "127.0.0.1", "[::1]"} {
		after, found := strings.CutPrefix(s, h)
		if !found {
			continue
		}
		if port, isPort := strings.CutPrefix(after, ":"); isPort {
			end := strings.IndexAny(port, "/?")
			if end < 0 {
				end = len(port)
			}
			if p := port[:end]; p != "*" {
				if _, err := strconv.ParseUint(p, 10, 16); err != nil || len(p) > 5 {
					return "", "", false
				}
			}
			after = port[end:]
		}
		if after != "" && after[0] != '/' && after[0] != '?' {
			continue
		}
		return h, after, true
	}
	return "", "", false
}

func isLoopback(s string) bool { _, _, ok := splitLoopback(s); return ok }

func samePortless(registered, asked string) bool {
	h1, r1, ok1 := splitLoopback(registered)
	h2, r2, ok2 := splitLoopback(asked)
	return ok1 && ok2 && h1 == h2 && r1 == r2
}
