package view

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/test/browser/chrome"
)

// TestConsentLeadsOutInABrowser: the yes to an app on this computer is a form of ours
// that is answered by a redirect, and browsers hold that redirect against form-action.
// It arrives at loopback addresses of both versions and at an app's own scheme under
// the policy that the page is served with, and nowhere under one that lacks them.
func TestConsentLeadsOutInABrowser(t *testing.T) {
	chrome.Require(t)
	arrived := make(chan string, 8)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cb" {
			arrived <- r.Host + " " + r.URL.Query().Get("code")
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><html lang=en><title>The app</title><p>You are back.</p>"))
	})
	loopback := httptest.NewServer(app)
	defer loopback.Close()
	const scheme = "com.example.app:"
	var to, target atomic.Value
	var posts atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, static.Prefix):
			static.Assets().ServeHTTP(w, r)
		case r.Method == http.MethodPost:
			posts.Add(1)
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, to.Load().(string)+"/cb?code=cs_code_4fJ", http.StatusSeeOther)
		default:
			Headers(w.Header(), target.Load().(string))
			m := Consent{App: App{Name: "Editor", Trust: Registered}, Form: Form{Action: "/consent"}}
			if err := Render(r.Context(), w, http.StatusOK, out(), m); err != nil {
				t.Error(err)
			}
		}
	}))
	defer srv.Close()
	says := func(p *chrome.Page, address, allowed string) {
		t.Helper()
		to.Store(address)
		target.Store(allowed)
		p.Navigate(srv.URL + "/consent")
		p.Wait("a button that can be pressed", `!document.querySelector('button[value=allow]').disabled && document.getAnimations().every(a => a.playState !== 'running')`)
		p.Click("button[value=allow]")
	}
	addresses := []string{loopback.URL}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		six := httptest.NewUnstartedServer(app)
		six.Listener.Close()
		six.Listener = l
		six.Start()
		defer six.Close()
		addresses = append(addresses, six.URL)
	} else {
		t.Logf("without [::1], which this machine has not: %v", err)
	}
	p := chrome.New(t)
	for _, address := range addresses {
		says(p.Page, address, address)
		p.WaitText("You are back.")
		if got, want := <-arrived, strings.TrimPrefix(address, "http://")+" cs_code_4fJ"; got != want {
			t.Errorf("%q arrived, want %q", got, want)
		}
	}
	// No program here has the scheme, so that nothing is to be seen but that the policy
	// lets it go: the control below is what would be.
	before := posts.Load()
	says(p.Page, scheme, scheme)
	for posts.Load() == before {
		chrome.Eval[bool](p.Page, `fetch(location.pathname).then(r => r.ok)`)
	}
	chrome.Eval[bool](p.Page, `fetch(location.pathname).then(r => r.ok)`)

	// The controls: the same without the app's address in the policy.
	before = posts.Load()
	for _, address := range append(addresses, scheme) {
		q := p.NewPage()
		q.AllowConsole("form-action")
		says(q, address, "https://elsewhere.example")
		q.WaitConsole("form-action", 1)
	}
	if n := posts.Load() - before; n != int64(len(addresses))+1 || len(arrived) != 0 {
		t.Errorf("%d of the forms were sent, %d answers arrived", n, len(arrived))
	}
	if n := p.ConsoleCount("form-action"); n != 0 {
		t.Errorf("%d breaches of a policy that should let it go", n)
	}
}
