package clilogin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

const testIssuer = "https://id.example.com"

func newLoopback(t *testing.T) *loopback {
	t.Helper()
	l, err := listen("tool", testIssuer, "our-state", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.server.Close() })
	return l
}

// get asks the loopback target as a browser would, under a name of choice.
func get(t *testing.T, l *loopback, method, host, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestLoopbackRefuses(t *testing.T) {
	l := newLoopback(t)
	good := "/callback?code=c&state=our-state&iss=" + url.QueryEscape(testIssuer)
	for name, c := range map[string]struct {
		method, host, path string
		status             int
	}{
		"another host":      {"GET", "localhost:80", good, http.StatusMisdirectedRequest},
		"a rebound name":    {"GET", "evil.example", good, http.StatusMisdirectedRequest},
		"localhost":         {"GET", strings.Replace(l.host, "127.0.0.1", "localhost", 1), good, http.StatusMisdirectedRequest},
		"a form":            {"POST", l.host, good, http.StatusMethodNotAllowed},
		"another path":      {"GET", l.host, "/", http.StatusNotFound},
		"no outcome":        {"GET", l.host, "/done", http.StatusNotFound},
		"no state":          {"GET", l.host, "/callback?code=c", http.StatusBadRequest},
		"another state":     {"GET", l.host, "/callback?code=c&state=x", http.StatusBadRequest},
		"state twice":       {"GET", l.host, "/callback?code=c&state=our-state&state=x", http.StatusBadRequest},
		"a broken question": {"GET", l.host, "/callback?state=our-state&%zz", http.StatusBadRequest},
	} {
		resp, body := get(t, l, c.method, c.host, c.path)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Referrer-Policy") != "no-referrer" || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", name, resp.Header)
		}
	}
	select {
	case a := <-l.answers:
		t.Fatalf("one of them counted: %v", a)
	default:
	}
}

func TestLoopbackAnswers(t *testing.T) {
	iss := "&iss=" + url.QueryEscape(testIssuer)
	for name, c := range map[string]struct{ query, code, fault string }{
		"a code":              {"code=c" + iss, "c", ""},
		"no issuer":           {"code=c", "", "issuer_mismatch"},
		"an issuer's shadow":  {"code=c" + iss + "/", "", "issuer_mismatch"},
		"two codes":           {"code=c&code=d" + iss, "", "invalid_response"},
		"nothing":             {iss[1:], "", "invalid_response"},
		"declined":            {"error=access_denied" + iss, "", CodeDenied},
		"declined by another": {"error=access_denied&iss=https://evil.example", "", "issuer_mismatch"},
		"cannot be reached":   {"error=unmet_authentication_requirements" + iss, "", "unmet_authentication_requirements"},
		"out of order":        {"error=temporarily_unavailable" + iss, "", CodeUnreachable},
		"a code and an error": {"code=c&error=access_denied" + iss, "", CodeDenied},
	} {
		l := newLoopback(t)
		a, ok := l.read("state=our-state&" + c.query)
		if !ok || a.code != c.code || problem.CodeOf(a.err) != c.fault {
			t.Errorf("%s: %q %v", name, a.code, a.err)
		}
	}
}

func TestLoopbackShowsTheOutcomeWithoutTheCode(t *testing.T) {
	l := newLoopback(t)
	go func() {
		code, err := l.wait(t.Context())
		if code != "c0de" || err != nil {
			t.Errorf("%q %v", code, err)
		}
		time.Sleep(20 * time.Millisecond)
		l.settle(signedIn("tool", ""))
	}()
	resp, body := get(t, l, "GET", l.host, "/callback?code=c0de&state=our-state&iss="+url.QueryEscape(testIssuer))
	if resp.Request.URL.Path != "/done" || resp.Request.URL.RawQuery != "" || !contains(body, "signed in to tool on ") || contains(body, "c0de") {
		t.Fatalf("%s %s", resp.Request.URL, body)
	}
	// The page again, and the same answer again: nothing new happens.
	if resp, _ := get(t, l, "GET", l.host, "/callback?code=other&state=our-state&iss="+url.QueryEscape(testIssuer)); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if len(l.answers) != 0 {
		t.Fatal("a second answer counted")
	}
}

func TestLoopbackEscapes(t *testing.T) {
	l := newLoopback(t)
	l.settle(notSignedIn("tool", fault(problem.Denied, CodeDenied, "<script>alert(1)</script>")))
	if _, body := get(t, l, "GET", l.host, "/done"); contains(body, "<script") || !contains(body, "&lt;script&gt;") {
		t.Fatal(body)
	}
}

func TestLoopbackStops(t *testing.T) {
	l := newLoopback(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.wait(ctx); err == nil {
		t.Fatal("no error")
	}
	l.close()
	if _, err := http.Get("http://" + l.host + "/done"); err == nil {
		t.Fatal("it still listens")
	}
}
