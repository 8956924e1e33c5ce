package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/examples/notes"
	"github.com/countersign-dev/countersign/examples/tools"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
)

// limit is how long anything that is waited for may take.
const limit = 90 * time.Second

// lab is a deployment with somebody in it, and the machine its clients run on.
type lab struct {
	t          testing.TB
	dir        string
	issuer     string
	api        string // the sample API
	git        string // the git server
	www        string // Apache
	mcp        string // the sample MCP server
	document   string // of a client, about itself
	state      *server.State
	ahead      atomic.Int64
	selfSigned string // the clients' own certificate, in base64
	ca         string // file of the authority that every server here has its certificate from
	cert       tls.Certificate
	trust      *x509.CertPool
	key        *ecdsa.PrivateKey // of every client that has one
	browser    *chrome.Browser   // Dana's
	passkey    *chrome.Authenticator
	secrets    map[string]string // by client_id
	back       *callback
	apache     net.Listener // keeps Apache's port until it starts
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) now() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }

// open starts the deployment, sets it up as Dana, and registers what docs/connect
// says.
func open(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), secrets: map[string]string{}}
	l.key = newKey(t)
	l.certify()
	l.apache = l.listen()
	home := l.listen() // of the clients' metadata documents
	l.document = address(home) + "/client.json"
	l.serve(home)
	l.handle(home, http.HandlerFunc(l.documents))
	back := l.listen()
	l.back = answered(address(back))
	l.handle(back, l.back)
	api, mcp, git := l.listen(), l.listen(), l.listen()
	l.api, l.mcp, l.git, l.www = address(api), address(mcp)+"/mcp", address(git), address(l.apache)
	l.founds()
	l.signsIn()
	for _, page := range []string{"openid-client.md", "mcp.md", "git.md", "oidc-agent.md", "apache.md"} {
		l.applies(page)
	}
	cli := filepath.Dir(program.Build(t, "countersign"))
	l.run(t, "sh", "-euc", "PATH="+cli+":$PATH\n"+l.block(t, "mcp.md", "admission")+"\ncountersign client allow localhost\n")
	// The page's code finds its packages here.
	packages, err := filepath.Abs("node_modules")
	check(t, err)
	check(t, os.Symlink(packages, filepath.Join(l.dir, "node_modules")))
	check(t, os.WriteFile(filepath.Join(l.dir, "login.mjs"), []byte(l.block(t, "openid-client.md", "login.mjs")), 0o600))
	l.handle(api, notes.New().Handler(l.verifier(l.api, "notes-api")))
	l.handle(mcp, tools.Handler(l.verifier(l.mcp, "tools-server"), "/mcp"))
	l.handle(git, l.repositories())
	return l
}

// listen opens a port of the loopback address.
func (l *lab) listen() net.Listener {
	l.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(l.t, err)
	return ln
}

// address is where a listener is, over TLS.
func address(ln net.Listener) string { return "https://localhost:" + port(ln) }

func port(ln net.Listener) string {
	_, p, _ := strings.Cut(ln.Addr().String(), ":")
	return p
}

// serve runs the server as `countersignd serve` does with a configuration of its
// own certificate and an embedded database.
func (l *lab) serve(home net.Listener) {
	l.t.Helper()
	ln, mtls := l.listen(), l.listen()
	l.issuer = address(ln)
	dir := filepath.Join(l.dir, "server")
	cfg, err := config.Parse(fmt.Appendf(nil, `issuer: %s
listen: {address: "%s", tls: {cert_file: %s, key_file: %s}}
database: {sqlite: %s}
data_dir: %s
device_authorization: {enabled: true}
backchannel_authentication: {enabled: true}
egress: {ca_files: [%s], allow: ["localhost:%s", "localhost:%s"]}
mtls: {address: "%s", url: "%s", client_cas: [%s]}
`, l.issuer, ln.Addr(), filepath.Join(l.dir, "cert.pem"), filepath.Join(l.dir, "cert-key.pem"), filepath.Join(dir, "countersign.db"), dir, l.ca, port(home), port(l.apache), mtls.Addr(), address(mtls), l.ca), nil)
	check(l.t, err)
	check(l.t, os.MkdirAll(dir, 0o700))
	log, err := os.Create(filepath.Join(l.dir, "log.txt"))
	check(l.t, err)
	l.state, err = server.OpenState(l.t.Context(), cfg, server.Options{Log: slog.New(slog.NewTextHandler(log, nil)), Migrate: true, Now: l.now, Reserve: 1})
	check(l.t, err)
	s, err := server.New(l.state)
	check(l.t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listeners{Public: ln, MTLS: mtls}) }()
	l.t.Cleanup(func() {
		stop()
		check(l.t, <-ended)
		check(l.t, l.state.Close())
		if l.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			l.t.Logf("the server's log ends: %s", b[max(0, len(b)-6000):])
		}
	})
}

