package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"countersign": main, "fakebrowser": fakeBrowser})
}

// fakeBrowser follows an address to its end, as a browser whose person agrees
// to everything would, and writes what it saw last to browser.log.
func fakeBrowser() {
	line := ""
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Get(os.Args[1])
	if err != nil {
		line = "error " + err.Error() + "\n"
	} else {
		body, _ := io.ReadAll(resp.Body)
		line = fmt.Sprintf("at %s %s\ncache %s\nreferrer %s\n%s\n", resp.Request.URL, resp.Status, resp.Header.Get("Cache-Control"), resp.Header.Get("Referrer-Policy"), body)
	}
	f, err := os.OpenFile(os.Getenv("BROWSER_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = f.WriteString("opened\n" + line)
		_ = f.Close()
	}
}

// names are the variables that parallel and interrupt hand on.
var names = []string{
	"HOME", "PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME", "CI", "COUNTERSIGN_BROWSER",
	"COUNTERSIGN_INTERACTIVE", "COUNTERSIGN_PROFILE", "BROWSER_LOG", "LANG", "NO_COLOR",
}

func environ(ts *testscript.TestScript) (env []string) {
	for _, n := range names {
		env = append(env, n+"="+ts.Getenv(n))
	}
	return env
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			i := newIssuer()
			e.Defer(i.close)
			e.Values["issuer"] = i
			run := filepath.Join(e.WorkDir, "run")
			if err := os.Mkdir(run, 0o700); err != nil {
				return err
			}
			e.Vars = append(e.Vars, "ISSUER="+i.server.URL, "API="+i.api.URL, "HOME="+e.WorkDir,
				"XDG_CONFIG_HOME="+filepath.Join(e.WorkDir, "config"), "XDG_RUNTIME_DIR="+run, "XDG_CACHE_HOME="+filepath.Join(e.WorkDir, "cache"),
				"XDG_STATE_HOME="+filepath.Join(e.WorkDir, "state"), "CI=", "COUNTERSIGN_BROWSER=fakebrowser", "COUNTERSIGN_INTERACTIVE=1",
				"BROWSER_LOG="+filepath.Join(e.WorkDir, "browser.log"), "CRED="+filepath.Join(e.WorkDir, "config/countersign/default.json"), "LANG=C.UTF-8",
				"SSH_CONNECTION=", "SSH_TTY=", "BROWSER=", "COUNTERSIGN_PROFILE=")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"set": cmdSet, "counts": cmdCounts, "expire": cmdExpire, "exits": cmdExits, "mode": cmdMode,
			"parallel": cmdParallel, "interrupt": cmdInterrupt, "edit": cmdEdit, "authorized": cmdAuthorized, "samekey": cmdSameKey,
			"browsed": cmdBrowsed, "servicekey": cmdServiceKey, "signs": cmdSigns,
		},
	})
}

// browsed PATTERN: what the browser saw matches. The command may end before its
// browser has read the last page, so this waits for it.
func cmdBrowsed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: browsed PATTERN")
	}
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		seen, _ := os.ReadFile(ts.Getenv("BROWSER_LOG"))
		if want.Match(seen) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("the browser saw %q, which does not match %s", seen, want)
		}
	}
}

func of(ts *testscript.TestScript) *issuer { return ts.Value("issuer").(*issuer) }

// set NAME [VALUE]: a switch of the issuer.
func cmdSet(ts *testscript.TestScript, _ bool, args []string) {
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set[args[0]] = strings.Join(args[1:], " ")
}

// counts NAME N: how often something happened at the issuer.
func cmdCounts(ts *testscript.TestScript, neg bool, args []string) {
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	if got := strconv.Itoa(i.counts[args[0]]); (got == args[1]) == neg {
		ts.Fatalf("%s: %s, want %s", args[0], got, args[1])
	}
}

