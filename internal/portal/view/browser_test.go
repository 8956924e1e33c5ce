package view

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/test/browser/chrome"
)

// stand answers what the script posts, and remembers it.
type stand struct {
	t  *testing.T
	mu sync.Mutex
	// options and finish are the answers to come; got is what was posted, by path.
	options, finish map[string]any
	got             map[string]map[string]any
	console         []string
}

func (s *stand) set(options, finish map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options, s.finish, s.got = options, finish, map[string]map[string]any{}
}

func (s *stand) posted(path string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[path]
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ceremony := Ceremony{Options: "/options", Finish: "/finish", Hidden: []Field{{"tx", "T1"}}}
	pages := map[string]View{
		"/enrol":   EnrolPasskey{Account: "dana@example.com", Name: Input{Value: "Laptop"}, Ceremony: ceremony, Setup: true},
		"/stepup":  StepUp{Action: "rotate keys", App: cliApp, Ceremony: ceremony},
		"/signin":  SignIn{Ceremony: ceremony},
		"/setup":   OpenLink{PostURL: "/open"},
		"/arrived": Done{Headline: "Arrived"},
	}
	if v, ok := pages[r.URL.Path]; ok && r.Method == http.MethodGet {
		if err := Render(r.Context(), w, http.StatusOK, out(), v); err != nil {
			s.t.Error(err)
		}
		return
	}
	if strings.HasPrefix(r.URL.Path, static.Prefix) {
		static.Assets().ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Origin") == "" || r.Header.Get("Origin") == "null" {
		s.t.Errorf("%s: body %q, origin %q: %v", r.URL.Path, body, r.Header.Get("Origin"), err)
	}
	s.mu.Lock()
	s.got[r.URL.Path] = m
	answer := s.finish
	if r.URL.Path == "/options" {
		answer = s.options
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if _, bad := answer["error"]; bad {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func creation() map[string]any {
	return map[string]any{"publicKey": map[string]any{
		"rp":                     map[string]any{"id": "localhost", "name": "Countersign"},
		"user":                   map[string]any{"id": b64("user-1"), "name": "dana@example.com", "displayName": "Dana"},
		"challenge":              b64("challenge-1"),
		"pubKeyCredParams":       []any{map[string]any{"type": "public-key", "alg": -7}, map[string]any{"type": "public-key", "alg": -257}},
		"authenticatorSelection": map[string]any{"residentKey": "required", "userVerification": "required"},
	}}
}

func request(allow ...string) map[string]any {
	list := []any{}
	for _, id := range allow {
		list = append(list, map[string]any{"type": "public-key", "id": id})
	}
	return map[string]any{"publicKey": map[string]any{"rpId": "localhost", "challenge": b64("challenge-2"), "userVerification": "required", "allowCredentials": list}}
}

var arrived = map[string]any{"location": "/arrived"}

// TestScriptInABrowser walks the script through a real browser with a virtual
// authenticator, under the Content-Security-Policy that pages are served with.
// It needs Chromium; package chrome says when its absence is a failure.
func TestScriptInABrowser(t *testing.T) {
	chrome.Require(t)
	path, err := chrome.Locate()
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{t: t}
	s.set(nil, nil)
	srv := httptest.NewServer(s)
	defer srv.Close()
	base := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	ctx, cancel := chromedp.NewContext(t.Context(), chromedp.WithAllocatorOptions(chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true)))
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	b := &browser{t, ctx, base}
	if err := chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok && !strings.Contains(e.Entry.Text, "422") {
			s.mu.Lock()
			s.console = append(s.console, e.Entry.Text)
			s.mu.Unlock()
		}
	}); err != nil {
		t.Fatal(err)
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, webauthn.Enable, webauthn.EnableParams{})
	key := call(b, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})

	b.enrols(s)
	b.confirms(s)
	b.tellsWhatFailed(s)
	b.opensLinks(s)
	b.autofills(s)
	call(b, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams(key))
	if len(s.console) > 0 {
		t.Errorf("the browser complained: %q", s.console)
	}
}

type browser struct {
	t    *testing.T
	ctx  context.Context
	base string
}

func call[P, R any](b *browser, c cdp.Command[P, R], p P) R {
	b.t.Helper()
	r, err := chromedp.Call(b.ctx, c, p)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *browser) open(path string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(b.base+path)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) eval(js string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+js+")"))
	if err != nil && !errors.Is(err, chromedp.ErrJSNull) {
		b.t.Fatalf("%s: %v", js, err)
	}
	return s
}

// until waits for a JavaScript expression to have a value. A page that is just
// being left has no answer: it is asked again.
func (b *browser) until(js, want string) {
	b.t.Helper()
	got := ""
	for range 1200 {
		var err error
		if got, err = chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+js+")")); err == nil && got == want {
			return
		}
		if b.ctx.Err() != nil {
			b.t.Fatalf("%s: %v", js, b.ctx.Err())
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Errorf("%s is %q, want %q; the page says: %s", js, got, want, b.eval(`document.querySelector("main").innerText`))
}