// http is a client that trusts the lab's authority and follows no redirects.
func (l *lab) http() *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.trust}}}
}

// handle serves over TLS until the test ends.
func (l *lab) handle(ln net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: limit, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{l.cert}, NextProtos: []string{"http/1.1"}}))
	l.t.Cleanup(func() { srv.Close() })
}

// founds sets the deployment up in Dana's browser.
func (l *lab) founds() {
	l.t.Helper()
	link, err := l.state.SetupLink(l.t.Context(), policy.KindSystem)
	check(l.t, err)
	b := chrome.New(l.t)
	l.browser = b
	l.passkey = b.AddAuthenticator(chrome.AuthenticatorOptions{BackupEligible: true, BackedUp: true})
	b.Navigate(link)
	b.WaitText("Who are you?")
	b.Fill("#display_name", "Dana Example")
	b.Fill("#username", "dana")
	b.ClickText("Continue to your passkey")
	b.WaitText("Create your passkey")
	b.WaitVisible("[data-go]:not([disabled])")
	settle(b.Page)
	b.ClickText("Create passkey")
	b.WaitText("Add a second passkey")
	b.ClickText("Continue with one passkey")
	b.WaitText("Make recovery codes")
	b.ClickText("Continue without codes")
	b.WaitText("You're set up, Dana Example")
}

func settle(p *chrome.Page) {
	p.Wait("buttons that take a tap", `document.getAnimations().every(a => a.playState !== 'running')`)
}

// signingIn is the page that goes on by itself: its field offers the passkey, and
// this authenticator's owner is quick.
const signingIn = `location.pathname === '/signin'`

// visit does as Dana what the pages ask, from an address until the browser has
// left the server; it returns where it is then.
func visit(t testing.TB, l *lab, b *chrome.Browser, url string) string {
	t.Helper()
	b.Navigate(url)
	for range 6 {
		b.Wait("a button or the end", `document.readyState === 'complete' && !(`+signingIn+`) && (location.origin !== %[1]q || document.querySelector('[data-go]:not([disabled])') || document.querySelector('button[value=allow]') || document.querySelector('main h1') && !document.querySelector('main form'))`, l.issuer)
		before := b.URL()
		if !strings.HasPrefix(before, l.issuer+"/") {
			return before
		}
		switch {
		case b.Has("button[value=allow]"):
			settle(b.Page)
			b.Click("button[value=allow]")
		case b.Has("[data-go]"):
			settle(b.Page)
			b.Click("[data-go]")
		default:
			t.Fatalf("the server's last word: %s\n%s", before, b.Text("main"))
		}
		b.Wait("another page", `location.href !== %q`, before)
	}
	t.Fatalf("the pages do not end: %s", b.URL())
	return ""
}

// approves does as Dana what the pages ask, from an address until they ask for
// nothing more; fill goes into the first field.
func approves(t testing.TB, b *chrome.Browser, url, fill string) {
	t.Helper()
	if _, code, found := strings.Cut(url, "user_code="); found && fill == "" {
		fill = code
	}
	b.Navigate(url)
	for range 8 {
		b.Wait("a loaded page", `document.readyState === 'complete' && !(`+signingIn+`) && document.querySelector('main h1') && !document.querySelector('[data-go][disabled]')`)
		settle(b.Page)
		button := ""
		for _, selector := range []string{"button[value=allow]", "[data-go]", "main form button.primary"} {
			if button == "" && b.Has(selector) {
				button = selector
			}
		}
		if button == "" {
			return
		}
		for _, field := range []string{"#user_code", "#typed"} { // the page of what is on this computer asks for it twice
			if fill != "" && b.Has(field) {
				b.Fill(field, fill)
			}
		}
		chrome.Eval[bool](b.Page, `document.body.dataset.seen = true`)
		b.Click(button)
		b.Wait("another page", `!document.body.dataset.seen`)
	}
	t.Fatalf("the pages do not end: %s\n%s", b.URL(), b.Text("main"))
}

// env is the environment of a terminal in the lab.
func (l *lab) env(more ...string) []string {
	return program.Environment([]string{"COUNTERSIGN_", "XDG_", "BROWSER=", "SSH_", "CI=", "HOME=", "DISPLAY=", "NODE_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"},
		append([]string{
			"HOME=" + l.dir, "COUNTERSIGN_INTERACTIVE=1", "COUNTERSIGN_BROWSER=print", "NO_COLOR=1",
			"SSL_CERT_FILE=" + l.ca, "NODE_EXTRA_CA_CERTS=" + l.ca, "CURL_CA_BUNDLE=" + l.ca,
		}, more...)...)
}

