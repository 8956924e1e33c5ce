package clilogin

import (
	"net/url"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

func TestResourceCovers(t *testing.T) {
	for _, c := range []struct {
		resource, at string
		want         bool
	}{
		{"https://api.example.com", "https://api.example.com/notes", true},
		{"https://api.example.com/", "https://API.example.com:443/notes?x=1", true},
		{"https://api.example.com/v2", "https://api.example.com/v2", true},
		{"https://api.example.com/v2", "https://api.example.com/v2/notes", true},
		{"https://api.example.com/v2", "https://api.example.com/v22", false},
		{"https://api.example.com/v2", "https://api.example.com/v2/../admin", false},
		{"https://api.example.com/v2", "https://api.example.com/v2/%2e%2E/admin", false},
		{"https://api.example.com", "http://api.example.com/", false},
		{"https://api.example.com", "https://api.example.com:8443/", false},
		{"https://api.example.com", "https://api.example.com.evil.example/", false},
		{"https://api.example.com#x", "https://api.example.com/", false},
		{"https://u@api.example.com", "https://api.example.com/", false},
		{"http://api.example.com", "http://api.example.com/", false},
		{"http://localhost:1", "http://localhost:1/x", true},
		{"http://127.0.0.1:1", "http://localhost:1/x", false},
	} {
		u, err := url.Parse(c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := (resourceMetadata{Resource: c.resource}).covers(u); got != c.want {
			t.Errorf("%s for %s: %v", c.resource, c.at, got)
		}
	}
}

func TestResourceCache(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	p := &Profile{Store: newStore(t), Name: "default", Now: func() time.Time { return now }}
	at := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	p.remember(resourceMetadata{Resource: "https://a.example", Servers: []string{"x"}})
	p.remember(resourceMetadata{Resource: "https://a.example/deep", Servers: []string{"y"}})
	if m, ok := p.recall(at("https://a.example/deep/er")); !ok || m.Servers[0] != "y" {
		t.Fatalf("%v %v", m, ok)
	}
	if m, ok := p.recall(at("https://a.example/else")); !ok || m.Servers[0] != "x" {
		t.Fatalf("%v %v", m, ok)
	}
	p.forget("https://a.example/deep")
	if m, _ := p.recall(at("https://a.example/deep")); m.Servers[0] != "x" {
		t.Fatalf("%v", m)
	}
	now = now.Add(resourceCacheLife + time.Second)
	if _, ok := p.recall(at("https://a.example/")); ok {
		t.Fatal("it is older than an hour")
	}
}

func TestIssuerSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"https://id.example.com": "https://id.example.com", "https://id.example.com/": "https://id.example.com",
		"id.example.com": "https://id.example.com", "localhost:8787": "http://localhost:8787", "127.0.0.1:1": "http://127.0.0.1:1",
		"http://localhost:8787": "http://localhost:8787", "http://id.example.com": "", "https://id.example.com/x": "", "https://u@id.example.com": "",
		"": "", "ftp://x": "", "https://id.example.com?x": "",
	} {
		got, err := checkIssuer(in)
		if got != want || want == "" && problem.CodeOf(err) != CodeIssuerUnknown {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
}
