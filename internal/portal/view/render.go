package view

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Render writes a page with its headers (Headers must not have been relaxed by
// the caller unless it means to: Render keeps a Content-Security-Policy that is
// already set). The page is built before the first byte is written, so that a
// failure leaves w untouched and the caller may answer 500.
func Render(ctx context.Context, w http.ResponseWriter, status int, p Page, v View) error {
	var b bytes.Buffer
	if err := layout(p, v).Render(ctx, &b); err != nil {
		return fmt.Errorf("view: render %T: %w", v, err)
	}
	h := w.Header()
	if h.Get("Content-Security-Policy") == "" {
		Headers(h)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

// Headers sets what every page is served with. formTargets are the origins or
// custom schemes ("https://app.example", "http://127.0.0.1:5000", "com.app:")
// that a form of this page may end up at after its redirect, because browsers
// apply form-action to redirects too: the consent page passes its redirect
// URI's origin. Anything that is not a plain origin or scheme is left out.
//
// Referrer-Policy is same-origin, not no-referrer: with the latter browsers
// send "Origin: null" on our own forms, and nothing goes to others either way.
func Headers(h http.Header, formTargets ...string) {
	h.Set("Content-Security-Policy", policy(formTargets))
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
}

// formTarget is a host-source or scheme-source of CSP3 §2.3.1 without
// wildcards. IPv6 literals are not in that grammar: see policy.
var formTarget = regexp.MustCompile(`^([a-z][a-z0-9+.-]*:|https?://[a-z0-9.-]+(:[0-9]{1,5})?)$`)

func policy(formTargets []string) string {
	const fixed = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'; form-action 'self'"
	var b strings.Builder
	b.WriteString(fixed)
	for _, t := range formTargets {
		if strings.HasPrefix(t, "http://[") {
			t = "http:" // CSP cannot name [::1]; the redirect itself was matched byte for byte before
		}
		if formTarget.MatchString(t) && t != "javascript:" && t != "data:" {
			b.WriteByte(' ')
			b.WriteString(t)
		}
	}
	return b.String()
}