func (b *browser) press() {
	b.t.Helper()
	b.until(`document.querySelector("[data-go]").disabled`, "false")
	b.until(`getComputedStyle(document.querySelector("[data-go]")).pointerEvents`, "auto") // some wait half a second
	if err := chromedp.Do(b.ctx, chromedp.Click("[data-go]")); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) enrols(s *stand) {
	b.t.Helper()
	s.set(creation(), arrived)
	b.open("/enrol")
	b.press()
	b.until("location.pathname", "/arrived")
	sent := s.posted("/finish")
	cred, _ := sent["credential"].(map[string]any)
	resp, _ := cred["response"].(map[string]any)
	if sent["tx"] != "T1" || sent["passkey_name"] != "Laptop" || cred["type"] != "public-key" || resp["attestationObject"] == nil || resp["clientDataJSON"] == nil {
		b.t.Errorf("finish got %v", sent)
	}
	if opt := s.posted("/options"); opt["tx"] != "T1" || opt["passkey_name"] != "Laptop" {
		b.t.Errorf("options got %v", opt)
	}
}

func (b *browser) confirms(s *stand) {
	b.t.Helper()
	s.set(request(), arrived)
	b.open("/stepup")
	b.until("document.activeElement.hasAttribute('data-go')", "true")
	b.press()
	b.until("location.pathname", "/arrived")
	cred, _ := s.posted("/finish")["credential"].(map[string]any)
	resp, _ := cred["response"].(map[string]any)
	if resp["signature"] == nil || resp["userHandle"] != b64("user-1") {
		b.t.Errorf("finish got %v", cred)
	}
}

func (b *browser) tellsWhatFailed(s *stand) {
	b.t.Helper()
	const alert, says = `document.querySelector("[data-alert]")`, `document.querySelector("[data-says]").textContent`
	// No passkey of this device is allowed: a browser reports that like a closed prompt.
	s.set(request(b64("somebody else's")), arrived)
	b.open("/stepup")
	b.press()
	b.until(says, "Nothing happened – the passkey prompt was closed.")
	b.until(alert+".hidden", "true")
	b.until(`document.querySelector("[data-after-cancel]").hidden`, "false")
	b.until(`document.querySelector("[data-go]").disabled`, "false")
	// The server says no.
	s.set(request(), map[string]any{"error": map[string]any{"title": "That passkey isn't known here.", "detail": "Choose <b>another</b>.", "ref": "7F3A9C", "unknown_credential": true, "rp_id": "localhost"}})
	b.press()
	b.until(alert+`.querySelector("[data-title]").textContent`, "That passkey isn't known here.")
	b.until(alert+`.querySelector("[data-detail]").textContent`, "Choose <b>another</b>.")
	b.until(alert+`.querySelector("[data-ref]").textContent`, "Reference 7F3A9C")
	b.until("document.activeElement === "+alert, "true")
	// The authenticator was told that the passkey is unknown, and offers it no more.
	s.set(request(), arrived)
	b.open("/stepup")
	b.press()
	b.until(says, "Nothing happened – the passkey prompt was closed.")
	b.enrols(s)
	// And an address that is none.
	s.set(request(), map[string]any{"location": "javascript:document.title='owned'"})
	b.open("/stepup")
	b.press()
	b.until(alert+`.querySelector("[data-title]").textContent`, "The server named an address that this page won't open.")
	// A passkey that is there already.
	again := creation()
	again["publicKey"].(map[string]any)["excludeCredentials"] = []any{map[string]any{"type": "public-key", "id": s.posted("/finish")["credential"].(map[string]any)["id"]}}
	s.set(again, arrived)
	b.open("/enrol")
	b.press()
	b.until(alert+`.querySelector("[data-title]").textContent`, "This device already has a passkey for your account.")
}

func (b *browser) opensLinks(s *stand) {
	b.t.Helper()
	s.set(nil, arrived)
	b.open("/setup#cs_setup_abc123")
	b.until("location.pathname", "/arrived")
	if got := s.posted("/open"); got["secret"] != "cs_setup_abc123" {
		b.t.Errorf("open got %v", got)
	}
	s.set(nil, map[string]any{"error": map[string]any{"title": "This setup link has expired.", "detail": "Run countersignd setup-link."}})
	b.open("/setup#cs_setup_old")
	b.until(`document.querySelector("[data-title]").textContent`, "This setup link has expired.")
	b.until("location.href.includes('#')", "false")
	s.set(nil, arrived)
	b.open("/arrived")
	b.open("/setup")
	b.until(`document.querySelector("[data-empty]").hidden`, "false")
	if got := s.posted("/open"); got != nil {
		b.t.Errorf("a link without its secret posted %v", got)
	}
}

// A passkey chosen from the field's list signs in; the virtual authenticator
// chooses at once.
func (b *browser) autofills(s *stand) {
	b.t.Helper()
	s.set(request(), arrived)
	b.open("/signin")
	b.until("location.pathname", "/arrived")
	if s.posted("/finish")["credential"] == nil {
		b.t.Error("autofill sent no credential")
	}
	// What cannot be offered is not talked about until the button is pressed.
	s.set(map[string]any{"error": map[string]any{"title": "Too many attempts."}}, arrived)
	b.open("/signin")
	time.Sleep(300 * time.Millisecond)
	b.until(`document.querySelector("[data-alert]").hidden`, "true")
	b.press()
	b.until(`document.querySelector("[data-title]").textContent`, "Too many attempts.")
}
