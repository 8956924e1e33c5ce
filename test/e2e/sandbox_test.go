package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/test/internal/program"
)

// limit is how long a command, or anything that is waited for, may take.
const limit = 90 * time.Second

// sandbox is a machine of one's own: a home folder, the sandbox in it, and the
// two programs.
type sandbox struct {
	t      *testing.T
	home   string
	dir    string // the sandbox's
	client string // the program countersign
	server string // the program countersignd
	issuer string
	api    string
	flags  []string
	run    *program.Process
}

// newSandbox starts a sandbox on a database: a PostgreSQL connection string, or
// "" for SQLite.
func newSandbox(t *testing.T, postgres string, flags ...string) *sandbox {
	t.Helper()
	s := &sandbox{t: t, home: t.TempDir(), client: program.Build(t, "countersign"), server: program.Build(t, "countersignd")}
	s.dir = filepath.Join(s.home, ".local", "state", "countersign", "sandbox")
	s.flags = append([]string{"sandbox", "--port", "0", "--api-port", "0"}, flags...)
	if postgres != "" {
		s.flags = append(s.flags, "--postgres", postgres)
	}
	s.start()
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log.txt"))
			t.Logf("the sandbox said: %s\nits log ends: %s", s.run.Said(), tail(string(log), 6000))
		}
		s.run.Stop(limit)
	})
	return s
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// env is the environment of a terminal in this home folder, with a person in
// front of it.
func (s *sandbox) env(more ...string) []string {
	without := []string{"COUNTERSIGN_", "XDG_", "BROWSER=", "SSH_", "CI=", "HOME=", "DISPLAY="}
	return program.Environment(without, append([]string{"HOME=" + s.home, "COUNTERSIGN_INTERACTIVE=1", "NO_COLOR=1"}, more...)...)
}

func (s *sandbox) start() {
	s.t.Helper()
	cmd := exec.Command(s.server, s.flags...)
	cmd.Env = s.env()
	cmd.Dir = s.home
	var err error
	if s.run, err = program.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	var where struct{ Issuer, API string }
	s.wait("the sandbox's addresses", func() bool {
		b, err := os.ReadFile(filepath.Join(s.home, ".local", "state", "countersign", "sandbox.json"))
		return err == nil && json.Unmarshal(b, &where) == nil
	})
	s.issuer, s.api = where.Issuer, where.API
	s.wait("the server", func() bool { return s.answers(s.issuer + "/.well-known/openid-configuration") })
	s.wait("the sample API", func() bool { return s.answers(s.api + "/.well-known/oauth-protected-resource") })
}

var plainHTTP = &http.Client{Timeout: 5 * time.Second}

func (s *sandbox) answers(url string) bool {
	resp, err := plainHTTP.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// wait polls until ok.
func (s *sandbox) wait(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if s.run.Gone() {
			s.t.Fatalf("waiting for %s, the sandbox ended: %s", what, s.run.Said())
		}
		if time.Now().After(end) {
			s.t.Fatalf("waited in vain for %s; the sandbox says: %s", what, s.run.Said())
		}
	}
}

// setupLink is the link that the sandbox left in its folder, where no terminal
// shows it.
func (s *sandbox) setupLink() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "setup-link")
	var link string
	s.wait("the setup link", func() bool {
		b, err := os.ReadFile(path)
		link = strings.TrimSpace(string(b))
		return err == nil && link != ""
	})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		s.t.Errorf("the file of the setup link: %v, %v", info.Mode(), err)
	}
	if !strings.HasPrefix(link, s.issuer+"/setup#") {
		s.t.Fatalf("the setup link is %q", link)
	}
	return link
}

// countersign runs the command line to its end.
func (s *sandbox) countersign(args ...string) program.Result {
	s.t.Helper()
	return s.exec(s.client, s.env("COUNTERSIGN_BROWSER=print"), args...)
}

// countersignd runs a command of the server to its end.
func (s *sandbox) countersignd(args ...string) program.Result {
	s.t.Helper()
	return s.exec(s.server, s.env(), args...)
}

func (s *sandbox) exec(path string, env []string, args ...string) program.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	r, err := program.Exec(ctx, env, path, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, r.Stderr)
	}
	return r
}

// must runs the command line and fails the test unless it ends well.
func (s *sandbox) must(args ...string) program.Result {
	s.t.Helper()
	r := s.countersign(args...)
	if r.Exit != 0 {
		s.t.Fatalf("countersign %s: exit %d\n%s%s", strings.Join(args, " "), r.Exit, r.Stdout, r.Stderr)
	}
	return r
}

