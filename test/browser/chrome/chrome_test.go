package chrome_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/countersign-dev/countersign/test/browser/chrome"
)

func TestMain(m *testing.M) { os.Exit(chrome.Run(m)) }

const page = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sample</title><main><h1>Sample</h1>
<label>Name <input id="name" value="before"></label>
<button id="register">Register</button> <button id="login">Sign in</button> <a href="/second" target="_blank">Second</a>
<p id="out" role="status"></p></main><script>
async function post(path, body) {
  const r = await fetch(path, {method: 'POST', headers: {'content-type': 'application/json'}, body: body ? JSON.stringify(body) : null})
  if (!r.ok) throw new Error(path + ': ' + r.status)
  return r.json()
}
const acts = {
  async register() {
    const o = await post('/register/begin')
    const c = await navigator.credentials.create({publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(o.publicKey)})
    await post('/register/finish', c.toJSON())
    return 'registered'
  },
  async login() {
    const o = await post('/login/begin')
    const c = await navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(o.publicKey)})
    await post('/login/finish', c.toJSON())
    return 'signed in as ' + document.getElementById('name').value
  },
}
for (const name in acts) document.getElementById(name).onclick = async () => {
  out.textContent = '…'
  try { out.textContent = await acts[name]() } catch (e) { out.textContent = 'refused: ' + e.name }
}
</script>`

type user struct{ held []webauthn.Credential }

func (u *user) WebAuthnID() []byte                         { return []byte("user-1") }
func (u *user) WebAuthnName() string                       { return "ada" }
func (u *user) WebAuthnDisplayName() string                { return "Ada" }
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.held }

// site is a small relying party on a localhost name, which WebAuthn accepts
// without TLS.
func site(t *testing.T) (origin string, u *user) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	origin = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	rp, err := webauthn.New(&webauthn.Config{RPID: "localhost", RPDisplayName: "Sample", RPOrigins: []string{origin}})
	if err != nil {
		t.Fatal(err)
	}
	u = &user{}
	var mu sync.Mutex
	var session *webauthn.SessionData
	mux := http.NewServeMux()
	api := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			v, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			json.NewEncoder(w).Encode(v)
		})
	}
	html := func(path, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, body)
		})
	}
	html("/{$}", page)
	html("/second", `<!doctype html><html lang="en"><title>Second</title><main><h1>The second page</h1></main>`)
	html("/bad", `<!doctype html><html lang="en"><title>Bad</title><main><h1>Bad</h1><img src="data:," width="900" height="9"></main>`)
	html("/throws", `<!doctype html><html lang="en"><title>Throws</title><script>console.error('deliberate')</script>`)
	html("/who", `<!doctype html><html lang="en"><title>Who</title><script>document.write(document.cookie || 'nobody'); document.cookie = 'who=ada'</script>`)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /header", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Said", r.Header.Get("X-Say"))
		http.Error(w, "no coffee", http.StatusTeapot)
	})
	api("/register/begin", func(*http.Request) (o any, err error) {
		o, session, err = rp.BeginRegistration(u)
		return o, err
	})
	api("/register/finish", func(r *http.Request) (any, error) {
		c, err := rp.FinishRegistration(u, *session, r)
		if err == nil {
			u.held = append(u.held, *c)
		}
		return "ok", err
	})
	api("/login/begin", func(*http.Request) (o any, err error) {
		o, session, err = rp.BeginLogin(u, webauthn.WithUserVerification("required"))
		return o, err
	})
	api("/login/finish", func(r *http.Request) (any, error) {
		_, err := rp.FinishLogin(u, *session, r)
		return "ok", err
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return origin, u
}

func TestPasskeys(t *testing.T) {
	origin, u := site(t)
	b := chrome.New(t)
	b.Navigate(origin + "/")
	key := b.AddAuthenticator(chrome.AuthenticatorOptions{BackupEligible: true, BackedUp: true})
	b.Click("#register")
	b.WaitText("registered")
	if len(u.held) != 1 || len(key.Credentials()) != 1 {
		t.Fatalf("%d credentials registered, %d in the authenticator, want one each", len(u.held), len(key.Credentials()))
	}
	if f := u.held[0].Flags; !f.UserVerified || !f.BackupEligible || !f.BackupState {
		t.Errorf("flags %+v, want verified, eligible and backed up", f)
	}
	b.Fill("#name", "Ada Lovelace")
	if got := b.Value("#name"); got != "Ada Lovelace" {
		t.Errorf("the field holds %q", got)
	}
	b.ClickText("Sign in")
	b.WaitText("signed in as Ada Lovelace")

	key.SetVerified(false)
	b.Click("#login")
	b.WaitText("refused: NotAllowedError")
	key.SetVerified(true)

	b.AllowConsole("status of 403")
	key.SetBogus(chrome.Bogus{Signature: true})
	b.Click("#login")
	b.WaitText("refused: Error")
	key.SetBogus(chrome.Bogus{})

	if n := key.Credentials()[0].SignCount; n == 0 {
		t.Error("signatures are not counted")
	}
	key.SetBogus(chrome.Bogus{SignCountReset: true})
	if n := key.Credentials()[0].SignCount; n != 0 {
		t.Errorf("the counter is %d after its reset", n)
	}

	second := b.NewPage()
	second.Navigate(origin + "/")
	key.MoveTo(second)
	second.Click("#login")
	second.WaitText("signed in as before")
	if got := second.Text("#out"); got != "signed in as before" {
		t.Errorf("the text is %q", got)
	}
}

func TestTabsAndProfiles(t *testing.T) {
	origin, _ := site(t)
	b := chrome.New(t)
	b.Navigate(origin + "/")
	opened := b.Opened(func() { b.ClickText("Second") })
	opened.WaitURL("/second")
	opened.WaitText("The second page")
	opened.Close()

	b.Navigate(origin + "/who")
	b.WaitText("nobody")
	again := b.NewPage()
	again.Navigate(origin + "/who")
	again.WaitText("who=ada")
	other := chrome.New(t)
	other.Navigate(origin + "/who")
	other.WaitText("nobody")
}

func TestStatusAndHeaders(t *testing.T) {
	origin, _ := site(t)
	b := chrome.New(t)
	b.AllowConsole("status of 418")
	b.SetHeaders(map[string]string{"X-Say": "hello"})
	status, header := b.Status(origin + "/header")
	if status != http.StatusTeapot || header["x-said"] != "hello" {
		t.Errorf("status %d, header %q", status, header["x-said"])
	}
}

func TestNothingOutsideIsReached(t *testing.T) {
	b := chrome.New(t)
	b.AllowConsole("net::")
	got := chrome.Eval[string](b.Page, `fetch('http://example.com/').then(() => 'reached', () => 'refused')`)
	if got != "refused" {
		t.Errorf("a page outside was %s", got)
	}
}

// recorder notes errors instead of failing the test that it stands in for.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestInspectFindsWhatIsWrong(t *testing.T) {
	origin, _ := site(t)
	dir := t.TempDir()
	t.Setenv("COUNTERSIGN_SCREENSHOTS", dir)
	good := chrome.New(t)
	good.Navigate(origin + "/")
	good.Inspect("sample page")
	for _, l := range chrome.Looks {
		if _, err := os.Stat(filepath.Join(dir, "sample-page-"+l.String()+".png")); err != nil {
			t.Error(err)
		}
	}

	r := &recorder{TB: t}
	bad := chrome.New(r)
	bad.Navigate(origin + "/bad")
	bad.Inspect("bad page")
	all := strings.Join(r.errors, "\n")
	wants := []string{"wider than the window"}
	if chrome.Required() {
		wants = append(wants, "axe image-alt")
	}
	for _, want := range wants {
		if !strings.Contains(all, want) {
			t.Errorf("a bad page passes without %q:\n%s", want, all)
		}
	}
}

func TestConsoleErrorsAreSeen(t *testing.T) {
	origin, _ := site(t)
	b := chrome.New(t)
	b.Navigate(origin + "/throws")
	b.Wait("the page", `document.readyState === 'complete'`)
	chrome.Eval[bool](b.Page, `new Promise(done => setTimeout(() => { console.error('late'); done(true) }))`)
	for len(b.ConsoleErrors()) < 2 && t.Context().Err() == nil {
		chrome.Eval[bool](b.Page, `true`) // errors arrive in order, behind the answers
	}
	got := strings.Join(b.ConsoleErrors(), "\n")
	if !strings.Contains(got, "deliberate") || !strings.Contains(got, "late") {
		t.Errorf("the console's errors are %q", got)
	}
	b.AllowConsole("deliberate")
	b.AllowConsole("late")
	if left := b.ConsoleErrors(); len(left) != 0 {
		t.Errorf("allowed errors stay: %q", left)
	}
}
