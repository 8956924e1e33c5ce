package oauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// sink is a response writer that keeps what a benchmark looks at.
type sink struct {
	header http.Header
	status int
	body   []byte
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(code int)        { s.status = code }
func (s *sink) Write(b []byte) (int, error) { s.body = append(s.body, b...); return len(b), nil }

// measure calls a handler from many goroutines, so that SQLite commits groups, as
// under load; next makes the body of each call.
func measure(b *testing.B, h func(http.ResponseWriter, *http.Request) error, method, path string, next func() string, opts ...option) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q := httptest.NewRequest(method, path, strings.NewReader(next()))
			q.Header.Set("Content-Type", formType)
			for _, o := range opts {
				o(q)
			}
			w := &sink{header: http.Header{}, status: 200}
			if err := h(w, q); err != nil || w.status != 200 {
				b.Fatalf("%d %s %v", w.status, w.body, err)
			}
		}
	})
}

func BenchmarkClientCredentials(b *testing.B) {
	r := onSQLite(b)
	body := form("grant_type", "client_credentials", "client_id", "nightly", "client_secret", r.svcSecret).Encode()
	measure(b, r.nodes[0].server.token, "POST", "/oauth/token", func() string { return body })
}

func BenchmarkClientCredentialsSigned(b *testing.B) {
	r := onSQLite(b)
	measure(b, r.nodes[0].server.token, "POST", "/oauth/token", func() string {
		return r.asserted(form("grant_type", "client_credentials", "resource", r.notes.URI)).Encode()
	})
}

func BenchmarkRefresh(b *testing.B) {
	r := onSQLite(b)
	tokens := make(chan string, 1024)
	for range 64 {
		tokens <- r.granted(r.app).RefreshToken
	}
	s := r.nodes[0].server
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(form("grant_type", "refresh_token", "client_id", "app", "refresh_token", <-tokens).Encode()))
			q.Header.Set("Content-Type", formType)
			w := &sink{header: http.Header{}, status: 200}
			if err := s.token(w, q); err != nil || w.status != 200 {
				b.Fatalf("%d %s %v", w.status, w.body, err)
			}
			tokens <- r.tokens(answer{status: 200, body: string(w.body)}).RefreshToken
		}
	})
}

func BenchmarkIntrospection(b *testing.B) {
	for _, kind := range []string{"seen", "first"} {
		b.Run(kind, func(b *testing.B) {
			r := onSQLite(b)
			s := r.nodes[0].server
			text := r.granted(r.app).AccessToken
			body := form("token", text).Encode()
			measure(b, func(w http.ResponseWriter, q *http.Request) error {
				if kind == "first" {
					s.verified.forget()
				}
				return s.introspect(w, q)
			}, "POST", "/oauth/introspect", func() string { return body }, r.auth(r.rs))
		})
	}
}

func (c *verifiedCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old, c.new = nil, nil
}

func BenchmarkUserinfo(b *testing.B) {
	r := onSQLite(b)
	tok := r.granted(r.app, "scope", "openid profile email notes:read").AccessToken
	measure(b, r.nodes[0].server.userinfo, "GET", "/oauth/userinfo", func() string { return "" }, with("Authorization", "Bearer "+tok))
}

func BenchmarkDiscovery(b *testing.B) {
	r := onSQLite(b)
	measure(b, r.nodes[0].server.metadata, "GET", "/.well-known/openid-configuration", func() string { return "" })
}

func BenchmarkJWKS(b *testing.B) {
	r := onSQLite(b)
	measure(b, r.nodes[0].server.jwks, "GET", "/oauth/jwks", func() string { return "" })
}
