package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/browser/chrome"
)

// requireNode skips the tests, or fails them where a browser is required, too,
// when the packages are not installed.
func requireNode(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("node_modules")
	}
	// Looked at, so that a cached result is not that of other scripts.
	for _, pattern := range []string{"js/*", "package-lock.json", "../../docs/connect/*"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			os.Stat(name)
		}
	}
	switch {
	case err == nil:
	case chrome.Required():
		t.Fatalf("node or the packages of test/interop are missing (make tools): %v", err)
	default:
		t.Skipf("node or the packages of test/interop are missing (make tools): %v", err)
	}
}

// nodeCases are cases of a script in js, each a run of its own.
func nodeCases(script string, names []string) (list []kase) {
	for _, name := range names {
		list = append(list, kase{name, func(t testing.TB, l *lab) { l.node(t, l.browser, script, name) }})
	}
	return list
}

// libraryCases are what both libraries are asked to do.
var libraryCases = []string{
	"discovery", "code with PKCE", "form post", "pushed request", "signed request", "DPoP", "DPoP, pushed request and private_key_jwt", "mutual TLS",
	"FAPI profile, private_key_jwt and DPoP", "FAPI profile, mutual TLS",
	"refresh", "userinfo", "introspection", "revocation", "client credentials", "device flow", "CIBA", "refusal",
	"logout",
}

// node runs a script of js: what it wants opened is opened in the browser, and
// what the browser brings to the callback goes to its standard input. It ends
// well or the test fails with what it said.
func (l *lab) node(t testing.TB, b *chrome.Browser, script string, args ...string) {
	t.Helper()
	about, err := json.Marshal(map[string]any{
		"issuer": l.issuer, "api": l.api, "callback": l.back.url + "/callback", "secrets": l.secrets, "key": pkcs8(l.key), "folder": l.dir, "mcp": l.mcp, "document": l.document,
		"configuration": l.block(t, "mcp.md", "mcp-remote"),
	})
	check(t, err)
	cmd := exec.Command("node", append([]string{filepath.Join("js", script)}, args...)...)
	cmd.Env = l.env("LAB=" + string(about))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	late := time.AfterFunc(2*limit, func() { cmd.Process.Kill() })
	defer late.Stop()
	ended := false
	defer func() {
		if !ended { // the browser failed the test
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var ask struct {
			Open, Approve, Code string
			Expire              bool
		}
		switch err := json.Unmarshal(lines.Bytes(), &ask); {
		case err == nil && ask.Expire:
			l.ahead.Add(int64(expiry))
			io.WriteString(in, "{}\n")
		case err == nil && ask.Approve != "":
			approves(t, b, ask.Approve, ask.Code)
		case err == nil && ask.Open != "":
			l.goes(t, b, ask.Open, in)
		default:
			stderr.WriteString(lines.Text() + "\n")
		}
	}
	err = cmd.Wait()
	ended = true
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", script, strings.Join(args, " "), err, stderr.String())
	}
}

// goes visits an address and tells a program what came back to the callback, if
// it was there that the browser ended.
func (l *lab) goes(t testing.TB, b *chrome.Browser, url string, tell io.Writer) {
	t.Helper()
	end := visit(t, l, b, url)
	if !strings.HasPrefix(end, l.back.url) {
		return
	}
	select {
	case a := <-l.back.got:
		line, err := json.Marshal(a)
		check(t, err)
		_, err = tell.Write(append(line, '\n'))
		check(t, err)
	case <-time.After(limit):
		t.Fatalf("nothing came to the callback; the browser is at %s", end)
	}
}