// asking is a command that needs the person in a browser.
type asking struct {
	s    *sandbox
	what string
	file string
	done chan program.Result
}

// ask starts a command whose browser is this test.
func (s *sandbox) ask(args ...string) *asking {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	a := &asking{s: s, what: "countersign " + strings.Join(args, " "), file: filepath.Join(s.t.TempDir(), "opened"), done: make(chan program.Result, 1)}
	env := s.env("COUNTERSIGN_BROWSER="+self, openVariable+"="+a.file)
	go func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*limit)
		defer cancel()
		r, err := program.Exec(ctx, env, s.client, args...)
		if err != nil {
			r.Stderr += err.Error()
		}
		a.done <- r
	}()
	return a
}

// address is what the command opens in the browser.
func (a *asking) address() string {
	a.s.t.Helper()
	var address string
	a.s.wait(a.what+" to open the browser", func() bool {
		select {
		case r := <-a.done:
			a.s.t.Fatalf("%s ended without a browser: exit %d\n%s%s", a.what, r.Exit, r.Stdout, r.Stderr)
		default:
		}
		b, err := os.ReadFile(a.file)
		address = string(b)
		return err == nil
	})
	if !strings.HasPrefix(address, a.s.issuer+"/") {
		a.s.t.Errorf("%s opens %s", a.what, address)
	}
	return address
}

// result waits for the command's end, which must be good.
func (a *asking) result() program.Result {
	a.s.t.Helper()
	select {
	case r := <-a.done:
		if r.Exit != 0 {
			a.s.t.Fatalf("%s: exit %d\n%s%s", a.what, r.Exit, r.Stdout, r.Stderr)
		}
		return r
	case <-time.After(limit):
		a.s.t.Fatalf("%s did not end", a.what)
		return program.Result{}
	}
}

// caller calls the sample API with what the command line holds, and nothing
// between: what it sees is what the API said.
type caller struct {
	s     *sandbox
	key   *countersign.DPoPKey
	token string
}

func (s *sandbox) caller() *caller {
	s.t.Helper()
	var status struct {
		Storage struct{ Path string }
	}
	s.parse(s.must("auth", "status", "--json").Stdout, &status)
	var kept struct {
		Key string `json:"dpop_key"`
	}
	b, err := os.ReadFile(status.Storage.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.parse(string(b), &kept)
	key, err := countersign.ParseDPoPKey([]byte(kept.Key))
	if err != nil {
		s.t.Fatal(err)
	}
	return &caller{s, key, strings.TrimSpace(s.must("auth", "token", "--audience", s.api).Stdout)}
}

// notes asks for the notes; code is the API's refusal, "" if there was none.
func (c *caller) notes() (status int, challenge string, err error) {
	url := c.s.api + "/notes"
	proof, err := c.key.Proof(http.MethodGet, url, c.token, "")
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "DPoP "+c.token)
	req.Header.Set("DPoP", proof)
	resp, err := plainHTTP.Do(req)
	if err != nil {
		return 0, "", err
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), nil
}

func (s *sandbox) parse(text string, v any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatalf("%v in %s", err, text)
	}
}

// introspections counts how often the server was asked about a token.
func (s *sandbox) introspections() int { return s.logged("/introspect") }

// signIns counts how often a passkey opened a session.
func (s *sandbox) signIns() int { return s.logged(`route="POST /signin/finish" status=200`) }

// logged counts what the server's log says.
func (s *sandbox) logged(text string) int {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "log.txt"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(string(b), text)
}

// record is a line of `countersignd audit list --json`.
type record struct {
	Seq      int64
	ID       string
	Kind     string
	Refused  bool
	Sentence string
	Persons  []string
	Client   string
	Actor    string
	ACR      string
	Proofs   string
	Reasons  []string
	Policy   string
}

func (r record) String() string {
	return fmt.Sprintf("%d %s %q by %s acr=%s proofs=%s reasons=%v", r.Seq, r.Kind, r.Sentence, r.Actor, r.ACR, r.Proofs, r.Reasons)
}

// audit lists the log, oldest first.
func (s *sandbox) audit() (list []record) {
	s.t.Helper()
	r := s.countersignd("audit", "export")
	if r.Exit != 0 {
		s.t.Fatalf("countersignd audit export: exit %d\n%s", r.Exit, r.Stderr)
	}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
		var x record
		s.parse(line, &x)
		list = append(list, x)
	}
	return list
}
