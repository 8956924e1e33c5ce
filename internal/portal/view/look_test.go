package view

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/test/browser/chrome"
)

// TestEveryPageInABrowser looks at each page and state in a real browser: light
// and dark, wide and at 320 pixels, nothing is wider than the window and the
// content security policy is not broken; axe-core finds nothing in two looks that
// differ in both. What the pages do is tested in the flows.
func TestEveryPageInABrowser(t *testing.T) {
	chrome.Require(t)
	t.Cleanup(chrome.Stop)
	all := map[string]testCase{}
	for _, c := range cases() {
		all[c.name] = c
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", static.Assets())
	mux.HandleFunc("GET /case/{name...}", func(w http.ResponseWriter, r *http.Request) {
		c := all[r.PathValue("name")]
		if err := Render(r.Context(), w, http.StatusOK, c.page, c.view); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewServer(mux)
	defer server.Close()
	b := chrome.New(t)
	b.AllowConsole("https://board.example.net/cb") // the answer by form_post is for another origin; its own test lets it go there
	for _, c := range cases() {
		b.Navigate(server.URL + "/case/" + c.name)
		for _, l := range chrome.Looks {
			b.See(l)
			if over := chrome.Eval[int](b.Page, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
				t.Errorf("%s in %s is %d pixels wider than the window", c.name, l, over)
			}
			if l.Dark == (l.Width != 0) {
				for _, v := range b.Axe() {
					t.Errorf("%s in %s: %s", c.name, l, v)
				}
			}
			b.Screenshot("page "+c.name, l)
		}
	}
}
