package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/internal/scratch"
)

// debian is where scripts/tools.sh unpacks Debian's packages.
func debian(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("BIN")
	if bin == "" {
		bin = "../../.bin"
	}
	dir, err := filepath.Abs(filepath.Join(bin, "debian"))
	check(t, err)
	switch _, err := os.Stat(filepath.Join(dir, "usr/bin")); {
	case err == nil:
	case chrome.Required():
		t.Fatalf("Debian's packages are not unpacked (make tools): %v", err)
	default:
		t.Skipf("Debian's packages are not unpacked (make tools): %v", err)
	}
	return dir
}

// shell is the environment of somebody who has the unpacked programs, and whose
// browser is the test: it opens what a program prints.
func (l *lab) shell(t testing.TB, home string) []string {
	dir := debian(t)
	libraries, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*-linux-gnu*"))
	return l.env("HOME="+home, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"), "BROWSER=true", "PATH="+filepath.Join(dir, "usr/bin")+":"+os.Getenv("PATH"))
}

// home is a folder of one's own with a short name, as sockets need.
func home(t testing.TB) string {
	t.Helper()
	dir, remove, err := scratch.Dir("interop")
	check(t, err)
	t.Cleanup(remove)
	return dir
}

// commands starts lines of a shell.
func commands(t testing.TB, env []string, dir, lines string) *program.Process {
	t.Helper()
	cmd := exec.Command("sh", "-euc", lines)
	cmd.Env, cmd.Dir = env, dir
	p, err := program.Start(cmd)
	check(t, err)
	t.Cleanup(func() { p.Stop(time.Second) })
	return p
}

// ends waits for a program's good end.
func ends(t testing.TB, p *program.Process) string {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(limit):
		t.Fatalf("it does not end: %s", p.Said())
	}
	if err := p.Stop(0); err != nil {
		t.Fatalf("%v: %s", err, p.Said())
	}
	return p.Said()
}

// agentCases are what oidc-agent does.
var agentCases = []kase{
	{"code flow and tokens", func(t testing.TB, l *lab) {
		l.agent(t, "commands", func(p *program.Process) { visit(t, l, l.profile(t), l.waitFor(t, p, l.authorize())) })
	}},
	{"device flow and tokens", func(t testing.TB, l *lab) {
		l.agent(t, "device", func(p *program.Process) {
			code := l.waitFor(t, p, regexp.MustCompile(`[B-DF-HJ-NP-TV-Z0-9]{4}-[B-DF-HJ-NP-TV-Z0-9]{4}`))
			approves(t, l.profile(t), l.issuer+"/device", code)
		})
	}},
}

// agent generates an account with the commands of a block of oidc-agent's page,
// which the person helps along, and uses its token.
func (l *lab) agent(t testing.TB, block string, person func(*program.Process)) {
	t.Helper()
	dir := home(t)
	socket := filepath.Join(dir, "agent")
	env := append(l.shell(t, dir), "OIDC_SOCK="+socket, "OIDC_ENCRYPTION_PW=correct horse")
	agent := commands(t, env, dir, "exec oidc-agent --console --socket-path="+socket)
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if agent.Gone() || time.Now().After(end) {
			t.Fatalf("oidc-agent: %s", agent.Said())
		}
	}
	// Nobody is at a keyboard: the password is in the environment.
	p := commands(t, env, dir, strings.Replace(l.block(t, "oidc-agent.md", block), "oidc-gen ", "oidc-gen --pw-env --no-url-call --confirm-default --cert-path="+l.ca+" ", 1))
	person(p)
	ends(t, p)
	l.reads(t, strings.TrimSpace(ends(t, commands(t, env, dir, l.block(t, "oidc-agent.md", "token")))))
}

// authorize is an address of the authorization endpoint.
func (l *lab) authorize() *regexp.Regexp {
	return regexp.MustCompile(regexp.QuoteMeta(l.issuer) + `/oauth/authorize\?\S+`)
}

