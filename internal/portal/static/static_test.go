package static

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestAssets(t *testing.T) {
	h := Assets()
	get := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for name, mime := range map[string]string{CSS: "text/css; charset=utf-8", JS: "text/javascript; charset=utf-8", Mark: "image/svg+xml"} {
		w := get("GET", Path(name))
		if w.Code != 200 || w.Header().Get("Content-Type") != mime || w.Body.String() != string(Body(name)) {
			t.Errorf("%s: %d %s, %d bytes", name, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %s", name, got)
		}
		if w := get("GET", Path(name), "If-None-Match", w.Header().Get("ETag")); w.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", name, w.Code)
		}
		if w := get("HEAD", Path(name)); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("HEAD %s: %d, %d bytes", name, w.Code, w.Body.Len())
		}
		if w := get("POST", Path(name)); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", name, w.Code)
		}
	}
	for _, path := range []string{"/static/", "/static/app.css", "/static/app.0000000000000000.css", "/static/../static.go", "/static/%2e%2e/x"} {
		if w := get("GET", path); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q", path, w.Code, w.Header().Get("Cache-Control"))
		}
	}
}

// The script may use nothing that the Content-Security-Policy or Trusted Types
// forbid, and nothing may come from elsewhere.
func TestFilesKeepToThePolicy(t *testing.T) {
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "import(", "localStorage", "sessionStorage", "http://", "https://"} {
		if s := strings.ReplaceAll(string(Body(JS)), "http://localhost on", ""); strings.Contains(s, bad) {
			t.Errorf("app.js contains %q", bad)
		}
	}
	for _, bad := range []string{"@import", "url(", "http"} {
		if strings.Contains(string(Body(CSS)), bad) {
			t.Errorf("app.css contains %q", bad)
		}
	}
}

// Text is readable: WCAG 2.2 asks for 4.5:1, ours is 7:1; edges of controls and
// the focus ring have 3:1 (1.4.11).
func TestContrast(t *testing.T) {
	css := string(Body(CSS))
	lightEnd := strings.Index(css, "@media (prefers-color-scheme: dark)")
	darkEnd := strings.Index(css, "*, *::before")
	for mode, block := range map[string]string{"light": css[:lightEnd], "dark": css[lightEnd:darkEnd]} {
		c := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(block, -1) {
			c[m[1]] = m[2]
		}
		for _, pair := range []struct {
			want       float64
			fore, back string
		}{
			{7, "text", "bg surface sunken accent-soft danger-soft warn-soft"},
			{7, "muted", "bg surface sunken"},
			{7, "accent", "bg surface sunken accent-soft"},
			{7, "accent-strong", "accent-soft"},
			{7, "danger", "bg surface danger-soft"},
			{7, "warn", "surface sunken warn-soft"},
			{7, "on-accent", "accent accent-strong"},
			{7, "on-danger", "danger"},
			{3, "edge", "bg surface sunken"},
			{3, "focus", "bg surface sunken"},
		} {
			for _, back := range strings.Fields(pair.back) {
				if r := ratio(t, c[pair.fore], c[back]); r < pair.want {
					t.Errorf("%s: %s on %s is %.2f:1, want %v:1", mode, pair.fore, back, r, pair.want)
				}
			}
		}
	}
}

func ratio(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		if len(hex) != 7 {
			t.Fatalf("colour %q", hex)
		}
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(fmt.Errorf("colour %q: %w", hex, err))
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		l += weight * v
	}
	return l
}
