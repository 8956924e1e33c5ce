package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

func TestOriginCheck(t *testing.T) {
	c, err := NewOriginCheck("https://id.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewOriginCheck("https://id.example.com/path"); err == nil {
		t.Error("a path is no origin")
	}
	for _, x := range []struct {
		method, site, origin string
		ok                   bool
	}{
		{"POST", "same-origin", "", true},
		{"POST", "same-origin", "null", true},
		{"POST", "none", "", true},
		{"POST", "", "", true},
		{"POST", "", "https://id.example.com", true},
		{"POST", "cross-site", "https://evil.example", false},
		{"POST", "same-site", "https://x.example.com", false},
		{"POST", "", "https://evil.example", false},
		{"POST", "", "null", false},
		{"GET", "cross-site", "https://evil.example", true},
	} {
		r := httptest.NewRequest(x.method, "http://10.0.0.5/", nil)
		set(r, x.site, x.origin)
		if err := c.Check(r); (err == nil) != x.ok || err != nil && problem.CodeOf(err) != "cross_origin" {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

func set(r *http.Request, site, origin string) {
	if site != "" {
		r.Header.Set("Sec-Fetch-Site", site)
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
}

func TestDevelopment(t *testing.T) {
	d := NewDevelopment(8080)
	for _, x := range []struct{ method, host, site, origin, code string }{
		{"GET", "localhost:8080", "", "", ""},
		{"GET", "127.0.0.1:8080", "cross-site", "", ""},
		{"POST", "[::1]:8080", "same-origin", "http://[::1]:8080", ""},
		{"POST", "localhost:8080", "", "", ""},
		{"POST", "localhost:8080", "none", "", ""},
		{"POST", "localhost:8080", "same-origin", "null", ""},
		{"GET", "localhost", "", "", "host_unknown"},
		{"GET", "localhost:8081", "", "", "host_unknown"},
		{"GET", "evil.example:8080", "", "", "host_unknown"},
		{"GET", "localhost.:8080", "", "", "host_unknown"},
		{"GET", "", "", "", "host_unknown"},
		{"POST", "localhost:8080", "cross-site", "", "cross_origin"},
		{"DELETE", "localhost:8080", "same-site", "http://localhost:8081", "cross_origin"},
		{"PUT", "localhost:8080", "", "null", "cross_origin"},
		{"POST", "localhost:8080", "", "https://localhost:8080", "cross_origin"},
		{"POST", "localhost:8080", "same-origin", "http://localhost:8081", "cross_origin"},
		{"WEIRD", "localhost:8080", "cross-site", "", "cross_origin"},
	} {
		r := httptest.NewRequest(x.method, "/", nil)
		r.Host = x.host
		set(r, x.site, x.origin)
		if err := d.Check(r); problem.CodeOf(err) != x.code || err != nil && !errors.Is(err, problem.Denied) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Anything", "Via", "X-Real-IP"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = "localhost:8080"
		r.Header.Set(name, "x")
		if err := d.Check(r); problem.CodeOf(err) != "development_proxied" {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "localhost"
	if err := NewDevelopment(80).Check(r); err != nil {
		t.Error(err)
	}
}

func TestPublic(t *testing.T) {
	for _, s := range []string{"8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1", "100.128.0.1"} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s is public", s)
		}
	}
	for _, s := range []string{
		"127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fc00::1", "fd00::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "100::1", "3fff::1", "5f00::1", "fe80::1%eth0",
	} {
		if public(netip.MustParseAddr(s)) {
			t.Errorf("%s is not public", s)
		}
	}
	if public(netip.Addr{}) {
		t.Error("nothing is public")
	}
}

func TestEgress(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
			}
		case "/big":
			w.Write(make([]byte, 101))
		default:
			w.Write(make([]byte, 100))
		}
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	get := func(e Egress, url string) (int, error) {
		c := e.Client()
		defer c.CloseIdleConnections()
		resp, err := c.Get(url)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return len(b), err
	}
	open := Egress{Allow: []string{u.Host}, MaxBytes: 100}
	hasty := Egress{Allow: open.Allow, Timeout: 200 * time.Millisecond}
	if n, err := get(open, srv.URL+"/"); err != nil || n != 100 {
		t.Errorf("allowed: %d, %v", n, err)
	}
	if n, err := get(Egress{Allow: []string{"127.0.0.1"}}, srv.URL+"/big"); err != nil || n != 101 {
		t.Errorf("allowed by host: %d, %v", n, err)
	}
	if n, err := get(open, srv.URL+"/big"); !errors.Is(err, ErrTooLarge) || n != 100 {
		t.Errorf("big: %d, %v", n, err)
	}
	if _, err := get(open, srv.URL+"/redirect"); !errors.Is(err, ErrEgress) {
		t.Errorf("redirect: %v", err)
	}
	start := time.Now()
	if _, err := get(hasty, srv.URL+"/slow"); err == nil || time.Since(start) > 30*time.Second {
		t.Errorf("slow: %v", err)
	}
	before := hits.Load()
	for _, url := range []string{srv.URL, "https://127.0.0.1:" + u.Port(), "https://localhost:" + u.Port(), "https://[::ffff:127.0.0.1]:" + u.Port(), "http://example.com/", "https://169.254.169.254/", "ftp://x/", "https://2130706433/"} {
		if _, err := get(Egress{}, url); err == nil || !errors.Is(err, ErrEgress) && !strings.Contains(url, "2130706433") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := get(Egress{Allow: []string{"127.0.0.1:1"}}, srv.URL); !errors.Is(err, ErrEgress) {
		t.Errorf("another port: %v", err)
	}
	if hits.Load() != before {
		t.Error("a refused call reached the server")
	}
	if _, err := (Egress{}).dial(context.Background(), "tcp", srv.Listener.Addr().String()); !errors.Is(err, ErrEgress) {
		t.Errorf("dialled: %v", err)
	}
}

func TestEgressProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Host
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	u, _ := url.Parse(proxy.URL)
	c := Egress{Proxy: u}.Client()
	defer c.CloseIdleConnections()
	if _, err := c.Get("https://idp.example/"); err == nil || asked != "idp.example:443" {
		t.Errorf("the proxy was asked for %q: %v", asked, err)
	}
	if _, err := c.Get("https://10.0.0.1/"); !errors.Is(err, ErrEgress) {
		t.Errorf("a private address through the proxy: %v", err)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		t.Fatal(err)
	}
}
