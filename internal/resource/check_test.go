package resource

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

func TestCheckURI(t *testing.T) {
	for uri, want := range map[string]bool{
		"https://api.example.com":        true,
		"https://api.example.com/":       true,
		"https://api.example.com/a/b":    true,
		"HTTPS://API.example.com":        true,
		"http://localhost:9000":          true,
		"http://127.0.0.1:9000/x":        true,
		"http://[::1]:9000":              true,
		"urn:example:notes":              true,
		"api://notes":                    true,
		"":                               false,
		"notes":                          false,
		"/notes":                         false,
		"https://":                       false,
		"https://api.example.com#":       false,
		"https://api.example.com/#a":     false,
		"https://api.example.com?a=1":    false,
		"https://u@api.example.com":      false,
		"https://api.example.com/a b":    false,
		"https://api.example.com/../v1":  false,
		"https://*.example.com":          false,
		"https://api.exämple.com":        false,
		"http://api.example.com":         false,
		"http://localhost.evil.example":  false,
		"http://127.0.0.1@evil.example/": false,
		"javascript:alert(1)":            false,
		"JavaScript:alert(1)":            false,
		"data:text/html,x":               false,
		"https://a.example/" + strings.Repeat("a", MaxURI): false,
	} {
		if err := CheckURI(uri); (err == nil) != want {
			t.Errorf("%.60q: %v, want accepted %v", uri, err, want)
		}
	}
}

func FuzzCheckURI(f *testing.F) {
	f.Add("https://api.example.com/a")
	f.Add("http://[::1]:1/")
	f.Add("urn:a:b")
	f.Fuzz(func(t *testing.T, uri string) {
		if CheckURI(uri) != nil {
			return
		}
		c, err := Canonical(uri)
		if err != nil {
			t.Fatalf("%q: %v", uri, err)
		}
		if again, err := Canonical(c); err != nil || again != c {
			t.Fatalf("%q: canonical %q, then %q: %v", uri, c, again, err)
		}
	})
}

func TestCheck(t *testing.T) {
	good := func() Resource {
		return Resource{URI: "https://api.example.com", Name: "Notes", Scopes: []Scope{{Name: "a", Kind: KindRead}}, Servers: []string{"cli_a"}}
	}
	for name, c := range map[string]struct {
		edit func(*Resource)
		code string
	}{
		"good":             {func(*Resource) {}, ""},
		"ask":              {func(r *Resource) { r.Scopes[0].Ask = assurance.Ask{Rung: assurance.Phishing, MaxAge: time.Minute} }, ""},
		"no name":          {func(r *Resource) { r.Name = "" }, "name_invalid"},
		"control in name":  {func(r *Resource) { r.Name = "a\nb" }, "name_invalid"},
		"identity scope":   {func(r *Resource) { r.Scopes[0].Name = "offline_access" }, "scope_invalid"},
		"wildcard scope":   {func(r *Resource) { r.Scopes[0].Name = "*" }, "scope_invalid"},
		"no scope name":    {func(r *Resource) { r.Scopes[0].Name = "" }, "scope_invalid"},
		"kind":             {func(r *Resource) { r.Scopes[0].Kind = "own" }, "scope_invalid"},
		"bidi description": {func(r *Resource) { r.Scopes[0].Description = "a\u202eb" }, "scope_invalid"},
		"scope twice":      {func(r *Resource) { r.Scopes = append(r.Scopes, r.Scopes[0]) }, "scope_invalid"},
		"rung":             {func(r *Resource) { r.Scopes[0].Ask.Rung = 5 }, "ask_invalid"},
		"age":              {func(r *Resource) { r.Scopes[0].Ask.MaxAge = time.Second }, "ask_invalid"},
		"fraction":         {func(r *Resource) { r.Scopes[0].Ask.MaxAge = time.Minute + 1 }, "ask_invalid"},
		"approval":         {func(r *Resource) { r.Scopes[0].Ask.Approval.Kind = assurance.Confirm }, "ask_invalid"},
		"device":           {func(r *Resource) { r.Scopes[0].Ask.Device = assurance.KnownDevice }, "ask_invalid"},
		"server twice":     {func(r *Resource) { r.Servers = []string{"cli_a", "cli_a"} }, "servers_invalid"},
		"too many":         {func(r *Resource) { r.Servers = make([]string, MaxServers+1) }, "resource_too_large"},
		"uri":              {func(r *Resource) { r.URI = "x" }, "uri_invalid"},
	} {
		r := good()
		c.edit(&r)
		if got := problem.CodeOf(Check(r)); got != c.code {
			t.Errorf("%s: %q, want %q", name, got, c.code)
		}
	}
}