// signsIn runs `countersign login` in Dana's terminal.
func (l *lab) signsIn() {
	l.t.Helper()
	cmd := exec.Command(program.Build(l.t, "countersign"), "login", l.issuer)
	cmd.Env, cmd.Dir = l.env(), l.dir
	p, err := program.Start(cmd)
	check(l.t, err)
	link := regexp.MustCompile(regexp.QuoteMeta(l.issuer) + `/oauth/authorize\S+`)
	visit(l.t, l, l.browser, l.waitFor(l.t, p, link))
	<-p.Exited()
	if err := p.Stop(limit); err != nil {
		l.t.Fatalf("countersign login: %v\n%s", err, p.Said())
	}
}

// waitFor waits until a program has said something.
func (l *lab) waitFor(t testing.TB, p *program.Process, what *regexp.Regexp) string {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if m := what.FindString(p.Said()); m != "" {
			return m
		}
		if p.Gone() {
			break
		}
	}
	t.Fatalf("it did not say %s: %s", what, p.Said())
	return ""
}

// run runs a program of the lab to its end, which must be good.
func (l *lab) run(t testing.TB, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := program.Exec(ctx, l.env(), path, args...)
	if err != nil || r.Exit != 0 {
		t.Fatalf("%s %s: %v, exit %d\n%s%s", filepath.Base(path), strings.Join(args, " "), err, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// document is the text of a page below docs/connect.
func document(t testing.TB, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs/connect", page))
	check(t, err)
	return string(b)
}

// block is the block of a page of docs/connect that is called name, for this lab
// instead of the example's names.
func (l *lab) block(t testing.TB, page, name string) string {
	t.Helper()
	_, after, ok := strings.Cut(document(t, page), "<!-- "+name+" -->\n```")
	_, after, ok2 := strings.Cut(after, "\n")
	text, _, ok3 := strings.Cut(after, "\n```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/connect/%s has no block %s", page, name)
	}
	pub := jwk(l.key)
	return strings.NewReplacer(
		"https://id.example.com", l.issuer, "https://api.example.com", l.api, "https://app.example.com", l.back.url, "https://mcp.example.com/mcp", l.mcp,
		"https://git.example.com", l.git, "https://www.example.com", l.www, "SECRET-OF-APACHE", l.secrets["apache"], "PASSPHRASE", rand.Text(),
		"EXAMPLE-X", pub["x"], "EXAMPLE-Y", pub["y"], "EXAMPLE-CERTIFICATE", l.selfSigned,
	).Replace(text) + "\n"
}

// applies registers the resources and clients of a page with `countersign apply`,
// and keeps the secrets that it tells.
func (l *lab) applies(page string) {
	l.t.Helper()
	dir := l.t.TempDir()
	file, secrets := filepath.Join(dir, "apps.yaml"), filepath.Join(dir, "secrets.json")
	check(l.t, os.WriteFile(file, []byte(l.block(l.t, page, "apps.yaml")), 0o600))
	l.run(l.t, program.Build(l.t, "countersign"), "apply", "-f", file, "--yes", "--secrets-file", secrets)
	b, err := os.ReadFile(secrets)
	if os.IsNotExist(err) {
		return
	}
	check(l.t, err)
	var told struct {
		Secrets map[string]string `json:"client_secrets"`
	}
	if err := json.Unmarshal(b, &told); err != nil {
		l.t.Fatalf("%v in %s", err, b)
	}
	maps.Copy(l.secrets, told.Secrets)
}

// verifier is the SDK's, of a resource, as a client that a page registers.
func (l *lab) verifier(resource, client string) *countersign.Verifier {
	l.t.Helper()
	v, err := countersign.New(l.t.Context(), countersign.Config{
		Issuer: l.issuer, Audience: resource, AllowBearer: true, HTTP: l.http(), Now: l.now,
		Client: countersign.ClientAuth{ID: client, Secret: l.secrets[client]},
	})
	check(l.t, err)
	l.t.Cleanup(func() { v.Close() })
	return v
}

// documents serves what a client says of itself (Client ID Metadata Document).
func (l *lab) documents(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"client_id": l.document, "client_name": "Interop", "token_endpoint_auth_method": "none",
		"redirect_uris": []string{"http://127.0.0.1/callback", "http://localhost/callback", "http://localhost/oauth/callback"},
		"grant_types":   []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	})
}

// callback is where applications are answered.
type callback struct {
	url string
	got chan answer
}

// answer is what a browser brought to a callback.
type answer struct {
	URL  string `json:"url"`
	Form string `json:"form,omitempty"` // of a POST
}

// answered makes a callback at an origin.
func answered(origin string) *callback { return &callback{url: origin, got: make(chan answer, 1)} }

// ServeHTTP implements http.Handler.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, `<!doctype html><html lang="en"><title>The app</title><link rel="icon" href="data:,"><main><h1>Back in the app</h1></main>`)
	if r.URL.Path == "/callback" {
		c.got <- answer{c.url + r.URL.String(), string(form)}
	}
}
