// Package static owns the files that the pages load: one stylesheet, one
// script and the mark. They are embedded in the binary and served under names
// that contain the hash of their content, so that they may be cached for ever
// and a page never runs with another release's script.
//
// It knows nothing of pages, sessions or the network beyond answering GET and
// HEAD for these files.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

// Prefix is the path below which Assets answers; mount it there.
const Prefix = "/static/"

//go:embed app.css app.js mark.svg
var files embed.FS

// The files, by the name that Path takes.
const (
	CSS  = "app.css"
	JS   = "app.js"
	Mark = "mark.svg"
)

type asset struct {
	body []byte
	mime string
	etag string
	path string
}

var (
	byName = map[string]asset{}
	byPath = map[string]asset{}
)

func init() {
	for name, mime := range map[string]string{
		CSS:  "text/css; charset=utf-8",
		JS:   "text/javascript; charset=utf-8",
		Mark: "image/svg+xml",
	} {
		body, err := files.ReadFile(name)
		if err != nil {
			panic("static: " + err.Error()) // embedded above: only a broken build gets here
		}
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:8])
		ext := path.Ext(name)
		a := asset{
			body: body,
			mime: mime,
			etag: `"` + hash + `"`,
			path: Prefix + strings.TrimSuffix(name, ext) + "." + hash + ext,
		}
		byName[name], byPath[a.path] = a, a
	}
}

// Path is the URL path of a file, its content's hash included. It panics for a
// name that is not one of the constants above.
func Path(name string) string {
	a, ok := byName[name]
	if !ok {
		panic("static: no file " + name)
	}
	return a.path
}

// Body is the content of a file, for tests and for tools that weigh pages. The
// caller must not change it.
func Body(name string) []byte { return byName[name].body }

// Assets serves the files below Prefix. Anything but GET and HEAD is 405, an
// unknown or outdated name 404 and never cached.
func Assets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			h.Set("Cache-Control", "no-store")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		a, ok := byPath[r.URL.Path]
		if !ok {
			h.Set("Cache-Control", "no-store")
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		h.Set("Content-Type", a.mime)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("ETag", a.etag)
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// An SVG opened on its own is a document: it may load and run nothing.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
	})
}