// authorized N NAME [VALUE]: a parameter of the Nth authorization request;
// without a value it must be absent.
func cmdAuthorized(ts *testscript.TestScript, _ bool, args []string) {
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	if n > len(i.authz) {
		ts.Fatalf("only %d requests", len(i.authz))
	}
	if got, want := i.authz[n-1][args[1]], args[2:]; !slices.Equal(got, want) {
		ts.Fatalf("%s: %q, want %q", args[1], got, want)
	}
}

// samekey N: the API saw N attempts at keys/rotate, all with one
// Idempotency-Key.
func cmdSameKey(ts *testscript.TestScript, _ bool, args []string) {
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	if strconv.Itoa(len(i.idem)) != args[0] || i.idem[0] == "" || len(slices.Compact(slices.Clone(i.idem))) != 1 {
		ts.Fatalf("keys: %q, want %s equal ones", i.idem, args[0])
	}
}

func credential(ts *testscript.TestScript) (path string, doc map[string]any) {
	path = ts.Getenv("CRED")
	text, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(json.Unmarshal(text, &doc))
	return path, doc
}

func save(ts *testscript.TestScript, path string, doc map[string]any) {
	text, err := json.Marshal(doc)
	ts.Check(err)
	ts.Check(os.WriteFile(path, text, 0o600))
}

// expire LEFT: every token of a life of 5 minutes has LEFT to live.
func cmdExpire(ts *testscript.TestScript, _ bool, args []string) {
	left, err := time.ParseDuration(args[0])
	ts.Check(err)
	path, doc := credential(ts)
	end := time.Now().Add(left)
	tokens, _ := doc["access"].([]any)
	for _, t := range tokens {
		t.(map[string]any)["expires_at"], t.(map[string]any)["issued_at"] = end, end.Add(-5*time.Minute)
	}
	save(ts, path, doc)
}

// edit NAME JSON: a member of the credential file.
func cmdEdit(ts *testscript.TestScript, _ bool, args []string) {
	path, doc := credential(ts)
	var v any
	ts.Check(json.Unmarshal([]byte(args[1]), &v))
	doc[args[0]] = v
	save(ts, path, doc)
}

// exits CODE COMMAND...: a command that ends with the code.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// mode FILE MODE.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s: mode %s, want %s", args[0], got, args[1])
	}
}

// parallel N ARGS...: N processes of countersign at once, all of which succeed
// with the same words on standard output.
func cmdParallel(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	env := environ(ts)
	outs, faults := make([]string, n), make([]string, n)
	var wait sync.WaitGroup
	for k := range n {
		wait.Go(func() {
			var out, errs bytes.Buffer
			cmd := exec.Command(lookCountersign(ts), args[1:]...)
			cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &errs
			if err := cmd.Run(); err != nil {
				faults[k] = err.Error() + ": " + errs.String()
			}
			outs[k] = out.String()
		})
	}
	wait.Wait()
	for k := range n {
		if faults[k] != "" || outs[k] == "" || outs[k] != outs[0] {
			ts.Fatalf("process %d: %s %q, the first said %q", k, faults[k], outs[k], outs[0])
		}
	}
}

func lookCountersign(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, "countersign"); exists(path) {
			return path
		}
	}
	ts.Fatalf("no countersign in PATH")
	return ""
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// interrupt ARGS...: countersign, stopped with SIGINT once it waits; it must
// end with 130.
func cmdInterrupt(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(lookCountersign(ts), args...)
	cmd.Env = environ(ts)
	errs := &waiter{marks: "http://", seen: make(chan struct{})}
	cmd.Stderr = errs
	ts.Check(cmd.Start())
	select {
	case <-errs.seen:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		ts.Fatalf("it never waited: %s", errs.text())
	}
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		ts.Fatalf("it did not stop")
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		ts.Fatalf("exit code %d: %s", code, errs.text())
	}
}

// waiter tells when a text was written.
type waiter struct {
	mu    sync.Mutex
	b     bytes.Buffer
	marks string
	seen  chan struct{}
	once  sync.Once
}

func (w *waiter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if strings.Contains(w.b.String(), w.marks) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func (w *waiter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
