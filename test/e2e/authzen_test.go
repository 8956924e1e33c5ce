package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/examples/records"
)

// TestSandboxAnswersAuthZEN does what docs/connect/resource-server.md says of a sandbox
// that was started with --authzen, with the secret that it tells.
func TestSandboxAnswersAuthZEN(t *testing.T) {
	page, err := os.ReadFile("../../docs/connect/resource-server.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`curl -u (\S+):SECRET http://localhost:8787(\S+) [^']*'([^']+): ([^']+)' \\\n  -d '([^']+)'`).FindStringSubmatch(string(page))
	if m == nil || m[1] != records.Client {
		t.Fatalf("the page: %q", m)
	}
	s := newSandbox(t, "", "--authzen")
	var secret []byte
	s.wait("the secret", func() bool {
		secret, err = os.ReadFile(filepath.Join(s.dir, "authzen-secret"))
		return err == nil && strings.HasSuffix(string(secret), "\n")
	})
	r, err := http.NewRequest(http.MethodPost, s.issuer+m[2], strings.NewReader(m[5]))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(m[1], strings.TrimSpace(string(secret)))
	r.Header.Set(m[3], m[4])
	resp, err := plainHTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != `{"decision":true}`+"\n" {
		t.Errorf("%s: %s, %v", resp.Status, text, err)
	}
}