// reads calls the sample API with a token.
func (l *lab) reads(t testing.TB, token string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, l.api+"/notes", nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := l.http().Do(req)
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the API says %s %s", resp.Status, resp.Header.Values("WWW-Authenticate"))
	}
}

// repositories serves git over https: the password is an access token.
func (l *lab) repositories() http.Handler {
	l.t.Helper()
	dir := filepath.Join(l.dir, "repositories")
	l.run(l.t, "git", "init", "--quiet", "--bare", filepath.Join(dir, "sample.git"))
	core := strings.TrimSpace(l.run(l.t, "git", "--exec-path"))
	backend := l.verifier(l.git, "git-server").Protect(&cgi.Handler{
		Path: filepath.Join(core, "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}, countersign.RequireScope("git:read"))
	issuer, err := url.Parse(l.issuer)
	check(l.t, err)
	token := &httputil.ReverseProxy{Transport: l.http().Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(issuer) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path { // as docs/connect/git.md has the server's proxy do
		case "/oauth/authorize":
			http.Redirect(w, r, l.issuer+r.URL.RequestURI(), http.StatusFound)
			return
		case "/oauth/token":
			token.ServeHTTP(w, r)
			return
		}
		_, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="Git"`)
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		r.Header.Set("Authorization", "Bearer "+password)
		backend.ServeHTTP(w, r)
	})
}

// gitCases are what git does with git-credential-oauth.
var gitCases = []kase{{"code flow and clone", func(t testing.TB, l *lab) {
	dir := home(t)
	env := append(l.shell(t, dir), "GIT_SSL_CAINFO="+l.ca, "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Dana", "GIT_AUTHOR_EMAIL=dana@example.com",
		"GIT_COMMITTER_NAME=Dana", "GIT_COMMITTER_EMAIL=dana@example.com")
	check(t, os.WriteFile(filepath.Join(dir, ".gitconfig"), []byte(l.block(t, "git.md", "gitconfig")), 0o600))
	t.Cleanup(func() { commands(t, env, dir, "git credential-cache exit").Stop(limit) })
	p := commands(t, env, dir, fmt.Sprintf("git clone %s/sample.git there", l.git))
	visit(t, l, l.profile(t), l.waitFor(t, p, regexp.MustCompile(regexp.QuoteMeta(l.git)+`/oauth/authorize\?\S+`)))
	ends(t, p)
	// The token is kept: no browser.
	ends(t, commands(t, env, dir, "git -C there fetch"))
}}}

// apacheCases are what Apache does with mod_auth_openidc.
var apacheCases = []kase{
	{"signs people in", func(t testing.TB, l *lab) {
		l.startApache(t)
		b := l.profile(t)
		b.AllowConsole("status of 401")
		if end := visit(t, l, b, l.www+"/page"); end != l.www+"/page" {
			t.Errorf("the browser ends at %s", end)
		}
		b.WaitText("The intranet")
		if status, header := b.Status(l.www + "/page"); status != 200 || header["x-user"] != "dana" {
			t.Errorf("%d, and %q is there", status, header["x-user"])
		}
		if status, _ := b.Status(l.www + "/only-sam"); status != 401 {
			t.Errorf("Sam's page says %d to Dana", status)
		}
	}},
	{"signs people out", func(t testing.TB, l *lab) {
		l.startApache(t)
		b := l.profile(t)
		visit(t, l, b, l.www+"/page")
		if end := visit(t, l, b, l.www+"/signed-in?logout="+url.QueryEscape(l.www+"/bye")); end != l.www+"/bye" {
			t.Errorf("the browser ends at %s", end)
		}
		if l.letsIn(b.Page) {
			t.Error("Apache still lets them in")
		}
	}},
	{"is told that a session ended", func(t testing.TB, l *lab) {
		l.startApache(t)
		b := l.profile(t)
		visit(t, l, b, l.www+"/page")
		if !l.letsIn(b.Page) {
			t.Fatal("Apache does not let them in")
		}
		other := b.NewPage()
		other.Navigate(l.issuer + "/signout")
		other.ClickText("Sign out of this browser")
		for end := time.Now().Add(limit); l.letsIn(b.Page); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("Apache still lets them in")
			}
		}
	}},
	{"verifies tokens", func(t testing.TB, l *lab) {
		l.startApache(t)
		for token, want := range map[string]int{l.nightly(t): 200, "": 401, "cs_nonsense": 401} {
			req, err := http.NewRequest(http.MethodGet, l.www+"/api", nil)
			check(t, err)
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := l.http().Do(req)
			check(t, err)
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("with the token %.12q: %s", token, resp.Status)
			}
		}
	}},
}

// letsIn reports whether Apache shows its page to a browser that is at Apache,
// without asking who it is.
func (l *lab) letsIn(p *chrome.Page) bool {
	p.AllowConsole("status of 401") // what a script is told
	return chrome.Eval[int](p, `fetch('/page', {redirect: 'manual'}).then(r => r.status)`) == http.StatusOK
}

// nightly is a token of the nightly job for the sample API.
func (l *lab) nightly(t testing.TB) string {
	t.Helper()
	resp, err := l.http().PostForm(l.issuer+"/oauth/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"nightly"}, "client_secret": {l.secrets["nightly"]}, "scope": {"notes:read"}, "resource": {l.api},
	})
	check(t, err)
	defer resp.Body.Close()
	var got struct {
		Token string `json:"access_token"`
	}
	check(t, json.NewDecoder(resp.Body).Decode(&got))
	return got.Token
}

// startApache runs Apache with what its page says until the case ends.
func (l *lab) startApache(t testing.TB) {
	t.Helper()
	packages, dir := debian(t), home(t)
	for _, name := range []string{"page", "only-sam", "bye", "api"} {
		check(t, os.MkdirAll(filepath.Join(dir, "www"), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "www", name), []byte(`<!doctype html><html lang="en"><title>Intranet</title><link rel="icon" href="data:,"><main><h1>The intranet</h1></main>`), 0o644))
	}
	ca, err := os.ReadFile(l.ca)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "site.conf"), []byte(l.block(t, "apache.md", "site.conf")), 0o600))
	check(t, os.Chmod(dir, 0o755))
	modules := filepath.Join(packages, "usr/lib/apache2/modules")
	conf := fmt.Sprintf("ServerName localhost\nListen 127.0.0.1:%s\nPidFile %[2]s/pid\nErrorLog %[2]s/error.log\nDocumentRoot %[2]s/www\nDefaultRuntimeDir %[2]s\n", port(l.apache), dir)
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "headers", "ssl", "auth_openidc"} {
		conf += fmt.Sprintf("LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	if os.Geteuid() == 0 { // Apache does not serve as root
		conf += "User nobody\nGroup nogroup\n"
	}
	conf += fmt.Sprintf("SSLEngine on\nSSLCertificateFile %[1]s/cert.pem\nSSLCertificateKeyFile %[1]s/cert-key.pem\nOIDCCABundlePath %[2]s/ca.pem\n", l.dir, dir)
	conf += "ForceType text/html\nHeader set X-User expr=%{REMOTE_USER}\nInclude " + dir + "/site.conf\n"
	check(t, os.WriteFile(filepath.Join(dir, "apache.conf"), []byte(conf), 0o600))
	l.apache.Close()
	p := commands(t, l.shell(t, dir), dir, "exec "+filepath.Join(packages, "usr/sbin/apache2")+" -X -f "+filepath.Join(dir, "apache.conf"))
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := l.http().Get(l.www + "/api"); err == nil {
			resp.Body.Close()
			break
		}
		if p.Gone() || time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Fatalf("Apache: %s\n%s", p.Said(), log)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("Apache says: %s", log)
		}
	})
}
