package view

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/test/browser/chrome"
)

func TestMain(m *testing.M) { os.Exit(chrome.Run(m)) }

// TestFormPostInABrowser: the answer reaches an app at another origin under the
// policy that the page is served with, by itself with scripts and at a press of
// the button without; and a policy for another origin keeps it here.
func TestFormPostInABrowser(t *testing.T) {
	chrome.Require(t)
	got := make(chan url.Values, 4)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/cb" {
			_ = r.ParseForm()
			got <- r.PostForm
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<title>The app</title><p>You are back.</p>"))
	}))
	defer app.Close()
	answer := []Field{{"code", "cs_code_4fJ"}, {"iss", "https://auth.example.com"}, {"state", `s "t'&<b>ate=%`}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, static.Prefix) {
			static.Assets().ServeHTTP(w, r)
			return
		}
		target := app.URL
		if r.URL.Path == "/astray" {
			target = "https://elsewhere.example"
		}
		Headers(w.Header(), target)
		m := FormPost{Form: Form{Action: app.URL + "/cb?tenant=a", Hidden: answer}, To: "board.example.net"}
		if err := Render(r.Context(), w, http.StatusOK, out(), m); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	check := func() {
		t.Helper()
		f := <-got
		for _, a := range answer {
			if f.Get(a.Name) != a.Value {
				t.Errorf("%s arrived as %q", a.Name, f.Get(a.Name))
			}
		}
		if len(f) != len(answer) {
			t.Errorf("the app got %v", f)
		}
	}
	p := chrome.New(t)
	p.Navigate(srv.URL + "/answer")
	p.WaitText("You are back.")
	check()

	p.Scripts(false)
	p.Navigate(srv.URL + "/answer")
	p.WaitText("Going back to the app")
	p.Scripts(true) // of axe-core; the page's own has not run
	p.Inspect("form-post")
	p.Scripts(false)
	if len(got) != 0 {
		t.Error("the page did not wait for the button")
	}
	p.Click("button")
	p.WaitText("You are back.")
	check()

	p.AllowConsole("form-action")
	p.Navigate(srv.URL + "/astray")
	p.Click("button")
	p.WaitText("Going back to the app")
	if len(got) != 0 {
		t.Error("the answer went where the policy does not let it")
	}
}
